//! What may be done only so often is counted across starts and reboots.

use super::*;

#[test]
fn messages_count_across_starts_and_reboots_for_a_day() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = Plan::new(folder.path());
    let sent = |number: u8, at: u64| Record::MessageCounted {
        mac: mac(1),
        number: guest(number),
        prefix: guest(9),
        zone: ZoneId(0),
        at: BootTime(at),
    };
    let ages = |plan: &Plan| -> Vec<(u8, u64)> {
        let bench = plan.open();
        let messages = bench.snapshot.messages.iter();
        let ages = messages.map(|sent| (sent.number.0[0], sent.age.as_secs())).collect();
        bench.close();
        ages
    };
    let hours = |hours: u64| hours * 3_600_000;
    let bench = plan.open();
    bench.put([sent(1, 1_000), sent(2, hours(1)), sent(3, hours(24) + 1_000)]);
    bench.close();
    plan.now.boot = BootTime(hours(24) + 61_000);
    // One that is a day old when another is sent goes.
    assert_eq!(ages(&plan), [(2, 82_861), (3, 60)]);

    // The next boot does not know the time: as if sent just now, and only once so.
    plan.boot = "boot-2";
    plan.now = Now { boot: BootTime(hours(2)), wall: None };
    assert_eq!(ages(&plan), [(2, 0), (3, 0)]);
    plan.now.boot = BootTime(hours(3));
    let bench = plan.open();
    assert_eq!(bench.snapshot.messages[0].age.as_secs(), 3600);
    bench.store.clock_trusted(1_000_000_000).unwrap();
    bench.close();

    // The boot after that does.
    plan.boot = "boot-3";
    let wall = i64::try_from(hours(12)).unwrap() + 1_000_000_000;
    plan.now = Now { boot: BootTime(5), wall: Some(WallTime(wall)) };
    assert_eq!(ages(&plan), [(2, 36_000), (3, 36_000)]);
}

#[test]
fn attempts_count_across_starts_and_reboots_for_their_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = Plan::new(folder.path());
    let made = |attempt, minutes: u64| Record::Attempted {
        attempt,
        mac: mac(1),
        at: BootTime(minutes * 60_000),
    };
    let ages = |plan: &Plan| -> Vec<(bool, u64)> {
        let bench = plan.open();
        let made = bench.snapshot.attempts.iter();
        let ages =
            made.map(|made| (made.attempt == Attempt::Pass, made.age.as_secs() / 60)).collect();
        bench.close();
        ages
    };
    let bench = plan.open();
    bench.put([made(Attempt::Pass, 10), made(Attempt::WrongVoucher, 10)]);
    bench.put([made(Attempt::Pass, 600), made(Attempt::WrongVoucher, 600)]);
    bench.close();
    plan.now.boot = BootTime(605 * 60_000);
    assert_eq!(
        ages(&plan),
        [(true, 595), (true, 5), (false, 5)],
        "one that counts no more went with the next"
    );
    // As with messages: no clock, as if just now; with one, as it was.
    plan.boot = "boot-2";
    plan.now = Now { boot: BootTime(0), wall: None };
    assert!(ages(&plan).iter().all(|(_, age)| *age == 0));
    plan.now.boot = BootTime(7 * 60_000);
    let bench = plan.open();
    assert!(bench.snapshot.attempts.iter().all(|made| made.age.as_secs() == 420));
    bench.store.clock_trusted(1_000_000_000).unwrap();
    bench.close();
    plan.boot = "boot-3";
    let hour = 3_600_000;
    plan.now = Now { boot: BootTime(5), wall: Some(WallTime(1_000_000_000 + hour)) };
    assert!(ages(&plan).iter().all(|(_, age)| *age == 60));
}

#[test]
fn how_often_a_session_was_lengthened_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan::new(folder.path());
    let bench = plan.open();
    let follows = |record| match record {
        Record::SessionStarted { grant, identity, method, address, terms, at, .. } => {
            Record::SessionStarted { grant, identity, method, address, extended: 2, terms, at }
        }
        other => other,
    };
    let (session, identity) = (SessionId(1), Identity::Guest(guest(1)));
    let limits = Limits::default();
    bench.put([started(1, 1, 1000), follows(started(2, 2, 1000))]);
    bench.put([Record::SessionChanged { session, identity, limits, extended: 1 }]);
    bench.close();
    let times: Vec<u8> = plan.open().snapshot.sessions.iter().map(|saved| saved.extended).collect();
    assert_eq!(times, [1, 2]);
}
