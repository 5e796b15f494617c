//! Which port of a bridge each device was last heard on, in bounded memory.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::names::{BootTime, Mac};
use crate::wire::route::Entry;

/// Devices that are followed. When there are more, those that came first are: a flood of random
/// addresses takes nobody's place.
const MOST: usize = 20_000;
/// Entries read at a time: a bridge that holds more is being flooded.
pub(super) const MOST_READ: u32 = 100_000;
/// Two stations that send in turns move their address with every packet; that is told so often.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// A bridge's entry for a device. In order, those of one device are side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Station {
    pub(super) mac: Mac,
    /// The bridge's number.
    pub(super) bridge: u32,
    /// 0 without VLAN filtering.
    pub(super) vlan: u16,
}

impl From<Entry> for Station {
    fn from(Entry { bridge, vlan, mac, .. }: Entry) -> Self {
        Self { mac, bridge, vlan }
    }
}

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing to tell.
    Here,
    /// The device was not on this bridge, or not in this VLAN of it.
    New,
    /// The device was on another port before.
    Elsewhere,
}

#[derive(Debug)]
struct Place {
    port: u32,
    /// No move is told before this.
    quiet_until: BootTime,
    doubtful: bool,
}

/// All that is followed.
#[derive(Debug, Default)]
pub(super) struct Stations {
    places: BTreeMap<Station, Place>,
    refused: bool,
}

impl Stations {
    /// A device was heard on a port.
    pub(super) fn hear(&mut self, station: Station, port: u32, now: BootTime) -> Heard {
        let Some(place) = self.places.get_mut(&station) else {
            if self.places.len() < MOST {
                let place = Place { port, quiet_until: now, doubtful: false };
                self.places.insert(station, place);
                return Heard::New;
            }
            self.refused = true;
            return Heard::Here;
        };
        place.doubtful = false;
        if place.port == port {
            return Heard::Here;
        }
        place.port = port;
        if now < place.quiet_until {
            return Heard::Here;
        }
        place.quiet_until = now + TELL_EVERY;
        Heard::Elsewhere
    }

    /// Wherever the device is.
    pub(super) fn of(&self, mac: Mac) -> impl Iterator<Item = &Station> {
        let last = Station { mac, bridge: u32::MAX, vlan: u16::MAX };
        self.places.range(Station { mac, bridge: 0, vlan: 0 }..=last).map(|(station, _)| station)
    }

    /// The bridge forgot a device.
    pub(super) fn forget(&mut self, station: Station, port: u32) {
        if self.places.get(&station).is_some_and(|place| place.port == port) {
            self.places.remove(&station);
        }
    }

    /// Some found no room, and there is room again: they are to be read anew. True once.
    pub(super) fn crowded(&mut self) -> bool {
        let crowded = self.refused && self.places.len() < MOST / 2;
        self.refused &= !crowded;
        crowded
    }

    /// Drops the others.
    pub(super) fn keep(&mut self, kept: impl Fn(&Station) -> bool) {
        self.places.retain(|station, _| kept(station));
    }

    /// All entries are to be heard again, or are dropped by [`Self::drop_doubtful`].
    pub(super) fn doubt(&mut self) {
        self.places.values_mut().for_each(|place| place.doubtful = true);
    }

    pub(super) fn drop_doubtful(&mut self) {
        self.places.retain(|_, place| !place.doubtful);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(number: u32) -> Station {
        let [a, b, c, d] = number.to_be_bytes();
        Station { mac: Mac([2, 0, a, b, c, d]), bridge: 7, vlan: 0 }
    }

    #[test]
    fn a_move_is_told_once_a_second() {
        let mut stations = Stations::default();
        let mut hear = |port, ms| stations.hear(at(1), port, BootTime(ms)) == Heard::Elsewhere;
        assert!(!hear(1, 0) && !hear(1, 10) && hear(2, 20));
        assert!(!hear(1, 500) && !hear(2, 1019) && hear(1, 1020));
        stations.forget(at(1), 2);
        assert_eq!(stations.places.len(), 1, "another port's entry");
        stations.forget(at(1), 1);
        assert_eq!(stations.hear(at(1), 2, BootTime(5000)), Heard::New);
    }

    #[test]
    fn a_device_may_be_in_several_places() {
        let mut stations = Stations::default();
        let all =
            [(7, 10), (7, 20), (9, 0)].map(|(bridge, vlan)| Station { bridge, vlan, ..at(1) });
        for station in [at(0), all[2], all[0], at(2), all[1]] {
            assert_eq!(stations.hear(station, 3, BootTime(0)), Heard::New);
        }
        let of = |stations: &Stations| stations.of(at(1).mac).copied().collect::<Vec<_>>();
        assert_eq!(of(&stations), all);
        assert_eq!(stations.hear(all[0], 4, BootTime(1)), Heard::Elsewhere);
        assert_eq!(stations.hear(all[1], 3, BootTime(1)), Heard::Here);
        stations.keep(|station| station.vlan != 20);
        assert_eq!(of(&stations), [all[0], all[2]]);
    }

    #[test]
    fn a_flood_takes_nobodys_place() {
        let mut stations = Stations::default();
        for number in 0..u32::try_from(MOST).unwrap() + 5 {
            stations.hear(at(number), 1, BootTime(0));
        }
        assert_eq!(stations.places.len(), MOST);
        assert!(!stations.crowded());
        assert_eq!(stations.hear(at(0), 2, BootTime(1)), Heard::Elsewhere);
        stations.doubt();
        assert_eq!(stations.hear(at(3), 1, BootTime(2)), Heard::Here);
        stations.drop_doubtful();
        assert_eq!(stations.places.len(), 1);
        assert!(stations.crowded() && !stations.crowded());
        stations.keep(|station| station.bridge != 7);
        assert!(stations.places.is_empty());
    }
}
