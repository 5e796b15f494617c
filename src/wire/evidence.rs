//! Ethernet frames → evidence that a device is present.
//!
//! A frame speaks only for the station that sent it: whatever names another inside is refused.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{LinkSlice, NetSlice, SlicedPacket, TransportSlice};

use super::{arp, dhcp, nd};
use crate::domain::event::{Event, Evidence, Sighting};
use crate::domain::names::{Mac, ZoneId};

/// What one frame shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The station that sent it: never a group address, never zero.
    pub mac: Mac,
    /// What it sent.
    pub fact: Fact,
}

/// What a station sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A DHCPv4 client message (RFC 2131).
    Dhcp(dhcp::Message),
    /// A DHCPv6 client message (RFC 8415), from this address.
    Dhcp6(Ipv6Addr),
    /// ARP (RFC 826), from this address; a probe (RFC 5227) has none.
    Arp(Option<Ipv4Addr>),
    /// Neighbour discovery (RFC 4861), from this address; a probe of an address (RFC 4862) has
    /// none.
    Nd(Option<Ipv6Addr>),
}

/// Why a frame says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Shorter than its headers say, or headers that contradict themselves.
    #[error("broken headers")]
    Headers,
    /// Sent by a group address or by nobody.
    #[error("the source is no station")]
    NoStation,
    /// Of a VLAN inside the zone's network.
    #[error("tagged for another network")]
    Tagged,
    /// A part of a packet.
    #[error("a fragment")]
    Fragment,
    /// Neither DHCP from a client nor ARP nor neighbour discovery.
    #[error("not evidence")]
    Foreign,
    /// Broken ARP.
    #[error("broken ARP")]
    Arp,
    /// Broken DHCP, or not from a client.
    #[error("broken DHCP")]
    Dhcp,
    /// DHCP that came through a relay: its client is not on this network.
    #[error("relayed DHCP")]
    Relayed,
    /// Broken neighbour discovery.
    #[error("broken neighbour discovery")]
    Nd,
    /// Names another station as its sender.
    #[error("sent in another station's name")]
    Spoofed,
    /// From an address that no host can have.
    #[error("not a host's address")]
    Address,
}

impl FrameError {
    /// Every kind, in the order of [`Self::place`].
    pub const ALL: [Self; 11] = [
        Self::Headers,
        Self::NoStation,
        Self::Tagged,
        Self::Fragment,
        Self::Foreign,
        Self::Arp,
        Self::Dhcp,
        Self::Relayed,
        Self::Nd,
        Self::Spoofed,
        Self::Address,
    ];

    /// This kind's place in [`Self::ALL`].
    pub const fn place(self) -> usize {
        self as usize
    }

    /// The label of this kind's counter.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Headers => "headers",
            Self::NoStation => "no_station",
            Self::Tagged => "tagged",
            Self::Fragment => "fragment",
            Self::Foreign => "foreign",
            Self::Arp => "arp",
            Self::Dhcp => "dhcp",
            Self::Relayed => "relayed",
            Self::Nd => "nd",
            Self::Spoofed => "spoofed",
            Self::Address => "address",
        }
    }
}

/// Reads a frame, from the Ethernet header on, without its checksum. Total: any bytes have an
/// answer.
pub fn parse(frame: &[u8]) -> Result<Heard, FrameError> {
    let packet = SlicedPacket::from_ethernet(frame).map_err(|_| FrameError::Headers)?;
    let Some(LinkSlice::Ethernet2(link)) = &packet.link else { return Err(FrameError::Headers) };
    let mac = Mac(link.source());
    if !mac.is_station() {
        return Err(FrameError::NoStation);
    }
    if !packet.link_exts.is_empty() {
        return Err(FrameError::Tagged);
    }
    let fact = match (&packet.net, &packet.transport) {
        (Some(NetSlice::Arp(packet)), _) => Fact::Arp(arp::sender(packet, mac)?),
        (Some(NetSlice::Ipv4(ip)), _) if ip.is_payload_fragmented() => {
            return Err(FrameError::Fragment);
        }
        (Some(NetSlice::Ipv6(ip)), _) if ip.is_payload_fragmented() => {
            return Err(FrameError::Fragment);
        }
        (Some(NetSlice::Ipv4(_)), Some(TransportSlice::Udp(udp)))
            if udp.destination_port() == dhcp::SERVER_PORT =>
        {
            Fact::Dhcp(dhcp::parse(udp.payload(), mac)?)
        }
        (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Udp(udp)))
            if udp.destination_port() == dhcp::SERVER_PORT_V6 =>
        {
            dhcp::check_v6(udp.payload())?;
            let source = host_v6(ip.header().source_addr())?;
            Fact::Dhcp6(source.ok_or(FrameError::Address)?)
        }
        (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Icmpv6(icmp))) => {
            Fact::Nd(nd::sender(&ip.header(), icmp, mac)?)
        }
        _ => return Err(FrameError::Foreign),
    };
    Ok(Heard { mac, fact })
}

impl Heard {
    /// What the domain is told.
    pub fn into_event(self, zone: ZoneId) -> Event {
        let mac = self.mac;
        let (address, hostname, evidence) = match self.fact {
            Fact::Dhcp(message) if message.kind == dhcp::Kind::Release => {
                return Event::Left { zone, mac };
            }
            Fact::Dhcp(message) => {
                (message.address.map(IpAddr::V4), message.hostname, Evidence::Dhcp)
            }
            Fact::Dhcp6(address) => (Some(IpAddr::V6(address)), None, Evidence::Dhcp),
            Fact::Arp(address) => (address.map(IpAddr::V4), None, Evidence::Arp),
            Fact::Nd(address) => (address.map(IpAddr::V6), None, Evidence::Nd),
        };
        Event::Seen(Sighting { zone, mac, address, hostname, evidence })
    }
}

/// `None` for `0.0.0.0`; an error for what no host has as its own.
pub(super) fn host_v4(address: Ipv4Addr) -> Result<Option<Ipv4Addr>, FrameError> {
    if address.is_unspecified() {
        return Ok(None);
    }
    // 0/8 is "this network"; 224/3 is multicast, the reserved block and broadcast (RFC 6890).
    let host = !matches!(address.octets()[0], 0 | 127 | 224..);
    if host { Ok(Some(address)) } else { Err(FrameError::Address) }
}

/// `None` for `::`; an error for what no host has as its own.
pub(super) fn host_v6(address: Ipv6Addr) -> Result<Option<Ipv6Addr>, FrameError> {
    if address.is_unspecified() {
        return Ok(None);
    }
    let host =
        !address.is_loopback() && !address.is_multicast() && address.to_ipv4_mapped().is_none();
    if host { Ok(Some(address)) } else { Err(FrameError::Address) }
}
