//! One-time codes on their way to phones: a bounded queue and worker threads, off the loop.

mod aliyun;
mod error;
mod http;
mod letter;
mod modem;
mod route;
mod sign;
mod spool;
mod tencent;
mod twilio;
mod webhook;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::adapters::client::ClientError;
use crate::adapters::inbox::Inbox;
use crate::clock::{self, Clock};
use crate::config::Config;
use crate::domain::effect::{Message, Refusal};
use crate::domain::event::{Event, Language};
use crate::domain::names::BootTime;

use error::SendError;
use letter::Letter;
use route::Route;

pub use route::Tally;

/// Messages that may wait at once.
const QUEUE: usize = 64;
/// A provider's slow answers should not hold up everybody.
const WORKERS: usize = 2;
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
    /// An https provider, and no certificates to know it by.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A thread could not be started.
    #[error("cannot start a sender thread: {0}")]
    Thread(std::io::Error),
}

/// What became of the messages since the start.
#[derive(Debug)]
pub struct Counters {
    /// A provider took them.
    pub taken: AtomicU32,
    /// No provider took them.
    pub failed: AtomicU32,
    /// The queue was full.
    pub refused: AtomicU32,
    route: Arc<Route>,
}

/// Where the loop hands its messages in.
#[derive(Debug)]
pub struct SmsHandle {
    queue: SyncSender<Job>,
    shared: Arc<Shared>,
    /// Closed when the last worker is gone.
    done: Receiver<()>,
}

#[derive(Debug)]
struct Job {
    message: Message,
    deadline: BootTime,
}

#[derive(Debug)]
struct Shared {
    counters: Arc<Counters>,
    stopping: AtomicBool,
    lifetime: Duration,
}

struct Worker<T> {
    jobs: Arc<Mutex<Receiver<Job>>>,
    shared: Arc<Shared>,
    inbox: Inbox,
    store: String,
    text: Arc<T>,
    _done: SyncSender<()>,
}

/// Starts the senders that `[[sms]]` names; `None` without one. `text(language, store, code, minutes)`
/// words a message.
pub fn start<T>(config: &Config, inbox: &Inbox, text: T) -> Result<Option<SmsHandle>, SmsError>
where
    T: Fn(Language, &str, &str, u64) -> String + Send + Sync + 'static,
{
    if config.sms.is_empty() {
        return Ok(None);
    }
    let route = Arc::new(Route::new(&config.sms, Clock::new(config.store.clock))?);
    let workers = if route.is_single_file() { 1 } else { WORKERS };
    let (queue, jobs) = sync_channel(QUEUE);
    let (done_sender, done) = sync_channel(0);
    let shared = Arc::new(Shared {
        counters: Arc::new(Counters::new(route)),
        stopping: AtomicBool::new(false),
        lifetime: config.code.lifetime.0,
    });
    let (jobs, text) = (Arc::new(Mutex::new(jobs)), Arc::new(text));
    for _ in 0..workers {
        let worker = Worker {
            jobs: Arc::clone(&jobs),
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
                Some(outcome(&job.message, Err(Refusal::NotSent)))
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
            let counters = &self.shared.counters;
            let counter = if sent.is_ok() { &counters.taken } else { &counters.failed };
            counter.fetch_add(1, Ordering::Relaxed);
            let sent = sent.map_err(|error| {
                tracing::warn!(message = job.message.message, %error, "a code was not sent");
                error.refusal()
            });
            self.inbox.tell(outcome(&job.message, sent));
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
            minutes: minutes.to_string(),
        };
        self.shared.counters.route.send(&letter, job.deadline, &self.shared.stopping)
    }
}

impl Counters {
    fn new(route: Arc<Route>) -> Self {
        let none = || AtomicU32::new(0);
        Self { taken: none(), failed: none(), refused: none(), route }
    }

    /// Each provider's share, in their order.
    pub fn tallies(&self) -> Vec<Tally> {
        self.route.tallies()
    }
}

fn outcome(message: &Message, sent: Result<(), Refusal>) -> Event {
    Event::Sms { mac: message.mac, message: message.message, sent }
}

#[cfg(test)]
mod peer;
#[cfg(test)]
mod provider_tests;
#[cfg(test)]
mod tests;
