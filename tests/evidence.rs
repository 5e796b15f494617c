//! What frames say, and what they are refused for.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod frames;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use frames::{OTHER, PHONE, PHONE_V4, PHONE_V6, ROUTER, ROUTER_V4, ROUTER_V6, samples};
use maitred::domain::event::{Event, Evidence, Sighting};
use maitred::domain::names::{Mac, ZoneId};
use maitred::wire::evidence::{Fact, FrameError, Heard, parse};
use maitred::wire::{arp, dhcp, nd};
use proptest::prelude::*;

/// Samples, by what they are refused for.
const BAD: &[(FrameError, &[&str])] = &[
    (FrameError::Headers, &["empty", "arp-cut", "arp-long"]),
    (
        FrameError::Dhcp,
        &[
            "dhcp-cut",
            "dhcp-options-cut",
            "dhcp-long-hlen",
            "dhcp-no-cookie",
            "dhcp-empty-type",
            "dhcp-reply-to-67",
            "dhcp6-advertise",
            "dhcp6-cut",
            "udp-to-67-from-data",
        ],
    ),
    (FrameError::Relayed, &["dhcp-relayed", "dhcp6-relayed"]),
    (
        FrameError::Address,
        &[
            "dhcp-impossible-address",
            "arp-multicast-sender",
            "nd-source-group",
            "dhcp6-from-nowhere",
        ],
    ),
    (FrameError::Arp, &["arp-reverse", "arp-other-sizes"]),
    (
        FrameError::Nd,
        &[
            "nd-wrong-sum",
            "nd-far",
            "nd-code",
            "nd-cut",
            "nd-option-zero",
            "nd-option-long",
            "nd-target-group",
            "nd-na-from-nowhere",
            "nd-dad-with-address",
        ],
    ),
    (FrameError::Tagged, &["vlan-arp"]),
    (FrameError::Fragment, &["dhcp-fragment"]),
    (
        FrameError::Foreign,
        &[
            "tcp-http",
            "tcp-68-to-67",
            "udp-dns",
            "udp-68-to-data",
            "icmp-echo",
            "icmp6-echo",
            "mld-report",
            "dhcp-offer",
            "dhcp6-reply",
        ],
    ),
];

fn sample(name: &str) -> Vec<u8> {
    samples().into_iter().find(|(given, _)| *given == name).expect(name).1
}

fn fact(name: &str) -> Fact {
    let heard = parse(&sample(name)).expect(name);
    assert_eq!(heard.mac, Mac(PHONE), "{name}");
    heard.fact
}

/// The fuzzer's seeds are these samples. After a change here: `MAITRED_WRITE_SEEDS=1`.
#[test]
fn the_seeds_are_up_to_date() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/frame");
    for (name, frame) in samples() {
        let path = folder.join(name);
        if std::env::var_os("MAITRED_WRITE_SEEDS").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, &frame).unwrap();
        }
        assert!(std::fs::read(&path).is_ok_and(|seed| seed == frame), "{name} is not as sampled");
    }
}

#[test]
fn dhcp_names_the_device_its_address_and_its_name() {
    use dhcp::Kind::{Decline, Discover, Inform, Release, Request};
    for (name, kind, address) in [
        ("dhcp-discover", Discover, None),
        ("dhcp-discover-wish", Discover, None),
        ("dhcp-request", Request, Some(PHONE_V4)),
        ("dhcp-ip-options", Request, Some(PHONE_V4)),
        ("dhcp-renew", Request, Some(PHONE_V4)),
        ("dhcp-release", Release, Some(PHONE_V4)),
        ("dhcp-decline", Decline, None),
        ("dhcp-inform", Inform, Some(PHONE_V4)),
    ] {
        let hostname = Some("Redmi-Note-12".to_owned());
        assert_eq!(fact(name), Fact::Dhcp(dhcp::Message { kind, address, hostname }), "{name}");
    }
    let Fact::Dhcp(odd) = fact("dhcp-odd-name") else { panic!("not DHCP") };
    assert_eq!(odd.hostname.as_deref(), Some("[2Jphone"));
    assert_eq!(fact("dhcp6-solicit"), Fact::Dhcp6(PHONE_V6));
    assert_eq!(fact("dhcp6-release"), Fact::Dhcp6(PHONE_V6));
}

#[test]
fn arp_and_nd_name_the_sender() {
    assert_eq!(fact("arp-request"), Fact::Arp(Some(PHONE_V4)));
    assert_eq!(fact("arp-reply"), Fact::Arp(Some(PHONE_V4)));
    assert_eq!(fact("arp-probe"), Fact::Arp(None));
    for name in ["nd-ns", "nd-na", "nd-rs", "nd-ra"] {
        assert_eq!(fact(name), Fact::Nd(Some(PHONE_V6)), "{name}");
    }
    assert_eq!(fact("nd-dad"), Fact::Nd(None));
    assert_eq!(fact("nd-rs-from-nowhere"), Fact::Nd(None));
}

