//! The filters in the kernel: they pass DHCP from clients, ARP and neighbour discovery on their way
//! in, so that guests' data never reaches this process.

use libc::{
    BPF_ABS, BPF_B, BPF_H, BPF_IND, BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JMP, BPF_JSET, BPF_K, BPF_LDX,
    BPF_MEM, BPF_MSH, BPF_RET, BPF_ST, BPF_W, BPF_X, sock_filter,
};

use crate::adapters::bpf::{instruction, jump, load, statement};

/// Bytes of an ARP frame that are handed up.
pub(super) const ARP_SNAP: u32 = 64;
/// Bytes of a neighbour discovery frame that are handed up.
pub(super) const ND_SNAP: u32 = 512;
/// Bytes of a DHCP frame or packet that are handed up; the most of all.
pub(super) const DHCP_SNAP: u32 = 1600;

const PACKET_TYPE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE).cast_unsigned();
const VLAN_PRESENT: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_VLAN_TAG_PRESENT).cast_unsigned();
const VLAN_TAG: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_VLAN_TAG).cast_unsigned();
/// The sender in the Ethernet header, which stands before what a raw IP socket gets.
const ETHERNET_SOURCE: u32 = (libc::SKF_LL_OFF + 6).cast_unsigned();

// Places in the program that are jumped to.
const TYPE: u8 = 6;
const V6: u8 = 9;
const V6_UDP: u8 = 15;
const PASS_ARP: u8 = 19;
const PASS_ND: u8 = 20;
const PASS_DHCP: u8 = 21;
const DROP: u8 = 22;

/// For whole frames: ARP, neighbour discovery and DHCPv6.
#[rustfmt::skip]
pub(super) const FRAMES: [sock_filter; 23] = [
    // To this host, to all or to a group; not to another host, not outgoing.
    load(BPF_W | BPF_ABS, PACKET_TYPE),
    jump(1, BPF_JGE, libc::PACKET_OTHERHOST as u32, DROP, 2),
    // The kernel has taken the tag off the frame: another VLAN is another network. Tag 0 only
    // carries a priority (IEEE 802.1Q).
    load(BPF_W | BPF_ABS, VLAN_PRESENT),
    jump(3, BPF_JEQ, 0, TYPE, 4),
    load(BPF_W | BPF_ABS, VLAN_TAG),
    jump(5, BPF_JSET, 0x0fff, DROP, TYPE),

    load(BPF_H | BPF_ABS, 12),
    jump(7, BPF_JEQ, libc::ETH_P_ARP as u32, PASS_ARP, 8),
    jump(8, BPF_JEQ, libc::ETH_P_IPV6 as u32, V6, DROP),

    // Without extension headers: ICMPv6 133 to 136 ...
    load(BPF_B | BPF_ABS, 20),
    jump(10, BPF_JEQ, libc::IPPROTO_UDP as u32, V6_UDP, 11),
    jump(11, BPF_JEQ, libc::IPPROTO_ICMPV6 as u32, 12, DROP),
    load(BPF_B | BPF_ABS, 54),
    jump(13, BPF_JGE, 133, 14, DROP),
    jump(14, BPF_JGT, 136, DROP, PASS_ND),
    // ... or UDP, 546 to 547.
    load(BPF_H | BPF_ABS, 54),
    jump(16, BPF_JEQ, 546, 17, DROP),
    load(BPF_H | BPF_ABS, 56),
    jump(18, BPF_JEQ, 547, PASS_DHCP, DROP),

    statement(BPF_RET | BPF_K, ARP_SNAP),
    statement(BPF_RET | BPF_K, ND_SNAP),
    statement(BPF_RET | BPF_K, DHCP_SNAP),
    statement(BPF_RET | BPF_K, 0),
];

/// For the IPv4 UDP packets of a raw socket: 68 to 67, from the station that the message names as
/// its client (`chaddr`, RFC 2131, section 2).
#[rustfmt::skip]
pub(super) const CLIENTS: [sock_filter; 17] = [
    statement(BPF_LDX | BPF_B | BPF_MSH, 0),
    load(BPF_H | BPF_IND, 0),
    jump(2, BPF_JEQ, 68, 3, 16),
    load(BPF_H | BPF_IND, 2),
    jump(4, BPF_JEQ, 67, 5, 16),
    load(BPF_W | BPF_IND, UDP_HEADER + CHADDR),
    statement(BPF_ST, 0),
    load(BPF_H | BPF_IND, UDP_HEADER + CHADDR + 4),
    statement(BPF_ST, 1),
    statement(BPF_LDX | BPF_MEM, 0),
    load(BPF_W | BPF_ABS, ETHERNET_SOURCE),
    same(11, 12, 16),
    statement(BPF_LDX | BPF_MEM, 1),
    load(BPF_H | BPF_ABS, ETHERNET_SOURCE + 4),
    same(14, 15, 16),
    statement(BPF_RET | BPF_K, DHCP_SNAP),
    statement(BPF_RET | BPF_K, 0),
];

