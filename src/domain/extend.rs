//! The page of a guest who is online, and more time for them.

use std::time::Duration;

use super::Domain;
use super::device::Key;
use super::effect::{Effect, Method, Refusal, View};
use super::names::{BootTime, Now, RequestId, SessionId};
use super::policy::ZonePolicy;
use super::session::{Opening, Session, WAITING, Waiter, reply};

/// Counters that were read less than this ago are not read again for a page.
const FRESH: Duration = Duration::from_secs(1);

impl Session {
    /// Lets a page wait for the next reading of the counters. False if enough do.
    pub(super) fn await_reading(&mut self, request: RequestId) -> bool {
        let room = self.reading.len() < WAITING;
        if room {
            self.reading.push(request);
        }
        room
    }

    /// Whether the guest may lengthen it: their own, with an end, and not too often.
    pub(super) fn may_extend(&self, zone: Option<&ZonePolicy>) -> bool {
        self.identity.is_visitor()
            && self.deadline.is_some()
            && zone.is_some_and(|zone| self.extended < zone.extend)
    }
}

impl Domain {
    /// The page of a device that is online. `None` if there is no such session.
    pub(super) fn online_view(&self, id: SessionId, now: BootTime) -> Option<View> {
        let session = self.sessions.live.get(&id)?;
        Some(View::Online {
            left: session.left(now),
            used: (session.grant.used_up, session.grant.used_down),
            quota_left: session.quota_left(),
            extend: session.may_extend(self.policy.zone(session.grant.zone)),
            devices: self.own_devices(session, now),
        })
    }

    /// Lets a request wait for the session, or answers it if too many do already.
    pub(super) fn wait(&mut self, id: SessionId, request: RequestId) -> Option<View> {
        let session = self.sessions.live.get_mut(&id)?;
        if session.waiting.len() < WAITING {
            session.waiting.push(Waiter::Portal(request));
            return None;
        }
        Some(View::Phone { refusal: Some(Refusal::Failed) })
    }

    /// The page of a device that is online. The kernel ends a session by its quota unasked, so one
    /// that has a quota is looked at first: a guest who asks may well be one who has just run out.
    pub(super) fn online(
        &mut self,
        id: SessionId,
        request: RequestId,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Option<View> {
        let fresh = now.boot - self.sessions.read < FRESH;
        let session = self.sessions.live.get_mut(&id)?;
        if fresh || session.quota_left().is_none() || !session.await_reading(request) {
            return self.online_view(id, now.boot);
        }
        self.read_usage(now, effects);
        None
    }

    /// Lengthens a session; what it has used stays used.
    pub(super) fn extend(
        &mut self,
        id: SessionId,
        request: RequestId,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Option<View> {
        let session = self.sessions.live.get_mut(&id)?;
        let zone = self.policy.zone(session.grant.zone);
        let (true, Some(zone), Some(deadline)) = (session.may_extend(zone), zone, session.deadline)
        else {
            return self.online_view(id, now.boot);
        };
        session.extended += 1;
        let (identity, limits) = (session.identity, session.grant.limits);
        let later = deadline + zone.session_timeout;
        self.rewrite(id, identity, limits, Some(later), now, effects);
        self.wait(id, request)
    }

    /// Takes up a session that has run out, with new time and volume.
    pub(super) fn extend_ended(
        &mut self,
        key: Key,
        request: RequestId,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Option<View> {
        let spare = self.devices.get_mut(key).and_then(|device| device.spare.take());
        let zone = self.policy.zone(key.zone);
        let (Some((identity, extended)), Some(zone)) = (spare, zone) else {
            return Some(self.step(key, None, now));
        };
        let opening = Opening {
            identity,
            method: Method::Remembered,
            limits: zone.limits,
            length: Some(zone.session_timeout),
            extended: extended.saturating_add(1),
            terms: "",
        };
        let opened = self
            .room(key)
            .and_then(|()| self.open(key, opening, Some(Waiter::Portal(request)), now, effects));
        opened.err().map(|refusal| {
            if let Some(device) = self.devices.get_mut(key) {
                device.spare = spare;
            }
            self.step(key, Some(refusal), now)
        })
    }

    /// Answers the pages that waited for this reading.
    pub(super) fn show_reading(&mut self, id: SessionId, now: Now, effects: &mut Vec<Effect>) {
        let Some(session) = self.sessions.live.get_mut(&id) else { return };
        let pages = std::mem::take(&mut session.reading);
        if pages.is_empty() {
            return;
        }
        let Some(view) = self.online_view(id, now.boot) else { return };
        effects.extend(pages.into_iter().map(|request| reply(request, view.clone())));
    }
}
