//! Places that few may hold at once: so many in all, and so many of one guest.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// The places.
#[derive(Debug)]
pub(super) struct Seats<K> {
    in_all: usize,
    each: usize,
    taken: Arc<Mutex<Taken<K>>>,
}

/// One place, held until dropped.
#[derive(Debug)]
pub(super) struct Seat<K: Eq + Hash> {
    holder: K,
    taken: Arc<Mutex<Taken<K>>>,
}

#[derive(Debug)]
struct Taken<K> {
    in_all: usize,
    by: HashMap<K, usize>,
}

impl<K: Eq + Hash + Copy> Seats<K> {
    /// As many as `in_all`, of which one guest may hold `each`.
    pub(super) fn new(in_all: usize, each: usize) -> Self {
        let taken = Taken { in_all: 0, by: HashMap::new() };
        Self { in_all, each, taken: Arc::new(Mutex::new(taken)) }
    }

    /// A place for `holder`, if there is one.
    pub(super) fn take(&self, holder: K) -> Option<Seat<K>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let held = taken.held(&holder);
        if taken.in_all >= self.in_all || held >= self.each {
            return None;
        }
        taken.in_all += 1;
        taken.by.insert(holder, held + 1);
        Some(Seat { holder, taken: Arc::clone(&self.taken) })
    }

    /// Whether `holder` has none.
    pub(super) fn has_none(&self, holder: K) -> bool {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).held(&holder) == 0
    }
}

impl<K: Eq + Hash> Taken<K> {
    fn held(&self, holder: &K) -> usize {
        self.by.get(holder).copied().unwrap_or(0)
    }
}

impl<K: Eq + Hash> Drop for Seat<K> {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.in_all -= 1;
        if let Some(held) = taken.by.get_mut(&self.holder) {
            *held -= 1;
            if *held == 0 {
                taken.by.remove(&self.holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_bounded_and_given_back() {
        let seats = Seats::new(3, 2);
        let held = [seats.take(1).unwrap(), seats.take(1).unwrap()];
        assert!(seats.take(1).is_none());
        assert!(!seats.has_none(1) && seats.has_none(2));
        let other = seats.take(2).unwrap();
        assert!(seats.take(3).is_none());
        drop(held);
        assert!(seats.take(1).is_some());
        drop(other);
        let taken = seats.taken.lock().unwrap();
        assert_eq!((taken.in_all, taken.by.len()), (0, 0));
    }
}
