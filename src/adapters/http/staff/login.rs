//! The staff's password, how often it may be tried, and who is logged in.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use argon2::password_hash::PasswordVerifier;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, Params};
use data_encoding::HEXLOWER;
use subtle::ConstantTimeEq;

use crate::adapters::http::HttpError;
use crate::adapters::http::accept::network;
use crate::config::Secret;
use crate::domain::names::BootTime;

/// Memory (KiB) and passes that a check may take; beyond that a hash is refused at the start.
const MOST_MEMORY: u32 = 64 * 1024;
const MOST_PASSES: u32 = 10;

/// The password, as a hash (Argon2, RFC 9106).
#[derive(Clone)]
pub(super) struct Password(PasswordHash);

impl Password {
    /// Reads a PHC string.
    pub(super) fn new(text: &str) -> Result<Self, HttpError> {
        let hash = PasswordHash::new(text).map_err(|_| HttpError::PasswordHash)?;
        let params = Params::try_from(&hash).map_err(|_| HttpError::PasswordHash)?;
        let complete = hash.salt.is_some() && hash.hash.is_some();
        let known = argon2::Algorithm::try_from(hash.algorithm.as_str()).is_ok();
        let affordable = params.m_cost() <= MOST_MEMORY && params.t_cost() <= MOST_PASSES;
        if complete && known && affordable { Ok(Self(hash)) } else { Err(HttpError::PasswordHash) }
    }

    /// Whether this is it. Takes the time and memory that the hash asks for.
    pub(super) fn is(&self, typed: &Secret) -> bool {
        Argon2::default().verify_password(typed.reveal().as_bytes(), &self.0).is_ok()
    }
}

/// Tries that an address has before it must wait, and all addresses together.
const FREE: u32 = 3;
const FREE_TOGETHER: u32 = 10;
/// The longest that an address must wait, and all together: others must not keep staff out long.
const LONGEST: Duration = Duration::from_mins(15);
const LONGEST_TOGETHER: Duration = Duration::from_secs(8);
/// A count starts anew after so long without a try.
const FORGOTTEN_AFTER: Duration = Duration::from_hours(1);
/// Addresses whose tries are counted; beyond that the one that tried longest ago is forgotten.
const ADDRESSES: usize = 256;

/// Tries of late.
#[derive(Default)]
pub(super) struct Attempts {
    addresses: HashMap<IpAddr, Tries>,
    together: Tries,
}

#[derive(Clone, Copy, Default)]
struct Tries {
    count: u32,
    last: BootTime,
}

impl Attempts {
    /// Counts a try before it is checked, so that many at once gain nothing. An error says how
    /// long to wait; such a try is not counted.
    pub(super) fn enter(&mut self, from: IpAddr, now: BootTime) -> Result<(), Duration> {
        let from = network(from);
        let mut own = self.addresses.get(&from).copied().unwrap_or_default();
        let wait = own.wait(now, FREE, LONGEST);
        let wait = wait.max(self.together.wait(now, FREE_TOGETHER, LONGEST_TOGETHER));
        if wait > Duration::ZERO {
            return Err(wait);
        }
        own.add(now);
        self.together.add(now);
        if self.addresses.len() >= ADDRESSES && !self.addresses.contains_key(&from) {
            let oldest = self.addresses.iter().min_by_key(|(_, tries)| tries.last);
            if let Some(oldest) = oldest.map(|(address, _)| *address) {
                self.addresses.remove(&oldest);
            }
        }
        self.addresses.insert(from, own);
        Ok(())
    }

    /// Forgets the tries of an address that knew the password.
    pub(super) fn succeed(&mut self, from: IpAddr) {
        if let Some(own) = self.addresses.remove(&network(from)) {
            self.together.count = self.together.count.saturating_sub(own.count);
        }
    }
}

impl Tries {
    fn wait(&self, now: BootTime, free: u32, longest: Duration) -> Duration {
        let Some(over) = self.count.checked_sub(free) else { return Duration::ZERO };
        let delay = Duration::from_secs(1 << over.min(16)).min(longest);
        (self.last + delay) - now
    }

    fn add(&mut self, now: BootTime) {
        if now - self.last > FORGOTTEN_AFTER {
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        self.last = now;
    }
}

/// Logins at once; the one that ends first gives way to another.
const SESSIONS: usize = 32;

/// Who is logged in.
#[derive(Default)]
pub(super) struct Sessions(Vec<([u8; 16], BootTime)>);

impl Sessions {
    /// A new login until `end`: its token. `None` if the system has no randomness.
    pub(super) fn open(&mut self, end: BootTime) -> Option<String> {
        let mut token = [0; 16];
        getrandom::fill(&mut token).ok()?;
        if self.0.len() >= SESSIONS {
            self.0.sort_by_key(|(_, end)| *end);
            self.0.remove(0);
        }
        self.0.push((token, end));
        Some(HEXLOWER.encode(&token))
    }

