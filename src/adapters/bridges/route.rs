//! rtnetlink in pieces of one buffer: a bridge may know more devices than memory should hold.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};

/// A datagram of a dump is at most 32 KiB.
const RECEIVE: usize = 32 << 10;
/// Messages taken from the queue at a time, so that a flood leaves the processor to others.
const AT_ONCE: usize = 1000;
const GROUP_LINK: u32 = 1;
const GROUP_NEIGHBOURS: u32 = 3;

/// A socket for questions, one after the other. rtnetlink works inside `sendmsg` and `recvmsg`, so
/// nothing here waits.
pub(super) struct Route {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Route {
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.set_non_blocking(true)?;
        Ok(Self { socket, buffer: Vec::with_capacity(RECEIVE) })
    }

    /// Shows `each` what the kernel has of a kind, until it says false; this socket is of no use
    /// after that.
    pub(super) fn dump(
        &mut self,
        question: Message,
        mut each: impl FnMut(Message) -> bool,
    ) -> io::Result<()> {
        self.send(question, NLM_F_DUMP)?;
        loop {
            receive(&self.socket, &mut self.buffer)?;
            for message in messages(&self.buffer) {
                let more = match message.payload {
                    NetlinkPayload::InnerMessage(message) => each(message),
                    NetlinkPayload::Done(_) => false,
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    _ => true,
                };
                if !more {
                    return Ok(());
                }
            }
        }
    }

    /// Has something changed.
    pub(super) fn change(&mut self, order: Message) -> io::Result<()> {
        self.send(order, NLM_F_ACK)?;
        receive(&self.socket, &mut self.buffer)?;
        let answers = messages(&self.buffer).filter_map(|message| match message.payload {
            NetlinkPayload::Error(answer) => Some(answer),
            _ => None,
        });
        match answers.last() {
            Some(answer) if answer.code.is_none() => Ok(()),
            Some(refusal) => Err(refusal.to_io()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn send(&self, message: Message, flags: u16) -> io::Result<()> {
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | flags;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map(drop)
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
    pub(super) fn drain(&mut self, mut each: impl FnMut(Message)) -> io::Result<bool> {
        let mut all = true;
        for _ in 0..AT_ONCE {
            match receive(&self.socket, &mut self.buffer) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => all = false,
                Err(error) => return Err(error),
            }
            for message in messages(&self.buffer) {
                if let NetlinkPayload::InnerMessage(message) = message.payload {
                    each(message);
                }
            }
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

/// The messages of a datagram; one that makes no sense to us is passed over.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = NetlinkMessage<Message>> {
    std::iter::from_fn(move || {
        let length = bytes.first_chunk::<4>().map(|length| u32::from_ne_bytes(*length))?;
        let length = usize::try_from(length).ok().filter(|length| *length >= 16)?;
        let message = bytes.get(..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(NetlinkMessage::deserialize(message).ok())
    })
    .flatten()
}
