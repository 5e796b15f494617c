//! The one thread that writes: it gathers records into groups, makes each group durable in the
//! journal, carries it into the database, and settles the database now and then.

mod trouble;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::StoreError;
use super::book::{Book, meta};
use super::jobs::{Counters, Job};
use super::journal::{Entry, Group, Header, Journal};
use super::outbox::Batch;
use super::retention::Pause;
use crate::adapters::inbox::Inbox;
use crate::clock;
use crate::domain::effect::Record;
use crate::domain::event::Event;
use crate::domain::names::BootTime;

/// So many entries are not kept waiting for more.
const GROUP: usize = 200;
/// Entries of a group at most: what waits already is better written in few groups.
const GROUP_MOST: usize = 2000;
/// Entries that may wait for the disk to take them.
const BACKLOG: usize = 10_000;
/// The database is settled after this long, or this many bytes of journal.
const SETTLE_AFTER: Duration = Duration::from_mins(40);
const SETTLE_BYTES: u64 = 256 << 10;
/// The terms are looked at again this long after the disk refused.
const TERMS_RETRY: Duration = Duration::from_mins(10);

#[derive(Debug)]
pub(super) struct Writer {
    path: PathBuf,
    journal: Journal,
    header: Header,
    book: Book,
    /// The database is behind the journal, and has to be brought up to it.
    behind: bool,
    pending: VecDeque<Entry>,
    /// A record is pending that somebody waits for, or that no power cut may undo.
    urgent: bool,
    closing: bool,
    commit_every: Duration,
    commit_at: Option<BootTime>,
    settle_at: Option<BootTime>,
    /// When the terms are looked at next; not before somebody says so.
    terms_at: Option<BootTime>,
    /// While the disk refuses: until when it is left alone, and how often it has refused.
    resting_until: Option<BootTime>,
    refusals: u32,
    inbox: Inbox,
    counters: Arc<Counters>,
}

impl Writer {
    /// Takes in what an earlier run left in the journal, and begins a new one.
    pub(super) fn new(
        path: PathBuf,
        mut book: Book,
        (boot_id, zones): (String, Vec<String>),
        commit_every: Duration,
        inbox: Inbox,
        counters: Arc<Counters>,
    ) -> Result<Self, StoreError> {
        let journal = Journal::open(&path.with_extension("journal")).map_err(StoreError::Files)?;
        let replayed = book.replay(&journal)?;
        let generation = replayed.unwrap_or(book.generation);
        let header = Header { generation, boot: boot_id, offset: None, zones };
        let mut writer = Self {
            path,
            journal,
            header,
            book,
            behind: false,
            pending: VecDeque::new(),
            urgent: false,
            closing: false,
            commit_every,
            commit_at: None,
            settle_at: None,
            terms_at: None,
            resting_until: None,
            refusals: 0,
            inbox,
            counters,
        };
        writer.book.enter(&writer.header)?;
        Ok(writer)
    }

    /// The book of this run, to read the snapshot from; settle it afterwards.
    pub(super) fn book(&mut self) -> &mut Book {
        &mut self.book
    }

    /// Settles the database and begins the next journal.
    fn settle(&mut self) -> Result<(), StoreError> {
        self.book.settle(self.header.generation)?;
        self.settle_at = None;
        self.counters.settled.fetch_add(1, Ordering::Relaxed);
        self.header.generation += 1;
        self.header.offset = self.book.boot.offset;
        self.journal.begin(&self.header).map_err(StoreError::Files)
    }

