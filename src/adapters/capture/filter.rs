//! The filter in the kernel, as a classic BPF program: it passes DHCP from clients, ARP and
//! neighbour discovery on their way in, so that guests' data never reaches this process.

use libc::{
    BPF_ABS, BPF_B, BPF_H, BPF_IND, BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JMP, BPF_JSET, BPF_K, BPF_LD,
    BPF_LDX, BPF_MSH, BPF_RET, BPF_W, sock_filter,
};

/// Bytes of an ARP frame that are handed up.
pub(super) const ARP_SNAP: u32 = 64;
/// Bytes of a neighbour discovery frame that are handed up.
pub(super) const ND_SNAP: u32 = 512;
/// Bytes of a DHCP frame that are handed up; the most of all.
pub(super) const DHCP_SNAP: u32 = 1600;

const PACKET_TYPE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE).cast_unsigned();
const VLAN_PRESENT: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_VLAN_TAG_PRESENT).cast_unsigned();
const VLAN_TAG: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_VLAN_TAG).cast_unsigned();

// Places in the program that are jumped to.
const TYPE: u8 = 6;
const V4: u8 = 10;
const V6: u8 = 19;
const V6_UDP: u8 = 25;
const PASS_ARP: u8 = 29;
const PASS_ND: u8 = 30;
const PASS_DHCP: u8 = 31;
const DROP: u8 = 32;

/// The program. The first argument of `jump` is its own place.
#[rustfmt::skip]
pub(super) const PROGRAM: [sock_filter; 33] = [
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
    jump(8, BPF_JEQ, libc::ETH_P_IP as u32, V4, 9),
    jump(9, BPF_JEQ, libc::ETH_P_IPV6 as u32, V6, DROP),

    // IPv4: UDP, unfragmented, 68 to 67.
    load(BPF_B | BPF_ABS, 23),
    jump(11, BPF_JEQ, libc::IPPROTO_UDP as u32, 12, DROP),
    load(BPF_H | BPF_ABS, 20),
    jump(13, BPF_JSET, 0x3fff, DROP, 14),
    statement(BPF_LDX | BPF_B | BPF_MSH, 14),
    load(BPF_H | BPF_IND, 14),
    jump(16, BPF_JEQ, 68, 17, DROP),
    load(BPF_H | BPF_IND, 16),
    jump(18, BPF_JEQ, 67, PASS_DHCP, DROP),

    // IPv6 without extension headers: ICMPv6 133 to 136 ...
    load(BPF_B | BPF_ABS, 20),
    jump(20, BPF_JEQ, libc::IPPROTO_UDP as u32, V6_UDP, 21),
    jump(21, BPF_JEQ, libc::IPPROTO_ICMPV6 as u32, 22, DROP),
    load(BPF_B | BPF_ABS, 54),
    jump(23, BPF_JGE, 133, 24, DROP),
    jump(24, BPF_JGT, 136, DROP, PASS_ND),
    // ... or UDP, 546 to 547.
    load(BPF_H | BPF_ABS, 54),
    jump(26, BPF_JEQ, 546, 27, DROP),
    load(BPF_H | BPF_ABS, 56),
    jump(28, BPF_JEQ, 547, PASS_DHCP, DROP),

    statement(BPF_RET | BPF_K, ARP_SNAP),
    statement(BPF_RET | BPF_K, ND_SNAP),
    statement(BPF_RET | BPF_K, DHCP_SNAP),
    statement(BPF_RET | BPF_K, 0),
];

const fn statement(code: u32, k: u32) -> sock_filter {
    instruction(code, k, 0, 0)
}

const fn load(mode: u32, k: u32) -> sock_filter {
    statement(BPF_LD | mode, k)
}

/// Jumps are written as places and stored as distances; a jump backwards does not compile.
const fn jump(here: u8, test: u32, k: u32, yes: u8, no: u8) -> sock_filter {
    instruction(BPF_JMP | test | BPF_K, k, yes - here - 1, no - here - 1)
}

