//! What the domain is told of the time before this start.

use std::time::Duration;

use rusqlite::types::Type;
use rusqlite::{Row, params};

use super::StoreError;
use super::book::{Book, int};
use crate::domain::auth::voucher::VoucherId;
use crate::domain::effect::{Attempt, EndReason, Grant};
use crate::domain::names::{
    BootTime, GuestKey, Mac, Mark, Now, SessionId, VisitId, WallTime, ZoneId,
};
use crate::domain::policy::{Identity, Limits};
use crate::domain::saved::{
    SavedAttempt, SavedDevice, SavedGuest, SavedMessage, SavedSession, SavedVisit, Snapshot,
};

/// Devices beyond the newest so many are not worth the memory.
const DEVICES: u32 = 10_000;

/// Reads the snapshot; sessions and visits of zones that are gone are closed first.
pub(super) fn read(book: &mut Book, now: Now) -> Result<Snapshot, StoreError> {
    // The alarm is judged anew, by what this run sends.
    book.run("DELETE FROM meta WHERE name = 'alarm'", [])?;
    let sessions = sessions(book, now)?;
    let visits = visits(book)?;
    let (vouchers, last_batch) = book.vouchers()?;
    Ok(Snapshot {
        next_session: next(book, "SELECT coalesce(max(id), 0) + 1 FROM session")?,
        next_visit: next(book, "SELECT coalesce(max(id), 0) + 1 FROM visit")?,
        sessions,
        visits,
        guests: guests(book)?,
        used_tokens: used_tokens(book)?,
        devices: devices(book)?,
        messages: messages(book, now)?,
        attempts: attempts(book, now)?,
        vouchers,
        last_batch,
        batches_from_hq: book.batches_from_hq()?,
    })
}

fn sessions(book: &mut Book, now: Now) -> Result<Vec<SavedSession>, StoreError> {
    carry_over(book, now)?;
    let rows = collect(
        book,
        "SELECT s.id, s.zone, s.mac, s.mark, s.limits, u.up, u.down, u.ends_ms,
             s.identity, s.guest, s.boot, s.started_ms, v.batch, v.number, u.extended
         FROM usage u CROSS JOIN session s ON s.id = u.session
             LEFT JOIN voucher_use v ON v.session = s.id
         ORDER BY u.session",
        |row| {
            let zone = book.zone_named(row.get_ref(1)?.as_str()?);
            let ends = row.get::<_, Option<i64>>(7)?;
            let ends = ends.map(|ends| BootTime(u64::try_from(ends).unwrap_or(0)));
            let grant = Grant {
                session: SessionId(natural(row, 0)?),
                zone: zone.unwrap_or(ZoneId(0)),
                mac: Mac(row.get(2)?),
                mark: Mark(row.get(3)?),
                left: ends.map(|ends| ends - now.boot),
                limits: limits(row, 4)?,
                used_up: natural(row, 5)?,
                used_down: natural(row, 6)?,
            };
            let this_boot = row.get::<_, i64>(10)? == book.boot.row;
            let started = this_boot.then_some(BootTime(natural(row, 11)?));
            let (identity, extended) = (identity(row)?, row.get(14)?);
            Ok((zone.is_some(), SavedSession { grant, identity, started, extended }))
        },
    )?;
    let mut kept = Vec::with_capacity(rows.len());
    for (has_zone, saved) in rows {
        if has_zone {
            kept.push(saved);
        } else {
            let used = (saved.grant.used_up, saved.grant.used_down);
            book.session_ended(saved.grant.session, EndReason::Left, used, None)?;
        }
    }
    Ok(kept)
}

/// Sessions of earlier boots go on in this one. Time left: by wall time where both boots know it,
/// and never more than when the earlier boot was last alive.
fn carry_over(book: &Book, now: Now) -> Result<(), StoreError> {
    book.run(
        "UPDATE usage SET boot = ?1, ends_ms = ?2 + max(0, min(
             ends_ms - b.alive_ms, coalesce(ends_ms + b.offset - ?3, ends_ms - b.alive_ms)))
         FROM boot b WHERE b.id = usage.boot AND b.id <> ?1",
        params![book.boot.row, int(now.boot.0), now.wall.map(|wall| wall.0)],
    )
}

fn visits(book: &mut Book) -> Result<Vec<SavedVisit>, StoreError> {
    let this_boot = book.boot.row;
    let rows = collect(
        book,
        "SELECT v.id, v.zone, v.mac, p.boot, p.last_ms, p.dwell, p.carried
         FROM presence p CROSS JOIN visit v ON v.id = p.visit ORDER BY p.visit",
        |row| {
            let (last, dwell, carried) = (natural(row, 4)?, natural(row, 5)?, natural(row, 6)?);
            let same_boot = row.get::<_, i64>(3)? == this_boot;
            let first = last.saturating_sub(dwell.saturating_sub(carried));
            let visit = SavedVisit {
                visit: VisitId(natural(row, 0)?),
                zone: ZoneId(0),
                mac: Mac(row.get(2)?),
                carried: Duration::from_millis(if same_boot { carried } else { dwell }),
                seen: same_boot.then_some((BootTime(first), BootTime(last))),
            };
            Ok((row.get::<_, String>(1)?, visit, Duration::from_millis(dwell)))
        },
    )?;
    let mut kept = Vec::with_capacity(rows.len());
    for (zone, visit, dwell) in rows {
        match book.zone_named(&zone) {
            Some(zone) => kept.push(SavedVisit { zone, ..visit }),
            None => book.visit_closed(visit.visit, dwell)?,
        }
    }
    Ok(kept)
}

