use super::*;

pub(super) fn message(kind: u16, flags: u16, body: &[u8], attrs: Attrs) -> Vec<u8> {
    request(kind, flags, 7, body, attrs).unwrap()
}

pub(super) fn one(message: &[u8]) -> Reply {
    let mut all = messages(message);
    let Message { seq, interrupted, reply } = all.next().unwrap().unwrap();
    assert_eq!((seq, interrupted), (7, false));
    assert!(all.next().is_none());
    reply
}

pub(super) fn number(value: u32) -> [u8; 4] {
    value.to_ne_bytes()
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

#[test]
fn a_ports_vlans_that_change_are_news() {
    for kind in [libc::RTM_DELLINK, libc::RTM_SETLINK] {
        assert_eq!(one(&message(kind, 0, &[0; LINK], Attrs::new())), Reply::LinksChanged);
    }
    let asked = members(7).unwrap();
    assert_eq!(asked[HEADER], AF_BRIDGE);
    let attrs = Fields::parse(&asked[HEADER + LINK..]).unwrap();
    assert_eq!(attrs.need(IFLA_EXT_MASK), Ok(&number(4)[..]));
}
