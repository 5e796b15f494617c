//! Who a device's guest is: keyed hashes of identities, and whom we remember.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac as _};
use sha2::Sha256;

use super::names::{BootTime, GuestKey, Mac, Now, OpenId, Phone, Renamed, WallTime};
use super::saved::SavedGuest;

/// Guests remembered at once; the one who verified longest ago is forgotten first.
pub(super) const CAPACITY: usize = 20_000;

/// The keys of the house; print as a mask.
#[derive(Clone)]
pub struct Secrets {
    /// Hashes identities; the same for the life of the database, or for as long as this boot lasts
    /// where HQ makes the guest keys.
    pub guest_key: [u8; 32],
    /// Hashes vouchers; the same for the life of the database.
    pub voucher_key: [u8; 32],
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(..)")
    }
}

impl Secrets {
    /// The key of the guest behind a phone number: HMAC-SHA256 of `phone:+` and the digits, cut
    /// at 16 bytes.
    pub fn phone_guest(&self, phone: &Phone) -> GuestKey {
        cut(self.keyed(&[b"phone:+", phone.digits().as_bytes()]))
    }

    /// The key of the guest behind a WeChat openid: HMAC-SHA256 of `openid:` and the id, cut at
    /// 16 bytes.
    pub fn openid_guest(&self, openid: &OpenId) -> GuestKey {
        cut(self.keyed(&[b"openid:", openid.reveal().as_bytes()]))
    }

    /// The range that a number belongs to: all but its last four digits, hashed as a number is.
    pub(super) fn prefix(&self, phone: &Phone) -> GuestKey {
        let digits = phone.digits().as_bytes();
        cut(self.keyed(&[b"prefix:+", &digits[..digits.len().saturating_sub(4)]]))
    }

    /// HMAC-SHA256 (RFC 2104) of the parts, one after the other, by the guests' key.
    pub(super) fn keyed(&self, parts: &[&[u8]]) -> [u8; 32] {
        hmac(&self.guest_key, parts)
    }

    /// HMAC-SHA256 of a voucher's digits.
    pub(super) fn voucher(&self, digits: &[u8]) -> [u8; 32] {
        hmac(&self.voucher_key, &[b"voucher:", digits])
    }
}

/// A device's guest, as far as we know.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) guest: GuestKey,
    pub(super) mask: Box<str>,
    proved: Proved,
}

impl Known {
    /// Orders by proof, oldest first: those of earlier boots before those of this one.
    const fn age_rank(&self) -> (u8, i64) {
        match self.proved {
            Proved::Void => (0, 0),
            Proved::Wall(at) => (1, at.0),
            Proved::Boot(at) => (2, at.0.cast_signed()),
        }
    }
}

/// When a guest last proved an identity.
#[derive(Clone, Copy, Debug)]
enum Proved {
    Boot(BootTime),
    Wall(WallTime),
    /// Nobody knows, or it counts no more.
    Void,
}

/// The guests of the devices.
#[derive(Debug, Default)]
pub(super) struct Guests {
    known: BTreeMap<Mac, Known>,
    /// Whose pseudonyms HQ has told since the start.
    named: Renamed,
}

impl Guests {
    /// The guest of a device.
    pub(super) fn get(&self, mac: Mac) -> Option<&Known> {
        self.known.get(&mac)
    }

    /// A guest proved an identity on a device.
    pub(super) fn prove(&mut self, mac: Mac, guest: GuestKey, mask: &str, at: BootTime) {
        self.insert(mac, Known { guest, mask: mask.into(), proved: Proved::Boot(at) });
    }

    /// Reads a guest back.
    pub(super) fn restore(&mut self, saved: SavedGuest) {
        let proved = saved.verified.map_or(Proved::Void, Proved::Wall);
        let known = Known { guest: saved.guest, mask: saved.mask.into(), proved };
        self.insert(saved.mac, known);
    }

    /// The guest who proved an identity on this device within `remember_for`.
    pub(super) fn recent(&self, mac: Mac, remember_for: Duration, now: Now) -> Option<GuestKey> {
        let known = self.known.get(&mac)?;
        let age = match known.proved {
            Proved::Boot(at) => now.boot - at,
            // A proof from the future was stamped by a wrong clock.
            Proved::Wall(at) => now.wall.filter(|wall| *wall >= at)? - at,
            Proved::Void => return None,
        };
        (age < remember_for).then_some(known.guest)
    }

    /// Who proved an identity, as far as HQ has told.
    pub(super) fn named(&self, guest: GuestKey) -> GuestKey {
        self.named.get(&guest).copied().unwrap_or(guest)
    }

    /// Gives guests other names, on every device and at the next proof.
    pub(super) fn rename(&mut self, names: &Renamed) {
        let become_other = |guest: &mut GuestKey| {
            *guest = names.get(guest).copied().unwrap_or(*guest);
            *guest != GuestKey::NOBODY
        };
        self.known.retain(|_, known| become_other(&mut known.guest));
        self.named.retain(|_, guest| become_other(guest));
        self.named.extend(names.iter().filter(|(_, guest)| **guest != GuestKey::NOBODY));
        while self.named.len() > CAPACITY {
            // Whichever goes: HQ tells it again after the next proof.
            self.named.pop_first();
        }
    }

