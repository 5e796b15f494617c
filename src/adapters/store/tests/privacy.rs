//! What is kept of guests, for how long, and who is told.

use serde_json::Value;

use super::*;
use crate::config::Length;
use crate::domain::auth::seal::Sealed;
use crate::domain::auth::voucher::VoucherId;

const DAY: i64 = 86_400_000;

fn count(path: &Path, what: &str) -> i64 {
    value(path, &format!("SELECT count(*) FROM {what}"))
}

fn agreed(key: u8, device: u64, at: u64) -> Record {
    Record::Verified {
        guest: guest(key),
        mac: mac(device),
        mask: format!("*{key:02}"),
        sealed: Some(Sealed(vec![key; 60])),
        consent: Consent { terms: "3".into(), marketing: true },
        method: Method::Sms,
        at: BootTime(at),
    }
}

fn rows(bench: &Bench) -> Vec<Value> {
    let batch = bench.store.next_batch(100).unwrap().unwrap();
    let lines = batch.ndjson.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}

#[test]
fn hq_learns_what_a_guest_agreed_to_and_under_which_seal() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Plan::new(folder.path()).open();
    bench.put([agreed(1, 1, 5000)]);
    bench.store.clock_trusted(1_000_000).unwrap();
    // A follower, of whom HQ has more than we do.
    bench.put([Record::Verified {
        guest: guest(2),
        mac: mac(2),
        mask: String::new(),
        sealed: None,
        consent: Consent::default(),
        method: Method::Follow,
        at: BootTime(6000),
    }]);
    let alarm = |begins, at| Record::Alarm { begins, sent: 40, accepted: 2, at: BootTime(at) };
    bench.put([alarm(true, 7000)]);
    let day = |bench: &Bench| {
        let reader = bench.store.reader();
        reader.day_report(WallTime(DAY), &jiff::tz::TimeZone::UTC, Duration::ZERO).unwrap()
    };
    assert!(day(&bench).alarm);
    bench.put([alarm(false, 8000)]);
    assert!(!day(&bench).alarm);
    let rows = rows(&bench);
    assert_eq!(rows.len(), 3, "{rows:?}");
    assert_eq!(rows[0]["type"], "consent");
    assert_eq!(rows[0]["guest"], guest(1).to_string());
    assert_eq!(rows[0]["sealed"], Sealed(vec![1; 60]).text());
    assert_eq!((&rows[0]["terms"], &rows[0]["marketing"]), (&"3".into(), &true.into()));
    assert_eq!(rows[0]["started"], 1_005_000);
    assert_eq!((&rows[1]["type"], &rows[1]["begins"]), (&"alarm".into(), &true.into()));
    assert_eq!(rows[2]["accepted"], 2);
    bench.close();
}

#[test]
fn hq_is_told_of_an_erasure_and_the_seal_goes_with_the_access_log() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = Plan::new(folder.path());
    let bench = plan.open();
    bench.store.clock_trusted(DAY).unwrap();
    bench.put([
        opened(1, 1, Some(1), 500),
        agreed(1, 1, 1000),
        started(1, 1, 2000),
        agreed(2, 2, 2500),
    ]);
    bench.store.erase(guest(2)).unwrap();
    assert_eq!(count_after(&bench, &plan, "identity"), 0, "no access: no seal");
    assert_eq!(count(&plan.path, "seal"), 1);
    bench.store.erase(guest(1)).unwrap();
    bench.store.erase(guest(1)).unwrap();
    bench.put([ended(1, 3000), closed(1, 2000, 2500)]);
    let rows = rows(&bench);
    let kinds: Vec<_> = rows.iter().map(|row| row["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["erased", "erased", "session", "visit"], "{rows:?}");
    assert_eq!(rows[1]["guest"], guest(1).to_string());
    assert!(rows[2]["guest"].is_null() && rows[3]["guest"].is_null());
    let page = bench.store.reader().access_log(0, 2 * DAY, 0).unwrap();
    let start = &page.rows[0];
    assert_eq!((start.guest, &start.sealed), (Some(guest(1)), &Some(Sealed(vec![1; 60]))));
    assert_eq!((page.rows.len(), page.more), (2, false));
    assert_eq!(bench.store.reader().access_log(0, 2 * DAY, start.id).unwrap().rows.len(), 1);
    assert!(bench.store.reader().access_log(2 * DAY, 3 * DAY, 0).unwrap().rows.is_empty());
    let file = bench.store.reader().guest(guest(1)).unwrap();
    assert!(file.is_empty() && file.access_log == 1, "{file:?}");
    bench.close();
    plan.boot = "boot-2";
    let bench = plan.open();
    bench.store.clock_trusted(200 * DAY).unwrap();
    bench.put([opened(2, 9, None, 10)]);
    bench.keep_terms();
    assert_eq!(count_after(&bench, &plan, "identity"), 0);
    assert_eq!(count_after(&bench, &plan, "access_log"), 0);
    bench.close();
}

fn count_after(bench: &Bench, plan: &Plan, what: &str) -> i64 {
    bench.store.publish().unwrap();
    count(&plan.path, what)
}

#[test]
fn a_guest_can_see_all_that_is_kept_of_them_and_nothing_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Plan::new(folder.path()).open();
    bench.store.clock_trusted(DAY).unwrap();
    for (number, key) in [(1, 1), (2, 2)] {
        bench.put([opened(number, number, Some(key), 500), agreed(key, number, 1000)]);
    }
    bench.put([started(1, 1, 2000), closed(1, 2000, 2500)]);
    let file = bench.store.reader().guest(guest(1)).unwrap();
    assert_eq!(file.mask.as_deref(), Some("*01"));
    assert_eq!(file.sealed, Some(Sealed(vec![1; 60]).text()));
    assert_eq!((file.consents.len(), file.devices.len()), (1, 1));
    assert_eq!(file.consents[0].at.as_deref(), Some("1970-01-02T00:00:01Z"));
    assert_eq!((file.visits.len(), file.visits[0].dwell_ms), (1, Some(2000)));
    assert_eq!((file.sessions.len(), file.access_log), (1, 1));
    let text = serde_json::to_string(&file).unwrap();
    assert!(!text.contains(&mac(2).to_string()) && !text.contains("*02"), "{text}");
    assert!(bench.store.reader().guest(guest(3)).unwrap().is_empty());
    bench.close();
}

