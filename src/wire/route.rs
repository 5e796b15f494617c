//! The kernel's interfaces, their addresses and the bridges' entries (rtnetlink(7)): what is asked,
//! what is answered. Numbers are in the host's order.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use netlink_packet_core::{
    Emitable, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REQUEST,
    NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NetlinkHeader,
};

pub use self::link::{Kind, Link, Members};
use super::nft::WireError;
use super::nft::attr::{Attrs, Fields};
use super::nft::message::split;
use crate::domain::names::Mac;

mod link;

const HEADER: usize = 16;
/// `struct ifinfomsg`
const LINK: usize = 16;
/// `struct ifaddrmsg`
const ADDRESS: usize = 8;
/// `struct ndmsg`
const NEIGHBOUR: usize = 12;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_BR_FDB_MAX_LEARNED: u16 = 49;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BRPORT_ISOLATED: u16 = 33;
const BRIDGE: &str = "bridge";
/// As the headers have it, in one byte.
const AF_BRIDGE: u8 = 7;
const AF_INET6: u8 = 10;
const NDA_LLADDR: u16 = 2;
const NDA_CACHEINFO: u16 = 3;
const NDA_VLAN: u16 = 5;
const NDA_MASTER: u16 = 9;
const RTEXT_FILTER_BRVLAN_COMPRESSED: u32 = 1 << 2;
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
/// Of an address without an end, in `struct ifa_cacheinfo`.
const FOREVER: u32 = u32::MAX;
/// Duplicate address detection (RFC 4862, 5.4) has not passed the address, or not yet.
const UNREADY: u32 = libc::IFA_F_TENTATIVE | libc::IFA_F_DADFAILED;

/// A bridge's entry for a device that was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The bridge's number.
    pub bridge: u32,
    /// The port's.
    pub port: u32,
    /// 0 without VLAN filtering.
    pub vlan: u16,
    /// The device.
    pub mac: Mac,
    /// How long ago it was heard, as far as the kernel says.
    pub age: Duration,
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

/// One message from the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The number of the request that it answers.
    pub seq: u32,
    /// Somebody's change came in between: what the dump says does not fit together.
    pub interrupted: bool,
    /// What it says.
    pub reply: Reply,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// An interface.
    Link(Link),
    /// The VLANs of a bridge's port.
    Members(Members),
    /// An interface has gone, or a port's VLANs have changed.
    LinksChanged,
    /// An address.
    Address(Address),
    /// A bridge has heard a device.
    Heard(Entry),
    /// A bridge has forgotten a device.
    Forgotten(Entry),
    /// Something that is of no use to us: an interface without a MAC, an address not ready.
    Other,
    /// The end of the answer; `errno` is 0, or says why there is none.
    End {
        /// As in errno(3).
        errno: i32,
    },
}

