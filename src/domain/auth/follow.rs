//! Follow tokens: HQ's word that a guest follows the store's account, checked without HQ.
//!
//! A token is the unpadded base64url (RFC 4648, section 5) of these bytes, integers big-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version, 1 |
//! | 9 | the [`Card`] of the device that the token is for |
//! | 16 | guest key of the openid |
//! | 4 | issued, seconds since 1970 |
//! | 4 | expires, seconds since 1970 |
//! | 16 | one-time number |
//! | 64 | Ed25519 signature (RFC 8032) of `maitred follow token\0` and all bytes above |

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use ring::signature::Ed25519KeyPair;
use sha2::{Digest, Sha256};

use super::signature::is_signed;
use crate::domain::effect::Refusal;
use crate::domain::names::{GuestKey, Mac, WallTime};

/// A token that is good for longer than this was not made by HQ as agreed.
pub const LONGEST: Duration = Duration::from_hours(24);

const VERSION: u8 = 1;
const SIGNED: usize = 50;
const LENGTH: usize = SIGNED + 64;
const PREFIX: &[u8] = b"maitred follow token\0";
/// HQ's clock may be ahead of ours by this much.
const SKEW: Duration = Duration::from_mins(5);

/// The one-time number of a token.
pub type Nonce = [u8; 16];

/// Names a device of a store to the account, and nobody else: a QR code's scene, the code that is
/// sent to the account instead, and the token made in answer all carry it. Whoever makes one up
/// gets a token that is good on that device alone, where they could have followed as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Card {
    /// First bytes of SHA-256 of `maitred store\0` and the store's id.
    pub store: [u8; 4],
    /// First bytes of SHA-256 of `maitred scene\0`, the store's id, `\0`, the zone's name, `\0` and
    /// the six bytes of the MAC address.
    pub scene: [u8; 5],
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The device that it is for.
    pub card: Card,
    /// Who follows.
    pub guest: GuestKey,
    /// Seconds since 1970.
    pub issued: u32,
    /// Seconds since 1970; at most [`LONGEST`] after `issued`.
    pub expires: u32,
    /// Makes it good once.
    pub nonce: Nonce,
}

/// A store's id as cards carry it; see [`Card::store`].
pub fn store(store_id: &str) -> [u8; 4] {
    short(&[b"maitred store\0", store_id.as_bytes()])
}

impl Card {
    /// The card of a device in a zone of a store.
    pub fn new(store_id: &str, zone_name: &str, mac: Mac) -> Self {
        let parts: [&[u8]; 6] =
            [b"maitred scene\0", store_id.as_bytes(), b"\0", zone_name.as_bytes(), b"\0", &mac.0];
        Self { store: store(store_id), scene: short(&parts) }
    }

    /// Sixteen of Douglas Crockford's base-32 digits: the card's nine bytes and a check byte (the
    /// first of SHA-256 of `maitred card\0` and the nine).
    pub fn code(&self) -> String {
        let mut bytes = [0; 16];
        bytes[6..10].copy_from_slice(&self.store);
        bytes[10..15].copy_from_slice(&self.scene);
        bytes[15] = check(&bytes[6..15]);
        let number = u128::from_be_bytes(bytes);
        let digit = |place: u32| DIGITS[(number >> (75 - 5 * place) & 31) as usize];
        (0..16).map(|place| char::from(digit(place))).collect()
    }

    /// Reads a code as people send it: in either case, with spaces or hyphens, with the letters
    /// that look like digits, full-width. `None` if it is none, or mistyped.
    pub fn read(text: &str) -> Option<Self> {
        let mut number: u128 = 0;
        let mut count = 0;
        for c in text.chars().filter(|c| !c.is_whitespace() && !matches!(c, '-' | '－' | '—')) {
            number = number << 5 | digit(c)?;
            count += 1;
            if count > 16 {
                return None;
            }
        }
        let bytes = number.to_be_bytes();
        if count != 16 || check(&bytes[6..15]) != bytes[15] {
            return None;
        }
        let mut rest = &bytes[6..];
        Some(Self { store: take(&mut rest)?, scene: take(&mut rest)? })
    }
}

impl Token {
    /// Signs the token: the text after `/f/`.
    pub fn mint(&self, key: &Ed25519KeyPair) -> String {
        let mut bytes = self.signed();
        let signature = key.sign(&message(&bytes));
        bytes.extend_from_slice(signature.as_ref());
        BASE64URL_NOPAD.encode(&bytes)
    }

