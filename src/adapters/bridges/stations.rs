//! Which port of a bridge each device was last heard on, in bounded memory.

use std::collections::HashMap;
use std::time::Duration;

use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::domain::names::{BootTime, Mac};

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

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing to tell.
    Here,
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
            } else {
                self.refused = true;
            }
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

/// What a bridge entry is about: the device and the port's number. `None` for what is no device of
/// a bridge: neighbours of other kinds, the ports' own addresses.
pub(super) fn station(message: &NeighbourMessage) -> Option<(Station, u32)> {
    let header = &message.header;
    if header.family != AddressFamily::Bridge || header.state == NeighbourState::Permanent {
        return None;
    }
    let (mut bridge, mut vlan, mut mac) = (None, 0, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Controller(index) => bridge = Some(*index),
            NeighbourAttribute::Vlan(id) => vlan = *id,
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                mac = bytes.as_slice().try_into().ok().map(Mac);
            }
            _ => {}
        }
    }
    Some((Station { bridge: bridge?, vlan, mac: mac? }, header.ifindex))
}

/// The question for all entries of all bridges.
pub(super) fn all() -> RouteNetlinkMessage {
    let mut question = NeighbourMessage::default();
    question.header.family = AddressFamily::Bridge;
    RouteNetlinkMessage::GetNeighbour(question)
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
        assert_eq!(stations.hear(at(1), 2, BootTime(5000)), Heard::Here, "it came anew");
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

    #[test]
    fn only_learned_entries_are_devices() {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.header.state = NeighbourState::Reachable;
        message.header.ifindex = 4;
        message.attributes = vec![
            NeighbourAttribute::LinkLayerAddress(vec![2, 0, 0, 0, 0, 1]),
            NeighbourAttribute::Vlan(3),
            NeighbourAttribute::Controller(7),
        ];
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        assert_eq!(station(&message), Some((Station { bridge: 7, vlan: 3, mac }, 4)));
        message.header.state = NeighbourState::Permanent;
        assert_eq!(station(&message), None);
        message.header.state = NeighbourState::Reachable;
        message.attributes.pop();
        assert_eq!(station(&message), None);
        message.header.family = AddressFamily::Inet;
        assert_eq!(station(&message), None);
    }
}
