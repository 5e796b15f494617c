//! Reads for the staff page and the commands, on connections of their own.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use rusqlite::{Connection, Row};

use super::book::meta;
use super::report::{BUCKET_MINUTES, DayReport, Present, Repeat};
use super::{Store, StoreError, schema};
use crate::domain::names::{GuestKey, Mac, WallTime};

/// Asks the database; every question opens a connection and closes it, so that an idle reader
/// costs no memory. Its methods wait for the writer and the disk: not for the loop.
#[derive(Clone, Debug)]
pub struct Reader {
    pub(super) store: Store,
}

/// How much there is, for `status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Visits, open ones included.
    pub visits: u64,
    /// Sessions, open ones included.
    pub sessions: u64,
    /// Rows that wait for HQ.
    pub outbox: u64,
    /// Bytes of the database.
    pub bytes: u64,
}

impl Reader {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    /// The report of the day that `now` falls on in time zone `tz`. Dwell in its figures runs to
    /// the last evidence, also of open visits.
    pub fn day_report(
        &self,
        now: WallTime,
        tz: &TimeZone,
        visitor_after: Duration,
    ) -> Result<DayReport, StoreError> {
        self.store.publish()?;
        let connection = schema::open_read_only(self.store.path())?;
        connection.execute_batch("BEGIN")?;
        let date = Timestamp::from_millisecond(now.0)?.to_zoned(tz.clone()).date();
        let hours = hours(date, tz)?;
        let rows = visits_around(&connection, &hours)?;
        let mut report = figures(&rows, &hours, now, visitor_after);
        report.alarm = meta(&connection, "alarm")?.is_some();
        report.present = present(&connection, now)?;
        Ok(report)
    }

    /// The guests whom staff see by a mask.
    pub fn masked(&self, mask: &str) -> Result<Vec<GuestKey>, StoreError> {
        self.store.publish()?;
        let connection = schema::open_read_only(self.store.path())?;
        let mut select = connection.prepare("SELECT key FROM guest WHERE mask = ?1")?;
        let guests = select.query_map([mask], |row| row.get(0).map(GuestKey))?;
        Ok(guests.collect::<Result<_, _>>()?)
    }

    /// Row counts and the database's size.
    pub fn size(&self) -> Result<Size, StoreError> {
        self.store.publish()?;
        let connection = schema::open_read_only(self.store.path())?;
        let count = |sql: &str| {
            let count: i64 = connection.query_row(sql, [], |row| row.get(0))?;
            Ok::<_, StoreError>(u64::try_from(count).unwrap_or(0))
        };
        Ok(Size {
            visits: count("SELECT count(*) FROM visit")?,
            sessions: count("SELECT count(*) FROM session")?,
            outbox: count("SELECT count(*) FROM outbox")?,
            bytes: count("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")?,
        })
    }
}

/// A visit, as far as figures need it. Times are wall milliseconds.
struct VisitRow {
    mac: Mac,
    guest: Option<GuestKey>,
    started: i64,
    dwell: u64,
    open: bool,
    device_nth: u32,
    guest_nth: u32,
}

/// The 25 borders of the day's hours; where a clock is set forward an hour is empty, where it is
/// set back one is two hours long.
fn hours(date: Date, tz: &TimeZone) -> Result<Vec<i64>, StoreError> {
    let mut borders = Vec::with_capacity(25);
    for hour in 0..24 {
        borders.push(date.at(hour, 0, 0, 0).to_zoned(tz.clone())?.timestamp().as_millisecond());
    }
    let midnight = date.tomorrow()?.at(0, 0, 0, 0).to_zoned(tz.clone())?;
    borders.push(midnight.timestamp().as_millisecond());
    Ok(borders)
}

