//! What a resolver is asked, and what it answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::op::{Header, HeaderCounts, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name as WireName, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, BinEncodable, BinEncoder};

use super::{Code, HEADER, Kind, MOST_ADDRESSES, Malformed, Name, Reply};

/// Aliases that are followed from the name that was asked for.
const MOST_ALIASES: usize = 12;
/// Records that are read of a resolver's answer.
const MOST_RECORDS: usize = 64;

/// What a resolver answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// A usable answer: [`Code::Found`] or [`Code::NoName`].
    Answer(Reply),
    /// It does not fit a datagram: to be asked again by TCP (RFC 7766).
    Truncated,
    /// The resolver could or would not say.
    Failure,
}

/// What a resolver is asked: the addresses of one family, recursion desired, nothing else.
pub fn query(id: u16, name: &Name, family: Kind) -> Vec<u8> {
    let mut metadata = Metadata::new(id, MessageType::Query, OpCode::Query);
    metadata.recursion_desired = true;
    let counts = HeaderCounts { queries: 1, answers: 0, authorities: 0, additionals: 0 };
    let mut bytes = Vec::with_capacity(HEADER + name.as_str().len() + 6);
    // Emitting to a Vec fails only past 64 KiB.
    let _ = Header { metadata, counts }.emit(&mut BinEncoder::new(&mut bytes));
    for label in name.as_str().split('.').filter(|label| !label.is_empty()) {
        // Names come from messages or from the codec: their labels have at most 63 bytes.
        bytes.push(u8::try_from(label.len()).unwrap_or(0));
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend_from_slice(&u16::from(record_type(family)).to_be_bytes());
    bytes.extend_from_slice(&u16::from(DNSClass::IN).to_be_bytes());
    bytes
}

/// Reads what a resolver answered to [`query`]; aliases are followed within the answer, and only
/// their addresses count.
pub fn response(bytes: &[u8], id: u16, name: &Name, family: Kind) -> Result<Response, Malformed> {
    let mut decoder = BinDecoder::new(bytes);
    let header = Header::read(&mut decoder)?;
    if header.message_type != MessageType::Response || header.op_code != OpCode::Query {
        return Err(Malformed::Direction);
    }
    if header.id != id || header.counts.queries != 1 {
        return Err(Malformed::Mismatch);
    }
    let asked = Query::read(&mut decoder)?;
    if Name::from_wire(asked.name())? != *name
        || asked.query_type() != record_type(family)
        || asked.query_class() != DNSClass::IN
    {
        return Err(Malformed::Mismatch);
    }
    if header.truncation {
        return Ok(Response::Truncated);
    }
    let records = Records::read(&mut decoder, header.counts.answers, family)?;
    let reply = records.reachable_from(asked.name());
    Ok(match header.response_code {
        ResponseCode::NoError => Response::Answer(reply),
        ResponseCode::NXDomain => Response::Answer(Reply::empty(Code::NoName)),
        _ => Response::Failure,
    })
}

/// The records of an answer that matter.
struct Records {
    addresses: Vec<(WireName, IpAddr, u32)>,
    aliases: Vec<(WireName, WireName, u32)>,
}

impl Records {
    fn read(decoder: &mut BinDecoder<'_>, count: u16, family: Kind) -> Result<Self, Malformed> {
        let mut found = Self { addresses: Vec::new(), aliases: Vec::new() };
        for _ in 0..usize::from(count).min(MOST_RECORDS) {
            let owner = WireName::read(decoder)?;
            let record_type = decoder.read_u16()?.unverified();
            let class = decoder.read_u16()?.unverified();
            let ttl = decoder.read_u32()?.unverified();
            let length = usize::from(decoder.read_u16()?.unverified());
            let start = decoder.index();
            let mut inside = decoder.clone(u16::try_from(start).map_err(|_| Malformed::Layout)?);
            let data = decoder.read_slice(length)?.unverified();
            // RFC 2181, 8: a TTL with the top bit set counts as zero.
            let ttl = if ttl > i32::MAX.unsigned_abs() { 0 } else { ttl };
            if class != u16::from(DNSClass::IN) {
                continue;
            }
            match (RecordType::from(record_type), family) {
                (RecordType::A, Kind::A) => {
                    let bytes: [u8; 4] = data.try_into().map_err(|_| Malformed::Layout)?;
                    found.addresses.push((owner, Ipv4Addr::from(bytes).into(), ttl));
                }
                (RecordType::AAAA, Kind::Aaaa) => {
                    let bytes: [u8; 16] = data.try_into().map_err(|_| Malformed::Layout)?;
                    found.addresses.push((owner, Ipv6Addr::from(bytes).into(), ttl));
                }
                (RecordType::CNAME, _) => {
                    let target = WireName::read(&mut inside)?;
                    if inside.index() != decoder.index() {
                        return Err(Malformed::Layout);
                    }
                    found.aliases.push((owner, target, ttl));
                }
                _ => {}
            }
        }
        Ok(found)
    }

    fn reachable_from(&self, asked: &WireName) -> Reply {
        let (mut name, mut ttl) = (asked, u32::MAX);
        for _ in 0..MOST_ALIASES {
            let here = self.addresses.iter().filter(|(owner, ..)| owner == name);
            let addresses: Vec<IpAddr> =
                here.clone().map(|(_, address, _)| *address).take(MOST_ADDRESSES).collect();
            if !addresses.is_empty() {
                let ttl = here.map(|(.., ttl)| *ttl).chain([ttl]).min().unwrap_or(0);
                return Reply { code: Code::Found, addresses, ttl };
            }
            let Some((_, target, of_alias)) = self.aliases.iter().find(|(from, ..)| from == name)
            else {
                break;
            };
            (name, ttl) = (target, ttl.min(*of_alias));
        }
        Reply::empty(Code::Found)
    }
}

fn record_type(family: Kind) -> RecordType {
    if family == Kind::Aaaa { RecordType::AAAA } else { RecordType::A }
}
