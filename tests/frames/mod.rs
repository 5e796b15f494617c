//! Frames as guests send them, well formed and not: the seeds of the fuzzer.

use std::net::{Ipv4Addr, Ipv6Addr};

use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, Opcode};
use dhcproto::{Encodable, v6};
use etherparse::{
    ArpEthIpv4Packet, ArpOperation, EtherType, Ethernet2Header, Icmpv6Type, IpFragOffset, IpNumber,
    Ipv4Header, PacketBuilder, VlanId,
};

pub(crate) const PHONE: [u8; 6] = [0x02, 0x1a, 0x11, 0xf0, 0x3c, 0x77];
pub(crate) const OTHER: [u8; 6] = [0x02, 0x1a, 0x11, 0xf0, 0x3c, 0x78];
pub(crate) const ROUTER: [u8; 6] = [0x02, 0x00, 0x5e, 0x10, 0x00, 0x01];
pub(crate) const ALL: [u8; 6] = [0xff; 6];
pub(crate) const PHONE_V4: Ipv4Addr = Ipv4Addr::new(192, 168, 40, 117);
pub(crate) const ROUTER_V4: Ipv4Addr = Ipv4Addr::new(192, 168, 40, 1);
pub(crate) const PHONE_V6: Ipv6Addr =
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0x001a, 0x11ff, 0xfef0, 0x3c77);
pub(crate) const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const NOWHERE: Ipv6Addr = Ipv6Addr::UNSPECIFIED;

/// Every seed, by the name of its file.
pub(crate) fn samples() -> Vec<(&'static str, Vec<u8>)> {
    [dhcp(), dhcp_refused(), dhcp6(), arp(), nd(), data()].concat()
}

/// A client message as phones send it; `change` has the last word.
pub(crate) fn dhcp_message(kind: MessageType, change: impl FnOnce(&mut Message)) -> Vec<u8> {
    let mut message = Message::default();
    message.set_xid(0x3903_f326).set_chaddr(&PHONE).set_flags(Flags::default().set_broadcast());
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(kind));
    options.insert(DhcpOption::ClientIdentifier([&[1], &PHONE[..]].concat()));
    options.insert(DhcpOption::MaxMessageSize(1500));
    options.insert(DhcpOption::ClassIdentifier(b"android-dhcp-14".to_vec()));
    options.insert(DhcpOption::Hostname("Redmi-Note-12".into()));
    change(&mut message);
    message.to_vec().unwrap()
}

/// An IPv4 UDP packet from `source`'s station.
pub(crate) fn udp4(source: [u8; 6], ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let from = if ports.0 == 68 { Ipv4Addr::UNSPECIFIED } else { PHONE_V4 };
    let packet = PacketBuilder::ethernet2(source, ALL)
        .ipv4(from.octets(), Ipv4Addr::BROADCAST.octets(), 64)
        .udp(ports.0, ports.1);
    let mut frame = Vec::new();
    packet.write(&mut frame, payload).unwrap();
    frame
}

/// An ICMPv6 packet from `source`'s station, as neighbour discovery sends it.
pub(crate) fn icmp6(
    source: [u8; 6],
    from: Ipv6Addr,
    kind: u8,
    rest: [u8; 4],
    body: &[u8],
) -> Vec<u8> {
    icmp6_with(
        source,
        from,
        255,
        Icmpv6Type::Unknown { type_u8: kind, code_u8: 0, bytes5to8: rest },
        body,
    )
}

fn icmp6_with(source: [u8; 6], from: Ipv6Addr, hops: u8, kind: Icmpv6Type, body: &[u8]) -> Vec<u8> {
    let packet = PacketBuilder::ethernet2(source, [0x33, 0x33, 0, 0, 0, 2])
        .ipv6(from.octets(), ALL_ROUTERS.octets(), hops)
        .icmpv6(kind);
    let mut frame = Vec::new();
    packet.write(&mut frame, body).unwrap();
    frame
}

/// An ARP packet in a frame from `source`'s station.
pub(crate) fn arp_packet(source: [u8; 6], sender: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    let arp = ArpEthIpv4Packet {
        operation: ArpOperation::REQUEST,
        sender_mac: sender,
        sender_ipv4: address.octets(),
        target_mac: [0; 6],
        target_ipv4: ROUTER_V4.octets(),
    };
    let link = Ethernet2Header { source, destination: ALL, ether_type: EtherType::ARP };
    // Padded to Ethernet's least length, as it is on the air.
    [&link.to_bytes()[..], &arp.to_bytes(), &[0; 18]].concat()
}

