//! Which ports are kept apart. The kernel keeps an isolated port from the other isolated ones in all
//! VLANs at once. So where a guest network is a VLAN, its ports are isolated, but of those that
//! share another network no two.

use std::collections::{BTreeMap, BTreeSet};

use super::segments::{Place, Segment, Segments};
use crate::wire::route::{Link, Members};

/// Why guests of a zone that isolates them reach each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Gap {
    /// There are no ports to keep apart.
    #[error("{0} is neither a bridge nor a VLAN of one")]
    NoBridge(String),
    /// The guests' ports cannot be told from others.
    #[error("{0} is a VLAN of a bridge without VLAN filtering")]
    NoFilter(String),
    /// Isolating the port would cut another network.
    #[error("{port}, a port of {interface}, is in another network with an isolated port")]
    Shared {
        /// The zone's interface.
        interface: String,
        /// The port whose guests reach, and are reached by, those on other ports.
        port: String,
    },
}

/// A bridge's port.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Port<'a> {
    index: u32,
    name: &'a str,
    isolated: bool,
    vlans: BTreeSet<u16>,
}

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Ports that change: number, name, and whether they are to be isolated.
    pub(super) changes: Vec<(u32, String, bool)>,
    /// What cannot be had.
    pub(super) gaps: BTreeSet<Gap>,
}

/// Whether anybody wants to know which VLANs ports are in.
pub(super) fn needs_members(segments: &Segments) -> bool {
    let vlan = |segment: &Segment| matches!(segment.place, Place::Vlan(..));
    segments.0.iter().any(|segment| segment.bridge.isolate && vlan(segment))
}

/// How the ports of all bridges should be. `ours` are those that were isolated here: others that are
/// isolated are left so.
pub(super) fn plan(
    segments: &Segments,
    links: &[Link],
    members: &[Members],
    ours: &BTreeSet<u32>,
) -> Plan {
    let mut plan = Plan::default();
    let mut bridges = BTreeMap::<u32, Vec<Port<'_>>>::new();
    for Link { index, name, port_of, .. } in links {
        let Some((bridge, isolated)) = *port_of else { continue };
        let of_port = members.iter().filter(|members| members.port == *index);
        let vlans = of_port.flat_map(|members| &members.vlans).copied().collect();
        let port = Port { index: *index, name, isolated, vlans };
        bridges.entry(bridge).or_default().push(port);
    }
    for (bridge, ports) in &bridges {
        let mut whole = false;
        let mut guests = BTreeMap::<u16, &str>::new();
        for Segment { bridge: zone, place } in segments.0.iter().filter(|one| one.bridge.isolate) {
            whole |= *place == Place::Bridge(*bridge);
            if let Place::Vlan(of, vlan) = place
                && of == bridge
            {
                guests.insert(*vlan, &zone.interface);
            }
        }
        let apart = if whole {
            ports.iter().collect()
        } else {
            apart(ports, &guests.keys().copied().collect(), ours)
        };
        for port in ports {
            let wanted = apart.contains(&port);
            if wanted != port.isolated {
                plan.changes.push((port.index, port.name.to_owned(), wanted));
            }
        }
        plan.gaps.extend(guests.iter().flat_map(|(vlan, zone)| shared(ports, &apart, *vlan, zone)));
    }
    plan.gaps.extend(segments.0.iter().filter(|one| one.bridge.isolate).filter_map(|segment| {
        let interface = segment.bridge.interface.clone();
        match segment.place {
            Place::Elsewhere => Some(Gap::NoBridge(interface)),
            Place::Unsorted(_) => Some(Gap::NoFilter(interface)),
            Place::Bridge(_) | Place::Vlan(..) => None,
        }
    }));
    plan
}

/// The ports to be isolated where these VLANs are guest networks: those that somebody else isolated,
/// and each with guests that has no other network in common with one of them.
fn apart<'a, 'b>(
    ports: &'a [Port<'b>],
    guests: &BTreeSet<u16>,
    ours: &BTreeSet<u32>,
) -> Vec<&'a Port<'b>> {
    let theirs = |port: &&Port<'_>| port.isolated && !ours.contains(&port.index);
    let (mut apart, mut rest): (Vec<_>, Vec<_>) = ports.iter().partition(theirs);
    // What is isolated stays so when another such port comes.
    rest.sort_by_key(|port| (!port.isolated, port.index));
    for port in rest.into_iter().filter(|port| !port.vlans.is_disjoint(guests)) {
        let cuts = |other: &&Port<'_>| {
            port.vlans.intersection(&other.vlans).any(|vlan| !guests.contains(vlan))
        };
        if !apart.iter().any(cuts) {
            apart.push(port);
        }
    }
    apart
}

/// The ports of a guest network that are not kept from its others.
fn shared(ports: &[Port<'_>], apart: &[&Port<'_>], vlan: u16, interface: &str) -> Vec<Gap> {
    let inside = || ports.iter().filter(|port| port.vlans.contains(&vlan));
    let several = inside().count() > 1;
    let open = inside().filter(|port| several && !apart.contains(port));
    let gap = |port: &Port<'_>| Gap::Shared {
        interface: interface.to_owned(),
        port: port.name.to_owned(),
    };
    open.map(gap).collect()
}

