//! The netlink socket.
//!
//! nfnetlink runs a request inside `sendmsg`: its answer is queued before the call returns, and the
//! rest of a dump is produced inside `recvmsg`. So nothing here ever waits, and an empty queue
//! means that an answer is missing.

use std::io;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use nix::sys::socket::{setsockopt, sockopt};
use thiserror::Error;

use crate::wire::nft::{
    WireError,
    attr::Attrs,
    batch::{Batch, Transaction},
    message::{NLM_F_ACK, NLM_F_DUMP, Reply, nfgen, replies, request},
};
use netlink_packet_netfilter::NetfilterProtoFamily;

/// What the kernel refused, or could not say.
#[derive(Debug, Error)]
pub enum NetfilterError {
    /// The socket itself.
    #[error("netlink socket: {0}")]
    Socket(#[from] io::Error),
    /// An answer that is not as the protocol says.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The kernel refused; for a batch, `at` counts its messages and nothing was applied.
    #[error("refused, message {at}: {source}{}", text.as_deref().map(|t| format!(" ({t})")).unwrap_or_default())]
    Refused {
        /// The message's place in the batch, from 0.
        at: u32,
        /// The error's number.
        source: io::Error,
        /// What the kernel said beside it.
        text: Option<String>,
    },
    /// No acknowledgement came.
    #[error("the kernel did not acknowledge")]
    NoAnswer,
    /// Somebody changed the ruleset during every attempt to read it.
    #[error("the dump was interrupted")]
    Interrupted,
}

impl NetfilterError {
    /// The number of the kernel's refusal.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

/// A datagram of a dump is at most 32 KiB.
const RECEIVE: usize = 64 * 1024;
/// An atomic rebuild with 10,000 sessions is about 8 MB in one datagram.
const SEND: usize = 32 << 20;
const DUMP_ATTEMPTS: u32 = 5;
/// A key that is there when asked for may have timed out when it is deleted.
const DELETE_ATTEMPTS: u32 = 5;

pub struct Netfilter {
    socket: Socket,
    /// The kernel's number for the socket.
    port: u32,
    seq: u32,
    buf: Vec<u8>,
    /// Kernel 6.3 or later, as far as is known.
    destroys: bool,
}

impl Netfilter {
    pub fn open() -> Result<Self, NetfilterError> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        let port = socket.bind_auto()?.port_number();
        // Connected to the kernel: nobody else's datagrams arrive.
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_cap_ack(true)?;
        socket.set_ext_ack(true)?;
        setsockopt(&socket, sockopt::SndBufForce, &SEND).map_err(io::Error::from)?;
        socket.set_rx_buf_sz(4 << 20)?;
        Ok(Self { socket, port, seq: 1, buf: Vec::with_capacity(RECEIVE), destroys: true })
    }

    /// What names this socket in the kernel's reports of changes.
    pub fn port(&self) -> u32 {
        self.port
    }

    pub fn batch(&self, table: &str, generation: Option<u32>) -> Batch {
        Batch::new(table, self.seq, generation)
    }

    /// Apply a batch; `Ok` means committed.
    pub fn commit(&mut self, batch: Batch) -> Result<(), NetfilterError> {
        let transaction = batch.finish()?;
        self.seq = transaction.last_seq.wrapping_add(2);
        if !transaction.destroys() {
            return self.apply(&transaction);
        }
        if self.destroys {
            match self.apply(&transaction) {
                Err(error) if error.errno() == Some(libc::EINVAL) => {}
                done => return done,
            }
        }
        let done = self.apply_without_destroying(&transaction);
        self.destroys = done.is_err();
        done
    }

    /// One request that is only acknowledged.
    pub fn execute(
        &mut self,
        kind: u16,
        family: NetfilterProtoFamily,
        version: u8,
        flags: u16,
        attrs: Attrs,
    ) -> Result<(), NetfilterError> {
        let seq = self.next_seq();
        let bytes = request(kind, flags | NLM_F_ACK, seq, &nfgen(family, version, 0), attrs)?;
        self.send(&bytes)?;
        self.acknowledged(seq, seq)
    }

