//! What goes in comes back: across a stop, a crash, a reboot and a change of the configuration.

use proptest::prelude::*;

use super::*;

/// Copies what lies on disk, as a crash at this moment would leave it.
pub(super) fn crash_image(from: &Path) -> (tempfile::TempDir, Plan) {
    let to = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(from.parent().unwrap()).unwrap() {
        let entry = entry.unwrap();
        if !entry.file_name().to_string_lossy().ends_with("-shm") {
            std::fs::copy(entry.path(), to.path().join(entry.file_name())).unwrap();
        }
    }
    let plan = Plan::new(to.path());
    (to, plan)
}

fn gist(snapshot: &Snapshot) -> String {
    format!("{snapshot:#?}")
}

#[derive(Clone, Debug)]
enum Step {
    Arrive(u64),
    Login(u64, u8),
    See(u64),
    Use(u64),
    Leave(u64),
    Publish,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..12u64).prop_map(Step::Arrive),
        4 => (0..12u64, 1..5u8).prop_map(|(device, key)| Step::Login(device, key)),
        3 => (0..12u64).prop_map(Step::See),
        2 => (0..12u64).prop_map(Step::Use),
        3 => (0..12u64).prop_map(Step::Leave),
        1 => Just(Step::Publish),
    ]
}

/// A simple store in memory: what the snapshot should say.
#[derive(Default)]
struct Model {
    visits: u64,
    sessions: u64,
    /// Device → visit, opened at, last seen at.
    present: std::collections::BTreeMap<u64, (u64, u64, u64)>,
    /// Device → session, bytes.
    online: std::collections::BTreeMap<u64, (u64, u64)>,
    guests: std::collections::BTreeMap<u64, u8>,
    closed_visits: usize,
    closed_sessions: usize,
}

impl Model {
    fn records(&mut self, step: &Step, at: u64) -> Vec<Record> {
        match *step {
            Step::Arrive(device) if !self.present.contains_key(&device) => {
                self.visits += 1;
                self.present.insert(device, (self.visits, at, at));
                let name = Some(format!("phone-{device}"));
                let zone = ZoneId(1);
                let heard =
                    Record::Device { mac: mac(device), zone, hostname: name, at: BootTime(at) };
                vec![heard, opened(self.visits, device, None, at)]
            }
            Step::Login(device, key) if self.present.contains_key(&device) => {
                let (visit, ..) = self.present[&device];
                let mut records = vec![
                    verified(key, device, at),
                    Record::VisitGuest { visit: VisitId(visit), guest: guest(key) },
                ];
                self.guests.insert(device, key);
                if !self.online.contains_key(&device) {
                    self.sessions += 1;
                    self.online.insert(device, (self.sessions, 0));
                    records.push(started(self.sessions, device, at));
                }
                records
            }
            Step::See(device) if self.present.contains_key(&device) => {
                let (visit, since, last) = self.present.get_mut(&device).unwrap();
                *last = at;
                vec![seen(*visit, at - *since, at)]
            }
            Step::Use(device) if self.online.contains_key(&device) => {
                let (session, bytes) = self.online.get_mut(&device).unwrap();
                *bytes += 1000;
                vec![Record::SessionUsed {
                    session: SessionId(*session),
                    up: *bytes,
                    down: *bytes * 2,
                    left: Some(Duration::from_mins(1)),
                }]
            }
            Step::Leave(device) => {
                let mut records = Vec::new();
                if let Some((session, _)) = self.online.remove(&device) {
                    self.closed_sessions += 1;
                    records.push(ended(session, at));
                }
                if let Some((visit, since, _)) = self.present.remove(&device) {
                    self.closed_visits += 1;
                    records.push(closed(visit, at - since, at));
                }
                records
            }
            _ => Vec::new(),
        }
    }

