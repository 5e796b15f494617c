//! Sessions: opened once kernel and disk both have them, ended once.

use std::num::NonZeroU32;
use std::time::Duration;

use super::device::Key;
use super::effect::{
    Answer, Effect, EndReason, Firewall, Grant, Method, Record, Refusal, Report, View,
};
use super::names::{BootTime, GuestKey, Mark, Now, RequestId, SessionId, ZoneId};
use super::policy::{Identity, Limits, ZonePolicy};
use super::{Domain, Timer};

/// Requests that may wait for one session.
pub(super) const WAITING: usize = 8;
/// After the kernel refused a grant of our own accord, it is not tried again for this long.
const RETRY: Duration = Duration::from_secs(30);

/// One grant and what became of it.
#[derive(Debug)]
pub(super) struct Session {
    /// As given to the kernel; `used_*` are the counts so far, `left` is stale.
    pub(super) grant: Grant,
    pub(super) identity: Identity,
    /// Second of the boot clock in which it began; `None` if that was before this boot.
    pub(super) started: Option<NonZeroU32>,
    pub(super) deadline: Option<BootTime>,
    /// How often the guest has lengthened it.
    pub(super) extended: u8,
    pub(super) in_kernel: bool,
    pub(super) on_disk: bool,
    /// Counter readings asked for before the kernel had it: they may miss it.
    pub(super) unread: u32,
    /// Tables built before it was granted: a later one holds it, whatever the kernel answers.
    pub(super) table: u32,
    /// When it last moved bytes.
    pub(super) moved: BootTime,
    /// When its counters last went to disk, and what they came to.
    pub(super) checkpoint: (BootTime, u64),
    pub(super) waiting: Vec<Waiter>,
    /// Pages that wait for the next reading of the counters.
    pub(super) reading: Vec<RequestId>,
}

/// Who awaits a session's outcome.
#[derive(Clone, Copy, Debug)]
pub(super) enum Waiter {
    Portal(RequestId),
    Control(RequestId),
}

/// What a session is to be.
#[derive(Clone, Copy)]
pub(super) struct Opening<'a> {
    pub(super) identity: Identity,
    pub(super) method: Method,
    pub(super) limits: Limits,
    pub(super) length: Option<Duration>,
    /// How often the guest has lengthened it before.
    pub(super) extended: u8,
    /// The version of the terms that were agreed to, if the session's row is to keep it.
    pub(super) terms: &'a str,
}

impl Opening<'_> {
    /// What a device on the trusted list gets, however it comes in.
    pub(super) const TRUSTED: Self = Self {
        identity: Identity::Trusted,
        method: Method::Trusted,
        limits: Limits::NONE,
        length: None,
        extended: 0,
        terms: "",
    };
}

impl Session {
    pub(super) const fn key(&self) -> Key {
        Key { zone: self.grant.zone, mac: self.grant.mac }
    }

    /// The guest whose it is, where that is somebody.
    pub(super) fn guest(&self) -> Option<GuestKey> {
        match self.identity {
            Identity::Guest(guest) if guest != GuestKey::NOBODY => Some(guest),
            _ => None,
        }
    }

    pub(super) const fn online(&self) -> bool {
        self.in_kernel && self.on_disk
    }

    pub(super) fn left(&self, now: BootTime) -> Option<Duration> {
        self.deadline.map(|deadline| deadline - now)
    }

    /// What the kernel should hold of it now. `None` if its time is over.
    pub(super) fn grant(&self, now: BootTime) -> Option<Grant> {
        let left = self.left(now);
        (left != Some(Duration::ZERO)).then(|| Grant { left, ..self.grant.clone() })
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.grant.used_up.saturating_add(self.grant.used_down)
    }

    /// Bytes left of the tightest quota.
    pub(super) fn quota_left(&self) -> Option<u64> {
        let limits = &self.grant.limits;
        [
            (limits.quota, self.bytes()),
            (limits.upload_quota, self.grant.used_up),
            (limits.download_quota, self.grant.used_down),
        ]
        .into_iter()
        .filter_map(|(quota, used)| Some(quota?.saturating_sub(used)))
        .min()
    }

