//! What guests may cause: messages that the store pays for, and signatures that cost our time.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::domain::effect::{Attempt, Refusal};
use crate::domain::names::{BootTime, GuestKey, Mac, ZoneId};
use crate::domain::policy::{CodePolicy, PassPolicy};
use crate::domain::saved::{SavedAttempt, SavedMessage};

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
/// Follow tokens that a device may have checked in a minute, and the store; a look at what is kept of
/// its guest counts as one.
const TOKENS: (u32, u32) = (10, 600);

/// Wrong vouchers that a device may try while they count, and the store.
const GUESSES: (u32, u32) = (10, 3000);

/// Counts over windows that slide on the boot clock. Held apart from the devices: one that is
/// forgotten has not regained its rights. Every entry is a message sent or a signature checked,
/// so the limits bound the memory too.
#[derive(Debug)]
pub(in crate::domain) struct Throttle {
    hour: Window,
    day: Window,
    tokens: Window,
    passes: Window,
    guesses: Window,
    /// The last message of each device that must wait for another.
    recent: BTreeMap<Mac, BootTime>,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Device(Mac),
    Number(GuestKey),
    Prefix(GuestKey),
    Zone(ZoneId),
    Store,
}

impl Throttle {
    pub(in crate::domain) fn new() -> Self {
        Self {
            hour: Window::new(HOUR),
            day: Window::new(DAY),
            tokens: Window::new(Duration::from_mins(1)),
            passes: Window::new(Attempt::Pass.counts_for()),
            guesses: Window::new(Attempt::WrongVoucher.counts_for()),
            recent: BTreeMap::new(),
        }
    }

    /// Counts a message to `number` at the word of a device, if it may be sent.
    pub(in crate::domain) fn message(
        &mut self,
        (zone, mac): (ZoneId, Mac),
        number: GuestKey,
        prefix: GuestKey,
        policy: &CodePolicy,
        now: BootTime,
    ) -> Result<(), Refusal> {
        let wait = self.wait(mac, policy, now);
        if !wait.is_zero() {
            return Err(Refusal::TooSoon { wait });
        }
        self.hour.slide(now);
        self.day.slide(now);
        let daily = [
            (Subject::Device(mac), policy.per_device_day),
            (Subject::Number(number), policy.per_number_day),
            (Subject::Prefix(prefix), policy.per_prefix_day),
            (Subject::Zone(zone), policy.per_zone_day),
            (Subject::Store, policy.per_store_day),
        ];
        let number = Subject::Number(number);
        // One refusal for all: it must not tell who else asked for a number.
        if self.hour.count(number) >= policy.per_number_hour
            || daily.iter().any(|(subject, limit)| self.day.count(*subject) >= *limit)
        {
            return Err(Refusal::TooMany);
        }
        self.hour.add(number, now + self.hour.length);
        for (subject, _) in daily {
            self.day.add(subject, now + self.day.length);
        }
        self.recent.retain(|_, sent| now - *sent < policy.resend_after);
        self.recent.insert(mac, now);
        Ok(())
    }

    /// Counts what the last run sent, oldest first. Nobody waits for another message: the codes
    /// that were on their way are void.
    pub(in crate::domain) fn restore(&mut self, sent: &[SavedMessage], now: BootTime) {
        for SavedMessage { mac, number, prefix, zone, age } in sent {
            let number = Subject::Number(*number);
            if let Some(left) = self.hour.length.checked_sub(*age) {
                self.hour.add(number, now + left);
            }
            if let Some(left) = self.day.length.checked_sub(*age) {
                let (device, prefix) = (Subject::Device(*mac), Subject::Prefix(*prefix));
                let zone = zone.map(Subject::Zone);
                for subject in [device, number, prefix, Subject::Store].into_iter().chain(zone) {
                    self.day.add(subject, now + left);
                }
            }
        }
    }

