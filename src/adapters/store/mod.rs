//! The record on disk: `SQLite`, one writer thread, readers of their own.
//!
//! Records go to the writer through a bounded channel, are made durable in groups in a
//! [journal], and are carried into the database, which is settled every 40 minutes, when somebody
//! reads it, and at the end.

mod access_log;
mod book;
mod erase;
mod guests;
mod identities;
mod jobs;
pub mod journal;
mod outbox;
mod outgoing;
mod reader;
mod records;
mod rename;
pub mod report;
mod retention;
mod schema;
mod snapshot;
mod vouchers;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use self::book::Book;
use self::jobs::{Counters, Job};
use self::journal::Entry;
use self::writer::Writer;
use super::inbox::Inbox;
use crate::clock;
use crate::config::Retention;
use crate::domain::effect::Record;
use crate::domain::names::{GuestKey, Now, Renamed, WallTime};
use crate::domain::saved::Snapshot;

pub use self::access_log::{AccessPage, AccessRow};
pub use self::guests::GuestFile;
pub use self::outbox::Batch;
pub use self::reader::{Reader, Size};

/// Records that may wait for the writer: a stop hands over a session and a visit of each guest.
const CAPACITY: u32 = 32_768;

/// What went wrong with the record.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database was written by a newer maitred.
    #[error("the database has version {found}, and this maitred knows versions up to {newest}")]
    Newer {
        /// Its version.
        found: i64,
        /// Ours.
        newest: i64,
    },
    /// `SQLite` refused.
    #[error("database: {0}")]
    Sql(#[from] rusqlite::Error),
    /// The file system refused.
    #[error("database files: {0}")]
    Files(#[source] io::Error),
    /// The writer has stopped.
    #[error("the store is closed")]
    Closed,
    /// No such day in this time zone.
    #[error("time: {0}")]
    Time(#[from] jiff::Error),
}

/// The writer is too far behind, or gone: the record was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store takes no more records just now")]
pub struct Full;

/// How to open the store.
#[derive(Debug)]
pub struct Settings<'a> {
    /// The database; its journal lies beside it.
    pub path: &'a Path,
    /// This boot's id.
    pub boot_id: &'a str,
    /// The zones' names, by [`crate::domain::names::ZoneId`].
    pub zones: &'a [String],
    /// Makes of a MAC what HQ knows a device by.
    pub device_secret: [u8; 32],
    /// A group waits at most this long for further records.
    pub commit_every: Duration,
    /// How long it is kept, and what the outbox may hold.
    pub retention: Retention,
}

/// What the writer has counted since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Groups made durable.
    pub groups: u32,
    /// Times the database was settled.
    pub settled: u32,
    /// Refusals of the disk.
    pub failures: u32,
    /// Records lost because too many waited for the disk.
    pub lost: u32,
    /// Times that all was deleted that was past its term.
    pub rounds: u32,
}

