//! Gardens: what guests reach before the login, and the app's, with a pass.

use std::str::FromStr;

use serde::{Deserialize, Deserializer};

use super::{Length, Network};
use crate::domain::garden::Pattern;

/// A part of a garden.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Addresses.
    Network(Network),
    /// Names, by the addresses that they lead to.
    Name(Pattern),
}

/// `[pass]`: the temporary pass to the app in which a guest follows the store's account.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pass {
    /// All that a pass opens, written as in `walled_garden`.
    pub garden: Vec<Place>,
    /// A pass ends after this long, 10 minutes at most.
    #[serde(default = "defaults::length")]
    pub length: Length,
    /// Passes of a device in a day.
    #[serde(default = "defaults::per_device_day")]
    pub per_device_day: u32,
    /// Passes of all devices in a day, 10,000 at most.
    #[serde(default = "defaults::per_store_day")]
    pub per_store_day: u32,
}

/// The networks of a garden.
pub fn networks(garden: &[Place]) -> impl Iterator<Item = Network> + '_ {
    garden.iter().filter_map(|place| match place {
        Place::Network(network) => Some(*network),
        Place::Name(_) => None,
    })
}

/// The names of a garden.
pub fn names(garden: &[Place]) -> impl Iterator<Item = &Pattern> {
    garden.iter().filter_map(|place| match place {
        Place::Network(_) => None,
        Place::Name(pattern) => Some(pattern),
    })
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(network) = text.parse() {
            return Ok(Self::Network(network));
        }
        // A name does not end in digits; this was meant to be an address.
        let digits = text.rsplit('.').next().is_none_or(|last| {
            last.is_empty() || last.starts_with(|first: char| first.is_ascii_digit())
        });
        match text.parse() {
            Ok(pattern) if !digits && text.contains('.') => Ok(Self::Name(pattern)),
            _ => Err(format!(
                "{text:?} is not an address, network or name, such as \"198.51.100.0/24\" or \
                 \"*.example.com\""
            )),
        }
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

mod defaults {
    use super::Length;

    pub(super) const fn length() -> Length {
        Length::seconds(60)
    }
    pub(super) const fn per_device_day() -> u32 {
        5
    }
    pub(super) const fn per_store_day() -> u32 {
        2000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_networks_and_names_are_told_apart() {
        for address in ["198.51.100.7", "198.51.100.0/24", "2001:db8::/32", "::1"] {
            assert!(matches!(address.parse(), Ok(Place::Network(_))), "{address}");
        }
        for name in ["pay.example.com", "*.Example.com", "a_b.example"] {
            assert!(matches!(name.parse(), Ok(Place::Name(_))), "{name}");
        }
        for neither in
            ["198.51.100.0/33", "198.51.100", "localhost", "*", "*.com.", "", "http://x.y"]
        {
            assert!(neither.parse::<Place>().is_err(), "{neither}");
        }
    }
}
