//! `[dns]`: the forwarder for guests who are not online.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer};

/// `[dns]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dns {
    /// UDP and TCP port that their questions are redirected to, on every zone's interface.
    pub port: u16,
    /// Who is asked, the preferred one first, 3 at most; those of `/etc/resolv.conf` if empty.
    pub upstreams: Vec<Resolver>,
    /// While the uplink is down, unknown names lead to an address whose page is the portal.
    pub placeholder: bool,
    /// Believe answers with private addresses: for a garden inside the chain's own network.
    pub private_answers: bool,
}

/// A resolver: `203.0.113.53`, `203.0.113.53:5353`, `2001:db8::53`, `[2001:db8::53]:5353`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolver(pub SocketAddr);

impl Default for Dns {
    fn default() -> Self {
        Self { port: 2054, upstreams: Vec::new(), placeholder: true, private_answers: false }
    }
}

impl FromStr for Resolver {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 53));
        let whole = address.or_else(|_| text.parse::<SocketAddr>());
        whole
            .map(Self)
            .map_err(|_| format!("{text:?} is not a resolver's address, such as \"203.0.113.53\""))
    }
}

impl<'de> Deserialize<'de> for Resolver {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
