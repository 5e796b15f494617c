//! While the disk refuses.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rusqlite::ErrorCode;

use super::Writer;
use crate::adapters::store::book::millis;
use crate::adapters::store::journal::Entry;
use crate::adapters::store::{StoreError, schema};
use crate::clock;
use crate::domain::effect::Record;
use crate::domain::event::Event;

/// Between two tries while the disk refuses.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

impl Writer {
    /// Settles what the start has changed. A disk that is full keeps nobody out who was let in: it is
    /// tried again, from the journal that the last run has left.
    pub(in crate::adapters::store) fn begin(&mut self) -> Result<(), StoreError> {
        match self.settle() {
            Err(error) if is_full(&error) => {
                self.behind = true;
                self.rest(&error);
                Ok(())
            }
            settled => settled,
        }
    }

    /// Starts the database's open transaction over, from the journal.
    pub(super) fn catch_up(&mut self) -> Result<(), StoreError> {
        let caught_up = self.book.give_up().and_then(|()| {
            let replayed = self.book.replay(&self.journal)?;
            if replayed.is_some() && self.journal.is_begun() {
                return Ok(());
            }
            self.book.enter(&self.header)?;
            self.settle()
        });
        match &caught_up {
            Ok(()) => {
                self.behind = false;
                self.refusals = 0;
                self.resting_until = None;
            }
            Err(error) => {
                self.rest(error);
                self.mend(error);
            }
        }
        caught_up
    }

    /// A damaged database is replaced by a new one; the journal's part is carried in again.
    pub(super) fn mend(&mut self, error: &StoreError) {
        if !matches!(error, StoreError::Sql(error) if schema::is_damage(error)) {
            return;
        }
        match self.book.replace(&self.path) {
            // The journal must not look taken to the new database.
            Ok(()) => self.book.generation = self.header.generation.saturating_sub(1),
            Err(error) => tracing::error!(%error, "no new database could be begun"),
        }
    }

    pub(super) fn fail_sessions(&mut self) {
        let inbox = &self.inbox;
        self.pending.retain(|entry| match entry {
            Entry::Record(Record::SessionStarted { grant, .. }) => {
                inbox.tell(Event::StoreFailed(grant.session));
                false
            }
            _ => true,
        });
        self.urgent = false;
        if self.pending.is_empty() {
            self.commit_at = None;
        }
    }

    /// Waits longer after every failure in a row.
    pub(super) fn rest(&mut self, error: &StoreError) {
        self.counters.failures.fetch_add(1, Ordering::Relaxed);
        let wait = (RETRY.0 * 2u32.pow(self.refusals.min(6))).min(RETRY.1);
        self.refusals = self.refusals.saturating_add(1);
        self.resting_until = Some(clock::boot() + wait);
        let (pending, wait_ms) = (self.pending.len(), millis(wait));
        tracing::error!(%error, pending, wait_ms, "the disk does not take the record");
    }
}

fn is_full(error: &StoreError) -> bool {
    match error {
        StoreError::Sql(error) => error.sqlite_error_code() == Some(ErrorCode::DiskFull),
        StoreError::Files(error) => {
            matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        }
        _ => false,
    }
}
