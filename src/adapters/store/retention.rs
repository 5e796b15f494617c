//! Nothing is kept beyond its term.
//!
//! A record may have a million rows, and who waits to be let in waits for the writer: once a day the
//! tables are walked along their keys, a few rows at a time. What a kill undoes or cuts off is done
//! at the next start, as the day's round is noted only once it is over.

use std::time::Duration;

use rusqlite::params_from_iter;
use rusqlite::types::Value;

use super::StoreError;
use super::book::{Book, DAY, int, meta, millis, set_meta};
use crate::clock;
use crate::config::{Length, Retention};
use crate::domain::names::BootTime;

/// The writer is busy with it so long at a time, and then free for so long.
const BUSY: Duration = Duration::from_millis(3);
const FREE: Duration = Duration::from_millis(6);
/// So many rows are deleted between two settlings, so that each has little to write.
const SETTLE_ROWS: usize = 1000;
/// How often the clock is looked at while it is not trusted.
const NO_CLOCK: Duration = Duration::from_mins(1);
const A_DAY: Duration = Duration::from_hours(24);

/// A table, and what of it goes. In SQL `?1` is the term's border in wall time; `?2` this boot,
/// whose rows may yet learn the time; `?5` the first row that is known to be younger: those before
/// it of which nobody knows the time go, with their neighbours; `?6` today, as a day since 1970.
struct Walk {
    table: &'static str,
    key: &'static str,
    term: fn(&Retention) -> Length,
    /// The column with a row's time, if it can be unknown.
    since: Option<&'static str>,
    /// What to do first.
    first: Option<&'static str>,
    goes: &'static str,
    /// Where the guests go whom the rest names.
    guests: Option<&'static str>,
}

/// Guests and their sealed names come last: they go once nothing names them any more. The newest visit
/// and session stay: numbers count on from them.
const WALKS: [Walk; 8] = [
    Walk {
        table: "device",
        key: "mac",
        term: |terms| terms.devices,
        since: None,
        // Heard of while nobody knew the time: its term begins now.
        first: Some("UPDATE device SET heard = ?6 WHERE mac > ?3 AND mac <= ?4 AND heard IS NULL"),
        goes: "heard < ?1 / 86400000
            AND mac NOT IN (SELECT v.mac FROM presence p CROSS JOIN visit v ON v.id = p.visit)",
        guests: Some("met"),
    },
    Walk {
        table: "consent",
        key: "id",
        term: |terms| terms.consents,
        since: Some("at"),
        first: None,
        // Whoever is met so far has a device.
        goes: "(at < ?1 OR at IS NULL AND boot <> ?2 AND id < ?5)
            AND NOT EXISTS (SELECT 1 FROM met WHERE met.guest = consent.guest)",
        guests: Some("met"),
    },
    Walk {
        table: "visit",
        key: "id",
        term: |terms| terms.visits,
        since: Some("started"),
        first: None,
        goes: "dwell IS NOT NULL AND id < (SELECT max(id) FROM visit)
            AND (started + dwell < ?1 OR started IS NULL AND boot <> ?2 AND id < ?5)",
        guests: Some("met"),
    },
    Walk {
        table: "session",
        key: "id",
        term: |terms| terms.sessions,
        since: Some("started"),
        first: None,
        goes: "reason IS NOT NULL AND id < (SELECT max(id) FROM session)
            AND (coalesce(ended, started) < ?1 OR started IS NULL AND boot <> ?2 AND id < ?5)",
        guests: None,
    },
    Walk {
        table: "voucher_use",
        key: "session",
        term: |terms| terms.voucher_uses,
        since: Some("at"),
        first: None,
        goes: "session NOT IN (SELECT session FROM usage)
            AND (at < ?1 OR at IS NULL AND boot <> ?2 AND session < ?5)",
        guests: None,
    },
    Walk {
        table: "access_log",
        key: "id",
        term: |terms| terms.access_log,
        since: Some("at"),
        first: None,
        goes: "at < ?1 OR at IS NULL AND boot <> ?2 AND id < ?5",
        guests: Some("logged"),
    },
    Walk {
        table: "guest",
        key: "key",
        term: |_| Length(Duration::ZERO),
        since: None,
        first: None,
        goes: "NOT EXISTS (SELECT 1 FROM met WHERE met.guest = guest.key)",
        guests: None,
    },
    Walk {
        table: "identity",
        key: "guest",
        term: |_| Length(Duration::ZERO),
        since: None,
        first: None,
        goes: "NOT EXISTS (SELECT 1 FROM logged WHERE logged.guest = identity.guest)
            AND NOT EXISTS (SELECT 1 FROM guest WHERE guest.key = identity.guest)",
        guests: None,
    },
];

/// One walk through all tables.
#[derive(Debug)]
pub(super) struct Round {
    /// When it began, in wall time.
    began: i64,
    /// How many tables are done.
    done: usize,
    /// The key up to which the table is done.
    after: Value,
    /// Rows before this one go if nobody knows their time.
    younger: Option<i64>,
    /// Deleted since the database was settled last.
    deleted: usize,
}

/// How the writer goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pause {
    /// When there is more to do.
    pub(super) length: Duration,
    /// Whether to settle the database now.
    pub(super) settle: bool,
    /// A round is over.
    pub(super) over: bool,
}

