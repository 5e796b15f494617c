//! What the kernel counts, read while anybody is online: bytes, quotas, idleness and presence.

use std::time::Duration;

use super::effect::{Effect, EndReason, Firewall, Record};
use super::event::Usage;
use super::names::{BootTime, Now, SessionId};
use super::session::Session;
use super::{Domain, Timer};

/// Counters are read this often while anybody is online.
const READ_EVERY: Duration = Duration::from_secs(30);
/// More often near the end of a quota: the guest has a dead network from there to the next reading.
const READ_SOON: Duration = Duration::from_secs(2);
/// Bytes a second that a guest may be expected to move at most.
const FASTEST: u64 = 12_500_000;
/// Counters go to disk at most this often.
const CHECKPOINT: Duration = Duration::from_mins(2);

impl Session {
    /// How long its counters may go unread.
    pub(super) fn reading_due(&self) -> Duration {
        let left = self.quota_left().map(|left| Duration::from_secs(left / FASTEST));
        left.map_or(READ_EVERY, |left| left.clamp(READ_SOON, READ_EVERY))
    }

    /// Whether its counters' reading asks for anything to be done.
    fn has_news(&self, usage: &Usage, patience: Duration, now: BootTime) -> bool {
        usage.up > self.grant.used_up
            || usage.down > self.grant.used_down
            || usage.spent
            || self.quota_left() == Some(0)
            || self.is_unsaved()
            || now - self.moved >= patience
            || !self.reading.is_empty()
    }

    /// Whether the disk does not know all of its bytes.
    fn is_unsaved(&self) -> bool {
        self.bytes() != self.checkpoint.1
    }
}

impl Domain {
    /// Asks for the counters while anybody is online.
    pub(super) fn read_usage(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if !self.sessions.live.is_empty() {
            self.sessions.asked = self.sessions.asked.wrapping_add(1);
            effects.push(Effect::Firewall(Firewall::ReadUsage));
            let due = self.sessions.live.values().map(|session| session.reading_due()).min();
            self.timers.set(Timer::Read, Some(now.boot + due.unwrap_or(READ_EVERY)));
        }
    }

    /// Takes a reading of the counters in.
    pub(super) fn usage(&mut self, usage: Vec<Usage>, now: Now, effects: &mut Vec<Effect>) {
        if self.sessions.answered != self.sessions.asked {
            self.sessions.answered = self.sessions.answered.wrapping_add(1);
        }
        // Readings are answered in order, so this one was asked for as number `answered`; a
        // session that the kernel got later is not missing from it.
        let reading = self.sessions.answered;
        self.sessions.read = now.boot;
        for (id, usage) in self.news_in(usage, now.boot) {
            let Some(session) = self.sessions.live.get(&id) else { continue };
            if let Some(usage) = usage {
                self.count(usage, now, effects);
            } else if session.unread < reading {
                let reason = session.gone(now.boot);
                self.end(id, reason, false, now, effects);
            }
            self.show_reading(id, now, effects);
        }
    }

    /// The sessions of which a reading tells something new, by their numbers. Of thousands, most are
    /// silent between two readings.
    fn news_in(&self, mut usage: Vec<Usage>, now: BootTime) -> Vec<(SessionId, Option<Usage>)> {
        let patience = self.policy.zones.iter().map(|zone| zone.idle_timeout).min();
        let patience = patience.unwrap_or_default();
        usage.sort_unstable_by_key(|usage| usage.session);
        let mut usage = usage.into_iter().peekable();
        let mut news = Vec::new();
        for (id, session) in self.sessions.live.iter().filter(|(_, session)| session.in_kernel) {
            while usage.next_if(|usage| usage.session < *id).is_some() {}
            let usage = usage.next_if(|usage| usage.session == *id);
            if usage.is_none_or(|usage| session.has_news(&usage, patience, now)) {
                news.push((*id, usage));
            }
        }
        news
    }

    /// Writes down what only memory knows, before a stop.
    pub(super) fn checkpoint(&self, now: Now, effects: &mut Vec<Effect>) {
        for (id, session) in self.sessions.live.iter().filter(|(_, session)| session.is_unsaved()) {
            let (up, down) = (session.grant.used_up, session.grant.used_down);
            let left = session.left(now.boot);
            effects.push(Effect::Store(Record::SessionUsed { session: *id, up, down, left }));
        }
        for (_, device) in self.devices.iter() {
            if let Some(visit) = device.visit.as_ref().filter(|visit| visit.is_unsaved()) {
                effects.push(Effect::Store(Record::VisitSeen {
                    visit: visit.id,
                    dwell: visit.dwell(),
                    last: visit.last(),
                }));
            }
        }
    }

    fn count(&mut self, usage: Usage, now: Now, effects: &mut Vec<Effect>) {
        let id = usage.session;
        let Some(session) = self.sessions.live.get_mut(&id) else { return };
        let grant = &mut session.grant;
        let moved_up = usage.up > grant.used_up;
        if moved_up || usage.down > grant.used_down {
            session.moved = now.boot;
        }
        grant.used_up = grant.used_up.max(usage.up);
        grant.used_down = grant.used_down.max(usage.down);
        let (key, bytes, left) = (session.key(), session.bytes(), session.left(now.boot));
        if session.is_unsaved() && now.boot - session.checkpoint.0 >= CHECKPOINT {
            session.checkpoint = (now.boot, bytes);
            let (up, down) = (session.grant.used_up, session.grant.used_down);
            effects.push(Effect::Store(Record::SessionUsed { session: id, up, down, left }));
        }
        let spent = usage.spent || session.quota_left() == Some(0);
        let silence = now.boot - session.moved;
        let visitor = session.identity.is_visitor();
        let idle =
            visitor && self.policy.zone(key.zone).is_some_and(|zone| silence >= zone.idle_timeout);
        // Bytes to the device arrive whether it is there or not; its own show that it is.
        if moved_up {
            self.sight(key, None, None, now, effects);
        }
        if spent {
            self.end(id, EndReason::Quota, true, now, effects);
        } else if idle {
            self.end(id, EndReason::IdleTimeout, true, now, effects);
        }
    }

    /// The table is gone: build it again from what we know.
    pub(super) fn rebuild(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.counters.rebuilds += 1;
        let asked = self.sessions.asked;
        for session in self.sessions.live.values_mut().filter(|session| session.in_kernel) {
            session.unread = asked;
        }
        effects.push(Effect::Firewall(Firewall::Rebuild(self.grants(now.boot))));
        let passes = self.passes.open(now.boot);
        effects.extend(passes.map(|pass| Effect::Firewall(Firewall::Pass(pass))));
    }
}
