//! Who is at the other end: the source MAC of the connection's own SYN, as the kernel saved it
//! (`TCP_SAVE_SYN` = 2, Linux 5.10). The neighbour table would do too, but any guest can turn that
//! with forged ARP; a forged SYN never completes the handshake.

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;

use crate::domain::names::Mac;

const ETHERNET: usize = 14;

/// Makes a listener keep the SYN of every connection, link-layer header included.
pub(super) fn keep(listener: &impl AsFd) -> nix::Result<()> {
    let with_link_header = 2;
    set(listener, libc::TCP_SAVE_SYN, with_link_header)
}

/// Makes a listener hand up connections with their first bytes, or without any after some seconds.
pub(super) fn defer(listener: &impl AsFd) -> nix::Result<()> {
    let seconds = 5;
    set(listener, libc::TCP_DEFER_ACCEPT, seconds)
}

#[allow(unsafe_code)]
fn set(listener: &impl AsFd, option: libc::c_int, value: libc::c_int) -> nix::Result<()> {
    let size = libc::socklen_t::try_from(size_of_val(&value)).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the options take an int; the descriptor lives as long as the borrow.
    let result = unsafe {
        libc::setsockopt(
            listener.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            option,
            (&raw const value).cast(),
            size,
        )
    };
    Errno::result(result).map(drop)
}

/// The station behind an accepted connection. `None` on links without MACs, and for connections
/// that the kernel took by SYN cookie in a flood: it keeps no SYN then.
#[allow(unsafe_code)]
pub(super) fn station(connection: &impl AsFd) -> Option<Mac> {
    // Room for the largest Ethernet, IPv6 and TCP headers and then some; a longer SYN is strange
    // enough to remain unknown.
    let mut saved = [0u8; 512];
    let mut length = libc::socklen_t::try_from(saved.len()).ok()?;
    // SAFETY: the kernel writes at most `length` bytes into `saved`, and how many into `length`.
    let result = unsafe {
        libc::getsockopt(
            connection.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_SAVED_SYN,
            saved.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    Errno::result(result).ok()?;
    source(saved.get(..usize::try_from(length).ok()?)?)
}

/// The source of an Ethernet frame that carries IPv4 or IPv6, behind at most two VLAN tags
/// (IEEE 802.1Q). `None` if it is anything else, or not from a station.
pub fn source(frame: &[u8]) -> Option<Mac> {
    let mac = Mac(frame.get(6..12)?.try_into().ok()?);
    let mut at = ETHERNET;
    let mut ethertype: [u8; 2] = frame.get(12..ETHERNET)?.try_into().ok()?;
    for _ in 0..2 {
        if !matches!(ethertype, [0x81, 0x00] | [0x88, 0xa8]) {
            break;
        }
        ethertype = frame.get(at + 2..at + 4)?.try_into().ok()?;
        at += 4;
    }
    // A link without a header of its own starts with IP: the version must stand where it belongs.
    let version = frame.get(at)? >> 4;
    let carries_ip = matches!((ethertype, version), ([0x08, 0x00], 4) | ([0x86, 0xdd], 6));
    (carries_ip && mac.is_station()).then_some(mac)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GUEST: [u8; 6] = [0x02, 0, 0x5e, 0x10, 0, 1];

    fn frame(from: [u8; 6], types: &[u8], ip: u8) -> Vec<u8> {
        [&[0x02, 0, 0, 0, 0, 9][..], &from, types, &[ip], &[0; 39]].concat()
    }

    #[test]
    fn the_sender_is_read_through_vlan_tags() {
        for (types, ip) in [
            (&[0x08, 0x00][..], 0x45),
            (&[0x86, 0xdd], 0x60),
            (&[0x81, 0, 0, 7, 0x08, 0x00], 0x45),
            (&[0x88, 0xa8, 0, 7, 0x81, 0, 0, 9, 0x86, 0xdd], 0x6f),
        ] {
            assert_eq!(source(&frame(GUEST, types, ip)), Some(Mac(GUEST)), "{types:x?}");
        }
    }

    #[test]
    fn what_is_no_station_on_ethernet_stays_unknown() {
        let ipv4 = [0x08, 0x00];
        assert_eq!(source(&frame([0; 6], &ipv4, 0x45)), None, "loopback");
        assert_eq!(source(&frame([0xff; 6], &ipv4, 0x45)), None, "broadcast");
        assert_eq!(source(&frame(GUEST, &ipv4, 0x60)), None, "version against type");
        assert_eq!(source(&frame(GUEST, &[0x08, 0x06], 0x45)), None, "ARP");
        let tags = [0x81, 0, 0, 1, 0x81, 0, 0, 1, 0x81, 0, 0, 1, 0x08, 0];
        assert_eq!(source(&frame(GUEST, &tags, 0x45)), None, "three tags");
        assert_eq!(source(&frame(GUEST, &ipv4, 0x45)[..14]), None, "cut off");
    }

    proptest! {
        #[test]
        fn any_bytes_are_borne(frame: Vec<u8>) {
            prop_assert!(source(&frame).is_none_or(Mac::is_station));
        }
    }
}
