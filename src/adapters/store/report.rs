//! What the staff page shows, as read from the database.

use std::time::Duration;

use crate::domain::names::{Mac, WallTime};

/// Bounds of the dwell buckets, in minutes (protocol practice: Meraki): under 5, 5–20, 20–60,
/// 60–360, over 360.
pub const BUCKET_MINUTES: [u64; 4] = [5, 20, 60, 360];

/// One day of one store.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DayReport {
    /// Who is in the store now, longest first.
    pub present: Vec<Present>,
    /// Visits that began today, open ones included.
    pub visits: u32,
    /// Those of at least `visitor_after`.
    pub visitors: u32,
    /// Median dwell of today's visits.
    pub median: Option<Duration>,
    /// Mean dwell of today's visits.
    pub mean: Option<Duration>,
    /// Today's visits by dwell, in the buckets of [`BUCKET_MINUTES`].
    pub buckets: [u32; 5],
    /// Of today's identified guests: how many, and how many have come on an earlier day or visit.
    pub guests: Repeat,
    /// Of today's devices without a known guest: the same, by MAC.
    pub devices: Repeat,
    /// Today's devices with a randomised MAC, in percent (0 to 100); `None` without devices.
    pub randomised_percent: Option<u8>,
    /// Too few codes come back: somebody may pump messages.
    pub alarm: bool,
    /// Visits that were open during each hour of the day, in the store's time zone.
    pub by_hour: [u32; 24],
}

/// How many came, and how many came again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repeat {
    /// All.
    pub all: u32,
    /// With an earlier visit.
    pub again: u32,
}

/// Somebody in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// The device.
    pub mac: Mac,
    /// The name it gave.
    pub hostname: Option<String>,
    /// The guest's mask, where known.
    pub mask: Option<String>,
    /// First evidence; `None` while the clock is not trusted.
    pub since: Option<WallTime>,
    /// So far.
    pub dwell: Duration,
    /// Visits of this guest (of this device, where no guest is known), this one included.
    pub visits: u32,
}