    /// Counts what devices did in the last run, oldest first.
    pub(in crate::domain) fn restore_attempts(&mut self, made: &[SavedAttempt], now: BootTime) {
        for SavedAttempt { attempt, mac, age } in made {
            let window = match attempt {
                Attempt::WrongVoucher => &mut self.guesses,
                Attempt::Pass => &mut self.passes,
            };
            let Some(left) = window.length.checked_sub(*age) else { continue };
            for subject in [Subject::Device(*mac), Subject::Store] {
                window.add(subject, now + left);
            }
        }
    }

    /// Until this device may ask for another message.
    pub(in crate::domain) fn wait(&self, mac: Mac, policy: &CodePolicy, now: BootTime) -> Duration {
        self.recent.get(&mac).map_or(Duration::ZERO, |sent| (*sent + policy.resend_after) - now)
    }

    /// The last message was not sent: the device need not wait, but the message stays counted.
    pub(in crate::domain) fn excuse(&mut self, mac: Mac) {
        self.recent.remove(&mac);
    }

    /// Counts a follow token to be checked, if it may be.
    pub(in crate::domain) fn token(&mut self, mac: Mac, now: BootTime) -> Result<(), Refusal> {
        self.tokens.slide(now);
        let limits = [(Subject::Device(mac), TOKENS.0), (Subject::Store, TOKENS.1)];
        if limits.iter().any(|(subject, limit)| self.tokens.count(*subject) >= *limit) {
            return Err(Refusal::TooMany);
        }
        for (subject, _) in limits {
            self.tokens.add(subject, now + self.tokens.length);
        }
        Ok(())
    }

    /// Whether this device may try a voucher. While it may not, a good one is refused as well, so
    /// that the answer tells nothing.
    pub(in crate::domain) fn may_guess(&mut self, mac: Mac, now: BootTime) -> Result<(), Refusal> {
        self.guesses.slide(now);
        let limits = [(Subject::Device(mac), GUESSES.0), (Subject::Store, GUESSES.1)];
        let over = limits.iter().any(|(subject, limit)| self.guesses.count(*subject) >= *limit);
        if over { Err(Refusal::TooManyGuesses) } else { Ok(()) }
    }

    /// Counts a wrong voucher.
    pub(in crate::domain) fn guessed_wrong(&mut self, mac: Mac, now: BootTime) {
        for subject in [Subject::Device(mac), Subject::Store] {
            self.guesses.add(subject, now + self.guesses.length);
        }
    }

    /// Counts a pass of this device, if it may have another today.
    pub(in crate::domain) fn pass(
        &mut self,
        mac: Mac,
        policy: &PassPolicy,
        now: BootTime,
    ) -> Result<(), Refusal> {
        self.passes.slide(now);
        let limits =
            [(Subject::Device(mac), policy.per_device_day), (Subject::Store, policy.per_store_day)];
        if limits.iter().any(|(subject, limit)| self.passes.count(*subject) >= *limit) {
            return Err(Refusal::NoPass);
        }
        for (subject, _) in limits {
            self.passes.add(subject, now + self.passes.length);
        }
        Ok(())
    }
}

/// A sliding window: how often each subject occurred within the last `length`.
#[derive(Debug)]
struct Window {
    length: Duration,
    /// Until when each counts, soonest first.
    log: VecDeque<(BootTime, Subject)>,
    counts: BTreeMap<Subject, u32>,
}

impl Window {
    const fn new(length: Duration) -> Self {
        Self { length, log: VecDeque::new(), counts: BTreeMap::new() }
    }