impl Book {
    /// Deletes some of what has been kept for its time. A round begins once a day; without a trusted
    /// clock there is no telling, and nothing goes.
    pub(super) fn keep_terms(&mut self, now: BootTime) -> Result<Pause, StoreError> {
        let pause = |length| Ok(Pause { length, settle: false, over: false });
        // An error ends it: it begins again.
        let mut round = if let Some(round) = self.round.take() {
            round
        } else {
            let Some(wall) = self.boot.wall(int(now.0)) else { return pause(NO_CLOCK) };
            let last = meta(&self.connection, "terms_kept")?.unwrap_or(i64::MIN);
            // After a day, or if the clock was wrong, and is no more.
            if let since @ 0..DAY = wall.saturating_sub(last) {
                return pause(Duration::from_millis((DAY - since).unsigned_abs()));
            }
            self.begin_round(wall)?
        };
        self.begin()?;
        while clock::boot() < now + BUSY {
            if round.go_on(self)? {
                continue;
            }
            set_meta(&self.connection, "terms_kept", round.began)?;
            self.connection.execute_batch("DELETE FROM met; DELETE FROM logged;")?;
            return Ok(Pause { length: A_DAY, settle: true, over: true });
        }
        let settle = round.deleted >= SETTLE_ROWS;
        if settle {
            round.deleted = 0;
        }
        self.round = Some(round);
        Ok(Pause { length: FREE, settle, over: false })
    }

    fn begin_round(&mut self, now: i64) -> Result<Round, StoreError> {
        self.begin()?;
        self.connection.execute_batch(include_str!("retention.sql"))?;
        let first = Value::Integer(i64::MIN);
        Ok(Round { began: now, done: 0, after: first, younger: None, deleted: 0 })
    }
}

impl Round {
    /// Does one window; false if all tables are done.
    fn go_on(&mut self, book: &Book) -> Result<bool, StoreError> {
        let Some(walk) = WALKS.get(self.done) else { return Ok(false) };
        let Walk { table, key, since, .. } = walk;
        let border = self.began.saturating_sub(millis((walk.term)(&book.retention).0));
        let (none, today) = (Value::Null, Value::Integer(self.began / DAY));
        let mut values =
            [border.into(), book.boot.row.into(), self.after.clone(), none, Value::Null, today];
        values[3] = book.ask(
            &format!(
                "SELECT max({key}) FROM
                     (SELECT {key} FROM {table} WHERE {key} > ?3 ORDER BY {key} LIMIT 100)"
            ),
            &values,
        )?;
        if values[3] == Value::Null {
            (self.done, self.after) = (self.done + 1, Value::Integer(i64::MIN));
            self.younger = None;
            return Ok(true);
        }
        if let Some(since) = since {
            self.look_for_younger(book, walk, since, &values)?;
            values[4] = self.younger.into();
        }
        let window = format!("{table} NOT INDEXED WHERE {key} > ?3 AND {key} <= ?4");
        if let Some(first) = walk.first {
            book.execute(first, &values)?;
        }
        let goes = walk.goes;
        self.deleted += book.execute(&format!("DELETE FROM {window} AND ({goes})"), &values)?;
        if let Some(guests) = walk.guests {
            let named = format!(
                "INSERT OR IGNORE INTO {guests} SELECT guest FROM {window} AND guest NOT NULL"
            );
            book.execute(&named, &values)?;
        }
        let [_, _, _, to, ..] = values;
        self.after = to;
        Ok(true)
    }

    /// The first row of the window that is not past its term; before the table's first window any
    /// such row, if there is one among the newest.
    fn look_for_younger(
        &mut self,
        book: &Book,
        Walk { table, key, .. }: &Walk,
        since: &str,
        values: &[Value],
    ) -> Result<(), StoreError> {
        if self.after == Value::Integer(i64::MIN) {
            let newest = format!(
                "SELECT max({key}) FROM
                     (SELECT {key}, {since} FROM {table} ORDER BY {key} DESC LIMIT 1000)
                 WHERE {since} >= ?1"
            );
            self.younger = number(&book.ask(&newest, values)?);
        }
        let ahead = self.younger.zip(number(&self.after));
        if ahead.is_some_and(|(younger, after)| younger > after) {
            let first = format!(
                "SELECT min({key}) FROM {table} NOT INDEXED
                 WHERE {key} > ?3 AND {key} <= ?4 AND {since} >= ?1"
            );
            self.younger = number(&book.ask(&first, values)?).or(self.younger);
        }
        Ok(())
    }
}

impl Book {
    /// The one value of a query; of the values it takes the first that it has places for.
    fn ask(&self, sql: &str, values: &[Value]) -> Result<Value, StoreError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let places = statement.parameter_count();
        Ok(statement.query_row(params_from_iter(values.iter().take(places)), |row| row.get(0))?)
    }

    /// How many rows a statement changed; values as above.
    fn execute(&self, sql: &str, values: &[Value]) -> Result<usize, StoreError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let places = statement.parameter_count();
        Ok(statement.execute(params_from_iter(values.iter().take(places)))?)
    }
}

fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Integer(number) => Some(*number),
        _ => None,
    }
}
