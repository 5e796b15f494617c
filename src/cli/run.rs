//! `maitred run`: be the gateway.
//!
//! The order is the point: privileges go before the first thread starts, the table stands before
//! a port is opened, and every port is bound before the first guest is answered. A table that still
//! has its sessions need not wait for the record: strangers are redirected while it is read. Whatever
//! keeps the daemon from starting, those who were online are let in again before it ends.

use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tracing::{info, warn};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::doors::{Doors, House};
use super::rules::{self, Rules};
use super::wall;
use crate::adapters::control::{Lock, LockError};
use crate::adapters::firewall::FirewallError;
use crate::adapters::inbox::Inbox;
use crate::adapters::store::{self, Store};
use crate::adapters::{firewall, keys, privileges, sysctl};
use crate::clock::{self, Clock};
use crate::config::{self, Config, KeyMaker, OnStop, Sms};
use crate::domain::Domain;
use crate::domain::effect::Effect;
use crate::domain::saved::{Live, Snapshot};
use crate::gateway::{Gateway, Hands};

/// Connections in flight are answered within this; the pages' own limit is shorter.
const DRAIN_WITHIN: Duration = Duration::from_secs(3);
/// What is past its term waits for so long after the start, which is when most is to be done.
const TERMS_AFTER: Duration = Duration::from_secs(10);
/// Threads for what blocks: database reads, password checks.
const BLOCKING_THREADS: usize = 4;
const STACK: usize = 512 << 10;

pub(super) fn run(path: &Path, config: &Config) -> anyhow::Result<()> {
    say_to_stderr();
    sysctl::prepare(config.zone.iter().map(|zone| zone.max_clients).sum());
    privileges::give_up(config.store.user.as_deref(), &folders(config))
        .inspect_err(|_problem| wall::stand_by_config(config))?;
    let lock = Lock::take(&config.store.run_dir).inspect_err(|problem| {
        if !matches!(problem, LockError::Held { .. }) {
            wall::stand_by_config(config);
        }
    })?;
    raise_descriptors();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_stack_size(STACK)
        .build()
        .context("starting the runtime")?;
    let outcome = runtime.block_on(serve(path, config, &lock));
    // What still blocks a thread, as a check of a dead line does, holds up nobody's restart.
    runtime.shutdown_background();
    outcome
}

/// What `store.user` must be able to write to. dnsmasq, another user, reads its own.
fn folders(config: &Config) -> Vec<privileges::Folder<'_>> {
    let spools = config.sms.iter().filter_map(|sms| match sms {
        Sms::Spool { dir } => Some(dir),
        _ => None,
    });
    let own = [&config.store.state_dir, &config.store.run_dir].into_iter().chain(spools);
    let announced = config.portal.dnsmasq_dir.as_deref().map(|dir| (dir, 0o755));
    own.map(|dir| (dir.as_path(), 0o700)).chain(announced).collect()
}

async fn serve(path: &Path, config: &Config, lock: &Lock) -> anyhow::Result<()> {
    let clock = Clock::new(config.store.clock);
    // From here on a SIGHUP is a question, not the end.
    let hangups = on(SignalKind::hangup())?;
    let (inbox, outlet) = Inbox::new();
    let (table, live) = open_table(config, &inbox).await.context("opening the firewall")??;
    let (closing, closed) = watch::channel(false);
    // A new table has yet to be told who is online.
    let (opening, open) = watch::channel(live.is_some());
    let mut doors = Doors::open(config, &inbox, &table, &closed, open);
    if live.is_some() {
        // It knows who is online: a start that is refused again and again writes nothing to the flash.
        doors = Ok(doors?);
    }
    let Read { keys, made, state, domain, record } = read(config, clock, &inbox)?;
    let (store, domain, first) = restore(domain, record, live, clock, made).await?;
    let hands = doors.as_mut().map(Doors::hands).unwrap_or_default();
    let hands = Hands { firewall: table, store: store.clone(), sms: hands.0, neighbours: hands.1 };
    let gateway = Gateway::new(domain, clock, outlet, hands, first);
    opening.send_replace(true);

    let (stop, stopped) = watch::channel(false);
    let rules = Arc::new(Rules::new(path.to_owned(), inbox.clone(), state));
    let house = House { config, lock, clock, store: &store, rules: &rules, closed: &closed };
    let served = doors.and_then(|doors| house.serve(doors, inbox, keys.secrets()));
    let pages = match served {
        Ok(pages) => pages,
        Err(problem) => {
            // Those who were online stay so, and nobody else comes in.
            let _ = stop.send(true);
            gateway.run(stopped, OnStop::Keep).await;
            return Err(problem);
        }
    };
    tokio::spawn(reload_on(hangups, rules));
    let ending = tokio::spawn(wait_for_the_end(pages, closing, stop));
    store.keep_terms(TERMS_AFTER);
    info!(version = env!("CARGO_PKG_VERSION"), store = config.store.id, "open");
    gateway.run(stopped, config.firewall.on_stop).await;
    ending.await.context("stopping")?
}

/// What the start reads from the disk.
struct Read {
    keys: keys::Keys,
    /// The guests' key is a new one.
    made: bool,
    state: rules::State,
    domain: Domain,
    record: Record,
}

