//! What becomes of a question: answered here, asked of a resolver, or refused. No sockets, no clock.
//!
//! Every byte that a stranger could send out in a name, or get back in an address, is paid from two
//! budgets before the resolver is asked. What the cache holds costs nothing: it carries nothing.

use std::net::IpAddr;
use std::time::Duration;

use super::budget::{Buckets, DEVICE, DOMAIN, GARDEN};
use super::cache::Cache;
use super::names;
use super::settings::Settings;
use crate::domain::names::{BootTime, Mac, ZoneId};
use crate::wire::dns::{Code, Kind, Name, Question, Reply};

/// Devices, and domains, whose budgets are kept.
const MOST_BUCKETS: usize = 16_384;
/// Bytes that a question costs beyond its name and addresses: which name, which code, which time.
const QUESTION_COST: u32 = 2;
/// Addresses that a stranger gets: one is enough to meet the portal, and more would carry more.
const STRANGER_ADDRESSES: usize = 1;
/// Seconds that a stranger may keep an address: once online he shall ask a full resolver.
const STRANGER_TTL: u32 = 30;
/// Seconds that our own address may be kept: after a login, or in another store, it is another.
const PORTAL_TTL: u32 = 30;
/// Seconds that a placeholder may be kept.
const PLACEHOLDER_TTL: u32 = 5;
/// Registrable domains that fail in a row before the uplink is taken for down.
const FAILURES: usize = 3;
/// While it is down, a question goes out this often to see whether it still is.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// What happened so far; counts wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Well-formed questions.
    pub questions: u32,
    /// Messages that were no question.
    pub malformed: u32,
    /// Questions asked of resolvers.
    pub forwarded: u32,
    /// Questions that joined one that was on its way.
    pub joined: u32,
    /// Answers from the cache.
    pub cached: u32,
    /// Refused: a type or a name that is not forwarded.
    pub refused: u32,
    /// Refused, or given an old answer, because a budget is spent.
    pub over_budget: u32,
    /// Dropped because too much was under way.
    pub overloaded: u32,
    /// Questions that no resolver answered.
    pub unanswered: u32,
    /// Datagrams from resolvers that answered something else, or nothing readable.
    pub mismatched: u32,
    /// Placeholders given.
    pub placeholders: u32,
    /// Garden answers whose addresses could not be opened first.
    pub not_learned: u32,
}

/// Who pays: the device if its MAC is known, else the address it asked from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Payer {
    Device(ZoneId, Mac),
    Address(ZoneId, IpAddr),
}

/// The state of the way to the resolvers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flight {
    /// The same question is on its way.
    UnderWay,
    /// It may start.
    Clear,
    /// Too many are on their way.
    Full,
}

/// What becomes of a question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Send this.
    Reply(Reply),
    /// Open these addresses to those whose garden the name is in, then send this.
    Learn(Reply),
    /// Ask a resolver.
    Forward,
    /// Wait for the same question's answer.
    Join,
    /// Send this, and ask a resolver to see whether the uplink is back.
    Probe(Reply),
    /// Say nothing.
    Drop,
}

/// All that is remembered between questions.
#[derive(Debug)]
pub(super) struct Policy {
    pub(super) counts: Counts,
    cache: Cache,
    devices: Buckets<Payer>,
    gardeners: Buckets<Payer>,
    domains: Buckets<Box<str>>,
    /// Domains that failed since a resolver last answered.
    failed: Vec<Box<str>>,
    probe_at: BootTime,
}

impl Policy {
    pub(super) fn new() -> Self {
        Self {
            counts: Counts::default(),
            cache: Cache::new(),
            devices: Buckets::new(DEVICE, MOST_BUCKETS),
            gardeners: Buckets::new(GARDEN, MOST_BUCKETS),
            domains: Buckets::new(DOMAIN, MOST_BUCKETS),
            failed: Vec::new(),
            probe_at: BootTime(0),
        }
    }

    /// Decides about a question, and pays for it if it is to be asked on.
    pub(super) fn decide(
        &mut self,
        settings: &Settings,
        (zone, payer): (ZoneId, Payer),
        question: &Question,
        flight: Flight,
        now: BootTime,
    ) -> Verdict {
        self.counts.questions = self.counts.questions.wrapping_add(1);
        let (name, kind) = (&question.name, question.kind);
        let garden = settings.garden(zone, name).is_some();
        if let Some(reply) = ours(settings, zone, question, garden) {
            let refused = u32::from(reply.code == Code::Refused);
            self.counts.refused = self.counts.refused.wrapping_add(refused);
            return Verdict::Reply(reply);
        }
        if let Some(reply) = self.cache.fresh(name, kind, now) {
            self.counts.cached = self.counts.cached.wrapping_add(1);
            return serve(reply, garden);
        }
        if flight == Flight::UnderWay {
            self.counts.joined = self.counts.joined.wrapping_add(1);
            return Verdict::Join;
        }
        // Garden names are always tried: a stranger whose own domains fail must not close the garden.
        let down = if garden { settings.is_offline() } else { self.is_down(settings) };
        if down && now < self.probe_at {
            return self.without_answer(settings, zone, question, now);
        }
        if flight == Flight::Full {
            self.counts.overloaded = self.counts.overloaded.wrapping_add(1);
            return self
                .cache
                .stale(name, kind, now)
                .map_or(Verdict::Drop, |old| serve(old, garden));
        }
        if !self.pay(payer, question, garden, now) {
            self.counts.over_budget = self.counts.over_budget.wrapping_add(1);
            let old = self.cache.stale(name, kind, now);
            return serve(old.unwrap_or(Reply::empty(Code::Refused)), garden);
        }
        self.counts.forwarded = self.counts.forwarded.wrapping_add(1);
        if !down {
            return Verdict::Forward;
        }
        self.probe_at = now + PROBE_EVERY;
        match self.without_answer(settings, zone, question, now) {
            Verdict::Reply(reply) => Verdict::Probe(reply),
            _ => Verdict::Forward,
        }
    }