    fn check(&self, snapshot: &Snapshot) {
        assert_eq!(snapshot.next_visit, self.visits + 1);
        assert_eq!(snapshot.next_session, self.sessions + 1);
        let visits: Vec<_> = snapshot
            .visits
            .iter()
            .map(|visit| (visit.visit.0, visit.mac, visit.seen.unwrap(), visit.carried))
            .collect();
        let mut expected: Vec<_> = self
            .present
            .iter()
            .map(|(device, (visit, since, last))| {
                (*visit, mac(*device), (BootTime(*since), BootTime(*last)), Duration::ZERO)
            })
            .collect();
        expected.sort_by_key(|visit| visit.0);
        assert_eq!(visits, expected);
        let mut online: Vec<_> = self
            .online
            .iter()
            .map(|(device, (session, bytes))| (*session, mac(*device), *bytes, *bytes * 2))
            .collect();
        online.sort_unstable();
        let sessions: Vec<_> = snapshot
            .sessions
            .iter()
            .map(|saved| &saved.grant)
            .map(|grant| (grant.session.0, grant.mac, grant.used_up, grant.used_down))
            .collect();
        assert_eq!(sessions, online);
        let guests: std::collections::BTreeMap<_, _> =
            snapshot.guests.iter().map(|saved| (saved.mac, saved.guest)).collect();
        let known = self.guests.iter().map(|(device, key)| (mac(*device), guest(*key)));
        assert_eq!(guests, known.collect());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_stop_and_a_crash_read_back_the_same(steps in prop::collection::vec(step(), 1..60)) {
        let folder = tempfile::tempdir().unwrap();
        let plan = Plan::new(folder.path());
        let bench = plan.open();
        let mut model = Model::default();
        for (step, at) in steps.iter().zip((1000..).step_by(1000)) {
            bench.put(model.records(step, at));
            if matches!(step, Step::Publish) {
                bench.store.publish().unwrap();
            }
        }
        bench.store.flush().unwrap();
        let (_image, crashed) = crash_image(&plan.path);
        let crashed = crashed.open();
        model.check(&crashed.snapshot);
        let of_crash = crashed.store.next_batch(10_000).unwrap().map(|batch| batch.ndjson);
        bench.close();
        let stopped = plan.open();
        model.check(&stopped.snapshot);
        let of_stop = stopped.store.next_batch(10_000).unwrap().map(|batch| batch.ndjson);
        prop_assert_eq!(of_crash.map(|ndjson| ndjson.len()), of_stop.as_ref().map(Vec::len));
        // Consents have no id.
        let rows = String::from_utf8(of_stop.unwrap_or_default()).unwrap().matches("\"id\":").count();
        prop_assert_eq!(rows, model.closed_visits + model.closed_sessions);
        prop_assert_eq!(stopped.snapshot.devices.len(), crashed.snapshot.devices.len());
        crashed.close();
        stopped.close();
    }
}

#[test]
fn a_reboot_carries_dwell_and_what_was_left() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = Plan::new(folder.path());
    let bench = plan.open();
    bench.put([
        opened(1, 2, None, 100_000),
        seen(1, 40_000, 140_000),
        started(1, 2, 130_000),
        Record::SessionUsed {
            session: SessionId(1),
            up: 5,
            down: 6,
            left: Some(Duration::from_mins(15)),
        },
    ]);
    bench.close();

    plan.boot = "boot-2";
    plan.now = Now { boot: BootTime(9_000), wall: None };
    let bench = plan.open();
    let visit = &bench.snapshot.visits[0];
    assert_eq!((visit.carried, visit.seen), (Duration::from_secs(40), None));
    let session = &bench.snapshot.sessions[0];
    assert_eq!(session.started, None);
    let spent = Duration::from_mins(15).checked_sub(session.grant.left.unwrap()).unwrap();
    assert!(spent < Duration::from_secs(10), "as when the boot was last alive: {spent:?} less");
    assert_eq!(session.identity, Identity::Guest(guest(1)));
    assert_eq!(session.grant.limits, grant(1, 2).limits);
    // The visit goes on in this boot: 40 s before, 10 s from 20,000 to 30,000.
    bench.put([seen(1, 50_000, 30_000)]);
    bench.close();
    let bench = plan.open();
    let visit = &bench.snapshot.visits[0];
    assert_eq!(visit.carried, Duration::from_secs(40));
    assert_eq!(visit.seen, Some((BootTime(20_000), BootTime(30_000))));
    bench.close();
}

