//! Each kind of record and the rows it changes.

use std::net::IpAddr;
use std::time::Duration;

use rusqlite::{OptionalExtension, params};

use super::StoreError;
use super::book::{Book, int, millis};
use crate::domain::effect::{EndReason, Grant, Method, Record};
use crate::domain::names::{BootTime, GuestKey, Mac, SessionId, VisitId, ZoneId};
use crate::domain::policy::{Identity, Limits};

impl Book {
    /// Carries in what the domain wants kept; `written` is when its group was.
    pub(super) fn take_record(
        &mut self,
        record: &Record,
        written: BootTime,
    ) -> Result<(), StoreError> {
        match record {
            Record::Device { mac, zone, hostname, at } => {
                self.device(*mac, *zone, hostname.as_deref(), *at)
            }
            Record::Verified { guest, mac, mask, sealed, consent, method, at } => {
                let who = (*guest, mask.as_str(), sealed.as_ref());
                self.verified(who, *mac, consent, *method, *at)
            }
            Record::Alarm { begins, sent, accepted, at } => {
                self.alarm(*begins, (*sent, *accepted), *at)
            }
            Record::SessionStarted { grant, identity, method, address, extended, terms, at } => {
                self.session_started(grant, *identity, *method, *address, *extended, *at)?;
                match identity {
                    Identity::Voucher(id) => self.voucher_used(*id, grant, terms, *at),
                    _ => Ok(()),
                }
            }
            Record::SessionUsed { session, up, down, left } => {
                self.session_used(*session, (*up, *down), *left, written)
            }
            Record::SessionEnded { session, reason, up, down, at } => {
                self.session_ended(*session, *reason, (*up, *down), Some(*at))
            }
            Record::VisitOpened { visit, zone, mac, guest, at } => {
                self.visit_opened(*visit, *zone, *mac, *guest, *at)
            }
            Record::VisitGuest { visit, guest } => self.visit_guest(*visit, *guest),
            Record::VisitSeen { visit, dwell, last } => self.visit_seen(*visit, *dwell, *last),
            Record::VisitClosed { visit, dwell, .. } => self.visit_closed(*visit, *dwell),
            Record::SessionChanged { session, identity, limits, extended } => {
                self.session_changed(*session, *identity, limits, *extended)
            }
            Record::MessageCounted { mac, number, prefix, zone, at } => {
                self.message_counted(*mac, (*number, *prefix, *zone), *at)
            }
            Record::Attempted { attempt, mac, at } => self.attempted(*attempt, *mac, *at),
            Record::VouchersMade { batch, salt, hashes, at } => {
                self.vouchers_made(batch, *salt, hashes, *at)
            }
            Record::VouchersRevoked(which) => self.vouchers_revoked(*which),
            Record::TokenUsed { nonce, expires } => {
                self.run(
                    "INSERT OR REPLACE INTO used_token (nonce, expires) VALUES (?1, ?2)",
                    params![nonce.as_slice(), expires.0],
                )?;
                // A day's grace for a wall clock that was wrong for a while.
                self.run(
                    "DELETE FROM used_token WHERE expires < ?1",
                    [self.boot.wall(int(written.0)).unwrap_or(0) - 86_400_000],
                )
            }
        }
    }

    fn device(
        &self,
        mac: Mac,
        zone: ZoneId,
        name: Option<&str>,
        at: BootTime,
    ) -> Result<(), StoreError> {
        self.run(
            "INSERT INTO device (mac, zone, hostname, seen, heard)
             VALUES (?1, ?2, ?3, (SELECT coalesce(max(id), 0) FROM visit), ?4)
             ON CONFLICT (mac) DO UPDATE SET zone = excluded.zone,
                 hostname = coalesce(excluded.hostname, hostname), seen = excluded.seen,
                 heard = excluded.heard",
            params![mac.0.as_slice(), self.zone_name(zone), name, self.boot.day(int(at.0))],
        )
    }

