//! DHCPv4 clients, heard where the kernel hands their packets to this host. A packet socket for all
//! of IPv4 would be asked about every packet that the router forwards, which costs 5 % of them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use etherparse::EtherType;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
};

use super::filter;
use crate::adapters::bpf;

const ETHERNET: usize = 14;
/// Packets that may have come before the filter stood; the kernel's queue holds fewer.
const EARLY: usize = 4096;

/// A raw UDP socket on one interface.
#[derive(Debug)]
pub(super) struct Clients {
    socket: OwnedFd,
    frame: Vec<u8>,
}

impl Clients {
    /// Hears the clients on `interface` from now on. Needs `CAP_NET_RAW`.
    pub(super) fn open(interface: &str) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Inet, SockType::Raw, flags, SockProtocol::Udp)?;
        bpf::attach(&socket, &filter::CLIENTS)?;
        setsockopt(&socket, sockopt::BindToDevice, &interface.into())?;
        // Nobody has compared whom these name with who sent them.
        for _ in 0..EARLY {
            if recv(socket.as_raw_fd(), &mut [], MsgFlags::empty()).is_err() {
                break;
            }
        }
        Ok(Self { socket, frame: vec![0; ETHERNET + filter::DHCP_SNAP as usize] })
    }

    /// The next message, in the frame that it came in. Never waits.
    pub(super) fn next(&mut self) -> io::Result<&[u8]> {
        let length = recv(self.socket.as_raw_fd(), &mut self.frame[ETHERNET..], MsgFlags::empty())?;
        Ok(self.framed(length))
    }

    /// Puts back the Ethernet header that a raw IP socket does not get: the filter has made sure
    /// that the sender is whom the message names.
    fn framed(&mut self, length: usize) -> &[u8] {
        let frame = &mut self.frame[..ETHERNET + length];
        let header = usize::from(frame.get(ETHERNET).copied().unwrap_or_default() & 15) * 4;
        let client = ETHERNET + header + (filter::UDP_HEADER + filter::CHADDR) as usize;
        let station = frame.get(client..client + 6).and_then(|mac| <[u8; 6]>::try_from(mac).ok());
        frame[..6].fill(0xff);
        frame[6..12].copy_from_slice(&station.unwrap_or_default());
        frame[12..ETHERNET].copy_from_slice(&EtherType::IPV4.0.to_be_bytes());
        frame
    }
}

impl AsFd for Clients {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
