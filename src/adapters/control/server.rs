//! The daemon's end of the control socket.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::stat::{Mode, fchmod};
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixSocket, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{Ask, Change, Lock, REQUEST_MAX, RecordAsk, Request, Response, VERSION, socket_path};
use crate::adapters::inbox::Inbox;
use crate::domain::auth::voucher::Worth;
use crate::domain::effect::{Answer, Report};
use crate::domain::event::{Command, Event};
use crate::domain::names::{Mac, ZoneId};
use crate::domain::policy::Overrides;

const CONNECTIONS: u32 = 8;
const READ_WITHIN: Duration = Duration::from_secs(5);
const DOMAIN_WITHIN: Duration = Duration::from_secs(5);
const WRITE_WITHIN: Duration = Duration::from_secs(10);
const DRAIN_WITHIN: Duration = Duration::from_secs(2);
/// `maitred grant` for longer than a year is a slip of the hand.
const GRANT_MAX_SECONDS: u64 = 366 * 24 * 60 * 60;

/// Answers a question that is not the domain's.
pub type Service = Box<dyn Fn() -> Pending + Send + Sync>;
/// An answer under way.
pub type Pending = Pin<Box<dyn Future<Output = Result<Value, String>> + Send>>;

/// Changes the rules, and says what came of it.
pub type Changer = Box<dyn Fn(Change) -> Pending + Send + Sync>;

/// Answers a question about the record.
pub type Recorder = Box<dyn Fn(RecordAsk) -> Pending + Send + Sync>;

/// Names and values.
pub type Notes = Box<dyn Fn() -> Vec<(&'static str, Value)> + Send + Sync>;

/// Makes a [`Service`] of an async closure.
pub fn service<F>(work: impl Fn() -> F + Send + Sync + 'static) -> Service
where
    F: Future<Output = Result<Value, String>> + Send + 'static,
{
    Box::new(move || Box::pin(work()))
}

/// What the socket needs besides the domain.
pub struct Services {
    /// The zones' names, in the configuration's order.
    pub zones: Vec<String>,
    /// What [`Ask::Status`] says besides the domain, by name.
    pub notes: Notes,
    /// Answers [`Ask::Stats`].
    pub stats: Service,
    /// Answers [`Ask::Sync`].
    pub sync: Service,
    /// Makes durable what the domain has said so far.
    pub flush: Service,
    /// Carries out [`Ask::Reload`] and [`Ask::List`].
    pub change: Changer,
    /// Answers [`Ask::Guest`] and [`Ask::AccessLog`].
    pub record: Recorder,
    /// What happened at the socket.
    pub counters: Arc<Counters>,
}

/// What happened at the socket since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests answered, refusals included.
    pub answered: AtomicU32,
    /// Requests that were not a request: too long, not JSON, unknown fields, another version.
    pub malformed: AtomicU32,
    /// Connections of other users.
    pub strangers: AtomicU32,
}

/// Makes the socket, mode 0600 from its first moment. Holding the lock proves that a socket found
/// here is a dead daemon's. Call within the runtime.
pub fn bind(lock: &Lock) -> io::Result<UnixListener> {
    let path = socket_path(lock.run_dir());
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = UnixSocket::new_stream()?;
    // Before bind, so that the file is born with this mode.
    fchmod(&socket, Mode::from_bits_truncate(0o600))?;
    socket.bind(&path)?;
    socket.listen(CONNECTIONS)
}

/// Answers until `shutdown`, then lets the answers under way finish and removes the socket.
pub async fn serve(
    listener: UnixListener,
    inbox: Inbox,
    services: Services,
    shutdown: impl Future<Output = ()>,
) {
    let services = Arc::new(services);
    let seats = Arc::new(Semaphore::new(CONNECTIONS as usize));
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let seat = tokio::select! {
            () = &mut shutdown => break,
            seat = Arc::clone(&seats).acquire_owned() => seat,
        };
        let stream = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "the control socket cannot accept");
                    // Out of file descriptors, most likely: do not spin.
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    continue;
                }
            },
        };
        let (inbox, services) = (inbox.clone(), Arc::clone(&services));
        tokio::spawn(async move {
            let _seat = seat;
            if let Err(error) = converse(stream, &inbox, &services).await {
                tracing::debug!(%error, "a control connection broke");
            }
        });
    }
    let _ = timeout(DRAIN_WITHIN, seats.acquire_many(CONNECTIONS)).await;
    if let Ok(address) = listener.local_addr()
        && let Some(path) = address.as_pathname()
    {
        let _ = std::fs::remove_file(path);
    }
}

async fn converse(mut stream: UnixStream, inbox: &Inbox, services: &Services) -> io::Result<()> {
    let peer = stream.peer_cred()?.uid();
    let response = if peer == 0 || peer == geteuid().as_raw() {
        let mut line = Vec::new();
        let mut reader = BufReader::new(&mut stream).take(REQUEST_MAX as u64);
        timeout(READ_WITHIN, reader.read_until(b'\n', &mut line)).await??;
        match read(&line) {
            Ok(ask) => answer(ask, inbox, services).await,
            Err(reason) => {
                services.counters.malformed.fetch_add(1, Ordering::Relaxed);
                Response::Error(reason)
            }
        }
    } else {
        services.counters.strangers.fetch_add(1, Ordering::Relaxed);
        Response::Error("only root and the daemon's own user may ask".into())
    };
    services.counters.answered.fetch_add(1, Ordering::Relaxed);
    let mut line = serde_json::to_vec(&response)?;
    line.push(b'\n');
    timeout(WRITE_WITHIN, stream.write_all(&line)).await??;
    stream.shutdown().await
}

