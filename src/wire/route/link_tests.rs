use super::super::tests::{message, number, one};
use super::super::{HEADER, bound, isolate, messages};
use super::*;
use crate::wire::nft::attr::Attrs;

#[test]
fn an_interface_needs_a_mac() {
    let body = [&[0; 4][..], &number(5), &number(0x1043), &[0; 4]].concat();
    let mut attrs = Attrs::new();
    attrs.name(IFLA_IFNAME, "br-guest").bytes(IFLA_ADDRESS, &[2, 0, 0, 0, 0, 1]);
    let wanted = Link {
        index: 5,
        name: "br-guest".into(),
        mac: Mac([2, 0, 0, 0, 0, 1]),
        up: true,
        kind: Kind::Other,
        port_of: None,
    };
    let link = message(libc::RTM_NEWLINK, 0, &body, attrs);
    assert_eq!(one(&link), Reply::Link(wanted));
    for cut in 1..link.len() {
        assert!(messages(&link[..cut]).all(|message| message.is_err()), "cut at {cut}");
    }
    let mut attrs = Attrs::new();
    attrs.name(IFLA_IFNAME, "tun0").bytes(IFLA_ADDRESS, &[]);
    assert_eq!(one(&message(libc::RTM_NEWLINK, 0, &body, attrs)), Reply::Other);
}

/// An interface, a port of number 9, with these attributes about what it is.
fn link(more: impl FnOnce(&mut Attrs), about: impl FnOnce(&mut Attrs)) -> Link {
    let body = [&[0; 4][..], &number(5), &[0; 8]].concat();
    let mut attrs = Attrs::new();
    attrs.name(IFLA_IFNAME, "x").bytes(IFLA_ADDRESS, &[2, 0, 0, 0, 0, 1]);
    attrs.bytes(IFLA_MASTER, &number(9));
    more(&mut attrs);
    attrs.nest(IFLA_LINKINFO, about);
    match one(&message(libc::RTM_NEWLINK, 0, &body, attrs)) {
        Reply::Link(link) => link,
        other => panic!("{other:?}"),
    }
}

#[test]
fn bridges_are_told_from_their_ports() {
    let bridge = |data: fn(&mut Attrs)| {
        let bridge = link(
            |_| {},
            |info| {
                info.name(IFLA_INFO_KIND, "bridge").nest(IFLA_INFO_DATA, data);
            },
        );
        assert_eq!(bridge.port_of, None);
        bridge.kind
    };
    let older = bridge(|_| {});
    assert_eq!(older, Kind::Bridge { learns_all: false, filters: false });
    let sorts = bridge(|data| {
        data.u8(IFLA_BR_VLAN_FILTERING, 1).bytes(IFLA_BR_VLAN_PROTOCOL, &[0x81, 0]);
        data.bytes(IFLA_BR_FDB_MAX_LEARNED, &[0; 4]);
    });
    assert_eq!(sorts, Kind::Bridge { learns_all: true, filters: true });
    // By the outer of two tags.
    let outer = bridge(|data| {
        data.u8(IFLA_BR_VLAN_FILTERING, 1).bytes(IFLA_BR_VLAN_PROTOCOL, &[0x88, 0xa8]);
        data.bytes(IFLA_BR_FDB_MAX_LEARNED, &number(77));
    });
    assert_eq!(outer, Kind::Bridge { learns_all: false, filters: false });

    let port = |kind: &str, isolated| {
        let port = link(
            |_| {},
            |info| {
                info.name(IFLA_INFO_KIND, "veth").name(IFLA_INFO_SLAVE_KIND, kind);
                info.nest(IFLA_INFO_SLAVE_DATA, |port| {
                    port.u8(1, 3).u8(IFLA_BRPORT_ISOLATED, isolated);
                });
            },
        );
        assert_eq!(port.kind, Kind::Other);
        port.port_of
    };
    assert_eq!(port("bridge", 0), Some((9, false)));
    assert_eq!(port("bridge", 1), Some((9, true)));
    assert_eq!(port("bond", 1), None);
}

