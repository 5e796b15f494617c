//! The staff report against a computation of its own.

use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::super::report::{DayReport, Repeat};
use super::*;

/// Midnight in Shanghai, 2 March 2026.
const MIDNIGHT: i64 = 1_772_380_800_000;
const MINUTE: i64 = 60_000;
const VISITOR: Duration = Duration::from_mins(5);

/// A visit by device and guest, wall times in minutes since midnight; `None` is still open.
#[derive(Clone, Copy, Debug)]
struct Stay {
    device: u64,
    guest: Option<u8>,
    from: i64,
    minutes: i64,
    open: bool,
}

const fn stay(device: u64, guest: Option<u8>, from: i64, minutes: i64) -> Stay {
    Stay { device, guest, from, minutes, open: false }
}

fn report(stays: &[Stay], now_minute: i64) -> DayReport {
    let folder = tempfile::tempdir().unwrap();
    let bench = Plan::new(folder.path()).open();
    // The boot clock starts two days before the day.
    let offset = MIDNIGHT - 2 * 1440 * MINUTE;
    bench.store.clock_trusted(offset).unwrap();
    for (number, stay) in (1..).zip(stays) {
        let at = u64::try_from((stay.from + 2 * 1440) * MINUTE).unwrap();
        let dwell = u64::try_from(stay.minutes * MINUTE).unwrap();
        bench.put([opened(number, stay.device, stay.guest, at)]);
        bench.put([if stay.open {
            seen(number, dwell, at + dwell)
        } else {
            closed(number, dwell, at + dwell)
        }]);
    }
    let now = WallTime(MIDNIGHT + now_minute * MINUTE);
    let tz = TimeZone::posix("CST-8").unwrap();
    let report = bench.store.reader().day_report(now, &tz, VISITOR).unwrap();
    bench.close();
    report
}

#[test]
fn a_day_counted_by_hand() {
    let mut stays = [
        stay(1, Some(1), -600, 30), // yesterday, guest 1
        stay(2, None, -500, 10),    // yesterday, device 2
        stay(1, Some(1), 600, 3),   // 10:00 guest 1 again
        stay(2, None, 610, 10),     // device 2 again
        stay(3, None, 650, 30),     // device 3, new, until 11:20
        stay(5, Some(2), 660, 90),  // 11:00 to 12:30 guest 2, new
        stay(7, Some(2), 720, 400), // guest 2's other device: the same guest again
        stay(4, None, 730, 8),      // device 4, present
    ];
    stays[7].open = true;
    let report = report(&stays, 740);
    assert_eq!((report.visits, report.visitors), (6, 5));
    assert_eq!(report.buckets, [1, 2, 1, 1, 1]);
    assert_eq!(report.median, Some(Duration::from_mins(20)), "between 10 and 30");
    assert_eq!(report.mean, Some(Duration::from_secs(5410)));
    assert_eq!(report.guests, Repeat { all: 2, again: 2 });
    assert_eq!(report.devices, Repeat { all: 3, again: 1 });
    // Devices 2 and 4 of 1, 2, 3, 4, 5, 7.
    assert_eq!(report.randomised_percent, Some(33));
    let mut by_hour = [0; 24];
    by_hour[10] = 3;
    by_hour[11] = 2;
    by_hour[12] = 3;
    assert_eq!(report.by_hour, by_hour, "not beyond now, for a visit that ends later");
    let present = &report.present[0];
    assert_eq!((report.present.len(), present.mac, present.visits), (1, mac(4), 1));
    assert_eq!(present.dwell, Duration::from_mins(10), "so far, not to the last evidence");
}

#[test]
fn an_empty_day_divides_nothing() {
    let report = report(&[], 700);
    assert_eq!(report, DayReport::default());
}

#[test]
fn a_guest_on_a_known_device_is_not_counted_twice() {
    // Device 2 came without a guest before; today its guest logs in for the first time.
    let stays = [stay(2, None, -700, 10), stay(2, Some(3), 600, 10)];
    let day = report(&stays, 700);
    assert_eq!(day.guests, Repeat { all: 1, again: 0 });
    assert_eq!(day.devices, Repeat::default());
}

#[test]
fn present_without_a_clock_has_no_since() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Plan::new(folder.path()).open();
    bench.put([
        Record::Device {
            mac: mac(3),
            zone: ZoneId(0),
            hostname: Some("phone".into()),
            at: BootTime(1),
        },
        verified(9, 3, 900),
        opened(1, 3, Some(9), 1000),
        seen(1, 4000, 5000),
    ]);
    let tz = TimeZone::UTC;
    let report = bench.store.reader().day_report(WallTime(MIDNIGHT), &tz, VISITOR).unwrap();
    let present = &report.present[0];
    assert_eq!((present.since, present.dwell), (None, Duration::from_secs(4)));
    assert_eq!(present.hostname.as_deref(), Some("phone"));
    assert_eq!(present.mask.as_deref(), Some("*09"));
    assert_eq!(report.visits, 0);
    let size = bench.store.reader().size().unwrap();
    assert_eq!((size.visits, size.sessions, size.outbox), (1, 0, 1), "a consent");
    assert!(size.bytes > 10_000);
    bench.close();
}