    /// Works until told to close, or until every handle is gone.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            match self.wait(jobs) {
                Ok(Job::Write(entry)) => {
                    self.taken(entry);
                    // What else waits joins the group before the disk is asked.
                    while self.pending.len() < GROUP_MOST {
                        match jobs.try_recv() {
                            Ok(Job::Write(entry)) => self.taken(entry),
                            Ok(job) => {
                                if self.answer(job) {
                                    return;
                                }
                            }
                            Err(_) => break,
                        }
                    }
                }
                Ok(job) => {
                    if self.answer(job) {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.answer(Job::Close);
                    return;
                }
            }
            self.do_what_is_due();
        }
    }

    fn wait(&self, jobs: &Receiver<Job>) -> Result<Job, RecvTimeoutError> {
        let dues = [self.commit_at, self.settle_at, self.terms_at];
        let due = self.resting_until.or_else(|| dues.into_iter().flatten().min());
        match due {
            Some(at) => jobs.recv_timeout(at - clock::boot()),
            None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    /// Takes an entry from the queue.
    fn taken(&mut self, entry: Entry) {
        self.counters.waiting.fetch_sub(1, Ordering::Relaxed);
        self.push(entry);
    }

    fn push(&mut self, entry: Entry) {
        if self.pending.len() >= BACKLOG {
            self.counters.lost.fetch_add(1, Ordering::Relaxed);
            if let Some(Entry::Record(Record::SessionStarted { grant, .. })) =
                self.pending.pop_front()
            {
                self.inbox.tell(Event::StoreFailed(grant.session));
            }
        }
        self.urgent |= match &entry {
            Entry::Record(Record::SessionStarted { .. } | Record::SessionChanged { .. }) => true,
            Entry::Record(Record::SessionEnded { reason, .. }) => reason.for_good(),
            _ => false,
        };
        self.pending.push_back(entry);
        if self.commit_at.is_none() {
            self.commit_at = Some(clock::boot() + self.commit_every);
        }
    }

    fn do_what_is_due(&mut self) {
        if self.closing {
            return self.take_pending();
        }
        let now = clock::boot();
        self.resting_until = self.resting_until.filter(|at| now < *at);
        let resting = self.resting_until.is_some();
        let group_due = self.pending.len() >= GROUP || self.commit_at.is_some_and(|at| at <= now);
        // A guest waits for an answer, so an urgent group is tried even while the disk refuses.
        if self.urgent || (group_due && !resting) {
            let _ = self.commit();
        }
        if self.behind && !resting {
            let _ = self.catch_up();
        }
        let settle_due = self.settle_at.is_some_and(|at| at <= now)
            || self.journal.length() > SETTLE_BYTES && self.book.is_unsettled();
        if settle_due && !resting && !self.behind {
            let _ = self.publish();
        }
        if self.terms_at.is_some_and(|at| at <= now) && !resting && !self.behind {
            self.keep_terms();
        }
    }

    /// Who waits for the disk waits for a short part of it.
    fn keep_terms(&mut self) {
        match self.book.keep_terms(clock::boot()) {
            Ok(Pause { length, settle, over }) => {
                self.counters.rounds.fetch_add(over.into(), Ordering::Relaxed);
                if self.book.is_unsettled() && self.settle_at.is_none() {
                    self.settle_at = Some(clock::boot() + SETTLE_AFTER);
                }
                if settle {
                    let _ = self.publish();
                }
                self.terms_at = Some(clock::boot() + length);
            }
            Err(error) => {
                self.behind = true;
                self.rest(&error);
                self.mend(&error);
                self.terms_at = Some(clock::boot() + TERMS_RETRY);
            }
        }
    }

    /// True if that was the last job.
    fn answer(&mut self, job: Job) -> bool {
        match job {
            Job::Write(entry) => self.taken(entry),
            Job::Flush(reply) => drop(reply.send(self.commit())),
            Job::Publish(reply) => {
                let done = self.commit().and_then(|()| self.publish());
                drop(reply.send(done));
            }
            Job::NextBatch(most, reply) => drop(reply.send(self.next_batch(most))),
            Job::LastSync(reply) => {
                drop(reply.send(meta(&self.book.connection, "synced")));
            }
            Job::KeepTerms(at) => self.terms_at = Some(at),
            Job::Closing => (self.closing, self.terms_at) = (true, None),
            Job::Close => {
                if self.closing {
                    self.take_pending();
                }
                if let Err(error) = self.commit().and_then(|()| self.publish()) {
                    tracing::error!(%error, lost = self.pending.len(), "closing without the disk");
                }
                return true;
            }
        }
        false
    }

    /// Makes what is pending durable, and answers those who wait for it.
    fn commit(&mut self) -> Result<(), StoreError> {
        while !self.pending.is_empty() {
            if !self.journal.is_begun()
                && let Err(error) = self.catch_up()
            {
                self.fail_sessions();
                return Err(error);
            }
            let entries: Vec<Entry> = self.pending.iter().take(GROUP_MOST).cloned().collect();
            let group = Group { at: clock::boot(), entries };
            if let Err(error) = self.journal.append(&group) {
                self.fail_sessions();
                let error = StoreError::Files(error);
                self.rest(&error);
                return Err(error);
            }
            self.pending.drain(..group.entries.len());
            self.counters.groups.fetch_add(1, Ordering::Relaxed);
            self.take(&group);
            for entry in &group.entries {
                if let Entry::Record(Record::SessionStarted { grant, .. }) = entry {
                    self.inbox.tell(Event::Stored(grant.session));
                }
            }
        }
        // The room that a burst took.
        self.pending.shrink_to_fit();
        self.urgent = false;
        self.commit_at = None;
        if !self.behind {
            self.refusals = 0;
        }
        Ok(())
    }

    /// Carries what is pending into the database without the journal, unless that refuses it.
    fn take_pending(&mut self) {
        let group = Group { at: clock::boot(), entries: self.pending.drain(..).collect() };
        if self.behind || self.book.take(&group).is_err() {
            // Starts the open transaction over, and goes the long way.
            self.behind = true;
            self.closing = false;
            self.pending = group.entries.into();
        }
    }

    /// Carries a durable group into the database, or notes that this is still to be done.
    fn take(&mut self, group: &Group) {
        if self.settle_at.is_none() {
            self.settle_at = Some(clock::boot() + SETTLE_AFTER);
        }
        if self.behind {
            return;
        }
        if let Err(error) = self.book.take(group) {
            self.behind = true;
            self.rest(&error);
            self.mend(&error);
        }
    }

    /// Settles what was carried in.
    fn publish(&mut self) -> Result<(), StoreError> {
        if self.behind {
            self.catch_up()?;
        }
        if !self.book.is_unsettled() {
            return Ok(());
        }
        let settled = self.settle();
        if let Err(error) = &settled {
            self.behind = true;
            self.rest(error);
            self.mend(error);
        }
        settled
    }

    fn next_batch(&mut self, most: u32) -> Result<Option<Batch>, StoreError> {
        self.commit()?;
        if self.behind {
            self.catch_up()?;
        }
        let batch = self.book.outbox.next(&self.book.connection, most.max(1))?;
        if let Some(batch) = &batch
            && batch.last > self.book.outbox.cut
        {
            self.push(Entry::Cut(batch.last));
            self.commit()?;
        }
        Ok(batch)
    }
}
