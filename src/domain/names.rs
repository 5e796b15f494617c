//! Newtypes for what must not be mixed: addresses, identities, times and amounts.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A device's MAC address (EUI-48, IEEE 802): how a device is known before its guest is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

impl Ord for Mac {
    /// As their bytes, but in one step: most of a start with thousands of guests is looking up.
    fn cmp(&self, other: &Self) -> Ordering {
        self.number().cmp(&other.number())
    }
}

impl PartialOrd for Mac {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Mac {
    fn number(self) -> u64 {
        let mut bytes = [0; 8];
        bytes[2..].copy_from_slice(&self.0);
        u64::from_be_bytes(bytes)
    }

    /// The locally-administered bit (IEEE 802, U/L): set in every randomised address.
    pub const fn is_randomised(self) -> bool {
        self.0[0] & 0x02 != 0
    }

    /// A station's own address: not a group (multicast, broadcast) and not all zero.
    pub fn is_station(self) -> bool {
        self.0[0] & 0x01 == 0 && self.0 != [0; 6]
    }
}

/// What is wrong with a text that should name something of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not six pairs of hexadecimal digits.
    #[error("a MAC address is six pairs of hexadecimal digits, such as 02:00:5e:10:00:01")]
    Mac,
    /// Not an E.164 number.
    #[error("a phone number has 8 to 15 digits after the country code's +")]
    Phone,
    /// Not a guest key.
    #[error("a guest key is 32 hexadecimal digits")]
    GuestKey,
}

impl FromStr for Mac {
    type Err = NameError;

    /// Accepts the separators people paste: `:`, `-` or none.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let digits: String = text.chars().filter(|c| !matches!(c, ':' | '-')).collect();
        let bytes = data_encoding::HEXLOWER_PERMISSIVE
            .decode(digits.as_bytes())
            .map_err(|_| NameError::Mac)?;
        Ok(Self(bytes.try_into().map_err(|_| NameError::Mac)?))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02x}", if place > 0 { ":" } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A zone, by its place in the configuration. Rows on disk carry the zone's name instead.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
pub struct ZoneId(pub u8);

/// One session's number; counts up over the life of the database.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[serde(transparent)]
pub struct SessionId(pub u64);

/// One visit's number; counts up over the life of the database.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[serde(transparent)]
pub struct VisitId(pub u64);

/// A live session's number in the connection mark; from 1, unshifted, unique among live sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Mark(pub u16);

impl Mark {
    /// The highest: the two bits above it are the firewall's own.
    pub const MOST: u16 = 0x3fff;
}

/// Names a question whose answer somebody awaits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u32);

/// A phone number in E.164 form without the `+` (ITU-T E.164: at most 15 digits).
///
/// Lives only as long as a code is on its way; what stays is the [`GuestKey`].
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Phone(String);

impl Phone {
    /// Reads what a guest typed: spaces, dashes and brackets are dropped, `+` or `00` starts an
    /// international number, anything else belongs to `country_code`.
    pub fn parse(text: &str, country_code: &str) -> Result<Self, NameError> {
        let kept: String = text
            .chars()
            .filter(|c| !c.is_whitespace() && !matches!(c, '-' | '(' | ')' | '.'))
            .filter_map(|c| match c {
                '\u{ff0b}' => Some('+'),
                // A Chinese input method may leave the digits full-width.
                '\u{ff10}'..='\u{ff19}' => char::from_digit(c as u32 - 0xff10, 10),
                _ => Some(c),
            })
            .collect();
        let digits = match kept.strip_prefix('+').or_else(|| kept.strip_prefix("00")) {
            Some(international) => international.to_owned(),
            None => format!("{country_code}{kept}"),
        };
        let well_formed = (8..=15).contains(&digits.len())
            && digits.bytes().all(|b| b.is_ascii_digit())
            && !digits.starts_with('0');
        // A mainland mobile number is 11 digits from 13x to 19x (MIIT numbering plan).
        let mainland = digits
            .strip_prefix("86")
            .is_none_or(|n| n.len() == 11 && n.starts_with('1') && n.as_bytes()[1] >= b'3');
        if well_formed && mainland { Ok(Self(digits)) } else { Err(NameError::Phone) }
    }

    /// The digits, country code first, for the sender alone.
    pub fn digits(&self) -> &str {
        &self.0
    }

    /// What staff may see: the last two digits.
    pub fn mask(&self) -> String {
        let tail = self.0.len().saturating_sub(2);
        format!("*{}", &self.0[tail..])
    }
}

