//! What maitred knows and decides: no sockets, no files, no clock, no async.

pub mod auth;
mod companions;
mod control;
mod counters;
mod device;
pub mod effect;
pub mod event;
mod extend;
mod follows;
pub mod garden;
mod guest;
mod identify;
pub mod names;
mod pass;
pub mod policy;
mod portal;
mod presence;
pub mod probe;
mod queue;
mod reason;
mod record;
mod reload;
pub mod report;
mod restore;
mod roam;
pub mod saved;
mod session;
mod sessions;
mod visit;
mod vouchers;

use std::collections::BTreeMap;
use std::fmt;

use rand::SeedableRng;
use rand::rngs::StdRng;

use auth::follow::UsedTokens;
use auth::pumping::Pumping;
use auth::throttle::Throttle;
use auth::voucher::Vouchers;
use device::{Devices, Key, Turnstile};
use effect::{Effect, EndReason, Grant};
use event::Event;
use guest::Guests;
use names::{BootTime, Now, SessionId, ZoneId};
use pass::Passes;
use policy::Policy;
use queue::Queue;
use sessions::Sessions;

pub use guest::Secrets;

/// The whole state, and the only place where it changes: events in, effects out.
///
/// Time is an argument and must not run backwards. Call [`Self::handle`] with [`Event::Tick`] at
/// [`Self::next_timeout`].
pub struct Domain {
    policy: Policy,
    secrets: Secrets,
    rng: StdRng,
    devices: Devices,
    sessions: Sessions,
    /// Sessions of a zone that count towards `max_clients`.
    clients: BTreeMap<ZoneId, usize>,
    guests: Guests,
    passes: Passes,
    throttle: Throttle,
    pumping: Pumping,
    tokens: UsedTokens,
    vouchers: Vouchers,
    turnstile: Turnstile,
    timers: Queue<Timer>,
    counters: Counters,
    next_visit: u64,
    next_message: u32,
}

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Session(SessionId),
    Device(Key),
    /// Read the counters.
    Read,
}

/// Counts since the start.
#[derive(Debug, Default)]
struct Counters {
    codes_sent: u32,
    codes_accepted: u32,
    rebuilds: u32,
    moves: u32,
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (devices, sessions) = (self.devices.len(), self.sessions.live.len());
        f.debug_struct("Domain")
            .field("devices", &devices)
            .field("sessions", &sessions)
            .finish_non_exhaustive()
    }
}

impl Domain {
    /// An empty house. `seed` must come from the system's random source: codes are made of it.
    pub fn new(policy: Policy, secrets: Secrets, seed: [u8; 32]) -> Self {
        Self {
            policy,
            secrets,
            rng: StdRng::from_seed(seed),
            devices: Devices::default(),
            sessions: Sessions::new(),
            clients: BTreeMap::new(),
            guests: Guests::default(),
            passes: Passes::default(),
            throttle: Throttle::new(),
            pumping: Pumping::default(),
            tokens: UsedTokens::default(),
            vouchers: Vouchers::default(),
            turnstile: Turnstile::new(),
            timers: Queue::default(),
            counters: Counters::default(),
            next_visit: 1,
            next_message: 1,
        }
    }

    /// Takes in what happened and appends what is to be done, in order. Whatever fell due by
    /// `now` comes first.
    pub fn handle(&mut self, event: Event, now: Now, effects: &mut Vec<Effect>) {
        self.catch_up(now, effects);
        match event {
            Event::Tick => {}
            Event::Seen(sighting) => self.seen(&sighting, now, effects),
            Event::Left { zone, mac } => self.left(Key { zone, mac }, now, effects),
            Event::Portal { request, client, ask } => {
                self.portal(request, client, ask, now, effects);
            }
            Event::Control { request, command } => self.control(request, &command, now, effects),
            Event::Reload { request, policy } => self.reload(request, *policy, now, effects),
            Event::Granted(id) => {
                let confirm = |session: &mut session::Session, asked| {
                    session.in_kernel = true;
                    session.unread = asked;
                };
                self.confirmed(id, confirm, now, effects);
            }
            Event::Stored(id) => {
                self.confirmed(id, |session, _| session.on_disk = true, now, effects);
            }
            Event::GrantFailed(id) => self.grant_failed(id, now, effects),
            Event::StoreFailed(id) => self.store_failed(id, now, effects),
            Event::Usage(usage) => self.usage(usage, now, effects),
            Event::Passed { zone, mac, opened } => {
                self.passed(Key { zone, mac }, opened, now, effects);
            }
            Event::Sms { mac, message, sent } => self.sms(mac, message, sent),
            Event::Stopping => self.checkpoint(now, effects),
            Event::Moved(devices) => self.moved(&devices, now, effects),
            Event::Doubled(devices) => self.doubled(&devices, now, effects),
            Event::TableLost => self.rebuild(now, effects),
        }
    }

    /// When [`Event::Tick`] is next due; `None` while there is nothing to wait for.
    pub fn next_timeout(&self) -> Option<BootTime> {
        self.timers.first().map(|(at, _)| at)
    }

    /// What the firewall should hold at `now`.
    pub fn grants(&self, now: BootTime) -> Vec<Grant> {
        self.sessions.live.values().filter_map(|session| session.grant(now)).collect()
    }

    fn catch_up(&mut self, now: Now, effects: &mut Vec<Effect>) {
        while let Some(timer) = self.timers.pop_due(now.boot) {
            match timer {
                Timer::Session(id) => {
                    self.end(id, EndReason::SessionTimeout, true, now, effects);
                }
                Timer::Device(key) => self.device_due(key, now, effects),
                Timer::Read => self.read_usage(now, effects),
            }
        }
    }

    fn zones(&self) -> impl Iterator<Item = ZoneId> + use<> {
        (0..=u8::MAX).map(ZoneId).take(self.policy.zones.len())
    }
}
