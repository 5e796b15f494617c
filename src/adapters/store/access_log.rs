//! The access log, read for an inspection.

use rusqlite::params;
use serde::{Deserialize, Serialize};

use super::{Reader, StoreError, schema};
use crate::domain::auth::seal::Sealed;
use crate::domain::names::{GuestKey, Mac};

/// Rows of a page.
const PAGE: u32 = 5000;

/// A part of the access log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessPage {
    /// Its rows, oldest first.
    pub rows: Vec<AccessRow>,
    /// Whether there are more, behind the last row's `id`.
    pub more: bool,
}

/// One login or logout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessRow {
    /// Its number.
    pub id: i64,
    /// Wall milliseconds; `None` if the router never learnt the time, or nobody knows when it ended.
    pub at: Option<i64>,
    /// `start` or `end`.
    pub event: String,
    /// The session's number.
    pub session: i64,
    /// The device.
    pub mac: Mac,
    /// Its address.
    pub address: Option<String>,
    /// `guest`, `staff`, `trusted` or `preemptive`.
    pub identity: String,
    /// The guest's key.
    pub guest: Option<GuestKey>,
    /// The guest's number or account, for HQ alone.
    pub sealed: Option<Sealed>,
}

impl Reader {
    /// Rows from `from` up to `to` (wall milliseconds, without `to` itself) behind row `after`.
    /// One whose time nobody knows counts with its neighbours.
    pub fn access_log(&self, from: i64, to: i64, after: i64) -> Result<AccessPage, StoreError> {
        self.store.publish()?;
        let connection = schema::open_read_only(self.store.path())?;
        let mut select = connection.prepare(
            "SELECT l.id, l.at, l.event, l.session, l.mac, l.address, l.identity, l.guest,
                 coalesce(s.sealed, i.sealed)
             FROM access_log l LEFT JOIN guest g ON g.key = l.guest
                 LEFT JOIN seal s ON s.id = g.seal LEFT JOIN identity i ON i.guest = l.guest
             WHERE l.id > ?3 AND (l.at >= ?1 AND l.at < ?2 OR l.at IS NULL
                 AND l.id > (SELECT coalesce(max(id), 0) FROM access_log WHERE at < ?1)
                 AND l.id < (SELECT coalesce(min(id), l.id + 1) FROM access_log WHERE at >= ?2))
             ORDER BY l.id LIMIT ?4",
        )?;
        let rows = select.query_map(params![from, to, after, PAGE + 1], |row| {
            Ok(AccessRow {
                id: row.get(0)?,
                at: row.get(1)?,
                event: row.get(2)?,
                session: row.get(3)?,
                mac: Mac(row.get(4)?),
                address: row.get(5)?,
                identity: row.get(6)?,
                guest: row.get::<_, Option<_>>(7)?.map(GuestKey),
                sealed: row.get::<_, Option<_>>(8)?.map(Sealed),
            })
        })?;
        let mut rows = rows.collect::<Result<Vec<_>, _>>()?;
        let more = rows.len() > PAGE as usize;
        rows.truncate(PAGE as usize);
        Ok(AccessPage { rows, more })
    }
}
