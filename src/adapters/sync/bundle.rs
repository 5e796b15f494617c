//! Down from HQ: one signed bundle for the stores, fetched after the batches.
//!
//! A bundle is two parts, on the wire as on disk: a line with the base64 of an Ed25519 signature
//! (RFC 8032) of `maitred bundle\0` and all that follows the line, then that, in JSON:
//!
//! ```json
//! {"version": 7, "store": "*", "brand": {"name": "Jade Mall", "colour": "#0b5d45",
//!   "logo": "base64", "hero": "base64", "terms_version": "2026-02",
//!   "zh-CN": {"rules": [], "offers": [], "terms": [], "privacy": []}, "en": {}},
//!   "vouchers": [{"batch": 3, "uses": 1, "seconds": 5400, "salt": "base64", "hashes": "base64"}]}
//! ```
//!
//! `store` is a store's id, or `*`. What a bundle does not say is as configured. `vouchers`, where it
//! stands, has all of HQ's batches ([`Bundled`]): one that it leaves out is revoked. Members that we
//! do not know are for later versions. `maitred bundle` (feature `hq`) makes batches and signs.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use ring::signature::Ed25519KeyPair;
use serde::Deserialize;
use tokio::sync::watch;
use tracing::{info, warn};

use super::vouchers::{self, Bundled};
use crate::adapters::client::{self, ClientError};
use crate::adapters::http::brand::{Brand, Brands, Parts, kind};
use crate::adapters::inbox::Inbox;
use crate::config::{Colour, Config, PICTURES_MAX, Secret, Words, display_name};
use crate::domain::auth::signature::is_signed;
use crate::domain::effect::{Answer, Report};
use crate::domain::event::{Command, Event};

/// A bundle has at most this many bytes.
pub const LONGEST: u64 = 256 * 1024;
/// What is signed besides the JSON, so that no other signature of HQ's is one of a bundle.
const PREFIX: &[u8] = b"maitred bundle\0";
/// The file's name in the state folder.
const FILE: &str = "bundle";
/// For the whole exchange.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why there is no new bundle. The one that was kept goes on.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// No connection, or one that broke or took too long.
    #[error("HQ's bundle cannot be fetched: {0}")]
    Unreachable(Box<ureq::Error>),
    /// HQ has none to give.
    #[error("HQ gives no bundle: status {0}")]
    Status(u16),
    /// More than [`LONGEST`].
    #[error("HQ's bundle has more than {LONGEST} bytes")]
    Size,
    /// Not signed by the key that we hold, or changed since.
    #[error("HQ's bundle is not signed by hq.bundle_key")]
    Signature,
    /// Not a bundle.
    #[error("HQ's bundle cannot be read: {0}")]
    Malformed(serde_json::Error),
    /// Another store's.
    #[error("HQ's bundle is for store {0}")]
    Store(String),
    /// What it says makes no sense.
    #[error("HQ's bundle cannot be used: {0}")]
    Content(&'static str),
    /// An old one, sent again.
    #[error("HQ's bundle has version {sent}, and version {held} is held already")]
    Older {
        /// The version sent.
        sent: u64,
        /// The version held.
        held: u64,
    },
    /// The gateway takes not all of its vouchers.
    #[error("HQ's vouchers are not taken: {0}")]
    Vouchers(String),
    /// It cannot be kept.
    #[error("{FILE} in the state folder: {0}")]
    File(#[from] io::Error),
    /// There is no client.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// What a bundle says to a store.
#[derive(Debug, Deserialize)]
pub struct Bundle {
    /// Grows with every bundle.
    pub version: u64,
    store: String,
    #[serde(default)]
    brand: Look,
    /// All of HQ's batches; `None` says nothing of them.
    vouchers: Option<Vec<Bundled>>,
}

/// The brand part of a bundle.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Look {
    name: Option<String>,
    colour: Option<Colour>,
    logo: Option<Encoded>,
    hero: Option<Encoded>,
    terms_version: Option<String>,
    #[serde(rename = "zh-CN")]
    chinese: Words,
    #[serde(rename = "en")]
    english: Words,
}

/// A picture in base64.
#[derive(Debug)]
struct Encoded(Vec<u8>);

impl<'de> Deserialize<'de> for Encoded {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64.decode(text.as_bytes()).map(Self).map_err(serde::de::Error::custom)
    }
}