fn dhcp_frame(kind: MessageType, change: impl FnOnce(&mut Message)) -> Vec<u8> {
    udp4(PHONE, (68, 67), &dhcp_message(kind, change))
}

fn dhcp() -> Vec<(&'static str, Vec<u8>)> {
    let request = |message: &mut Message| {
        message.opts_mut().insert(DhcpOption::RequestedIpAddress(PHONE_V4));
        message.opts_mut().insert(DhcpOption::ServerIdentifier(ROUTER_V4));
    };
    let held = |message: &mut Message| {
        message.set_ciaddr(PHONE_V4);
    };
    let strange = b"\xc4\xe3\xba\xc3 \x1b[2Jphone";
    let mut odd_name = dhcp_message(MessageType::Discover, |message| {
        message.opts_mut().remove(dhcproto::v4::OptionCode::Hostname);
    });
    let end = odd_name.iter().rposition(|byte| *byte == 255).unwrap();
    odd_name.truncate(end);
    odd_name.extend([12, u8::try_from(strange.len()).unwrap()]);
    odd_name.extend(strange);
    odd_name.push(255);
    vec![
        ("dhcp-discover", dhcp_frame(MessageType::Discover, |_| {})),
        ("dhcp-discover-wish", dhcp_frame(MessageType::Discover, request)),
        ("dhcp-request", dhcp_frame(MessageType::Request, request)),
        ("dhcp-renew", dhcp_frame(MessageType::Request, held)),
        ("dhcp-release", dhcp_frame(MessageType::Release, held)),
        ("dhcp-decline", dhcp_frame(MessageType::Decline, request)),
        ("dhcp-inform", dhcp_frame(MessageType::Inform, held)),
        ("dhcp-odd-name", udp4(PHONE, (68, 67), &odd_name)),
        ("dhcp-ip-options", with_ip_options(&dhcp_message(MessageType::Request, request))),
    ]
}

fn dhcp_refused() -> Vec<(&'static str, Vec<u8>)> {
    let discover = dhcp_message(MessageType::Discover, |_| {});
    let mut long_hlen = discover.clone();
    long_hlen[2] = 255;
    let mut no_cookie = discover.clone();
    no_cookie[236] = 0;
    let mut short_type = discover[..240].to_vec();
    short_type.extend([53, 0, 255]);
    vec![
        ("dhcp-cut", udp4(PHONE, (68, 67), &discover[..200])),
        ("dhcp-options-cut", udp4(PHONE, (68, 67), &discover[..242])),
        ("dhcp-long-hlen", udp4(PHONE, (68, 67), &long_hlen)),
        ("dhcp-no-cookie", udp4(PHONE, (68, 67), &no_cookie)),
        ("dhcp-empty-type", udp4(PHONE, (68, 67), &short_type)),
        ("dhcp-spoofed", udp4(OTHER, (68, 67), &discover)),
        ("dhcp-from-group", udp4(ALL, (68, 67), &discover)),
        (
            "dhcp-relayed",
            dhcp_frame(MessageType::Discover, |message| {
                message.set_giaddr(ROUTER_V4).set_hops(1);
            }),
        ),
        (
            "dhcp-impossible-address",
            dhcp_frame(MessageType::Request, |message| {
                message.set_ciaddr(Ipv4Addr::new(224, 0, 0, 251));
            }),
        ),
        (
            "dhcp-reply-to-67",
            dhcp_frame(MessageType::Offer, |message| {
                message.set_opcode(Opcode::BootReply);
            }),
        ),
        ("dhcp-fragment", dhcp_fragment(&discover)),
        ("dhcp-offer", udp4(ROUTER, (67, 68), &discover)),
    ]
}

