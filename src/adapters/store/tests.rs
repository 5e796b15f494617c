//! The store against a disk, a crash and a clock.

mod counts;
mod disk;
mod erase;
mod figures;
mod flash;
mod privacy;
mod rename;
mod round_trip;
mod terms;
mod time_left;
mod vouchers;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::mpsc;

use super::*;
use crate::adapters::inbox::{Envelope, Inbox};
use crate::clock;
use crate::domain::effect::{Attempt, EndReason, Grant, Method};
use crate::domain::event::{Consent, Event};
use crate::domain::names::{BootTime, GuestKey, Mac, Mark, SessionId, VisitId, WallTime, ZoneId};
use crate::domain::policy::{Identity, Limits};
use crate::domain::saved::Snapshot;

/// A store in a folder, and the loop's end of its inbox.
pub(in crate::adapters) struct Bench {
    pub(in crate::adapters) store: Store,
    pub(in crate::adapters) snapshot: Snapshot,
    outlet: mpsc::Receiver<Envelope>,
}

/// How to open a bench; a test changes what it is about.
pub(in crate::adapters) struct Plan {
    pub(in crate::adapters) path: PathBuf,
    pub(in crate::adapters) boot: &'static str,
    pub(in crate::adapters) zones: Vec<String>,
    pub(in crate::adapters) commit_every: Duration,
    pub(in crate::adapters) retention: Retention,
    pub(in crate::adapters) now: Now,
}

impl Plan {
    pub(in crate::adapters) fn new(folder: &Path) -> Self {
        Self {
            path: folder.join("store.db"),
            boot: "boot-1",
            zones: vec!["hall".into(), "cafe".into()],
            commit_every: Duration::from_secs(5),
            retention: Retention::default(),
            now: Now { boot: BootTime(1_000_000), wall: None },
        }
    }

    pub(in crate::adapters) fn try_open(&self) -> Result<Bench, StoreError> {
        let (inbox, outlet) = Inbox::new();
        let settings = Settings {
            path: &self.path,
            boot_id: self.boot,
            zones: &self.zones,
            device_secret: [9; 32],
            commit_every: self.commit_every,
            retention: self.retention,
        };
        let (store, snapshot) = Store::open(&settings, self.now, &inbox)?;
        Ok(Bench { store, snapshot, outlet })
    }

    pub(in crate::adapters) fn open(&self) -> Bench {
        self.try_open().unwrap()
    }
}

impl Bench {
    pub(in crate::adapters) fn put(&self, records: impl IntoIterator<Item = Record>) {
        for record in records {
            while self.store.submit(record.clone()).is_err() {
                std::thread::yield_now();
            }
        }
    }

    /// The next answer of the writer; fails after ten seconds.
    fn answer(&mut self) -> Event {
        for _ in 0..10_000 {
            if let Ok(envelope) = self.outlet.try_recv() {
                return envelope.event;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("the writer does not answer");
    }

    /// Waits until all that is past its term is deleted.
    fn keep_terms(&self) {
        let before = self.store.counts().rounds;
        // The time may be among what is not written yet.
        self.store.flush().unwrap();
        self.store.keep_terms(Duration::ZERO);
        let begun = clock::boot();
        while self.store.counts().rounds == before {
            assert!(clock::boot() - begun < Duration::from_mins(1), "the terms are not kept");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub(in crate::adapters) fn close(self) {
        drop(self.outlet);
        self.store.close();
    }
}

pub(in crate::adapters) fn mac(number: u64) -> Mac {
    let [.., a, b, c, d] = number.to_be_bytes();
    Mac([if number.is_multiple_of(2) { 0x02 } else { 0 }, 0x5e, a, b, c, d])
}

pub(in crate::adapters) fn guest(number: u8) -> GuestKey {
    GuestKey([number; 16])
}

fn grant(session: u64, device: u64) -> Grant {
    Grant {
        session: SessionId(session),
        zone: ZoneId(0),
        mac: mac(device),
        mark: Mark(u16::try_from(session % 60_000).unwrap() + 1),
        left: Some(Duration::from_hours(1)),
        limits: Limits { download_rate: Some(1_000_000), ..Limits::default() },
        used_up: 0,
        used_down: 0,
    }
}

fn started(session: u64, device: u64, at: u64) -> Record {
    Record::SessionStarted {
        grant: grant(session, device),
        identity: Identity::Guest(guest(1)),
        method: Method::Sms,
        address: Some("192.0.2.7".parse().unwrap()),
        extended: 0,
        terms: String::new(),
        at: BootTime(at),
    }
}

fn ended(session: u64, at: u64) -> Record {
    Record::SessionEnded {
        session: SessionId(session),
        reason: EndReason::Logout,
        up: 10,
        down: 20,
        at: BootTime(at),
    }
}

fn verified(key: u8, device: u64, at: u64) -> Record {
    Record::Verified {
        guest: guest(key),
        mac: mac(device),
        mask: format!("*{key:02}"),
        sealed: None,
        consent: Consent { terms: "1".into(), marketing: key.is_multiple_of(2) },
        method: Method::Sms,
        at: BootTime(at),
    }
}

pub(in crate::adapters) fn opened(visit: u64, device: u64, key: Option<u8>, at: u64) -> Record {
    Record::VisitOpened {
        visit: VisitId(visit),
        zone: ZoneId(0),
        mac: mac(device),
        guest: key.map(guest),
        at: BootTime(at),
    }
}

pub(in crate::adapters) fn closed(visit: u64, dwell_ms: u64, last: u64) -> Record {
    Record::VisitClosed {
        visit: VisitId(visit),
        dwell: Duration::from_millis(dwell_ms),
        last: BootTime(last),
    }
}

fn seen(visit: u64, dwell_ms: u64, last: u64) -> Record {
    Record::VisitSeen {
        visit: VisitId(visit),
        dwell: Duration::from_millis(dwell_ms),
        last: BootTime(last),
    }
}

/// One value of the settled database.
fn value<T: rusqlite::types::FromSql>(path: &Path, sql: &str) -> T {
    Connection::open(path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}
