//! DNS messages (RFC 1035): a guest's question, our answer to it, and what a resolver is asked and
//! answers. Only addresses are understood: a record of any other type is stepped over unread.

mod resolver;

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

pub use resolver::{Response, query, response};

use hickory_proto::op::{Header, HeaderCounts, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name as WireName, RecordType};
use hickory_proto::serialize::binary::{
    BinDecodable, BinDecoder, BinEncodable, BinEncoder, DecodeError,
};

/// The longest question that is read, bytes: a 255-byte name and EDNS options fit many times.
pub const LONGEST_QUESTION: usize = 512;
/// Addresses that are kept of a resolver's answer.
pub const MOST_ADDRESSES: usize = 4;
/// Bytes of a header.
const HEADER: usize = 12;
/// A pointer to the name in the question (RFC 1035, 4.1.4).
const TO_QUESTION: [u8; 2] = [0xc0, 12];

/// A host name: lower case, labels of letters, digits, `-` and `_`, no dot at the end.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// What a question asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Service bindings (RFC 9460): HTTPS and SVCB.
    Service,
    /// Any other type, or any class but IN.
    Other,
}

/// A guest's question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The host that is asked for.
    pub name: Name,
    /// What is asked about it.
    pub kind: Kind,
    id: u16,
    recursion: bool,
    edns: bool,
    /// The question section as it came: answers repeat its spelling.
    section: Vec<u8>,
}

/// How an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The name exists, with the addresses given, or none of this type.
    Found,
    /// There is no such name (NXDOMAIN).
    NoName,
    /// No answer could be had (SERVFAIL).
    Failed,
    /// No answer is given (REFUSED).
    Refused,
}

/// What a guest is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// How it ends.
    pub code: Code,
    /// At most [`MOST_ADDRESSES`], all of the family that was asked for.
    pub addresses: Vec<IpAddr>,
    /// Seconds for which the addresses may be kept.
    pub ttl: u32,
}

/// Why bytes are no message that we read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Longer than [`LONGEST_QUESTION`].
    #[error("too long")]
    Long,
    /// Cut short, or not as RFC 1035 lays it out.
    #[error("not as RFC 1035 lays a message out")]
    Layout,
    /// A question where an answer belongs, or the reverse; or not a standard query.
    #[error("not a standard query, or its direction is wrong")]
    Direction,
    /// Other than one question and at most EDNS beside it.
    #[error("not one plain question")]
    Sections,
    /// A name that is not a host's.
    #[error("not a host name")]
    Name,
    /// An answer to another question.
    #[error("the answer to another question")]
    Mismatch,
}

impl From<DecodeError> for Malformed {
    fn from(_: DecodeError) -> Self {
        Self::Layout
    }
}

impl Name {
    /// The name in lower case, labels parted by dots; empty for the root.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn from_wire(name: &WireName) -> Result<Self, Malformed> {
        let mut text = String::with_capacity(name.len());
        for label in name {
            if !label.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
                return Err(Malformed::Name);
            }
            if !text.is_empty() {
                text.push('.');
            }
            text.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
        }
        Ok(Self(text.into()))
    }
}

impl FromStr for Name {
    type Err = Malformed;

