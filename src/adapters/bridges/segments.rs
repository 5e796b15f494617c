//! Where the devices of each zone are heard: on a bridge, or in one VLAN of it.

use crate::config::Zone;
use crate::domain::names::ZoneId;
use crate::wire::route::{Kind, Link};

/// A zone's interface, as far as it is a bridge or a VLAN of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    pub(super) zone: ZoneId,
    pub(super) interface: String,
    pub(super) isolate: bool,
    pub(super) roam: bool,
}

impl Bridge {
    /// The interfaces of all zones, in the zones' order.
    pub fn of_zones(zones: &[Zone]) -> Vec<Self> {
        let bridge = |(zone, config): (u8, &Zone)| Self {
            zone: ZoneId(zone),
            interface: config.interface.clone(),
            isolate: config.isolate,
            roam: config.roam,
        };
        (0..).zip(zones).map(bridge).collect()
    }
}

/// What a zone's interface is found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A bridge: all that it hears.
    Bridge(u32),
    /// A VLAN of a bridge that keeps its VLANs apart.
    Vlan(u32, u16),
    /// A VLAN of a bridge that does not: what it hears may be in any of them.
    Unsorted(u32),
    /// Neither.
    Elsewhere,
}

impl Place {
    pub(super) fn bridge(self) -> Option<u32> {
        match self {
            Self::Bridge(bridge) | Self::Vlan(bridge, _) | Self::Unsorted(bridge) => Some(bridge),
            Self::Elsewhere => None,
        }
    }

    fn new(interface: &Link, links: &[Link]) -> Self {
        match interface.kind {
            Kind::Bridge { .. } => Self::Bridge(interface.index),
            Kind::Vlan { of, id } => match links.iter().find(|link| link.index == of) {
                Some(Link { kind: Kind::Bridge { filters: true, .. }, .. }) => Self::Vlan(of, id),
                Some(Link { kind: Kind::Bridge { .. }, .. }) => Self::Unsorted(of),
                _ => Self::Elsewhere,
            },
            Kind::Other => Self::Elsewhere,
        }
    }
}

/// A zone whose interface exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) bridge: Bridge,
    pub(super) place: Place,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Segments(pub(super) Vec<Segment>);

impl Segments {
    /// Looks for the zones' interfaces among all.
    pub(super) fn find(zones: &[Bridge], links: &[Link]) -> Self {
        let segment = |bridge: &Bridge| {
            let link = links.iter().find(|link| link.name == bridge.interface)?;
            Some(Segment { bridge: bridge.clone(), place: Place::new(link, links) })
        };
        Self(zones.iter().filter_map(segment).collect())
    }

    /// The zones that an entry of a bridge is for: that of its VLAN, or else those of the bridge.
    pub(super) fn of(&self, bridge: u32, vlan: u16) -> impl Iterator<Item = &Bridge> {
        let own = Place::Vlan(bridge, vlan);
        let sorted = self.0.iter().any(|segment| segment.place == own);
        let whole = [Place::Bridge(bridge), Place::Unsorted(bridge)];
        let mine = move |place| if sorted { place == own } else { whole.contains(&place) };
        let mine = self.0.iter().filter(move |segment| mine(segment.place));
        mine.map(|segment| &segment.bridge)
    }

    /// The first of those that roam.
    pub(super) fn roaming(&self, bridge: u32, vlan: u16) -> Option<ZoneId> {
        self.of(bridge, vlan).find(|bridge| bridge.roam).map(|bridge| bridge.zone)
    }

    /// Whether a bridge has a zone.
    pub(super) fn has(&self, bridge: u32) -> bool {
        self.0.iter().any(|segment| segment.place.bridge() == Some(bridge))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::domain::names::Mac;

    pub(in super::super) fn link(index: u32, name: &str, kind: Kind) -> Link {
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        Link { index, name: name.into(), mac, up: true, kind, port_of: None }
    }

    pub(in super::super) const fn bridge(filters: bool) -> Kind {
        Kind::Bridge { learns_all: true, filters }
    }

    pub(in super::super) fn zones(interfaces: &[&str]) -> Vec<Bridge> {
        let zone = |(zone, interface): (u8, &&str)| Bridge {
            zone: ZoneId(zone),
            interface: (*interface).to_owned(),
            isolate: true,
            roam: true,
        };
        (0..).zip(interfaces).map(zone).collect()
    }

    fn heard(segments: &Segments, bridge: u32, vlan: u16) -> Vec<u8> {
        segments.of(bridge, vlan).map(|bridge| bridge.zone.0).collect()
    }

    #[test]
    fn an_entry_is_for_its_vlans_zone_or_for_the_bridges() {
        let mut links = vec![
            link(3, "br-lan.10", Kind::Vlan { of: 2, id: 10 }),
            link(4, "br-lan.20", Kind::Vlan { of: 2, id: 20 }),
            link(2, "br-lan", bridge(true)),
            link(5, "eth0.30", Kind::Vlan { of: 6, id: 30 }),
            link(6, "eth0", Kind::Other),
        ];
        let names = ["br-lan.10", "br-lan.20", "eth0.30", "gone"];
        let segments = Segments::find(&zones(&names), &links);
        assert_eq!((heard(&segments, 2, 10), heard(&segments, 2, 20)), (vec![0], vec![1]));
        assert!([0, 1, 30].iter().all(|vlan| heard(&segments, 2, *vlan).is_empty()));
        assert!(heard(&segments, 6, 30).is_empty(), "no bridge");
        assert_eq!(segments.0[2].place, Place::Elsewhere);
        assert!(segments.has(2) && !segments.has(6) && segments.0.len() == 3);

        // The bridge is a zone's, too.
        let both = Segments::find(&zones(&["br-lan", "br-lan.10"]), &links);
        assert_eq!((heard(&both, 2, 10), heard(&both, 2, 1)), (vec![1], vec![0]));
        assert_eq!((both.roaming(2, 10), both.roaming(7, 1)), (Some(ZoneId(1)), None));

        // One table of addresses for all VLANs.
        links[2].kind = bridge(false);
        let unsorted = Segments::find(&zones(&names), &links);
        assert_eq!(heard(&unsorted, 2, 0), [0, 1]);
        assert_eq!(unsorted.roaming(2, 0), Some(ZoneId(0)));
    }
}
