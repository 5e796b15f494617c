//! Notices what others do to the ruleset (`NFNLGRP_NFTABLES`).

use std::io;

use libc::{BPF_ABS, BPF_H, BPF_JEQ, BPF_K, BPF_RET, BPF_W, sock_filter};
use netlink_sys::{Socket, protocols::NETLINK_NETFILTER};

use crate::adapters::bpf::{self, jump, load, statement};
use crate::wire::nft::batch::{kind, message_type};

const GROUP_NFTABLES: u32 = 7;
/// Places in the netlink header.
const TYPE: u32 = 4;
const PORT: u32 = 12;

/// A socket on which the kernel tells of every transaction that is not made through ours.
#[derive(Debug)]
pub struct Monitor(Socket);

impl Monitor {
    /// `ours`: the number of the socket whose transactions are no news.
    pub fn open(ours: u32) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        bpf::attach(&socket, &program(ours))?;
        socket.bind_auto()?;
        socket.add_membership(GROUP_NFTABLES)?;
        Ok(Self(socket))
    }

    /// Waits until another changed any ruleset; all changes so far count as one. Also ends if the
    /// queue overflowed, when anything may have happened.
    pub fn wait(&mut self) -> io::Result<()> {
        // What the messages say is of no interest, only that they came.
        let mut flags = 0;
        loop {
            match self.0.recv(&mut [0u8; 64].as_mut_slice(), flags) {
                Ok(_) => flags = libc::MSG_DONTWAIT,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    flags = libc::MSG_DONTWAIT;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Passes the message that ends a transaction, unless it was asked for through the socket `ours`.
/// In the kernel, because on the way of each grant this thread would be woken for nothing.
fn program(ours: u32) -> [sock_filter; 6] {
    // Loads are big-endian, the header is in the host's order.
    let end = u16::from_be_bytes(message_type(kind::NEWGEN).to_ne_bytes());
    let ours = u32::from_be_bytes(ours.to_ne_bytes());
    [
        load(BPF_H | BPF_ABS, TYPE),
        jump(1, BPF_JEQ, end.into(), 2, 5),
        load(BPF_W | BPF_ABS, PORT),
        jump(3, BPF_JEQ, ours, 5, 4),
        statement(BPF_RET | BPF_K, u32::MAX),
        statement(BPF_RET | BPF_K, 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::bpf::tests::{Packet, run};

    fn passes(program: &[sock_filter], header: &[u8]) -> bool {
        run(program, Packet { bytes: header, ..Packet::default() }) > 0
    }

    fn header(kind: u8, port: u32) -> Vec<u8> {
        let (length, flags, seq) = (36u32, 0u16, 7u32);
        let kind = message_type(kind);
        [
            &length.to_ne_bytes()[..],
            &kind.to_ne_bytes(),
            &flags.to_ne_bytes(),
            &seq.to_ne_bytes(),
            &port.to_ne_bytes(),
        ]
        .concat()
    }

    #[test]
    fn the_end_of_a_transaction_of_others_passes() {
        let program = program(0x1234_5678);
        assert!(passes(&program, &header(kind::NEWGEN, 0x7856_3412)));
        assert!(passes(&program, &header(kind::NEWGEN, 0)));
        assert!(!passes(&program, &header(kind::NEWGEN, 0x1234_5678)));
        assert!(!passes(&program, &header(kind::NEWSETELEM, 1)));
        assert!(!passes(&program, &header(kind::DELTABLE, 0)));
    }
}
