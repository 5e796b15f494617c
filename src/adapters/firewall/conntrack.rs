//! Connections are forgotten inside the kernel: a dump to look for them takes ten times as long.

use netlink_packet_netfilter::NetfilterProtoFamily;

use super::socket::{Netfilter, NetfilterError};
use crate::wire::conntrack::{CT_DELETE, MarkFilter};
use crate::wire::nft::attr::Attrs;

impl Netfilter {
    /// Deletes the connections that the filter matches, IPv4 and IPv6.
    pub fn forget(&mut self, filter: MarkFilter) -> Result<(), NetfilterError> {
        let mut attrs = Attrs::new();
        filter.emit(&mut attrs);
        self.execute(CT_DELETE, NetfilterProtoFamily::Unspec, 0, 0, attrs)
    }
}
