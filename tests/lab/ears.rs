//! What a guest hears of routers: every advertisement as it came, and what its kernel made of them.

use std::io::IoSliceMut;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};

use maitred::wire::nft::attr::Fields;
use maitred::wire::route;
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::sys::socket::sockopt::{Ipv6MulticastHops, Ipv6RecvPacketInfo};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6,
    recvmsg, sendto, setsockopt, socket,
};

use super::netns::Netns;

/// `RTNLGRP_ND_USEROPT`: options that the kernel leaves to programs, as Android's reads them.
const GROUP_USER_OPTIONS: u32 = 20;
/// Where the options lie, behind netlink's header and `struct nduseroptmsg`, and where their length.
const USER_OPTIONS: usize = 32;
const USER_OPTIONS_LENGTH: std::ops::Range<usize> = 18..20;
/// `IF_RA_MANAGED` and `IF_RA_OTHERCONF`, of `IFLA_INET6_FLAGS`.
const MANAGED: u32 = 0x40;
const OTHER: u32 = 0x80;

/// A guest's raw ear.
#[derive(Debug)]
pub struct Ears {
    raw: OwnedFd,
    options: Socket,
    netns: String,
}

/// A router advertisement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// Who sent it.
    pub from: Ipv6Addr,
    /// To whom.
    pub to: Ipv6Addr,
    /// Hop limit and flags (RFC 4861, 4.2).
    pub head: [u8; 2],
    /// Of the sender as a default router, in seconds.
    pub lifetime: u16,
    /// Option 37.
    pub api: Option<String>,
}

impl Ears {
    /// Listens on a guest's wire from now on.
    pub fn open(netns: &Netns) -> Self {
        netns.within(|| {
            let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
            let protocol = SockProtocol::IcmpV6;
            let raw = socket(AddressFamily::Inet6, SockType::Raw, flags, protocol).unwrap();
            setsockopt(&raw, Ipv6RecvPacketInfo, &true).unwrap();
            setsockopt(&raw, Ipv6MulticastHops, &255).unwrap();
            let mut options = Socket::new(NETLINK_ROUTE).unwrap();
            options.bind_auto().unwrap();
            options.add_membership(GROUP_USER_OPTIONS).unwrap();
            options.set_non_blocking(true).unwrap();
            Self { raw, options, netns: netns.name().to_owned() }
        })
    }

    /// Asks all routers to show themselves, as a phone that has just joined.
    pub fn ask(&self) {
        let index = super::run(&["ip", "-n", &self.netns, "-o", "link", "show", "eth0"], 5).ok();
        let index = index.split(':').next().unwrap().parse().unwrap();
        let routers = SocketAddrV6::new(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2), 0, 0, index);
        let message = maitred::wire::ra::SOLICITATION;
        let to = SockaddrIn6::from(routers);
        sendto(self.raw.as_raw_fd(), &message, &to, MsgFlags::empty()).unwrap();
    }

    /// The advertisements since the last call.
    pub fn advertisements(&self) -> Vec<Advertisement> {
        std::iter::from_fn(|| self.next())
            .filter_map(|(from, to, bytes)| read(from, to, &bytes))
            .collect()
    }

    /// The addresses of option 37 that the kernel has passed on since the last call.
    pub fn told(&self) -> Vec<String> {
        let mut told = Vec::new();
        let mut message = Vec::with_capacity(4096);
        while self.options.recv(&mut message, 0).is_ok() {
            let length = message[USER_OPTIONS_LENGTH].try_into().unwrap();
            let length = usize::from(u16::from_ne_bytes(length));
            told.extend(named(&message[USER_OPTIONS..USER_OPTIONS + length]));
            message.clear();
        }
        told
    }

    /// Whether a guest's kernel takes it that addresses and settings are to be had by DHCPv6.
    pub fn managed(netns: &Netns) -> (bool, bool) {
        let mut answer = Vec::with_capacity(8192);
        netns.within(|| {
            let mut socket = Socket::new(NETLINK_ROUTE).unwrap();
            socket.bind_auto().unwrap();
            socket.send(&route::link("eth0", 1).unwrap(), 0).unwrap();
            socket.recv(&mut answer, 0).unwrap();
        });
        let (af_spec, inet6, flags) = (26, 10, 1);
        let family = Fields::parse(&answer[32..]).unwrap().nested(af_spec).unwrap();
        let inet6 = family.nested(inet6).unwrap();
        let flags = u32::from_ne_bytes(inet6.need(flags).unwrap().try_into().unwrap());
        (flags & MANAGED != 0, flags & OTHER != 0)
    }

    fn next(&self) -> Option<(Ipv6Addr, Ipv6Addr, Vec<u8>)> {
        let (mut space, mut buffer) = (nix::cmsg_space!(libc::in6_pktinfo), [0; 2048]);
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let raw = self.raw.as_raw_fd();
        let got = recvmsg::<SockaddrIn6>(raw, &mut parts, Some(&mut space), flags).ok()?;
        let to = got.cmsgs().unwrap().find_map(|control| match control {
            ControlMessageOwned::Ipv6PacketInfo(info) => Some(info.ipi6_addr.s6_addr.into()),
            _ => None,
        });
        let (from, length) = (got.address.unwrap().ip(), got.bytes);
        Some((from, to.unwrap(), buffer[..length].to_vec()))
    }
}

fn read(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> Option<Advertisement> {
    let [134, 0, _, _, hops, flags, high, low, ..] = *message else { return None };
    let api = named(&message[16..]).into_iter().next();
    let lifetime = u16::from_be_bytes([high, low]);
    Some(Advertisement { from, to, head: [hops, flags], lifetime, api })
}

/// What the options 37 among these name.
fn named(mut options: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    while let [kind, units, ..] = *options {
        assert_ne!(units, 0);
        let (option, rest) = options.split_at(usize::from(units) * 8);
        if kind == 37 {
            let text = String::from_utf8(option[2..].to_vec()).unwrap();
            found.push(text.trim_end_matches('\0').to_owned());
        }
        options = rest;
    }
    found
}
