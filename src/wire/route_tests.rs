use super::*;

fn message(kind: u16, flags: u16, body: &[u8], attrs: Attrs) -> Vec<u8> {
    request(kind, flags, 7, body, attrs).unwrap()
}

fn one(message: &[u8]) -> Reply {
    let mut all = messages(message);
    let Message { seq, interrupted, reply } = all.next().unwrap().unwrap();
    assert_eq!((seq, interrupted), (7, false));
    assert!(all.next().is_none());
    reply
}

fn number(value: u32) -> [u8; 4] {
    value.to_ne_bytes()
}

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
        is_bridge: false,
        learns_all: false,
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

#[test]
fn an_address_is_our_own_and_ready() {
    let head = |flags| [&[2, 24, flags, 0][..], &number(5)].concat();
    let mut attrs = Attrs::new();
    attrs.bytes(IFA_ADDRESS, &[192, 0, 2, 2]).bytes(IFA_LOCAL, &[192, 0, 2, 1]);
    let ready = message(libc::RTM_NEWADDR, 0, &head(0), attrs.clone());
    let address = "192.0.2.1".parse().unwrap();
    assert_eq!(one(&ready), Reply::Address(Address { index: 5, address, length: 24 }));
    let tentative = message(libc::RTM_NEWADDR, 0, &head(0x40), attrs.clone());
    assert_eq!(one(&tentative), Reply::Other);
    // The attribute has more flags than the header's byte.
    attrs.bytes(IFA_FLAGS, &number(libc::IFA_F_DADFAILED));
    assert_eq!(one(&message(libc::RTM_NEWADDR, 0, &head(0), attrs)), Reply::Other);
}

#[test]
fn an_address_beside_the_own_is_never_chosen_by_itself() {
    let address: Ipv6Addr = "fe80::89:10".parse().unwrap();
    let body = [&[10, 128, 0, 253][..], &number(5)].concat();
    let mut attrs = Attrs::new();
    attrs.bytes(2, &address.octets()).bytes(1, &address.octets());
    let gone = request(libc::RTM_DELADDR, NLM_F_ACK, 7, &body, attrs.clone()).unwrap();
    assert_eq!(remove_address(5, address, 7).unwrap(), gone);
    // Preferred for no time, valid for ever.
    let times = [number(0), number(u32::MAX), number(0), number(0)].concat();
    attrs.bytes(6, &times);
    let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
    let made = request(libc::RTM_NEWADDR, flags, 7, &body, attrs).unwrap();
    let asked = add_address(5, address, 7).unwrap();
    assert_eq!(asked, made);
    // As the kernel tells of it.
    let wanted = Address { index: 5, address: address.into(), length: 128 };
    assert_eq!(one(&asked), Reply::Address(wanted));
}

#[test]
fn an_answer_ends_well_or_with_an_error() {
    let end =
        |kind, flags, code: i32| one(&message(kind, flags, &code.to_ne_bytes(), Attrs::new()));
    assert_eq!(end(NLMSG_DONE, 0, 0), Reply::End { errno: 0 });
    assert_eq!(end(NLMSG_ERROR, 0, 0), Reply::End { errno: 0 });
    assert_eq!(end(NLMSG_ERROR, 0, -libc::ENODEV), Reply::End { errno: libc::ENODEV });
}

#[test]
fn a_change_in_between_shows() {
    let bytes = message(NLMSG_DONE, NLM_F_DUMP_INTR, &[0; 4], Attrs::new());
    assert!(messages(&bytes).next().unwrap().unwrap().interrupted);
}

#[test]
fn bridges_and_their_ports_are_told_apart() {
    let body = [&[0; 4][..], &number(5), &[0; 8]].concat();
    let link = |fill: fn(&mut Attrs)| {
        let mut attrs = Attrs::new();
        attrs.name(IFLA_IFNAME, "x").bytes(IFLA_ADDRESS, &[2, 0, 0, 0, 0, 1]);
        attrs.bytes(IFLA_MASTER, &number(9));
        attrs.nest(IFLA_LINKINFO, fill);
        match one(&message(libc::RTM_NEWLINK, 0, &body, attrs)) {
            Reply::Link(link) => (link.is_bridge, link.port_of),
            other => panic!("{other:?}"),
        }
    };
    let bridge = link(|info| {
        info.name(IFLA_INFO_KIND, "bridge");
    });
    assert_eq!(bridge, (true, None));
    let asked = bound(5, 77, 7).unwrap();
    let attrs = Fields::parse(&asked[HEADER + LINK..]).unwrap();
    let info = attrs.nested(IFLA_LINKINFO).unwrap();
    let data = info.need(IFLA_INFO_DATA).unwrap();
    let most = (IFLA_BR_FDB_MAX_LEARNED, &number(77)[..]);
    assert!(list(data).flatten().any(|item| item == most));
    let port = link(|info| {
        info.name(IFLA_INFO_KIND, "veth").name(IFLA_INFO_SLAVE_KIND, "bridge");
        info.nest(IFLA_INFO_SLAVE_DATA, |port| {
            port.u8(1, 3).u8(IFLA_BRPORT_ISOLATED, 0);
        });
    });
    assert_eq!(port, (false, Some((9, false))));
    // What we ask for is how the kernel would say that it is so.
    let asked = isolate(5, 7).unwrap();
    let attrs = Fields::parse(&asked[HEADER + LINK..]).unwrap();
    let info = attrs.nested(IFLA_LINKINFO).unwrap();
    let data = info.need(IFLA_INFO_SLAVE_DATA).unwrap();
    assert!(list(data).flatten().any(|item| item == (IFLA_BRPORT_ISOLATED, &[1])));
    let bond = link(|info| {
        info.name(IFLA_INFO_SLAVE_KIND, "bond");
    });
    assert_eq!(bond, (false, None));
}

#[test]
fn only_learned_entries_are_devices() {
    let entry = |family: i32, state: u16, bridge: bool| {
        let family = u8::try_from(family).unwrap();
        let head = [&[family, 0, 0, 0][..], &number(4), &state.to_ne_bytes(), &[0; 2]].concat();
        let mut attrs = Attrs::new();
        attrs.bytes(NDA_LLADDR, &[2, 0, 0, 0, 0, 1]).bytes(NDA_VLAN, &3u16.to_ne_bytes());
        let confirmed_used_updated = [0, 9999, 250, 1].map(number).concat();
        attrs.bytes(NDA_CACHEINFO, &confirmed_used_updated);
        if bridge {
            attrs.bytes(NDA_MASTER, &number(7));
        }
        one(&message(libc::RTM_NEWNEIGH, 0, &head, attrs))
    };
    let mac = Mac([2, 0, 0, 0, 0, 1]);
    let heard = Entry { bridge: 7, port: 4, vlan: 3, mac, age: Duration::from_millis(2500) };
    assert_eq!(entry(libc::AF_BRIDGE, libc::NUD_REACHABLE, true), Reply::Heard(heard));
    assert_eq!(entry(libc::AF_BRIDGE, libc::NUD_PERMANENT, true), Reply::Other);
    assert_eq!(entry(libc::AF_BRIDGE, libc::NUD_REACHABLE, false), Reply::Other);
    assert_eq!(entry(libc::AF_INET, libc::NUD_REACHABLE, true), Reply::Other);
}