/// A guest and a device of this day's own, and a device that is heard of every day.
fn trade(day: i64) -> Vec<Record> {
    let number = day.unsigned_abs();
    let (key, fresh) = (u8::try_from(day % 250).unwrap() + 1, 1000 + number);
    let (by_code, by_voucher) = (2 * number, 2 * number + 1);
    let id = VoucherId { batch: 1, number: 1 };
    let voucher = Record::SessionStarted {
        grant: grant(by_voucher, fresh),
        identity: Identity::Voucher(id),
        method: Method::Voucher,
        address: None,
        extended: 0,
        terms: "3".into(),
        at: BootTime(1300),
    };
    vec![
        opened(number, fresh, Some(key), 1000),
        agreed(key, fresh, 1100),
        Record::SessionStarted {
            grant: grant(by_code, fresh),
            identity: Identity::Guest(guest(key)),
            method: Method::Sms,
            address: None,
            extended: 0,
            terms: String::new(),
            at: BootTime(1200),
        },
        ended(by_code, 2000),
        voucher,
        ended(by_voucher, 2100),
        closed(number, 1000, 2000),
        Record::Device { mac: mac(7), zone: ZoneId(0), hostname: None, at: BootTime(3) },
    ]
}

#[test]
fn over_a_year_nothing_outlives_its_term() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = Plan::new(folder.path());
    let days = |days: u64| Length(Duration::from_hours(24 * days));
    plan.retention.visits = days(60);
    plan.retention.sessions = days(30);
    plan.retention.devices = days(90);
    plan.retention.consents = days(120);
    plan.retention.voucher_uses = days(45);
    let boots: Vec<&'static str> =
        (0..370).map(|day| &*Box::leak(format!("boot-{day}").into_boxed_str())).collect();
    let mut oldest = [0; 7];
    for (day, boot) in (1i64..).zip(boots) {
        plan.boot = boot;
        plan.now = Now { boot: BootTime(1000), wall: None };
        let bench = plan.open();
        // Every tenth day the router does not learn the time.
        if day % 10 != 0 {
            bench.store.clock_trusted(day * DAY).unwrap();
            bench.keep_terms();
        }
        bench.put(trade(day));
        bench.close();
        if day % 73 == 0 && day % 10 != 0 {
            let age = |sql: &str| day - value::<i64>(&plan.path, sql) / DAY;
            oldest = [
                age("SELECT min(started) FROM visit"),
                age("SELECT min(started) FROM session"),
                age("SELECT min(heard) * 86400000 FROM device"),
                age("SELECT min(at) FROM consent"),
                age("SELECT min(at) FROM access_log"),
                age("SELECT min(at) FROM voucher_use"),
                count(&plan.path, "device WHERE mac = x'005e00000007'"),
            ];
        }
    }
    // On the 365th day: what is as old as its term may be there, what is older is not. Each term is
    // kept as the day's store opens, before or after the day's own rows.
    let terms = [60, 30, 90, 120, 184, 45];
    for (place, term) in terms.into_iter().enumerate() {
        assert!((term - 2..=term + 1).contains(&oldest[place]), "{place}: {oldest:?}");
    }
    assert_eq!(oldest[6], 1, "a device that is heard of stays");
    // Days of which nobody knows the time go with their neighbours.
    assert!(count(&plan.path, "visit") <= 62);
    assert!(count(&plan.path, "access_log") <= 4 * 187);
    assert!(count(&plan.path, "voucher_use") <= 48);
    assert!(count(&plan.path, "consent") <= 123);
    let guests = count(&plan.path, "guest");
    assert!(guests <= 123, "{guests}");
    // Their seals are kept while the access log names them.
    let seals = "(SELECT guest FROM identity UNION SELECT key FROM guest WHERE seal NOT NULL)";
    let seals = count(&plan.path, seals);
    assert!((180..=187).contains(&seals), "{seals}");
    let orphans = "identity WHERE guest NOT IN (SELECT guest FROM access_log)";
    assert_eq!(count(&plan.path, orphans), 0);
}
