//! A packet socket (`packet(7)`): raw Ethernet frames, in and out.

use std::io;
use std::mem::{size_of, size_of_val};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};

use libc::{c_int, c_void, sock_filter, sockaddr_ll, socklen_t};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, getsockopt, socket, sockopt};

use super::bpf;

/// An `AF_PACKET` socket.
#[derive(Debug)]
pub struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// A socket that hears nothing until it is bound. Needs `CAP_NET_RAW`.
    pub fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        Ok(Self(socket(AddressFamily::Packet, SockType::Raw, flags, None)?))
    }

    /// Lets in only what `program` passes, for good, and nothing that this machine sends.
    pub fn filter(&self, program: &[sock_filter]) -> io::Result<()> {
        bpf::attach(self, program)?;
        // Without this, every packet sent on the interface is cloned before the filter sees it.
        self.set::<c_int>(libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1)
    }

    /// The error that waits on the socket, taken off it.
    pub fn take_error(&self) -> io::Result<()> {
        match getsockopt(&self.0, sockopt::SocketError)? {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// Frames that the kernel dropped since the last call because nobody fetched them.
    #[allow(unsafe_code)]
    pub fn dropped(&self) -> io::Result<u32> {
        let mut counts = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut length = length_of(&counts);
        // SAFETY: `counts` and `length` outlive the call, and `length` is the size of `counts`.
        let outcome = unsafe {
            libc::getsockopt(
                self.0.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut counts).cast::<c_void>(),
                &raw mut length,
            )
        };
        check(outcome as isize).map(|()| counts.tp_drops)
    }

    /// The interface that the socket is bound to; `None` once that interface is gone.
    #[allow(unsafe_code)]
    pub fn interface(&self) -> io::Result<Option<u32>> {
        let mut address = link_address(0);
        let mut length = length_of(&address);
        // SAFETY: as above; the kernel writes at most `length` bytes.
        let outcome = unsafe {
            libc::getsockname(self.0.as_raw_fd(), (&raw mut address).cast(), &raw mut length)
        };
        check(outcome as isize)?;
        Ok(u32::try_from(address.sll_ifindex).ok().filter(|index| *index > 0))
    }

    /// Sends a whole frame on an interface; never waits.
    #[allow(unsafe_code)]
    pub fn send(&self, interface: u32, frame: &[u8]) -> io::Result<()> {
        let mut address = link_address(interface.cast_signed());
        if let Some(protocol) = frame.get(12..14) {
            // In network order in both places.
            address.sll_protocol = u16::from_ne_bytes([protocol[0], protocol[1]]);
        }
        // SAFETY: frame and address outlive the call and are passed with their own lengths.
        let sent = unsafe {
            libc::sendto(
                self.0.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const address).cast(),
                length_of(&address),
            )
        };
        check(sent)
    }

    /// A second handle of the same socket, for an owner that closes it by number.
    pub fn duplicate(&self) -> io::Result<RawFd> {
        Ok(self.0.try_clone()?.into_raw_fd())
    }

    #[allow(unsafe_code)]
    fn set<T>(&self, level: c_int, option: c_int, value: &T) -> io::Result<()> {
        // SAFETY: `value` outlives the call and is passed with its own length; the callers above
        // give each option the type that it is documented with.
        let outcome = unsafe {
            libc::setsockopt(
                self.0.as_raw_fd(),
                level,
                option,
                std::ptr::from_ref(value).cast(),
                length_of(value),
            )
        };
        check(outcome as isize)
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn link_address(interface: c_int) -> sockaddr_ll {
    sockaddr_ll {
        sll_family: AddressFamily::Packet as u16,
        sll_protocol: 0,
        sll_ifindex: interface,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    }
}

fn length_of<T>(value: &T) -> socklen_t {
    socklen_t::try_from(size_of_val(value)).unwrap_or(socklen_t::MAX)
}

fn check(outcome: isize) -> io::Result<()> {
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

const _: () = assert!(size_of::<sockaddr_ll>() == 20);
