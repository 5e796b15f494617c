//! Carries journal entries into the database. All of it happens in one transaction that stays
//! open until [`Book::settle`]; the entries are safe in the journal meanwhile.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::journal::{Entry, Group, Header, Journal};
use super::outbox::{self, Outbox};
use super::retention::Round;
use super::{StoreError, schema};
use crate::clock;
use crate::config::Retention;
use crate::domain::names::{BootTime, ZoneId};

/// The database, seen from its one writer.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) connection: Connection,
    /// Makes HQ's device key of a MAC.
    pub(super) device_secret: [u8; 32],
    pub(super) outbox: Outbox,
    pub(super) boot: Boot,
    zones: Vec<String>,
    /// Journals up to this generation are wholly in the database.
    pub(super) generation: u64,
    unsettled: bool,
    pub(super) retention: Retention,
    /// Deletes what is past its term just now.
    pub(super) round: Option<Round>,
}

pub(super) const DAY: i64 = 86_400_000;

/// The boot that times are of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Boot {
    /// Its row.
    pub(super) row: i64,
    /// Wall time − boot time in milliseconds, once known.
    pub(super) offset: Option<i64>,
}

impl Boot {
    /// Wall time of a moment of this boot.
    pub(super) fn wall(&self, at_ms: i64) -> Option<i64> {
        self.offset.map(|offset| at_ms.saturating_add(offset))
    }

    /// Its day since 1970.
    pub(super) fn day(&self, at_ms: i64) -> Option<i64> {
        self.wall(at_ms).map(|wall| wall / DAY)
    }
}

impl Book {
    /// The book of an open database, before any journal is read.
    pub(super) fn new(
        connection: Connection,
        device_secret: [u8; 32],
        retention: Retention,
    ) -> Result<Self, StoreError> {
        let outbox = Outbox::read(&connection, outbox::Cap::of(&retention))?;
        let generation = meta(&connection, "generation")?.unwrap_or(0);
        Ok(Self {
            connection,
            device_secret,
            outbox,
            boot: Boot { row: 0, offset: None },
            zones: Vec::new(),
            generation: u64::try_from(generation).unwrap_or(0),
            unsettled: false,
            retention,
            round: None,
        })
    }

