//! `maitred bundle`: what the head office sends to its stores. A bundle is written by hand, in JSON
//! (`src/adapters/sync/bundle.rs` has its form), but for its vouchers and its signature.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use jiff::tz::TimeZone;
use ring::signature::KeyPair as _;
use serde_json::{Map, Value, json};

use super::token;
use super::voucher::New;
use crate::adapters::sync::bundle;
use crate::adapters::sync::vouchers::{BATCHES, Bundled};
use crate::domain::auth::voucher::{HQ, Which, make_for_stores, name};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Make a batch of vouchers, and print its codes: nobody keeps them. Sign the bundle then.
    Voucher(Box<Voucher>),
    /// Take a batch, such as hq3, out of a bundle: stores revoke it for good.
    Revoke {
        /// The bundle's JSON.
        file: PathBuf,
        /// Which.
        batch: Which,
    },
    /// Sign a bundle, if the stores can use it.
    Sign {
        /// The bundle's JSON.
        file: PathBuf,
        /// The file of the key that signs; the public half is for the stores.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// Where the signed bundle goes, whole or not at all.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Voucher {
    /// The bundle's JSON; one for all stores is begun if there is none. Days end in this machine's
    /// time zone.
    file: PathBuf,
    #[command(flatten)]
    new: New,
}

pub(super) fn bundle(verb: Verb) -> anyhow::Result<()> {
    match verb {
        Verb::Voucher(wanted) => make(&wanted.file, &wanted.new),
        Verb::Revoke { file, batch } => revoke(&file, batch),
        Verb::Sign { file, key, out } => sign(&file, &key, &out),
    }
}

fn make(path: &Path, new: &New) -> anyhow::Result<()> {
    let mut bundle = Draft::load(path)?;
    let mut batches = bundle.batches()?;
    anyhow::ensure!(batches.len() < BATCHES, "{BATCHES} batches at most: revoke one first");
    let last = bundle.number("last_batch").max(batches.iter().map(|b| b.batch.into()).max());
    let batch = u32::try_from(last.unwrap_or(0) + 1)?;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    let (codes, salt, hashes) = make_for_stores(new.count, seed);
    let blank = Bundled {
        batch,
        zone: new.zone.clone(),
        uses: new.uses,
        seconds: new.minutes * 60,
        limits: new.overrides(),
        expires: new.end(TimeZone::system())?,
        salt: String::new(),
        hashes: String::new(),
    };
    batches.push(blank.with(salt, &hashes));
    // Numbers are used once: a store knows a batch by its number for ever.
    bundle.0.insert("last_batch".into(), batch.into());
    let store = bundle.0.get("brand").and_then(|brand| brand.get("name")).and_then(Value::as_str);
    let (store, portal) = (store.unwrap_or("Wi-Fi").to_owned(), new.portal.as_deref());
    let sheet = new.open_sheet(portal)?;
    bundle.keep(path, &batches).inspect_err(|_| new.drop_sheet())?;
    let codes: Vec<String> = codes.into_iter().map(|code| code.0).collect();
    new.hand_out((&name(batch | HQ), &codes), (&store, portal), sheet)
}

fn revoke(path: &Path, Which { batch, number }: Which) -> anyhow::Result<()> {
    anyhow::ensure!(batch >= HQ && number.is_none(), "a whole batch of HQ's, such as hq3");
    let mut bundle = Draft::load(path)?;
    let mut batches = bundle.batches()?;
    let before = batches.len();
    batches.retain(|known| known.batch != batch & !HQ);
    anyhow::ensure!(batches.len() < before, "there is no such batch");
    bundle.keep(path, &batches)
}

fn sign(path: &Path, key: &Path, out: &Path) -> anyhow::Result<()> {
    let json = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let key = token::read_key(key)?;
    let signed = bundle::sign(&json, &key);
    let store = Draft::load(path)?.0.remove("store").unwrap_or_default();
    // As a store reads it.
    let public = key.public_key().as_ref().try_into()?;
    bundle::read(&signed, &public, store.as_str().unwrap_or_default())?;
    anyhow::ensure!(signed.len() as u64 <= bundle::LONGEST, "it has too many bytes");
    write(out, &signed)
}

/// A bundle's JSON as HQ works on it.
struct Draft(Map<String, Value>);

impl Draft {
    fn load(path: &Path) -> anyhow::Result<Self> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                json!({ "version": 0, "store": "*" }).to_string()
            }
            read => read.with_context(|| path.display().to_string())?,
        };
        Ok(Self(serde_json::from_str(&text).with_context(|| path.display().to_string())?))
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.0.get(name).and_then(Value::as_u64)
    }

    fn batches(&self) -> anyhow::Result<Vec<Bundled>> {
        let batches = self.0.get("vouchers").cloned().unwrap_or_else(|| json!([]));
        serde_json::from_value(batches).context("its vouchers")
    }

    /// Writes it with these batches, as a new version.
    fn keep(&mut self, path: &Path, batches: &[Bundled]) -> anyhow::Result<()> {
        let version = self.number("version").context("it has no version")? + 1;
        self.0.insert("version".into(), version.into());
        self.0.insert("vouchers".into(), serde_json::to_value(batches)?);
        write(path, serde_json::to_string_pretty(&self.0)?.as_bytes())
    }
}

/// Written beside, then renamed: a web server may read it meanwhile.
fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let beside = path.with_added_extension("new");
    fs::write(&beside, bytes).with_context(|| beside.display().to_string())?;
    fs::rename(&beside, path).with_context(|| path.display().to_string())
}
