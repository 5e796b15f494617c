//! The backend's own configuration.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use data_encoding::BASE64;
use serde::Deserialize;

use crate::config::{Length, Secret};
use crate::domain::auth::follow;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("{path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is not such a file.
    #[error("{path}: {error}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        error: Box<toml::de::Error>,
    },
    /// It says something impossible.
    #[error("{path}: {what}")]
    Contradiction {
        /// The file.
        path: PathBuf,
        /// What.
        what: String,
    },
}

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Folder of the database and the key that hashes openids, mode 0700.
    pub state_dir: PathBuf,
    /// File of the key that signs tokens, as `maitred token --generate` makes it. To change it: give
    /// every gateway the new public half beside the old one, change it here, take the old one away.
    pub key: PathBuf,
    /// A link is good for this long, a day at most.
    #[serde(default = "link_lifetime")]
    pub link_lifetime: Length,
    /// The account.
    pub wechat: Wechat,
    /// The stores.
    #[serde(rename = "store")]
    pub stores: Vec<Store>,
}

/// `[wechat]`: the account, as its settings page has it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wechat {
    /// The account's `AppID`.
    pub app_id: String,
    /// Its `AppSecret`, for asking WeChat.
    pub app_secret: Secret,
    /// The token of its message push.
    pub token: Secret,
    /// The `EncodingAESKey`, 43 characters: with it only pushes in safe mode are taken.
    pub aes_key: Option<Secret>,
    /// WeChat's API.
    #[serde(default = "api")]
    pub api: String,
    /// Certificates that the API's may be signed by; the system's bundle if unset.
    pub ca_file: Option<PathBuf>,
}

/// `[[store]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// The store's id, as its gateway has it.
    pub id: String,
    /// Its portal as guests reach it: `http://wifi.example.com:2050`.
    pub portal: String,
    /// Its gateway's bearer token.
    pub token: Secret,
    /// QR codes that WeChat is asked for in a day; the account has 100,000 for all stores.
    #[serde(default = "tickets")]
    pub tickets_per_day: u32,
}

impl Settings {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Self, SettingsError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| SettingsError::Read { path: path.to_owned(), error })?;
        let settings: Self = toml::from_str(&text).map_err(|error| SettingsError::Malformed {
            path: path.to_owned(),
            error: Box::new(error),
        })?;
        match settings.contradiction() {
            Some(what) => Err(SettingsError::Contradiction { path: path.to_owned(), what }),
            None => Ok(settings),
        }
    }

    fn contradiction(&self) -> Option<String> {
        if self.link_lifetime.0.is_zero() || self.link_lifetime.0 > follow::LONGEST {
            return Some("link_lifetime must be above 0, 1d at most".into());
        }
        if self.wechat.aes_key.is_some() && self.wechat.aes_key().is_none() {
            return Some("wechat.aes_key must be 43 letters and digits".into());
        }
        if self.stores.is_empty() {
            return Some("there must be at least one [[store]]".into());
        }
        let mut known: BTreeMap<_, &str> = BTreeMap::new();
        for store in &self.stores {
            if !store.portal.starts_with("http://") && !store.portal.starts_with("https://") {
                return Some(format!("store {}: portal must be an http address", store.id));
            }
            if store.token.reveal().is_empty() {
                return Some(format!("store {}: token must not be empty", store.id));
            }
            // Cards carry four bytes of a hash of the id.
            if let Some(other) = known.insert(follow::store(&store.id), &store.id) {
                return Some(format!("stores {other} and {}: choose another id", store.id));
            }
        }
        None
    }
}

impl Wechat {
    /// The bytes of the `EncodingAESKey`, if there is a good one. Its last character has two bits
    /// too many, which may be anything.
    pub(super) fn aes_key(&self) -> Option<[u8; 32]> {
        let mut lenient = BASE64.specification();
        lenient.check_trailing_bits = false;
        let padded = format!("{}=", self.aes_key.as_ref()?.reveal());
        lenient.encoding().ok()?.decode(padded.as_bytes()).ok()?.try_into().ok()
    }
}

const fn link_lifetime() -> Length {
    Length::minutes(5)
}

fn api() -> String {
    "https://api.weixin.qq.com".into()
}

const fn tickets() -> u32 {
    2000
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "listen = \"127.0.0.1:1\"\nstate_dir = \"/s\"\nkey = \"/k\"\n\
        [wechat]\napp_id = \"wx1\"\napp_secret = \"hush\"\ntoken = \"hush\"\n\
        aes_key = \"jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C\"\n\
        [[store]]\nid = \"s1\"\nportal = \"http://wifi.example\"\ntoken = \"hush\"\n";

    fn load(text: &str) -> Result<Settings, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hq.toml");
        std::fs::write(&path, text).unwrap();
        Settings::load(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_is_read_and_its_secrets_never_print() {
        let settings = load(GOOD).unwrap();
        assert!(settings.wechat.aes_key().is_some(), "the last character's spare bits are ignored");
        assert_eq!(settings.wechat.api, "https://api.weixin.qq.com");
        let printed = format!("{settings:?}");
        assert!(!printed.contains("hush") && !printed.contains("jWmYm"), "{printed}");
    }

    #[test]
    fn the_example_is_good() {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/hq.toml");
        assert_eq!(Settings::load(&example).unwrap().stores[0].id, "mall-1");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let more = |line: &str| format!("{GOOD}[[store]]\nid = \"s2\"\nportal = \"{line}\n");
        for (text, said) in [
            (GOOD.replace("jWm", "j-m"), "aes_key"),
            (
                GOOD.replace("key = \"/k\"", "key = \"/k\"\nlink_lifetime = \"25h\""),
                "link_lifetime",
            ),
            (GOOD.replace("http://wifi", "ftp://wifi"), "portal"),
            (GOOD.replace("id = \"s1\"", "id = \"s1\"\nstrange = 1"), "strange"),
            (more("http://x\"\ntoken = \"\""), "token"),
            (more("http://x\"\ntoken = \"t\"").replace("s2", "s1"), "choose another id"),
        ] {
            let error = load(&text).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        assert!(load("").is_err() && Settings::load(Path::new("/nowhere")).is_err());
    }
}