/// Bytes of a UDP header.
pub(super) const UDP_HEADER: u32 = 8;
/// Where a DHCP message names its client.
pub(super) const CHADDR: u32 = 28;

/// A jump by whether the two registers are equal.
const fn same(here: u8, yes: u8, no: u8) -> sock_filter {
    instruction(BPF_JMP | BPF_JEQ | BPF_X, 0, yes - here - 1, no - here - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::bpf::tests::{Packet, run};

    fn sample(name: &str) -> Vec<u8> {
        let path = format!("{}/fuzz/corpus/frame/{name}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read(&path).expect(&path)
    }

    fn as_frame(bytes: &[u8]) -> u32 {
        run(&FRAMES, Packet { bytes, ..Packet::default() })
    }

    /// What a raw UDP socket makes of a frame with an IPv4 UDP packet in it.
    fn as_packet(frame: &[u8]) -> u32 {
        let bytes = frame.get(14..).unwrap_or_default();
        run(&CLIENTS, Packet { bytes, ethernet: frame, ..Packet::default() })
    }

    #[test]
    fn evidence_passes() {
        for (name, snap) in [
            ("dhcp6-solicit", DHCP_SNAP),
            ("arp-request", ARP_SNAP),
            ("arp-probe", ARP_SNAP),
            ("nd-ns", ND_SNAP),
            ("nd-dad", ND_SNAP),
            ("nd-na", ND_SNAP),
            ("nd-rs", ND_SNAP),
            ("nd-ra", ND_SNAP),
        ] {
            let frame = sample(name);
            assert_eq!(as_frame(&frame), snap, "{name}");
            assert!(frame.len() <= snap as usize, "{name} is cut");
        }
        for name in ["dhcp-discover", "dhcp-request", "dhcp-release", "dhcp-ip-options"] {
            assert_eq!(as_packet(&sample(name)), DHCP_SNAP, "{name}");
        }
    }

    #[test]
    fn guests_data_stays_in_the_kernel() {
        for name in [
            "tcp-http",
            "udp-dns",
            "udp-to-67-from-data",
            "udp-68-to-data",
            "icmp-echo",
            "icmp6-echo",
            "mld-report",
            "dhcp-offer",
            "dhcp-fragment",
            "dhcp6-reply",
            "vlan-arp",
            "ipv6-hop-by-hop",
            "tcp-68-to-67",
        ] {
            assert_eq!(as_frame(&sample(name)), 0, "{name}");
        }
        for name in ["udp-dns", "udp-to-67-from-data", "udp-68-to-data", "dhcp-offer"] {
            assert_eq!(as_packet(&sample(name)), 0, "{name}");
        }
        for length in 0..14 {
            assert_eq!(as_frame(&vec![8; length]), 0, "{length} bytes");
            assert_eq!(as_packet(&vec![8; length]), 0, "{length} bytes");
        }
    }

    #[test]
    fn a_client_speaks_only_for_its_own_station() {
        let honest = sample("dhcp-discover");
        for place in 6..12 {
            let mut forged = honest.clone();
            forged[place] ^= 4;
            assert_eq!(as_packet(&forged), 0, "byte {place} of the frame");
        }
        assert_eq!(as_packet(&sample("dhcp-spoofed")), 0);
    }

    #[test]
    fn only_frames_for_this_network_pass() {
        let arp = sample("arp-request");
        let verdict =
            |kind, vlan| run(&FRAMES, Packet { bytes: &arp, kind, vlan, ..Packet::default() }) > 0;
        for kind in [libc::PACKET_HOST, libc::PACKET_BROADCAST, libc::PACKET_MULTICAST] {
            assert!(verdict(kind, None));
        }
        for kind in [libc::PACKET_OTHERHOST, libc::PACKET_OUTGOING, libc::PACKET_LOOPBACK] {
            assert!(!verdict(kind, None));
        }
        // Priority 5 in no VLAN, and VLAN 10.
        assert!(verdict(libc::PACKET_HOST, Some(5 << 13)));
        assert!(!verdict(libc::PACKET_HOST, Some(5 << 13 | 0x00a)));
    }

    proptest::proptest! {
        #[test]
        fn the_programs_always_end(frame in proptest::collection::vec(0_u8.., 0..128)) {
            proptest::prop_assert!([0, ARP_SNAP, ND_SNAP, DHCP_SNAP].contains(&as_frame(&frame)));
            proptest::prop_assert!([0, DHCP_SNAP].contains(&as_packet(&frame)));
        }
    }
}
