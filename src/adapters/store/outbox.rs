//! What HQ has not acknowledged: one JSON object a row, numbered, of every closed visit and
//! session and every use of a voucher. No MAC leaves the store: HQ gets a keyed hash of it.

use rusqlite::{Connection, params};
use serde_json::{Map, Value};

use super::StoreError;
use super::book::{Boot, int, meta, set_meta};
use super::outgoing::Outgoing;
use crate::config::Retention;
use crate::domain::auth::voucher::HQ;
use crate::domain::names::{GuestKey, SessionId, VisitId};

/// What the outbox may hold before the oldest rows are dropped, anonymous ones first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cap {
    /// Rows.
    pub(super) rows: i64,
    /// Bytes of their JSON.
    pub(super) bytes: i64,
}

impl Cap {
    pub(super) fn of(retention: &Retention) -> Self {
        Self { rows: retention.outbox_rows.into(), bytes: int(retention.outbox_bytes.0) }
    }
}

/// Rows of the outbox, as they go to HQ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Names this database: sequence numbers count within it.
    pub stream: String,
    /// Sequence number of the first row.
    pub first: i64,
    /// Sequence number of the last row.
    pub last: i64,
    /// The rows' numbers; some between may have been dropped at the cap.
    pub seqs: Vec<i64>,
    /// The rows, each a line of JSON with its `seq`.
    pub ndjson: Vec<u8>,
}

/// The table's size and state, kept beside it so that nobody has to count.
#[derive(Clone, Debug)]
pub(super) struct Outbox {
    pub(super) cap: Cap,
    pub(super) rows: i64,
    bytes: i64,
    /// Rows up to here are in a batch that may have reached HQ: it must stay as it was.
    pub(super) cut: i64,
    /// Rows lost at the cap.
    pub(super) dropped: i64,
    stream: i64,
}

impl Outbox {
    pub(super) fn read(connection: &Connection, cap: Cap) -> Result<Self, StoreError> {
        let number = |name| Ok::<_, StoreError>(meta(connection, name)?.unwrap_or(0));
        let stream = match number("stream")? {
            0 => {
                let fresh = fresh_stream()?;
                set_meta(connection, "stream", fresh)?;
                fresh
            }
            known => known,
        };
        Ok(Self {
            cap,
            rows: number("outbox_rows")?,
            bytes: number("outbox_bytes")?,
            cut: number("outbox_cut")?,
            dropped: number("outbox_dropped")?,
            stream,
        })
    }

    pub(super) fn write(&self, connection: &Connection) -> Result<(), StoreError> {
        set_meta(connection, "outbox_rows", self.rows)?;
        set_meta(connection, "outbox_bytes", self.bytes)?;
        set_meta(connection, "outbox_cut", self.cut)?;
        set_meta(connection, "outbox_dropped", self.dropped)
    }

    /// Puts in a closed visit.
    pub(super) fn put_visit(
        &mut self,
        connection: &Connection,
        secret: &[u8; 32],
        visit: VisitId,
    ) -> Result<(), StoreError> {
        let row = connection
            .prepare_cached(
                "SELECT v.id, v.zone, v.mac, v.guest, v.started_ms, v.started, b.id, b.uuid,
                     v.dwell
                 FROM visit v JOIN boot b ON b.id = v.boot WHERE v.id = ?1",
            )?
            .query_row([int(visit.0)], |row| {
                let mut outgoing = Outgoing::read("visit", row, secret)?;
                outgoing.set("dwell_ms", row.get::<_, i64>(8)?);
                Ok(outgoing)
            })?;
        self.put(connection, row)
    }

    /// Puts in an ended session.
    pub(super) fn put_session(
        &mut self,
        connection: &Connection,
        secret: &[u8; 32],
        session: SessionId,
    ) -> Result<(), StoreError> {
        let row = connection
            .prepare_cached(
                "SELECT s.id, s.zone, s.mac, s.guest, s.started_ms, s.started, b.id, b.uuid,
                     s.identity, s.method, s.reason, s.up, s.down,
                     iif(s.boot = s.ended_boot, s.ended_ms - s.started_ms, s.ended - s.started)
                 FROM session s JOIN boot b ON b.id = s.boot WHERE s.id = ?1",
            )?
            .query_row([int(session.0)], |row| {
                let mut outgoing = Outgoing::read("session", row, secret)?;
                for (place, name) in [(8, "identity"), (9, "method"), (10, "reason")] {
                    outgoing.set(name, row.get::<_, String>(place)?);
                }
                for (place, name) in [(11, "up"), (12, "down"), (13, "length_ms")] {
                    outgoing.set(name, row.get::<_, Option<i64>>(place)?);
                }
                Ok(outgoing)
            })?;
        self.put(connection, row)
    }

