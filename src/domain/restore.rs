//! The start: what the disk knew and what the kernel still holds become the state again.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Domain;
use super::device::{Key, STRANGERS};
use super::effect::{Effect, EndReason, Firewall, Grant, Record};
use super::names::{Now, SessionId};
use super::policy::{Identity, Limits};
use super::saved::{Live, SavedSession, SavedVisit, Snapshot};
use super::session::{Session, second};
use super::visit::Visit;

/// The kernel's clock and ours may differ by this much.
const SOON: Option<Duration> = Some(Duration::from_secs(1));

impl Domain {
    /// Takes up the work of the last run, before any event: `live` is what the kernel's table
    /// still holds, `None` if there was no table. Sessions that the kernel kept go on untouched;
    /// those that left it have ended; those that the disk does not know are revoked. Without a
    /// table the effects rebuild it.
    pub fn restore(
        &mut self,
        snapshot: Snapshot,
        live: Option<Vec<Live>>,
        now: Now,
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.sessions.next = snapshot.next_session.max(1);
        self.next_visit = snapshot.next_visit.max(1);
        for guest in snapshot.guests {
            self.guests.restore(guest);
        }
        for (nonce, expires) in snapshot.used_tokens {
            self.tokens.spend(nonce, expires);
        }
        let Snapshot { last_batch, vouchers, batches_from_hq, .. } = snapshot;
        self.vouchers.restore(last_batch, vouchers, batches_from_hq);
        self.throttle.restore(&snapshot.messages, now.boot);
        self.throttle.restore_attempts(&snapshot.attempts, now.boot);
        for saved in snapshot.devices.into_iter().take(STRANGERS) {
            if self.policy.zone(saved.zone).is_some() {
                let key = Key { zone: saved.zone, mac: saved.mac };
                self.bring(key);
                let device = self.devices.entry(key);
                device.hostname = saved.hostname.map(Into::into);
                device.recorded = true;
                device.last = now.boot;
            }
        }
        for visit in snapshot.visits {
            self.restore_visit(&visit, now, &mut effects);
        }
        let table = live.is_some();
        let live = live.into_iter().flatten().map(|live| (live.session, live));
        let mut live: BTreeMap<SessionId, Live> = live.collect();
        for saved in snapshot.sessions {
            let kept = live.remove(&saved.grant.session);
            self.restore_session(saved, kept, table, now, &mut effects);
        }
        // What is left stands in the kernel without a row: the row was never written, or is ended.
        let strays = live.into_values().map(|live| Firewall::Revoke(bare(&live)));
        effects.extend(strays.map(Effect::Firewall));
        if table {
            self.read_usage(now, &mut effects);
        } else {
            effects.push(Effect::Firewall(Firewall::Rebuild(self.grants(now.boot))));
        }
        effects.push(Effect::Firewall(Firewall::Block(self.policy.blocked_macs.clone())));
        // Those with a session are filed and armed.
        let others = self.devices.iter().filter(|(_, device)| device.session.is_none());
        let keys: Vec<Key> = others.map(|(key, _)| key).collect();
        for key in keys {
            self.devices.refile(key);
            self.arm_device(key);
        }
        effects
    }

    fn restore_visit(&mut self, saved: &SavedVisit, now: Now, effects: &mut Vec<Effect>) {
        let key = Key { zone: saved.zone, mac: saved.mac };
        self.next_visit = self.next_visit.max(saved.visit.0 + 1);
        self.bring(key);
        let guest = self.guests.get(saved.mac).map(|known| known.guest);
        let visit = Visit::restore(saved, guest, now.boot);
        let counts = self.policy.zone(key.zone).is_some()
            && !self.policy.trusted_macs.contains(&key.mac)
            && self.devices.get(key).is_none_or(|device| device.visit.is_none());
        if counts {
            let device = self.devices.entry(key);
            device.last = device.last.max(visit.last());
            device.recorded = true;
            device.visit = Some(visit);
        } else {
            let (dwell, last) = (visit.dwell(), visit.last());
            effects.push(Effect::Store(Record::VisitClosed { visit: visit.id, dwell, last }));
        }
    }