/// Asks for one interface by its name.
pub fn link(name: &str, seq: u32) -> Result<Vec<u8>, WireError> {
    let mut attrs = Attrs::new();
    attrs.name(IFLA_IFNAME, name);
    attrs.bytes(IFLA_EXT_MASK, &RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
    request(libc::RTM_GETLINK, NLM_F_ACK, seq, &[0; LINK], attrs)
}

/// Asks for all interfaces.
pub fn links(seq: u32) -> Result<Vec<u8>, WireError> {
    all_links(0, RTEXT_FILTER_SKIP_STATS, seq)
}

/// Asks which VLANs the ports of all bridges are in.
pub fn members(seq: u32) -> Result<Vec<u8>, WireError> {
    all_links(AF_BRIDGE, RTEXT_FILTER_BRVLAN_COMPRESSED, seq)
}

/// Asks for the addresses of all interfaces.
pub fn addresses(seq: u32) -> Result<Vec<u8>, WireError> {
    request(libc::RTM_GETADDR, NLM_F_DUMP, seq, &[0; ADDRESS], Attrs::new())
}

/// Asks for all entries of all bridges.
pub fn entries(seq: u32) -> Result<Vec<u8>, WireError> {
    let mut body = [0; NEIGHBOUR];
    body[0] = AF_BRIDGE;
    request(libc::RTM_GETNEIGH, NLM_F_DUMP, seq, &body, Attrs::new())
}

/// Has a bridge's port kept apart from other isolated ones, or not.
pub fn isolate(port: u32, apart: bool, seq: u32) -> Result<Vec<u8>, WireError> {
    let mut body = [0; LINK];
    body[4..8].copy_from_slice(&port.to_ne_bytes());
    let mut attrs = Attrs::new();
    attrs.nest(IFLA_LINKINFO, |info| {
        info.name(IFLA_INFO_SLAVE_KIND, BRIDGE).nest(IFLA_INFO_SLAVE_DATA, |port| {
            port.u8(IFLA_BRPORT_ISOLATED, u8::from(apart));
        });
    });
    request(libc::RTM_NEWLINK, NLM_F_ACK, seq, &body, attrs)
}

/// Bounds how many devices a bridge learns of.
pub fn bound(bridge: u32, most: u32, seq: u32) -> Result<Vec<u8>, WireError> {
    let mut body = [0; LINK];
    body[4..8].copy_from_slice(&bridge.to_ne_bytes());
    let mut attrs = Attrs::new();
    attrs.nest(IFLA_LINKINFO, |info| {
        info.name(IFLA_INFO_KIND, BRIDGE).nest(IFLA_INFO_DATA, |bridge| {
            bridge.bytes(IFLA_BR_FDB_MAX_LEARNED, &most.to_ne_bytes());
        });
    });
    request(libc::RTM_NEWLINK, NLM_F_ACK, seq, &body, attrs)
}

/// Gives an interface one more link-local address, alone in its network. It is deprecated from the
/// start (RFC 4862, 5.5.4): nothing is sent from it unless it is asked for by name.
pub fn add_address(interface: u32, address: Ipv6Addr, seq: u32) -> Result<Vec<u8>, WireError> {
    let mut attrs = own(address);
    // How long it is preferred and valid, and when it was made and changed, which the kernel says.
    let times = [0, FOREVER, 0, 0].map(u32::to_ne_bytes).concat();
    attrs.bytes(IFA_CACHEINFO, &times);
    let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
    request(libc::RTM_NEWADDR, flags, seq, &host(interface), attrs)
}

/// Takes such an address away.
pub fn remove_address(interface: u32, address: Ipv6Addr, seq: u32) -> Result<Vec<u8>, WireError> {
    request(libc::RTM_DELADDR, NLM_F_ACK, seq, &host(interface), own(address))
}

/// The messages of one datagram. After one whose length is wrong there are no more.
pub fn messages(mut buf: &[u8]) -> impl Iterator<Item = Result<Message, WireError>> {
    std::iter::from_fn(move || {
        if buf.is_empty() {
            return None;
        }
        let Some((message, rest)) = split(buf) else {
            buf = &[];
            return Some(Err(WireError::Malformed));
        };
        buf = rest;
        Some(parse(message))
    })
}

fn all_links(family: u8, mask: u32, seq: u32) -> Result<Vec<u8>, WireError> {
    let (mut body, mut attrs) = ([0; LINK], Attrs::new());
    body[0] = family;
    attrs.bytes(IFLA_EXT_MASK, &mask.to_ne_bytes());
    request(libc::RTM_GETLINK, NLM_F_DUMP, seq, &body, attrs)
}

/// `struct ifaddrmsg` of a single IPv6 address.
fn host(interface: u32) -> [u8; ADDRESS] {
    let [a, b, c, d] = interface.to_ne_bytes();
    [AF_INET6, 128, 0, libc::RT_SCOPE_LINK, a, b, c, d]
}

fn own(address: Ipv6Addr) -> Attrs {
    let mut attrs = Attrs::new();
    attrs.bytes(IFA_LOCAL, &address.octets()).bytes(IFA_ADDRESS, &address.octets());
    attrs
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

fn parse(message: &[u8]) -> Result<Message, WireError> {
    let header = NetlinkBuffer::new(message);
    let body = &message[HEADER..];
    let reply = match header.message_type() {
        NLMSG_DONE => Reply::End { errno: errno(body).unwrap_or(0) },
        NLMSG_ERROR => Reply::End { errno: errno(body).ok_or(WireError::Malformed)? },
        libc::RTM_NEWLINK => link::parse(body)?,
        libc::RTM_DELLINK | libc::RTM_SETLINK => Reply::LinksChanged,
        libc::RTM_NEWADDR => parse_address(body)?.map_or(Reply::Other, Reply::Address),
        libc::RTM_NEWNEIGH => parse_entry(body)?.map_or(Reply::Other, Reply::Heard),
        libc::RTM_DELNEIGH => parse_entry(body)?.map_or(Reply::Other, Reply::Forgotten),
        _ => Reply::Other,
    };
    let interrupted = header.flags() & NLM_F_DUMP_INTR != 0;
    Ok(Message { seq: header.sequence_number(), interrupted, reply })
}

/// Kernel errors are negative; `errno` is positive here.
fn errno(body: &[u8]) -> Option<i32> {
    body.first_chunk().map(|code| i32::from_ne_bytes(*code).saturating_neg())
}

/// `None` for a neighbour of another kind, and for a port's own address, which is permanent.
fn parse_entry(body: &[u8]) -> Result<Option<Entry>, WireError> {
    let (head, attrs) = body.split_at_checked(NEIGHBOUR).ok_or(WireError::Malformed)?;
    let state = u16::from_ne_bytes([head[8], head[9]]);
    if head[0] != AF_BRIDGE || state & libc::NUD_PERMANENT != 0 {
        return Ok(None);
    }
    let fields = Fields::parse(attrs)?;
    let mac = fields.get(NDA_LLADDR).and_then(|bytes| bytes.try_into().ok());
    let vlan = fields.get(NDA_VLAN).and_then(|bytes| bytes.try_into().ok());
    Ok(fields.get(NDA_MASTER).zip(mac).map(|(bridge, mac)| Entry {
        bridge: number(bridge),
        port: number(&head[4..8]),
        vlan: vlan.map_or(0, u16::from_ne_bytes),
        mac: Mac(mac),
        age: fields.get(NDA_CACHEINFO).map_or(Duration::ZERO, age),
    }))
}

/// When an entry was last written anew, of `struct nda_cacheinfo`: in hundredths of a second.
fn age(times: &[u8]) -> Duration {
    let hundredths = times.get(8..12).map_or(0, number);
    Duration::from_millis(u64::from(hundredths) * 10)
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
#[path = "route_tests.rs"]
mod tests;
