//! Listeners: one a zone, tied to the zone's interface, so that the zone of a request is known
//! from its socket. A socket is tied to an interface by number: one that was made again (a network
//! restart) needs a new socket.

use std::ffi::OsString;
use std::future::pending;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
    sockopt,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use super::{HttpError, syn};
use crate::adapters::neighbours::Links;
use crate::config::Zone;
use crate::domain::names::ZoneId;

/// A port that could not be taken again is tried again after this long.
const RETRY: Duration = Duration::from_secs(1);

/// One port, listened on in every zone.
#[derive(Debug)]
pub struct ZoneListeners(pub(super) Vec<Listener>);

/// The staff page's listener.
#[derive(Debug)]
pub struct StaffListener(pub(super) Listener);

/// Where connections come from.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) zone: Option<ZoneId>,
    interface: String,
    port: u16,
    /// The socket and, in a zone, the number of the interface that it is tied to.
    socket: Option<(u32, Socket)>,
    /// Connections are handed up with their first bytes.
    deferred: bool,
    links: Option<watch::Receiver<Links>>,
}

/// Bound before there is a runtime, then part of it.
#[derive(Debug)]
enum Socket {
    Bound(TcpListener),
    Served(AsyncFd<TcpListener>),
}

/// Listens on `port` of every zone's interface, IPv4 and IPv6; connections keep their SYN. An
/// interface that is missing is waited for, see [`ZoneListeners::follow`].
pub fn bind_zones(zones: &[Zone], port: u16) -> Result<ZoneListeners, HttpError> {
    let mut listeners = Vec::with_capacity(zones.len());
    for (place, zone) in (0u8..).zip(zones) {
        let interface = zone.interface.clone();
        let socket = match bind_zone(&interface, port) {
            Ok((index, socket)) => Some((index, Socket::Bound(socket))),
            Err(Errno::ENODEV) => {
                tracing::warn!(interface, port, "the interface is missing: waiting for it");
                None
            }
            Err(errno) => {
                return Err(HttpError::Zone { interface, port, error: errno.into() });
            }
        };
        let zone = Some(ZoneId(place));
        listeners.push(Listener { zone, interface, port, socket, deferred: false, links: None });
    }
    Ok(ZoneListeners(listeners))
}

/// Listens on `staff.listen`, also before the router has that address.
pub fn bind_staff(address: SocketAddr) -> Result<StaffListener, HttpError> {
    let socket =
        bind_address(address).map_err(|errno| HttpError::Staff { address, error: errno.into() })?;
    let socket = Some((0, Socket::Bound(socket)));
    let (interface, port) = (String::new(), address.port());
    Ok(StaffListener(Listener {
        zone: None,
        interface,
        port,
        socket,
        deferred: false,
        links: None,
    }))
}

impl ZoneListeners {
    /// Listens anew on interfaces that come, or are made again, as `links` tells.
    #[must_use]
    pub fn follow(mut self, links: &watch::Receiver<Links>) -> Self {
        for listener in &mut self.0 {
            listener.links = Some(links.clone());
        }
        self
    }

