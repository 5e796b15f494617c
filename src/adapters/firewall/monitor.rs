//! Notices what others do to the ruleset (`NFNLGRP_NFTABLES`).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::{Socket, protocols::NETLINK_NETFILTER};

use crate::wire::nft::attr::Fields;
use crate::wire::nft::batch::{kind, message_type};
use crate::wire::nft::message::{Reply, replies};

const GROUP_NFTABLES: u32 = 7;
/// Process id, in the message that ends a transaction.
const GEN_PROC_PID: u16 = 2;

/// A socket on which the kernel tells of every transaction.
pub struct Monitor {
    socket: Socket,
    buf: Vec<u8>,
}

impl Monitor {
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.add_membership(GROUP_NFTABLES)?;
        Ok(Self { socket, buf: Vec::with_capacity(64 * 1024) })
    }

    /// Whether a process other than `ours` changed any ruleset since the last call; also true if
    /// the queue overflowed, when anything may have happened.
    pub fn foreign(&mut self, ours: u32) -> io::Result<bool> {
        let mut found = false;
        loop {
            self.buf.clear();
            match self.socket.recv(&mut self.buf, libc::MSG_DONTWAIT) {
                Ok(_) => {
                    found |= replies(&self.buf)
                        .filter_map(|reply| author(&reply.ok()?))
                        .any(|pid| pid != ours);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(found),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => found = true,
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Who made the transaction that this message ends.
fn author(reply: &Reply<'_>) -> Option<u32> {
    match reply {
        Reply::Message { kind, attrs, .. } if *kind == message_type(kind::NEWGEN) => {
            Fields::parse(attrs).ok()?.u32_or(GEN_PROC_PID, 0).ok()
        }
        _ => None,
    }
}