/// What is read first: another version's request may well have unknown fields.
#[derive(Deserialize)]
struct Versioned {
    version: u8,
}

/// Reads a request's line, newline included; the error is for whoever sent it.
pub fn read(line: &[u8]) -> Result<Ask, String> {
    if line.last() != Some(&b'\n') {
        return Err(if line.len() == REQUEST_MAX {
            format!("a request has at most {REQUEST_MAX} bytes")
        } else {
            "a request is one line of JSON, with its newline".into()
        });
    }
    match serde_json::from_slice::<Versioned>(line) {
        Ok(Versioned { version }) if version != VERSION => {
            Err(format!("this daemon speaks version {VERSION}, not {version}"))
        }
        _ => serde_json::from_slice::<Request>(line)
            .map(|request| request.ask)
            .map_err(|error| format!("not a request: {error}")),
    }
}

async fn answer(ask: Ask, inbox: &Inbox, services: &Services) -> Response {
    let result = match ask {
        Ask::Stats {} => (services.stats)().await,
        Ask::Sync {} => (services.sync)().await,
        Ask::Status {} => {
            let status = domain(Command::Status, inbox).await;
            status.map(|status| with_notes(status, (services.notes)()))
        }
        Ask::Clients {} => domain(Command::Clients, inbox).await,
        Ask::Revoke { mac } => durably(Command::Revoke { mac }, inbox, services).await,
        Ask::Limit { mac, limits } => domain(Command::Limit { mac, limits }, inbox).await,
        Ask::Grant { mac, zone, seconds, limits } => {
            match grant(mac, zone.as_deref(), (seconds, limits), &services.zones) {
                Ok(command) => domain(command, inbox).await,
                Err(reason) => Err(reason),
            }
        }
        Ask::MakeVouchers { count, uses, seconds, limits, expires, zone } => {
            let length = Duration::from_secs(seconds.into());
            match zone_named(zone.as_deref(), &services.zones) {
                Ok(zone) => {
                    let worth = Worth { zone, uses, length, limits, expires };
                    durably(Command::MakeVouchers { count, worth }, inbox, services).await
                }
                Err(reason) => Err(reason),
            }
        }
        Ask::Vouchers {} => domain(Command::Vouchers, inbox).await,
        Ask::RevokeVouchers(which) => {
            durably(Command::RevokeVouchers(which), inbox, services).await
        }
        Ask::Guest { act, who } => (services.record)(RecordAsk::Guest { act, who }).await,
        Ask::AccessLog { from, to, after } => {
            (services.record)(RecordAsk::AccessLog { from, to, after }).await
        }
        Ask::Reload {} => (services.change)(Change::Reload).await,
        Ask::List { list, mac, remove } => (services.change)(Change::List(list, mac, remove)).await,
    };
    match result {
        Ok(value) => Response::Ok(value),
        Err(reason) => Response::Error(reason),
    }
}

fn grant(
    mac: Mac,
    zone: Option<&str>,
    (seconds, limits): (Option<u64>, Overrides),
    zones: &[String],
) -> Result<Command, String> {
    if !mac.is_station() {
        return Err(format!("{mac} is a group address, not a device's"));
    }
    if seconds.is_some_and(|seconds| !(1..=GRANT_MAX_SECONDS).contains(&seconds)) {
        return Err("a grant lasts from 1 second to 366 days".into());
    }
    let zone = zone_named(zone, zones)?;
    Ok(Command::Grant { mac, zone, length: seconds.map(Duration::from_secs), limits })
}

fn zone_named(name: Option<&str>, zones: &[String]) -> Result<Option<ZoneId>, String> {
    let find = |name: &str| {
        let place = zones.iter().position(|zone| zone == name);
        place
            .and_then(|place| u8::try_from(place).ok())
            .map(ZoneId)
            .ok_or_else(|| format!("no zone {name}; there is {}", zones.join(", ")))
    };
    name.map(find).transpose()
}

/// Answers once what the domain changed is on disk: a sheet is printed only once, and who is put
/// offline stays so.
async fn durably(command: Command, inbox: &Inbox, services: &Services) -> Result<Value, String> {
    let done = domain(command, inbox).await?;
    (services.flush)().await?;
    Ok(done)
}

async fn domain(command: Command, inbox: &Inbox) -> Result<Value, String> {
    let asked = inbox.ask(|request| Event::Control { request, command });
    let answer = timeout(DOMAIN_WITHIN, asked)
        .await
        .map_err(|_| "the gateway did not answer in time".to_owned())?
        .map_err(|busy| busy.to_string())?;
    match answer {
        Answer::Control(Report::Status(status)) => value(&status),
        Answer::Control(Report::Clients(clients)) => value(&clients),
        Answer::Control(Report::Made(batch, codes)) => {
            Ok(json!({ "batch": batch, "codes": codes }))
        }
        Answer::Control(Report::Vouchers(batches)) => value(&batches),
        Answer::Control(Report::Done) => Ok(json!("done")),
        Answer::Control(Report::Refused(reason)) => Err(reason),
        Answer::Portal(_) => Err("the gateway gave a guest's answer".into()),
    }
}

fn with_notes(mut status: Value, notes: Vec<(&'static str, Value)>) -> Value {
    if let Some(status) = status.as_object_mut() {
        status.extend(notes.into_iter().map(|(name, note)| (name.to_owned(), note)));
    }
    status
}

fn value(report: &impl Serialize) -> Result<Value, String> {
    serde_json::to_value(report).map_err(|error| error.to_string())
}