    fn session_started(
        &mut self,
        grant: &Grant,
        identity: Identity,
        method: Method,
        address: Option<IpAddr>,
        extended: u8,
        at: BootTime,
    ) -> Result<(), StoreError> {
        let (kind, guest) = identity_columns(&identity);
        let (boot, at_ms) = (&self.boot, int(at.0));
        self.run(
            "INSERT INTO session (id, zone, mac, identity, guest, method, address, mark, limits,
                 up, down, boot, started_ms, started)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 0, 0, ?10, ?11, ?12)",
            params![
                int(grant.session.0),
                self.zone_name(grant.zone),
                grant.mac.0.as_slice(),
                kind,
                guest,
                method.as_str(),
                address.map(|address| address.to_string()),
                grant.mark.0,
                serde_json::to_string(&grant.limits).unwrap_or_default(),
                boot.row,
                at_ms,
                boot.wall(at_ms)
            ],
        )?;
        self.run(
            "INSERT INTO usage (session, up, down, boot, extended) VALUES (?1, 0, 0, ?2, ?3)",
            params![int(grant.session.0), boot.row, extended],
        )?;
        self.session_used(grant.session, (grant.used_up, grant.used_down), grant.left, at)?;
        self.log_access(grant.session, "start", Some(at_ms))
    }

    fn session_used(
        &self,
        session: SessionId,
        (up, down): (u64, u64),
        left: Option<Duration>,
        at: BootTime,
    ) -> Result<(), StoreError> {
        let ends = left.map(|left| int((at + left).0));
        self.run(
            "UPDATE usage SET up = ?2, down = ?3, boot = ?4, ends_ms = ?5 WHERE session = ?1",
            params![int(session.0), int(up), int(down), self.boot.row, ends],
        )
    }

    fn session_changed(
        &self,
        session: SessionId,
        identity: Identity,
        limits: &Limits,
        extended: u8,
    ) -> Result<(), StoreError> {
        let (kind, guest) = identity_columns(&identity);
        self.run(
            "UPDATE usage SET extended = ?2 WHERE session = ?1",
            params![int(session.0), extended],
        )?;
        self.run(
            "UPDATE session SET identity = ?2, guest = ?3, limits = ?4 WHERE id = ?1",
            params![int(session.0), kind, guest, serde_json::to_string(limits).unwrap_or_default()],
        )
    }

    /// Ends a session; `at` is `None` if nobody knows when. One that is not open is left alone.
    pub(super) fn session_ended(
        &mut self,
        session: SessionId,
        reason: EndReason,
        (up, down): (u64, u64),
        at: Option<BootTime>,
    ) -> Result<(), StoreError> {
        let at = at.map(|at| int(at.0));
        let ended = self
            .connection
            .prepare_cached(
                "UPDATE session SET reason = ?2, up = ?3, down = ?4, ended_boot = ?5,
                     ended_ms = ?6, ended = ?7
                 WHERE id = ?1 AND reason IS NULL",
            )?
            .execute(params![
                int(session.0),
                reason.as_str(),
                int(up),
                int(down),
                at.map(|_| self.boot.row),
                at,
                at.and_then(|at| self.boot.wall(at))
            ])?;
        if ended == 0 {
            return Ok(());
        }
        self.run("DELETE FROM usage WHERE session = ?1", [int(session.0)])?;
        self.log_access(session, "end", at)?;
        if reason == EndReason::Failed {
            self.voucher_returned(session)?;
        }
        self.outbox.put_session(&self.connection, &self.device_secret, session)
    }

    /// Copies who and where from the session's row.
    fn log_access(
        &self,
        session: SessionId,
        event: &str,
        at: Option<i64>,
    ) -> Result<(), StoreError> {
        self.run(
            "INSERT INTO access_log
                 (session, event, mac, address, identity, guest, boot, at_ms, at)
             SELECT id, ?2, mac, address, identity, guest, ?3, ?4, ?5
             FROM session WHERE id = ?1",
            params![int(session.0), event, self.boot.row, at, at.and_then(|at| self.boot.wall(at))],
        )
    }

    fn visit_opened(
        &self,
        visit: VisitId,
        zone: ZoneId,
        mac: Mac,
        guest: Option<GuestKey>,
        at: BootTime,
    ) -> Result<(), StoreError> {
        let (boot, at, id) = (&self.boot, int(at.0), int(visit.0));
        let nth: i64 = self
            .connection
            .prepare_cached(
                "INSERT INTO device (mac, zone, visits, seen, heard) VALUES (?1, ?2, 1, ?3, ?4)
                 ON CONFLICT (mac) DO UPDATE SET zone = excluded.zone, visits = visits + 1,
                     seen = excluded.seen, heard = excluded.heard
                 RETURNING visits",
            )?
            .query_row(
                params![mac.0.as_slice(), self.zone_name(zone), id, boot.day(at)],
                |row| row.get(0),
            )?;
        self.run(
            "INSERT INTO visit (id, zone, mac, boot, started_ms, started, device_nth)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![id, self.zone_name(zone), mac.0.as_slice(), boot.row, at, boot.wall(at), nth],
        )?;
        self.run(
            "INSERT INTO presence (visit, boot, last_ms, dwell, carried) VALUES (?1, ?2, ?3, 0, 0)",
            params![id, boot.row, at],
        )?;
        guest.map_or(Ok(()), |guest| self.visit_guest(visit, guest))
    }

    fn visit_guest(&self, visit: VisitId, guest: GuestKey) -> Result<(), StoreError> {
        let before: Option<Option<Vec<u8>>> = self
            .connection
            .prepare_cached("SELECT guest FROM visit WHERE id = ?1")?
            .query_row([int(visit.0)], |row| row.get(0))
            .optional()?;
        let Some(before) = before else { return Ok(()) };
        if before.as_deref() == Some(guest.0.as_slice()) {
            return Ok(());
        }
        self.run("UPDATE guest SET visits = visits - 1 WHERE key = ?1", [before])?;
        let nth: i64 = self
            .connection
            .prepare_cached(
                "INSERT INTO guest (key, visits) VALUES (?1, 1)
                 ON CONFLICT (key) DO UPDATE SET visits = visits + 1 RETURNING visits",
            )?
            .query_row([guest.0.as_slice()], |row| row.get(0))?;
        self.run(
            "UPDATE visit SET guest = ?2, guest_nth = ?3 WHERE id = ?1",
            params![int(visit.0), guest.0.as_slice(), nth],
        )
    }

    fn visit_seen(
        &self,
        visit: VisitId,
        dwell: Duration,
        last: BootTime,
    ) -> Result<(), StoreError> {
        self.run(
            "UPDATE presence SET carried = iif(boot = ?2, carried, dwell), boot = ?2,
                 last_ms = ?3, dwell = ?4
             WHERE visit = ?1",
            params![int(visit.0), self.boot.row, int(last.0), millis(dwell)],
        )
    }

    /// Closes a visit; one that is not open is left alone.
    pub(super) fn visit_closed(
        &mut self,
        visit: VisitId,
        dwell: Duration,
    ) -> Result<(), StoreError> {
        let closed = self
            .connection
            .prepare_cached("UPDATE visit SET dwell = ?2 WHERE id = ?1 AND dwell IS NULL")?
            .execute(params![int(visit.0), millis(dwell)])?;
        if closed == 0 {
            return Ok(());
        }
        self.run("DELETE FROM presence WHERE visit = ?1", [int(visit.0)])?;
        self.outbox.put_visit(&self.connection, &self.device_secret, visit)
    }
}

fn identity_columns(identity: &Identity) -> (&'static str, Option<&[u8]>) {
    match identity {
        Identity::Guest(key) => ("guest", Some(&key.0)),
        Identity::Staff => ("staff", None),
        Identity::Trusted => ("trusted", None),
        Identity::Preemptive => ("preemptive", None),
        // Which one is in the row of its use.
        Identity::Voucher(_) => ("voucher", None),
    }
}
