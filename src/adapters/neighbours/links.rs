//! The zones' interfaces by rtnetlink: index, MAC, addresses, and every change of these.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::{Handle, MulticastGroup};
use tokio::sync::watch;

use crate::domain::names::Mac;

/// Changes come in bursts; they are read together after this long.
const BURST: Duration = Duration::from_millis(50);

/// The watched interfaces that exist, by name.
pub type Links = BTreeMap<String, Link>;

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number for it.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its MAC address.
    pub mac: Mac,
    /// Switched on; not necessarily with a carrier.
    pub up: bool,
    /// Its addresses that are ready for use.
    pub addresses: Vec<Prefix>,
}

/// An interface's address and its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// The interface's own address.
    pub address: IpAddr,
    /// Bits of the network: 0 to 32, or to 128.
    pub length: u8,
}

/// Why the interfaces are not known.
#[derive(Debug, thiserror::Error)]
pub enum LinksError {
    /// No netlink socket.
    #[error("cannot open a netlink socket: {0}")]
    Open(#[source] std::io::Error),
    /// The kernel does not answer.
    #[error("cannot read the interfaces: {0}")]
    Read(#[source] rtnetlink::Error),
}

impl Link {
    /// The address from which `to` is asked: our own in the same network.
    pub fn source_for(&self, to: IpAddr) -> Option<IpAddr> {
        self.addresses.iter().find(|prefix| prefix.contains(to)).map(|prefix| prefix.address)
    }
}

impl Prefix {
    /// Whether `other` is in the same network.
    pub fn contains(&self, other: IpAddr) -> bool {
        let differing = match (self.address, other) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits()).leading_zeros()
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits()).leading_zeros()
            }
            _ => return false,
        };
        differing >= u32::from(self.length)
    }
}

/// Reads the interfaces with these names now, and again with every change, until the receiver is
/// dropped. The receiver's `changed` fails once the kernel can no longer be asked; watch anew then.
pub async fn watch(names: Vec<String>) -> Result<watch::Receiver<Links>, LinksError> {
    // Subscribed before the first reading: a change in between is not lost.
    let (connection, handle, mut changes) = rtnetlink::new_multicast_connection(&[
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
    ])
    .map_err(LinksError::Open)?;
    let connection = tokio::spawn(connection);
    let (sender, receiver) = watch::channel(read(&handle, &names).await?);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                // Also after an overrun, which arrives as a message.
                change = changes.next() => if change.is_none() { break },
                () = sender.closed() => break,
            }
            tokio::time::sleep(BURST).await;
            while changes.try_recv().is_ok() {}
            match read(&handle, &names).await {
                Ok(links) => {
                    sender.send_if_modified(|known| {
                        let news = *known != links;
                        *known = links;
                        news
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot follow the interfaces");
                    break;
                }
            }
        }
        connection.abort();
    });
    Ok(receiver)
}

async fn read(handle: &Handle, names: &[String]) -> Result<Links, LinksError> {
    let mut links = Links::new();
    let mut all = handle.link().get().execute();
    while let Some(message) = all.try_next().await.map_err(LinksError::Read)? {
        if let Some(link) = link(&message)
            && names.contains(&link.name)
        {
            links.insert(link.name.clone(), link);
        }
    }
    let mut all = handle.address().get().execute();
    while let Some(message) = all.try_next().await.map_err(LinksError::Read)? {
        if let Some(link) = links.values_mut().find(|link| link.index == message.header.index) {
            link.addresses.extend(prefix(&message));
        }
    }
    Ok(links)
}

/// `None` for an interface that is not Ethernet.
fn link(message: &LinkMessage) -> Option<Link> {
    let mut name = None;
    let mut mac = None;
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text.clone()),
            LinkAttribute::Address(bytes) => mac = bytes.as_slice().try_into().ok().map(Mac),
            _ => {}
        }
    }
    Some(Link {
        index: message.header.index,
        name: name?,
        mac: mac?,
        up: message.header.flags.contains(LinkFlags::Up),
        addresses: Vec::new(),
    })
}

/// `None` for an address that duplicate address detection has not passed (yet).
fn prefix(message: &AddressMessage) -> Option<Prefix> {
    let unready = AddressHeaderFlags::Tentative | AddressHeaderFlags::Dadfailed;
    if message.header.flags.intersects(unready) {
        return None;
    }
    let mut address = None;
    for attribute in &message.attributes {
        match attribute {
            // On a point-to-point link `Address` is the other end's.
            AddressAttribute::Local(own) => address = Some(*own),
            AddressAttribute::Address(own) => address = address.or(Some(*own)),
            _ => {}
        }
    }
    Some(Prefix { address: address?, length: message.header.prefix_len })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_asked_from_the_same_network() {
        let prefix =
            |text: &str, length| Prefix { address: text.parse::<IpAddr>().unwrap(), length };
        let link = Link {
            index: 3,
            name: "br-guest".into(),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            up: true,
            addresses: vec![
                prefix("192.0.2.1", 25),
                prefix("fe80::1", 64),
                prefix("2001:db8:1::1", 64),
            ],
        };
        let source = |to: &str| link.source_for(to.parse().unwrap()).map(|from| from.to_string());
        assert_eq!(source("192.0.2.77").as_deref(), Some("192.0.2.1"));
        assert_eq!(source("192.0.2.177"), None);
        assert_eq!(source("fe80::2:3").as_deref(), Some("fe80::1"));
        assert_eq!(source("2001:db8:1::9").as_deref(), Some("2001:db8:1::1"));
        assert_eq!(source("2001:db8:2::9"), None);
        assert!(prefix("10.0.0.1", 32).contains("10.0.0.1".parse().unwrap()));
        assert!(prefix("10.0.0.1", 0).contains("198.51.100.1".parse().unwrap()));
    }
}
