//! What resolvers answered, kept while it is good, and for a while after: an old answer tells a
//! guest's tunnel nothing new, so it may be given when a fresh one is not to be had (RFC 8767).

use std::hash::RandomState;
use std::time::Duration;

use hashlink::LruCache;

use crate::domain::names::BootTime;
use crate::wire::dns::{Code, Kind, Name, Reply};

/// Names that are kept.
const MOST: usize = 2048;
/// The longest an answer counts as fresh, seconds: garden addresses outlive it in the kernel.
const LONGEST: u32 = 300;
/// How long "no such name" and "no such address" count, seconds.
const NEGATIVE: u32 = 20;
/// How long an answer that is no longer fresh may still be given.
const STALE: Duration = Duration::from_secs(3600);
/// Time to live of such an answer, seconds.
const STALE_TTL: u32 = 5;

/// Answers by name.
#[derive(Debug)]
pub(super) struct Cache {
    names: LruCache<Name, Known, RandomState>,
}

#[derive(Debug, Default)]
struct Known {
    v4: Option<Kept>,
    v6: Option<Kept>,
}

#[derive(Debug)]
struct Kept {
    reply: Reply,
    until: BootTime,
}

impl Cache {
    pub(super) fn new() -> Self {
        Self { names: LruCache::with_hasher(MOST, RandomState::new()) }
    }

    /// Whether resolvers were asked about the name before, for either family.
    pub(super) fn knows(&self, name: &Name) -> bool {
        self.names.peek(name).is_some()
    }

    /// Notes that resolvers are being asked about the name.
    pub(super) fn note(&mut self, name: &Name) {
        if self.names.get(name).is_none() {
            self.names.insert(name.clone(), Known::default());
        }
    }

    /// Keeps an answer for as long as it says, within reason.
    pub(super) fn keep(&mut self, name: &Name, family: Kind, reply: Reply, now: BootTime) {
        let ttl = if reply.addresses.is_empty() { NEGATIVE } else { reply.ttl.min(LONGEST) };
        self.note(name);
        if let Some(known) = self.names.get_mut(name) {
            let until = now + Duration::from_secs(ttl.into());
            *known.of(family) = Some(Kept { reply, until });
        }
    }

    /// An answer that still counts, with the time it has left.
    pub(super) fn fresh(&mut self, name: &Name, family: Kind, now: BootTime) -> Option<Reply> {
        let kept = self.names.get_mut(name)?.of(family).as_ref()?;
        let left = u32::try_from((kept.until - now).as_millis().div_ceil(1000)).ok()?;
        (left > 0).then(|| Reply { ttl: left, ..kept.reply.clone() })
    }

    /// An answer with addresses that counted not long ago.
    pub(super) fn stale(&mut self, name: &Name, family: Kind, now: BootTime) -> Option<Reply> {
        let kept = self.names.get_mut(name)?.of(family).as_ref()?;
        let usable = kept.reply.code == Code::Found
            && !kept.reply.addresses.is_empty()
            && now - kept.until <= STALE;
        usable.then(|| Reply { ttl: STALE_TTL, ..kept.reply.clone() })
    }
}

impl Known {
    fn of(&mut self, family: Kind) -> &mut Option<Kept> {
        if family == Kind::Aaaa { &mut self.v6 } else { &mut self.v4 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: BootTime = BootTime(9_000_000);

    fn reply(ttl: u32) -> Reply {
        Reply { code: Code::Found, addresses: vec!["203.0.113.7".parse().unwrap()], ttl }
    }

    #[test]
    fn answers_last_as_they_say_and_then_an_hour() {
        let (mut cache, name) = (Cache::new(), "a.example.net".parse().unwrap());
        assert!(!cache.knows(&name));
        cache.keep(&name, Kind::A, reply(60), START);
        assert!(cache.knows(&name));
        assert_eq!(cache.fresh(&name, Kind::Aaaa, START), None);
        let later = |seconds| START + Duration::from_secs(seconds);
        assert_eq!(cache.fresh(&name, Kind::A, later(59)), Some(reply(1)));
        assert_eq!(cache.fresh(&name, Kind::A, later(60)), None);
        assert_eq!(cache.stale(&name, Kind::A, later(60)), Some(reply(STALE_TTL)));
        assert_eq!(cache.stale(&name, Kind::A, later(3661)), None);
        cache.keep(&name, Kind::A, reply(86_400), START);
        assert_eq!(cache.fresh(&name, Kind::A, START), Some(reply(300)));
        cache.keep(&name, Kind::A, Reply::empty(Code::NoName), START);
        assert_eq!(cache.fresh(&name, Kind::A, START).unwrap().code, Code::NoName);
        assert_eq!(cache.fresh(&name, Kind::A, later(20)), None);
        assert_eq!(cache.stale(&name, Kind::A, later(20)), None);
    }

    #[test]
    fn the_cache_is_bounded() {
        let mut cache = Cache::new();
        for number in 0..10_000 {
            cache.keep(
                &format!("n{number}.example.net").parse().unwrap(),
                Kind::A,
                reply(60),
                START,
            );
        }
        assert_eq!(cache.names.len(), MOST);
    }
}
