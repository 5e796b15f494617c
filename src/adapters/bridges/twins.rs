//! Two stations with one address, in two zones that roam. What roams leaves an entry behind that
//! grows old; where there are two stations, both their entries stay young. Nothing tells of that:
//! one looks, while a device has entries in two zones.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::names::{BootTime, Mac, ZoneId};

/// Between two looks. An entry is young if its device was heard in this time.
const LOOK_EVERY: Duration = Duration::from_secs(4);
/// In so many looks in a row both entries are young: nobody walks to and fro that fast.
const LOOKS: u8 = 3;
/// Devices that are looked at; those that came first are.
const MOST: usize = 20_000;

/// The devices with entries in two zones.
#[derive(Debug, Default)]
pub(super) struct Twins {
    suspects: BTreeMap<Mac, Suspect>,
    look_at: BootTime,
}

#[derive(Debug, Default)]
struct Suspect {
    /// Looks in a row that found both entries young.
    streak: u8,
    /// What this look found: how many there are, and the zones of the young ones.
    entries: usize,
    young: Option<ZoneId>,
    both: Option<[ZoneId; 2]>,
}

impl Twins {
    /// A device has entries in two zones that roam.
    pub(super) fn suspect(&mut self, mac: Mac, now: BootTime) {
        if self.suspects.is_empty() {
            self.look_at = now + LOOK_EVERY;
        }
        if self.suspects.len() < MOST {
            self.suspects.entry(mac).or_default();
        }
    }

    /// When to look; `None` while there is nobody to look at.
    pub(super) fn due(&self) -> Option<BootTime> {
        (!self.suspects.is_empty()).then_some(self.look_at)
    }

    /// An entry, in a look: its zone, and how long ago the device was heard there.
    pub(super) fn see(&mut self, zone: ZoneId, mac: Mac, age: Duration) {
        let Some(suspect) = self.suspects.get_mut(&mac) else { return };
        suspect.entries += 1;
        if age >= LOOK_EVERY {
            return;
        }
        match suspect.young {
            Some(other) if other != zone => suspect.both = Some([other, zone]),
            _ => suspect.young = Some(zone),
        }
    }

    /// The look is over: which devices are two, and where. Each is told of again after as many
    /// looks.
    pub(super) fn judge(&mut self, now: BootTime) -> Vec<(Mac, [ZoneId; 2])> {
        self.look_at = now + LOOK_EVERY;
        let mut twins = Vec::new();
        self.suspects.retain(|mac, suspect| {
            let Suspect { streak, entries, both, .. } = std::mem::take(suspect);
            if let Some(zones) = both {
                suspect.streak = (streak + 1) % LOOKS;
                if suspect.streak == 0 {
                    twins.push((*mac, zones));
                }
            }
            entries > 1
        });
        twins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: ZoneId = ZoneId(0);
    const THERE: ZoneId = ZoneId(1);
    const PHONE: Mac = Mac([2, 0, 0, 0, 0, 1]);

    /// Looks, each with the ages of the two entries in seconds; in which a twin is told of.
    fn told(looks: &[[u64; 2]]) -> Vec<usize> {
        let mut twins = Twins::default();
        assert_eq!(twins.due(), None);
        twins.suspect(PHONE, BootTime(0));
        let mut found = Vec::new();
        for (look, [here, there]) in looks.iter().enumerate() {
            let now = twins.due().unwrap();
            assert_eq!(now.0, 4000 * (look as u64 + 1));
            twins.see(HERE, PHONE, Duration::from_secs(*here));
            twins.see(THERE, PHONE, Duration::from_secs(*there));
            twins.see(THERE, Mac([2, 0, 0, 0, 0, 9]), Duration::ZERO);
            for (mac, zones) in twins.judge(now) {
                assert_eq!((mac, zones), (PHONE, [HERE, THERE]));
                found.push(look);
            }
        }
        found
    }

    #[test]
    fn one_that_roams_is_one() {
        // It went in the first look, once, and comes back later.
        assert!(told(&[[1, 0], [5, 0], [9, 1], [13, 3], [0, 7], [0, 11]]).is_empty());
        // It went to and fro, and once more.
        assert!(told(&[[1, 0], [0, 2], [4, 1], [1, 0], [5, 1]]).is_empty());
        // It is silent.
        assert!(told(&[[9, 30], [13, 34], [17, 38], [21, 42]]).is_empty());
    }

    #[test]
    fn two_that_are_heard_at_once_are_two() {
        assert_eq!(told(&[[1, 0], [0, 3], [2, 1]]), [2]);
        assert_eq!(told(&[[5, 0], [0, 0], [0, 0], [0, 0], [0, 0], [0, 0], [0, 0]]), [3, 6]);
    }

    #[test]
    fn who_has_left_one_bridge_is_looked_at_no_more() {
        let mut twins = Twins::default();
        twins.suspect(PHONE, BootTime(0));
        twins.see(HERE, PHONE, Duration::ZERO);
        assert!(twins.judge(BootTime(4000)).is_empty());
        assert_eq!(twins.due(), None);
        for number in 0..30_000_u32 {
            let [_, a, b, c] = number.to_be_bytes();
            twins.suspect(Mac([2, 0, 0, a, b, c]), BootTime(0));
        }
        assert_eq!(twins.suspects.len(), MOST);
    }

    #[test]
    fn two_ports_of_one_zone_are_not_two_zones() {
        let mut twins = Twins::default();
        twins.suspect(PHONE, BootTime(0));
        for _ in 0..5 {
            twins.see(HERE, PHONE, Duration::ZERO);
            twins.see(HERE, PHONE, Duration::ZERO);
            assert!(twins.judge(BootTime(0)).is_empty());
        }
    }
}
