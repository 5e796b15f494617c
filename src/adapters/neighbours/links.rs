//! The zones' interfaces by rtnetlink: index, MAC, addresses, and every change of these.
//!
//! Only the watched ones are read, and changes only tell that it is time to: the kernel describes an
//! interface in kilobytes, and a router may have hundreds of others.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use crate::domain::names::Mac;
use crate::wire::nft::WireError;
use crate::wire::route::{self, Reply};

/// Changes come in bursts; they are read together after this long.
const BURST: Duration = Duration::from_millis(50);

/// `RTNLGRP_LINK`, `RTNLGRP_IPV4_IFADDR`, `RTNLGRP_IPV6_IFADDR`.
const GROUPS: [u32; 3] = [1, 5, 9];
/// A datagram of a dump is at most 32 KiB.
const RECEIVE: usize = 32 << 10;
const DUMP_ATTEMPTS: u32 = 5;

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
    Open(#[source] io::Error),
    /// The kernel does not answer.
    #[error("cannot read the interfaces: {0}")]
    Read(#[source] io::Error),
    /// An answer that is not as the protocol says.
    #[error("cannot read the interfaces: {0}")]
    Wire(#[from] WireError),
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
/// Call it in the runtime.
pub fn watch(names: Vec<String>) -> Result<watch::Receiver<Links>, LinksError> {
    // Subscribed before the first reading: a change in between is not lost.
    let changes = changes().map_err(LinksError::Open)?;
    let mut questions = Questions::open().map_err(LinksError::Open)?;
    let (sender, receiver) = watch::channel(questions.read(&names)?);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                change = changed(&changes) => if change.is_err() { break },
                () = sender.closed() => break,
            }
            tokio::time::sleep(BURST).await;
            while hear(changes.get_ref()).is_ok() {}
            match questions.read(&names) {
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
    });
    Ok(receiver)
}

/// A socket on which the kernel tells of changes.
#[allow(unsafe_code)]
fn changes() -> io::Result<AsyncFd<Socket>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.set_non_blocking(true)?;
    for group in GROUPS {
        socket.add_membership(group)?;
    }
    // SAFETY: the socket has one descriptor, its own, until it is dropped.
    Ok(unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?)
}

async fn changed(changes: &AsyncFd<Socket>) -> io::Result<()> {
    loop {
        match changes.readable().await?.try_io(|changes| hear(changes.get_ref())) {
            Ok(heard) => return heard,
            // Woken for nothing.
            Err(_would_block) => {}
        }
    }
}

/// Takes one change, unread.
fn hear(changes: &Socket) -> io::Result<()> {
    match changes.recv(&mut [0u8; 16].as_mut_slice(), libc::MSG_DONTWAIT) {
        // Too many to keep: anything may have changed.
        Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(()),
        heard => heard.map(drop),
    }
}

/// A socket for questions. The kernel answers inside the calls, so nothing here waits.
struct Questions {
    socket: Socket,
    seq: u32,
}

impl Questions {
    fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, seq: 0 })
    }

    fn read(&mut self, names: &[String]) -> Result<Links, LinksError> {
        let mut links = Links::new();
        for name in names {
            for reply in self.ask(|seq| route::link(name, seq))?.unwrap_or_default() {
                if let Reply::Link(route::Link { index, name, mac, up, .. }) = reply {
                    let link = Link { index, name: name.clone(), mac, up, addresses: Vec::new() };
                    links.insert(name, link);
                }
            }
        }
        let addresses = (0..DUMP_ATTEMPTS).find_map(|_| self.ask(route::addresses).transpose());
        for reply in
            addresses.ok_or_else(|| LinksError::Read(io::ErrorKind::ResourceBusy.into()))??
        {
            if let Reply::Address(route::Address { index, address, length }) = reply
                && let Some(link) = links.values_mut().find(|link| link.index == index)
            {
                link.addresses.push(Prefix { address, length });
            }
        }
        Ok(links)
    }

    /// The whole answer; none if there is no such thing, or if a change interrupted it.
    fn ask(
        &mut self,
        question: impl FnOnce(u32) -> Result<Vec<u8>, WireError>,
    ) -> Result<Option<Vec<Reply>>, LinksError> {
        self.seq = self.seq.wrapping_add(1);
        self.socket.send(&question(self.seq)?, 0).map_err(LinksError::Read)?;
        let mut buf = Vec::with_capacity(RECEIVE);
        let (mut all, mut whole) = (Vec::new(), true);
        // To the end, or the next question would be refused.
        loop {
            buf.clear();
            self.socket.recv(&mut buf, libc::MSG_DONTWAIT).map_err(LinksError::Read)?;
            for message in route::messages(&buf) {
                let message = message?;
                whole &= !message.interrupted;
                match message.reply {
                    _ if message.seq != self.seq => {}
                    Reply::End { errno: 0 } => return Ok(whole.then_some(all)),
                    Reply::End { errno: libc::ENODEV } => return Ok(None),
                    Reply::End { errno } => {
                        return Err(LinksError::Read(io::Error::from_raw_os_error(errno)));
                    }
                    found => all.push(found),
                }
            }
        }
    }
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
