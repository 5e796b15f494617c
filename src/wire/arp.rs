//! ARP on Ethernet for IPv4 (RFC 826): who sends, and the question that we send.

use std::net::Ipv4Addr;

use etherparse::{ArpEthIpv4Packet, ArpOperation, ArpPacketSlice, EtherType, Ethernet2Header};

use super::evidence::{FrameError, host_v4};
use crate::domain::names::Mac;

/// Length of a frame from [`request`], in bytes.
pub const REQUEST_LEN: usize = Ethernet2Header::LEN + ArpEthIpv4Packet::LEN;

/// The sender's address; `None` for a probe (RFC 5227), which has none yet. The sender must be
/// `source`, the station that sent the frame.
pub(super) fn sender(
    packet: &ArpPacketSlice<'_>,
    source: Mac,
) -> Result<Option<Ipv4Addr>, FrameError> {
    let packet = packet.to_packet().try_eth_ipv4().map_err(|_| FrameError::Arp)?;
    if !matches!(packet.operation, ArpOperation::REQUEST | ArpOperation::REPLY) {
        return Err(FrameError::Arp);
    }
    if packet.sender_mac != source.0 {
        return Err(FrameError::Spoofed);
    }
    host_v4(packet.sender_ipv4_addr())
}

/// A frame that asks the station `to` alone whether it still has its address (RFC 1122, 2.3.2.1).
pub fn request(from: (Mac, Ipv4Addr), to: (Mac, Ipv4Addr)) -> [u8; REQUEST_LEN] {
    let ethernet =
        Ethernet2Header { source: from.0.0, destination: to.0.0, ether_type: EtherType::ARP };
    let arp = ArpEthIpv4Packet {
        operation: ArpOperation::REQUEST,
        sender_mac: from.0.0,
        sender_ipv4: from.1.octets(),
        target_mac: [0; 6],
        target_ipv4: to.1.octets(),
    };
    let mut frame = [0; REQUEST_LEN];
    frame[..Ethernet2Header::LEN].copy_from_slice(&ethernet.to_bytes());
    frame[Ethernet2Header::LEN..].copy_from_slice(&arp.to_bytes());
    frame
}
