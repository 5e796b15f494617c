//! Keys in the order of a time each: deadlines, or what was touched longest ago.

use std::collections::{BTreeMap, BTreeSet};

use super::names::BootTime;

/// At most one time a key; the earliest is first. Every change costs the logarithm of the length.
#[derive(Debug)]
pub(super) struct Queue<K> {
    order: BTreeSet<(BootTime, K)>,
    times: BTreeMap<K, BootTime>,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Self { order: BTreeSet::new(), times: BTreeMap::new() }
    }
}

impl<K: Ord + Copy> Queue<K> {
    /// Gives a key its time, or takes it out.
    pub(super) fn set(&mut self, key: K, at: Option<BootTime>) {
        let before = match at {
            Some(at) => self.times.insert(key, at),
            None => self.times.remove(&key),
        };
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.order.remove(&(before, key));
        }
        if let Some(at) = at {
            self.order.insert((at, key));
        }
    }

    /// The earliest time and its key.
    pub(super) fn first(&self) -> Option<(BootTime, K)> {
        self.order.first().copied()
    }

    /// Takes out the first key whose time has come.
    pub(super) fn pop_due(&mut self, now: BootTime) -> Option<K> {
        let (at, key) = self.first()?;
        if at > now {
            return None;
        }
        self.set(key, None);
        Some(key)
    }

    /// A key's time.
    pub(super) fn time(&self, key: K) -> Option<BootTime> {
        self.times.get(&key).copied()
    }

    /// Keys in the queue.
    pub(super) fn len(&self) -> usize {
        self.times.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_time() {
        let mut queue = Queue::default();
        queue.set('a', Some(BootTime(5)));
        queue.set('b', Some(BootTime(3)));
        queue.set('b', Some(BootTime(7)));
        assert_eq!((queue.first(), queue.len()), (Some((BootTime(5), 'a')), 2));
        assert_eq!(queue.pop_due(BootTime(4)), None);
        assert_eq!(queue.pop_due(BootTime(9)), Some('a'));
        queue.set('b', None);
        assert_eq!((queue.first(), queue.time('b'), queue.len()), (None, None, 0));
    }
}