fn dhcp6() -> Vec<(&'static str, Vec<u8>)> {
    let message = |kind| {
        let mut message = v6::Message::new_with_id(kind, [1, 2, 3]);
        message.opts_mut().insert(v6::DhcpOption::ClientId([&[0, 3, 0, 1], &PHONE[..]].concat()));
        message.to_vec().unwrap()
    };
    let frame = |from: Ipv6Addr, ports: (u16, u16), payload: &[u8]| {
        let packet = PacketBuilder::ethernet2(PHONE, [0x33, 0x33, 0, 1, 0, 2])
            .ipv6(from.octets(), Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2).octets(), 1)
            .udp(ports.0, ports.1);
        let mut frame = Vec::new();
        packet.write(&mut frame, payload).unwrap();
        frame
    };
    let solicit = message(v6::MessageType::Solicit);
    vec![
        ("dhcp6-solicit", frame(PHONE_V6, (546, 547), &solicit)),
        ("dhcp6-release", frame(PHONE_V6, (546, 547), &message(v6::MessageType::Release))),
        ("dhcp6-reply", frame(ROUTER_V6, (547, 546), &message(v6::MessageType::Reply))),
        ("dhcp6-advertise", frame(PHONE_V6, (546, 547), &message(v6::MessageType::Advertise))),
        ("dhcp6-relayed", frame(PHONE_V6, (546, 547), &[12, 0, 0, 0])),
        ("dhcp6-cut", frame(PHONE_V6, (546, 547), &solicit[..3])),
        ("dhcp6-from-nowhere", frame(NOWHERE, (546, 547), &solicit)),
    ]
}

fn arp() -> Vec<(&'static str, Vec<u8>)> {
    let mut reply = arp_packet(PHONE, PHONE, PHONE_V4);
    reply[21] = 2;
    let mut reverse = reply.clone();
    reverse[21] = 3;
    let mut long = reply.clone();
    long[18] = 200;
    let mut other_sizes = reply.clone();
    (other_sizes[18], other_sizes[19]) = (8, 2);
    let mut tagged = Vec::new();
    let link = PacketBuilder::ethernet2(PHONE, ALL).single_vlan(VlanId::try_new(10).unwrap());
    link.arp(etherparse::ArpPacket::from_slice(&arp_packet(PHONE, PHONE, PHONE_V4)[14..]).unwrap())
        .write(&mut tagged)
        .unwrap();
    vec![
        ("arp-request", arp_packet(PHONE, PHONE, PHONE_V4)),
        ("arp-reply", reply),
        ("arp-probe", arp_packet(PHONE, PHONE, Ipv4Addr::UNSPECIFIED)),
        ("arp-spoofed", arp_packet(OTHER, PHONE, PHONE_V4)),
        ("arp-from-nobody", arp_packet([0; 6], [0; 6], PHONE_V4)),
        ("arp-multicast-sender", arp_packet(PHONE, PHONE, Ipv4Addr::new(239, 1, 1, 1))),
        ("arp-reverse", reverse),
        ("arp-long", long),
        ("arp-other-sizes", other_sizes),
        ("arp-cut", arp_packet(PHONE, PHONE, PHONE_V4)[..30].to_vec()),
        ("vlan-arp", tagged),
    ]
}