    /// Reads a token and checks all of it but the one-time number: shape and signature
    /// ([`Refusal::BadToken`]), the device ([`Refusal::TokenElsewhere`]), and time
    /// ([`Refusal::TokenExpired`]; [`Refusal::ClockUntrusted`] without a trusted `now`).
    pub fn verify(
        text: &str,
        keys: &[[u8; 32]],
        card: Card,
        now: Option<WallTime>,
    ) -> Result<Self, Refusal> {
        let (token, signature) = Self::parse(text).ok_or(Refusal::BadToken)?;
        let message = message(&token.signed());
        if !keys.iter().any(|key| is_signed(&message, &signature, key)) {
            return Err(Refusal::BadToken);
        }
        if token.card != card {
            return Err(Refusal::TokenElsewhere);
        }
        let lifetime = token.expires.checked_sub(token.issued).ok_or(Refusal::BadToken)?;
        if Duration::from_secs(lifetime.into()) > LONGEST {
            return Err(Refusal::BadToken);
        }
        let now = now.ok_or(Refusal::ClockUntrusted)?;
        if now.seconds() >= i64::from(token.expires) {
            return Err(Refusal::TokenExpired);
        }
        if (now + SKEW).seconds() < i64::from(token.issued) {
            return Err(Refusal::BadToken);
        }
        Ok(token)
    }

    /// When the token's time is over.
    pub fn expires(&self) -> WallTime {
        WallTime(i64::from(self.expires) * 1000)
    }

    fn signed(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(LENGTH);
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.card.store);
        bytes.extend_from_slice(&self.card.scene);
        bytes.extend_from_slice(&self.guest.0);
        bytes.extend_from_slice(&self.issued.to_be_bytes());
        bytes.extend_from_slice(&self.expires.to_be_bytes());
        bytes.extend_from_slice(&self.nonce);
        bytes
    }

    fn parse(text: &str) -> Option<(Self, [u8; 64])> {
        if text.len() != BASE64URL_NOPAD.encode_len(LENGTH) {
            return None;
        }
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
        let mut rest = bytes.as_slice();
        let [VERSION] = take(&mut rest)? else { return None };
        let token = Self {
            card: Card { store: take(&mut rest)?, scene: take(&mut rest)? },
            guest: GuestKey(take(&mut rest)?),
            issued: u32::from_be_bytes(take(&mut rest)?),
            expires: u32::from_be_bytes(take(&mut rest)?),
            nonce: take(&mut rest)?,
        };
        Some((token, take(&mut rest)?))
    }
}

/// One-time numbers that were used, until their tokens are worth nothing anyway.
#[derive(Debug, Default)]
pub(in crate::domain) struct UsedTokens {
    expiry: BTreeSet<(WallTime, Nonce)>,
    used: BTreeMap<Nonce, WallTime>,
}

impl UsedTokens {
    /// Takes a one-time number out of use. False if it was used before.
    pub(in crate::domain) fn spend(&mut self, nonce: Nonce, expires: WallTime) -> bool {
        if self.used.contains_key(&nonce) {
            return false;
        }
        self.used.insert(nonce, expires);
        self.expiry.insert((expires, nonce));
        true
    }

    /// Forgets those whose time was over long ago: a wall clock that is set back must not make an
    /// old token new.
    pub(in crate::domain) fn purge(&mut self, now: WallTime) {
        while let Some(&(expires, nonce)) = self.expiry.first()
            && expires + LONGEST < now
        {
            self.expiry.pop_first();
            self.used.remove(&nonce);
        }
    }
}

fn message(signed: &[u8]) -> Vec<u8> {
    [PREFIX, signed].concat()
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(*bytes)
}

/// No I, L, O or U, so that nothing is mistaken for another.
pub(super) const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

pub(super) fn digit(c: char) -> Option<u128> {
    let plain = match c {
        '\u{ff10}'..='\u{ff5a}' => char::from_u32(c as u32 - 0xfee0)?,
        _ => c,
    };
    let plain = match plain.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    DIGITS.iter().zip(0..).find(|(digit, _)| char::from(**digit) == plain).map(|(_, value)| value)
}

fn check(card: &[u8]) -> u8 {
    let [check] = short(&[b"maitred card\0", card]);
    check
}

