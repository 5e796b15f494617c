//! Neighbour discovery (RFC 4861): who sends, and the question that we send.

use std::net::Ipv6Addr;

use etherparse::icmpv6::{
    Icmpv6PayloadSlice, NdpOptionSlice, NdpOptionType, NdpOptionsIterator,
    NeighborSolicitationPayload, TYPE_NEIGHBOR_ADVERTISEMENT, TYPE_NEIGHBOR_SOLICITATION,
    TYPE_ROUTER_SOLICITATION,
};
use etherparse::{Icmpv6Slice, Icmpv6Type, Ipv6HeaderSlice, PacketBuilder};

use super::evidence::{FrameError, host_v6};
use crate::domain::names::Mac;

/// Routers decrement it, so 255 comes from this link (RFC 4861, section 7.1).
const HOP_LIMIT: u8 = 255;

/// The sender's address; `None` for a device that has none yet (`::`). A link-layer address in the
/// message must be that of `source`, the station that sent the frame.
pub(super) fn sender(
    ip: &Ipv6HeaderSlice<'_>,
    icmp: &Icmpv6Slice<'_>,
    source: Mac,
) -> Result<Option<Ipv6Addr>, FrameError> {
    let kind = icmp.type_u8();
    if !(TYPE_ROUTER_SOLICITATION..=TYPE_NEIGHBOR_ADVERTISEMENT).contains(&kind) {
        return Err(FrameError::Foreign);
    }
    if ip.hop_limit() != HOP_LIMIT || !icmp.is_checksum_valid(ip.source(), ip.destination()) {
        return Err(FrameError::Nd);
    }
    let address = host_v6(ip.source_addr())?;
    // Only a solicitation may come from nowhere (RFC 4861, 4.1 to 4.4).
    let asks = matches!(kind, TYPE_ROUTER_SOLICITATION | TYPE_NEIGHBOR_SOLICITATION);
    if address.is_none() && !asks {
        return Err(FrameError::Nd);
    }
    for option in options(icmp)? {
        let named = match option.map_err(|_| FrameError::Nd)? {
            // A device without an address must not say where it can be reached (7.1.1).
            NdpOptionSlice::SourceLinkLayerAddress(_) if address.is_none() => {
                return Err(FrameError::Nd);
            }
            NdpOptionSlice::SourceLinkLayerAddress(option) => option.link_layer_address(),
            NdpOptionSlice::TargetLinkLayerAddress(option) => option.link_layer_address(),
            _ => continue,
        };
        if named != source.0 {
            return Err(FrameError::Spoofed);
        }
    }
    Ok(address)
}

/// A frame that asks the station `to` alone whether it still has its address (RFC 4861, 7.3.3).
pub fn solicitation(from: (Mac, Ipv6Addr), to: (Mac, Ipv6Addr)) -> Vec<u8> {
    let mut payload = NeighborSolicitationPayload { target_address: to.1 }.to_bytes().to_vec();
    payload.extend([NdpOptionType::SOURCE_LINK_LAYER_ADDRESS.0, 1]);
    payload.extend(from.0.0);
    let packet = PacketBuilder::ethernet2(from.0.0, to.0.0)
        .ipv6(from.1.octets(), to.1.octets(), HOP_LIMIT)
        .icmpv6(Icmpv6Type::NeighborSolicitation);
    let mut frame = Vec::with_capacity(packet.size(payload.len()));
    // Writing to memory fails only for a payload over 64 KiB.
    let _ = packet.write(&mut frame, &payload);
    frame
}

pub(super) fn options<'a>(icmp: &Icmpv6Slice<'a>) -> Result<NdpOptionsIterator<'a>, FrameError> {
    let (options, target) = match icmp.payload_slice().map_err(|_| FrameError::Nd)? {
        Icmpv6PayloadSlice::RouterSolicitation(payload) => (payload.options_iterator(), None),
        Icmpv6PayloadSlice::RouterAdvertisement(payload) => (payload.options_iterator(), None),
        Icmpv6PayloadSlice::NeighborSolicitation(payload) => {
            (payload.options_iterator(), Some(payload.target_address()))
        }
        Icmpv6PayloadSlice::NeighborAdvertisement(payload) => {
            (payload.options_iterator(), Some(payload.target_address()))
        }
        // Another code than 0.
        _ => return Err(FrameError::Nd),
    };
    if target.is_some_and(|target| target.is_multicast()) {
        return Err(FrameError::Nd);
    }
    Ok(options)
}
