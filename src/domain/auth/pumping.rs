//! The alarm for pumped messages: somebody has codes sent that nobody types in, to earn from the
//! carrier or to cost the store money. The sign is that too few of the messages lead to a login.

use std::collections::VecDeque;
use std::time::Duration;

use crate::domain::names::BootTime;
use crate::domain::policy::{AlarmPolicy, CodePolicy, OnAlarm};

/// While codes go out slowly, the store sends one in this time.
const SLOW: Duration = Duration::from_mins(1);

/// Messages of the alarm's window and whether their codes came back.
#[derive(Debug, Default)]
pub(in crate::domain) struct Pumping {
    /// When each was caused, its number, and whether its code was accepted; oldest first.
    sent: VecDeque<(BootTime, u32, bool)>,
    stands: bool,
}

/// Messages old enough to be judged, and those whose codes were accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::domain) struct Rate {
    pub(in crate::domain) sent: u32,
    pub(in crate::domain) accepted: u32,
}

impl Pumping {
    /// A message was caused.
    pub(in crate::domain) fn sent(&mut self, message: u32, now: BootTime) {
        self.sent.push_back((now, message, false));
    }

    /// The code of a message was accepted.
    pub(in crate::domain) fn accepted(&mut self, message: u32) {
        if let Some(entry) = self.sent.iter_mut().rev().find(|(_, number, _)| *number == message) {
            entry.2 = true;
        }
    }

    /// No provider took the message: that its code does not come back tells nothing.
    pub(in crate::domain) fn unsent(&mut self, message: u32) {
        self.sent.retain(|(_, number, _)| *number != message);
    }

    /// Whether the alarm stands.
    pub(in crate::domain) fn stands(&self) -> bool {
        self.stands
    }

    /// Whether a message may go out, as far as the alarm is concerned.
    pub(in crate::domain) fn allows(&self, policy: &AlarmPolicy, now: BootTime) -> bool {
        match policy.then {
            _ if !self.stands => true,
            OnAlarm::Tell => true,
            OnAlarm::Slow => self.sent.back().is_none_or(|(last, ..)| now - *last >= SLOW),
            OnAlarm::Pause => false,
        }
    }

    /// Looks at the rate anew; says so if the alarm begins or ends. A message is judged once its
    /// code has expired or was accepted. With too few to judge there is no alarm.
    pub(in crate::domain) fn judge(&mut self, policy: &CodePolicy, now: BootTime) -> Option<Rate> {
        let alarm = &policy.alarm;
        while self.sent.front().is_some_and(|(at, ..)| now - *at >= alarm.window) {
            self.sent.pop_front();
        }
        let ripe =
            |(at, _, accepted): &&(BootTime, u32, bool)| *accepted || now - *at >= policy.lifetime;
        let mut rate = Rate { sent: 0, accepted: 0 };
        for (_, _, accepted) in self.sent.iter().filter(ripe) {
            rate.sent += 1;
            rate.accepted += u32::from(*accepted);
        }
        let low = u64::from(rate.accepted) * 100 < u64::from(rate.sent) * u64::from(alarm.percent);
        let stands = rate.sent >= alarm.at_least && low;
        (std::mem::replace(&mut self.stands, stands) != stands).then_some(rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(then: OnAlarm) -> CodePolicy {
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
            per_store_day: 100,
            countries: vec!["86".into()],
            alarm: AlarmPolicy { window: Duration::from_hours(1), at_least: 10, percent: 30, then },
        }
    }

    fn minute(minute: u64) -> BootTime {
        BootTime(minute * 60_000)
    }

    #[test]
    fn it_begins_when_few_codes_come_back_and_ends_when_they_do() {
        let policy = policy(OnAlarm::Pause);
        let mut pumping = Pumping::default();
        for message in 0..12 {
            pumping.sent(message, minute(1));
        }
        pumping.accepted(3);
        assert_eq!(pumping.judge(&policy, minute(5)), None, "they may still be typed in");
        assert!(pumping.allows(&policy.alarm, minute(5)));
        let rate = Rate { sent: 12, accepted: 1 };
        assert_eq!(pumping.judge(&policy, minute(6)), Some(rate));
        assert!(pumping.stands() && !pumping.allows(&policy.alarm, minute(6)));
        assert_eq!(pumping.judge(&policy, minute(7)), None, "said once");
        for message in [0, 1, 2] {
            pumping.accepted(message);
        }
        assert_eq!(pumping.judge(&policy, minute(8)), Some(Rate { sent: 12, accepted: 4 }));
        assert!(!pumping.stands());
    }

    #[test]
    fn slow_is_one_a_minute_and_the_window_ends_it() {
        let slow = policy(OnAlarm::Slow);
        let mut pumping = Pumping::default();
        for message in 0..10 {
            pumping.sent(message, minute(0));
        }
        assert!(pumping.judge(&slow, minute(5)).is_some());
        assert!(pumping.allows(&slow.alarm, minute(5)));
        pumping.sent(10, minute(5));
        assert!(!pumping.allows(&slow.alarm, BootTime(minute(6).0 - 1)));
        assert!(pumping.allows(&slow.alarm, minute(6)));
        assert!(pumping.allows(&policy(OnAlarm::Tell).alarm, minute(5)));
        assert_eq!(pumping.judge(&slow, minute(60)), Some(Rate { sent: 1, accepted: 0 }));
        assert!(!pumping.stands(), "too few to judge");
    }
}
