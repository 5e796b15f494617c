//! The codes of vouchers: how they are made, read and hashed.
//!
//! A code has twelve of Douglas Crockford's base-32 digits, 60 bits: at the throttle's rate of
//! wrong ones, and with as many vouchers as there may be, a year of guessing finds one with a
//! probability below one in 100,000. One of HQ's has sixteen, 80 bits: its hash may be stolen, and
//! then 2^69 codes must be tried for one of the 2,000 that a batch may have.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sha2::{Digest, Sha256};

use crate::domain::auth::follow::{DIGITS, digit};
use crate::domain::effect::Code;
use crate::domain::guest::Secrets;

/// Digits of a code of the store's own, and of one of HQ's.
const LENGTH: usize = 12;
const HQ_LENGTH: usize = 16;

/// HMAC-SHA256 of `voucher:` and the code; of a code of HQ's, SHA-256 of `maitred voucher\0`, the
/// batch's salt and the code. First 16 bytes.
pub type Hash = [u8; 16];
/// Random, and one batch's own: what is tried against one batch tells nothing of another.
pub type Salt = [u8; 16];

/// A code that nobody can guess, in groups of four.
pub(in crate::domain) fn make(rng: &mut StdRng) -> Code {
    draw(rng, LENGTH)
}

/// Vouchers for stores: their codes, and what the stores get of them. `seed` must come from the
/// system's random source.
pub fn make_for_stores(count: u16, seed: [u8; 32]) -> (Vec<Code>, Salt, Vec<Hash>) {
    let mut rng = StdRng::from_seed(seed);
    let salt = rng.random();
    let codes: Vec<Code> = (0..count).map(|_| draw(&mut rng, HQ_LENGTH)).collect();
    let hashes = codes.iter().filter_map(|code| Some(salted(&salt, &digits(&code.0)?))).collect();
    (codes, salt, hashes)
}

fn draw(rng: &mut StdRng, length: usize) -> Code {
    let mut code = String::with_capacity(length + length / 4);
    for place in 0..length {
        if place > 0 && place % 4 == 0 {
            code.push('-');
        }
        code.push(char::from(DIGITS[rng.random_range(0..DIGITS.len())]));
    }
    Code(code)
}

/// The hash of a code of the store's own, as people type it. `None` if it is none.
pub(in crate::domain) fn hash(secrets: &Secrets, typed: &str) -> Option<Hash> {
    let digits = digits(typed).filter(|digits| digits.len() == LENGTH)?;
    Some(cut(secrets.voucher(&digits)))
}

pub(super) fn salted(salt: &Salt, digits: &[u8]) -> Hash {
    let hash = Sha256::new().chain_update(b"maitred voucher\0").chain_update(salt);
    cut(hash.chain_update(digits).finalize().into())
}

fn cut(whole: [u8; 32]) -> Hash {
    let mut hash = [0; 16];
    hash.copy_from_slice(&whole[..16]);
    hash
}

/// The digits of a code of HQ's, as people type it. `None` if it is none.
pub(super) fn of_hq(typed: &str) -> Option<Vec<u8>> {
    digits(typed).filter(|digits| digits.len() == HQ_LENGTH)
}

/// A code's digits, however people type them: in either case, with spaces or hyphens, with the
/// letters that look like digits, full-width. `None` if it is none.
fn digits(typed: &str) -> Option<Vec<u8>> {
    let mut digits = Vec::with_capacity(HQ_LENGTH);
    for c in typed.chars().filter(|c| !c.is_whitespace() && !matches!(c, '-' | '－' | '—')) {
        let value = usize::try_from(digit(c)?).ok()?;
        digits.push(*DIGITS.get(value)?);
        if digits.len() > HQ_LENGTH {
            return None;
        }
    }
    Some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRETS: Secrets = Secrets { guest_key: [2; 32], voucher_key: [3; 32] };

    #[test]
    fn a_code_is_long_and_is_read_as_people_type_it() {
        let mut rng = StdRng::from_seed([9; 32]);
        let Code(code) = make(&mut rng);
        let groups: Vec<&str> = code.split('-').collect();
        assert!(groups.len() == 3 && groups.iter().all(|group| group.len() == 4), "{code}");
        assert!(code.bytes().all(|b| b == b'-' || DIGITS.contains(&b)));
        let expected = hash(&SECRETS, &code);
        assert!(expected.is_some());
        let wide = |c: char| if c == '-' { c } else { char::from_u32(c as u32 + 0xfee0).unwrap() };
        for typed in [
            code.to_lowercase(),
            code.replace('-', " "),
            code.replace('-', ""),
            code.replace('0', "o").replace('1', "l"),
            code.chars().map(wide).collect(),
        ] {
            assert_eq!(hash(&SECRETS, &typed), expected, "{typed}");
        }
        for wrong in ["", "hello", &code[1..], &format!("{code}0"), "U23456789012"] {
            assert_eq!(hash(&SECRETS, wrong), None, "{wrong}");
            assert_eq!(of_hq(wrong), None, "{wrong}");
        }
        let other = Secrets { voucher_key: [4; 32], ..SECRETS };
        assert_ne!(hash(&other, &code), expected, "a copied database is no list of codes");
        assert_ne!(make(&mut rng).0, code);
    }
}
