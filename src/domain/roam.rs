//! Zones that roam: a device is one device in all of them, and lives where it was last seen. The
//! kernel lets its one session through in each, so that walking over takes nothing.

use super::device::Key;
use super::policy::Identity;
use super::{Domain, Timer};

impl Domain {
    /// Brings a device that is known in another zone here, with its session and its visit, if both
    /// zones roam. The caller arms and files it.
    pub(super) fn bring(&mut self, here: Key) {
        if self.devices.get(here).is_some() {
            return;
        }
        let known = |zone| {
            let there = Key { zone, ..here };
            (self.policy.joined(zone, here.zone) && self.devices.get(there).is_some())
                .then_some(there)
        };
        let Some(there) = self.zones().find_map(known) else { return };
        self.devices.rename(there, here);
        self.timers.set(Timer::Device(there), None);
        let Some(device) = self.devices.get_mut(here) else { return };
        // They were of the other network.
        device.addresses.clear();
        let session = device.session.and_then(|id| self.sessions.live.get_mut(&id));
        if let Some(session) = session {
            session.grant.zone = here.zone;
            if session.identity != Identity::Trusted {
                self.count_client(there.zone, -1);
                self.count_client(here.zone, 1);
            }
        }
    }
}
