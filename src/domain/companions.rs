//! One guest, several devices: how many may be online, and what the guest does about them.

use super::Domain;
use super::effect::{Effect, EndReason, OwnDevice};
use super::names::{BootTime, Now, SessionId};
use super::session::Session;

impl Domain {
    /// Asks the oldest devices of a new session's guest to leave, if there are too many.
    pub(super) fn make_way(&mut self, newest: SessionId, now: Now, effects: &mut Vec<Effect>) {
        let Some(guest) = self.sessions.guest_of(newest) else { return };
        let online: Vec<SessionId> = self.sessions.of_guest(guest).collect();
        let surplus = online.len().saturating_sub(self.policy.max_devices.max(1));
        for oldest in online.into_iter().filter(|id| *id != newest).take(surplus) {
            self.end(oldest, EndReason::Replaced, true, now, effects);
        }
    }

    /// The devices of a session's guest, if there are others than its own.
    pub(super) fn own_devices(&self, asking: &Session, now: BootTime) -> Vec<OwnDevice> {
        let Some(guest) = asking.guest() else { return Vec::new() };
        let own = self.sessions.of_guest(guest).filter_map(|id| self.sessions.live.get(&id));
        let shown = own.map(|session| OwnDevice {
            session: session.grant.session,
            name: self
                .devices
                .get(session.key())
                .and_then(|device| device.hostname.as_deref())
                .map(str::to_owned),
            online_for: session.started.map(|at| now - BootTime(u64::from(at.get()) * 1000)),
            here: session.grant.session == asking.grant.session,
        });
        let devices: Vec<OwnDevice> = shown.collect();
        if devices.len() > 1 { devices } else { Vec::new() }
    }

    /// Ends another device's session at its guest's word, and nobody else's.
    pub(super) fn end_other(
        &mut self,
        asking: SessionId,
        other: SessionId,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let guest = self.sessions.guest_of(asking);
        if asking != other && guest.is_some() && self.sessions.guest_of(other) == guest {
            self.end(other, EndReason::Logout, true, now, effects);
        }
    }
}