    /// The next session of this device needs a new proof.
    pub(super) fn void(&mut self, mac: Mac) {
        if let Some(known) = self.known.get_mut(&mac) {
            known.proved = Proved::Void;
        }
    }

    fn insert(&mut self, mac: Mac, known: Known) {
        if self.known.len() >= CAPACITY
            && !self.known.contains_key(&mac)
            // A walk over all, but only at a new proof, and those cost a message each.
            && let Some((&oldest, _)) = self.known.iter().min_by_key(|(_, known)| known.age_rank())
        {
            self.known.remove(&oldest);
        }
        self.known.insert(mac, known);
    }
}

fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    // A key shorter than the block is filled up with zeroes (RFC 2104, section 2).
    let mut block = [0; 64];
    block[..32].copy_from_slice(key);
    let mut hmac = Hmac::<Sha256>::new(&block.into());
    for part in parts {
        hmac.update(part);
    }
    hmac.finalize().into_bytes().into()
}

fn cut(hash: [u8; 32]) -> GuestKey {
    let mut key = [0; 16];
    key.copy_from_slice(&hash[..16]);
    GuestKey(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    #[test]
    fn hashes_are_hmac_sha256() {
        // RFC 4231, test case 2: its key "Jefe" filled up with zeroes is the same HMAC key.
        let mut guest_key = [0; 32];
        guest_key[..4].copy_from_slice(b"Jefe");
        let secrets = Secrets { guest_key, voucher_key: [0; 32] };
        assert_eq!(
            data_encoding::HEXLOWER.encode(&secrets.keyed(&[b"what do ya want ", b"for nothing?"])),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(format!("{secrets:?}"), "Secrets(..)");
    }

    #[test]
    fn identities_do_not_meet() {
        let secrets = Secrets { guest_key: [1; 32], voucher_key: [2; 32] };
        let phone = Phone::parse("13800138000", "86").unwrap();
        let near = Phone::parse("13800149999", "86").unwrap();
        assert_ne!(
            secrets.phone_guest(&phone),
            secrets.openid_guest(&OpenId::parse("8613800138000").unwrap())
        );
        assert_ne!(secrets.phone_guest(&phone), secrets.prefix(&phone));
        assert_ne!(secrets.prefix(&phone), secrets.prefix(&near));
        let same = Phone::parse("13800138111", "86").unwrap();
        assert_eq!(secrets.prefix(&phone), secrets.prefix(&same));
    }

    #[test]
    fn names_that_hq_tells_have_an_end() {
        let key = |number: u32| {
            let mut key = [1; 16];
            key[..4].copy_from_slice(&number.to_be_bytes());
            GuestKey(key)
        };
        let mut guests = Guests::default();
        let most = u32::try_from(CAPACITY).unwrap();
        guests.rename(&(0..most + 10).map(|number| (key(number), key(number + 1))).collect());
        assert_eq!(guests.named.len(), CAPACITY);
        assert_eq!(guests.named(key(most)), key(most + 1));
        assert_eq!(guests.named(key(most + 10)), key(most + 10), "not named");
        // Who is forgotten is not found behind a pseudonym either.
        guests.rename(&[(key(most + 1), GuestKey::NOBODY)].into());
        assert_eq!(guests.named(key(most)), key(most));
    }

    #[test]
    fn memory_has_an_end() {
        let mut guests = Guests::default();
        let now = |boot, wall| Now { boot: BootTime(boot), wall };
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        guests.prove(mac, GuestKey([1; 16]), "*00", BootTime(1000));
        assert!(guests.recent(mac, DAY, now(2000, None)).is_some());
        assert!(guests.recent(mac, DAY, now(86_401_000, None)).is_none());
        assert!(guests.recent(mac, Duration::ZERO, now(1000, None)).is_none());
        guests.restore(SavedGuest {
            mac,
            guest: GuestKey([1; 16]),
            mask: "*00".into(),
            verified: Some(WallTime(5000)),
        });
        assert!(guests.recent(mac, DAY, now(0, None)).is_none());
        assert!(guests.recent(mac, DAY, now(0, Some(WallTime(6000)))).is_some());
        assert!(guests.recent(mac, DAY, now(0, Some(WallTime(4000)))).is_none());
        guests.void(mac);
        assert!(guests.recent(mac, DAY, now(0, Some(WallTime(6000)))).is_none());
        for number in 0..u32::try_from(CAPACITY).unwrap() + 10 {
            let [a, b, c, d] = number.to_be_bytes();
            guests.prove(Mac([6, 0, a, b, c, d]), GuestKey([1; 16]), "", BootTime(9000));
        }
        assert_eq!(guests.known.len(), CAPACITY);
        assert!(guests.get(mac).is_none());
    }
}