/// Visits that began on the day or the one before it; who has stayed longer is still open, or
/// is not counted among the hours. CROSS JOIN keeps `SQLite` from walking all visits for the few
/// that are open.
fn visits_around(connection: &Connection, hours: &[i64]) -> Result<Vec<VisitRow>, StoreError> {
    let (Some(from), Some(to)) = (hours.first(), hours.last()) else { return Ok(Vec::new()) };
    let mut statement = connection.prepare(
        "SELECT v.mac, v.guest, v.started, coalesce(v.dwell, p.dwell, 0), p.visit IS NOT NULL,
             v.device_nth, v.guest_nth
         FROM visit v LEFT JOIN presence p ON p.visit = v.id
         WHERE v.started >= ?1 AND v.started < ?2
         UNION ALL
         SELECT v.mac, v.guest, v.started, p.dwell, 1, v.device_nth, v.guest_nth
         FROM presence p CROSS JOIN visit v ON v.id = p.visit WHERE v.started < ?1",
    )?;
    let rows = statement.query_map([from - 86_400_000, *to], |row| {
        Ok(VisitRow {
            mac: Mac(row.get(0)?),
            guest: row.get::<_, Option<_>>(1)?.map(GuestKey),
            started: row.get(2)?,
            dwell: u64::try_from(row.get::<_, i64>(3)?).unwrap_or(0),
            open: row.get(4)?,
            device_nth: row.get(5)?,
            guest_nth: row.get::<_, Option<_>>(6)?.unwrap_or(0),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn figures(rows: &[VisitRow], hours: &[i64], now: WallTime, visitor_after: Duration) -> DayReport {
    let mut report = DayReport::default();
    let mut dwells = Vec::new();
    // The highest ordinal of each guest, of each device, and whether the device had a guest.
    let mut guests: BTreeMap<GuestKey, u32> = BTreeMap::new();
    let mut devices: BTreeMap<Mac, (u32, bool)> = BTreeMap::new();
    for row in rows {
        count_hours(row, hours, now, &mut report.by_hour);
        if hours.first().is_some_and(|from| row.started < *from) {
            continue;
        }
        dwells.push(row.dwell);
        if let Some(guest) = row.guest {
            let nth = guests.entry(guest).or_default();
            *nth = row.guest_nth.max(*nth);
        }
        let (nth, known) = devices.entry(row.mac).or_default();
        *nth = row.device_nth.max(*nth);
        *known |= row.guest.is_some();
    }
    dwell_figures(&mut report, dwells, visitor_after);
    for nth in guests.values() {
        count(&mut report.guests, *nth);
    }
    for (nth, _) in devices.values().filter(|(_, known)| !known) {
        count(&mut report.devices, *nth);
    }
    let randomised = devices.keys().filter(|mac| mac.is_randomised()).count();
    report.randomised_percent = (randomised * 200 + devices.len())
        .checked_div(devices.len() * 2)
        .and_then(|percent| u8::try_from(percent).ok());
    report
}

fn dwell_figures(report: &mut DayReport, mut dwells: Vec<u64>, visitor_after: Duration) {
    dwells.sort_unstable();
    let middle = dwells.len() / 2;
    report.median = dwells.get(middle).map(|upper| {
        let lower = if dwells.len().is_multiple_of(2) { dwells[middle - 1] } else { *upper };
        Duration::from_millis(lower.midpoint(*upper))
    });
    let sum: u64 = dwells.iter().sum();
    report.mean = sum.checked_div(dwells.len() as u64).map(Duration::from_millis);
    for dwell in dwells {
        report.visits += 1;
        report.visitors += u32::from(Duration::from_millis(dwell) >= visitor_after);
        let bucket = BUCKET_MINUTES.iter().filter(|minutes| dwell >= **minutes * 60_000).count();
        report.buckets[bucket] += 1;
    }
}

/// An open visit lasts until now; a closed one until its last evidence.
fn count_hours(row: &VisitRow, hours: &[i64], now: WallTime, by_hour: &mut [u32; 24]) {
    let dwell = i64::try_from(row.dwell).unwrap_or(i64::MAX);
    let end = if row.open { now.0 } else { row.started.saturating_add(dwell) };
    for (borders, visits) in hours.windows(2).zip(by_hour) {
        let [from, to] = [borders[0], borders[1]];
        *visits += u32::from(from < to && row.started < to && end >= from && from <= now.0);
    }
}

fn count(repeat: &mut Repeat, nth: u32) {
    repeat.all += 1;
    repeat.again += u32::from(nth > 1);
}

fn present(connection: &Connection, now: WallTime) -> Result<Vec<Present>, StoreError> {
    let mut statement = connection.prepare(
        "SELECT v.mac, d.hostname, g.mask, v.started, p.dwell, coalesce(v.guest_nth, v.device_nth)
         FROM presence p CROSS JOIN visit v ON v.id = p.visit
             LEFT JOIN device d ON d.mac = v.mac LEFT JOIN guest g ON g.key = v.guest",
    )?;
    let read = |row: &Row<'_>| {
        let since = row.get::<_, Option<i64>>(3)?.map(WallTime);
        let seen = u64::try_from(row.get::<_, i64>(4)?).unwrap_or(0);
        let so_far = since.map_or(Duration::ZERO, |since| now - since);
        Ok(Present {
            mac: Mac(row.get(0)?),
            hostname: row.get(1)?,
            mask: row.get(2)?,
            since,
            dwell: so_far.max(Duration::from_millis(seen)),
            visits: row.get(5)?,
        })
    };
    let mut present = statement.query_map([], read)?.collect::<Result<Vec<_>, _>>()?;
    present.sort_by_key(|row| (std::cmp::Reverse(row.dwell), row.mac));
    Ok(present)
}
