//! Conntrack: which entries the kernel is to delete (`uapi/linux/netfilter/nfnetlink_conntrack.h`).

use std::net::SocketAddr;

use netlink_packet_netfilter::NetfilterProtoFamily;

use crate::wire::nft::attr::Attrs;
use crate::wire::nft::keys;

/// `IPCTNL_MSG_CT_DELETE` of the ctnetlink subsystem.
pub const CT_DELETE: u16 = 1 << 8 | 2;

const TUPLE_REPLY: u16 = 2;
const MARK: u16 = 8;
const MARK_MASK: u16 = 21;

const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
/// Source and destination, by family.
const ADDRESSES: [[u16; 2]; 2] = [[1, 2], [3, 4]];
const PROTO_NUMBER: u16 = 1;
const PROTO_PORTS: [u16; 2] = [2, 3];
const UDP: u8 = 17;

/// All entries whose mark, under the mask, is this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarkFilter {
    /// The value, in place.
    pub mark: u32,
    /// The bits that count.
    pub mask: u32,
}

impl MarkFilter {
    /// The body of the request.
    pub fn emit(self, a: &mut Attrs) {
        a.u32(MARK, self.mark).u32(MARK_MASK, self.mask);
    }
}

/// The one UDP entry whose answers go from here to there, both of one family: found without a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answers {
    /// Where they come from, addresses before translation.
    pub from: SocketAddr,
    /// Where they go.
    pub to: SocketAddr,
}

impl Answers {
    /// What the request's header must say.
    pub fn family(self) -> NetfilterProtoFamily {
        if self.to.is_ipv6() { NetfilterProtoFamily::IPv6 } else { NetfilterProtoFamily::IPv4 }
    }

    /// The body of the request.
    pub fn emit(self, a: &mut Attrs) {
        let [source, destination] = ADDRESSES[usize::from(self.to.is_ipv6())];
        let [source_port, destination_port] = PROTO_PORTS;
        a.nest(TUPLE_REPLY, |a| {
            a.nest(TUPLE_IP, |a| {
                a.bytes(source, &keys::address(self.from.ip()));
                a.bytes(destination, &keys::address(self.to.ip()));
            });
            a.nest(TUPLE_PROTO, |a| {
                a.u8(PROTO_NUMBER, UDP);
                a.u16(source_port, self.from.port()).u16(destination_port, self.to.port());
            });
        });
    }
}