#[test]
fn what_is_asked_for_is_how_the_kernel_says_it() {
    let inside = |asked: &[u8], data| {
        let attrs = Fields::parse(&asked[HEADER + LINK..]).unwrap();
        attrs.nested(IFLA_LINKINFO).unwrap().need(data).unwrap().to_vec()
    };
    let data = inside(&bound(5, 77, 7).unwrap(), IFLA_INFO_DATA);
    assert!(has(&data, IFLA_BR_FDB_MAX_LEARNED, &number(77)));
    for apart in [true, false] {
        let data = inside(&isolate(5, apart, 7).unwrap(), IFLA_INFO_SLAVE_DATA);
        assert!(has(&data, IFLA_BRPORT_ISOLATED, &[u8::from(apart)]));
    }
}

#[test]
fn a_vlan_is_of_an_interface_on_this_machine() {
    let vlan = |protocol: [u8; 2], elsewhere: bool| {
        let more = |attrs: &mut Attrs| {
            attrs.bytes(IFLA_LINK, &number(2));
            if elsewhere {
                attrs.bytes(IFLA_LINK_NETNSID, &number(0));
            }
        };
        link(more, |info| {
            info.name(IFLA_INFO_KIND, "vlan").nest(IFLA_INFO_DATA, |data| {
                data.bytes(IFLA_VLAN_ID, &10u16.to_ne_bytes());
                data.bytes(IFLA_VLAN_PROTOCOL, &protocol);
            });
        })
        .kind
    };
    assert_eq!(vlan([0x81, 0], false), Kind::Vlan { of: 2, id: 10 });
    assert_eq!(vlan([0x88, 0xa8], false), Kind::Other);
    // The number is one of another network namespace.
    assert_eq!(vlan([0x81, 0], true), Kind::Other);
}

#[test]
fn a_ports_vlans_are_single_ones_and_ranges() {
    let members = |infos: &[(u16, u16)]| {
        let body = [&[AF_BRIDGE, 0, 0, 0][..], &number(5), &[0; 8]].concat();
        let mut attrs = Attrs::new();
        attrs.name(IFLA_IFNAME, "lan1").nest(IFLA_AF_SPEC, |spec| {
            for (flags, id) in infos {
                let info = [flags.to_ne_bytes(), id.to_ne_bytes()].concat();
                spec.bytes(IFLA_BRIDGE_VLAN_INFO, &info);
            }
        });
        match one(&message(libc::RTM_NEWLINK, 0, &body, attrs)) {
            Reply::Members(Members { port: 5, vlans }) => vlans.into_iter().collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(members(&[]), [0; 0]);
    assert_eq!(members(&[(6, 1), (0, 10), (8, 20), (16, 24)]), [1, 10, 20, 21, 22, 23, 24]);
    // A range that is never ended, or never begun.
    assert_eq!(members(&[(8, 20), (0, 22), (16, 30)]), [20, 22, 30]);
    assert_eq!(members(&[(8, 4093), (16, u16::MAX)]), [4093, 4094]);
}

/// As Linux 6.1 said it on a little-endian machine: a bridge, a VLAN of it, a port, and the VLANs of
/// the bridge and both its ports.
#[cfg(target_endian = "little")]
#[test]
fn a_kernels_own_words_are_read() {
    macro_rules! said {
        ($file:literal) => {
            include_bytes!(concat!("../../../fuzz/corpus/netlink/", $file))
        };
    }
    let one = |message: &[u8]| match messages(message).next().unwrap().unwrap().reply {
        Reply::Link(link) => (link.index, link.name, link.kind, link.port_of),
        other => panic!("{other:?}"),
    };
    let (bridge, filters) = (2, Kind::Bridge { learns_all: false, filters: true });
    let vlan = Kind::Vlan { of: bridge, id: 10 };
    assert_eq!(one(said!("link-bridge")), (bridge, "br-lan".into(), filters, None));
    assert_eq!(one(said!("link-vlan")), (7, "br-lan.10".into(), vlan, None));
    let port = (6, "p2".to_owned(), Kind::Other, Some((bridge, false)));
    assert_eq!(one(said!("link-port")), port);
    let of_ports = messages(said!("bridge-vlans")).map(|message| match message.unwrap().reply {
        Reply::Members(Members { port, vlans }) => (port, vlans.into_iter().collect()),
        Reply::End { errno: 0 } => (0, vec![]),
        other => panic!("{other:?}"),
    });
    let trunk = vec![1, 10, 20, 21, 22, 23, 24];
    let wanted = [(bridge, vec![10]), (4, vec![10]), (6, trunk), (0, vec![])];
    assert_eq!(of_ports.collect::<Vec<_>>(), wanted);
}
