//! Which port of a bridge each device was last heard on, in bounded memory.

use std::collections::HashMap;
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

/// A bridge's entry for a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Station {
    /// The bridge's number.
    pub(super) bridge: u32,
    /// 0 without VLAN filtering.
    pub(super) vlan: u16,
    pub(super) mac: Mac,
}

impl From<Entry> for Station {
    fn from(Entry { bridge, vlan, mac, .. }: Entry) -> Self {
        Self { bridge, vlan, mac }
    }
}

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing to tell.
    Here,
    /// The device was not on this bridge.
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
    places: HashMap<Station, Place>,
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

    /// Whether the device is on this other bridge, too.
    pub(super) fn is_on(&self, bridge: u32, station: Station) -> bool {
        self.places.contains_key(&Station { bridge, ..station })
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

    /// Drops what is on other bridges.
    pub(super) fn keep_bridges(&mut self, kept: impl Fn(u32) -> bool) {
        self.places.retain(|station, _| kept(station.bridge));
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
        Station { bridge: 7, vlan: 0, mac: Mac([2, 0, a, b, c, d]) }
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
        assert!(stations.is_on(7, at(1)) && !stations.is_on(8, at(1)));
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
        stations.keep_bridges(|bridge| bridge != 7);
        assert!(stations.places.is_empty());
    }
}
