//! What the writer is asked, and what it counts.

use std::sync::atomic::AtomicU32;
use std::sync::mpsc::SyncSender;

use super::StoreError;
use super::journal::Entry;
use super::outbox::Batch;
use crate::domain::names::BootTime;

/// What the writer is asked to do.
#[derive(Debug)]
pub(super) enum Job {
    Write(Entry),
    /// Make everything before this durable.
    Flush(SyncSender<Result<(), StoreError>>),
    /// Make everything before this visible to readers.
    Publish(SyncSender<Result<(), StoreError>>),
    /// Cut the next batch for HQ.
    NextBatch(u32, SyncSender<Result<Option<Batch>, StoreError>>),
    /// When was the last completed run to HQ?
    LastSync(SyncSender<Result<Option<i64>, StoreError>>),
    /// From then on, delete daily what is past its term.
    KeepTerms(BootTime),
    /// What still comes is the last: it goes straight into the database, which is settled once.
    Closing,
    /// Settle and stop.
    Close,
}

/// What the writer counts, for `status`.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) groups: AtomicU32,
    pub(super) settled: AtomicU32,
    pub(super) failures: AtomicU32,
    pub(super) lost: AtomicU32,
    pub(super) rounds: AtomicU32,
    /// Entries in the queue.
    pub(super) waiting: AtomicU32,
}