    /// Whether a token is of a login that goes on.
    pub(super) fn holds(&mut self, token: &str, now: BootTime) -> bool {
        self.0.retain(|(_, end)| *end > now);
        decode(token).is_some_and(|token| {
            let found = self.0.iter().map(|(known, _)| known.ct_eq(&token));
            found.fold(subtle::Choice::from(0), |any, this| any | this).into()
        })
    }

    /// Ends a login.
    pub(super) fn close(&mut self, token: &str) {
        if let Some(token) = decode(token) {
            self.0.retain(|(known, _)| !bool::from(known.ct_eq(&token)));
        }
    }
}

fn decode(token: &str) -> Option<[u8; 16]> {
    HEXLOWER.decode(token.as_bytes()).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUESSER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 66));

    #[test]
    fn guessing_slows_down_and_a_login_forgives() {
        let mut attempts = Attempts::default();
        let mut now = BootTime(1_000_000);
        let mut tried = 0;
        for _ in 0..3600 {
            tried += u32::from(attempts.enter(GUESSER, now).is_ok());
            now = now + Duration::from_secs(1);
        }
        assert!((4..20).contains(&tried), "{tried} tries in an hour");
        assert!(attempts.enter(GUESSER, now).unwrap_err() <= LONGEST);
        attempts.succeed(GUESSER);
        assert_eq!(attempts.enter(GUESSER, now + LONGEST_TOGETHER), Ok(()));
    }

    #[test]
    fn many_addresses_share_one_limit_and_a_bounded_table() {
        let mut attempts = Attempts::default();
        let mut now = BootTime(1_000_000);
        let mut tried = 0u32;
        for n in 0..100_000u32 {
            let from = IpAddr::V6(std::net::Ipv6Addr::from_bits(u128::from(n) << 64));
            tried += u32::from(attempts.enter(from, now).is_ok());
            now = now + Duration::from_millis(36);
        }
        assert!(tried < 10 + 3600 / 8 + 8, "{tried} tries in an hour");
        assert!(attempts.addresses.len() <= ADDRESSES);
        let staff = "192.0.2.5".parse().unwrap();
        assert_eq!(attempts.enter(staff, now + LONGEST_TOGETHER), Ok(()), "staff are not kept out");
    }

    #[test]
    fn one_network_of_six_is_one_guesser() {
        let mut attempts = Attempts::default();
        for n in 0..FREE {
            let from = format!("2001:db8::{n:x}").parse().unwrap();
            assert_eq!(attempts.enter(from, BootTime(0)), Ok(()));
        }
        let next = "2001:db8::ffff".parse().unwrap();
        assert!(attempts.enter(next, BootTime(0)).is_err());
    }

    #[test]
    fn logins_end_and_make_room() {
        let mut sessions = Sessions::default();
        let first = sessions.open(BootTime(100)).unwrap();
        assert!(sessions.holds(&first, BootTime(99)));
        assert!(!sessions.holds(&first, BootTime(100)));
        let tokens: Vec<_> = (0..40).map(|n| sessions.open(BootTime(1000 + n)).unwrap()).collect();
        assert!(sessions.0.len() <= SESSIONS);
        assert!(
            sessions.holds(&tokens[39], BootTime(200))
                && !sessions.holds(&tokens[0], BootTime(200))
        );
        sessions.close(&tokens[39]);
        assert!(!sessions.holds(&tokens[39], BootTime(200)));
        for forged in ["", "00", &"0".repeat(32), &tokens[38].to_uppercase()[..31], "é"] {
            assert!(!sessions.holds(forged, BootTime(200)), "{forged}");
        }
    }

    #[test]
    fn only_affordable_argon2_hashes_are_taken() {
        let hash = |params: &str| {
            format!("$argon2id$v=19${params}$c29tZXNhbHRzb21lc2FsdA${}", "A".repeat(43))
        };
        assert!(Password::new(&hash("m=19456,t=2,p=1")).is_ok());
        for bad in ["m=1048576,t=2,p=1", "m=19456,t=100,p=1", "m=1,t=1,p=1"] {
            assert!(Password::new(&hash(bad)).is_err(), "{bad}");
        }
        for bad in ["", "secret", "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA"] {
            assert!(Password::new(bad).is_err(), "{bad}");
        }
        let other = hash("m=19456,t=2,p=1").replace("argon2id", "scrypt");
        assert!(Password::new(&other).is_err());
    }
}