    /// Puts in a use of a voucher.
    pub(super) fn put_voucher_use(
        &mut self,
        connection: &Connection,
        secret: &[u8; 32],
        session: SessionId,
    ) -> Result<(), StoreError> {
        let row = connection
            .prepare_cached(
                "SELECT s.id, s.zone, s.mac, s.guest, s.started_ms, s.started, b.id, b.uuid,
                     v.batch, v.number, v.terms
                 FROM voucher_use v JOIN session s ON s.id = v.session
                     JOIN boot b ON b.id = s.boot
                 WHERE v.session = ?1",
            )?
            .query_row([int(session.0)], |row| {
                let mut outgoing = Outgoing::read("voucher", row, secret)?;
                let batch: u32 = row.get(8)?;
                outgoing.set("batch", batch & !HQ);
                outgoing.set("hq", batch >= HQ);
                outgoing.set("number", row.get::<_, i64>(9)?);
                outgoing.set("terms", row.get::<_, String>(10)?);
                Ok(outgoing)
            })?;
        self.put(connection, row)
    }

    /// Wall time became known: fills it into rows of this boot that wait for it.
    pub(super) fn place(&mut self, connection: &Connection, boot: &Boot) -> Result<(), StoreError> {
        let mut waiting = connection
            .prepare_cached("SELECT seq, body FROM outbox WHERE unplaced = ?1 AND seq > ?2")?;
        let rows = waiting
            .query_map([boot.row, self.cut], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<Vec<(i64, String)>, _>>()?;
        for (seq, body) in rows {
            let Ok(mut object) = serde_json::from_str::<Map<String, Value>>(&body) else {
                continue;
            };
            let started = object.remove("boot_ms").as_ref().and_then(Value::as_i64);
            object.remove("boot");
            object.insert("started".into(), started.and_then(|at| boot.wall(at)).into());
            let placed = Value::Object(object).to_string();
            self.bytes += length(&placed) - length(&body);
            connection
                .prepare_cached("UPDATE outbox SET body = ?2, unplaced = NULL WHERE seq = ?1")?
                .execute(params![seq, placed])?;
        }
        Ok(())
    }

    /// The rows that are to go next, at most `most`; the same ones again as long as a batch is cut.
    pub(super) fn next(
        &self,
        connection: &Connection,
        most: u32,
    ) -> Result<Option<Batch>, StoreError> {
        let first: Option<i64> =
            connection.query_row("SELECT min(seq) FROM outbox", [], |row| row.get(0))?;
        let is_cut = first.is_some_and(|first| first <= self.cut);
        let (until, most) = if is_cut { (self.cut, -1) } else { (i64::MAX, i64::from(most)) };
        let mut select = connection
            .prepare_cached("SELECT seq, body FROM outbox WHERE seq <= ?1 ORDER BY seq LIMIT ?2")?;
        let mut rows = select.query([until, most])?;
        let mut batch = Batch {
            stream: format!("{:016x}", self.stream),
            first: 0,
            last: 0,
            seqs: Vec::new(),
            ndjson: Vec::new(),
        };
        while let Some(row) = rows.next()? {
            let (seq, body): (i64, String) = (row.get(0)?, row.get(1)?);
            batch.seqs.push(seq);
            let inner = body.strip_prefix('{').unwrap_or(&body);
            batch.ndjson.extend(format!("{{\"seq\":{seq},{inner}\n").into_bytes());
        }
        let (Some(first), Some(last)) = (batch.seqs.first(), batch.seqs.last()) else {
            return Ok(None);
        };
        (batch.first, batch.last) = (*first, *last);
        Ok(Some(batch))
    }

    /// Puts in something that happened to nobody's device.
    pub(super) fn put_event(
        &mut self,
        connection: &Connection,
        kind: &str,
        (boot, at_ms): (&Boot, i64),
        values: Map<String, Value>,
    ) -> Result<(), StoreError> {
        let uuid = connection
            .prepare_cached("SELECT uuid FROM boot WHERE id = ?1")?
            .query_row([boot.row], |row| row.get::<_, String>(0))?;
        let started = boot.wall(at_ms);
        let mut row =
            Outgoing { anonymous: !values.contains_key("guest"), unplaced: None, body: values };
        row.head(kind, started, (boot.row, &uuid, at_ms));
        self.put(connection, row)
    }

    /// Takes a guest out of the rows that have not been sent; what they agreed to goes whole.
    pub(super) fn erase(
        &mut self,
        connection: &Connection,
        guest: GuestKey,
    ) -> Result<(), StoreError> {
        self.delete_named(connection, guest)?;
        let named = format!("\"guest\":\"{guest}\"");
        let rows = connection
            .prepare_cached("SELECT seq, body FROM outbox WHERE seq > ?1 AND instr(body, ?2) > 0")?
            .query_map(params![self.cut, named], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<Vec<(i64, String)>, _>>()?;
        for (seq, body) in rows {
            let nobodys = body.replace(&named, "\"guest\":null");
            self.bytes += length(&nobodys) - length(&body);
            connection
                .prepare_cached("UPDATE outbox SET body = ?2, anonymous = 1 WHERE seq = ?1")?
                .execute(params![seq, nobodys])?;
        }
        Ok(())
    }

    /// Deletes what of a guest has nobody's form: consents and an earlier word of erasure.
    fn delete_named(&mut self, connection: &Connection, guest: GuestKey) -> Result<(), StoreError> {
        let mut lengths = connection.prepare_cached(
            r#"DELETE FROM outbox WHERE seq > ?1 AND instr(body, ?2) > 0
                 AND (instr(body, '"type":"consent"') > 0 OR instr(body, '"type":"erased"') > 0)
               RETURNING length(CAST(body AS BLOB))"#,
        )?;
        let named = format!("\"guest\":\"{guest}\"");
        let mut rows = lengths.query(params![self.cut, named])?;
        while let Some(row) = rows.next()? {
            self.rows -= 1;
            self.bytes -= row.get::<_, i64>(0)?;
        }
        Ok(())
    }

    /// HQ has the rows up to `last`.
    pub(super) fn forget(&mut self, connection: &Connection, last: i64) -> Result<(), StoreError> {
        self.delete(
            connection,
            "DELETE FROM outbox WHERE seq <= ?1 RETURNING length(CAST(body AS BLOB))",
            // Whatever HQ says: a row that was never sent stays.
            last.min(self.cut),
        )?;
        Ok(())
    }

    /// Drops the oldest rows beyond the cap, anonymous ones first, and says how many.
    pub(super) fn keep_within_cap(&mut self, connection: &Connection) -> Result<(), StoreError> {
        let before = self.dropped;
        while self.rows > self.cap.rows || self.bytes > self.cap.bytes {
            // A hundredth more than needed, so that it is not done again for every row.
            let surplus = (self.rows - self.cap.rows).max(0) + self.cap.rows / 100 + 1;
            let mut dropped = 0;
            for choice in ["anonymous = 1", "TRUE"] {
                if dropped == 0 {
                    let sql = format!(
                        "DELETE FROM outbox WHERE seq IN (SELECT seq FROM outbox
                             WHERE {choice} AND seq > {} ORDER BY seq LIMIT ?1)
                         RETURNING length(CAST(body AS BLOB))",
                        self.cut
                    );
                    dropped = self.delete(connection, &sql, surplus)?;
                }
            }
            if dropped == 0 {
                break;
            }
            self.dropped += dropped;
        }
        if self.dropped > before {
            let (rows, in_all) = (self.dropped - before, self.dropped);
            tracing::error!(rows, in_all, "HQ is too far behind: the oldest rows are lost");
        }
        Ok(())
    }

    fn put(&mut self, connection: &Connection, row: Outgoing) -> Result<(), StoreError> {
        let body = Value::Object(row.body).to_string();
        connection
            .prepare_cached("INSERT INTO outbox (anonymous, unplaced, body) VALUES (?1, ?2, ?3)")?
            .execute(params![row.anonymous, row.unplaced, body])?;
        self.rows += 1;
        self.bytes += length(&body);
        Ok(())
    }

    /// Runs a DELETE that returns its rows' lengths, and counts them off.
    fn delete(
        &mut self,
        connection: &Connection,
        sql: &str,
        value: i64,
    ) -> Result<i64, StoreError> {
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query([value])?;
        let mut count = 0;
        while let Some(row) = rows.next()? {
            count += 1;
            self.bytes -= row.get::<_, i64>(0)?;
        }
        self.rows -= count;
        Ok(count)
    }
}

fn fresh_stream() -> Result<i64, StoreError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|_| StoreError::Files(std::io::ErrorKind::Other.into()))?;
    Ok(i64::from_le_bytes(bytes) >> 1 & i64::MAX | 1)
}

fn length(body: &str) -> i64 {
    int(body.len() as u64)
}