    /// From here on, entries are of this header's boot and zones.
    pub(super) fn enter(&mut self, header: &Header) -> Result<(), StoreError> {
        self.begin()?;
        self.connection.execute(
            "INSERT OR IGNORE INTO boot (uuid, offset) VALUES (?1, ?2)",
            params![header.boot, header.offset],
        )?;
        let (row, offset) = self.connection.query_row(
            "SELECT id, offset FROM boot WHERE uuid = ?1",
            [&header.boot],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        self.boot = Boot { row, offset };
        self.zones.clone_from(&header.zones);
        Ok(())
    }

    /// Carries in a group. An entry that contradicts the database is logged and left out; any
    /// other error means that the transaction is to be given up.
    pub(super) fn take(&mut self, group: &Group) -> Result<(), StoreError> {
        self.begin()?;
        self.alive(group.at)?;
        for entry in &group.entries {
            match self.take_entry(entry, group.at) {
                Err(StoreError::Sql(error)) if is_contradiction(&error) => {
                    tracing::error!(%error, "an entry contradicts the database and is left out");
                }
                taken => taken?,
            }
        }
        self.outbox.keep_within_cap(&self.connection)
    }

    /// Carries a journal in, and says which. `None` if there was none, or it was in there already.
    pub(super) fn replay(&mut self, journal: &Journal) -> Result<Option<u64>, StoreError> {
        let Some((header, mut groups)) = journal.read().map_err(StoreError::Files)? else {
            return Ok(None);
        };
        if header.generation <= self.generation {
            return Ok(None);
        }
        self.enter(&header)?;
        while let Some(group) = groups.next().map_err(StoreError::Files)? {
            self.take(&group)?;
        }
        let bytes = groups.remains();
        if bytes > 0 {
            tracing::warn!(bytes, "the journal's end was cut off and is left out");
        }
        Ok(Some(header.generation))
    }

    /// Makes all that was carried in durable, and marks journals up to `generation` as taken.
    pub(super) fn settle(&mut self, generation: u64) -> Result<(), StoreError> {
        self.begin()?;
        self.alive(clock::boot())?;
        self.outbox.write(&self.connection)?;
        set_meta(&self.connection, "generation", int(generation))?;
        self.connection.execute_batch("COMMIT")?;
        self.generation = generation;
        self.unsettled = false;
        Ok(())
    }

    /// Something is not settled.
    pub(super) fn is_unsettled(&self) -> bool {
        self.unsettled
    }

    /// Forgets what is not settled.
    pub(super) fn give_up(&mut self) -> Result<(), StoreError> {
        if !self.connection.is_autocommit() {
            self.connection.execute_batch("ROLLBACK")?;
        }
        self.unsettled = false;
        self.round = None;
        self.outbox = Outbox::read(&self.connection, self.outbox.cap)?;
        Ok(())
    }

    /// Goes on with another database, after this one turned out to be damaged.
    pub(super) fn replace(&mut self, path: &Path) -> Result<(), StoreError> {
        self.connection = Connection::open_in_memory()?;
        schema::set_aside(path)?;
        let fresh = schema::open(path)?;
        *self = Self::new(fresh, self.device_secret, self.retention)?;
        Ok(())
    }

    /// The place of a zone's name, if the configuration still has it.
    pub(super) fn zone_named(&self, name: &str) -> Option<ZoneId> {
        let place = self.zones.iter().position(|zone| zone == name)?;
        u8::try_from(place).ok().map(ZoneId)
    }

    /// The name that rows carry for a zone.
    pub(super) fn zone_name(&self, zone: ZoneId) -> &str {
        self.zones.get(usize::from(zone.0)).map_or("", String::as_str)
    }

    pub(super) fn begin(&mut self) -> Result<(), StoreError> {
        if self.connection.is_autocommit() {
            self.connection.execute_batch("BEGIN IMMEDIATE")?;
        }
        self.unsettled = true;
        Ok(())
    }

    fn take_entry(&mut self, entry: &Entry, at: BootTime) -> Result<(), StoreError> {
        match entry {
            Entry::Record(record) => self.take_record(record, at),
            Entry::Clock(offset) => self.place(*offset),
            Entry::Cut(last) => {
                self.outbox.cut = *last;
                Ok(())
            }
            Entry::Acknowledged(last) => self.outbox.forget(&self.connection, *last),
            Entry::Synced(at) => set_meta(&self.connection, "synced", *at),
            Entry::Erased(guest) => self.erase(*guest, at),
            Entry::Renamed(names) => self.rename(names),
        }
    }

    /// The boot ran at this time of its clock.
    fn alive(&self, at: BootTime) -> Result<(), StoreError> {
        self.run("UPDATE boot SET alive_ms = ?2 WHERE id = ?1", params![self.boot.row, int(at.0)])
    }

    /// Wall time became known: fills in what this boot has written so far.
    fn place(&mut self, offset: i64) -> Result<(), StoreError> {
        self.boot.offset = Some(offset);
        self.run("UPDATE boot SET offset = ?2 WHERE id = ?1", params![self.boot.row, offset])?;
        for fill in [
            "UPDATE visit SET started = started_ms + ?2 WHERE boot = ?1 AND started IS NULL",
            "UPDATE session SET started = started_ms + ?2 WHERE boot = ?1 AND started IS NULL",
            "UPDATE session SET ended = ended_ms + ?2 WHERE ended_boot = ?1 AND ended IS NULL",
            "UPDATE access_log SET at = at_ms + ?2 WHERE boot = ?1 AND at IS NULL",
            "UPDATE consent SET at = at_ms + ?2 WHERE boot = ?1 AND at IS NULL",
            "UPDATE message SET at = at_ms + ?2 WHERE boot = ?1 AND at IS NULL",
            "UPDATE attempt SET at = at_ms + ?2 WHERE boot = ?1 AND at IS NULL",
            "UPDATE voucher_batch SET at = at_ms + ?2 WHERE boot = ?1 AND at IS NULL",
            "UPDATE voucher_use SET at = at_ms + ?2 WHERE boot = ?1 AND at IS NULL",
            "UPDATE device SET verified = verified_ms + ?2 WHERE boot = ?1 AND verified IS NULL",
        ] {
            self.run(fill, [self.boot.row, offset])?;
        }
        self.outbox.place(&self.connection, &self.boot)
    }

    pub(super) fn run(&self, sql: &str, values: impl rusqlite::Params) -> Result<(), StoreError> {
        self.connection.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }
}

/// A number of the `meta` table.
pub(super) fn meta(connection: &Connection, name: &str) -> Result<Option<i64>, StoreError> {
    let found = connection
        .prepare_cached("SELECT value FROM meta WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()?;
    Ok(found)
}

/// Sets a number of the `meta` table.
pub(super) fn set_meta(connection: &Connection, name: &str, value: i64) -> Result<(), StoreError> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)")?
        .execute(params![name, value])?;
    Ok(())
}

/// `SQLite`'s integers are signed; nothing of ours comes near the border.
pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn millis(length: Duration) -> i64 {
    i64::try_from(length.as_millis()).unwrap_or(i64::MAX)
}

fn is_contradiction(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation)
}