    fn slide(&mut self, now: BootTime) {
        while let Some(&(until, subject)) = self.log.front()
            && until <= now
        {
            self.log.pop_front();
            if let Some(count) = self.counts.get_mut(&subject) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(&subject);
                }
            }
        }
    }

    fn count(&self, subject: Subject) -> u32 {
        self.counts.get(&subject).copied().unwrap_or(0)
    }

    fn add(&mut self, subject: Subject, until: BootTime) {
        self.log.push_back((until, subject));
        *self.counts.entry(subject).or_insert(0) += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::policy::AlarmPolicy;

    fn policy() -> CodePolicy {
        CodePolicy {
            length: 6,
            lifetime: Duration::from_mins(5),
            tries: 3,
            resend_after: Duration::from_mins(1),
            per_device_day: 4,
            per_number_hour: 2,
            per_number_day: 3,
            per_prefix_day: 5,
            per_zone_day: 100,
            per_store_day: 6,
            countries: vec!["86".into()],
            alarm: AlarmPolicy::QUIET,
        }
    }

    fn device(number: u8) -> Mac {
        Mac([2, 0, 0, 0, 0, number])
    }

    fn number(number: u8) -> GuestKey {
        GuestKey([number; 16])
    }

    fn at(seconds: u64) -> BootTime {
        BootTime(seconds * 1000)
    }

    #[test]
    fn a_device_waits_between_messages_unless_none_was_sent() {
        let (mut throttle, policy) = (Throttle::new(), policy());
        let ask = |throttle: &mut Throttle, n, now| {
            throttle.message((ZoneId(0), device(1)), number(n), number(99), &policy, at(now))
        };
        assert_eq!(ask(&mut throttle, 1, 0), Ok(()));
        let wait = Duration::from_secs(1);
        assert_eq!(ask(&mut throttle, 2, 59), Err(Refusal::TooSoon { wait }));
        throttle.excuse(device(1));
        assert_eq!(ask(&mut throttle, 2, 59), Ok(()));
        assert_eq!(ask(&mut throttle, 3, 119), Ok(()));
        assert_eq!(ask(&mut throttle, 4, 179), Ok(()));
        assert_eq!(ask(&mut throttle, 5, 300), Err(Refusal::TooMany));
        assert_eq!(ask(&mut throttle, 5, 86_400), Ok(()));
    }

    #[test]
    fn a_number_a_range_and_the_store_have_limits_whoever_asks() {
        let (mut throttle, policy) = (Throttle::new(), policy());
        let mut next = 0;
        let mut ask = |n, prefix, now| {
            next += 1;
            throttle.message((ZoneId(0), device(next)), number(n), number(prefix), &policy, at(now))
        };
        assert_eq!([ask(1, 99, 0), ask(1, 99, 0)], [Ok(()); 2]);
        assert_eq!(ask(1, 99, 3599), Err(Refusal::TooMany));
        assert_eq!(ask(1, 99, 3600), Ok(()));
        assert_eq!(ask(1, 99, 9000), Err(Refusal::TooMany));
        assert_eq!([ask(2, 99, 9000), ask(3, 99, 9000)], [Ok(()); 2]);
        assert_eq!(ask(4, 99, 9000), Err(Refusal::TooMany));
        assert_eq!(ask(5, 98, 9000), Ok(()));
        assert_eq!(ask(6, 97, 9000), Err(Refusal::TooMany));
        assert_eq!(ask(6, 97, 86_400), Ok(()));
    }

    #[test]
    fn a_zone_has_a_limit_of_its_own() {
        let (mut throttle, policy) = (Throttle::new(), CodePolicy { per_zone_day: 2, ..policy() });
        let mut next = 0;
        let mut ask = |zone, now| {
            next += 1;
            let whom = (ZoneId(zone), device(next));
            throttle.message(whom, number(next), number(next), &policy, at(now))
        };
        assert_eq!([ask(0, 0), ask(0, 0)], [Ok(()); 2]);
        assert_eq!(ask(0, 0), Err(Refusal::TooMany));
        assert_eq!(ask(1, 0), Ok(()));
        assert_eq!(ask(0, 86_400), Ok(()));
    }

    #[test]
    fn passes_of_a_device_and_of_the_store_are_counted() {
        let rules =
            PassPolicy { length: Duration::from_mins(1), per_device_day: 2, per_store_day: 4 };
        let mut throttle = Throttle::new();
        let mut ask = |n, now| throttle.pass(device(n), &rules, at(now));
        assert_eq!([ask(1, 0), ask(1, 60), ask(1, 120)], [Ok(()), Ok(()), Err(Refusal::NoPass)]);
        assert_eq!([ask(2, 120), ask(3, 120), ask(4, 120)], [Ok(()), Ok(()), Err(Refusal::NoPass)]);
        assert_eq!([ask(1, 86_399), ask(1, 86_400)], [Err(Refusal::NoPass), Ok(())]);
    }

    #[test]
    fn a_start_gives_nobody_a_new_allowance() {
        let (mut throttle, policy) = (Throttle::new(), policy());
        let sent = |minutes| SavedMessage {
            mac: device(1),
            number: number(1),
            prefix: number(99),
            zone: Some(ZoneId(0)),
            age: Duration::from_mins(minutes),
        };
        throttle.restore(&[sent(25 * 60), sent(23 * 60), sent(59), sent(30)], at(0));
        let ask = |throttle: &mut Throttle, n, now| {
            throttle.message((ZoneId(0), device(1)), number(n), number(98), &policy, at(now))
        };
        // Three in a day and two in an hour are the number's, four in a day the device's.
        assert_eq!(ask(&mut throttle, 1, 0), Err(Refusal::TooMany));
        assert_eq!(ask(&mut throttle, 1, 61), Err(Refusal::TooMany));
        assert_eq!(ask(&mut throttle, 2, 61), Ok(()));
        assert_eq!(ask(&mut throttle, 2, 3599), Err(Refusal::TooMany));
        assert_eq!(ask(&mut throttle, 1, 3600), Ok(()));
        assert_eq!(ask(&mut throttle, 2, 86_340), Ok(()));
    }

    #[test]
    fn wrong_vouchers_of_a_device_and_of_the_store_are_counted() {
        let mut throttle = Throttle::new();
        let (fine, over) = (Ok(()), Err(Refusal::TooManyGuesses));
        for _ in 0..GUESSES.0 {
            assert_eq!(throttle.may_guess(device(1), at(0)), fine);
            throttle.guessed_wrong(device(1), at(0));
        }
        assert_eq!(throttle.may_guess(device(1), at(599)), over);
        assert_eq!(throttle.may_guess(device(2), at(599)), fine);
        for _ in GUESSES.0..GUESSES.1 {
            throttle.guessed_wrong(device(3), at(300));
        }
        assert_eq!(throttle.may_guess(device(2), at(599)), over, "a flood of new addresses");
        assert_eq!(throttle.may_guess(device(1), at(600)), fine);
        assert_eq!(throttle.may_guess(device(3), at(899)), over);
    }

    #[test]
    fn a_start_gives_nobody_new_guesses_or_passes() {
        let rules =
            PassPolicy { length: Duration::from_mins(1), per_device_day: 2, per_store_day: 9 };
        let made = |attempt, minutes| SavedAttempt {
            attempt,
            mac: device(1),
            age: Duration::from_mins(minutes),
        };
        let mut throttle = Throttle::new();
        let passes = [25 * 60, 23 * 60, 5].map(|age| made(Attempt::Pass, age));
        let guesses = [11, 9, 9, 9, 9, 9, 9, 9, 9, 9].map(|age| made(Attempt::WrongVoucher, age));
        throttle.restore_attempts(&[&passes[..], &guesses].concat(), at(0));
        assert_eq!(throttle.pass(device(1), &rules, at(3599)), Err(Refusal::NoPass));
        assert_eq!(throttle.pass(device(1), &rules, at(3600)), Ok(()));
        // Nine of ten.
        assert_eq!(throttle.may_guess(device(1), at(0)), Ok(()));
        throttle.guessed_wrong(device(1), at(0));
        assert_eq!(throttle.may_guess(device(1), at(59)), Err(Refusal::TooManyGuesses));
        assert_eq!(throttle.may_guess(device(1), at(60)), Ok(()));
    }

    #[test]
    fn windows_forget() {
        let mut throttle = Throttle::new();
        for _ in 0..TOKENS.0 {
            assert_eq!(throttle.token(device(1), at(0)), Ok(()));
        }
        assert_eq!(throttle.token(device(1), at(59)), Err(Refusal::TooMany));
        assert_eq!(throttle.token(device(2), at(59)), Ok(()));
        assert_eq!(throttle.token(device(1), at(60)), Ok(()));
        assert_eq!(throttle.tokens.log.len(), 4);
        assert_eq!(throttle.tokens.counts.len(), 3);
    }
}