fn nd() -> Vec<(&'static str, Vec<u8>)> {
    let option = |kind: u8, mac: [u8; 6]| [&[kind, 1], &mac[..]].concat();
    let target = PHONE_V6.octets();
    let solicit = |source, from, options: &[u8]| {
        icmp6(source, from, 135, [0; 4], &[&target[..], options].concat())
    };
    let own = option(1, PHONE);
    let mut wrong_sum = solicit(PHONE, PHONE_V6, &own);
    wrong_sum[56] ^= 0xff;
    let router = icmp6(PHONE, PHONE_V6, 134, [64, 0, 7, 8], &[&[0; 8][..], &own].concat());
    let advertise = |from, mac| {
        icmp6(PHONE, from, 136, [0x60, 0, 0, 0], &[&target[..], &option(2, mac)].concat())
    };
    let mut group = vec![0xff; 16];
    group.extend(&own);
    let far = icmp6_with(PHONE, PHONE_V6, 254, Icmpv6Type::NeighborSolicitation, &target);
    let code = Icmpv6Type::Unknown { type_u8: 135, code_u8: 9, bytes5to8: [0; 4] };
    vec![
        ("nd-ns", solicit(PHONE, PHONE_V6, &own)),
        // With a nonce (RFC 7527).
        ("nd-dad", solicit(PHONE, NOWHERE, &[14, 1, 1, 2, 3, 4, 5, 6])),
        ("nd-na", advertise(PHONE_V6, PHONE)),
        ("nd-rs", icmp6(PHONE, PHONE_V6, 133, [0; 4], &own)),
        ("nd-rs-from-nowhere", icmp6(PHONE, NOWHERE, 133, [0; 4], &[])),
        ("nd-ra", router),
        ("nd-spoofed", solicit(OTHER, PHONE_V6, &own)),
        ("nd-na-spoofed", advertise(PHONE_V6, OTHER)),
        ("nd-na-from-nowhere", advertise(NOWHERE, PHONE)),
        ("nd-dad-with-address", solicit(PHONE, NOWHERE, &own)),
        ("nd-wrong-sum", wrong_sum),
        ("nd-far", far),
        ("nd-code", icmp6_with(PHONE, PHONE_V6, 255, code, &target)),
        ("nd-cut", icmp6(PHONE, PHONE_V6, 135, [0; 4], &target[..9])),
        ("nd-option-zero", solicit(PHONE, PHONE_V6, &[1, 0, 0, 0, 0, 0, 0, 0])),
        ("nd-option-long", solicit(PHONE, PHONE_V6, &[1, 4, 0, 0, 0, 0, 0, 0])),
        ("nd-target-group", icmp6(PHONE, PHONE_V6, 135, [0; 4], &group)),
        ("nd-source-group", solicit(PHONE, ALL_ROUTERS, &own)),
    ]
}

fn data() -> Vec<(&'static str, Vec<u8>)> {
    let v4 =
        || PacketBuilder::ethernet2(PHONE, ROUTER).ipv4(PHONE_V4.octets(), [203, 0, 113, 9], 64);
    let mut http = Vec::new();
    v4().tcp(50_000, 80, 1, 1024).write(&mut http, b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut tcp_ports = Vec::new();
    v4().tcp(68, 67, 1, 1024).write(&mut tcp_ports, b"data").unwrap();
    let mut echo = Vec::new();
    v4().icmpv4_echo_request(1, 1).write(&mut echo, b"ping").unwrap();
    let mut hop = icmp6(PHONE, PHONE_V6, 143, [0; 4], &[0; 20]);
    hop[20] = 0;
    vec![
        ("tcp-http", http),
        ("tcp-68-to-67", tcp_ports),
        ("udp-dns", udp4(PHONE, (40_000, 53), b"question")),
        ("udp-to-67-from-data", udp4(PHONE, (40_000, 67), b"tunnel")),
        ("udp-68-to-data", udp4(PHONE, (68, 443), b"tunnel")),
        ("icmp-echo", echo),
        ("icmp6-echo", icmp6(PHONE, PHONE_V6, 128, [0, 1, 0, 1], b"ping")),
        ("mld-report", icmp6(PHONE, PHONE_V6, 143, [0; 4], &[0; 20])),
        ("ipv6-hop-by-hop", hop),
        ("empty", Vec::new()),
    ]
}

fn ip_frame(header: &Ipv4Header, rest: &[u8]) -> Vec<u8> {
    let link = Ethernet2Header { source: PHONE, destination: ALL, ether_type: EtherType::IPV4 };
    let mut frame = link.to_bytes().to_vec();
    header.write(&mut frame).unwrap();
    frame.extend(rest);
    frame
}

fn ip_header(length: usize) -> Ipv4Header {
    let length = u16::try_from(length).unwrap();
    Ipv4Header::new(length, 64, IpNumber::UDP, [0; 4], [255; 4]).unwrap()
}

fn with_ip_options(message: &[u8]) -> Vec<u8> {
    let udp = udp4(PHONE, (68, 67), message)[34..].to_vec();
    let mut header = ip_header(udp.len());
    // Router alert (RFC 2113).
    header.options = [148, 4, 0, 0].into();
    header.set_payload_len(udp.len()).unwrap();
    ip_frame(&header, &udp)
}

fn dhcp_fragment(message: &[u8]) -> Vec<u8> {
    let udp = udp4(PHONE, (68, 67), message)[34..].to_vec();
    let mut header = ip_header(udp.len());
    header.more_fragments = true;
    header.fragment_offset = IpFragOffset::ZERO;
    ip_frame(&header, &udp)
}