fn read(config: &Config, clock: Clock, inbox: &Inbox) -> anyhow::Result<Read> {
    let (keys, made) = open_keys(&config.store)?;
    let state = rules::State::load(config)?;
    let domain = Domain::new(state.policy(), keys.secrets(), keys::random()?);
    let record = read_record(config, keys.device, clock, inbox);
    Ok(Read { keys, made, state, domain, record })
}

/// The keys, and whether the guests' is a new one.
fn open_keys(store: &config::Store) -> anyhow::Result<(keys::Keys, bool)> {
    match store.key {
        KeyMaker::Router => Ok(keys::load_or_make(&store.state_dir)?),
        KeyMaker::Hq => {
            let (keys, deleted) =
                keys::load_or_make_without_guests(&store.state_dir, &store.run_dir)?;
            if deleted {
                warn!("HQ makes the guest keys: ours is deleted, but flash may hold traces of it");
            }
            Ok((keys, false))
        }
    }
}

type Table = (firewall::Handle, Option<Vec<Live>>);
type Record = JoinHandle<anyhow::Result<(Store, Snapshot)>>;

/// Begins to read the record, which takes a while with thousands of guests online.
fn read_record(config: &Config, device_secret: [u8; 32], clock: Clock, inbox: &Inbox) -> Record {
    let (config, inbox) = (config.clone(), inbox.clone());
    tokio::task::spawn_blocking(move || {
        let zones: Vec<String> = config.zone.iter().map(|zone| zone.name.clone()).collect();
        let settings = store::Settings {
            path: &config.store.state_dir.join("maitred.db"),
            boot_id: &clock::boot_id().context("reading this boot's id")?,
            zones: &zones,
            device_secret,
            commit_every: config.store.commit_every.0,
            retention: config.retention,
        };
        Ok(Store::open(&settings, clock.now(), &inbox)?)
    })
}

/// Begins to open the table; with the sessions that it holds if it was adopted.
fn open_table(config: &Config, inbox: &Inbox) -> JoinHandle<Result<Table, FirewallError>> {
    let (plan, outcomes) = (firewall::Plan::from_config(config), inbox.clone());
    tokio::task::spawn_blocking(move || {
        let (table, found) = firewall::open(plan, outcomes)?;
        Ok((table, found.sessions()))
    })
}

/// The state of the last run, and what it asks to be done; strangers are redirected meanwhile.
async fn restore(
    mut domain: Domain,
    record: Record,
    live: Option<Vec<Live>>,
    clock: Clock,
    new_keys: bool,
) -> anyhow::Result<(Store, Domain, Vec<Effect>)> {
    let (store, snapshot) = record.await.context("reading the record")??;
    if new_keys && !snapshot.guests.is_empty() {
        warn!("the keys are new and the database is not: every guest counts as new");
    }
    let restored = tokio::task::spawn_blocking(move || {
        let first = domain.restore(snapshot, live, clock.now());
        (domain, first)
    });
    let (domain, first) = restored.await.context("restoring the sessions")?;
    Ok((store, domain, first))
}

/// Waits for a signal, or for a page that ends unasked; lets what is in flight be answered; then
/// lets the gateway stop.
async fn wait_for_the_end(
    mut pages: JoinSet<()>,
    closing: watch::Sender<bool>,
    stop: watch::Sender<bool>,
) -> anyhow::Result<()> {
    let (mut term, mut interrupt) = (on(SignalKind::terminate())?, on(SignalKind::interrupt())?);
    let failed = tokio::select! {
        _ = term.recv() => false,
        _ = interrupt.recv() => false,
        _ = pages.join_next() => true,
    };
    info!("stopping");
    let _ = closing.send(true);
    let drained = async { while pages.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_WITHIN, drained).await.is_err() {
        warn!("some connections were cut");
    }
    let _ = stop.send(true);
    anyhow::ensure!(!failed, "a server ended by itself");
    Ok(())
}

async fn reload_on(mut hangups: Signal, rules: Arc<Rules>) {
    while hangups.recv().await.is_some() {
        // The outcome is in the log.
        let _ = rules.reload().await;
    }
}

fn on(kind: SignalKind) -> anyhow::Result<Signal> {
    signal(kind).context("listening for signals")
}

/// Logs to standard error, where procd and systemd expect them; `RUST_LOG` sets the level, as
/// `info` or `info,maitred::adapters=debug`.
pub(super) fn say_to_stderr() {
    let wanted = std::env::var("RUST_LOG").ok().and_then(|levels| levels.parse::<Targets>().ok());
    let levels = wanted.unwrap_or_else(|| Targets::new().with_default(tracing::Level::INFO));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    let registry = tracing_subscriber::registry().with(levels);
    // A service manager stamps each line itself.
    let set = if std::io::stderr().is_terminal() {
        registry.with(lines).try_init()
    } else {
        registry.with(lines.without_time()).try_init()
    };
    if set.is_err() {
        eprintln!("maitred: somebody else logs already");
    }
}

/// A mall's guests need more descriptors than the usual 1024.
fn raise_descriptors() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        warn!(%error, "the limit of open files stays as it is");
    }
}
