//! Records of who guests are, of what they agreed to, and of what they may do only so often.

use rusqlite::params;
use serde_json::{Map, Value, json};

use super::StoreError;
use super::book::{Book, DAY, int, millis};
use crate::domain::auth::seal::Sealed;
use crate::domain::effect::{Attempt, Method};
use crate::domain::event::Consent;
use crate::domain::names::{BootTime, GuestKey, Mac, ZoneId};

impl Book {
    /// A guest proved an identity and agreed to something. What they agreed to is kept, and told to HQ,
    /// when it changes; its time is that of the change.
    pub(super) fn verified(
        &mut self,
        (guest, mask, sealed): (GuestKey, &str, Option<&Sealed>),
        mac: Mac,
        consent: &Consent,
        method: Method,
        at: BootTime,
    ) -> Result<(), StoreError> {
        let (boot, at) = (self.boot, int(at.0));
        let key = guest.0.as_slice();
        self.run(
            "INSERT INTO guest (key, mask) VALUES (?1, ?2)
             ON CONFLICT (key) DO UPDATE SET mask = excluded.mask",
            params![key, mask],
        )?;
        if let Some(sealed) = sealed {
            self.keep_seal(key, sealed)?;
        }
        self.run(
            "INSERT INTO device (mac, zone, guest, boot, verified_ms, verified)
             VALUES (?1, '', ?2, ?3, ?4, ?5)
             ON CONFLICT (mac) DO UPDATE SET guest = excluded.guest, boot = excluded.boot,
                 verified_ms = excluded.verified_ms, verified = excluded.verified",
            params![mac.0.as_slice(), key, boot.row, at, boot.wall(at)],
        )?;
        let Consent { terms, marketing } = consent;
        let news = format!("{terms} {}", u8::from(*marketing) + 2 * u8::from(sealed.is_some()));
        if !self.is_news(guest, &news)? {
            return Ok(());
        }
        self.run(
            "INSERT INTO consent (guest, terms, marketing, method, boot, at_ms, at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![key, terms, marketing, method.as_str(), boot.row, at, boot.wall(at)],
        )?;
        // Of a follower HQ knows more than we do.
        if terms.is_empty() && sealed.is_none() {
            return Ok(());
        }
        let mut told = object(json!({
            "guest": guest.to_string(),
            "terms": terms,
            "marketing": marketing,
            "method": method.as_str(),
        }));
        if let Some(sealed) = sealed {
            told.insert("sealed".into(), sealed.text().into());
        }
        self.outbox.put_event(&self.connection, "consent", (&boot, at), told)
    }

    /// Keeps the first sealed name of a guest.
    fn keep_seal(&self, key: &[u8], Sealed(sealed): &Sealed) -> Result<(), StoreError> {
        let first = self
            .connection
            .prepare_cached(
                "INSERT INTO seal (sealed) SELECT ?2 FROM guest WHERE key = ?1 AND seal IS NULL
                     AND NOT EXISTS (SELECT 1 FROM identity WHERE guest = ?1)",
            )?
            .execute(params![key, sealed])?;
        if first == 0 {
            return Ok(());
        }
        self.run("UPDATE guest SET seal = last_insert_rowid() WHERE key = ?1", [key])
    }

    /// Whether a guest agreed to something else than the last time.
    fn is_news(&self, guest: GuestKey, news: &str) -> Result<bool, StoreError> {
        let sql = "UPDATE guest SET agreed = ?2 WHERE key = ?1 AND agreed IS NOT ?2";
        let changed =
            self.connection.prepare_cached(sql)?.execute(params![guest.0.as_slice(), news])?;
        Ok(changed > 0)
    }

    /// Keeps a message for a day.
    pub(super) fn message_counted(
        &self,
        mac: Mac,
        (number, prefix, zone): (GuestKey, GuestKey, ZoneId),
        at: BootTime,
    ) -> Result<(), StoreError> {
        let (boot, at) = (&self.boot, int(at.0));
        self.run(
            "INSERT INTO message (mac, number, prefix, zone, boot, at_ms, at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                mac.0.as_slice(),
                number.0.as_slice(),
                prefix.0.as_slice(),
                self.zone_name(zone),
                boot.row,
                at,
                boot.wall(at)
            ],
        )?;
        self.run(
            "DELETE FROM message WHERE boot = ?1 AND at_ms <= ?2 OR at <= ?3",
            params![boot.row, at - DAY, boot.wall(at - DAY)],
        )
    }

    /// Keeps what a device did, for as long as it counts.
    pub(super) fn attempted(
        &self,
        attempt: Attempt,
        mac: Mac,
        at: BootTime,
    ) -> Result<(), StoreError> {
        let (boot, pass, at) = (&self.boot, attempt == Attempt::Pass, int(at.0));
        self.run(
            "INSERT INTO attempt (pass, mac, boot, at_ms, at) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![pass, mac.0.as_slice(), boot.row, at, boot.wall(at)],
        )?;
        let since = at - millis(attempt.counts_for());
        self.run(
            "DELETE FROM attempt WHERE pass = ?1 AND (boot = ?2 AND at_ms <= ?3 OR at <= ?4)",
            params![pass, boot.row, since, boot.wall(since)],
        )
    }

    /// Codes do not come back, or do again: for the staff page and for HQ.
    pub(super) fn alarm(
        &mut self,
        begins: bool,
        (sent, accepted): (u32, u32),
        at: BootTime,
    ) -> Result<(), StoreError> {
        let (boot, at) = (self.boot, int(at.0));
        if begins {
            self.run("INSERT OR REPLACE INTO meta (name, value) VALUES ('alarm', ?1)", [at])?;
        } else {
            self.run("DELETE FROM meta WHERE name = 'alarm'", [])?;
        }
        let told = object(json!({ "begins": begins, "sent": sent, "accepted": accepted }));
        self.outbox.put_event(&self.connection, "alarm", (&boot, at), told)
    }

    /// HQ is to forget a guest as well.
    pub(super) fn tell_erased(
        &mut self,
        guest: GuestKey,
        sealed: Option<&Sealed>,
        at: BootTime,
    ) -> Result<(), StoreError> {
        let (boot, at) = (self.boot, int(at.0));
        let mut told = object(json!({ "guest": guest.to_string() }));
        if let Some(sealed) = sealed {
            told.insert("sealed".into(), sealed.text().into());
        }
        self.outbox.put_event(&self.connection, "erased", (&boot, at), told)
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}
