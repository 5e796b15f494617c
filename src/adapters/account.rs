//! The backend of the store's account (`maitred hq`), asked off the loop: for QR codes, while it
//! answers, and for guests who are to be forgotten.

mod worker;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::client::ClientError;
use super::inbox::Inbox;
use super::store::{Store, StoreError};
use crate::clock;
use crate::config::{Follow, Secret};
use crate::domain::auth::follow::Card;
use crate::domain::names::BootTime;

/// Orders that may wait for the thread.
const ORDERS: usize = 16;
/// A browser waits so long for a QR code.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);
/// A code that is good for less than this is no help.
const SPARE: Duration = Duration::from_mins(3);
/// After a failure the backend is left alone for this long.
const REST: Duration = Duration::from_secs(20);
/// QR codes kept, and asked for in an hour: random addresses are free, WeChat's codes are not.
const TICKETS: usize = 500;
const HOUR: Duration = Duration::from_hours(1);

/// How to reach the backend.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The store's id there.
    pub store_id: String,
    /// Its address, without a path.
    pub url: String,
    /// Bearer token.
    pub token: Secret,
    /// Certificates that its own may be signed by; the system's if `None`.
    pub ca_file: Option<PathBuf>,
}

/// Why the backend did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// No connection, or one that broke or took too long.
    #[error("the account's backend cannot be reached: {0}")]
    Unreachable(Box<ureq::Error>),
    /// It says no.
    #[error("the account's backend refuses: status {0}")]
    Refused(u16),
    /// It says something else.
    #[error("the answer of the account's backend cannot be read")]
    Malformed,
    /// A guest could not be forgotten.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no client.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The gateway is too busy, or stops.
    #[error("the gateway is too busy")]
    Busy,
}

/// A handle to the thread that asks; cheap to clone. The thread ends with the last.
#[derive(Clone, Debug)]
pub struct Account {
    orders: SyncSender<Order>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
enum Order {
    Ticket(Card, oneshot::Sender<Option<String>>),
    Forget(oneshot::Sender<Result<u32, AccountError>>),
}

#[derive(Debug)]
struct State {
    /// The texts of QR codes, and until when they are good.
    tickets: HashMap<Card, (String, BootTime)>,
    /// Asked for in the hour that began then.
    asked: (usize, BootTime),
    /// Do not ask before.
    rest: BootTime,
}

impl Settings {
    /// As configured; `None` if the store has no such backend.
    pub fn from_config(follow: &Follow, store_id: &str) -> Option<Self> {
        Some(Self {
            store_id: store_id.to_owned(),
            url: follow.url.clone()?.trim_end_matches('/').to_owned(),
            token: follow.token.clone()?,
            ca_file: follow.ca_file.clone(),
        })
    }
}

impl Account {
    /// Starts the thread, which forgets guests by itself once an hour.
    pub fn start(settings: Settings, store: Store, inbox: Inbox) -> std::io::Result<Self> {
        let (orders, receiver) = sync_channel(ORDERS);
        let now = clock::boot();
        let state = State { tickets: HashMap::new(), asked: (0, now), rest: now };
        let state = Arc::new(Mutex::new(state));
        let worker = worker::Worker::new(settings, store, inbox, Arc::clone(&state));
        std::thread::Builder::new()
            .name("account".into())
            .stack_size(512 << 10)
            .spawn(move || worker.work(&receiver))?;
        Ok(Self { orders, state })
    }

    /// The text of a QR code for a card; waits 4 s at most. `None` if there is none to be had now.
    pub async fn ticket(&self, card: Card) -> Option<String> {
        let now = clock::boot();
        {
            let mut state = lock(&self.state);
            if let Some(known) = state.ticket(card, now) {
                return Some(known);
            }
            if !state.may_ask(now) {
                return None;
            }
        }
        let (reply, answer) = oneshot::channel();
        self.orders.try_send(Order::Ticket(card, reply)).ok()?;
        tokio::time::timeout(ANSWER_WITHIN, answer).await.ok()?.ok()?
    }

    /// Whether a QR code may be had without much waiting, as far as is known.
    pub fn has_tickets(&self) -> bool {
        clock::boot() >= lock(&self.state).rest
    }

    /// Forgets the guests who follow no more; says how many.
    pub async fn forget(&self) -> Result<u32, AccountError> {
        let (reply, answer) = oneshot::channel();
        self.orders.try_send(Order::Forget(reply)).map_err(|_| AccountError::Busy)?;
        answer.await.unwrap_or(Err(AccountError::Busy))
    }
}

impl State {
    fn ticket(&self, card: Card, now: BootTime) -> Option<String> {
        let (text, until) = self.tickets.get(&card)?;
        (now + SPARE < *until).then(|| text.clone())
    }

    fn keep(&mut self, card: Card, text: String, until: BootTime, now: BootTime) {
        if self.tickets.len() >= TICKETS {
            self.tickets.retain(|_, (_, until)| now + SPARE < *until);
        }
        if self.tickets.len() < TICKETS {
            self.tickets.insert(card, (text, until));
        }
    }

    /// Counts a question, if it may be asked.
    fn may_ask(&mut self, now: BootTime) -> bool {
        let (count, since) = self.asked;
        if now - since >= HOUR {
            self.asked = (0, now);
        }
        let may = now >= self.rest && (count < TICKETS || now - since >= HOUR);
        self.asked.0 += usize::from(may);
        may
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
