//! Who is heard and what they are answered. Blocks on the database; time is an argument.

use std::time::Duration;

use askama::Template;
use ring::signature::Ed25519KeyPair;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::book::{Book, BookError, Known};
use super::config::{Settings, Store};
use super::message::{self, Answer, Push, Sealed, What};
use super::seal::{Seal, is_signed, signature};
use crate::domain::Secrets;
use crate::domain::auth::follow::{self, Card, Token};
use crate::domain::names::{GuestKey, WallTime};

/// A push whose time stamp is further off than this is not heard.
const WINDOW: Duration = Duration::from_mins(5);
/// Pushes are kept for this long, in milliseconds: the window reaches both ways.
const KEPT_MS: i64 = 15 * 60 * 1000;
/// WeChat repeats a push that it got no answer to: three times, 5 s apart.
const REPEATS: Duration = Duration::from_secs(20);
/// What WeChat takes for "there is no answer".
const NOTHING: &str = "success";

/// Why a push is not heard.
#[derive(Debug, thiserror::Error)]
pub(super) enum DeskError {
    /// Not signed with the account's token, or not sealed though it should be.
    #[error("it is not signed by WeChat")]
    Unsigned,
    /// Its time stamp is too old or too far ahead.
    #[error("its time stamp is {0} s off")]
    Stale(i64),
    /// Its nonce was used before.
    #[error("it was heard before")]
    Replayed,
    /// Not a push.
    #[error("it cannot be read")]
    Malformed,
    /// The database refused.
    #[error(transparent)]
    Book(#[from] BookError),
    /// No random numbers.
    #[error("the system has no random numbers: {0}")]
    Random(getrandom::Error),
    /// A template failed.
    #[error("the answer cannot be written: {0}")]
    Text(#[from] askama::Error),
}

/// The query of a push.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Query {
    pub(super) signature: String,
    pub(super) msg_signature: String,
    pub(super) timestamp: String,
    pub(super) nonce: String,
    pub(super) echostr: String,
}

/// Everything that answering takes.
pub(super) struct Desk {
    token: crate::config::Secret,
    /// In safe mode.
    seal: Option<Seal>,
    key: Ed25519KeyPair,
    lifetime: Duration,
    secrets: Secrets,
    stores: Vec<Store>,
    book: Book,
}

/// A push that was verified.
struct Heard {
    stamp: i64,
    digest: [u8; 32],
    xml: String,
}

impl Desk {
    pub(super) fn new(
        settings: &Settings,
        key: Ed25519KeyPair,
        secrets: Secrets,
        book: Book,
    ) -> Self {
        let wechat = &settings.wechat;
        let seal = |key| Seal { key, app_id: wechat.app_id.clone() };
        Self {
            token: wechat.token.clone(),
            seal: wechat.aes_key().map(seal),
            key,
            lifetime: settings.link_lifetime.0,
            secrets,
            stores: settings.stores.clone(),
            book,
        }
    }

    /// The echo that shows WeChat that this is the account's backend.
    pub(super) fn echo(&self, query: &Query, now: WallTime) -> Result<String, DeskError> {
        let parts = [self.token.reveal(), &query.timestamp, &query.nonce];
        if !is_signed(&query.signature, &parts) {
            return Err(DeskError::Unsigned);
        }
        // In plain mode the signature fits any words: it must not serve for a push as well.
        let (digest, nonce) = (Sha256::digest(&query.echostr).into(), query.nonce.as_str());
        self.book.note(
            (stamp(query, now)?, nonce),
            (&digest, &digest),
            None,
            now,
            kept_since(now),
        )?;
        Ok(query.echostr.clone())
    }

    /// What WeChat is answered to a push.
    pub(super) fn push(
        &mut self,
        query: &Query,
        body: &str,
        now: WallTime,
    ) -> Result<String, DeskError> {
        let Heard { stamp, digest, xml } = self.hear(query, body, now)?;
        let nonce = (stamp, query.nonce.as_str());
        let push = message::read(&xml).ok_or(DeskError::Malformed)?;
        let text = match self.book.pushed(nonce, &digest)? {
            Known::Forged => return Err(DeskError::Replayed),
            Known::Answered { at, .. } if now - at > REPEATS => return Err(DeskError::Replayed),
            Known::Answered { text, .. } => text,
            Known::No => {
                let guest = self.secrets.openid_guest(&push.from);
                let message: [u8; 32] =
                    Sha256::digest([&guest.0, push.mark.as_bytes()].concat()).into();
                let text = match self.book.answered(&message)? {
                    Known::Answered { text, .. } => text,
                    _ => self.answer(&push, guest, now)?,
                };
                let hashes = (&digest, &message);
                self.book.note(nonce, hashes, text.as_deref(), now, kept_since(now))?;
                text
            }
        };
        match text {
            Some(text) => self.written(&push, &text, now),
            None => Ok(NOTHING.into()),
        }
    }

    /// The store whose gateway asks, if it has shown its token.
    pub(super) fn store(&self, id: &str, token: &str) -> Option<&Store> {
        self.stores.iter().find(|store| {
            store.id == id && store.token.reveal().as_bytes().ct_eq(token.as_bytes()).into()
        })
    }

    /// See [`Book::erasures`].
    pub(super) fn erasures(
        &self,
        store: &str,
        done: &[i64],
    ) -> Result<Vec<(i64, GuestKey)>, BookError> {
        self.book.erasures(store, done)
    }

