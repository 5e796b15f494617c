//! Who is in the store: evidence in, visits out.

use std::net::IpAddr;

use super::device::Key;
use super::effect::{Effect, EndReason, Method, Record};
use super::event::Sighting;
use super::names::{BootTime, GuestKey, Mac, Now, VisitId, ZoneId};
use super::policy::Identity;
use super::session::Opening;
use super::visit::{Silence, Visit, hold};
use super::{Domain, Timer};

impl Domain {
    /// Devices were heard on another port of their bridge. Whoever took the address of one that is
    /// online is cut off with it, where the owner wants that.
    pub(super) fn moved(&mut self, devices: &[(ZoneId, Mac)], now: Now, effects: &mut Vec<Effect>) {
        for (zone, mac) in devices {
            self.not_itself(*mac, [*zone, *zone], now, effects);
        }
    }

    /// Devices are heard in two zones at once: the same, where the owner wants it in either.
    pub(super) fn doubled(
        &mut self,
        devices: &[(Mac, [ZoneId; 2])],
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        for (mac, zones) in devices {
            self.not_itself(*mac, *zones, now, effects);
        }
    }

    fn not_itself(&mut self, mac: Mac, zones: [ZoneId; 2], now: Now, effects: &mut Vec<Effect>) {
        let cuts = |zone| self.policy.zone(zone).is_some_and(|zone| zone.cut_on_move);
        let cut = zones.into_iter().any(cuts);
        for id in self.sessions_of(mac) {
            let Some(session) = self.sessions.live.get(&id) else { continue };
            let here = |zone| self.policy.joined(zone, session.grant.zone);
            if !session.online() || !zones.into_iter().any(here) {
                continue;
            }
            self.counters.moves = self.counters.moves.saturating_add(1);
            if cut && session.identity != Identity::Trusted {
                self.end(id, EndReason::Moved, true, now, effects);
            }
        }
    }

    pub(super) fn seen(&mut self, sighting: &Sighting, now: Now, effects: &mut Vec<Effect>) {
        let key = Key { zone: sighting.zone, mac: sighting.mac };
        self.sight(key, sighting.address, sighting.hostname.as_deref(), now, effects);
    }

    /// Takes evidence of a device in, making the device if it is new.
    pub(super) fn sight(
        &mut self,
        key: Key,
        address: Option<IpAddr>,
        hostname: Option<&str>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        if self.policy.zone(key.zone).is_none() || !key.mac.is_station() {
            return;
        }
        self.bring(key);
        if self.devices.get(key).is_none()
            && let Some(oldest) = self.devices.crowded()
        {
            self.forget(oldest, effects);
        }
        let device = self.devices.entry(key);
        if now.boot - device.last >= hold(&self.policy.visit) {
            device.waiting = None;
        }
        device.last = now.boot;
        if let Some(address) = address {
            device.learn_address(address);
        }
        if let Some(hostname) = hostname {
            device.rename(hostname);
        }
        self.devices.refile(key);
        self.record_presence(key, now, effects);
        self.arm_device(key);
        self.let_listed_in(key, now, effects);
    }

    /// A device said goodbye; it was there to say so.
    pub(super) fn left(&mut self, key: Key, now: Now, effects: &mut Vec<Effect>) {
        if self.devices.get(key).is_none_or(|device| device.visit.is_none()) {
            return;
        }
        self.sight(key, None, None, now, effects);
        if let Some(visit) = self.devices.get_mut(key).and_then(|device| device.visit.as_mut()) {
            visit.left = Some(now.boot);
        }
        self.arm_device(key);
    }

    /// A guest proved an identity on a device.
    pub(super) fn know_guest(&mut self, key: Key, guest: GuestKey, effects: &mut Vec<Effect>) {
        let Some(visit) = self.devices.get_mut(key).and_then(|device| device.visit.as_mut()) else {
            return;
        };
        if visit.guest != Some(guest) {
            visit.guest = Some(guest);
            effects.push(Effect::Store(Record::VisitGuest { visit: visit.id, guest }));
        }
    }

    /// A device's deadline has passed.
    pub(super) fn device_due(&mut self, key: Key, now: Now, effects: &mut Vec<Effect>) {
        let Some(device) = self.devices.get_mut(key) else { return };
        if let Some(visit) = &mut device.visit {
            match visit.silence(&self.policy.visit, now.boot) {
                Silence::Wait => {}
                Silence::Ask if device.addresses.is_empty() => {}
                Silence::Ask => effects.push(Effect::Solicit {
                    zone: key.zone,
                    mac: key.mac,
                    addresses: device.addresses.clone(),
                }),
                Silence::Over => self.over(key, now, effects),
            }
        }
        if self.forgettable(key).is_some_and(|at| at <= now.boot) {
            self.forget(key, effects);
        }
        self.arm_device(key);
    }

