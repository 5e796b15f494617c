//! One-time codes on their way to phones: a bounded queue and worker threads, off the loop.

mod spool;
mod webhook;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::adapters::inbox::Inbox;
use crate::clock::{self, Clock};
use crate::config::{self, Config};
use crate::domain::effect::Message;
use crate::domain::event::{Event, Language};
use crate::domain::names::BootTime;

use spool::Spool;
use webhook::Webhook;

/// Messages that may wait at once.
const QUEUE: usize = 64;
/// A webhook's slow answers should not hold up everybody.
const WEBHOOK_WORKERS: usize = 2;
const STACK: usize = 512 * 1024;

/// Why no sender could be made.
#[derive(Debug, thiserror::Error)]
pub enum SmsError {
    /// The spool's folder could not be made or read.
    #[error("the spool {}: {source}", path.display())]
    Spool {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The template is not JSON.
    #[error("the webhook's body is not JSON: {0}")]
    Template(serde_json::Error),
    /// An https webhook, and no certificates to know it by.
    #[error("no certificates to check the webhook by: none of {0} can be read")]
    Roots(String),
    /// A thread could not be started.
    #[error("cannot start a sender thread: {0}")]
    Thread(std::io::Error),
}

/// Why a message did not go out.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("the spool could not be written: {0}")]
    Spool(#[from] std::io::Error),
    #[error("the webhook answered {0}")]
    Status(u16),
    #[error("the webhook: {0}")]
    Http(#[from] Box<ureq::Error>),
    #[error("its time was over before it was sent")]
    Late,
}

/// What became of the messages since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// A provider took them.
    pub taken: AtomicU32,
    /// No provider took them.
    pub failed: AtomicU32,
    /// The queue was full.
    pub refused: AtomicU32,
}

/// Where the loop hands its messages in.
#[derive(Debug)]
pub struct SmsHandle {
    queue: SyncSender<Job>,
    shared: Arc<Shared>,
    /// Closed when the last worker is gone.
    done: Receiver<()>,
}

/// What a sender puts into a message.
struct Letter {
    /// `+` and digits (ITU-T E.164).
    to: String,
    code: String,
    text: String,
    store: String,
}

enum Sender {
    Spool(Spool),
    Webhook(Box<Webhook>),
}

#[derive(Debug)]
struct Job {
    message: Message,
    deadline: BootTime,
}

#[derive(Debug, Default)]
struct Shared {
    counters: Arc<Counters>,
    stopping: AtomicBool,
    lifetime: Duration,
}

struct Worker<T> {
    jobs: Arc<Mutex<Receiver<Job>>>,
    sender: Arc<Sender>,
    shared: Arc<Shared>,
    inbox: Inbox,
    store: String,
    text: Arc<T>,
    _done: SyncSender<()>,
}

/// Starts the sender that `[sms]` names; `None` without one. `text(language, store, code, minutes)`
/// words a message.
pub fn start<T>(config: &Config, inbox: &Inbox, text: T) -> Result<Option<SmsHandle>, SmsError>
where
    T: Fn(Language, &str, &str, u64) -> String + Send + Sync + 'static,
{
    let Some(sms) = &config.sms else { return Ok(None) };
    let sender = Sender::new(sms, Clock::new(config.store.clock))?;
    let workers = if matches!(sender, Sender::Spool(_)) { 1 } else { WEBHOOK_WORKERS };
    let (queue, jobs) = sync_channel(QUEUE);
    let (done_sender, done) = sync_channel(0);
    let shared = Arc::new(Shared { lifetime: config.code.lifetime.0, ..Shared::default() });
    let (jobs, sender, text) = (Arc::new(Mutex::new(jobs)), Arc::new(sender), Arc::new(text));
    for _ in 0..workers {
        let worker = Worker {
            jobs: Arc::clone(&jobs),
            sender: Arc::clone(&sender),
            shared: Arc::clone(&shared),
            inbox: inbox.clone(),
            store: config.store.name.clone(),
            text: Arc::clone(&text),
            _done: done_sender.clone(),
        };
        thread::Builder::new()
            .name("sms".into())
            .stack_size(STACK)
            .spawn(move || worker.run())
            .map_err(SmsError::Thread)?;
    }
    Ok(Some(SmsHandle { queue, shared, done }))
}

impl SmsHandle {
    /// Hands a message in, without waiting. Its outcome comes to the inbox as [`Event::Sms`], or,
    /// if the queue is full, is returned at once for the domain.
    #[must_use]
    pub fn send(&self, message: Message) -> Option<Event> {
        // Half the code's lifetime is left for the guest to type it in.
        let deadline = clock::boot() + self.shared.lifetime / 2;
        match self.queue.try_send(Job { message, deadline }) {
            Ok(()) => None,
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => {
                self.shared.counters.refused.fetch_add(1, Ordering::Relaxed);
                Some(outcome(&job.message, false))
            }
        }
    }

    /// What became of the messages since the start.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.shared.counters)
    }

    /// Sends what is queued, retrying nothing, and waits at most `within`; blocks. False if some of
    /// it was still under way by then; its outcomes are lost with the process.
    pub fn stop(self, within: Duration) -> bool {
        self.shared.stopping.store(true, Ordering::Relaxed);
        drop(self.queue);
        self.done.recv_timeout(within) == Err(RecvTimeoutError::Disconnected)
    }
}

impl<T: Fn(Language, &str, &str, u64) -> String> Worker<T> {
    fn run(self) {
        loop {
            // Waiting under the lock is fine: whoever holds it takes the next job.
            let job = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(job) = job else { return };
            let sent = self.send(&job);
            let (taken, counter) = match &sent {
                Ok(()) => (true, &self.shared.counters.taken),
                Err(_) => (false, &self.shared.counters.failed),
            };
            counter.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = sent {
                tracing::warn!(message = job.message.message, %error, "a code was not sent");
            }
            self.inbox.tell(outcome(&job.message, taken));
        }
    }

    fn send(&self, job: &Job) -> Result<(), SendError> {
        let minutes = self.shared.lifetime.as_secs().div_ceil(60);
        let code = job.message.code.0.clone();
        let letter = Letter {
            to: format!("+{}", job.message.phone.digits()),
            text: (self.text)(job.message.language, &self.store, &code, minutes),
            code,
            store: self.store.clone(),
        };
        match &*self.sender {
            Sender::Spool(spool) => Ok(spool.write(&letter)?),
            Sender::Webhook(webhook) => webhook.send(&letter, job.deadline, &self.shared.stopping),
        }
    }
}

impl Sender {
    fn new(sms: &config::Sms, clock: Clock) -> Result<Self, SmsError> {
        match sms {
            config::Sms::Spool { dir } => Spool::open(dir, clock)
                .map(Self::Spool)
                .map_err(|source| SmsError::Spool { path: dir.clone(), source }),
            config::Sms::Webhook { url, body, authorization, timeout, retries } => {
                let url = url.reveal().to_owned();
                let authorization = authorization.as_ref().map(|secret| secret.reveal().to_owned());
                Webhook::new(url, body.reveal(), authorization, timeout.0, *retries)
                    .map(|webhook| Self::Webhook(Box::new(webhook)))
            }
        }
    }
}

fn outcome(message: &Message, taken: bool) -> Event {
    Event::Sms { mac: message.mac, message: message.message, taken }
}

#[cfg(test)]
mod tests;
