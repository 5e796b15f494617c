//! Netlink messages: requests out, replies in.

use netlink_packet_core::{Emitable, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NetlinkHeader};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterProtoFamily};

use super::{WireError, attr::Attrs, attr::Fields};

pub const NLM_F_REQUEST: u16 = 0x1;
pub const NLM_F_ACK: u16 = 0x4;
pub const NLM_F_DUMP_INTR: u16 = 0x10;
pub const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const HEADER: usize = 16;
const NFGEN: usize = 4;

/// One request: netlink header, nfgenmsg, attributes.
pub fn request(
    kind: u16,
    flags: u16,
    seq: u32,
    nfgen: &NetfilterHeader,
    attrs: Attrs,
) -> Result<Vec<u8>, WireError> {
    let attrs = attrs.finish()?;
    let len = HEADER + NFGEN + attrs.len();
    let mut header = NetlinkHeader::default();
    header.length = u32::try_from(len).map_err(|_| WireError::Malformed)?;
    header.message_type = kind;
    header.flags = flags | NLM_F_REQUEST;
    header.sequence_number = seq;
    let mut buf = vec![0; HEADER + NFGEN];
    header.emit(&mut buf[..HEADER]);
    nfgen.emit(&mut buf[HEADER..]);
    buf.extend_from_slice(&attrs);
    Ok(buf)
}

pub fn nfgen(family: NetfilterProtoFamily, version: u8, res_id: u16) -> NetfilterHeader {
    NetfilterHeader::new(family, version, res_id)
}

/// One message from the kernel.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// An acknowledgement.
    Ack { seq: u32 },
    /// A refusal.
    Error { seq: u32, errno: i32, text: Option<String> },
    /// The end of a dump.
    Done { seq: u32, errno: i32 },
    /// Everything else: the attributes behind the nfgenmsg.
    Message { kind: u16, seq: u32, interrupted: bool, family: u8, attrs: &'a [u8] },
}

/// The messages of one datagram. A malformed one ends the iteration.
pub fn replies(mut buf: &[u8]) -> impl Iterator<Item = Result<Reply<'_>, WireError>> {
    std::iter::from_fn(move || {
        if buf.is_empty() {
            return None;
        }
        let Some((message, rest)) = split(buf) else {
            buf = &[];
            return Some(Err(WireError::Malformed));
        };
        buf = rest;
        Some(parse(message))
    })
}

/// The first message of a datagram, whole, and what lies behind it.
pub(in crate::wire) fn split(buf: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = NetlinkBuffer::new_checked(buf).ok()?.length() as usize;
    let rest = len.checked_next_multiple_of(4)?.min(buf.len());
    Some((buf.get(..len).filter(|_| len >= HEADER)?, &buf[rest..]))
}

fn parse(message: &[u8]) -> Result<Reply<'_>, WireError> {
    let header = NetlinkBuffer::new(message);
    let (kind, seq, flags) = (header.message_type(), header.sequence_number(), header.flags());
    let payload = &message[HEADER..];
    match kind {
        NLMSG_ERROR => error(payload, seq, flags),
        NLMSG_DONE => Ok(Reply::Done { seq, errno: errno(payload).unwrap_or(0) }),
        _ => Ok(Reply::Message {
            kind,
            seq,
            interrupted: flags & NLM_F_DUMP_INTR != 0,
            family: *payload.first().ok_or(WireError::Malformed)?,
            attrs: payload.get(NFGEN..).ok_or(WireError::Malformed)?,
        }),
    }
}

fn error(payload: &[u8], seq: u32, flags: u16) -> Result<Reply<'_>, WireError> {
    let errno = errno(payload).ok_or(WireError::Malformed)?;
    if errno == 0 {
        return Ok(Reply::Ack { seq });
    }
    let text = (flags & NLM_F_ACK_TLVS != 0).then(|| ext_ack(payload, flags)).flatten();
    Ok(Reply::Error { seq, errno, text })
}

/// Kernel errors are negative; `errno` is positive here.
fn errno(payload: &[u8]) -> Option<i32> {
    payload.first_chunk().map(|code| i32::from_ne_bytes(*code).saturating_neg())
}

fn ext_ack(payload: &[u8], flags: u16) -> Option<String> {
    let original = NetlinkBuffer::new(payload.get(4..4 + HEADER)?).length() as usize;
    let skip =
        if flags & NLM_F_CAPPED != 0 { HEADER } else { original.checked_next_multiple_of(4)? };
    Fields::parse(payload.get(4 + skip..)?).ok()?.name(1).ok()
}
