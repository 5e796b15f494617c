//! Router discovery (RFC 4861, sections 4.1 and 4.2) for a second advertisement beside the router's
//! own: what the two must agree on, and one that carries the Captive Portal API's address
//! (RFC 8910, section 2.3) and says nothing else.

use std::net::Ipv6Addr;

use etherparse::icmpv6::{
    NdpOptionSlice, NdpOptionType, RouterAdvertisementHeader, RouterAdvertisementPayload,
};
use etherparse::{Icmpv6Header, Icmpv6Slice, Icmpv6Type};

use super::evidence::FrameError;
use super::nd;

/// A question for routers without options. The kernel fills the checksum in.
pub const SOLICITATION: [u8; 8] = [133, 0, 0, 0, 0, 0, 0, 0];
const CAPTIVE_PORTAL: NdpOptionType = NdpOptionType(37);
/// Options are counted in these many bytes.
const UNIT: usize = 8;

/// An ICMPv6 message of router discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// A host asks for routers.
    Solicitation,
    /// A router shows itself.
    Advertisement(Router),
}

/// What a router says that one beside it must not contradict: hosts take it from whom they heard
/// last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Router {
    /// Addresses are to be had by DHCPv6 (M).
    pub managed: bool,
    /// Other settings are (O).
    pub other: bool,
    /// It names a Captive Portal API itself.
    pub names_api: bool,
}

/// Reads a message from its ICMPv6 header on, as RFC 4861 (6.1) demands. Hop limit and checksum are
/// the caller's to check.
pub fn parse(message: &[u8], from: Ipv6Addr) -> Result<Message, FrameError> {
    let icmp = Icmpv6Slice::from_slice(message).map_err(|_| FrameError::Nd)?;
    let (mut names_api, mut says_where) = (false, false);
    for option in nd::options(&icmp)? {
        let option = option.map_err(|_| FrameError::Nd)?;
        names_api |= option.option_type() == CAPTIVE_PORTAL;
        says_where |= matches!(option, NdpOptionSlice::SourceLinkLayerAddress(_));
    }
    match icmp.icmp_type() {
        Icmpv6Type::RouterSolicitation if !(from.is_unspecified() && says_where) => {
            Ok(Message::Solicitation)
        }
        Icmpv6Type::RouterAdvertisement(header) if from.is_unicast_link_local() => {
            Ok(Message::Advertisement(Router {
                managed: header.managed_address_config,
                other: header.other_config,
                names_api,
            }))
        }
        _ => Err(FrameError::Nd),
    }
}

/// An advertisement that names the Captive Portal API and leaves all else to `router`'s: Router
/// Lifetime 0 says of the sender alone that it is no default router (RFC 4861, 4.2). The kernel
/// fills the checksum in. `None` if an option cannot hold the address, which is over 2,038 bytes.
pub fn beside(router: Router, api: &str) -> Option<Vec<u8>> {
    let units = u8::try_from((2 + api.len()).div_ceil(UNIT)).ok()?;
    let header = Icmpv6Header::new(Icmpv6Type::RouterAdvertisement(RouterAdvertisementHeader {
        cur_hop_limit: 0,
        managed_address_config: router.managed,
        other_config: router.other,
        router_lifetime: 0,
    }));
    let unsaid = RouterAdvertisementPayload { reachable_time: 0, retrans_timer: 0 };
    let mut message = [&header.to_bytes()[..], &unsaid.to_bytes()].concat();
    let end = message.len() + usize::from(units) * UNIT;
    message.extend([CAPTIVE_PORTAL.0, units]);
    message.extend(api.bytes());
    message.resize(end, 0);
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    const ROUTER: Router = Router { managed: true, other: true, names_api: false };

    #[test]
    fn the_bytes_are_the_rfcs() {
        let message = beside(ROUTER, "https://wifi.example:2053/api").unwrap();
        #[rustfmt::skip]
        let expected = [
            134, 0, 0, 0, // type, code, checksum
            0, 0xc0, 0, 0, // hop limit unspecified, M and O, no default router
            0, 0, 0, 0, 0, 0, 0, 0, // times unspecified
            37, 4, // in units of 8 bytes
        ];
        let text = b"https://wifi.example:2053/api\0";
        assert_eq!(message, [&expected[..], text].concat());
        for (managed, other, flags) in [(true, false, 0x80), (false, true, 0x40)] {
            let message = beside(Router { managed, other, ..ROUTER }, "https://x/").unwrap();
            assert_eq!((message[5], message.len() % UNIT), (flags, 0));
        }
    }

    #[test]
    fn an_option_holds_so_much_and_no_more() {
        // Padding is at most seven bytes; an address that fills the option has none.
        for length in 1..=2038 {
            let message = beside(ROUTER, &"a".repeat(length)).unwrap();
            assert_eq!(message.len(), 16 + usize::from(message[17]) * UNIT);
            assert!(message.len() - 18 - length < UNIT, "{length}");
        }
        assert_eq!(beside(ROUTER, &"a".repeat(2039)), None);
    }

    #[test]
    fn what_is_sent_is_read_and_what_is_cut_is_not() {
        let named = Router { names_api: true, ..ROUTER };
        let message = beside(ROUTER, "https://wifi.example/api").unwrap();
        assert_eq!(parse(&message, LOCAL), Ok(Message::Advertisement(named)));
        for cut in 0..message.len() {
            // Without its option it is whole.
            assert_eq!(parse(&message[..cut], LOCAL).is_ok(), cut == 16, "cut at {cut}");
        }
        assert!(parse(&message, Ipv6Addr::UNSPECIFIED).is_err());
        assert!(parse(&message, "2001:db8::1".parse().unwrap()).is_err());
    }

    #[test]
    fn a_router_is_read_whatever_else_it_says() {
        // As dnsmasq 2.90 sends it: a prefix, its MTU, its link-layer address.
        let mut message = vec![134, 0, 0, 0, 64, 0x40, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
        let prefix = [3, 4, 64, 0xc0, 0, 0, 14, 16, 0, 0, 14, 16, 0, 0, 0, 0];
        message.extend(prefix);
        message.extend(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0).octets());
        message.extend([5, 1, 0, 0, 0, 0, 5, 0xdc, 1, 1, 2, 0, 0x5e, 0x77, 0, 1]);
        let router = Router { managed: false, other: true, names_api: false };
        assert_eq!(parse(&message, LOCAL), Ok(Message::Advertisement(router)));
        message[1] = 1;
        assert!(parse(&message, LOCAL).is_err(), "another code");
        (message[1], message[17]) = (0, 0);
        assert!(parse(&message, LOCAL).is_err(), "an option of no length");
    }

    #[test]
    fn hosts_ask_with_and_without_an_address() {
        let located = [&SOLICITATION[..], &[1, 1, 2, 0, 0, 0, 0, 9]].concat();
        for (message, from, good) in [
            (&SOLICITATION[..], LOCAL, true),
            (&SOLICITATION, Ipv6Addr::UNSPECIFIED, true),
            (&located, LOCAL, true),
            (&located, Ipv6Addr::UNSPECIFIED, false),
            (&located[..12], LOCAL, false),
            (&[135, 0, 0, 0, 0, 0, 0, 0], LOCAL, false),
        ] {
            assert_eq!(parse(message, from) == Ok(Message::Solicitation), good, "{message:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_have_an_answer(bytes in proptest::collection::vec(0_u8.., 0..96)) {
            let _ = parse(&bytes, LOCAL);
        }
    }
}