    /// Why a session that is no longer in the kernel left it.
    pub(super) fn gone(&self, now: BootTime) -> EndReason {
        // The kernel counts its time-out apart; near the end it may be the first to act.
        let timed_out = self.left(now).is_some_and(|left| left <= Duration::from_secs(1));
        if self.quota_left().is_some() && !timed_out {
            EndReason::Quota
        } else {
            EndReason::SessionTimeout
        }
    }
}

impl Domain {
    /// Whether the zone takes another guest.
    pub(super) fn full(&self, zone: &ZonePolicy, key: Key) -> bool {
        let online = self.clients.get(&key.zone).copied().unwrap_or(0);
        online >= zone.max_clients || self.sessions.live.len() >= usize::from(Mark::MOST)
    }

    /// Opens a session; `waiter` is answered once kernel and disk have it, or either refused.
    pub(super) fn open(
        &mut self,
        key: Key,
        opening: Opening<'_>,
        waiter: Option<Waiter>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let mark = self.sessions.free_mark().ok_or(Refusal::Full)?;
        let device = self.devices.get_mut(key).ok_or(Refusal::Failed)?;
        let session = SessionId(self.sessions.next);
        self.sessions.next += 1;
        let address = device.begin(session);
        let Opening { identity, method, limits, length, extended, terms } = opening;
        let grant = Grant {
            session,
            zone: key.zone,
            mac: key.mac,
            mark,
            left: length,
            limits,
            used_up: 0,
            used_down: 0,
        };
        effects.push(Effect::Firewall(Firewall::Grant(grant.clone())));
        effects.push(Effect::Store(Record::SessionStarted {
            grant: grant.clone(),
            identity,
            method,
            address,
            extended,
            terms: terms.to_owned(),
            at: now.boot,
        }));
        self.admit(
            Session {
                grant,
                identity,
                started: second(now.boot),
                deadline: length.map(|length| now.boot + length),
                extended,
                in_kernel: false,
                on_disk: false,
                unread: u32::MAX,
                table: self.counters.rebuilds,
                moved: now.boot,
                checkpoint: (now.boot, 0),
                waiting: waiter.into_iter().collect(),
                reading: Vec::new(),
            },
            now.boot,
        );
        self.make_way(session, now, effects);
        Ok(())
    }

    /// Files a session under its device, its zone's count and its deadline.
    pub(super) fn admit(&mut self, session: Session, now: BootTime) {
        let (id, key) = (session.grant.session, session.key());
        if session.identity != Identity::Trusted {
            self.count_client(key.zone, 1);
        }
        self.timers.set(Timer::Session(id), session.deadline);
        let due = now + session.reading_due();
        if self.timers.time(Timer::Read).is_none_or(|at| due < at) {
            self.timers.set(Timer::Read, Some(due));
        }
        self.sessions.insert(session);
        self.devices.refile(key);
        self.arm_device(key);
    }

    /// Changes what a live session is, at once, on disk and in the kernel; nothing is cut, and
    /// what it has used stays used.
    pub(super) fn rewrite(
        &mut self,
        id: SessionId,
        identity: Identity,
        limits: Limits,
        deadline: Option<BootTime>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let Some(session) = self.sessions.live.get_mut(&id) else { return };
        let counted = session.identity != Identity::Trusted;
        session.grant.limits = limits;
        session.deadline = deadline;
        let zone = session.grant.zone;
        let (up, down, extended) =
            (session.grant.used_up, session.grant.used_down, session.extended);
        let left = session.left(now.boot);
        if let Some(grant) = session.grant(now.boot) {
            effects.push(Effect::Firewall(Firewall::Replace(grant)));
        }
        effects.push(Effect::Store(Record::SessionUsed { session: id, up, down, left }));
        effects.push(Effect::Store(Record::SessionChanged {
            session: id,
            identity,
            limits,
            extended,
        }));
        self.timers.set(Timer::Session(id), deadline);
        self.sessions.give_to(id, identity);
        if counted && identity == Identity::Trusted {
            self.count_client(zone, -1);
        }
    }

    /// One more, or one less, of those who count towards a zone's `max_clients`.
    pub(super) fn count_client(&mut self, zone: ZoneId, change: isize) {
        let online = self.clients.entry(zone).or_default();
        *online = online.saturating_add_signed(change);
    }