/// The first bytes of SHA-256 of the parts.
fn short<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    let hash: [u8; 32] = hash.finalize().into();
    let mut short = [0; N];
    short.copy_from_slice(&hash[..N]);
    short
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ring::signature::KeyPair as _;

    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const NOW: WallTime = WallTime(1_800_000_100_000);

    fn key(seed: u8) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
    }

    fn token() -> Token {
        Token {
            card: Card::new("s1", "guest", MAC),
            guest: GuestKey([5; 16]),
            issued: 1_800_000_000,
            expires: 1_800_000_600,
            nonce: [6; 16],
        }
    }

    fn verify(text: &str, now: Option<WallTime>) -> Result<Token, Refusal> {
        let keys = [[0xff; 32], key(7).public_key().as_ref().try_into().unwrap()];
        Token::verify(text, &keys, Card::new("s1", "guest", MAC), now)
    }

    #[test]
    fn a_good_token_reads_back() {
        let text = token().mint(&key(7));
        assert_eq!(text.len(), 152);
        assert_eq!(verify(&text, Some(NOW)), Ok(token()));
        assert_eq!(token().expires(), WallTime(1_800_000_600_000));
    }

    #[test]
    fn a_token_is_for_one_device_in_one_store() {
        for elsewhere in [
            Card { store: store("s2"), ..token().card },
            Card::new("s1", "guest", Mac([2, 0, 0, 0, 0, 2])),
            Card::new("s1", "other", MAC),
        ] {
            let text = Token { card: elsewhere, ..token() }.mint(&key(7));
            assert_eq!(verify(&text, Some(NOW)), Err(Refusal::TokenElsewhere));
        }
        // The parts of a scene cannot be shifted into one another.
        assert_ne!(Card::new("ab", "c", MAC).scene, Card::new("a", "bc", MAC).scene);
    }

    #[test]
    fn a_token_has_its_time() {
        let text = token().mint(&key(7));
        let at = |seconds: i64| verify(&text, Some(WallTime(seconds * 1000)));
        assert_eq!(verify(&text, None), Err(Refusal::ClockUntrusted));
        assert_eq!(at(1_800_000_599), Ok(token()));
        assert_eq!(at(1_800_000_600), Err(Refusal::TokenExpired));
        assert_eq!(at(1_799_999_700), Ok(token()));
        assert_eq!(at(1_799_999_699), Err(Refusal::BadToken));
        let day = Token { expires: token().issued + 86_401, ..token() };
        assert_eq!(verify(&day.mint(&key(7)), Some(NOW)), Err(Refusal::BadToken));
        let backwards = Token { expires: token().issued - 1, ..token() };
        assert_eq!(verify(&backwards.mint(&key(7)), Some(NOW)), Err(Refusal::BadToken));
    }

    #[test]
    fn another_key_signs_nothing() {
        let text = token().mint(&key(8));
        assert_eq!(verify(&text, Some(NOW)), Err(Refusal::BadToken));
        let none = Token::verify(&text, &[], token().card, Some(NOW));
        assert_eq!(none, Err(Refusal::BadToken));
    }

    #[test]
    fn a_card_is_read_as_people_send_it() {
        let card = Card { store: [0, 1, 2, 3], scene: [4, 5, 6, 7, 255] };
        let code = card.code();
        assert_eq!(code.len(), 16);
        assert!(code.starts_with("000G40R40M30FZ"), "{code}");
        let (first, last) = code.split_at(8);
        for sent in [
            code.clone(),
            format!(" {} - {}\n", first.to_lowercase(), last),
            code.replace('0', "o").replace('1', "l"),
            code.chars().map(|c| char::from_u32(c as u32 + 0xfee0).unwrap()).collect(),
        ] {
            assert_eq!(Card::read(&sent), Some(card), "{sent}");
        }
        for wrong in ["", "hello", &code[1..], &format!("{code}0"), &"0".repeat(16)] {
            assert_eq!(Card::read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_used_number_stays_used_until_its_token_is_long_dead() {
        let mut used = UsedTokens::default();
        assert!(used.spend([1; 16], WallTime(1000)) && !used.spend([1; 16], WallTime(1000)));
        used.purge(WallTime(86_401_000));
        assert!(!used.spend([1; 16], WallTime(1000)));
        used.purge(WallTime(86_401_001));
        assert!(used.used.is_empty() && used.expiry.is_empty());
    }

    proptest! {
        #[test]
        fn any_changed_byte_makes_a_bad_token(place in 0..LENGTH, mask in 1u8..) {
            let mut bytes = BASE64URL_NOPAD.decode(token().mint(&key(7)).as_bytes()).unwrap();
            bytes[place] ^= mask;
            let text = BASE64URL_NOPAD.encode(&bytes);
            prop_assert_eq!(verify(&text, Some(NOW)), Err(Refusal::BadToken));
        }

        #[test]
        fn a_mistyped_card_is_hardly_ever_another(
            store in any::<[u8; 4]>(), scene in any::<[u8; 5]>(), text in ".{0,40}",
        ) {
            let card = Card { store, scene };
            prop_assert_eq!(Card::read(&card.code()), Some(card));
            prop_assert!(Card::read(&text).is_none_or(|read| read.code().len() == 16));
        }

        #[test]
        fn any_text_is_refused(text in ".{0,200}") {
            prop_assert_eq!(verify(&text, Some(NOW)), Err(Refusal::BadToken));
        }
    }
}
