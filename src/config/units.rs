//! The values that a configuration is written in, each checked where it stands.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::domain::auth::signature::is_key;

/// A length of time: `"90s"`, `"5m"`, `"4h 30m"`, `"2d"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Length(pub Duration);

impl Length {
    /// So many seconds.
    pub const fn seconds(count: u64) -> Self {
        Self(Duration::from_secs(count))
    }

    /// So many minutes.
    pub const fn minutes(count: u64) -> Self {
        Self(Duration::from_secs(count * 60))
    }
}

impl FromStr for Length {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = |what: &str| format!("{text:?} is not {what}");
        let span: jiff::Span =
            text.parse().map_err(|_| wanted("a length of time, such as \"5m\" or \"4h\""))?;
        let span = span
            .to_duration(jiff::SpanRelativeTo::days_are_24_hours())
            .map_err(|_| wanted("a length of time in days or less"))?;
        Duration::try_from(span).map(Self).map_err(|_| wanted("a length of time, not below zero"))
    }
}

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// An amount of bytes: `"500kB"`, `"2MB"`, `"1GB"` (powers of ten) or `"2MiB"` (powers of two).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount(pub u64);

impl FromStr for Amount {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let number: u64 = number.parse().map_err(|_| ())?;
        let factor: u64 = match unit.trim() {
            "B" => 1,
            "kB" | "KB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(()),
        };
        number.checked_mul(factor).filter(|bytes| *bytes > 0).map(Self).ok_or(())
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|()| {
            bad(&text, "an amount of bytes above zero, such as \"500kB\", \"2MB\" or \"1GiB\"")
        })
    }
}

/// A time of day: `"03:30"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeOfDay {
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
}

impl<'de> Deserialize<'de> for TimeOfDay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parts = text.split_once(':').and_then(|(hour, minute)| {
            let (hour, minute) = (hour.parse().ok()?, minute.parse().ok()?);
            (hour < 24 && minute < 60).then_some(Self { hour, minute })
        });
        parts.ok_or_else(|| bad(&text, "a time of day, such as \"03:30\""))
    }
}

/// A text that never prints: a password hash, a token.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self).map_err(|error| {
            // serde's own message about a value of another type would print it.
            let missing = error.to_string().starts_with("missing field");
            let mistyped = || serde::de::Error::custom("a secret is a text in quotes");
            if missing { error } else { mistyped() }
        })
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// An Ed25519 public key (RFC 8032), in base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey(pub [u8; 32]);

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = data_encoding::BASE64.decode(text.as_bytes()).ok();
        let key: Option<[u8; 32]> = bytes.and_then(|bytes| bytes.try_into().ok());
        key.filter(is_key)
            .map(Self)
            .ok_or_else(|| bad(&text, "an Ed25519 public key: 32 bytes in base64"))
    }
}

/// An X25519 public key (RFC 7748), in base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealKey(pub [u8; 32]);

impl<'de> Deserialize<'de> for SealKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = data_encoding::BASE64.decode(text.as_bytes()).ok();
        bytes
            .and_then(|bytes| bytes.try_into().ok())
            // Anybody opens what is sealed to a row of zeroes (RFC 7748, section 6.1).
            .filter(|key| *key != [0; 32])
            .map(Self)
            .ok_or_else(|| bad(&text, "an X25519 public key: 32 bytes in base64"))
    }
}

/// An address or a network: `198.51.100.7`, `2001:db8::/32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// The first address; host bits are zero.
    pub address: IpAddr,
    /// 0 to 32 or 128.
    pub prefix: u8,
}

impl Network {
    /// Whether an address lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let prefix = u32::from(self.prefix);
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let apart = own.to_bits() ^ other.to_bits();
                apart.leading_zeros() >= prefix
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let apart = own.to_bits() ^ other.to_bits();
                apart.leading_zeros() >= prefix
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| ())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(most), str::parse).map_err(|_| ())?;
        if prefix > most {
            return Err(());
        }
        let address = match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(u32::from(32 - prefix)).unwrap_or(0);
                IpAddr::V4((u32::from(v4) & mask).into())
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(u32::from(128 - prefix)).unwrap_or(0);
                IpAddr::V6((u128::from(v6) & mask).into())
            }
        };
        Ok(Self { address, prefix })
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|()| bad(&text, "an address or network, such as \"198.51.100.0/24\""))
    }
}

/// A port of the router: `tcp/80`, `udp/5353`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouterPort {
    /// UDP instead of TCP.
    pub udp: bool,
    /// The port.
    pub port: u16,
}

impl<'de> Deserialize<'de> for RouterPort {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parts = text.split_once('/').and_then(|(protocol, port)| {
            let udp = match protocol {
                "tcp" => false,
                "udp" => true,
                _ => return None,
            };
            Some(Self { udp, port: port.parse().ok().filter(|port| *port > 0)? })
        });
        parts.ok_or_else(|| bad(&text, "a port, such as \"tcp/80\""))
    }
}

fn bad<E: serde::de::Error>(text: &str, wanted: &str) -> E {
    E::custom(format!("{text:?} is not {wanted}"))
}
