//! `[code.alarm]`: what tells of pumped messages.

use serde::Deserialize;

use super::Length;
use crate::domain::policy::{AlarmPolicy, OnAlarm};

/// `[code.alarm]`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Alarm {
    /// Messages of this time are looked at.
    pub window: Length,
    /// With fewer messages there is no alarm.
    pub at_least: u32,
    /// Below this share of codes that come back, in percent, there is; 0 is never.
    pub percent: u8,
    /// What follows: `tell` alone, `slow` (a message a minute) or `pause` (none).
    pub then: OnAlarm,
}

impl Default for Alarm {
    fn default() -> Self {
        Self { window: Length::minutes(60), at_least: 30, percent: 20, then: OnAlarm::Slow }
    }
}

impl From<Alarm> for AlarmPolicy {
    fn from(Alarm { window, at_least, percent, then }: Alarm) -> Self {
        Self { window: window.0, at_least, percent, then }
    }
}