    /// The kernel or the disk has a session.
    pub(super) fn confirmed(
        &mut self,
        id: SessionId,
        confirm: impl FnOnce(&mut Session, u32),
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let asked = self.sessions.asked;
        let Some(session) = self.sessions.live.get_mut(&id) else { return };
        confirm(session, asked);
        if !session.online() {
            return;
        }
        let waiting = std::mem::take(&mut session.waiting);
        let Some(view) = self.online_view(id, now.boot) else { return };
        for waiter in waiting {
            effects.push(match waiter {
                Waiter::Portal(request) => reply(request, view.clone()),
                Waiter::Control(request) => report(request, Report::Done),
            });
        }
    }

    /// The kernel refused a session: nothing of it stands, unless a table was built meanwhile.
    pub(super) fn grant_failed(&mut self, id: SessionId, now: Now, effects: &mut Vec<Effect>) {
        let Some(session) = self.sessions.live.get(&id) else { return };
        let stands = session.table != self.counters.rebuilds;
        if let Some(device) = self.devices.get_mut(session.key()) {
            device.retry = now.boot + RETRY;
        }
        self.end(id, EndReason::Failed, stands, now, effects);
    }

    /// The disk refused a session.
    pub(super) fn store_failed(&mut self, id: SessionId, now: Now, effects: &mut Vec<Effect>) {
        let Some(session) = self.sessions.live.get(&id) else { return };
        if session.identity == Identity::Trusted {
            // The list makes it online, not the record.
            self.confirmed(id, |session, _| session.on_disk = true, now, effects);
        } else {
            self.end(id, EndReason::Failed, true, now, effects);
        }
    }

    /// Ends a session; `cut` unless the kernel let go of it already.
    pub(super) fn end(
        &mut self,
        id: SessionId,
        reason: EndReason,
        cut: bool,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let Some(session) = self.sessions.remove(id) else { return };
        let key = session.key();
        let timed_out = matches!(reason, EndReason::SessionTimeout | EndReason::IdleTimeout);
        let extend = timed_out && session.may_extend(self.policy.zone(key.zone));
        self.timers.set(Timer::Session(id), None);
        if session.identity != Identity::Trusted {
            self.count_client(key.zone, -1);
        }
        self.unspend(&session, reason);
        if reason.for_good() {
            self.guests.void(key.mac);
        }
        if let Some(device) = self.devices.get_mut(key) {
            device.session = None;
            // Remembered for a while from here, so that the guest can read why.
            device.last = now.boot;
            // Who went and came back is greeted anew.
            let told = !matches!(reason, EndReason::Failed | EndReason::Left);
            device.ended = told.then_some((reason, now.boot));
            device.spare = extend.then_some((session.identity, session.extended));
            // Its list lets it in again, but not at once with new time and volume.
            if session.identity == Identity::Preemptive && reason.for_good() {
                device.retry = session.deadline.unwrap_or(now.boot);
            }
        }
        self.devices.refile(key);
        self.arm_device(key);
        let (up, down) = (session.grant.used_up, session.grant.used_down);
        if cut {
            effects.push(Effect::Firewall(Firewall::Revoke(session.grant)));
        }
        let at = now.boot;
        effects.push(Effect::Store(Record::SessionEnded { session: id, reason, up, down, at }));
        let reading = session.reading.into_iter();
        effects.extend(reading.map(|request| reply(request, View::Ended { reason, extend })));
        for waiter in session.waiting {
            effects.push(match waiter {
                Waiter::Portal(request) if reason == EndReason::Failed => {
                    reply(request, View::Phone { refusal: Some(Refusal::Failed) })
                }
                Waiter::Portal(request) => reply(request, View::Ended { reason, extend }),
                Waiter::Control(request) => {
                    report(request, Report::Refused("the session could not be opened".into()))
                }
            });
        }
    }
}

/// The second of a moment.
pub(super) fn second(at: BootTime) -> Option<NonZeroU32> {
    u32::try_from(at.0 / 1000).ok().and_then(NonZeroU32::new)
}

pub(super) const fn reply(request: RequestId, view: View) -> Effect {
    Effect::Reply { request, answer: Answer::Portal(view) }
}

pub(super) const fn report(request: RequestId, report: Report) -> Effect {
    Effect::Reply { request, answer: Answer::Control(report) }
}
