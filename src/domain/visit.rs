//! One stay of one device: it lasts from the first evidence to the last, whatever is noticed when.

use std::time::Duration;

use super::names::{BootTime, GuestKey, VisitId};
use super::policy::VisitPolicy;
use super::saved::SavedVisit;

/// A stay goes to disk this often while it lasts, so that a power cut costs little dwell.
const CHECKPOINT: Duration = Duration::from_mins(2);

/// The last packets of a device may come after its goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// A stay that is not over, or not known to be.
#[derive(Debug)]
pub(super) struct Visit {
    pub(super) id: VisitId,
    pub(super) guest: Option<GuestKey>,
    /// Dwell of earlier boots.
    carried: Duration,
    /// First evidence of this boot.
    first: Option<BootTime>,
    /// Last evidence; without a first, when the visit was restored.
    last: BootTime,
    /// The last evidence that the disk knows of.
    checkpoint: BootTime,
    /// How often the device was asked since its last evidence.
    asked: u8,
    /// When the device said goodbye: no use in asking since.
    pub(super) left: Option<BootTime>,
}

/// What silence asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// Nothing yet.
    Wait,
    /// Ask the device whether it is there.
    Ask,
    /// The visit is over.
    Over,
}

impl Visit {
    /// A stay whose evidence so far is `first`.
    pub(super) const fn open(id: VisitId, guest: Option<GuestKey>, first: BootTime) -> Self {
        Self {
            id,
            guest,
            carried: Duration::ZERO,
            first: Some(first),
            last: first,
            checkpoint: first,
            asked: 0,
            left: None,
        }
    }

    /// A stay that was open when the last run ended.
    pub(super) fn restore(saved: &SavedVisit, guest: Option<GuestKey>, now: BootTime) -> Self {
        let last = saved.seen.map_or(now, |(_, last)| last);
        Self {
            carried: saved.carried,
            first: saved.seen.map(|(first, _)| first),
            checkpoint: last,
            ..Self::open(saved.visit, guest, last)
        }
    }

    /// Takes evidence in. True if a checkpoint is due.
    pub(super) fn extend(&mut self, at: BootTime) -> bool {
        self.first.get_or_insert(at);
        self.last = self.last.max(at);
        self.asked = 0;
        self.left = self.left.filter(|left| at - *left < GOODBYE);
        let due = at - self.checkpoint >= CHECKPOINT;
        if due {
            self.checkpoint = at;
        }
        due
    }

    /// Whether the disk does not know all of it.
    pub(super) fn is_unsaved(&self) -> bool {
        self.last != self.checkpoint
    }

    /// Last evidence − first evidence.
    pub(super) fn dwell(&self) -> Duration {
        self.carried + self.first.map_or(Duration::ZERO, |first| self.last - first)
    }

    /// Last evidence; the start of this boot if that was before it.
    pub(super) fn last(&self) -> BootTime {
        self.first.map_or(BootTime(0), |_| self.last)
    }

    /// Whether the device counts as in the store.
    pub(super) fn present(&self, policy: &VisitPolicy, now: BootTime) -> bool {
        self.left.is_none() && now - self.last < policy.leave_after
    }

    /// When silence next asks for something.
    pub(super) fn deadline(&self, policy: &VisitPolicy) -> BootTime {
        self.last
            + match (self.left.is_some(), self.asked) {
                (false, 0) => policy.leave_after / 2,
                (false, 1) => policy.leave_after * 3 / 4,
                // Held open past `leave_after`: within `merge_gap` the same visit may go on.
                _ => hold(policy),
            }
    }

    /// What silence asks for at `now`.
    pub(super) fn silence(&mut self, policy: &VisitPolicy, now: BootTime) -> Silence {
        let mut wanted = Silence::Wait;
        while now >= self.deadline(policy) {
            if self.left.is_some() || self.asked >= 2 {
                return Silence::Over;
            }
            self.asked += 1;
            wanted = Silence::Ask;
        }
        wanted
    }
}

/// Silence for this long ends a visit for good.
pub(super) fn hold(policy: &VisitPolicy) -> Duration {
    policy.leave_after.max(policy.merge_gap)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::names::{Mac, ZoneId};

    const POLICY: VisitPolicy =
        VisitPolicy { leave_after: Duration::from_mins(5), merge_gap: Duration::from_mins(15) };

    fn at(seconds: u64) -> BootTime {
        BootTime(seconds * 1000)
    }

    #[test]
    fn silence_asks_twice_and_then_ends_at_the_last_evidence() {
        let mut visit = Visit::open(VisitId(1), None, at(0));
        visit.extend(at(60));
        assert_eq!(visit.silence(&POLICY, at(209)), Silence::Wait);
        assert_eq!(visit.deadline(&POLICY), at(210));
        assert_eq!(visit.silence(&POLICY, at(210)), Silence::Ask);
        assert_eq!(visit.deadline(&POLICY), at(285));
        assert_eq!(visit.silence(&POLICY, at(285)), Silence::Ask);
        assert!(visit.present(&POLICY, at(359)) && !visit.present(&POLICY, at(360)));
        assert_eq!(visit.silence(&POLICY, at(959)), Silence::Wait);
        assert_eq!(visit.silence(&POLICY, at(960)), Silence::Over);
        assert_eq!((visit.dwell(), visit.last()), (Duration::from_mins(1), at(60)));
    }

    #[test]
    fn one_that_said_goodbye_is_not_asked_but_may_come_back() {
        let mut visit = Visit::open(VisitId(1), None, at(0));
        visit.left = Some(at(0));
        assert_eq!(visit.deadline(&POLICY), at(900));
        assert!(visit.extend(at(800)));
        assert_eq!((visit.dwell(), visit.deadline(&POLICY)), (Duration::from_secs(800), at(950)));
    }

    #[test]
    fn a_stay_of_an_earlier_boot_keeps_its_dwell() {
        let saved = SavedVisit {
            visit: VisitId(4),
            zone: ZoneId(0),
            mac: Mac([2; 6]),
            carried: Duration::from_secs(500),
            seen: None,
        };
        let mut visit = Visit::restore(&saved, None, at(30));
        assert_eq!((visit.dwell(), visit.last()), (Duration::from_secs(500), at(0)));
        visit.extend(at(100));
        visit.extend(at(110));
        assert_eq!((visit.dwell(), visit.last()), (Duration::from_secs(510), at(110)));
    }
}
