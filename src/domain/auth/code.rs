//! One-time codes: made here, kept only as a keyed hash, good once, for a few tries and minutes.

use rand::RngExt;
use rand::rngs::StdRng;
use subtle::ConstantTimeEq;

use crate::domain::auth::seal::Sealed;
use crate::domain::effect::{Code, Refusal};
use crate::domain::event::Consent;
use crate::domain::guest::Secrets;
use crate::domain::names::{BootTime, GuestKey, Mac, Phone};
use crate::domain::policy::CodePolicy;

/// A code on its way to a guest.
#[derive(Debug)]
pub(in crate::domain) struct Pending {
    pub(in crate::domain) guest: GuestKey,
    pub(in crate::domain) mask: String,
    pub(in crate::domain) consent: Consent,
    /// The number for HQ.
    pub(in crate::domain) sealed: Option<Sealed>,
    /// Which message carries it.
    pub(in crate::domain) message: u32,
    /// Why no provider took it.
    pub(in crate::domain) unsent: Option<Refusal>,
    hash: [u8; 32],
    expires: BootTime,
    tries: u8,
}

impl Pending {
    /// Makes a code for this device and number.
    pub(in crate::domain) fn new(
        (mac, phone, consent): (Mac, &Phone, Consent),
        (message, now): (u32, BootTime),
        policy: &CodePolicy,
        secrets: &Secrets,
        rng: &mut StdRng,
    ) -> (Self, Code) {
        let length = usize::from(policy.length);
        let digits: String =
            (0..length).map(|_| char::from(rng.random_range(b'0'..=b'9'))).collect();
        let guest = secrets.phone_guest(phone);
        let pending = Self {
            guest,
            mask: phone.mask(),
            consent,
            sealed: None,
            message,
            unsent: None,
            hash: hash(secrets, mac, guest, &digits),
            expires: now + policy.lifetime,
            tries: policy.tries,
        };
        (pending, Code(digits))
    }

    /// Checks what a guest typed; a wrong one costs a try. The caller drops a code that was right.
    pub(in crate::domain) fn check(
        &mut self,
        typed: &str,
        mac: Mac,
        secrets: &Secrets,
        now: BootTime,
    ) -> Result<(), Refusal> {
        if let Some(over) = self.over(now) {
            return Err(over);
        }
        let hash = hash(secrets, mac, self.guest, &digits(typed));
        if bool::from(hash.ct_eq(&self.hash)) {
            return Ok(());
        }
        self.tries -= 1;
        Err(if self.tries == 0 {
            Refusal::CodeDead
        } else {
            Refusal::WrongCode { left: self.tries }
        })
    }

    /// What keeps the guest from using it.
    pub(in crate::domain) fn trouble(&self, now: BootTime) -> Option<Refusal> {
        self.over(now).or(self.unsent)
    }

    fn over(&self, now: BootTime) -> Option<Refusal> {
        if self.tries == 0 {
            Some(Refusal::CodeDead)
        } else {
            (now >= self.expires).then_some(Refusal::CodeExpired)
        }
    }
}

/// Bound to device and number, so that a code is worth nothing elsewhere.
fn hash(secrets: &Secrets, mac: Mac, guest: GuestKey, digits: &str) -> [u8; 32] {
    secrets.keyed(&[b"code:", &mac.0, &guest.0, digits.as_bytes()])
}

/// The digits of what was typed, full-width ones too; a Chinese input method may leave those.
fn digits(typed: &str) -> String {
    let plain = |c: char| match c {
        '0'..='9' => Some(c),
        '\u{ff10}'..='\u{ff19}' => char::from_digit(u32::from(c) - 0xff10, 10),
        _ => None,
    };
    typed.chars().filter_map(plain).take(16).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rand::SeedableRng;

    use super::*;
    use crate::domain::policy::AlarmPolicy;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const SECRETS: Secrets = Secrets { guest_key: [3; 32], voucher_key: [4; 32] };

    fn policy() -> CodePolicy {
        CodePolicy {
            length: 6,
            lifetime: Duration::from_mins(5),
            tries: 3,
            resend_after: Duration::from_mins(1),
            per_device_day: 5,
            per_number_hour: 5,
            per_number_day: 5,
            per_prefix_day: 5,
            per_zone_day: 5,
            per_store_day: 5,
            countries: vec!["86".into()],
            alarm: AlarmPolicy::QUIET,
        }
    }

    fn make() -> (Pending, Code) {
        let phone = Phone::parse("13800138000", "86").unwrap();
        let for_whom = (MAC, &phone, Consent::default());
        let mut rng = StdRng::from_seed([9; 32]);
        Pending::new(for_whom, (1, BootTime(0)), &policy(), &SECRETS, &mut rng)
    }

    #[test]
    fn the_right_code_passes_as_people_type_it() {
        let (mut pending, code) = make();
        assert!(code.0.len() == 6 && code.0.bytes().all(|b| b.is_ascii_digit()));
        let wide: String =
            code.0.chars().map(|c| char::from_u32(u32::from(c) - 0x30 + 0xff10).unwrap()).collect();
        let spaced = format!(" {} {}", &code.0[..3], &code.0[3..]);
        for typed in [code.0.clone(), wide, spaced] {
            assert_eq!(pending.check(&typed, MAC, &SECRETS, BootTime(299_999)), Ok(()), "{typed}");
        }
    }

    #[test]
    fn a_code_dies_of_wrong_tries_even_if_the_right_one_follows() {
        let (mut pending, code) = make();
        let elsewhere = Mac([2, 0, 0, 0, 0, 2]);
        let mut check = |typed: &str, mac| pending.check(typed, mac, &SECRETS, BootTime(1));
        assert_eq!(check("", MAC), Err(Refusal::WrongCode { left: 2 }));
        assert_eq!(check(&code.0, elsewhere), Err(Refusal::WrongCode { left: 1 }));
        assert_eq!(check(&format!("{}0", code.0), MAC), Err(Refusal::CodeDead));
        assert_eq!(check(&code.0, MAC), Err(Refusal::CodeDead));
    }

    #[test]
    fn a_code_has_its_time() {
        let (mut pending, code) = make();
        let late = pending.check(&code.0, MAC, &SECRETS, BootTime(300_000));
        assert_eq!(late, Err(Refusal::CodeExpired));
        assert_eq!(pending.trouble(BootTime(1)), None);
        pending.unsent = Some(Refusal::NotSent);
        assert_eq!(pending.trouble(BootTime(1)), Some(Refusal::NotSent));
        assert!(!format!("{pending:?}").contains(&code.0));
    }
}
