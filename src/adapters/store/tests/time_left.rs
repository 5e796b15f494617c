//! What is left of a session's time, on this boot's clock and after a reboot.

use super::round_trip::crash_image;
use super::*;

#[test]
fn time_left_runs_on_the_boot_clock_and_over_a_reboot_on_the_wall() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = Plan::new(folder.path());
    let bench = plan.open();
    let start = clock::boot();
    bench.put([started(1, 2, start.0)]);
    let wall = 1_700_000_000_000;
    bench.store.clock_trusted(wall - start.0.cast_signed()).unwrap();
    bench.close();
    // Same boot, ten minutes later.
    plan.now = Now { boot: start + Duration::from_mins(10), wall: None };
    let bench = plan.open();
    assert_eq!(bench.snapshot.sessions[0].grant.left, Some(Duration::from_mins(50)));
    assert_eq!(bench.snapshot.sessions[0].started, Some(start));
    bench.close();
    // Another boot, twenty minutes after the start by the wall.
    plan.boot = "boot-2";
    let minutes = |minutes: i64| Some(WallTime(wall + minutes * 60_000));
    plan.now = Now { boot: BootTime(5_000), wall: minutes(20) };
    let bench = plan.open();
    assert_eq!(bench.snapshot.sessions[0].grant.left, Some(Duration::from_mins(40)));
    bench.store.clock_trusted(wall + 20 * 60_000 - 5_000).unwrap();
    bench.close();
    // That boot's clock is what counts now: 20 minutes later no wall is needed.
    plan.now = Now { boot: BootTime(5_000 + 20 * 60_000), wall: None };
    let bench = plan.open();
    assert_eq!(bench.snapshot.sessions[0].grant.left, Some(Duration::from_mins(20)));
    assert_eq!(bench.snapshot.sessions[0].started, None);
    bench.close();
    plan.boot = "boot-3";
    plan.now.wall = minutes(1440);
    let bench = plan.open();
    assert_eq!(bench.snapshot.sessions[0].grant.left, Some(Duration::ZERO), "over long ago");
    bench.close();
}

/// Of thousands who say nothing, nothing is written: one who does shows that the boot was alive.
#[test]
fn a_power_cut_leaves_each_the_time_that_was_left() {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan::new(folder.path());
    let bench = plan.open();
    let start = clock::boot();
    let mut endless = started(3, 6, start.0);
    if let Record::SessionStarted { grant, .. } = &mut endless {
        grant.left = None;
    }
    bench.put([started(1, 2, start.0), started(2, 4, start.0), endless]);
    bench.store.publish().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let left = Some(Duration::from_mins(5));
    bench.put([Record::SessionUsed { session: SessionId(2), up: 1, down: 1, left }]);
    bench.store.flush().unwrap();
    let mut image = crash_image(&plan.path);
    let passed = clock::boot() - start;
    bench.close();
    // The second boot's power is cut as soon as it has started.
    for boot in ["boot-2", "boot-3"] {
        let (_folder, mut crashed) = image;
        crashed.boot = boot;
        crashed.now.boot = clock::boot();
        let bench = crashed.open();
        let sessions = bench.snapshot.sessions.iter();
        let lefts: Vec<_> = sessions.map(|saved| saved.grant.left).collect();
        let spent = Duration::from_hours(1).checked_sub(lefts[0].unwrap()).unwrap();
        assert!(spent >= Duration::from_millis(300), "{spent:?}");
        assert!(spent <= passed + Duration::from_secs(1), "{spent:?} of {passed:?}");
        assert!(lefts[1] <= left && lefts[1] > Some(Duration::from_secs(290)), "{lefts:?}");
        assert_eq!(lefts[2], None);
        image = crash_image(&crashed.path);
        bench.close();
    }
}
