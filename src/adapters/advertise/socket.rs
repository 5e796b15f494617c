//! Raw ICMPv6 sockets that hear hosts ask for routers, and this machine's own router answer.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};

use libc::{BPF_ABS, BPF_B, BPF_JEQ, BPF_K, BPF_RET, BPF_W, sock_filter};
use nix::sys::socket::sockopt::{Ipv6MulticastHops, Ipv6RecvPacketInfo, Ipv6Ttl, RcvBuf};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType,
    SockaddrIn6, recvmsg, sendmsg, setsockopt, socket,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::adapters::bpf::{self, jump, load, statement};

/// Messages come from this link if nobody has counted it down (RFC 4861, section 6.1).
const HOP_LIMIT: u8 = 255;
/// Bytes of messages that may wait: who asks while it is full asks again (RFC 4861, 6.3.7).
const RECEIVE_BUFFER: usize = 32 << 10;
const LONGEST: usize = 2048;
/// The loopback's number, in every network namespace. Whatever arrives there this machine sent.
const LOOPBACK: u32 = 1;

/// Hosts' solicitations, from the wire.
pub(super) const QUESTIONS: [sock_filter; 8] = program(133, DROP, 4);
/// The router's advertisements, over the loopback, where no guest can forge one.
pub(super) const ANSWERS: [sock_filter; 8] = program(134, 4, DROP);

/// A message, where it came in, and who sent it.
pub(super) struct Received {
    pub(super) interface: u32,
    pub(super) from: Ipv6Addr,
    pub(super) message: Vec<u8>,
}

/// One such socket.
#[derive(Debug)]
pub(super) struct Socket(AsyncFd<OwnedFd>);

impl Socket {
    /// Hears what the program passes. Needs `CAP_NET_RAW`, and a runtime.
    #[allow(unsafe_code)]
    pub(super) fn open(program: &[sock_filter]) -> io::Result<Self> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Inet6, SockType::Raw, flags, SockProtocol::IcmpV6)?;
        bpf::attach(&fd, program)?;
        setsockopt(&fd, RcvBuf, &RECEIVE_BUFFER)?;
        setsockopt(&fd, Ipv6RecvPacketInfo, &true)?;
        setsockopt(&fd, Ipv6Ttl, &i32::from(HOP_LIMIT))?;
        setsockopt(&fd, Ipv6MulticastHops, &i32::from(HOP_LIMIT))?;
        // What came before the filter stood.
        (0..RECEIVE_BUFFER).take_while(|_| receive(&fd).is_ok()).for_each(drop);
        // SAFETY: the socket has one descriptor, its own, until it is dropped.
        Ok(Self(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?))
    }

    /// Waits for messages and takes them, `most` at the most.
    pub(super) async fn receive(&self, most: usize) -> io::Result<Vec<Received>> {
        let mut messages = Vec::new();
        let mut ready = self.0.readable().await?;
        while messages.len() < most {
            match ready.try_io(|fd| receive(fd.get_ref())) {
                Ok(Ok(message)) => messages.extend(message),
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => break,
            }
        }
        Ok(messages)
    }

    /// Sends a message from one of our addresses on an interface; `None` leaves the choice to the
    /// kernel. Never waits.
    pub(super) fn send(
        &self,
        interface: u32,
        from: Option<Ipv6Addr>,
        to: Ipv6Addr,
        message: &[u8],
    ) -> io::Result<()> {
        let from = from.unwrap_or(Ipv6Addr::UNSPECIFIED);
        let source = libc::in6_pktinfo {
            ipi6_addr: libc::in6_addr { s6_addr: from.octets() },
            ipi6_ifindex: interface,
        };
        let control = [ControlMessage::Ipv6PacketInfo(&source)];
        let to = SockaddrIn6::from(SocketAddrV6::new(to, 0, 0, interface));
        let parts = [IoSlice::new(message)];
        let fd = self.0.get_ref().as_raw_fd();
        sendmsg(fd, &parts, &control, MsgFlags::MSG_DONTWAIT, Some(&to))?;
        Ok(())
    }
}

/// Takes one message; `None` if the kernel does not say where it came from.
fn receive(fd: &OwnedFd) -> io::Result<Option<Received>> {
    let (mut space, mut buffer) = (nix::cmsg_space!(libc::in6_pktinfo), [0; LONGEST]);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let got = recvmsg::<SockaddrIn6>(fd.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let interface = got.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(info.ipi6_ifindex),
        _ => None,
    });
    let (from, length) = (got.address.map(|from| from.ip()), got.bytes);
    let message = buffer.get(..length).unwrap_or_default().to_vec();
    Ok(interface.zip(from).map(|(interface, from)| Received { interface, from, message }))
}

/// In the IPv6 header, which stands before what the socket gets.
const HOPS: u32 = (libc::SKF_NET_OFF + 7).cast_unsigned();
const CAME_IN_ON: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_IFINDEX).cast_unsigned();
const PASS: u8 = 6;
const DROP: u8 = 7;

/// Passes messages of one type, by whether they came in on the loopback.
#[rustfmt::skip]
const fn program(kind: u32, on_loopback: u8, elsewhere: u8) -> [sock_filter; 8] {
    [
        load(BPF_B | BPF_ABS, HOPS),
        jump(1, BPF_JEQ, HOP_LIMIT as u32, 2, DROP),
        load(BPF_W | BPF_ABS, CAME_IN_ON),
        jump(3, BPF_JEQ, LOOPBACK, on_loopback, elsewhere),
        load(BPF_B | BPF_ABS, 0),
        jump(5, BPF_JEQ, kind, PASS, DROP),
        statement(BPF_RET | BPF_K, u32::MAX),
        statement(BPF_RET | BPF_K, 0),
    ]
}
