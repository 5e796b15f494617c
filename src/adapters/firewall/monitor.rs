//! Notices what others do to the ruleset (`NFNLGRP_NFTABLES`).

use std::io;
use std::os::fd::AsRawFd;

use libc::{
    BPF_ABS, BPF_H, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, c_int, sock_filter, socklen_t,
};
use netlink_sys::{Socket, protocols::NETLINK_NETFILTER};

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
        filter(&socket, &program(ours))?;
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
        instruction(BPF_LD | BPF_H | BPF_ABS, TYPE, 0, 0),
        instruction(BPF_JMP | BPF_JEQ | BPF_K, end.into(), 0, 3),
        instruction(BPF_LD | BPF_W | BPF_ABS, PORT, 0, 0),
        instruction(BPF_JMP | BPF_JEQ | BPF_K, ours, 1, 0),
        instruction(BPF_RET | BPF_K, u32::MAX, 0, 0),
        instruction(BPF_RET | BPF_K, 0, 0, 0),
    ]
}

#[allow(clippy::cast_possible_truncation)] // The kernel's codes have 16 bits; libc's constants 32.
const fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}

#[allow(unsafe_code)]
fn filter(socket: &Socket, program: &[sock_filter]) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    // The kernel only reads the program, whatever its pointer's type says.
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    let size = socklen_t::try_from(size_of_val(&program)).map_err(io::Error::other)?;
    // SAFETY: the program outlives the call, and both lengths are its own.
    let outcome: c_int = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size,
        )
    };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program makes of a netlink header, run as the kernel does.
    fn passes(program: &[sock_filter], header: &[u8]) -> bool {
        let (mut a, mut at) = (0, 0);
        loop {
            let step = program[at];
            at += 1;
            let k = step.k as usize;
            match u32::from(step.code) {
                code if code == BPF_RET => return step.k != 0,
                code if code == BPF_LD | BPF_H | BPF_ABS => {
                    a = u16::from_be_bytes(header[k..k + 2].try_into().unwrap()).into();
                }
                code if code == BPF_LD | BPF_W | BPF_ABS => {
                    a = u32::from_be_bytes(header[k..k + 4].try_into().unwrap());
                }
                _ => at += usize::from(if a == step.k { step.jt } else { step.jf }),
            }
        }
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