#[test]
fn rows_of_a_zone_that_is_gone_are_closed_and_reach_hq() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = Plan::new(folder.path());
    let bench = plan.open();
    bench.put([opened(1, 2, None, 1000), seen(1, 7000, 8000), started(1, 2, 2000)]);
    bench.close();
    plan.zones = vec!["cafe".into()];
    let bench = plan.open();
    assert!(bench.snapshot.sessions.is_empty() && bench.snapshot.visits.is_empty());
    assert_eq!((bench.snapshot.next_session, bench.snapshot.next_visit), (2, 2));
    let batch = bench.store.next_batch(10).unwrap().unwrap();
    let text = String::from_utf8(batch.ndjson).unwrap();
    assert!(text.contains(r#""reason":"left""#) && text.contains(r#""dwell_ms":7000"#), "{text}");
    bench.close();
    // The zone comes back under another number.
    plan.zones = vec!["cafe".into(), "hall".into()];
    let bench = plan.open();
    bench.put([Record::Device { mac: mac(4), zone: ZoneId(1), hostname: None, at: BootTime(1) }]);
    bench.close();
    plan.zones = vec!["hall".into()];
    let bench = plan.open();
    let device = bench.snapshot.devices.iter().find(|device| device.mac == mac(4)).unwrap();
    assert_eq!(device.zone, ZoneId(0));
    bench.close();
}

#[test]
fn wall_time_is_filled_in_for_this_boot_only() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = Plan::new(folder.path());
    let bench = plan.open();
    bench.put([opened(1, 2, None, 1000), closed(1, 500, 1500)]);
    bench.close();
    plan.boot = "boot-2";
    let bench = plan.open();
    bench.put([opened(2, 2, None, 2000), verified(1, 2, 2500), started(1, 2, 3000)]);
    bench.put([closed(2, 600, 2600), ended(1, 4000)]);
    bench.store.clock_trusted(1_000_000).unwrap();
    bench.put([opened(3, 2, None, 9000)]);
    bench.store.publish().unwrap();
    let walls: String = value(&plan.path, "SELECT group_concat(coalesce(started, '-')) FROM visit");
    assert_eq!(walls, "-,1002000,1009000");
    let times: String = value(
        &plan.path,
        "SELECT (SELECT started || ',' || ended FROM session) || ';'
             || (SELECT group_concat(at) FROM access_log) || ';' || (SELECT at FROM consent)
             || ';' || (SELECT verified FROM device)",
    );
    assert_eq!(times, "1003000,1004000;1003000,1004000;1002500;1002500");
    let batch = bench.store.next_batch(10).unwrap().unwrap();
    let rows: Vec<serde_json::Value> = batch
        .ndjson
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    let starts: Vec<_> = rows.iter().map(|row| row["started"].as_i64()).collect();
    assert_eq!(starts, [None, Some(1_002_500), Some(1_002_000), Some(1_003_000)]);
    assert_eq!(rows[0]["boot"], "boot-1");
    assert_eq!(rows[3]["length_ms"], 1000);
    bench.close();
}

#[test]
fn hq_gets_no_mac_and_a_used_token_stays_used() {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan::new(folder.path());
    let bench = plan.open();
    bench.put([
        Record::TokenUsed { nonce: [3; 16], expires: WallTime(i64::MAX) },
        opened(1, 7, Some(1), 1000),
        closed(1, 500, 1500),
    ]);
    let text = String::from_utf8(bench.store.next_batch(1).unwrap().unwrap().ndjson).unwrap();
    let bare = data_encoding::HEXLOWER.encode(&mac(7).0);
    assert!(!text.contains(&bare) && !text.contains(&mac(7).to_string()), "{text}");
    assert!(text.contains(&guest(1).to_string()) && text.contains(r#""seq":1,"#), "{text}");
    bench.close();
    let bench = plan.open();
    assert_eq!(bench.snapshot.used_tokens, [([3; 16], WallTime(i64::MAX))]);
    assert!(!gist(&bench.snapshot).contains("0303"));
    bench.close();
}

#[test]
fn the_access_log_is_kept_for_its_time_and_no_longer() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = Plan::new(folder.path());
    let day = 86_400_000;
    let left_after = |plan: &mut Plan, boot, days: i64| -> i64 {
        plan.boot = boot;
        let bench = plan.open();
        // However long this machine has run.
        let since = i64::try_from(clock::boot().0).unwrap();
        bench.store.clock_trusted(days * day - since).unwrap();
        bench.put([opened(bench.snapshot.next_visit, 1, None, 1000)]);
        bench.keep_terms();
        bench.close();
        value(&plan.path, "SELECT count(*) FROM access_log")
    };
    let bench = plan.open();
    bench.store.clock_trusted(day).unwrap();
    bench.put([started(1, 1, 1000), ended(1, 2000)]);
    bench.close();
    assert_eq!(left_after(&mut plan, "boot-2", 184), 2);
    assert_eq!(left_after(&mut plan, "boot-3", 188), 0);
}
