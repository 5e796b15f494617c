//! What DHCP clients say of themselves (RFC 2131, RFC 8415).

use std::net::Ipv4Addr;

use dhcproto::v4::borrowed::{DhcpOption, Message as Raw};
use dhcproto::v4::{HType, MAGIC, MessageType, Opcode, OptionCode};
use dhcproto::v6;

use super::evidence::{FrameError, host_v4};
use crate::domain::names::Mac;

/// UDP port of DHCPv4 servers.
pub const SERVER_PORT: u16 = 67;
/// UDP port of DHCPv6 servers and relays.
pub const SERVER_PORT_V6: u16 = 547;

/// Longest host name kept, in bytes: that of a DNS label.
const HOSTNAME_MAX: usize = 63;

/// A message from a DHCPv4 client that is on this network itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it wants.
    pub kind: Kind,
    /// The address that it has, or takes (REQUEST, INFORM, RELEASE). The wish in a DISCOVER and
    /// the refusal in a DECLINE name none.
    pub address: Option<Ipv4Addr>,
    /// The name it gives itself (option 12), printable, at most 63 bytes.
    pub hostname: Option<String>,
}

/// What a DHCPv4 client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any server.
    Discover,
    /// An address, or more time for one.
    Request,
    /// Another address: this one is in use.
    Decline,
    /// To give its address back.
    Release,
    /// Settings only.
    Inform,
}

/// Reads a message; `source` is the station that sent the frame, and must be the client.
pub fn parse(payload: &[u8], source: Mac) -> Result<Message, FrameError> {
    let raw = Raw::new(payload).map_err(|_| FrameError::Dhcp)?;
    // The length comes first: `chaddr` trusts it.
    let ethernet = raw.hlen() == 6 && raw.htype() == HType::Eth;
    if !ethernet || raw.opcode() != Opcode::BootRequest || payload[236..240] != MAGIC {
        return Err(FrameError::Dhcp);
    }
    if raw.hops() != 0 || !raw.giaddr().is_unspecified() {
        return Err(FrameError::Relayed);
    }
    if raw.chaddr() != source.0 {
        return Err(FrameError::Spoofed);
    }
    let options = Options::read(&raw)?;
    let address = match options.kind {
        Kind::Discover | Kind::Decline => None,
        Kind::Request | Kind::Inform | Kind::Release => {
            host_v4(raw.ciaddr())?.or(host_v4(options.requested)?)
        }
    };
    Ok(Message { kind: options.kind, address, hostname: options.hostname })
}

/// Passes what a DHCPv6 client sends: nothing that comes from servers or relays.
pub fn check_v6(payload: &[u8]) -> Result<(), FrameError> {
    use v6::MessageType as M;
    // One byte of type and three of transaction id (RFC 8415, section 8).
    let Some(&[kind, ..]) = payload.first_chunk::<4>() else { return Err(FrameError::Dhcp) };
    match M::from(kind) {
        M::Solicit
        | M::Request
        | M::Confirm
        | M::Renew
        | M::Rebind
        | M::Release
        | M::Decline
        | M::InformationRequest => Ok(()),
        M::RelayForw => Err(FrameError::Relayed),
        _ => Err(FrameError::Dhcp),
    }
}

struct Options {
    kind: Kind,
    requested: Ipv4Addr,
    hostname: Option<String>,
}

impl Options {
    fn read(raw: &Raw<'_>) -> Result<Self, FrameError> {
        let mut kind = None;
        let mut requested = Ipv4Addr::UNSPECIFIED;
        let mut hostname = None;
        for option in raw.opts() {
            match option.code() {
                OptionCode::MessageType => kind = Some(message_kind(&option)?),
                OptionCode::RequestedIpAddress => {
                    let octets: [u8; 4] = option.data().try_into().map_err(|_| FrameError::Dhcp)?;
                    requested = octets.into();
                }
                OptionCode::Hostname => hostname = printable(option.data()),
                _ => {}
            }
        }
        Ok(Self { kind: kind.ok_or(FrameError::Dhcp)?, requested, hostname })
    }
}

fn message_kind(option: &DhcpOption<'_>) -> Result<Kind, FrameError> {
    let &[kind] = option.data() else { return Err(FrameError::Dhcp) };
    match MessageType::from(kind) {
        MessageType::Discover => Ok(Kind::Discover),
        MessageType::Request => Ok(Kind::Request),
        MessageType::Decline => Ok(Kind::Decline),
        MessageType::Release => Ok(Kind::Release),
        MessageType::Inform => Ok(Kind::Inform),
        _ => Err(FrameError::Dhcp),
    }
}

/// Letters and digits of any script and ASCII signs: nothing that moves a cursor, turns the
/// direction of writing or hides.
fn printable(name: &[u8]) -> Option<String> {
    let mut kept = String::new();
    for sign in String::from_utf8_lossy(name).chars() {
        if !(sign.is_alphanumeric() || sign.is_ascii_graphic() || sign == ' ') {
            continue;
        }
        if kept.len() + sign.len_utf8() > HOSTNAME_MAX {
            break;
        }
        kept.push(sign);
    }
    let kept = kept.trim();
    (!kept.is_empty()).then(|| kept.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostnames_are_made_printable() {
        let cases: [(&[u8], Option<&str>); 7] = [
            (b"Redmi-Note-12", Some("Redmi-Note-12")),
            ("小米手机".as_bytes(), Some("小米手机")),
            (b"a\x1b[2Jb\0\n", Some("a[2Jb")),
            ("x\u{202e}y\u{200b}".as_bytes(), Some("xy")),
            (b"\xc4\xe3\xba\xc3 ok", Some("ok")),
            (b" \0\x07 ", None),
            (b"", None),
        ];
        for (given, kept) in cases {
            assert_eq!(printable(given).as_deref(), kept, "{given:?}");
        }
        assert_eq!(printable(&[b'a'; 255]).unwrap().len(), 63);
        // Cut between letters, not within one.
        assert_eq!(printable("店".repeat(30).as_bytes()).unwrap(), "店".repeat(21));
    }
}