#[test]
fn a_day_set_forward_has_an_empty_hour() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Plan::new(folder.path()).open();
    let tz = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
    // 29 March 2026 00:00 in Berlin; the visit lasts from 01:30 to 03:30, one hour.
    let midnight = 1_774_738_800_000;
    bench.store.clock_trusted(midnight).unwrap();
    bench.put([opened(1, 3, None, 5_400_000), closed(1, 3_600_000, 9_000_000)]);
    let now = WallTime(midnight + 12 * 3_600_000);
    let report = bench.store.reader().day_report(now, &tz, VISITOR).unwrap();
    assert_eq!(report.by_hour[1..4], [1, 0, 1]);
    bench.close();
}

fn any_stay() -> impl Strategy<Value = Stay> {
    (0..9u64, prop::option::of(1..5u8), -1440..1380i64, 0..500i64)
        .prop_map(|(device, guest, from, minutes)| stay(device, guest, from, minutes))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn repeats_agree_with_looking_back(stays in prop::collection::vec(any_stay(), 0..40)) {
        let mut stays = stays;
        stays.sort_by_key(|stay| stay.from);
        let report = report(&stays, 1439);
        let today = || stays.iter().enumerate().filter(|(_, stay)| stay.from >= 0);
        let mut guests = std::collections::BTreeMap::new();
        let mut devices = std::collections::BTreeMap::new();
        for (place, stay) in today() {
            let before = &stays[..place];
            if let Some(key) = stay.guest {
                *guests.entry(key).or_insert(false) |= before.iter().any(|b| b.guest == Some(key));
            }
            let known = today().any(|(_, t)| t.device == stay.device && t.guest.is_some());
            if !known {
                *devices.entry(stay.device).or_insert(false) |=
                    before.iter().any(|b| b.device == stay.device);
            }
        }
        let again = |map: Vec<bool>| Repeat {
            all: u32::try_from(map.len()).unwrap(),
            again: u32::try_from(map.iter().filter(|again| **again).count()).unwrap(),
        };
        prop_assert_eq!(report.guests, again(guests.into_values().collect()));
        prop_assert_eq!(report.devices, again(devices.into_values().collect()));
        let dwells: Vec<i64> = today().map(|(_, stay)| stay.minutes).collect();
        prop_assert_eq!(report.visits as usize, dwells.len());
        prop_assert_eq!(report.visitors as usize, dwells.iter().filter(|d| **d >= 5).count());
        prop_assert_eq!(report.buckets.iter().sum::<u32>(), report.visits);
        for (hour, count) in (0i64..).zip(report.by_hour) {
            let open = stays.iter().filter(|stay| {
                stay.from < (hour + 1) * 60 && stay.from + stay.minutes >= hour * 60
            });
            prop_assert_eq!(count as usize, open.count(), "hour {}", hour);
        }
    }
}

#[test]
fn a_million_visits_do_not_slow_the_day() {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan::new(folder.path());
    plan.open().close();
    // 400 days of 2,500 visits, the last of them today.
    let first = MIDNIGHT + 720 * MINUTE - 400 * 86_400_000;
    Connection::open(&plan.path)
        .unwrap()
        .execute_batch(&format!(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000)
             INSERT INTO visit (id, zone, mac, boot, started_ms, started, dwell, device_nth)
             SELECT i, 'hall', randomblob(6), 1, i * 34560, {first} + i * 34560, 600000, 1
             FROM n"
        ))
        .unwrap();
    let before = clock::boot();
    let bench = plan.open();
    let opening = clock::boot() - before;
    let (reader, tz) = (bench.store.reader(), TimeZone::posix("CST-8").unwrap());
    let mut slowest = Duration::ZERO;
    for round in 1..=30 {
        bench.put([opened(1_000_000 + round, round, None, 1000 + round)]);
        let before = clock::boot();
        let now = WallTime(MIDNIGHT + 721 * MINUTE);
        assert_eq!(reader.day_report(now, &tz, VISITOR).unwrap().visits, 1251);
        slowest = slowest.max(clock::boot() - before);
    }
    println!("open {opening:?}, slowest report {slowest:?}");
    // The budgets are the yardstick's; without its index a report takes seconds.
    assert!(slowest <= Duration::from_secs(1), "{slowest:?}");
    assert!(opening <= Duration::from_secs(1), "{opening:?}");
    bench.close();
}