    /// The address that the first zone's listener has, for tests that let the kernel choose.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let first = self.0.first().and_then(|listener| listener.socket.as_ref());
        match first {
            Some((_, Socket::Bound(socket))) => socket.local_addr(),
            Some((_, Socket::Served(socket))) => socket.get_ref().local_addr(),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Listener {
    /// Makes the socket part of the runtime. `deferred`: a connection is handed up once its first
    /// bytes are there, which is when there is something to do.
    pub(super) fn start(&mut self, deferred: bool) -> io::Result<()> {
        self.deferred = deferred;
        self.socket = match self.socket.take() {
            Some((index, Socket::Bound(socket))) => Some((index, self.serve(socket)?)),
            started => started,
        };
        Ok(())
    }

    #[allow(unsafe_code)]
    fn serve(&self, socket: TcpListener) -> io::Result<Socket> {
        if self.deferred {
            syn::defer(&socket)?;
        }
        // SAFETY: the socket has one descriptor, its own, until it is dropped.
        Ok(Socket::Served(unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?))
    }

    /// The next connection, a blocking one. Loses none when dropped.
    pub(super) async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        loop {
            tokio::select! {
                accepted = connection(self.socket.as_ref()) => return accepted,
                () = news(self.links.as_mut()) => {}
            }
            while !self.rebind() {
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    /// Ties itself to the interface as it now is. False if that should be tried again.
    fn rebind(&mut self) -> bool {
        let Some(links) = &mut self.links else { return true };
        let index = links.borrow_and_update().get(&self.interface).map(|link| link.index);
        if self.socket.as_ref().map(|(index, _)| *index) == index {
            return true;
        }
        self.socket = None;
        if index.is_none() {
            return true;
        }
        let (interface, port) = (&self.interface, self.port);
        let bound = bind_zone(interface, port)
            .map_err(io::Error::from)
            .and_then(|(index, socket)| Ok((index, self.serve(socket)?)));
        match bound {
            Ok(socket) => {
                tracing::info!(interface, port, "listening on the interface");
                self.socket = Some(socket);
                true
            }
            Err(error) => {
                tracing::warn!(interface, port, %error, "cannot listen on the interface");
                false
            }
        }
    }
}

async fn connection(socket: Option<&(u32, Socket)>) -> io::Result<(TcpStream, SocketAddr)> {
    match socket {
        Some((_, Socket::Served(socket))) => {
            socket.async_io(Interest::READABLE, TcpListener::accept).await
        }
        _ => pending().await,
    }
}

async fn news(links: Option<&mut watch::Receiver<Links>>) {
    let Some(links) = links else { return pending().await };
    if links.changed().await.is_err() {
        // Nobody follows the interfaces any more: the daemon is stopping.
        pending::<()>().await;
    }
}

fn bind_zone(interface: &str, port: u16) -> nix::Result<(u32, TcpListener)> {
    let (socket, any): (_, IpAddr) = match open(AddressFamily::Inet6) {
        Ok(socket) => {
            setsockopt(&socket, sockopt::Ipv6V6Only, &false)?;
            (socket, Ipv6Addr::UNSPECIFIED.into())
        }
        // A kernel without IPv6.
        Err(Errno::EAFNOSUPPORT) => (open(AddressFamily::Inet)?, Ipv4Addr::UNSPECIFIED.into()),
        Err(errno) => return Err(errno),
    };
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    // Read first: if the interface is made again in between, the number is the old one, and the
    // next news of the interfaces leads to another socket.
    let index = if_nametoindex(interface)?;
    setsockopt(&socket, sockopt::BindToDevice, &OsString::from(interface))?;
    syn::keep(&socket)?;
    Ok((index, listening(socket, SocketAddr::new(any, port))?))
}

fn bind_address(address: SocketAddr) -> nix::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = open(family)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    setsockopt(&socket, sockopt::IpFreebind, &true)?;
    listening(socket, address)
}

fn listening(socket: OwnedFd, address: SocketAddr) -> nix::Result<TcpListener> {
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    listen(&socket, Backlog::MAXCONN)?;
    Ok(TcpListener::from(socket))
}

fn open(family: AddressFamily) -> nix::Result<OwnedFd> {
    socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_zone_is_heard_on_both_families() {
        let (_, listener) = bind_zone("lo", 0).unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["127.0.0.1", "[::1]"] {
            TcpStream::connect(format!("{host}:{port}")).unwrap();
        }
    }

    #[test]
    fn a_missing_interface_is_waited_for_and_a_port_in_use_is_named() {
        let zone = |interface: &str| -> Zone {
            toml::from_str(&format!("name = \"guest\"\ninterface = \"{interface}\"")).unwrap()
        };
        let listeners = bind_zones(&[zone("no-such-if")], 2050).unwrap();
        assert!(listeners.local_addr().is_err());
        let taken = bind_zones(&[zone("lo")], 0).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = bind_zones(&[zone("lo")], port).unwrap_err().to_string();
        assert!(error.contains("lo") && error.contains(&port.to_string()), "{error}");
    }

    #[test]
    fn the_staff_page_waits_for_its_address() {
        for address in ["192.0.2.33:0", "[2001:db8::33]:0"] {
            bind_staff(address.parse().unwrap()).unwrap();
        }
    }
}
