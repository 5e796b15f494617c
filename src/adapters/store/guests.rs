//! All that is kept of one guest.

use rusqlite::{Connection, OptionalExtension, Row};
use serde::Serialize;

use super::{Reader, StoreError, schema};
use crate::domain::names::{GuestKey, Mac};

/// A guest's sealed name, or NULL.
pub(super) const SEALED: &str =
    "SELECT coalesce((SELECT sealed FROM guest JOIN seal ON id = seal WHERE key = ?1),
         (SELECT sealed FROM identity WHERE guest = ?1))";

/// What the record has of a guest; times are as of RFC 3339, `None` where they are not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GuestFile {
    /// What staff may see of the number or account.
    pub mask: Option<String>,
    /// The number or account, sealed to HQ, in base64.
    pub sealed: Option<String>,
    /// What they agreed to.
    pub consents: Vec<FiledConsent>,
    /// Their devices.
    pub devices: Vec<FiledDevice>,
    /// Their visits.
    pub visits: Vec<FiledVisit>,
    /// Their sessions.
    pub sessions: Vec<FiledSession>,
    /// Their entries in the access log, which the law keeps.
    pub access_log: u32,
}

/// An agreement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FiledConsent {
    /// When.
    pub at: Option<String>,
    /// Version of the terms.
    pub terms: String,
    /// To marketing as well.
    pub marketing: bool,
    /// How the identity was proved.
    pub method: String,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FiledDevice {
    /// Its address.
    pub mac: Mac,
    /// The name it gave.
    pub hostname: Option<String>,
    /// When the guest last proved an identity on it.
    pub verified: Option<String>,
}

/// A visit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FiledVisit {
    /// When it began.
    pub started: Option<String>,
    /// Its length in milliseconds; `None` while it goes on.
    pub dwell_ms: Option<i64>,
    /// Where.
    pub zone: String,
    /// With which device.
    pub mac: Mac,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FiledSession {
    /// When it began.
    pub started: Option<String>,
    /// When it ended.
    pub ended: Option<String>,
    /// With which device.
    pub mac: Mac,
    /// The device's address.
    pub address: Option<String>,
    /// Bytes up.
    pub up: i64,
    /// Bytes down.
    pub down: i64,
}

impl GuestFile {
    /// Whether nothing is kept but the access log.
    pub fn is_empty(&self) -> bool {
        let Self { mask, consents, devices, visits, sessions, .. } = self;
        mask.is_none()
            && consents.is_empty()
            && devices.is_empty()
            && visits.is_empty()
            && sessions.is_empty()
    }
}

impl Reader {
    /// All that is kept of a guest.
    pub fn guest(&self, guest: GuestKey) -> Result<GuestFile, StoreError> {
        self.store.publish()?;
        let connection = schema::open_read_only(self.store.path())?;
        connection.execute_batch("BEGIN")?;
        let (db, key) = (&connection, guest.0.as_slice());
        let one = |sql: &str| db.query_row(sql, [key], |row| row.get(0)).optional();
        let sealed: Option<Vec<u8>> = db.query_row(SEALED, [key], |row| row.get(0))?;
        let consents =
            "SELECT at, terms, marketing, method FROM consent WHERE guest = ?1 ORDER BY id";
        let devices = "SELECT mac, hostname, verified FROM device WHERE guest = ?1 ORDER BY mac";
        let visits = "SELECT started, dwell, zone, mac FROM visit WHERE guest = ?1 ORDER BY id";
        let sessions = "SELECT s.started, s.ended, s.mac, s.address, coalesce(u.up, s.up),
                            coalesce(u.down, s.down)
                        FROM session s LEFT JOIN usage u ON u.session = s.id
                        WHERE s.guest = ?1 ORDER BY s.id";
        Ok(GuestFile {
            mask: one("SELECT mask FROM guest WHERE key = ?1")?,
            sealed: sealed.map(|sealed| data_encoding::BASE64.encode(&sealed)),
            consents: all(db, consents, key, |row| {
                let (at, terms) = (moment(row, 0)?, row.get(1)?);
                Ok(FiledConsent { at, terms, marketing: row.get(2)?, method: row.get(3)? })
            })?,
            devices: all(db, devices, key, |row| {
                let (mac, hostname) = (Mac(row.get(0)?), row.get(1)?);
                Ok(FiledDevice { mac, hostname, verified: moment(row, 2)? })
            })?,
            visits: all(db, visits, key, |row| {
                let (started, dwell_ms) = (moment(row, 0)?, row.get(1)?);
                Ok(FiledVisit { started, dwell_ms, zone: row.get(2)?, mac: Mac(row.get(3)?) })
            })?,
            sessions: all(db, sessions, key, |row| {
                Ok(FiledSession {
                    started: moment(row, 0)?,
                    ended: moment(row, 1)?,
                    mac: Mac(row.get(2)?),
                    address: row.get(3)?,
                    up: row.get(4)?,
                    down: row.get(5)?,
                })
            })?,
            access_log: db.query_row(
                "SELECT count(*) FROM access_log WHERE guest = ?1",
                [key],
                |row| row.get(0),
            )?,
        })
    }
}

fn moment(row: &Row<'_>, place: usize) -> rusqlite::Result<Option<String>> {
    let at: Option<i64> = row.get(place)?;
    let time = at.and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
    Ok(time.map(|time| time.to_string()))
}

fn all<T>(
    connection: &Connection,
    sql: &str,
    key: &[u8],
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, StoreError> {
    Ok(connection.prepare(sql)?.query_map([key], read)?.collect::<Result<_, _>>()?)
}