    fn restore_session(
        &mut self,
        saved: SavedSession,
        kept: Option<Live>,
        table: bool,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let SavedSession { mut grant, identity, started, extended } = saved;
        let id = grant.session;
        let key = Key { zone: grant.zone, mac: grant.mac };
        self.sessions.next = self.sessions.next.max(id.0 + 1);
        self.bring(key);
        let stands = self.take_over(&mut grant, kept, effects);
        let free = self.sessions.is_free(grant.mark);
        let mut session = Session {
            deadline: grant.left.map(|left| now.boot + left),
            identity,
            started: started.and_then(second),
            extended,
            in_kernel: stands || !table,
            on_disk: true,
            unread: if stands || !table { 0 } else { u32::MAX },
            table: 0,
            moved: now.boot,
            checkpoint: (now.boot, grant.used_up.saturating_add(grant.used_down)),
            waiting: Vec::new(),
            reading: Vec::new(),
            grant,
        };
        if let Some(reason) = self.over_at_start(&session, stands, table, now) {
            let Grant { used_up: up, used_down: down, .. } = session.grant;
            if stands {
                effects.push(Effect::Firewall(Firewall::Revoke(session.grant)));
            }
            let at = now.boot;
            effects.push(Effect::Store(Record::SessionEnded { session: id, reason, up, down, at }));
            return;
        }
        if !free && let Some(mark) = self.sessions.free_mark() {
            session.grant.mark = mark;
        }
        if !session.in_kernel {
            effects.push(Effect::Firewall(Firewall::Grant(session.grant.clone())));
        }
        let device = self.devices.entry(key);
        device.session = Some(id);
        device.recorded = true;
        device.last = device.last.max(now.boot);
        self.admit(session, now.boot);
    }

    /// Whether the kernel still has the grant, whose time and mark are newer there than in the last
    /// checkpoint; so are its bytes, which are read once the pages are open. What it has of another device under that session's number goes.
    fn take_over(&self, grant: &mut Grant, kept: Option<Live>, effects: &mut Vec<Effect>) -> bool {
        let Some(live) = kept else { return false };
        if live.mac != grant.mac || !self.policy.joined(live.zone, grant.zone) {
            effects.push(Effect::Firewall(Firewall::Revoke(bare(&live))));
            return false;
        }
        grant.left = live.left;
        grant.mark = live.mark;
        true
    }

    /// Why a session of the last run does not go on, if it does not.
    fn over_at_start(
        &self,
        session: &Session,
        stands: bool,
        table: bool,
        now: Now,
    ) -> Option<EndReason> {
        let key = session.key();
        let allowed = self.policy.zone(key.zone).is_some()
            && self.policy.allows(key.mac, session.identity)
            && self.devices.get(key).is_none_or(|device| device.session.is_none());
        if !allowed {
            Some(EndReason::Revoked)
        } else if session.left(now.boot) == Some(Duration::ZERO) {
            Some(EndReason::SessionTimeout)
        } else if table && !stands {
            (!takes_up(session, now)).then(|| session.gone(now.boot))
        } else {
            (session.quota_left() == Some(0)).then_some(EndReason::Quota)
        }
    }
}

/// Whether a session that the kernel lacks goes on all the same: a use of a voucher must not be lost
/// to a kill between disk and kernel.
fn takes_up(session: &Session, now: Now) -> bool {
    let voucher = matches!(session.identity, Identity::Voucher(_));
    voucher && session.bytes() == 0 && session.left(now.boot) > SOON
}

/// Enough of a grant to take it back.
fn bare(live: &Live) -> Grant {
    Grant {
        session: live.session,
        zone: live.zone,
        mac: live.mac,
        mark: live.mark,
        left: live.left,
        limits: Limits::default(),
        used_up: 0,
        used_down: 0,
    }
}
