//! When the router is asked and who is told then, on one interface. Bounded, however many ask.

use std::net::Ipv6Addr;
use std::time::Duration;

use crate::domain::names::BootTime;

/// All hosts of a link.
pub(super) const EVERYBODY: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// Everybody is told so often in a row first, and then now and then (RFC 4861, 6.2.4 and 10).
const FIRST_ROUNDS: u8 = 3;
const FIRST_EVERY: Duration = Duration::from_secs(16);
/// At the soonest, and at random up to so much later, so that routers fall out of step. As seldom as
/// the RFC allows: each wakes every phone (RFC 7772).
const EVERY: (Duration, Duration) = (Duration::from_secs(450), Duration::from_secs(150));
/// `MIN_DELAY_BETWEEN_RAS`
const EVERYBODY_GAP: Duration = Duration::from_secs(3);
/// Between two questions to a router that answers.
const ASK_GAP: Duration = Duration::from_secs(1);
/// Between two to one that does not: perhaps it tells everybody instead, which would be heard.
const DEAF_GAP: Duration = FIRST_EVERY;
/// Hosts that are told one by one after an answer. The others are told with everybody.
const WAITING: usize = 32;

/// The state of one interface.
#[derive(Debug)]
pub(super) struct Schedule {
    rounds: u8,
    /// When everybody is to be told again.
    round: BootTime,
    waiting: Vec<Ipv6Addr>,
    /// Those who get the next answer.
    told_next: Vec<Ipv6Addr>,
    /// Not before this.
    ask_at: BootTime,
    everybody_at: BootTime,
}

impl Schedule {
    /// Everybody is told at once.
    pub(super) const fn new(now: BootTime) -> Self {
        Self {
            rounds: 0,
            round: now,
            waiting: Vec::new(),
            told_next: Vec::new(),
            ask_at: now,
            everybody_at: now,
        }
    }

    /// A host asks; one without an address (`::`) hears what everybody hears.
    pub(super) fn solicited(&mut self, from: Ipv6Addr) {
        let crowd = from.is_unspecified() || self.waiting.len() >= WAITING;
        let who = if crowd { EVERYBODY } else { from };
        if !self.waiting.contains(&who) {
            self.waiting.push(who);
        }
    }

    /// When the router is to be asked.
    pub(super) fn due(&self) -> BootTime {
        let wanted = match self.waiting.as_slice() {
            [] => self.round,
            [EVERYBODY] => self.round.min(self.everybody_at),
            _ => self.ask_at,
        };
        wanted.max(self.ask_at)
    }

    /// The router is asked; `pause`, 0 to 1, says how long it is to the round after this one. Who
    /// still waits for an answer to the last question has waited long enough.
    pub(super) fn ask(&mut self, now: BootTime, pause: f64) {
        self.ask_at = now + DEAF_GAP;
        self.told_next = std::mem::take(&mut self.waiting);
        if now < self.round {
            return;
        }
        self.rounds = (self.rounds + 1).min(FIRST_ROUNDS);
        let usual = EVERY.0 + EVERY.1.mul_f64(pause.clamp(0.0, 1.0));
        self.round = now + if self.rounds < FIRST_ROUNDS { FIRST_EVERY } else { usual };
        self.told_next.push(EVERYBODY);
    }

    /// The router has shown itself: who is to be told.
    pub(super) fn answered(&mut self, now: BootTime) -> Vec<Ipv6Addr> {
        self.ask_at = self.ask_at.min(now + ASK_GAP);
        let mut told = std::mem::take(&mut self.told_next);
        if !told.contains(&EVERYBODY) {
            return told;
        }
        if now >= self.everybody_at {
            self.everybody_at = now + EVERYBODY_GAP;
            return vec![EVERYBODY];
        }
        told.retain(|who| *who != EVERYBODY);
        self.solicited(EVERYBODY);
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(number: u16) -> Ipv6Addr {
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, number)
    }

    /// Asks when it is due, and is answered at once; when, and who is told.
    fn next(schedule: &mut Schedule) -> (u64, Vec<Ipv6Addr>) {
        let now = schedule.due();
        schedule.ask(now, 0.5);
        (now.0, schedule.answered(now))
    }

    #[test]
    fn everybody_is_told_three_times_and_then_seldom() {
        let mut schedule = Schedule::new(BootTime(1000));
        for at in [1000, 17_000, 33_000, 558_000, 1_083_000] {
            assert_eq!(next(&mut schedule), (at, vec![EVERYBODY]));
        }
        for (pause, secs) in [(0.0, 450), (1.0, 600), (7.0, 600)] {
            let now = schedule.due();
            schedule.ask(now, pause);
            schedule.answered(now);
            assert_eq!(schedule.due() - now, Duration::from_secs(secs));
        }
    }

    #[test]
    fn a_host_that_asks_is_told_alone_and_at_once() {
        let mut schedule = Schedule::new(BootTime(0));
        next(&mut schedule);
        for number in [7, 8, 7] {
            schedule.solicited(host(number));
        }
        assert_eq!(next(&mut schedule), (1000, vec![host(7), host(8)]));
        assert!(schedule.answered(BootTime(1001)).is_empty(), "an answer to nobody");
        schedule.solicited(host(7));
        assert_eq!(next(&mut schedule), (2000, vec![host(7)]));
    }

    #[test]
    fn a_flood_is_answered_at_a_bounded_rate() {
        let mut schedule = Schedule::new(BootTime(0));
        let (mut alone, mut everybody) = (0, 0);
        for ms in 0..15_000 {
            for number in 0..40 {
                schedule.solicited(if number % 9 == 0 {
                    Ipv6Addr::UNSPECIFIED
                } else {
                    host(number)
                });
            }
            let now = BootTime(ms);
            if schedule.due() <= now {
                schedule.ask(now, 0.5);
                for who in schedule.answered(now) {
                    *(if who == EVERYBODY { &mut everybody } else { &mut alone }) += 1;
                }
            }
            assert!(schedule.waiting.len() <= WAITING + 1);
        }
        assert!(everybody <= 5 && alone <= 15 * WAITING, "{everybody}, {alone}");
        assert!(everybody >= 4 && alone > 0, "{everybody}, {alone}");
    }

    #[test]
    fn a_router_that_is_silent_is_asked_seldom_and_nobody_is_told() {
        let mut schedule = Schedule::new(BootTime(0));
        let mut asked = Vec::new();
        for second in 0..60 {
            schedule.solicited(host(7));
            let now = BootTime(second * 1000);
            if schedule.due() <= now {
                schedule.ask(now, 0.5);
                asked.push(second);
            }
        }
        assert_eq!(asked, [0, 16, 32, 48]);
        // Those who asked last are told if it shows itself after all.
        assert_eq!(schedule.answered(BootTime(61_000)), [host(7)]);
    }
}
