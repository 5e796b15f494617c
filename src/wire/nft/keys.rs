//! Set keys and register contents.
//!
//! A concatenated key pads each part on the right to whole 4-byte registers. Marks and ct states
//! are in the host's byte order, addresses and ports in the network's.

use std::net::IpAddr;

/// nft's numbers for data types: only `nft list` reads them.
pub mod datatype {
    pub const IPV4: u32 = 7;
    pub const IPV6: u32 = 8;
    pub const ETHER: u32 = 9;
    pub const MARK: u32 = 19;
    pub const ICMPV6_TYPE: u32 = 29;
    pub const IFNAME: u32 = 41;
    pub const ETHER_MARK: u32 = ETHER << 6 | MARK;
    pub const IFNAME_ETHER: u32 = IFNAME << 6 | ETHER;
    pub const IFNAME_IPV4: u32 = IFNAME << 6 | IPV4;
    pub const IFNAME_IPV6: u32 = IFNAME << 6 | IPV6;
    /// `NFT_DATA_VERDICT`
    pub const VERDICT: u32 = 0xffff_ff00;
}

/// Length of an interface name in a register (IFNAMSIZ).
pub const IFNAME_LEN: usize = 16;
/// Length of `ifname . ether_addr`.
pub const DEVICE_LEN: usize = IFNAME_LEN + 8;
/// Length of a [`tail`].
pub const TAIL_LEN: usize = 4;
/// Length of `ether_addr . mark`.
pub const STATION_LEN: usize = 8 + 4;

pub type MacBytes = [u8; 6];

/// An interface name, padded with NULs; longer than 15 bytes is cut, as the kernel would refuse it.
pub fn ifname(name: &str) -> Vec<u8> {
    let mut key: Vec<u8> = name.bytes().take(IFNAME_LEN - 1).collect();
    key.resize(IFNAME_LEN, 0);
    key
}

/// `ifname . ether_addr`
pub fn device(name: &str, mac: MacBytes) -> Vec<u8> {
    let mut key = ifname(name);
    key.extend_from_slice(&mac);
    key.resize(DEVICE_LEN, 0);
    key
}

/// `ifname . ipv4_addr` or `ifname . ipv6_addr`
pub fn place(name: &str, ip: IpAddr) -> Vec<u8> {
    [ifname(name), address(ip)].concat()
}

/// The reverse of [`device`].
pub fn parse_device(key: &[u8]) -> Option<(String, MacBytes)> {
    let (name, rest) = key.split_at_checked(IFNAME_LEN)?;
    let end = name.iter().position(|byte| *byte == 0)?;
    let name = std::str::from_utf8(&name[..end]).ok()?.to_owned();
    Some((name, rest.get(..6)?.try_into().ok()?))
}

/// `ether_addr . mark`
pub fn station(mac: MacBytes, mark: u32) -> Vec<u8> {
    let mut key = mac.to_vec();
    key.resize(STATION_LEN - 4, 0);
    key.extend_from_slice(&mark.to_ne_bytes());
    key
}

/// The last four bytes of an address.
pub fn tail([_, _, tail @ ..]: MacBytes) -> Vec<u8> {
    tail.to_vec()
}

/// A mark as it stands in a register: host order.
pub fn mark(value: u32) -> Vec<u8> {
    value.to_ne_bytes().to_vec()
}

pub fn parse_mark(key: &[u8]) -> Option<u32> {
    key.try_into().ok().map(u32::from_ne_bytes)
}

pub fn address(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// First address of a prefix and the first one behind it (`None`: the prefix ends the space).
pub fn prefix(ip: IpAddr, len: u8) -> (Vec<u8>, Option<Vec<u8>>) {
    let mut start = address(ip);
    let bits = start.len() * 8;
    let len = usize::from(len).min(bits);
    for bit in len..bits {
        start[bit / 8] &= !(0x80 >> (bit % 8));
    }
    let mut end = start.clone();
    let mut bit = len;
    while bit > 0 {
        bit -= 1;
        let (byte, flag) = (bit / 8, 0x80 >> (bit % 8));
        end[byte] ^= flag;
        if end[byte] & flag != 0 {
            return (start, Some(end));
        }
    }
    (start, None)
}

const UDATA_COMMENT: u8 = 0;

/// Element user data that carries a session id. It is nft's own comment record, so `nft list`
/// shows it and, unlike free bytes, does not misread it.
pub fn session_user_data(session: u64) -> Vec<u8> {
    let text = format!("{session:016x}\0");
    let mut data = vec![UDATA_COMMENT, 17];
    data.extend_from_slice(text.as_bytes());
    data
}

pub fn parse_session(user: &[u8]) -> Option<u64> {
    let text = user.strip_prefix(&[UDATA_COMMENT, 17])?.strip_suffix(&[0])?;
    u64::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()
}