    /// Reads a name of at least one label; a dot at the end is allowed.
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let name = WireName::from_ascii(text).map_err(|_| Malformed::Name)?;
        if name.iter().len() == 0 { Err(Malformed::Name) } else { Self::from_wire(&name) }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Reply {
    /// An answer without addresses.
    pub const fn empty(code: Code) -> Self {
        Self { code, addresses: Vec::new(), ttl: 0 }
    }
}

impl Question {
    /// Reads what a guest sent: one question of a standard query, its name uncompressed, nothing
    /// beside it but EDNS (RFC 6891), nothing after it.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > LONGEST_QUESTION {
            return Err(Malformed::Long);
        }
        let mut decoder = BinDecoder::new(bytes);
        let header = Header::read(&mut decoder)?;
        if header.message_type != MessageType::Query || header.op_code != OpCode::Query {
            return Err(Malformed::Direction);
        }
        let counts = header.counts;
        if (counts.queries, counts.answers, counts.authorities) != (1, 0, 0)
            || counts.additionals > 1
        {
            return Err(Malformed::Sections);
        }
        let query = Query::read(&mut decoder)?;
        let section = decoder.slice_from(HEADER)?.to_vec();
        // A root label, type and class follow the labels; a pointer would make this shorter.
        let labels: usize = query.name().iter().map(|label| label.len() + 1).sum();
        if section.len() != labels + 5 {
            return Err(Malformed::Name);
        }
        if counts.additionals == 1 {
            edns(&mut decoder)?;
        }
        if !decoder.is_empty() {
            return Err(Malformed::Sections);
        }
        Ok(Self {
            name: Name::from_wire(query.name())?,
            kind: Kind::of(&query),
            id: header.id,
            recursion: header.recursion_desired,
            edns: counts.additionals == 1,
            section,
        })
    }

    /// The message that carries `reply`: no larger than it must be, and always below 512 bytes.
    pub fn answer(&self, reply: &Reply) -> Vec<u8> {
        let addresses = &reply.addresses[..reply.addresses.len().min(MOST_ADDRESSES)];
        let mut metadata = Metadata::new(self.id, MessageType::Response, OpCode::Query);
        metadata.recursion_desired = self.recursion;
        metadata.recursion_available = true;
        metadata.response_code = reply.code.into();
        let counts = HeaderCounts {
            queries: 1,
            answers: u16::try_from(addresses.len()).unwrap_or(0),
            authorities: 0,
            additionals: u16::from(self.edns),
        };
        let mut bytes = Vec::with_capacity(HEADER + self.section.len() + 16 * addresses.len() + 64);
        let mut encoder = BinEncoder::new(&mut bytes);
        // Emitting to a Vec fails only past 64 KiB.
        let _ = Header { metadata, counts }.emit(&mut encoder);
        bytes.extend_from_slice(&self.section);
        for address in addresses {
            put_address(&mut bytes, *address, reply.ttl);
        }
        if self.edns {
            // Root, OPT, 512 bytes a datagram, version 0, no options.
            bytes.extend_from_slice(&[0, 0, 41, 2, 0, 0, 0, 0, 0, 0, 0]);
        }
        bytes
    }
}

impl Kind {
    fn of(query: &Query) -> Self {
        match (query.query_class(), query.query_type()) {
            (DNSClass::IN, RecordType::A) => Self::A,
            (DNSClass::IN, RecordType::AAAA) => Self::Aaaa,
            (DNSClass::IN, RecordType::HTTPS | RecordType::SVCB) => Self::Service,
            _ => Self::Other,
        }
    }
}

impl From<Code> for ResponseCode {
    fn from(code: Code) -> Self {
        match code {
            Code::Found => Self::NoError,
            Code::NoName => Self::NXDomain,
            Code::Failed => Self::ServFail,
            Code::Refused => Self::Refused,
        }
    }
}

/// Steps over an OPT record: root, 41, size, flags, options.
fn edns(decoder: &mut BinDecoder<'_>) -> Result<(), Malformed> {
    let root = decoder.read_u8()?.unverified();
    let record_type = decoder.read_u16()?.unverified();
    if root != 0 || record_type != u16::from(RecordType::OPT) {
        return Err(Malformed::Sections);
    }
    decoder.read_slice(6)?;
    let length = usize::from(decoder.read_u16()?.unverified());
    decoder.read_slice(length)?;
    Ok(())
}

fn put_address(bytes: &mut Vec<u8>, address: IpAddr, ttl: u32) {
    let (record_type, data) = match &address {
        IpAddr::V4(v4) => (RecordType::A, v4.octets().to_vec()),
        IpAddr::V6(v6) => (RecordType::AAAA, v6.octets().to_vec()),
    };
    bytes.extend_from_slice(&TO_QUESTION);
    bytes.extend_from_slice(&u16::from(record_type).to_be_bytes());
    bytes.extend_from_slice(&u16::from(DNSClass::IN).to_be_bytes());
    bytes.extend_from_slice(&ttl.to_be_bytes());
    bytes.extend_from_slice(&if address.is_ipv4() { [0, 4] } else { [0, 16] });
    bytes.extend_from_slice(&data);
}

#[cfg(test)]
mod tests;
