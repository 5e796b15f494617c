//! What the control socket asks for.

use std::time::Duration;

use super::Domain;
use super::device::{Device, Key};
use super::effect::{ClientRow, Effect, EndReason, Method, Report, Status};
use super::event::Command;
use super::names::{GuestKey, Mac, Now, RequestId, SessionId, ZoneId};
use super::policy::{Identity, Overrides};
use super::session::{Opening, Waiter, report};

impl Domain {
    pub(super) fn control(
        &mut self,
        request: RequestId,
        command: &Command,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let answer = match *command {
            Command::Status => {
                self.judge_codes(now, effects);
                Some(Report::Status(self.status(now)))
            }
            Command::Clients => {
                let rows = self.devices.iter().map(|(key, device)| self.row(key, device, now));
                Some(Report::Clients(rows.collect()))
            }
            Command::Grant { mac, zone, length, limits } => self
                .staff_grant(request, (mac, zone), (length, &limits), now, effects)
                .err()
                .map(|text| Report::Refused(text.into())),
            Command::Limit { mac, limits } => self
                .staff_limit(request, mac, &limits, now, effects)
                .err()
                .map(|text| Report::Refused(text.into())),
            Command::Revoke { mac } => Some(self.staff_revoke(mac, now, effects)),
            Command::MakeVouchers { count, worth } => {
                Some(self.make_vouchers(count, worth, now, effects))
            }
            Command::VouchersFromHq(ref batches) => {
                Some(self.vouchers_from_hq(batches, now, effects))
            }
            Command::Vouchers => Some(self.list_vouchers()),
            Command::RevokeVouchers(which) => Some(self.revoke_vouchers(which, now, effects)),
            Command::Erase { guest } => {
                self.rename_guests(&[(guest, GuestKey::NOBODY)].into());
                Some(Report::Done)
            }
            Command::Rename(ref names) => {
                self.rename_guests(names);
                Some(Report::Done)
            }
        };
        if let Some(answer) = answer {
            effects.push(report(request, answer));
        }
    }

    fn status(&self, now: Now) -> Status {
        let present = |device: &Device| {
            let visit = device.visit.as_ref();
            visit.is_some_and(|visit| visit.present(&self.policy.visit, now.boot))
        };
        Status {
            devices: self.devices.len(),
            online: self.sessions.live.values().filter(|session| session.online()).count(),
            visits: self.devices.iter().filter(|(_, device)| present(device)).count(),
            codes_sent: self.counters.codes_sent,
            codes_accepted: self.counters.codes_accepted,
            alarm: self.pumping.stands(),
            clock_trusted: now.wall.is_some(),
            rebuilds: self.counters.rebuilds,
            moves: self.counters.moves,
        }
    }

    fn row(&self, key: Key, device: &Device, now: Now) -> ClientRow {
        let session = device.session.and_then(|id| self.sessions.live.get(&id));
        let pass = self.passes.until(key, now.boot);
        let state = if self.policy.blocked_macs.contains(&key.mac) {
            "blocked"
        } else if self.policy.trusted_macs.contains(&key.mac) {
            "trusted"
        } else if session.is_some_and(|session| session.online()) {
            "online"
        } else if pass.is_some() {
            "pass"
        } else if device.code.is_some() {
            "code"
        } else {
            "new"
        };
        ClientRow {
            mac: key.mac,
            zone: self.policy.zone(key.zone).map(|zone| zone.name.clone()).unwrap_or_default(),
            addresses: device.addresses.clone(),
            hostname: device.hostname.as_deref().map(str::to_owned),
            state,
            guest: self.guests.get(key.mac).map(|known| known.mask.to_string()),
            seconds_left: session
                .map_or(pass.map(|until| until - now.boot), |session| session.left(now.boot))
                .map(|left| left.as_secs()),
            up: session.map_or(0, |session| session.grant.used_up),
            down: session.map_or(0, |session| session.grant.used_down),
            dwell: device.visit.as_ref().map(|visit| visit.dwell().as_secs()),
        }
    }

