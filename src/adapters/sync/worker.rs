//! The thread that runs nightly, or when it is told to.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use jiff::tz::TimeZone;
use tokio::sync::oneshot;

use super::bundle::Bundles;
use super::{Settings, Summary, SyncError, run, schedule};
use crate::adapters::store::Store;
use crate::clock::Clock;
use crate::config::TimeOfDay;
use crate::domain::names::WallTime;

/// The clock is looked at this often, as it may jump.
const LOOK: Duration = Duration::from_mins(1);

/// When the nightly run is.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// Time of day.
    pub at: TimeOfDay,
    /// Spread over this long, by store id.
    pub jitter: Duration,
    /// The store's time zone.
    pub tz: TimeZone,
}

/// A handle to the thread; it stops when the handle is dropped.
#[derive(Debug)]
pub struct Nightly {
    orders: SyncSender<Order>,
    stop: Arc<Stop>,
}

type Order = oneshot::Sender<Result<Summary, SyncError>>;

impl Nightly {
    /// Starts the thread. It runs every night, and soon after the start if the last night's run
    /// was missed; both only while the wall clock is trusted.
    pub fn start(
        store: Store,
        settings: Settings,
        bundles: Option<Bundles>,
        schedule: Schedule,
        clock: Clock,
    ) -> std::io::Result<Self> {
        let (orders, receiver) = sync_channel(1);
        let stop = Arc::<Stop>::default();
        let worker = Worker { store, settings, bundles, schedule, clock, stop: Arc::clone(&stop) };
        std::thread::Builder::new()
            .name("sync".into())
            .stack_size(512 << 10)
            .spawn(move || worker.work(&receiver))?;
        Ok(Self { orders, stop })
    }

    /// Runs now. [`SyncError::Stopped`] if one more run is waiting already.
    pub async fn now(&self) -> Result<Summary, SyncError> {
        let (reply, answer) = oneshot::channel();
        self.orders.try_send(reply).map_err(|_| SyncError::Stopped)?;
        answer.await.unwrap_or(Err(SyncError::Stopped))
    }
}

impl Drop for Nightly {
    /// Ends the pauses of a run; the thread itself is not waited for.
    fn drop(&mut self) {
        self.stop.set();
    }
}

struct Worker {
    store: Store,
    settings: Settings,
    bundles: Option<Bundles>,
    schedule: Schedule,
    clock: Clock,
    stop: Arc<Stop>,
}

impl Worker {
    fn work(self, orders: &Receiver<Order>) {
        // Somebody waits for the outcome, and can ask again.
        let once = Settings { tries: 1, ..self.settings.clone() };
        let mut due = None;
        let mut first = true;
        // A kill may have come between a new bundle and its vouchers.
        let _ = self.hand_over();
        loop {
            let now = self.clock.now().wall;
            if let Some(now) = now {
                if due.is_some_and(|due| due <= now) {
                    // It has said what there is to say.
                    let _ = self.run_and_say(&self.settings);
                    due = None;
                }
                // A plan far ahead was made before the clock was set back.
                due = due.filter(|due| *due - now < Duration::from_hours(72));
                if due.is_none() {
                    due = self.plan(now, first);
                    first = false;
                }
            }
            let left = now.zip(due).map_or(LOOK, |(now, due)| due - now);
            match orders.recv_timeout(left.min(LOOK)) {
                // Nobody may be left to hear it.
                Ok(reply) => drop(reply.send(self.run_and_say(&once))),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// The next run. The first plan makes up for a missed night: many stores cut their power then.
    fn plan(&self, now: WallTime, first: bool) -> Option<WallTime> {
        let Schedule { at, jitter, tz } = &self.schedule;
        let id = &self.settings.store_id;
        let next = |now| schedule::next_run(now, *at, *jitter, id, tz);
        let missed = match self.store.last_sync() {
            Ok(Some(last)) => next(last).is_ok_and(|due| due <= now),
            Ok(None) => false,
            Err(_) => return None,
        };
        if first && missed {
            return Some(now + schedule::share(*jitter, id).min(Duration::from_mins(10)));
        }
        match next(now) {
            Ok(due) => Some(due),
            Err(error) => {
                tracing::error!(%error, "the nightly run cannot be planned");
                None
            }
        }
    }

    fn run_and_say(&self, settings: &Settings) -> Result<Summary, SyncError> {
        let result = self.run(settings);
        if let Err(error) = &result {
            tracing::error!(%error, "the run to HQ ended early");
        }
        result
    }

    fn run(&self, settings: &Settings) -> Result<Summary, SyncError> {
        let mut summary = run(&self.store, settings, &mut |pause| self.stop.wait(pause))?;
        let Summary { batches, rows, watermark, .. } = summary;

        tracing::info!(batches, rows, watermark, "HQ has the whole record");
        if let Some(now) = self.clock.now().wall {
            self.store.synced(now)?;
        }
        summary.bundle = self.bundles.as_ref().map(Bundles::renew).transpose()?;
        self.hand_over()?;
        Ok(summary)
    }

    /// Brings the vouchers of the bundle that is held to the gateway and to the disk.
    fn hand_over(&self) -> Result<(), SyncError> {
        let Some(bundles) = &self.bundles else { return Ok(()) };
        bundles.hand_over().inspect_err(|error| tracing::error!(%error, "HQ's vouchers"))?;
        Ok(self.store.flush()?)
    }
}

#[derive(Debug, Default)]
struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    fn set(&self) {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Sleeps; false if stopped before the end.
    fn wait(&self, pause: Duration) -> bool {
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(stopped, pause, |stopped| !*stopped);
        !*waited.unwrap_or_else(PoisonError::into_inner).0
    }
}
