//! `[retention]`: how long the record is kept on the router.

use std::time::Duration;

use serde::Deserialize;

use super::{Amount, Length};

const DAY: Duration = Duration::from_hours(24);
/// Six months of the access log are the law's, and no month has more than 31 days.
pub(super) const ACCESS_LOG_LEAST: Duration = Duration::from_hours(24 * 184);
pub(super) const MOST: Duration = Duration::from_hours(24 * 3660);

/// `[retention]`; terms are counted from the end of what they are of, and kept once a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Visits that are over.
    pub visits: Length,
    /// Sessions that are over.
    pub sessions: Length,
    /// Devices not heard of. What a guest was known by goes with the last device, visit and
    /// consent of theirs.
    pub devices: Length,
    /// What guests agreed to, once no device of theirs is known any more.
    pub consents: Length,
    /// Uses of vouchers, with the terms agreed to, from their begin.
    pub voucher_uses: Length,
    /// The access log: 184 days, which are six months, at least.
    pub access_log: Length,
    /// Rows that wait for HQ; beyond that the oldest go, nobody's first.
    pub outbox_rows: u32,
    /// Their bytes.
    pub outbox_bytes: Amount,
}

impl Default for Retention {
    fn default() -> Self {
        let days = |count: u32| Length(DAY * count);
        Self {
            visits: days(366),
            sessions: days(184),
            devices: days(366),
            consents: days(1096),
            voucher_uses: days(366),
            access_log: Length(ACCESS_LOG_LEAST),
            outbox_rows: 1_000_000,
            outbox_bytes: Amount(64 << 20),
        }
    }
}
