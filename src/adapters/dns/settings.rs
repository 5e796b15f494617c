//! What the forwarder is told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use crate::domain::garden::{Garden, Pattern};
use crate::domain::names::ZoneId;
use crate::wire::dns::{Kind, Name};

/// Where resolvers listen.
const DNS_PORT: u16 = 53;

/// What the forwarder is told, and told anew whenever any of it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The portal's own name; answered with the zone's addresses.
    pub portal: Option<Name>,
    /// The zones that ask.
    pub zones: Vec<ZoneSettings>,
    /// The names whose addresses devices with a pass may reach, in every zone.
    pub app: Vec<Pattern>,
    /// Resolvers, the preferred one first. Never ourselves.
    pub upstreams: Vec<SocketAddr>,
    /// The uplink is known to be down. Silence of all resolvers is noticed without this.
    pub wan_down: bool,
    /// What unknown names resolve to while the uplink is down; none: SERVFAIL.
    pub placeholder: Option<Placeholder>,
    /// Believe resolvers that answer with private addresses (RFC 1918, 4193, 6598): for a garden
    /// inside the chain's own network. Otherwise such addresses are dropped, as rebinding attacks.
    pub private_answers: bool,
}

/// One zone's part of the [`Settings`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneSettings {
    /// Which zone.
    pub zone: ZoneId,
    /// Our addresses on its interface; link-local ones are left out of answers.
    pub addresses: Vec<IpAddr>,
    /// The names whose addresses anybody may reach.
    pub garden: Vec<Pattern>,
}

/// Addresses that lead nowhere: HTTP to them is intercepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placeholder {
    /// For A.
    pub v4: Ipv4Addr,
    /// For AAAA, in zones where we have an IPv6 address.
    pub v6: Ipv6Addr,
}

impl Default for Placeholder {
    /// From the networks for benchmarks (RFC 2544, RFC 5180), which nobody routes.
    fn default() -> Self {
        Self { v4: Ipv4Addr::new(198, 18, 0, 1), v6: Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 1) }
    }
}

/// The resolvers that a `resolv.conf` names, three at most as in resolv.conf(5). Lines that name
/// none, and interfaces that are not there, are passed over.
pub fn resolvers(resolv_conf: &str) -> Vec<SocketAddr> {
    let named = resolv_conf.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()).flatten()
    });
    named.filter_map(resolver).take(3).collect()
}

/// `203.0.113.53`, `2001:db8::53`, or `fe80::53%wan`.
fn resolver(text: &str) -> Option<SocketAddr> {
    let Some((address, interface)) = text.split_once('%') else {
        return Some(SocketAddr::new(text.parse().ok()?, DNS_PORT));
    };
    let index = nix::net::if_::if_nametoindex(interface).ok()?;
    Some(SocketAddrV6::new(address.parse().ok()?, DNS_PORT, 0, index).into())
}

impl Settings {
    /// Nobody can be asked.
    pub(super) fn is_offline(&self) -> bool {
        self.wan_down || self.upstreams.is_empty()
    }

    fn zone(&self, zone: ZoneId) -> Option<&ZoneSettings> {
        self.zones.iter().find(|known| known.zone == zone)
    }

    /// The garden that a name is in; the one that is open to all comes first.
    pub(super) fn garden(&self, zone: ZoneId, name: &Name) -> Option<Garden> {
        let held = |garden: &[Pattern]| garden.iter().any(|part| part.covers(name.as_str()));
        let own = self.zone(zone).is_some_and(|zone| held(&zone.garden));
        own.then_some(Garden::Zone(zone)).or_else(|| held(&self.app).then_some(Garden::App))
    }

    /// Our own addresses of the family that is asked for.
    pub(super) fn own_addresses(&self, zone: ZoneId, family: Kind) -> Vec<IpAddr> {
        let of_family = |address: &&IpAddr| match address {
            IpAddr::V4(_) => family == Kind::A,
            IpAddr::V6(v6) => family == Kind::Aaaa && !v6.is_unicast_link_local(),
        };
        self.zone(zone)
            .map_or(&[][..], |zone| &zone.addresses)
            .iter()
            .filter(of_family)
            .copied()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_read_as_systems_write_them() {
        let text = "# Interface wan\nnameserver 203.0.113.53\nsearch lan\n\
                    nameserver\t2001:db8::53 # uplink\nnameserver fe80::1%no-such-one\n\
                    nameserver nonsense\noptions edns0\nnameserver fe80::53%lo\n\
                    nameserver 192.0.2.9\n";
        let found = resolvers(text);
        let wanted = ["203.0.113.53:53", "[2001:db8::53]:53", "[fe80::53%1]:53"];
        assert_eq!(found, wanted.map(|address| address.parse().unwrap()));
        assert_eq!(resolvers(""), []);
    }
}