#[cfg(test)]
mod tests {
    use super::super::segments::tests::{bridge, link, zones};
    use super::*;
    use crate::wire::route::Kind;

    const LAN: u32 = 2;

    /// A bridge with zones in VLAN 10 and 20, and these ports from number 11 on: isolated or not,
    /// and in which VLANs.
    fn planned(filters: bool, ports: &[(bool, &[u16])], ours: &[u32]) -> Plan {
        let mut links = vec![
            link(LAN, "br-lan", bridge(filters)),
            link(3, "br-lan.10", Kind::Vlan { of: LAN, id: 10 }),
            link(4, "br-lan.20", Kind::Vlan { of: LAN, id: 20 }),
        ];
        let mut members = Vec::new();
        for (port, (isolated, vlans)) in (11..).zip(ports) {
            let mut link = link(port, &format!("lan{port}"), Kind::Other);
            link.port_of = Some((LAN, *isolated));
            links.push(link);
            members.push(Members { port, vlans: vlans.iter().copied().collect() });
        }
        let segments = Segments::find(&zones(&["br-lan.10", "br-lan.20"]), &links);
        assert_eq!(needs_members(&segments), filters);
        plan(&segments, &links, &members, &ours.iter().copied().collect())
    }

    /// Ports that change, and those that cannot be isolated.
    fn outcome(ports: &[(bool, &[u16])], ours: &[u32]) -> (Vec<(u32, bool)>, Vec<String>) {
        let Plan { changes, gaps } = planned(true, ports, ours);
        let open = gaps.into_iter().map(|gap| match gap {
            Gap::Shared { interface, port } => format!("{port} {interface}"),
            other => panic!("{other}"),
        });
        (changes.into_iter().map(|(port, _, to)| (port, to)).collect(), open.collect())
    }

    #[test]
    fn guests_ports_are_isolated_and_others_left_alone() {
        let ports: [(bool, &[u16]); 4] =
            [(false, &[10]), (true, &[10, 20]), (false, &[1]), (false, &[])];
        assert_eq!(outcome(&ports, &[]), (vec![(11, true)], vec![]));
        // What is not wanted any more is undone, and only what was done here.
        assert_eq!(outcome(&[(true, &[1]), (true, &[1])], &[12]), (vec![(12, false)], vec![]));
    }

    #[test]
    fn of_ports_that_share_another_network_one_is_isolated() {
        let trunk: &[u16] = &[1, 10];
        let ports: [(bool, &[u16]); 4] =
            [(false, &[1]), (false, &[10]), (false, trunk), (false, trunk)];
        let open = vec!["lan14 br-lan.10".to_owned()];
        assert_eq!(outcome(&ports, &[]), (vec![(12, true), (13, true)], open));
        // The one that is stays.
        let ports: [(bool, &[u16]); 2] = [(false, trunk), (true, trunk)];
        assert_eq!(outcome(&ports, &[12]), (vec![], vec!["lan11 br-lan.10".to_owned()]));
        assert_eq!(outcome(&ports, &[]), (vec![], vec!["lan11 br-lan.10".to_owned()]));
        // Whoever isolates a port of the other network gets the trunk back.
        let ports: [(bool, &[u16]); 3] = [(true, &[1]), (true, trunk), (true, &[10])];
        let open = vec!["lan12 br-lan.10".to_owned()];
        assert_eq!(outcome(&ports, &[12, 13]), (vec![(12, false)], open));
        // One port cannot be kept from others that there are not.
        assert_eq!(outcome(&[(true, &[1]), (false, trunk)], &[]), (vec![], vec![]));
        // Two that share nothing else.
        let ports: [(bool, &[u16]); 2] = [(false, &[1, 10]), (false, &[2, 10])];
        assert_eq!(outcome(&ports, &[]), (vec![(11, true), (12, true)], vec![]));
    }

    #[test]
    fn a_bridge_that_filters_no_vlans_is_left_alone_and_told_of() {
        let Plan { changes, gaps } = planned(false, &[(false, &[10]), (false, &[1, 10])], &[]);
        let no_filter = ["br-lan.10", "br-lan.20"].map(|name| Gap::NoFilter(name.into()));
        assert_eq!((changes, gaps), (vec![], no_filter.into()));
        let links = [link(7, "wlan0", Kind::Other)];
        let segments = Segments::find(&zones(&["wlan0"]), &links);
        let gaps = plan(&segments, &links, &[], &BTreeSet::new()).gaps;
        assert_eq!(gaps, [Gap::NoBridge("wlan0".into())].into());
    }

    #[test]
    fn of_a_bridge_that_is_a_zone_all_ports_are_isolated() {
        let mut links = vec![link(LAN, "br-guest", bridge(false))];
        for (port, isolated) in [(11, false), (12, true)] {
            links.push(Link { port_of: Some((LAN, isolated)), ..link(port, "port", Kind::Other) });
        }
        links.push(Link { port_of: Some((9, false)), ..link(13, "port", Kind::Other) });
        let segments = Segments::find(&zones(&["br-guest"]), &links);
        let Plan { changes, gaps } = plan(&segments, &links, &[], &BTreeSet::new());
        assert_eq!((changes, gaps.len()), (vec![(11, "port".to_owned(), true)], 0));
    }
}
