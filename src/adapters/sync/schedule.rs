//! When the nightly run is due.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use sha2::{Digest, Sha256};

use crate::config::TimeOfDay;
use crate::domain::names::WallTime;

/// The next moment after `now` that is `at` in time zone `tz`, put off by this store's share of
/// `jitter`, so that a chain's stores do not all come at once.
pub fn next_run(
    now: WallTime,
    at: TimeOfDay,
    jitter: Duration,
    store_id: &str,
    tz: &TimeZone,
) -> Result<WallTime, jiff::Error> {
    let today = Timestamp::from_millisecond(now.0)?.to_zoned(tz.clone()).date();
    // A late hour with its share may fall on the day after.
    let mut date = today.checked_sub(jitter_days(jitter).days())?;
    let (hour, minute) = (at.hour.min(23).cast_signed(), at.minute.min(59).cast_signed());
    loop {
        let base = date.at(hour, minute, 0, 0).to_zoned(tz.clone())?.timestamp();
        let run = WallTime(base.as_millisecond()) + share(jitter, store_id);
        if run > now {
            return Ok(run);
        }
        date = date.tomorrow()?;
    }
}

/// This store's part of `length`: the same every night, evenly spread over the stores.
pub fn share(length: Duration, store_id: &str) -> Duration {
    let digest = Sha256::digest(store_id.as_bytes());
    let number = digest.iter().take(4).fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
    let millis = u64::try_from(length.as_millis()).unwrap_or(u64::MAX).min(u64::MAX >> 32);
    Duration::from_millis((number * millis) >> 32)
}

fn jitter_days(jitter: Duration) -> i64 {
    i64::try_from(jitter.as_secs() / 86_400).unwrap_or(0).min(30) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: TimeOfDay = TimeOfDay { hour: 3, minute: 30 };
    const HOUR: Duration = Duration::from_hours(1);

    fn wall(text: &str) -> WallTime {
        WallTime(text.parse::<Timestamp>().unwrap().as_millisecond())
    }

    fn shanghai() -> TimeZone {
        TimeZone::posix("CST-8").unwrap()
    }

    #[test]
    fn without_jitter_it_is_the_hour_itself() {
        let next = |now| next_run(wall(now), AT, Duration::ZERO, "s", &shanghai()).unwrap();
        assert_eq!(next("2026-03-01T12:00:00Z"), wall("2026-03-01T19:30:00Z"));
        assert_eq!(next("2026-03-01T19:29:59Z"), wall("2026-03-01T19:30:00Z"));
        assert_eq!(next("2026-03-01T19:30:00Z"), wall("2026-03-02T19:30:00Z"), "not twice");
    }

    #[test]
    fn a_share_over_midnight_still_comes() {
        let late = TimeOfDay { hour: 23, minute: 50 };
        let tz = shanghai();
        let run = next_run(wall("2026-03-01T12:00:00Z"), late, HOUR, "store-7", &tz).unwrap();
        let base = wall("2026-03-01T15:50:00Z");
        assert_eq!(run, base + share(HOUR, "store-7"));
        let before = WallTime(run.0 - 1);
        assert_eq!(next_run(before, late, HOUR, "store-7", &tz).unwrap(), run);
    }

    #[test]
    fn a_skipped_hour_runs_once_that_night() {
        let tz = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let half_past_two = TimeOfDay { hour: 2, minute: 30 };
        let run = |now| next_run(wall(now), half_past_two, Duration::ZERO, "s", &tz).unwrap();
        assert_eq!(run("2026-03-28T23:00:00Z"), wall("2026-03-29T01:30:00Z"));
        assert_eq!(run("2026-03-29T01:30:00Z"), wall("2026-03-30T00:30:00Z"));
    }

    #[test]
    fn stores_spread_over_the_jitter() {
        let mut quarters = [0; 4];
        for store in 0..4000 {
            let share = share(HOUR, &format!("store-{store}"));
            assert!(share < HOUR);
            quarters[usize::try_from(share.as_secs() / 900).unwrap()] += 1;
        }
        assert!(quarters.iter().all(|count| (900..1100).contains(count)), "{quarters:?}");
    }
}
