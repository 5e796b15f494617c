//! The form of a row for HQ.

use hmac::{Hmac, KeyInit, Mac as _};
use rusqlite::Row;
use serde_json::{Map, Value};
use sha2::Sha256;

use crate::domain::names::{GuestKey, Mac};

/// Version of the rows' form.
const FORM: u8 = 1;

/// A row on its way into the outbox.
pub(super) struct Outgoing {
    pub(super) anonymous: bool,
    pub(super) unplaced: Option<i64>,
    pub(super) body: Map<String, Value>,
}

impl Outgoing {
    /// Reads id, zone, mac, guest, `started_ms`, started, boot row and boot uuid: what visits and
    /// sessions have in common, in this order.
    pub(super) fn read(kind: &str, row: &Row<'_>, secret: &[u8; 32]) -> rusqlite::Result<Self> {
        let (mac, guest): ([u8; 6], Option<[u8; 16]>) = (row.get(2)?, row.get(3)?);
        let started: Option<i64> = row.get(5)?;
        let mut outgoing = Self { anonymous: guest.is_none(), unplaced: None, body: Map::new() };
        let uuid = row.get::<_, String>(7)?;
        outgoing.head(kind, started, (row.get(6)?, &uuid, row.get(4)?));
        outgoing.set("id", row.get::<_, i64>(0)?);
        outgoing.set("zone", row.get::<_, String>(1)?);
        outgoing.set("device", device_key(secret, Mac(mac)));
        outgoing.set("randomised", Mac(mac).is_randomised());
        outgoing.set("guest", guest.map(|guest| GuestKey(guest).to_string()));
        Ok(outgoing)
    }

    /// What all rows have in common: their kind, and when it began.
    pub(super) fn head(
        &mut self,
        kind: &str,
        started: Option<i64>,
        (boot, uuid, at_ms): (i64, &str, i64),
    ) {
        self.set("v", FORM);
        self.set("type", kind);
        self.set("started", started);
        if started.is_none() {
            self.unplaced = Some(boot);
            self.set("boot", uuid);
            self.set("boot_ms", at_ms);
        }
    }

    pub(super) fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.body.insert(name.into(), value.into());
    }
}

/// A device as HQ knows it: HMAC-SHA256 of its MAC, first 16 bytes.
pub(super) fn device_key(secret: &[u8; 32], mac: Mac) -> String {
    // A key shorter than the block is padded with zeros (RFC 2104).
    let mut block = [0; 64];
    block[..32].copy_from_slice(secret);
    let mut hmac = Hmac::<Sha256>::new(&block.into());
    hmac.update(&mac.0);
    data_encoding::HEXLOWER.encode(&hmac.finalize().into_bytes()[..16])
}