    /// Sets a device's timer by its state.
    pub(super) fn arm_device(&mut self, key: Key) {
        let visit = self.devices.get(key).and_then(|device| device.visit.as_ref());
        let at =
            visit.map(|visit| visit.deadline(&self.policy.visit)).or_else(|| self.forgettable(key));
        self.timers.set(Timer::Device(key), at);
    }

    /// Closes a device's visit at its last evidence.
    pub(super) fn close_visit(&mut self, key: Key, effects: &mut Vec<Effect>) -> Option<Visit> {
        let visit = self.devices.get_mut(key)?.visit.take()?;
        effects.push(Effect::Store(Record::VisitClosed {
            visit: visit.id,
            dwell: visit.dwell(),
            last: visit.last(),
        }));
        Some(visit)
    }

    /// A visit is over for good; one who said goodbye needs the session no more.
    fn over(&mut self, key: Key, now: Now, effects: &mut Vec<Effect>) {
        let left = self.close_visit(key, effects).is_some_and(|visit| visit.left.is_some());
        let session = self.devices.get(key).and_then(|device| device.session);
        if let Some(id) = session.filter(|_| left)
            && let Some(session) = self.sessions.live.get(&id)
            && session.identity.is_visitor()
        {
            self.end(id, EndReason::Left, true, now, effects);
        }
    }

    /// When a device without visit and session is forgotten.
    fn forgettable(&self, key: Key) -> Option<BootTime> {
        let device = self.devices.get(key)?;
        let idle = device.session.is_none() && device.visit.is_none();
        let zone = self.policy.zone(key.zone)?;
        idle.then(|| device.last + zone.preauth_idle_timeout)
    }

    fn forget(&mut self, key: Key, effects: &mut Vec<Effect>) {
        self.close_visit(key, effects);
        self.devices.remove(key);
        self.timers.set(Timer::Device(key), None);
    }

    /// Writes what the disk should know of a sighting, as far as the turnstile lets new rows through.
    fn record_presence(&mut self, key: Key, now: Now, effects: &mut Vec<Effect>) {
        let Some(device) = self.devices.get_mut(key) else { return };
        if let Some(visit) = &mut device.visit
            && visit.extend(now.boot)
        {
            effects.push(Effect::Store(Record::VisitSeen {
                visit: visit.id,
                dwell: visit.dwell(),
                last: now.boot,
            }));
        }
        let visits = device.visit.is_none() && !self.policy.trusted_macs.contains(&key.mac);
        let since = if visits { *device.waiting.get_or_insert(now.boot) } else { now.boot };
        if (!visits && device.recorded) || !self.turnstile.pass(now.boot) {
            return;
        }
        if !device.recorded {
            device.recorded = true;
            effects.push(Effect::Store(Record::Device {
                mac: key.mac,
                zone: key.zone,
                hostname: device.hostname.as_deref().map(str::to_owned),
                at: now.boot,
            }));
        }
        if visits {
            let guest = self.guests.get(key.mac).map(|known| known.guest);
            let id = VisitId(self.next_visit);
            self.next_visit += 1;
            let mut visit = Visit::open(id, guest, since);
            visit.extend(now.boot);
            device.visit = Some(visit);
            device.waiting = None;
            effects.push(Effect::Store(Record::VisitOpened {
                visit: id,
                zone: key.zone,
                mac: key.mac,
                guest,
                at: since,
            }));
        }
    }

    /// Opens for a device that a list lets in.
    pub(super) fn let_listed_in(&mut self, key: Key, now: Now, effects: &mut Vec<Effect>) {
        if self.devices.get(key).is_none_or(|d| d.session.is_some() || now.boot < d.retry) {
            return;
        }
        let opening = if self.policy.trusts(key.mac) {
            Opening::TRUSTED
        } else if self.policy.expects(key.mac)
            && let Some(zone) = self.policy.zone(key.zone)
            && !self.full(zone, key)
        {
            Opening {
                identity: Identity::Preemptive,
                method: Method::Preemptive,
                limits: zone.limits,
                length: Some(zone.session_timeout),
                extended: 0,
                terms: "",
            }
        } else {
            return;
        };
        // Fails only while all marks are taken; the next sighting tries again.
        let _ = self.open(key, opening, None, now, effects);
    }
}
