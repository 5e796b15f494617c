//! Byte budgets: what may pass between strangers and the world's name servers.
//!
//! A bucket that holds `capacity` and gains `refill` a second lets at most `capacity + 60 × refill`
//! through in any 60 seconds. Both budgets below come to 5,880 bytes: 98 a second.

use std::collections::HashMap;
use std::hash::Hash;

use crate::domain::names::BootTime;

/// A device's budget: 200 questions at once, then about one a second.
pub(super) const DEVICE: Rate = Rate { capacity: 4800, refill: 18 };
/// A registrable domain's budget, all devices together: a tunnel gains nothing by more addresses.
pub(super) const DOMAIN: Rate = Rate { capacity: 4200, refill: 28 };
/// A device's budget for garden names, whose servers are no stranger's.
pub(super) const GARDEN: Rate = Rate { capacity: 12_000, refill: 100 };

/// How a bucket fills.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// Bytes it holds.
    pub capacity: u32,
    /// Bytes it gains a second.
    pub refill: u32,
}

/// Buckets by key, as many as `most`; only those that are full again are forgotten, so that nobody
/// gets a fresh one by crowding his old one out.
#[derive(Debug)]
pub(super) struct Buckets<K> {
    rate: Rate,
    most: usize,
    levels: HashMap<K, Level>,
    swept: BootTime,
    /// What newcomers share while the table is full.
    crowd: Level,
}

/// Thousandths of a byte, at a time.
#[derive(Clone, Copy, Debug)]
struct Level {
    millis: u32,
    at: BootTime,
}

impl<K: Eq + Hash> Buckets<K> {
    pub(super) fn new(rate: Rate, most: usize) -> Self {
        let crowd = Level { millis: rate.capacity * 1000, at: BootTime(0) };
        Self { rate, most, levels: HashMap::new(), swept: BootTime(0), crowd }
    }

    /// Whether `key` could pay `cost` bytes now.
    pub(super) fn has(&mut self, key: &K, cost: u32, now: BootTime) -> bool {
        let level = self.levels.get(key).copied();
        let level = level.unwrap_or(if self.room(now) { self.full(now) } else { self.crowd });
        level.filled(self.rate, now).millis >= cost.saturating_mul(1000)
    }

    /// Takes `cost` bytes from `key`, which has them.
    pub(super) fn take(&mut self, key: K, cost: u32, now: BootTime) {
        let (rate, full, room) = (self.rate, self.full(now), self.room(now));
        let level = match self.levels.get_mut(&key) {
            Some(level) => level,
            None if room => self.levels.entry(key).or_insert(full),
            None => &mut self.crowd,
        };
        *level = level.filled(rate, now);
        level.millis = level.millis.saturating_sub(cost.saturating_mul(1000));
    }

    fn full(&self, now: BootTime) -> Level {
        Level { millis: self.rate.capacity * 1000, at: now }
    }

    /// Whether one more fits; sweeps once a second at most.
    fn room(&mut self, now: BootTime) -> bool {
        if self.levels.len() >= self.most && (now - self.swept).as_secs() >= 1 {
            let (rate, full) = (self.rate, self.rate.capacity * 1000);
            self.levels.retain(|_, level| level.filled(rate, now).millis < full);
            self.swept = now;
        }
        self.levels.len() < self.most
    }
}

impl Level {
    fn filled(self, rate: Rate, now: BootTime) -> Self {
        let since = u32::try_from((now - self.at).as_millis()).unwrap_or(u32::MAX);
        let gained = since.saturating_mul(rate.refill);
        Self { millis: self.millis.saturating_add(gained).min(rate.capacity * 1000), at: now }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RATE: Rate = Rate { capacity: 100, refill: 2 };

    proptest! {
        #[test]
        fn no_window_sees_more_than_its_budget(
            asks in prop::collection::vec((0_u64..3000, 1_u32..80), 1..200),
        ) {
            let mut buckets = Buckets::new(RATE, 4);
            let (mut now, mut paid) = (BootTime(1_000_000), Vec::new());
            for (wait, cost) in asks {
                now = BootTime(now.0 + wait);
                if buckets.has(&1, cost, now) {
                    buckets.take(1, cost, now);
                    paid.push((now, cost));
                }
            }
            for (first, (start, _)) in paid.iter().enumerate() {
                let window = paid[first..].iter().take_while(|(at, _)| at.0 < start.0 + 60_000);
                prop_assert!(window.map(|(_, cost)| cost).sum::<u32>() <= 100 + 2 * 60);
            }
        }
    }

    #[test]
    fn an_empty_bucket_is_not_crowded_out() {
        let mut buckets = Buckets::new(RATE, 10);
        let now = BootTime(5_000_000);
        buckets.take(0, 100, now);
        for key in 1..1000 {
            if buckets.has(&key, 50, now) {
                buckets.take(key, 50, now);
            }
        }
        let later = BootTime(now.0 + 2000);
        assert!(!buckets.has(&0, 5, later) && buckets.has(&0, 4, later));
        assert!(buckets.levels.len() <= 10);
        // Newcomers share one bucket, and only one; full again, the rest make room.
        assert!(!buckets.has(&5000, 50, now));
        assert!(buckets.has(&5000, 100, BootTime(now.0 + 60_000)));
        buckets.take(5000, 100, BootTime(now.0 + 60_000));
        assert!(buckets.levels.len() < 3);
    }
}