#[test]
fn a_frame_speaks_only_for_its_sender() {
    for name in ["dhcp-spoofed", "arp-spoofed", "nd-spoofed", "nd-na-spoofed"] {
        assert_eq!(parse(&sample(name)), Err(FrameError::Spoofed), "{name}");
    }
    for name in ["dhcp-from-group", "arp-from-nobody"] {
        assert_eq!(parse(&sample(name)), Err(FrameError::NoStation), "{name}");
    }
}

#[test]
fn bad_frames_are_told_apart() {
    for (error, names) in BAD {
        for name in *names {
            assert_eq!(parse(&sample(name)), Err(*error), "{name}");
        }
    }
}

#[test]
fn kinds_of_errors_have_their_own_places_and_labels() {
    let mut labels: Vec<_> = FrameError::ALL.iter().map(|error| error.as_str()).collect();
    labels.sort_unstable();
    labels.dedup();
    assert_eq!(labels.len(), FrameError::ALL.len());
    for (place, error) in FrameError::ALL.into_iter().enumerate() {
        assert_eq!(error.place(), place);
    }
}

#[test]
fn facts_become_events() {
    let zone = ZoneId(3);
    let event = |name: &str| parse(&sample(name)).unwrap().into_event(zone);
    let seen = |name: &str| match event(name) {
        Event::Seen(sighting) => sighting,
        other => panic!("{name}: {other:?}"),
    };
    let sighting = |address, hostname: Option<&str>, evidence| Sighting {
        zone,
        mac: Mac(PHONE),
        address,
        hostname: hostname.map(str::to_owned),
        evidence,
    };
    let (v4, v6) = (Some(IpAddr::V4(PHONE_V4)), Some(IpAddr::V6(PHONE_V6)));
    assert_eq!(seen("dhcp-request"), sighting(v4, Some("Redmi-Note-12"), Evidence::Dhcp));
    assert_eq!(seen("dhcp6-release"), sighting(v6, None, Evidence::Dhcp));
    assert_eq!(seen("arp-reply"), sighting(v4, None, Evidence::Arp));
    assert_eq!(seen("nd-na"), sighting(v6, None, Evidence::Nd));
    assert_eq!(seen("nd-dad"), sighting(None, None, Evidence::Nd));
    let Event::Left { zone: left, mac } = event("dhcp-release") else { panic!("not left") };
    assert_eq!((left, mac), (zone, Mac(PHONE)));
}

#[test]
fn our_questions_are_well_formed() {
    let frame = arp::request((Mac(ROUTER), ROUTER_V4), (Mac(OTHER), PHONE_V4));
    assert_eq!((&frame[..6], frame.len()), (&OTHER[..], 42));
    assert_eq!(frame[38..], PHONE_V4.octets());
    let frame = nd::solicitation((Mac(ROUTER), ROUTER_V6), (Mac(OTHER), PHONE_V6));
    assert_eq!((&frame[..6], frame[54]), (&OTHER[..], 135));
    assert_eq!(frame[62..78], PHONE_V6.octets());
}

proptest! {
    #[test]
    fn any_bytes_have_an_answer(frame in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse(&frame);
    }

    /// Most random bytes fail at once; broken samples get further.
    #[test]
    fn any_change_to_a_sample_has_an_answer(
        pick in any::<prop::sample::Index>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let samples = samples();
        let mut frame = pick.get(&samples).1.clone();
        for (place, byte) in changes {
            if !frame.is_empty() {
                let place = place.index(frame.len());
                frame[place] = byte;
            }
        }
        frame.truncate(cut.index(frame.len() + 1).max(frame.len() / 2));
        if let Ok(Heard { mac, fact }) = parse(&frame) {
            prop_assert!(mac.is_station());
            prop_assert_eq!(&frame[6..12], &mac.0);
            if let Fact::Dhcp(dhcp::Message { hostname: Some(name), .. }) = fact {
                prop_assert!(name.len() <= 63 && !name.chars().any(char::is_control));
            }
        }
    }

    #[test]
    fn our_arp_requests_read_back(mac in station(), to in station(), address in host(), of in host()) {
        let frame = arp::request((mac, address), (to, of));
        prop_assert_eq!(parse(&frame), Ok(Heard { mac, fact: Fact::Arp(Some(address)) }));
    }

    #[test]
    fn our_solicitations_read_back(mac in station(), to in station(), low in any::<u64>(), of in any::<u64>()) {
        let address = |low: u64| Ipv6Addr::from_bits(0xfe80 << 112 | u128::from(low));
        let frame = nd::solicitation((mac, address(low)), (to, address(of)));
        prop_assert_eq!(parse(&frame), Ok(Heard { mac, fact: Fact::Nd(Some(address(low))) }));
    }
}

fn station() -> impl Strategy<Value = Mac> {
    any::<[u8; 6]>().prop_map(|mut bytes| {
        bytes[0] = bytes[0] & 0xfe | 2;
        Mac(bytes)
    })
}

fn host() -> impl Strategy<Value = Ipv4Addr> {
    (1_u8..=126, any::<[u8; 3]>()).prop_map(|(a, [b, c, d])| Ipv4Addr::new(a, b, c, d))
}