    /// Opens for a device at the staff's word, or gives its session another end. The answer
    /// follows when the kernel has it.
    fn staff_grant(
        &mut self,
        request: RequestId,
        (mac, zone): (Mac, Option<ZoneId>),
        (length, overrides): (Option<Duration>, &Overrides),
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Result<(), &'static str> {
        if !mac.is_station() {
            return Err("not the address of a device");
        }
        if self.policy.blocked_macs.contains(&mac) {
            return Err("the device is blocked");
        }
        if self.policy.trusted_macs.contains(&mac) {
            return Err("the device is trusted and needs no grant");
        }
        if length == Some(Duration::ZERO) {
            return Err("a grant needs a length");
        }
        let zone = zone
            .or_else(|| self.last_zone(mac))
            .or_else(|| (self.policy.zones.len() == 1).then_some(ZoneId(0)))
            .ok_or("the device was never seen, and there is more than one zone: name one")?;
        let rules = self.policy.zone(zone).ok_or("there is no such zone")?;
        let limits = rules.limits.with(overrides);
        let default_length = rules.session_timeout;
        let key = Key { zone, mac };
        self.bring(key);
        if let Some(id) = self.devices.get(key).and_then(|device| device.session) {
            let length = length.unwrap_or(default_length);
            return self.change(request, id, (Some(length), overrides), now, effects);
        }
        if self.devices.get(key).is_none() {
            self.devices.entry(key).last = now.boot;
        }
        let opening = Opening {
            identity: Identity::Staff,
            method: Method::Staff,
            limits,
            length: Some(length.unwrap_or(default_length)),
            extended: 0,
            terms: "",
        };
        self.open(key, opening, Some(Waiter::Control(request)), now, effects)
            .map_err(|_| "too many devices are online")
    }

    /// Gives a device's sessions other limits.
    fn staff_limit(
        &mut self,
        request: RequestId,
        mac: Mac,
        overrides: &Overrides,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Result<(), &'static str> {
        if self.policy.trusted_macs.contains(&mac) {
            return Err("the device is trusted and has no limits");
        }
        let sessions = self.sessions_of(mac);
        if sessions.is_empty() {
            return Err("the device is not online");
        }
        for id in sessions {
            self.change(request, id, (None, overrides), now, effects)?;
        }
        Ok(())
    }

    /// Gives a session another end or other limits, at once and with what it has used.
    fn change(
        &mut self,
        request: RequestId,
        id: SessionId,
        (length, overrides): (Option<Duration>, &Overrides),
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Result<(), &'static str> {
        let Some(session) = self.sessions.live.get_mut(&id).filter(|session| session.online())
        else {
            return Err("the device is just being let in; try again");
        };
        session.waiting.push(Waiter::Control(request));
        let limits = session.grant.limits.with(overrides);
        let deadline = length.map_or(session.deadline, |length| Some(now.boot + length));
        let identity = session.identity;
        self.rewrite(id, identity, limits, deadline, now, effects);
        Ok(())
    }

    pub(super) fn sessions_of(&self, mac: Mac) -> Vec<SessionId> {
        self.zones().filter_map(|zone| self.devices.get(Key { zone, mac })?.session).collect()
    }

    fn staff_revoke(&mut self, mac: Mac, now: Now, effects: &mut Vec<Effect>) -> Report {
        if self.policy.trusted_macs.contains(&mac) {
            return Report::Refused("the device is trusted".into());
        }
        let sessions = self.sessions_of(mac);
        if sessions.is_empty() {
            return Report::Refused("the device is not online".into());
        }
        for id in sessions {
            self.end(id, EndReason::Revoked, true, now, effects);
        }
        Report::Done
    }

    /// The zone in which a device was seen last.
    fn last_zone(&self, mac: Mac) -> Option<ZoneId> {
        self.zones()
            .filter_map(|zone| Some((self.devices.get(Key { zone, mac })?.last, zone)))
            .max_by_key(|(last, _)| *last)
            .map(|(_, zone)| zone)
    }
}
