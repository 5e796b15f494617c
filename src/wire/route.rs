//! The kernel's interfaces and their addresses (rtnetlink(7)): what is asked, what is answered.
//! Numbers are in the host's order.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{
    Emitable, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR,
    NetlinkBuffer, NetlinkHeader,
};

use super::nft::WireError;
use super::nft::attr::{Attrs, Fields};
use super::nft::message::split;
use crate::domain::names::Mac;

const HEADER: usize = 16;
/// `struct ifinfomsg`
const LINK: usize = 16;
/// `struct ifaddrmsg`
const ADDRESS: usize = 8;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_EXT_MASK: u16 = 29;
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
/// Duplicate address detection (RFC 4862, 5.4) has not passed the address, or not yet.
const UNREADY: u32 = libc::IFA_F_TENTATIVE | libc::IFA_F_DADFAILED;

/// An Ethernet interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number for it.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its MAC address.
    pub mac: Mac,
    /// Switched on.
    pub up: bool,
}

/// An address that is ready for use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The interface that has it.
    pub index: u32,
    /// Our own; on a point-to-point link not the other end's.
    pub address: IpAddr,
    /// Bits of the network.
    pub length: u8,
}

/// One message of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// An interface.
    Link(Link),
    /// An address.
    Address(Address),
    /// Something that is of no use to us: an interface without a MAC, an address not ready.
    Other,
    /// The end of the answer; `errno` is 0, or says why there is none (EINTR: see `Interrupted`).
    End {
        /// As in errno(3).
        errno: i32,
    },
    /// Somebody's change came in between: what the dump says does not fit together.
    Interrupted,
}

/// Asks for one interface by its name.
pub fn link(name: &str, seq: u32) -> Result<Vec<u8>, WireError> {
    let mut attrs = Attrs::new();
    attrs.name(IFLA_IFNAME, name);
    attrs.bytes(IFLA_EXT_MASK, &RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
    request(libc::RTM_GETLINK, NLM_F_ACK, seq, &[0; LINK], attrs)
}

/// Asks for the addresses of all interfaces.
pub fn addresses(seq: u32) -> Result<Vec<u8>, WireError> {
    request(libc::RTM_GETADDR, NLM_F_DUMP, seq, &[0; ADDRESS], Attrs::new())
}

/// The messages of one datagram that answer request `seq`. A malformed one ends the iteration.
pub fn replies(mut buf: &[u8], seq: u32) -> impl Iterator<Item = Result<Reply, WireError>> {
    std::iter::from_fn(move || {
        loop {
            if buf.is_empty() {
                return None;
            }
            let Some((message, rest)) = split(buf) else {
                buf = &[];
                return Some(Err(WireError::Malformed));
            };
            buf = rest;
            if NetlinkBuffer::new(message).sequence_number() == seq {
                return Some(parse(message));
            }
        }
    })
}

fn request(
    kind: u16,
    flags: u16,
    seq: u32,
    body: &[u8],
    attrs: Attrs,
) -> Result<Vec<u8>, WireError> {
    let attrs = attrs.finish()?;
    let mut header = NetlinkHeader::default();
    let length = HEADER + body.len() + attrs.len();
    header.length = u32::try_from(length).map_err(|_| WireError::Malformed)?;
    header.message_type = kind;
    header.flags = NLM_F_REQUEST | flags;
    header.sequence_number = seq;
    let mut buf = vec![0; HEADER];
    header.emit(&mut buf);
    Ok([&buf, body, &attrs].concat())
}

fn parse(message: &[u8]) -> Result<Reply, WireError> {
    let header = NetlinkBuffer::new(message);
    let body = &message[HEADER..];
    let interrupted = header.flags() & NLM_F_DUMP_INTR != 0;
    match header.message_type() {
        NLMSG_DONE if interrupted => Ok(Reply::End { errno: libc::EINTR }),
        NLMSG_DONE => Ok(Reply::End { errno: errno(body).unwrap_or(0) }),
        _ if interrupted => Ok(Reply::Interrupted),
        NLMSG_ERROR => Ok(Reply::End { errno: errno(body).ok_or(WireError::Malformed)? }),
        libc::RTM_NEWLINK => Ok(parse_link(body)?.map_or(Reply::Other, Reply::Link)),
        libc::RTM_NEWADDR => Ok(parse_address(body)?.map_or(Reply::Other, Reply::Address)),
        _ => Ok(Reply::Other),
    }
}

/// Kernel errors are negative; `errno` is positive here.
fn errno(body: &[u8]) -> Option<i32> {
    body.first_chunk().map(|code| i32::from_ne_bytes(*code).saturating_neg())
}

fn parse_link(body: &[u8]) -> Result<Option<Link>, WireError> {
    let (head, attrs) = body.split_at_checked(LINK).ok_or(WireError::Malformed)?;
    let fields = Fields::parse(attrs)?;
    let Some(mac) = fields.get(IFLA_ADDRESS).and_then(|bytes| bytes.try_into().ok()) else {
        return Ok(None);
    };
    Ok(Some(Link {
        index: number(&head[4..8]),
        name: fields.name(IFLA_IFNAME)?,
        mac: Mac(mac),
        up: number(&head[8..12]) & libc::IFF_UP.cast_unsigned() != 0,
    }))
}

fn parse_address(body: &[u8]) -> Result<Option<Address>, WireError> {
    let (head, attrs) = body.split_at_checked(ADDRESS).ok_or(WireError::Malformed)?;
    let fields = Fields::parse(attrs)?;
    let flags = fields.get(IFA_FLAGS).filter(|flags| flags.len() == 4);
    if flags.map_or(u32::from(head[2]), number) & UNREADY != 0 {
        return Ok(None);
    }
    let own = fields.get(IFA_LOCAL).or(fields.get(IFA_ADDRESS));
    Ok(own.and_then(address).map(|address| Address {
        index: number(&head[4..8]),
        address,
        length: head[1],
    }))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(v4).into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|v6| Ipv6Addr::from(v6).into())
}

/// Of 4 bytes.
fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().copied().map_or(0, u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, flags: u16, body: &[u8], attrs: Attrs) -> Vec<u8> {
        request(kind, flags, 7, body, attrs).unwrap()
    }

    fn one(message: &[u8]) -> Reply {
        let mut all = replies(message, 7);
        let reply = all.next().unwrap().unwrap();
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
        let wanted =
            Link { index: 5, name: "br-guest".into(), mac: Mac([2, 0, 0, 0, 0, 1]), up: true };
        let link = message(libc::RTM_NEWLINK, 0, &body, attrs);
        assert_eq!(one(&link), Reply::Link(wanted));
        assert_eq!(replies(&link, 8).count(), 0, "an answer to another question");
        for cut in 1..link.len() {
            assert!(replies(&link[..cut], 7).all(|reply| reply.is_err()), "cut at {cut}");
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
    fn an_answer_ends_well_or_with_an_error() {
        let end =
            |kind, flags, code: i32| one(&message(kind, flags, &code.to_ne_bytes(), Attrs::new()));
        assert_eq!(end(NLMSG_DONE, 0, 0), Reply::End { errno: 0 });
        assert_eq!(end(NLMSG_DONE, NLM_F_DUMP_INTR, 0), Reply::End { errno: libc::EINTR });
        assert_eq!(end(libc::RTM_NEWADDR, NLM_F_DUMP_INTR, 0), Reply::Interrupted);
        assert_eq!(end(NLMSG_ERROR, 0, 0), Reply::End { errno: 0 });
        assert_eq!(end(NLMSG_ERROR, 0, -libc::ENODEV), Reply::End { errno: libc::ENODEV });
    }
}