/// A WeChat user's id within one account; does not print itself.
#[derive(Clone, PartialEq, Eq)]
pub struct OpenId(String);

impl OpenId {
    /// Letters, digits, `-` and `_`; 1 to 64.
    pub fn parse(text: &str) -> Option<Self> {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        ((1..=64).contains(&text.len()) && text.chars().all(good)).then(|| Self(text.to_owned()))
    }

    /// The id itself, to be hashed or answered.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for OpenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpenId(..)")
    }
}

impl fmt::Debug for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Phone(..)")
    }
}

/// A guest's identity as stored: a keyed hash (HMAC-SHA256, first 16 bytes) of phone or openid, or
/// what HQ has put in place of one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GuestKey(pub [u8; 16]);

impl GuestKey {
    /// A guest who was erased, and is nobody.
    pub const NOBODY: Self = Self([0; 16]);
}

/// Guests, and who each of them is from now on; [`GuestKey::NOBODY`] is forgotten.
pub type Renamed = BTreeMap<GuestKey, GuestKey>;

impl fmt::Display for GuestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for GuestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GuestKey(..)")
    }
}

impl FromStr for GuestKey {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let bytes = data_encoding::HEXLOWER_PERMISSIVE
            .decode(text.as_bytes())
            .map_err(|_| NameError::GuestKey)?;
        Ok(Self(bytes.try_into().map_err(|_| NameError::GuestKey)?))
    }
}

impl Serialize for GuestKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GuestKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Milliseconds since the machine started, sleep included (`CLOCK_BOOTTIME`): every deadline and
/// every dwell is counted on this clock.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
pub struct BootTime(pub u64);

impl Add<Duration> for BootTime {
    type Output = Self;

    fn add(self, length: Duration) -> Self {
        Self(self.0.saturating_add(millis(length)))
    }
}

impl Sub for BootTime {
    type Output = Duration;

    /// The time from `earlier` to here; zero if `earlier` is later.
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Milliseconds since 1970-01-01T00:00Z, from a clock that is known to be right.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[serde(transparent)]
pub struct WallTime(pub i64);

impl WallTime {
    /// Whole seconds since 1970, as tokens and certificates count.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }
}

impl Add<Duration> for WallTime {
    type Output = Self;

    fn add(self, length: Duration) -> Self {
        Self(self.0.saturating_add_unsigned(millis(length)))
    }
}

impl Sub for WallTime {
    type Output = Duration;

    /// The time from `earlier` to here; zero if `earlier` is later.
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// The moment an event is handled at: always an argument, never read inside the domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The boot clock.
    pub boot: BootTime,
    /// Wall time, once it is trusted.
    pub wall: Option<WallTime>,
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs_read_back_as_printed() {
        let mac: Mac = "02-00-5E-10-00-01".parse().unwrap();
        assert_eq!(mac.to_string(), "02:00:5e:10:00:01");
        assert!(mac.is_randomised() && mac.is_station());
        for bad in ["", "02:00:5e:10:00", "02:00:5e:10:00:01:02", "zz:00:5e:10:00:01", "二"] {
            assert_eq!(bad.parse::<Mac>(), Err(NameError::Mac), "{bad}");
        }
    }

    #[test]
    fn phones_are_read_as_guests_type_them() {
        for text in
            ["13800138000", "+86 138-0013-8000", "0086 13800138000", "１３８００１３８０００"]
        {
            let phone = Phone::parse(text, "86").unwrap();
            assert_eq!(phone.digits(), "8613800138000", "{text}");
            assert_eq!(phone.mask(), "*00");
        }
        assert_eq!(Phone::parse("+44 7700 900123", "86").unwrap().digits(), "447700900123");
        for bad in
            ["", "1380013800", "23800138000", "+", "+861", "abc", "+0123456789", "12800138000"]
        {
            assert!(Phone::parse(bad, "86").is_err(), "{bad}");
        }
    }

    #[test]
    fn secrets_do_not_print() {
        let phone = Phone::parse("13800138000", "86").unwrap();
        assert!(!format!("{phone:?}").contains('3'));
        assert!(!format!("{:?}", GuestKey([7; 16])).contains('7'));
    }

    #[test]
    fn times_never_wrap() {
        assert_eq!(BootTime(5) - BootTime(9), Duration::ZERO);
        assert_eq!(BootTime(u64::MAX) + Duration::from_secs(1), BootTime(u64::MAX));
        assert_eq!(WallTime(-1).seconds(), -1);
    }
}
