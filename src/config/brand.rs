//! `[brand]`: how the guests' pages look and what the store says on them.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

/// Bytes of the two pictures together: the whole page stays below 30 kB.
pub const PICTURES_MAX: usize = 16_000;
/// Bytes of the house rules, and of the offers, in one language.
const SHORT_MAX: usize = 1_500;
/// Bytes of a document in one language.
const DOCUMENT_MAX: usize = 20_000;

/// `[brand]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Brand {
    /// What stands at the top of the pages; the store's name if unset.
    pub name: Option<String>,
    /// The colour of buttons and links; made darker or lighter where it could not be read.
    pub colour: Option<Colour>,
    /// A picture beside the name: PNG, JPEG, WebP, GIF or SVG.
    pub logo: Option<PathBuf>,
    /// A picture above the first step.
    pub hero: Option<PathBuf>,
    /// What is said in Chinese.
    #[serde(rename = "zh-CN")]
    pub chinese: Words,
    /// What is said in English.
    #[serde(rename = "en")]
    pub english: Words,
}

/// What the store says in one language. Paragraphs are plain text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Words {
    /// The house rules, on the first step.
    pub rules: Vec<String>,
    /// What guests are offered once they are online.
    pub offers: Vec<Offer>,
    /// The Wi-Fi terms instead of ours; `portal.terms_version` is their version.
    pub terms: Vec<String>,
    /// The privacy notice instead of ours, of the same version.
    pub privacy: Vec<String>,
}

/// One offer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// What it is.
    pub title: String,
    /// A sentence about it.
    #[serde(default)]
    pub text: String,
    /// Where it leads; `https://`.
    pub url: Option<String>,
}

/// A colour: `"#0b5d45"`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Colour(pub [u8; 3]);

impl<'de> Deserialize<'de> for Colour {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let hex = text.strip_prefix('#').map(str::to_ascii_lowercase);
        let bytes = hex.and_then(|hex| data_encoding::HEXLOWER.decode(hex.as_bytes()).ok());
        bytes.and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or_else(|| {
            serde::de::Error::custom(format!("{text:?} is not a colour, such as \"#0b5d45\""))
        })
    }
}

impl fmt::Display for Colour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [red, green, blue] = self.0;
        write!(f, "#{red:02x}{green:02x}{blue:02x}")
    }
}

impl fmt::Debug for Colour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Words {
    /// What is wrong with them: the key, and how it should be.
    pub fn problem(&self) -> Option<(&'static str, &'static str)> {
        let length = |texts: &[String]| texts.iter().map(String::len).sum::<usize>();
        let offers: usize = self.offers.iter().map(Offer::length).sum();
        let secure = |offer: &Offer| {
            let url = offer.url.as_deref();
            url.is_none_or(|url| url.starts_with("https://") && url.parse::<hyper::Uri>().is_ok())
        };
        if length(&self.rules) > SHORT_MAX {
            Some(("rules", "must have at most 1500 bytes"))
        } else if offers > SHORT_MAX {
            Some(("offers", "must have at most 1500 bytes"))
        } else if !self.offers.iter().all(secure) {
            Some(("offers", "must lead to absolute https:// addresses"))
        } else if length(&self.terms) > DOCUMENT_MAX {
            Some(("terms", "must have at most 20000 bytes"))
        } else if length(&self.privacy) > DOCUMENT_MAX {
            Some(("privacy", "must have at most 20000 bytes"))
        } else {
            None
        }
    }
}

impl Offer {
    fn length(&self) -> usize {
        self.title.len() + self.text.len() + self.url.as_ref().map_or(0, String::len)
    }
}