/// Reads a bundle for `store`, as sent.
pub fn read(bytes: &[u8], key: &[u8; 32], store: &str) -> Result<Bundle, BundleError> {
    let place = bytes.iter().position(|byte| *byte == b'\n').ok_or(BundleError::Signature)?;
    let (signature, json) = (&bytes[..place], &bytes[place + 1..]);
    let signature = BASE64.decode(signature).map_err(|_| BundleError::Signature)?;
    if !is_signed(&[PREFIX, json].concat(), &signature, key) {
        return Err(BundleError::Signature);
    }
    let bundle: Bundle = serde_json::from_slice(json).map_err(BundleError::Malformed)?;
    if bundle.store != "*" && bundle.store != store {
        return Err(BundleError::Store(bundle.store));
    }
    bundle.brand.check()?;
    match vouchers::problem(bundle.vouchers.as_deref().unwrap_or_default()) {
        Some(problem) => Err(BundleError::Content(problem)),
        None => Ok(bundle),
    }
}

/// Signs a bundle's JSON, as HQ does.
pub fn sign(json: &str, key: &Ed25519KeyPair) -> Vec<u8> {
    let signature = key.sign(&[PREFIX, json.as_bytes()].concat());
    [BASE64.encode(signature.as_ref()).as_bytes(), b"\n", json.as_bytes()].concat()
}

impl Look {
    fn check(&self) -> Result<(), BundleError> {
        let fault = BundleError::Content;
        if !self.name.as_deref().is_none_or(display_name) {
            return Err(fault("name: 1 to 64 printable characters"));
        }
        let version = |text: &str| {
            (1..=32).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        if !self.terms_version.as_deref().is_none_or(version) {
            return Err(fault("terms_version: 1 to 32 letters, digits, '-', '_' or '.'"));
        }
        let documents = |words: &Words| !words.terms.is_empty() || !words.privacy.is_empty();
        let words = [&self.chinese, &self.english];
        if words.iter().any(|words| documents(words)) && self.terms_version.is_none() {
            return Err(fault("terms_version: missing beside other terms"));
        }
        if let Some((_, should)) = words.iter().find_map(|words| words.problem()) {
            return Err(fault(should));
        }
        let pictures = || [&self.logo, &self.hero].into_iter().flatten();
        if pictures().any(|picture| kind(&picture.0).is_none()) {
            return Err(fault("logo, hero: PNG, JPEG, WebP, GIF or SVG"));
        }
        if pictures().map(|picture| picture.0.len()).sum::<usize>() > PICTURES_MAX {
            return Err(fault("logo, hero: 16000 bytes together at most"));
        }
        Ok(())
    }

    /// What is shown: what this says, and `base` where it says nothing.
    fn over(self, base: &Parts) -> Parts {
        let list = |own: Vec<String>, base: &Vec<String>| {
            if own.is_empty() { base.clone() } else { own }
        };
        let words = |own: Words, base: &Words| Words {
            rules: list(own.rules, &base.rules),
            offers: if own.offers.is_empty() { base.offers.clone() } else { own.offers },
            terms: list(own.terms, &base.terms),
            privacy: list(own.privacy, &base.privacy),
        };
        let picture = |own: Option<Encoded>| own.map(|picture| picture.0);
        let mut parts = Parts {
            name: self.name.unwrap_or_else(|| base.name.clone()),
            colour: self.colour.or(base.colour),
            logo: picture(self.logo).or_else(|| base.logo.clone()),
            hero: picture(self.hero).or_else(|| base.hero.clone()),
            terms_version: self.terms_version.unwrap_or_else(|| base.terms_version.clone()),
            chinese: words(self.chinese, &base.chinese),
            english: words(self.english, &base.english),
        };
        if parts.pictures() > PICTURES_MAX {
            // Each is small enough alone: the store's own gives way.
            parts.hero = None;
        }
        parts
    }
}

/// Fetches bundles, keeps them, shows what they say, and hands their vouchers to the gateway.
#[derive(Debug)]
pub struct Bundles {
    inbox: Inbox,
    url: String,
    key: [u8; 32],
    token: Option<Secret>,
    ca_file: Option<PathBuf>,
    store: String,
    folder: PathBuf,
    base: Parts,
    shown: watch::Sender<Arc<Brand>>,
}

impl Bundles {
    /// What is shown from now on: `base`, as configured, and on top of it the bundle that is kept.
    /// `None` beside it if the store gets no bundles.
    pub fn open(config: &Config, base: Parts, inbox: &Inbox) -> (Option<Self>, Brands) {
        let hq = config.hq.as_ref();
        let source = hq.and_then(|hq| Some((hq, hq.bundle_url.clone()?, hq.bundle_key?.0)));
        let Some((hq, url, key)) = source else {
            return (None, watch::channel(Arc::new(Brand::new(base))).1);
        };
        let (shown, brand) = watch::channel(Arc::new(Brand::new(base.clone())));
        let bundles = Self {
            inbox: inbox.clone(),
            url,
            key,
            token: hq.token.clone(),
            ca_file: hq.ca_file.clone(),
            store: config.store.id.clone(),
            folder: config.store.state_dir.clone(),
            base,
            shown,
        };
        match bundles.held() {
            Ok(Some(bundle)) => bundles.show(bundle),
            Ok(None) => {}
            Err(problem) => warn!(%problem, "the kept bundle is passed over"),
        }
        (Some(bundles), brand)
    }