    /// Read objects. `each` may be called again from the first object on: `restart` clears.
    pub fn dump<T: Default>(
        &mut self,
        kind: u16,
        family: NetfilterProtoFamily,
        attrs: &Attrs,
        mut each: impl FnMut(&mut T, &[u8]) -> Result<(), WireError>,
    ) -> Result<T, NetfilterError> {
        for _ in 0..DUMP_ATTEMPTS {
            let mut found = T::default();
            let seq = self.next_seq();
            let head = nfgen(family, 0, 0);
            self.send(&request(kind, NLM_F_DUMP, seq, &head, attrs.clone())?)?;
            if self.collect(seq, |item| each(&mut found, item))? {
                return Ok(found);
            }
        }
        Err(NetfilterError::Interrupted)
    }

    /// A get of one object.
    pub fn get(
        &mut self,
        kind: u16,
        family: NetfilterProtoFamily,
        attrs: Attrs,
        each: impl FnMut(&[u8]) -> Result<(), WireError>,
    ) -> Result<(), NetfilterError> {
        let seq = self.next_seq();
        self.send(&request(kind, NLM_F_ACK, seq, &nfgen(family, 0, 0), attrs)?)?;
        self.collect(seq, each).map(drop)
    }

    fn apply(&mut self, transaction: &Transaction) -> Result<(), NetfilterError> {
        self.send(&transaction.bytes)?;
        self.acknowledged(transaction.first_seq, transaction.last_seq)
    }

    fn apply_without_destroying(
        &mut self,
        transaction: &Transaction,
    ) -> Result<(), NetfilterError> {
        let mut done = Ok(());
        for _ in 0..DELETE_ATTEMPTS {
            let older = transaction.for_older_kernel(|seq, request| self.stands(seq, request))?;
            done = older.map_or(Ok(()), |older| self.apply(&older));
            if !matches!(&done, Err(error) if error.errno() == Some(libc::ENOENT)) {
                break;
            }
        }
        done
    }

    /// Whether what a request asks for is there.
    fn stands(&mut self, seq: u32, request: &[u8]) -> Result<bool, NetfilterError> {
        self.send(request)?;
        match self.collect(seq, |_| Ok(())) {
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(false),
            got => got.map(|_| true),
        }
    }

    fn next_seq(&mut self) -> u32 {
        self.seq = self.seq.wrapping_add(1);
        self.seq
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), NetfilterError> {
        self.discard();
        self.socket.send(bytes, 0)?;
        Ok(())
    }

    /// Answers left over from a request that failed half-way.
    fn discard(&mut self) {
        while self.receive().is_ok_and(|got| got) {}
    }

    fn acknowledged(&mut self, first: u32, last: u32) -> Result<(), NetfilterError> {
        let (mut done, mut refused) = (false, None);
        while self.receive()? {
            for reply in replies(&self.buf) {
                match reply? {
                    Reply::Ack { seq } => done |= seq == last,
                    Reply::Error { seq, errno, text } if refused.is_none() => {
                        let source = io::Error::from_raw_os_error(errno);
                        refused = Some(NetfilterError::Refused {
                            at: seq.wrapping_sub(first),
                            source,
                            text,
                        });
                    }
                    _ => {}
                }
            }
        }
        match refused {
            Some(error) => Err(error),
            None if done => Ok(()),
            None => Err(NetfilterError::NoAnswer),
        }
    }

    /// `false`: the dump was interrupted and must be repeated.
    fn collect(
        &mut self,
        expected: u32,
        mut each: impl FnMut(&[u8]) -> Result<(), WireError>,
    ) -> Result<bool, NetfilterError> {
        let mut whole = true;
        while self.receive()? {
            for reply in replies(&self.buf) {
                match reply? {
                    Reply::Message { seq, interrupted, attrs, .. } if seq == expected => {
                        whole &= !interrupted;
                        each(attrs)?;
                    }
                    Reply::Done { seq, errno: 0 } | Reply::Ack { seq } if seq == expected => {
                        return Ok(whole);
                    }
                    Reply::Error { seq, errno, text } if seq == expected => {
                        let source = io::Error::from_raw_os_error(errno);
                        return Err(NetfilterError::Refused { at: 0, source, text });
                    }
                    Reply::Done { seq, .. } if seq == expected => return Ok(false),
                    _ => {}
                }
            }
        }
        Err(NetfilterError::NoAnswer)
    }

    /// `false`: nothing is queued.
    fn receive(&mut self) -> Result<bool, NetfilterError> {
        self.buf.clear();
        match self.socket.recv(&mut self.buf, libc::MSG_DONTWAIT) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