    /// Checks signature and time, and unseals.
    fn hear(&self, query: &Query, body: &str, now: WallTime) -> Result<Heard, DeskError> {
        let (token, digest) = (self.token.reveal(), Sha256::digest(body).into());
        let xml = if let Some(seal) = &self.seal {
            let text = message::sealed(body).ok_or(DeskError::Unsigned)?;
            if !is_signed(&query.msg_signature, &[token, &query.timestamp, &query.nonce, &text]) {
                return Err(DeskError::Unsigned);
            }
            seal.open(&text).ok_or(DeskError::Unsigned)?
        } else {
            if !is_signed(&query.signature, &[token, &query.timestamp, &query.nonce]) {
                return Err(DeskError::Unsigned);
            }
            body.to_owned()
        };
        Ok(Heard { stamp: stamp(query, now)?, digest, xml })
    }

    /// The text for somebody who did something; `None` says nothing.
    fn answer(
        &mut self,
        push: &Push,
        guest: GuestKey,
        now: WallTime,
    ) -> Result<Option<String>, DeskError> {
        let shown = match &push.what {
            What::Subscribe(None) => return Ok(Some(Welcome.render()?)),
            What::Subscribe(Some(scene)) | What::Scan(scene) => scene,
            // What is no code is for others to answer.
            What::Text(text) if !looks_like_a_code(text) => return Ok(None),
            What::Text(text) => text,
            What::Unsubscribe => {
                self.book.forget(guest)?;
                return Ok(None);
            }
            What::Other => return Ok(None),
        };
        let card = Card::read(shown);
        let store = card.and_then(|card| {
            self.stores.iter().find(|store| follow::store(&store.id) == card.store)
        });
        match (card, store, &push.what) {
            (Some(card), Some(store), _) => {
                let link = self.link(store, card, guest, now)?;
                self.book.visits(guest, &store.id)?;
                Ok(Some(link))
            }
            (_, _, What::Text(_)) => Ok(Some(Mistyped.render()?)),
            // A scene of another campaign of the account.
            (_, _, What::Subscribe(_)) => Ok(Some(Welcome.render()?)),
            _ => Ok(None),
        }
    }

    fn link(
        &self,
        store: &Store,
        card: Card,
        guest: GuestKey,
        now: WallTime,
    ) -> Result<String, DeskError> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(DeskError::Random)?;
        let seconds = |at: WallTime| u32::try_from(at.seconds()).unwrap_or(0);
        let (issued, expires) = (seconds(now), seconds(now + self.lifetime));
        let token = Token { card, guest, issued, expires, nonce }.mint(&self.key);
        let link = format!("{}/f/{token}", store.portal.trim_end_matches('/'));
        let minutes = self.lifetime.as_secs().div_ceil(60);
        Ok(Link { minutes, link: &link }.render()?)
    }

    /// The answer as WeChat reads it, sealed in safe mode.
    fn written(&self, push: &Push, text: &str, now: WallTime) -> Result<String, DeskError> {
        let seconds = now.seconds();
        let plain = Answer { push, seconds, text }.render()?;
        let Some(seal) = &self.seal else { return Ok(plain) };
        let mut random = [0; 24];
        getrandom::fill(&mut random).map_err(DeskError::Random)?;
        let (padding, nonce) = random.split_at(16);
        let mut block = [0; 16];
        block.copy_from_slice(padding);
        let nonce = data_encoding::HEXLOWER.encode(nonce);
        let text = seal.close(block, &plain);
        let signature = signature(&[self.token.reveal(), &seconds.to_string(), &nonce, &text]);
        Ok(Sealed { text: &text, signature: &signature, seconds, nonce: &nonce }.render()?)
    }
}

/// What came before cannot come again.
fn kept_since(now: WallTime) -> WallTime {
    WallTime(now.0.saturating_sub(KEPT_MS))
}

/// The push's time stamp, if it is of now.
fn stamp(query: &Query, now: WallTime) -> Result<i64, DeskError> {
    let stamp: i64 = query.timestamp.parse().map_err(|_| DeskError::Malformed)?;
    let off = now.seconds().saturating_sub(stamp);
    if off.unsigned_abs() > WINDOW.as_secs() {
        return Err(DeskError::Stale(off));
    }
    Ok(stamp)
}

/// Sixteen letters and digits, give or take two: a code, or one that was mistyped.
fn looks_like_a_code(text: &str) -> bool {
    let signs = text.chars().filter(|c| !c.is_whitespace() && !c.is_ascii_punctuation());
    let (mut count, mut digits) = (0, 0);
    for sign in signs {
        let plain = sign.is_ascii_alphanumeric() || ('\u{ff10}'..='\u{ff5a}').contains(&sign);
        if !plain || count == 18 {
            return false;
        }
        count += 1;
        digits += u32::from(sign.is_numeric());
    }
    count >= 14 && digits > 0
}

#[derive(Template)]
#[template(path = "hq/link.txt")]
struct Link<'a> {
    minutes: u64,
    link: &'a str,
}

#[derive(Template)]
#[template(path = "hq/mistyped.txt")]
struct Mistyped;

#[derive(Template)]
#[template(path = "hq/welcome.txt")]
struct Welcome;

#[cfg(test)]
mod tests;
