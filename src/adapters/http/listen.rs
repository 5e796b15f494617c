//! Listeners, bound while we still may: one a zone, tied to the zone's interface, so that the zone
//! of a request is known from its socket.

use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
    sockopt,
};

use super::{HttpError, syn};
use crate::config::Zone;
use crate::domain::names::ZoneId;

/// One port, listened on in every zone.
#[derive(Debug)]
pub struct ZoneListeners(pub(super) Vec<(ZoneId, TcpListener)>);

/// The staff page's listener.
#[derive(Debug)]
pub struct StaffListener(pub(super) TcpListener);

/// Listens on `port` of every zone's interface, IPv4 and IPv6; connections keep their SYN.
pub fn bind_zones(zones: &[Zone], port: u16) -> Result<ZoneListeners, HttpError> {
    let mut listeners = Vec::with_capacity(zones.len());
    for (place, zone) in (0u8..).zip(zones) {
        let listener = bind_zone(&zone.interface, port).map_err(|errno| HttpError::Zone {
            interface: zone.interface.clone(),
            port,
            error: errno.into(),
        })?;
        listeners.push((ZoneId(place), listener));
    }
    Ok(ZoneListeners(listeners))
}

/// Listens on `staff.listen`.
pub fn bind_staff(address: SocketAddr) -> Result<StaffListener, HttpError> {
    let listener = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map(StaffListener).map_err(|error| HttpError::Staff { address, error })
}

impl ZoneListeners {
    /// The address that the first zone's listener has, for tests that let the kernel choose.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.first().ok_or(io::ErrorKind::NotFound)?.1.local_addr()
    }
}

fn bind_zone(interface: &str, port: u16) -> nix::Result<TcpListener> {
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
    setsockopt(&socket, sockopt::BindToDevice, &OsString::from(interface))?;
    syn::keep(&socket)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(any, port)))?;
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
        let listener = bind_zone("lo", 0).unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["127.0.0.1", "[::1]"] {
            TcpStream::connect(format!("{host}:{port}")).unwrap();
        }
    }

    #[test]
    fn a_missing_interface_is_named() {
        let zone = Zone { interface: "no-such-if".into(), ..zone() };
        let error = bind_zones(&[zone], 2050).unwrap_err().to_string();
        assert!(error.contains("no-such-if") && error.contains("2050"), "{error}");
    }

    fn zone() -> Zone {
        toml::from_str("name = \"guest\"\ninterface = \"lo\"").unwrap()
    }
}
