//! Vouchers: batches as they were made, uses as they happen, and what is left of them at a start.

use std::time::Duration;

use rusqlite::types::Type;
use rusqlite::{OptionalExtension, params};

use super::StoreError;
use super::book::{Book, int, millis};
use crate::domain::auth::voucher::{
    Batch, HQ, Hash, Known, Salt, SavedBatch, VoucherId, Which, Worth,
};
use crate::domain::effect::Grant;
use crate::domain::names::{BootTime, SessionId, WallTime};

impl Book {
    /// Keeps a new batch.
    pub(super) fn vouchers_made(
        &self,
        batch: &Batch,
        salt: Option<Salt>,
        hashes: &[Hash],
        at: BootTime,
    ) -> Result<(), StoreError> {
        let (boot, at, worth) = (&self.boot, int(at.0), &batch.worth);
        self.run(
            "INSERT INTO voucher_batch
                 (id, zone, count, uses, length_ms, limits, expires, salt, boot, at_ms, at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            params![
                batch.id,
                worth.zone.map(|zone| self.zone_name(zone)),
                batch.count,
                worth.uses,
                millis(worth.length),
                serde_json::to_string(&worth.limits).unwrap_or_default(),
                worth.expires.map(|expires| expires.0),
                salt,
                boot.row,
                at,
                boot.wall(at)
            ],
        )?;
        for (hash, number) in hashes.iter().zip(1_u16..) {
            self.run(
                "INSERT INTO voucher (batch, number, hash) VALUES (?1, ?2, ?3)",
                params![batch.id, number, hash.as_slice()],
            )?;
        }
        Ok(())
    }

    /// Makes vouchers worth nothing.
    pub(super) fn vouchers_revoked(&self, which: Which) -> Result<(), StoreError> {
        self.run(
            "UPDATE voucher SET revoked = 1 WHERE batch = ?1 AND number = coalesce(?2, number)",
            params![which.batch, which.number],
        )
    }

    /// A session began by a voucher: keeps the use and the terms agreed to, and tells HQ.
    pub(super) fn voucher_used(
        &mut self,
        id: VoucherId,
        grant: &Grant,
        terms: &str,
        at: BootTime,
    ) -> Result<(), StoreError> {
        let at = int(at.0);
        self.run(
            "INSERT INTO voucher_use (session, batch, number, mac, terms, boot, at_ms, at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                int(grant.session.0),
                { id.batch },
                { id.number },
                grant.mac.0.as_slice(),
                terms,
                self.boot.row,
                at,
                self.boot.wall(at)
            ],
        )?;
        self.count_use(id, 1)?;
        self.outbox.put_voucher_use(&self.connection, &self.device_secret, grant.session)
    }

    /// A session came to nothing: if a voucher opened it, the use is there again.
    pub(super) fn voucher_returned(&self, session: SessionId) -> Result<(), StoreError> {
        let id = self
            .connection
            .prepare_cached("DELETE FROM voucher_use WHERE session = ?1 RETURNING batch, number")?
            .query_row([int(session.0)], |row| {
                Ok(VoucherId { batch: row.get(0)?, number: row.get(1)? })
            })
            .optional()?;
        id.map_or(Ok(()), |id| self.count_use(id, -1))
    }

    fn count_use(&self, id: VoucherId, change: i32) -> Result<(), StoreError> {
        self.run(
            "UPDATE voucher SET used = used + ?3 WHERE batch = ?1 AND number = ?2",
            params![{ id.batch }, { id.number }, change],
        )
    }

    /// The batches that are of use, and the number of the newest of the store's own that there
    /// ever was.
    pub(super) fn vouchers(&self) -> Result<(Vec<SavedBatch>, u32), StoreError> {
        let last: Option<u32> = self.connection.query_row(
            "SELECT max(id) FROM voucher_batch WHERE id < ?1",
            [HQ],
            |row| row.get(0),
        )?;
        let mut select = self.connection.prepare(
            "SELECT b.id, b.zone, b.count, b.uses, b.length_ms, b.limits, b.expires,
                 (SELECT sum(used) FROM voucher WHERE batch = b.id)
             FROM voucher_batch b
             WHERE EXISTS (SELECT 1 FROM voucher WHERE batch = b.id AND revoked = 0)",
        )?;
        let rows = select.query_map([], |row| {
            let limits: String = row.get(5)?;
            let limits = serde_json::from_str(&limits).map_err(|error| {
                rusqlite::Error::FromSqlConversionFailure(5, Type::Text, Box::new(error))
            })?;
            let worth = Worth {
                zone: None,
                uses: row.get(3)?,
                length: Duration::from_millis(u64::try_from(row.get::<_, i64>(4)?).unwrap_or(0)),
                limits,
                expires: row.get::<_, Option<i64>>(6)?.map(WallTime),
            };
            let batch = Batch { id: row.get(0)?, count: row.get(2)?, worth };
            Ok((batch, row.get::<_, Option<String>>(1)?, row.get(7)?))
        })?;
        let mut saved = Vec::new();
        for row in rows {
            let (mut batch, zone, used) = row?;
            batch.worth.zone = match zone.map(|name| self.zone_named(&name)) {
                // Good in a zone that is gone: nowhere.
                Some(None) => continue,
                Some(place) => place,
                None => None,
            };
            let vouchers = self.vouchers_left(&batch)?;
            saved.push(SavedBatch { batch, used, vouchers });
        }
        Ok((saved, last.unwrap_or(0)))
    }

    /// All batches that HQ ever sent.
    pub(super) fn batches_from_hq(&self) -> Result<Vec<(u32, Known)>, StoreError> {
        let mut select = self.connection.prepare(
            "SELECT id, salt, expires FROM voucher_batch WHERE id >= ?1 AND salt NOT NULL",
        )?;
        let rows = select.query_map([HQ], |row| {
            let expires = row.get::<_, Option<i64>>(2)?.map(WallTime);
            Ok((row.get(0)?, Known { salt: row.get(1)?, expires }))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Those with uses left, or with a use under way that may be given back.
    fn vouchers_left(&self, batch: &Batch) -> Result<Vec<(u16, Hash, u16)>, StoreError> {
        let mut select = self.connection.prepare_cached(
            "SELECT number, hash, max(?2 - used, 0) FROM voucher
             WHERE batch = ?1 AND revoked = 0 AND (used < ?2 OR number IN
                 (SELECT v.number FROM usage u JOIN voucher_use v ON v.session = u.session
                  WHERE v.batch = ?1))",
        )?;
        let rows = select.query_map(params![batch.id, batch.worth.uses], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
