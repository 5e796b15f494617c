//! Sockets on a guest interface: they hear only that interface, and UDP answers leave from the
//! address that was asked.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::sockopt::{
    BindToDevice, Ipv4PacketInfo, Ipv6RecvPacketInfo, Ipv6V6Only, RcvBuf, ReuseAddr,
};
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType,
    SockaddrStorage, bind, listen, recvmsg, sendmsg, setsockopt, socket,
};
use tokio::io::Interest;
use tokio::net::{TcpListener, UdpSocket};

use super::DnsError;
use crate::domain::names::ZoneId;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;
/// Bytes of questions that may wait, for the kernel to double: a store full of phones at once.
const RECEIVE_BUFFER: usize = 256 * 1024;

/// A zone's sockets: UDP and TCP, IPv4 and IPv6.
#[derive(Debug)]
pub struct Sockets {
    pub(super) zone: ZoneId,
    pub(super) udp: Vec<GuestSocket>,
    pub(super) tcp: Vec<TcpListener>,
}

/// A UDP socket that knows which of our addresses a datagram came to.
#[derive(Debug)]
pub(super) struct GuestSocket(UdpSocket);

/// Where a question came from, and which of our addresses it came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Path {
    pub peer: SocketAddr,
    ours: Ours,
}

impl Path {
    /// The address of ours.
    pub(super) fn ours(&self) -> IpAddr {
        match self.ours {
            Ours::V4(address, _) => address.into(),
            Ours::V6(address, _) => address.into(),
        }
    }
}

/// Our end, with its interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ours {
    V4(Ipv4Addr, i32),
    V6(Ipv6Addr, u32),
}

/// Binds a zone's sockets to its interface, which must exist. Needs a runtime, and the right to
/// bind to a device (`CAP_NET_RAW` before Linux 5.7). Without IPv6 in the kernel, IPv4 alone.
pub fn bind_zone(zone: ZoneId, interface: &str, port: u16) -> Result<Sockets, DnsError> {
    let failed = |what| {
        let interface = interface.to_owned();
        move |source: io::Error| DnsError::Bind { what, interface, port, source }
    };
    let mut sockets = Sockets { zone, udp: Vec::new(), tcp: Vec::new() };
    for any in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
        let address = SocketAddr::new(any, port);
        match open(interface, SockType::Datagram, address) {
            Err(problem) if any.is_ipv6() && lacks_family(&problem) => continue,
            Err(problem) => return Err(failed("UDP")(problem)),
            Ok(fd) => sockets.udp.push(GuestSocket::new(fd).map_err(failed("UDP"))?),
        }
        let listener = open(interface, SockType::Stream, address)
            .and_then(|fd| TcpListener::from_std(fd.into()))
            .map_err(failed("TCP"))?;
        sockets.tcp.push(listener);
    }
    Ok(sockets)
}

impl GuestSocket {
    fn new(fd: OwnedFd) -> io::Result<Self> {
        UdpSocket::from_std(fd.into()).map(Self)
    }

    /// The next datagram, cut to `buffer`, and its path. One to a group address is passed over.
    pub(super) async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Path)> {
        loop {
            let got = self.0.async_io(Interest::READABLE, || receive(&self.0, buffer)).await?;
            if let (length, Some(path)) = got {
                return Ok((length, path));
            }
        }
    }

    /// Sends along the path back; a full buffer loses it, as the network may.
    pub(super) fn send(&self, bytes: &[u8], path: &Path) -> io::Result<()> {
        self.0.try_io(Interest::WRITABLE, || send(&self.0, bytes, path))
    }
}

fn open(interface: &str, kind: SockType, address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(family, kind, flags, None)?;
    setsockopt(&fd, ReuseAddr, &true)?;
    setsockopt(&fd, BindToDevice, &interface.into())?;
    if address.is_ipv6() {
        setsockopt(&fd, Ipv6V6Only, &true)?;
    }
    if kind == SockType::Datagram {
        setsockopt(&fd, RcvBuf, &RECEIVE_BUFFER)?;
        if address.is_ipv4() {
            setsockopt(&fd, Ipv4PacketInfo, &true)?;
        } else {
            setsockopt(&fd, Ipv6RecvPacketInfo, &true)?;
        }
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    if kind == SockType::Stream {
        listen(&fd, Backlog::new(BACKLOG)?)?;
    }
    Ok(fd)
}

fn lacks_family(problem: &io::Error) -> bool {
    matches!(problem.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, Option<Path>)> {
    let mut space = nix::cmsg_space!(libc::in6_pktinfo, libc::in_pktinfo);
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut space),
        MsgFlags::MSG_DONTWAIT,
    )?;
    let peer = message.address.as_ref().and_then(peer);
    let ours = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            let asked = Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr));
            let one = !(asked.is_multicast() || asked.is_broadcast());
            // For a broadcast of the subnet the kernel names the address that it came to.
            let ours = Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr));
            one.then_some(Ours::V4(ours, info.ipi_ifindex))
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => {
            let asked = Ipv6Addr::from(info.ipi6_addr.s6_addr);
            (!asked.is_multicast()).then_some(Ours::V6(asked, info.ipi6_ifindex))
        }
        _ => None,
    });
    let path = peer.zip(ours).map(|(peer, ours)| Path { peer, ours });
    Ok((message.bytes, path))
}

fn peer(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddrV4::from(*v4).into());
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddrV6::from(*v6).into()))
}

fn send(socket: &UdpSocket, bytes: &[u8], path: &Path) -> io::Result<()> {
    let parts = [IoSlice::new(bytes)];
    let to = SockaddrStorage::from(path.peer);
    let send = |control: ControlMessage<'_>| {
        sendmsg(socket.as_raw_fd(), &parts, &[control], MsgFlags::MSG_DONTWAIT, Some(&to))
    };
    match path.ours {
        Ours::V4(address, ipi_ifindex) => send(ControlMessage::Ipv4PacketInfo(&libc::in_pktinfo {
            ipi_ifindex,
            ipi_spec_dst: libc::in_addr { s_addr: u32::from(address).to_be() },
            ipi_addr: libc::in_addr { s_addr: 0 },
        })),
        Ours::V6(address, ipi6_ifindex) => {
            send(ControlMessage::Ipv6PacketInfo(&libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr { s6_addr: address.octets() },
                ipi6_ifindex,
            }))
        }
    }?;
    Ok(())
}