/// A handle to the writer; cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    /// Takes memory for what waits in it only; `try_write` keeps it within [`CAPACITY`].
    jobs: Sender<Job>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    counters: Arc<Counters>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Store {
    /// Opens or creates the database, takes in what the last run left in the journal, reads back
    /// what the domain needs, and starts the writer, which answers sessions through `inbox`.
    pub fn open(
        settings: &Settings<'_>,
        now: Now,
        inbox: &Inbox,
    ) -> Result<(Self, Snapshot), StoreError> {
        let path = settings.path.to_owned();
        schema::make_folder(&path).map_err(StoreError::Files)?;
        let counters = Arc::<Counters>::default();
        let begin = || start(settings, now, inbox.clone(), Arc::clone(&counters));
        let (writer, snapshot) = match begin() {
            Err(StoreError::Sql(error)) if schema::is_damage(&error) => {
                schema::set_aside(&path)?;
                begin()?
            }
            started => started?,
        };
        let (jobs, receiver) = channel();
        let thread = std::thread::Builder::new()
            .name("store".into())
            .stack_size(1 << 20)
            .spawn(move || writer.run(&receiver))
            .map_err(StoreError::Files)?;
        let shared = Shared { path, counters, writer: Mutex::new(Some(thread)) };
        Ok((Self { jobs, shared: Arc::new(shared) }, snapshot))
    }

    /// Hands over a record; never waits. A `SessionStarted`, with all that came before it, is made
    /// durable at once and answered by `Stored` or `StoreFailed`; a change of a session, or an end for
    /// good, at once; others within `commit_every`.
    pub fn submit(&self, record: Record) -> Result<(), Full> {
        self.try_write(Entry::Record(record))
    }

    /// Wall time is known to be boot time + `offset_ms`; rows of this boot get their wall time.
    /// Never waits.
    pub fn clock_trusted(&self, offset_ms: i64) -> Result<(), Full> {
        self.try_write(Entry::Clock(offset_ms))
    }

    /// After so long, what is past its term begins to be deleted, and from then on once a day, while
    /// the time is known. Never waits.
    pub fn keep_terms(&self, after: Duration) {
        // An error means that the writer is gone already.
        let _ = self.jobs.send(Job::KeepTerms(clock::boot() + after));
    }

    /// Waits until everything submitted before is durable. Not for the loop.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.request(Job::Flush)?
    }

    /// Waits until everything submitted before can be read by a [`Reader`]. Not for the loop.
    pub fn publish(&self) -> Result<(), StoreError> {
        self.request(Job::Publish)?
    }

    /// A reader of this database.
    pub fn reader(&self) -> Reader {
        Reader::new(self.clone())
    }

    /// The next rows for HQ, at most `most`; until they are acknowledged the same ones again. Not
    /// for the loop.
    pub fn next_batch(&self, most: u32) -> Result<Option<Batch>, StoreError> {
        self.request(|reply| Job::NextBatch(most, reply))?
    }

    /// HQ has the rows up to `last`: deletes them, and waits until that is durable. Not for the
    /// loop.
    pub fn acknowledge(&self, last: i64) -> Result<(), StoreError> {
        self.write(Entry::Acknowledged(last))?;
        self.flush()
    }

    /// Forgets who a guest is, but for the access log; waits until that is durable. Not for the
    /// loop.
    pub fn erase(&self, guest: GuestKey) -> Result<(), StoreError> {
        self.write(Entry::Erased(guest))?;
        self.flush()
    }

    /// Gives guests other names, or forgets them, at HQ's word; waits until that is durable. Not
    /// for the loop.
    pub fn rename(&self, names: Renamed) -> Result<(), StoreError> {
        self.write(Entry::Renamed(names))?;
        self.flush()
    }

    /// When the last run to HQ was completed. Not for the loop.
    pub fn last_sync(&self) -> Result<Option<WallTime>, StoreError> {
        Ok(self.request(Job::LastSync)??.map(WallTime))
    }

    /// A run to HQ was completed. Not for the loop.
    pub fn synced(&self, at: WallTime) -> Result<(), StoreError> {
        self.write(Entry::Synced(at.0))
    }

    /// What the writer has counted since the start.
    pub fn counts(&self) -> Counts {
        let counters = &self.shared.counters;
        Counts {
            groups: counters.groups.load(Ordering::Relaxed),
            settled: counters.settled.load(Ordering::Relaxed),
            failures: counters.failures.load(Ordering::Relaxed),
            lost: counters.lost.load(Ordering::Relaxed),
            rounds: counters.rounds.load(Ordering::Relaxed),
        }
    }

    /// What is submitted from now on is the last before [`Self::close`], and costs the disk least.
    pub fn closing(&self) {
        // An error means that the writer is gone already.
        let _ = self.jobs.send(Job::Closing);
    }

    /// Writes what is left, settles the database and stops the writer. Drop the inbox's outlet
    /// first: the writer would wait for room in it.
    pub fn close(&self) {
        let thread = self.shared.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // An error means that the writer is gone already.
            let _ = self.jobs.send(Job::Close);
            let _ = thread.join();
        }
    }

    fn path(&self) -> &Path {
        &self.shared.path
    }

    fn try_write(&self, entry: Entry) -> Result<(), Full> {
        let waiting = &self.shared.counters.waiting;
        if waiting.fetch_add(1, Ordering::Relaxed) >= CAPACITY {
            waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(Full);
        }
        self.jobs.send(Job::Write(entry)).map_err(|_| Full)
    }

    /// For callers who are few, and wait for what they write.
    fn write(&self, entry: Entry) -> Result<(), StoreError> {
        self.shared.counters.waiting.fetch_add(1, Ordering::Relaxed);
        self.jobs.send(Job::Write(entry)).map_err(|_| StoreError::Closed)
    }

    fn request<T>(&self, job: impl FnOnce(SyncSender<T>) -> Job) -> Result<T, StoreError> {
        let (reply, answer) = sync_channel(1);
        self.jobs.send(job(reply)).map_err(|_| StoreError::Closed)?;
        answer.recv().map_err(|_| StoreError::Closed)
    }
}

fn start(
    settings: &Settings<'_>,
    now: Now,
    inbox: Inbox,
    counters: Arc<Counters>,
) -> Result<(Writer, Snapshot), StoreError> {
    let connection = schema::open(settings.path)?;
    let book = Book::new(connection, settings.device_secret, settings.retention)?;
    let identity = (settings.boot_id.to_owned(), settings.zones.to_vec());
    let path = settings.path.to_owned();
    let mut writer = Writer::new(path, book, identity, settings.commit_every, inbox, counters)?;
    let snapshot = snapshot::read(writer.book(), now)?;
    writer.begin()?;
    Ok((writer, snapshot))
}

#[cfg(test)]
pub(in crate::adapters) mod tests;
