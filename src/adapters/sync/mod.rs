//! To HQ: numbered batches of compressed NDJSON, acknowledged by a watermark.
//!
//! A batch is one POST. Its headers say which store and stream it is of and which rows it holds
//! (`Maitred-Store`, `Maitred-Stream`, `Maitred-First`, `Maitred-Last`); until HQ acknowledges it
//! the same batch is sent again, byte for byte. HQ answers 200 and `{"watermark": n}`: it has
//! every row of the stream up to n.
//!
//! Where HQ makes the guest keys (`store.key = "hq"`) rows name guests by pseudonyms, and those of
//! types `consent` and `erased` have the identity `sealed`: `phone:+` and the digits, or `openid:` and
//! the id. HQ opens it and adds to its answer, or to any later one, who they are:
//!
//! ```json
//! {"watermark": 7, "guests": {"<pseudonym>": "<guest key>", "<guest key>": null}}
//! ```
//!
//! A guest key is any 16 bytes, as 32 hexadecimal digits, that are the same for the same identity;
//! `null` has the store forget a guest. Rows that are sent later may still name a pseudonym.

pub mod bundle;
mod names;
pub mod schedule;
pub mod vouchers;
mod worker;

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use flate2::{Compression, GzBuilder};
use serde::{Deserialize, Serialize};
use ureq::Agent;

use super::client::{self, ClientError};
use super::inbox::{Busy, Inbox};
use super::store::{Batch, Store, StoreError};
use crate::config::{Hq, Secret};
use crate::domain::names::GuestKey;

pub use worker::{Nightly, Schedule};

/// HQ's answer is a number; what is longer is none, unless it names guests.
const LONGEST_ANSWER: u64 = 4096;
/// A row's share of an answer that does.
const LONGEST_NAME: u64 = 100;

/// How to reach HQ.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The store's id at HQ.
    pub store_id: String,
    /// Where batches go.
    pub url: String,
    /// Bearer token.
    pub token: Option<Secret>,
    /// Rows in a batch.
    pub batch: u32,
    /// Certificates that HQ's may be signed by; the system's if `None`.
    pub ca_file: Option<PathBuf>,
    /// For one exchange.
    pub timeout: Duration,
    /// Tries of one batch in a run.
    pub tries: u32,
    /// Before the second try; doubles for each further one.
    pub first_wait: Duration,
    /// Who hears what HQ says of guests; nobody, if the store makes their keys itself.
    pub guests: Option<Inbox>,
}

/// What a run achieved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Batches that HQ acknowledged.
    pub batches: u32,
    /// Rows in them that HQ acknowledged.
    pub rows: u64,
    /// HQ's last watermark, if it gave one in this run.
    pub watermark: Option<i64>,
    /// The version of the bundle that is held, if the store gets bundles.
    pub bundle: Option<u64>,
}

/// Why a run ended before everything was sent. Nothing that was not acknowledged is lost.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// No connection, or one that broke or took too long.
    #[error("HQ cannot be reached: {0}")]
    Unreachable(Box<ureq::Error>),
    /// HQ has trouble of its own.
    #[error("HQ is not able to take the record now: status {0}")]
    Unable(u16),
    /// HQ does not take the batch.
    #[error("HQ refuses the record: status {0}")]
    Refused(u16),
    /// HQ's answer is no watermark of ours.
    #[error("HQ's answer is not a watermark from {first} to {last}")]
    Watermark {
        /// First row sent.
        first: i64,
        /// Last row sent.
        last: i64,
    },
    /// The record is sent, and there is no new bundle.
    #[error(transparent)]
    Bundle(#[from] bundle::BundleError),
    /// The outbox cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no client.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The gateway did not hear whom HQ named.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// The run was told to stop, or another one is already asked for.
    #[error("the run was not carried out")]
    Stopped,
}

/// HQ's answer to a batch.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct Acknowledgement {
    /// The last row that HQ has; one of the batch.
    pub watermark: i64,
    /// Who is behind a pseudonym, or whom to forget.
    #[serde(default)]
    pub guests: BTreeMap<GuestKey, Option<GuestKey>>,
}

impl Settings {
    /// As configured, with a time-out of 30 s and five tries within about half a minute.
    pub fn new(hq: &Hq, store_id: &str, guests: Option<Inbox>) -> Self {
        Self {
            store_id: store_id.to_owned(),
            url: hq.url.clone(),
            token: hq.token.clone(),
            batch: hq.batch,
            ca_file: hq.ca_file.clone(),
            timeout: Duration::from_secs(30),
            tries: 5,
            first_wait: Duration::from_secs(2),
            guests,
        }
    }
}