    /// Takes in what the resolvers said, nothing if none did, and returns what is left of it.
    pub(super) fn settle(
        &mut self,
        settings: &Settings,
        (name, family): (&Name, Kind),
        answer: Option<Reply>,
        now: BootTime,
    ) -> Option<Reply> {
        let Some(mut reply) = answer else {
            self.counts.unanswered = self.counts.unanswered.wrapping_add(1);
            let domain = names::registrable(name);
            if self.failed.len() < FAILURES && !self.failed.iter().any(|one| **one == *domain) {
                self.failed.push(domain.into());
            }
            return None;
        };
        self.failed.clear();
        reply.addresses.retain(|address| acceptable(*address, settings.private_answers));
        self.cache.keep(name, family, reply.clone(), now);
        Some(reply)
    }

    /// What a guest is told when the resolvers answered.
    pub(super) fn with_answer(
        settings: &Settings,
        zone: ZoneId,
        name: &Name,
        reply: Reply,
    ) -> Verdict {
        serve(reply, settings.garden(zone, name).is_some())
    }

    /// What a guest is told when they did not: an old answer, a placeholder, or that it failed.
    pub(super) fn without_answer(
        &mut self,
        settings: &Settings,
        zone: ZoneId,
        question: &Question,
        now: BootTime,
    ) -> Verdict {
        if let Some(old) = self.cache.stale(&question.name, question.kind, now) {
            return serve(old, settings.garden(zone, &question.name).is_some());
        }
        let Some(placeholder) = settings.placeholder.filter(|_| self.is_down(settings)) else {
            return Verdict::Reply(Reply::empty(Code::Failed));
        };
        self.counts.placeholders = self.counts.placeholders.wrapping_add(1);
        let addresses = match question.kind {
            Kind::A => vec![placeholder.v4.into()],
            _ if settings.own_addresses(zone, Kind::Aaaa).is_empty() => Vec::new(),
            _ => vec![placeholder.v6.into()],
        };
        Verdict::Reply(Reply { code: Code::Found, addresses, ttl: PLACEHOLDER_TTL })
    }

    fn is_down(&self, settings: &Settings) -> bool {
        settings.is_offline() || self.failed.len() >= FAILURES
    }

    /// Takes what the question may carry out and back, if all who must pay can.
    fn pay(&mut self, payer: Payer, question: &Question, garden: bool, now: BootTime) -> bool {
        let name = &question.name;
        let out = if self.cache.knows(name) { 0 } else { names::chosen(name) };
        let back = if question.kind == Kind::Aaaa { 16 } else { 4 };
        let cost = QUESTION_COST + out + back;
        if garden {
            if !self.gardeners.has(&payer, cost, now) {
                return false;
            }
            self.gardeners.take(payer, cost, now);
        } else {
            let domain: Box<str> = names::registrable(name).into();
            if !self.devices.has(&payer, cost, now) || !self.domains.has(&domain, cost, now) {
                return false;
            }
            self.devices.take(payer, cost, now);
            self.domains.take(domain, cost, now);
        }
        self.cache.note(name);
        true
    }
}

/// What is answered without asking anybody.
fn ours(settings: &Settings, zone: ZoneId, question: &Question, garden: bool) -> Option<Reply> {
    let (name, kind) = (&question.name, question.kind);
    if kind == Kind::Other {
        return Some(Reply::empty(Code::Refused));
    }
    if settings.portal.as_ref() == Some(name) {
        let addresses = settings.own_addresses(zone, kind);
        return Some(Reply { code: Code::Found, addresses, ttl: PORTAL_TTL });
    }
    if names::is_canary(name) {
        return Some(Reply::empty(Code::NoName));
    }
    if kind == Kind::Service {
        return Some(Reply::empty(Code::Found));
    }
    if garden {
        return None;
    }
    if names::is_nowhere(name) {
        return Some(Reply::empty(Code::NoName));
    }
    names::is_outlandish(name).then_some(Reply::empty(Code::Refused))
}

/// Garden addresses go to the kernel first; a stranger gets one address, for a short time.
fn serve(mut reply: Reply, garden: bool) -> Verdict {
    if garden && !reply.addresses.is_empty() {
        return Verdict::Learn(reply);
    }
    reply.addresses.truncate(STRANGER_ADDRESSES);
    // The exact time that is left would carry more.
    reply.ttl = if reply.ttl < STRANGER_TTL { reply.ttl.min(5) } else { STRANGER_TTL };
    Verdict::Reply(reply)
}

/// Whether an address from a resolver may be told to a guest, or opened to one.
fn acceptable(address: IpAddr, private: bool) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
            !(v4.is_unspecified()
                || v4.octets()[0] == 0
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast())
                && (private || !(v4.is_private() || shared))
        }
        IpAddr::V6(v6) => {
            !(v6.is_unspecified()
                || v6.is_loopback()
                || v6.is_unicast_link_local()
                || v6.is_multicast())
                && (private || !v6.is_unique_local())
        }
    }
}

#[cfg(test)]
mod tests;