fn guests(book: &Book) -> Result<Vec<SavedGuest>, StoreError> {
    collect(
        book,
        "SELECT d.mac, d.guest, coalesce(g.mask, ''), d.verified
         FROM device d LEFT JOIN guest g ON g.key = d.guest
         WHERE d.guest IS NOT NULL ORDER BY d.seen DESC LIMIT ?1",
        |row| {
            Ok(SavedGuest {
                mac: Mac(row.get(0)?),
                guest: GuestKey(row.get(1)?),
                mask: row.get(2)?,
                verified: row.get::<_, Option<i64>>(3)?.map(WallTime),
            })
        },
    )
}

fn devices(book: &Book) -> Result<Vec<SavedDevice>, StoreError> {
    let rows = collect(
        book,
        "SELECT mac, zone, hostname FROM device ORDER BY seen DESC LIMIT ?1",
        |row| {
            let device =
                SavedDevice { mac: Mac(row.get(0)?), zone: ZoneId(0), hostname: row.get(2)? };
            Ok((row.get::<_, String>(1)?, device))
        },
    )?;
    let known = |(zone, device): (String, SavedDevice)| {
        Some(SavedDevice { zone: book.zone_named(&zone)?, ..device })
    };
    Ok(rows.into_iter().filter_map(known).collect())
}

fn used_tokens(book: &Book) -> Result<Vec<([u8; 16], WallTime)>, StoreError> {
    collect(book, "SELECT nonce, expires FROM used_token", |row| {
        Ok((row.get(0)?, WallTime(row.get(1)?)))
    })
}

/// Messages of the last day. One of a boot that never knew the time counts as sent just now, and
/// is kept as such: the next start must not take it for new again.
fn messages(book: &Book, now: Now) -> Result<Vec<SavedMessage>, StoreError> {
    book.run(
        "UPDATE message SET boot = ?1, at_ms = ?2 WHERE boot <> ?1 AND at IS NULL",
        params![book.boot.row, int(now.boot.0)],
    )?;
    let mut sent = collect(
        book,
        "SELECT boot, at_ms, at, mac, number, prefix, zone FROM message ORDER BY id",
        |row| {
            Ok(SavedMessage {
                mac: Mac(row.get(3)?),
                number: GuestKey(row.get(4)?),
                prefix: GuestKey(row.get(5)?),
                zone: book.zone_named(&row.get::<_, String>(6)?),
                age: age(row, book, now)?,
            })
        },
    )?;
    sent.sort_by_key(|message| std::cmp::Reverse(message.age));
    Ok(sent)
}

/// Wrong vouchers and passes that count, as messages do.
fn attempts(book: &Book, now: Now) -> Result<Vec<SavedAttempt>, StoreError> {
    book.run(
        "UPDATE attempt SET boot = ?1, at_ms = ?2 WHERE boot <> ?1 AND at IS NULL",
        params![book.boot.row, int(now.boot.0)],
    )?;
    let mut made =
        collect(book, "SELECT boot, at_ms, at, mac, pass FROM attempt ORDER BY id", |row| {
            let attempt = if row.get(4)? { Attempt::Pass } else { Attempt::WrongVoucher };
            Ok(SavedAttempt { attempt, mac: Mac(row.get(3)?), age: age(row, book, now)? })
        })?;
    made.sort_by_key(|made| std::cmp::Reverse(made.age));
    Ok(made)
}

/// How long ago a row is of, whose first columns are boot row, that boot's clock, and wall time.
fn age(row: &Row<'_>, book: &Book, now: Now) -> rusqlite::Result<Duration> {
    let age = match (row.get::<_, i64>(0)? == book.boot.row, row.get::<_, Option<i64>>(2)?) {
        (true, _) => int(now.boot.0) - row.get::<_, i64>(1)?,
        (false, Some(at)) => now.wall.map_or(0, |wall| wall.0 - at),
        (false, None) => 0,
    };
    Ok(Duration::from_millis(u64::try_from(age).unwrap_or(0)))
}

/// All rows of a query; `?1`, where it stands, is [`DEVICES`].
fn collect<T>(
    book: &Book,
    sql: &str,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = book.connection.prepare(sql)?;
    let rows: rusqlite::Result<Vec<T>> = match statement.parameter_count() {
        0 => statement.query_map([], read)?.collect(),
        _ => statement.query_map(params![DEVICES], read)?.collect(),
    };
    rows.map_err(StoreError::Sql)
}

fn next(book: &Book, sql: &str) -> Result<u64, StoreError> {
    Ok(book.connection.query_row(sql, [], |row| natural(row, 0))?)
}

fn natural(row: &Row<'_>, place: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(place)?;
    u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(place, number))
}

fn limits(row: &Row<'_>, place: usize) -> rusqlite::Result<Limits> {
    serde_json::from_str(row.get_ref(place)?.as_str()?).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(place, Type::Text, Box::new(error))
    })
}

fn identity(row: &Row<'_>) -> rusqlite::Result<Identity> {
    Ok(match (row.get_ref(8)?.as_str()?, row.get(9)?) {
        ("guest", Some(key)) => Identity::Guest(GuestKey(key)),
        ("guest", None) => Identity::Guest(GuestKey::NOBODY),
        ("trusted", _) => Identity::Trusted,
        ("preemptive", _) => Identity::Preemptive,
        ("voucher", _) => Identity::Voucher(VoucherId {
            batch: row.get::<_, Option<_>>(12)?.unwrap_or(0),
            number: row.get::<_, Option<_>>(13)?.unwrap_or(0),
        }),
        _ => Identity::Staff,
    })
}