    /// Fetches a newer bundle, if HQ has one; the version held then. Blocks.
    pub fn renew(&self) -> Result<u64, BundleError> {
        // One that is damaged is replaced by whatever HQ has.
        let held = self.held().ok().flatten().map_or(0, |bundle| bundle.version);
        let Some(bytes) = self.fetch(held)? else { return Ok(held) };
        let bundle = read(&bytes, &self.key, &self.store)?;
        let sent = bundle.version;
        if sent < held {
            return Err(BundleError::Older { sent, held });
        }
        if sent > held {
            keep(&self.folder, &bytes)?;
            info!(version = sent, "HQ's new bundle is shown");
            self.show(bundle);
        }
        Ok(sent)
    }

    /// Tells the gateway all of HQ's batches, as the bundle that is kept has them. Blocks.
    pub fn hand_over(&self) -> Result<(), BundleError> {
        let Some(batches) = self.held()?.and_then(|bundle| bundle.vouchers) else { return Ok(()) };
        let batches = batches.iter().filter_map(Bundled::read).collect();
        let command = Command::VouchersFromHq(batches);
        match self.inbox.ask_and_wait(|request| Event::Control { request, command }) {
            Ok(Answer::Control(Report::Done)) => Ok(()),
            Ok(Answer::Control(Report::Refused(reason))) => Err(BundleError::Vouchers(reason)),
            _ => Err(BundleError::Vouchers("the gateway is too busy".into())),
        }
    }

    fn show(&self, bundle: Bundle) {
        self.shown.send_replace(Arc::new(Brand::new(bundle.brand.over(&self.base))));
    }