/// Sends batches until the outbox is empty. Blocks for as long as that takes; `wait` sleeps, and
/// says false if the run is to stop.
pub fn run(
    store: &Store,
    settings: &Settings,
    wait: &mut dyn FnMut(Duration) -> bool,
) -> Result<Summary, SyncError> {
    let agent = client::agent(&settings.url, settings.ca_file.as_deref(), settings.timeout)?;
    let mut summary = Summary::default();
    while let Some(batch) = store.next_batch(settings.batch)? {
        let Acknowledgement { watermark, guests } = deliver(&agent, settings, &batch, wait)?;
        if let Some(inbox) = &settings.guests {
            // Until they are on disk the batch counts as not sent.
            names::learn(guests, inbox, store)?;
        }
        store.acknowledge(watermark)?;
        summary.batches += 1;
        summary.rows += batch.seqs.iter().filter(|seq| **seq <= watermark).count() as u64;
        summary.watermark = Some(watermark);
    }
    Ok(summary)
}

/// Reads HQ's answer to a batch of these rows.
pub fn acknowledgement(answer: &[u8], sent: RangeInclusive<i64>) -> Option<Acknowledgement> {
    let answer: Acknowledgement = serde_json::from_slice(answer).ok()?;
    sent.contains(&answer.watermark).then_some(answer)
}

/// Tries a batch until HQ has taken it or the tries are used up.
fn deliver(
    agent: &Agent,
    settings: &Settings,
    batch: &Batch,
    wait: &mut dyn FnMut(Duration) -> bool,
) -> Result<Acknowledgement, SyncError> {
    let body = compress(&batch.ndjson);
    let mut pause = settings.first_wait;
    let mut tries = 1;
    loop {
        let error = match post(agent, settings, batch, &body) {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let (first, last) = (batch.first, batch.last);
        tracing::warn!(%error, tries, first, last, "a batch did not get to HQ");
        let may_pass = matches!(error, SyncError::Unreachable(_) | SyncError::Unable(_));
        if !may_pass || tries >= settings.tries {
            return Err(error);
        }
        // Between half and all of the pause, so that stores cut off together come back apart.
        if !wait(pause.mul_f64(rand::random_range(0.5..=1.0))) {
            return Err(SyncError::Stopped);
        }
        pause *= 2;
        tries += 1;
    }
}

fn post(
    agent: &Agent,
    settings: &Settings,
    batch: &Batch,
    body: &[u8],
) -> Result<Acknowledgement, SyncError> {
    let mut request = agent
        .post(&settings.url)
        .header("content-type", "application/x-ndjson")
        .header("content-encoding", "gzip")
        .header("maitred-store", &settings.store_id)
        .header("maitred-stream", &batch.stream)
        .header("maitred-first", batch.first.to_string())
        .header("maitred-last", batch.last.to_string());
    if let Some(token) = &settings.token {
        request = request.header("authorization", format!("Bearer {}", token.reveal()));
    }
    let mut answer = request.send(body).map_err(unreachable)?;
    match answer.status().as_u16() {
        200 => {}
        status @ (408 | 429 | 500..=599) => return Err(SyncError::Unable(status)),
        status => return Err(SyncError::Refused(status)),
    }
    let wrong = SyncError::Watermark { first: batch.first, last: batch.last };
    let names = if settings.guests.is_some() { batch.seqs.len() as u64 * LONGEST_NAME } else { 0 };
    let longest = LONGEST_ANSWER + names;
    let text = match answer.body_mut().with_config().limit(longest).read_to_vec() {
        Ok(text) => text,
        Err(ureq::Error::BodyExceedsLimit(_)) => return Err(wrong),
        Err(error) => return Err(unreachable(error)),
    };
    acknowledgement(&text, batch.first..=batch.last).ok_or(wrong)
}

fn unreachable(error: ureq::Error) -> SyncError {
    SyncError::Unreachable(Box::new(error))
}

/// The same bytes for the same rows: no time and no name in the header.
fn compress(ndjson: &[u8]) -> Vec<u8> {
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::new(6));
    // Writing to memory cannot fail.
    let _ = encoder.write_all(ndjson);
    encoder.finish().unwrap_or_default()
}

#[cfg(test)]
mod tests;
