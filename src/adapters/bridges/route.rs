//! rtnetlink in pieces of one buffer: a bridge may know more devices than memory should hold.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::{Socket, protocols::NETLINK_ROUTE};

use crate::wire::nft::WireError;
use crate::wire::route::{self, Reply};

/// A datagram of a dump is at most 32 KiB.
const RECEIVE: usize = 32 << 10;
/// Messages taken from the queue at a time, so that a flood leaves the processor to others.
const AT_ONCE: usize = 1000;
const GROUP_LINK: u32 = 1;
const GROUP_NEIGHBOURS: u32 = 3;

/// A socket for questions, one after the other. rtnetlink works inside `sendmsg` and `recvmsg`, so
/// nothing here waits.
pub(in crate::adapters) struct Route {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Route {
    pub(in crate::adapters) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.set_non_blocking(true)?;
        Ok(Self { socket, buffer: Vec::with_capacity(RECEIVE) })
    }

    /// Shows `each` what the kernel answers, until it says false; this socket is of no use after
    /// that.
    pub(in crate::adapters) fn dump(
        &mut self,
        question: Result<Vec<u8>, WireError>,
        mut each: impl FnMut(Reply) -> bool,
    ) -> io::Result<()> {
        self.send(question)?;
        loop {
            receive(&self.socket, &mut self.buffer)?;
            for reply in replies(&self.buffer) {
                match reply {
                    Reply::End { errno: 0 } => return Ok(()),
                    Reply::End { errno } => return Err(io::Error::from_raw_os_error(errno)),
                    reply => {
                        if !each(reply) {
                            return Ok(());
                        }
                    }
                }
            }
        }
    }

    /// Has something changed.
    pub(in crate::adapters) fn change(
        &mut self,
        order: Result<Vec<u8>, WireError>,
    ) -> io::Result<()> {
        self.send(order)?;
        receive(&self.socket, &mut self.buffer)?;
        match replies(&self.buffer).last() {
            Some(Reply::End { errno: 0 }) => Ok(()),
            Some(Reply::End { errno }) => Err(io::Error::from_raw_os_error(errno)),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn send(&self, request: Result<Vec<u8>, WireError>) -> io::Result<()> {
        let request = request.map_err(io::Error::other)?;
        self.socket.send(&request, 0).map(drop)
    }
}

/// A socket on which the kernel tells of links and of bridge entries that change.
pub(super) struct News {
    socket: Socket,
    buffer: Vec<u8>,
}

impl News {
    pub(super) fn open() -> io::Result<Self> {
        let Route { socket, buffer } = Route::open()?;
        for group in [GROUP_LINK, GROUP_NEIGHBOURS] {
            socket.add_membership(group)?;
        }
        Ok(Self { socket, buffer })
    }

    /// Takes what waits, a thousand messages at most. False if some were lost.
    pub(super) fn drain(&mut self, mut each: impl FnMut(Reply)) -> io::Result<bool> {
        let mut all = true;
        for _ in 0..AT_ONCE {
            match receive(&self.socket, &mut self.buffer) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => all = false,
                Err(error) => return Err(error),
            }
            replies(&self.buffer).for_each(&mut each);
        }
        Ok(all)
    }
}

impl AsFd for News {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn receive(socket: &Socket, buffer: &mut Vec<u8>) -> io::Result<()> {
    buffer.clear();
    socket.recv(buffer, 0).map(drop)
}

/// What the messages of a datagram say; one that makes no sense to us is passed over.
fn replies(datagram: &[u8]) -> impl Iterator<Item = Reply> {
    route::messages(datagram).filter_map(|message| Some(message.ok()?.reply))
}
