//! What the kernel tells of an interface: what it is, and what it is part of.

use std::collections::BTreeSet;

use super::{
    AF_BRIDGE, BRIDGE, IFLA_BR_FDB_MAX_LEARNED, IFLA_BRPORT_ISOLATED, IFLA_IFNAME, IFLA_INFO_DATA,
    IFLA_INFO_KIND, IFLA_INFO_SLAVE_DATA, IFLA_INFO_SLAVE_KIND, IFLA_LINKINFO, LINK, Reply, number,
};
use crate::domain::names::Mac;
use crate::wire::nft::WireError;
use crate::wire::nft::attr::{Fields, list};

const IFLA_ADDRESS: u16 = 1;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_BR_VLAN_FILTERING: u16 = 7;
const IFLA_BR_VLAN_PROTOCOL: u16 = 8;
const IFLA_VLAN_ID: u16 = 1;
const IFLA_VLAN_PROTOCOL: u16 = 5;
const IFLA_BRIDGE_VLAN_INFO: u16 = 2;
/// Of `struct bridge_vlan_info`: the one before begins a range, and this ends it.
const RANGE_BEGIN: u16 = 1 << 3;
const RANGE_END: u16 = 1 << 4;
/// 802.1Q, as frames have it.
const CUSTOMER_TAG: [u8; 2] = [0x81, 0x00];
const VLAN: &str = "vlan";
const LAST_VLAN: u16 = 4094;

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
    /// What it is.
    pub kind: Kind,
    /// The bridge that it is a port of, and whether it is kept apart from other isolated ports.
    pub port_of: Option<(u32, bool)>,
}

/// What an interface is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A bridge.
    Bridge {
        /// Nobody has set a bound to what it learns; a kernel before 6.7 has none.
        learns_all: bool,
        /// It keeps VLANs (802.1Q) apart; its entries say which they are of.
        filters: bool,
    },
    /// A VLAN (802.1Q) of another interface.
    Vlan {
        /// The other's number.
        of: u32,
        /// 1 to 4094.
        id: u16,
    },
    /// Something else.
    Other,
}

/// The VLANs of a bridge's port, or of the bridge itself. On a bridge that does not filter VLANs
/// they mean nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    /// The port's number.
    pub port: u32,
    /// Tagged or not.
    pub vlans: BTreeSet<u16>,
}

pub(super) fn parse(body: &[u8]) -> Result<Reply, WireError> {
    let (head, attrs) = body.split_at_checked(LINK).ok_or(WireError::Malformed)?;
    let fields = Fields::parse(attrs)?;
    let index = number(&head[4..8]);
    if head[0] == AF_BRIDGE {
        let vlans = fields.get(IFLA_AF_SPEC).map(vlans).unwrap_or_default();
        return Ok(Reply::Members(Members { port: index, vlans }));
    }
    let Some(mac) = fields.get(IFLA_ADDRESS).and_then(|bytes| bytes.try_into().ok()) else {
        return Ok(Reply::Other);
    };
    let info = fields.get(IFLA_LINKINFO).map(Fields::parse).transpose()?;
    let is = |number, kind| info.is_some_and(|info| info.name(number).is_ok_and(|is| is == kind));
    let data = |number| info.and_then(|info| info.get(number)).unwrap_or_default();
    let kind = if is(IFLA_INFO_KIND, BRIDGE) {
        bridge(data(IFLA_INFO_DATA))
    } else if is(IFLA_INFO_KIND, VLAN) && !has_kind(attrs, IFLA_LINK_NETNSID) {
        vlan(fields.get(IFLA_LINK), data(IFLA_INFO_DATA))
    } else {
        Kind::Other
    };
    let isolated = has(data(IFLA_INFO_SLAVE_DATA), IFLA_BRPORT_ISOLATED, &[1]);
    let master = fields.get(IFLA_MASTER).filter(|_| is(IFLA_INFO_SLAVE_KIND, BRIDGE));
    Ok(Reply::Link(Link {
        index,
        name: fields.name(IFLA_IFNAME)?,
        mac: Mac(mac),
        up: number(&head[8..12]) & libc::IFF_UP.cast_unsigned() != 0,
        kind,
        port_of: master.map(|bridge| (number(bridge), isolated)),
    }))
}

fn bridge(data: &[u8]) -> Kind {
    Kind::Bridge {
        learns_all: has(data, IFLA_BR_FDB_MAX_LEARNED, &[0; 4]),
        filters: has(data, IFLA_BR_VLAN_FILTERING, &[1])
            && has(data, IFLA_BR_VLAN_PROTOCOL, &CUSTOMER_TAG),
    }
}

fn vlan(of: Option<&[u8]>, data: &[u8]) -> Kind {
    let id = list(data).flatten().find(|(kind, _)| *kind == IFLA_VLAN_ID);
    let id = id.and_then(|(_, id)| id.try_into().ok()).map(u16::from_ne_bytes);
    match of.zip(id).filter(|_| has(data, IFLA_VLAN_PROTOCOL, &CUSTOMER_TAG)) {
        Some((of, id)) => Kind::Vlan { of: number(of), id },
        None => Kind::Other,
    }
}

/// Single VLANs, and ranges as pairs of their first and last.
fn vlans(spec: &[u8]) -> BTreeSet<u16> {
    let (mut all, mut begun) = (BTreeSet::new(), None);
    for (_, info) in list(spec).flatten().filter(|(kind, _)| *kind == IFLA_BRIDGE_VLAN_INFO) {
        let Some([flags_0, flags_1, id_0, id_1]) = info.first_chunk() else { continue };
        let flags = u16::from_ne_bytes([*flags_0, *flags_1]);
        let id = u16::from_ne_bytes([*id_0, *id_1]).min(LAST_VLAN);
        let first = begun.take().filter(|_| flags & RANGE_END != 0);
        all.extend(first.unwrap_or(id)..=id);
        begun = (flags & RANGE_BEGIN != 0).then_some(id);
    }
    all
}

fn has(attrs: &[u8], kind: u16, value: &[u8]) -> bool {
    list(attrs).flatten().any(|item| item == (kind, value))
}

fn has_kind(attrs: &[u8], kind: u16) -> bool {
    list(attrs).flatten().any(|item| item.0 == kind)
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
