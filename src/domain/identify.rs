//! Who guests are: what they prove, and what HQ says of that.

use super::Domain;
use super::auth::seal::Sealed;
use super::device::Key;
use super::effect::{Effect, Method, Record};
use super::event::Consent;
use super::names::{GuestKey, Now, Renamed};

impl Domain {
    /// A guest proved an identity on a device; who it is, as far as HQ has told.
    pub(super) fn verified(
        &mut self,
        key: Key,
        (guest, mask, sealed): (GuestKey, String, Option<Sealed>),
        consent: Consent,
        method: Method,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> GuestKey {
        let guest = self.guests.named(guest);
        self.guests.prove(key.mac, guest, &mask, now.boot);
        let (mac, at) = (key.mac, now.boot);
        let verified = Record::Verified { guest, mac, mask, sealed, consent, method, at };
        effects.push(Effect::Store(verified));
        self.know_guest(key, guest, effects);
        guest
    }

    /// Gives guests other names, or forgets them. What lies on disk is the store's, which is told
    /// apart: its word must not be lost.
    pub(super) fn rename_guests(&mut self, names: &Renamed) {
        self.guests.rename(names);
        self.devices.rename_guests(names);
        self.sessions.rename_guests(names);
    }
}
