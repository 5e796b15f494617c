//! Gardens: what guests reach without being online.

use std::fmt;
use std::str::FromStr;

use super::names::ZoneId;

/// Whose garden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Garden {
    /// A zone's, open to all its guests.
    Zone(ZoneId),
    /// The app's, open to devices with a pass.
    App,
}

/// A name in a garden: `pay.example.net`, or with `*.` in front every name below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    name: Box<str>,
    below: bool,
}

/// Not a host's name, nor one with `*.` in front.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a name such as pay.example.com or *.example.com")]
pub struct BadPattern;

impl Pattern {
    /// Whether `name`, in lower case and without a dot at its end, is one of these.
    pub fn covers(&self, name: &str) -> bool {
        if !self.below {
            return *self.name == *name;
        }
        let rest = name.strip_suffix(&*self.name).and_then(|rest| rest.strip_suffix('.'));
        rest.is_some_and(|rest| !rest.is_empty())
    }
}

impl FromStr for Pattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Self, BadPattern> {
        let (name, below) = text.strip_prefix("*.").map_or((text, false), |rest| (rest, true));
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(letter);
        // RFC 1035, section 2.3.4.
        if name.len() > 253 || !name.split('.').all(label) {
            return Err(BadPattern);
        }
        Ok(Self { name: name.to_ascii_lowercase().into(), below })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, below } = self;
        f.write_str(if *below { "*." } else { "" })?;
        f.write_str(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_cover_what_they_say() {
        let exact: Pattern = "Pay.Example.net".parse().unwrap();
        let below: Pattern = "*.example.net".parse().unwrap();
        assert!(exact.covers("pay.example.net") && !exact.covers("a.pay.example.net"));
        assert!(below.covers("pay.example.net") && below.covers("a.b.example.net"));
        for other in ["example.net", ".example.net", "badexample.net", "example.net.evil.org"] {
            assert!(!below.covers(other), "{other}");
        }
        for bad in ["", "*.", "*", "a b", "*.*.net", "http://x.net", "ü.net", "a..net", "a.net."] {
            assert_eq!(bad.parse::<Pattern>(), Err(BadPattern), "{bad}");
        }
        assert_eq!([exact.to_string(), below.to_string()], ["pay.example.net", "*.example.net"]);
    }
}