    fn held(&self) -> Result<Option<Bundle>, BundleError> {
        match std::fs::read(self.folder.join(FILE)) {
            Ok(bytes) => read(&bytes, &self.key, &self.store).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The bundle as HQ sends it; `None` if it has none that is newer.
    fn fetch(&self, held: u64) -> Result<Option<Vec<u8>>, BundleError> {
        let mut request = client::agent(&self.url, self.ca_file.as_deref(), PATIENCE)?
            .get(&self.url)
            .header("maitred-store", &self.store)
            .header("maitred-bundle", held.to_string());
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {}", token.reveal()));
        }
        let unreachable = |error| BundleError::Unreachable(Box::new(error));
        let mut answer = request.call().map_err(unreachable)?;
        match answer.status().as_u16() {
            200 => {}
            204 | 304 => return Ok(None),
            status => return Err(BundleError::Status(status)),
        }
        match answer.body_mut().with_config().limit(LONGEST).read_to_vec() {
            Ok(bytes) => Ok(Some(bytes)),
            Err(ureq::Error::BodyExceedsLimit(_)) => Err(BundleError::Size),
            Err(error) => Err(unreachable(error)),
        }
    }
}

/// Written beside, made durable, then renamed: a power cut leaves the old one or the new one.
fn keep(folder: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = folder.join(format!("{FILE}.new"));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, folder.join(FILE))?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer as _, SigningKey};

    use super::*;

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[7; 32])
    }

    fn signed(json: &str) -> Vec<u8> {
        let signature = key().sign(&[PREFIX, json.as_bytes()].concat());
        [BASE64.encode(&signature.to_bytes()).as_bytes(), b"\n", json.as_bytes()].concat()
    }

    fn said(bytes: &[u8]) -> String {
        read(bytes, &key().verifying_key().to_bytes(), "s1").unwrap_err().to_string()
    }

    #[test]
    fn only_what_hq_signed_for_this_store_is_read() {
        let good =
            signed(r#"{"version": 3, "store": "s1", "brand": {"name": "Jade"}, "later": 1}"#);
        let bundle = read(&good, &key().verifying_key().to_bytes(), "s1").unwrap();
        assert_eq!((bundle.version, bundle.brand.name.as_deref()), (3, Some("Jade")));
        for place in [0, 50, 100, good.len() - 1] {
            let mut changed = good.clone();
            changed[place] ^= 1;
            assert!(said(&changed).contains("not signed"), "byte {place}");
        }
        assert!(said(b"").contains("not signed") && said(b"\n{}").contains("not signed"));
        // The same words, signed for something else.
        let json = r#"{"version": 3, "store": "*"}"#;
        let bare = BASE64.encode(&key().sign(json.as_bytes()).to_bytes());
        assert!(said(format!("{bare}\n{json}").as_bytes()).contains("not signed"));
        let other = signed(r#"{"version": 3, "store": "s2"}"#);
        assert!(said(&other).contains("for store s2"));
        assert!(said(&signed("[]")).contains("cannot be read"));
    }

    #[test]
    fn what_cannot_be_shown_is_refused() {
        let with = |brand: &str| {
            said(&signed(&format!(r#"{{"version": 1, "store": "*", "brand": {{{brand}}}}}"#)))
        };
        let large = BASE64.encode(&[b"\x89PNG\r\n\x1a\n".as_slice(), &[0; PICTURES_MAX]].concat());
        assert!(with(&format!("\"logo\": \"{large}\"")).contains("16000 bytes"));
        assert!(with(r#""logo": "aGVsbG8=""#).contains("PNG"));
        assert!(with(r#""logo": "!""#).contains("cannot be read"));
        assert!(with(r#""colour": "green""#).contains("not a colour"));
        assert!(with(r#""name": """#).contains("name"));
        assert!(with(r#""en": {"terms": ["x"]}"#).contains("terms_version"));
        assert!(
            with(r#""en": {"offers": [{"title": "x", "url": "http://x/"}]}"#).contains("https")
        );
        let long = "x".repeat(1_501);
        assert!(with(&format!(r#""en": {{"rules": ["{long}"]}}"#)).contains("1500"));
    }
}