#[allow(clippy::cast_possible_truncation)] // The kernel's codes have 16 bits; libc's constants 32.
const fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel knows of a frame besides its bytes.
    #[derive(Clone, Copy, Default)]
    struct Metadata {
        packet_type: u8,
        vlan: Option<u16>,
    }

    /// Runs the program as the kernel does (`Documentation/networking/filter.rst`); a load from
    /// beyond the frame ends it with 0.
    fn run(frame: &[u8], metadata: Metadata) -> u32 {
        let (mut a, mut x, mut at) = (0_u32, 0_u32, 0_usize);
        loop {
            let step = PROGRAM[at];
            at += 1;
            let size = [4, 2, 1][usize::from(step.code >> 3 & 3)];
            let load = |offset: u32| -> Option<u32> {
                let bytes = frame.get(offset as usize..)?.get(..size)?;
                Some(bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
            };
            let class = u32::from(step.code) & 7;
            let mode = u32::from(step.code) & 0xe0;
            let loaded = match (class, mode, step.k) {
                (BPF_RET, _, k) => return k,
                (BPF_LD, BPF_ABS, PACKET_TYPE) => Some(metadata.packet_type.into()),
                (BPF_LD, BPF_ABS, VLAN_PRESENT) => Some(metadata.vlan.is_some().into()),
                (BPF_LD, BPF_ABS, VLAN_TAG) => Some(metadata.vlan.unwrap_or(0).into()),
                (BPF_LD, BPF_ABS, k) => load(k),
                (BPF_LD, BPF_IND, k) => load(x + k),
                (BPF_LDX, BPF_MSH, k) => load(k).map(|byte| (byte & 15) * 4),
                _ => None,
            };
            match (class, u32::from(step.code) & 0xf0) {
                (BPF_LD, _) => {
                    a = match loaded {
                        Some(value) => value,
                        None => return 0,
                    }
                }
                (BPF_LDX, _) => {
                    x = match loaded {
                        Some(value) => value,
                        None => return 0,
                    }
                }
                (BPF_JMP, test) => {
                    let holds = match test {
                        BPF_JEQ => a == step.k,
                        BPF_JGE => a >= step.k,
                        BPF_JGT => a > step.k,
                        BPF_JSET => a & step.k != 0,
                        other => panic!("jump {other:#x}"),
                    };
                    at += usize::from(if holds { step.jt } else { step.jf });
                }
                other => panic!("instruction {other:?}"),
            }
        }
    }

    fn sample(name: &str) -> Vec<u8> {
        let path = format!("{}/fuzz/corpus/frame/{name}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read(&path).expect(&path)
    }

    #[test]
    fn evidence_passes() {
        for (name, snap) in [
            ("dhcp-discover", DHCP_SNAP),
            ("dhcp-request", DHCP_SNAP),
            ("dhcp-release", DHCP_SNAP),
            ("dhcp-ip-options", DHCP_SNAP),
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
            assert_eq!(run(&frame, Metadata::default()), snap, "{name}");
            assert!(frame.len() <= snap as usize, "{name} is cut");
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
            assert_eq!(run(&sample(name), Metadata::default()), 0, "{name}");
        }
        for length in 0..14 {
            assert_eq!(run(&vec![8; length], Metadata::default()), 0, "{length} bytes");
        }
    }

    #[test]
    fn only_frames_for_this_network_pass() {
        let arp = sample("arp-request");
        let verdict = |packet_type, vlan| run(&arp, Metadata { packet_type, vlan }) > 0;
        for packet_type in [libc::PACKET_HOST, libc::PACKET_BROADCAST, libc::PACKET_MULTICAST] {
            assert!(verdict(packet_type, None));
        }
        for packet_type in [libc::PACKET_OTHERHOST, libc::PACKET_OUTGOING, libc::PACKET_LOOPBACK] {
            assert!(!verdict(packet_type, None));
        }
        // Priority 5 in no VLAN, and VLAN 10.
        assert!(verdict(libc::PACKET_HOST, Some(5 << 13)));
        assert!(!verdict(libc::PACKET_HOST, Some(5 << 13 | 0x00a)));
    }

    proptest::proptest! {
        #[test]
        fn the_program_always_ends(frame in proptest::collection::vec(0_u8.., 0..128)) {
            let snap = run(&frame, Metadata::default());
            proptest::prop_assert!([0, ARP_SNAP, ND_SNAP, DHCP_SNAP].contains(&snap));
        }
    }
}
