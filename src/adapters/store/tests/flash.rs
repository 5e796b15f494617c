//! How much a day writes to the flash.

use super::disk::SmallDisk;
use super::*;
use crate::domain::auth::seal::Sealed;

/// What is handed to the kernel; how much of a page that dirties is the file system's affair.
fn written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap();
    let line = io.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap();
    line.parse::<u64>().unwrap()
}

/// What visit `n` writes before its session: a device that comes, and every third time a pass.
fn arrival(n: u64, mac: Mac, at: BootTime) -> Vec<Record> {
    let hostname = Some(format!("phone-of-{}", mac.0[5]));
    let zone = ZoneId(0);
    let mut records = vec![
        Record::Device { mac, zone, hostname, at },
        Record::VisitOpened { visit: VisitId(n), zone, mac, guest: None, at },
    ];
    let attempt = Attempt::Pass;
    records.extend(n.is_multiple_of(3).then_some(Record::Attempted { attempt, mac, at }));
    records
}

/// A guest whom nobody knows yet asks for a code, and types it in.
fn proof(n: u64, mac: Mac, at: BootTime, sealed: bool) -> [Record; 3] {
    let odd = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835_u128;
    let guest = GuestKey(odd.wrapping_mul(n.into()).to_be_bytes());
    let (zone, prefix) = (ZoneId(0), GuestKey([7; 16]));
    // As long as a box of `phone:+` and thirteen digits.
    let seal = || Sealed([guest.0; 5].as_flattened()[..68].to_vec());
    [
        Record::MessageCounted { mac, number: guest, prefix, zone, at },
        Record::Verified {
            guest,
            mac,
            mask: "*34".into(),
            sealed: sealed.then(seal),
            consent: Consent { terms: "2026-01".into(), marketing: true },
            method: Method::Sms,
            at,
        },
        Record::VisitGuest { visit: VisitId(n), guest },
    ]
}

/// Bytes that 3,000 visits write in half a day, each guest a new one.
fn busy_day(sealed: bool) -> u64 {
    let disk = SmallDisk::new("size=64m");
    let mut plan = Plan::new(disk.0.path());
    plan.commit_every = Duration::from_hours(1);
    let mut bench = plan.open();
    bench.store.clock_trusted(1_772_380_800_000).unwrap();
    let before = written();
    // Each visit has a flush of its own wherever records lie more than a group's time apart.
    for n in 1..=3000 {
        let (device, at) = (n * 7919 % 100_003, n * 14_400);
        bench.put(arrival(n, mac(device), BootTime(at)));
        bench.store.flush().unwrap();
        bench.put(proof(n, mac(device), BootTime(at + 40_000), sealed));
        bench.put([started(n, device, at + 40_000)]);
        assert!(matches!(bench.answer(), Event::Stored(_)));
        if n > 160 {
            let gone = n - 160;
            bench.put([ended(gone, at), closed(gone, 2_304_000, at)]);
            bench.store.flush().unwrap();
        }
        // Every five minutes a checkpoint of all who are present.
        if n % 21 == 0 {
            for m in n.saturating_sub(159).max(1)..=n {
                let (session, left) = (SessionId(m), Some(Duration::from_mins(15)));
                bench.put([
                    seen(m, 300_000, at),
                    Record::SessionUsed { session, up: at, down: at, left },
                ]);
            }
            bench.store.flush().unwrap();
        }
        // Forty minutes are 168 visits.
        if n % 168 == 0 {
            bench.store.publish().unwrap();
        }
    }
    bench.store.publish().unwrap();
    let (written, settled) = (written() - before, bench.store.counts().settled);
    println!("3,000 visits wrote {written} bytes, {settled} settled, sealed: {sealed}");
    bench.close();
    written
}

#[test]
fn a_busy_day_writes_little() {
    assert!(busy_day(false) < 20_000_000);
}

#[test]
fn a_busy_day_with_identities_sealed_for_hq_writes_little() {
    assert!(busy_day(true) < 20_000_000);
}

/// The record knows already when sessions end, and how much each has used.
#[test]
fn a_stop_with_a_thousand_online_writes_a_row() {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan::new(folder.path());
    let bench = plan.open();
    bench.put((1..=1000).map(|n| started(n, n, 1000)));
    bench.close();
    let bench = plan.open();
    let before = written();
    bench.store.closing();
    bench.close();
    let written = written() - before;
    println!("a stop wrote {written} bytes");
    assert!(written < 20_000, "{written}");
    let alive: i64 = value(&plan.path, "SELECT alive_ms FROM boot");
    assert!(clock::boot() - BootTime(alive.cast_unsigned()) < Duration::from_mins(1));
}

/// Strangers try wrong vouchers as fast as the store hears them, under an address of their own for
/// every ten.
#[test]
fn an_hour_of_guessing_writes_no_more_than_an_hour_of_trade() {
    let disk = SmallDisk::new("size=64m");
    let mut plan = Plan::new(disk.0.path());
    plan.commit_every = Duration::from_hours(1);
    let bench = plan.open();
    let before = written();
    // Five a second, a group every five seconds.
    for group in 0..720 {
        bench.put((0..25).map(|guess| Record::Attempted {
            attempt: Attempt::WrongVoucher,
            mac: mac((group * 25 + guess) / 10),
            at: BootTime(group * 5000 + guess * 200),
        }));
        bench.store.flush().unwrap();
        if group % 480 == 479 {
            bench.store.publish().unwrap();
        }
    }
    bench.store.publish().unwrap();
    let written = written() - before;
    println!("18,000 wrong vouchers wrote {written} bytes");
    assert!(written < 20_000_000 / 12, "{written}");
    bench.close();
    let kept: i64 = value(&plan.path, "SELECT count(*) FROM attempt");
    assert_eq!(kept, 3000, "ten minutes");
}
