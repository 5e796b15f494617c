//! Groups, crashes, full and damaged disks, and how much is written.

use std::io::{BufRead, BufReader, Write as _};
use std::process::{Command, Stdio};

use super::*;

#[test]
fn records_share_a_group_and_a_session_does_not_wait() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = Plan::new(folder.path());
    plan.commit_every = Duration::from_hours(1);
    let mut bench = plan.open();
    bench.put((1..=150).map(|number| opened(number, number, None, number)));
    bench.put([started(1, 2, 500)]);
    assert!(matches!(bench.answer(), Event::Stored(SessionId(1))));
    assert!(bench.store.counts().groups <= 2, "{:?}", bench.store.counts());
    let before = bench.store.counts().groups;
    bench.put((1..=1000).map(|number| seen(number % 150 + 1, number, number + 500)));
    bench.store.flush().unwrap();
    let groups = bench.store.counts().groups - before;
    assert!((1..=8).contains(&groups), "1000 rows by 200 or more: {groups}");
    bench.close();
}

#[test]
fn an_end_for_good_does_not_wait() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = Plan::new(folder.path());
    plan.commit_every = Duration::from_hours(1);
    let bench = plan.open();
    let end = |session: u64, reason| {
        let (session, at) = (SessionId(session), BootTime(900));
        Record::SessionEnded { session, reason, up: 1, down: 2, at }
    };
    bench.put((1..=2).map(|session| started(session, session, 500)));
    bench.store.flush().unwrap();
    let groups = bench.store.counts().groups;
    bench.put([end(1, EndReason::SessionTimeout)]);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(bench.store.counts().groups, groups, "nobody is harmed by one that is over twice");
    bench.put([end(2, EndReason::Revoked)]);
    let before = clock::boot();
    while bench.store.counts().groups == groups {
        assert!(clock::boot() - before < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(5));
    }
    // What a power cut leaves.
    let image = tempfile::tempdir().unwrap();
    for file in ["store.db", "store.db-wal", "store.journal"] {
        std::fs::copy(folder.path().join(file), image.path().join(file)).unwrap();
    }
    assert!(Plan::new(image.path()).open().snapshot.sessions.is_empty());
}

#[test]
fn last_words_go_straight_into_the_database() {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan::new(folder.path());
    let bench = plan.open();
    bench.put((1..=300).map(|session| started(session, session, 500)));
    bench.store.flush().unwrap();
    let groups = bench.store.counts().groups;
    bench.store.closing();
    bench.put((1..=300).map(|session| Record::SessionUsed {
        session: SessionId(session),
        up: session,
        down: 2 * session,
        left: Some(Duration::from_mins(5)),
    }));
    // Also after somebody has asked in between.
    bench.store.publish().unwrap();
    let between = bench.store.counts().groups;
    assert!(between <= groups + 1, "{between} after {groups}");
    bench.put([seen(1, 1, 2)]);
    bench.close();
    let sessions = plan.open().snapshot.sessions;
    assert_eq!(sessions.len(), 300);
    for session in sessions {
        let (number, grant) = (session.grant.session.0, session.grant);
        assert_eq!((grant.used_up, grant.used_down), (number, 2 * number));
    }
}

#[test]
fn a_group_is_written_when_its_time_is_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = Plan::new(folder.path());
    plan.commit_every = Duration::from_millis(200);
    let bench = plan.open();
    let before = clock::boot();
    bench.put([opened(1, 2, None, 1000)]);
    while bench.store.counts().groups == 0 {
        assert!(clock::boot() - before < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(clock::boot() - before >= Duration::from_millis(195), "not before");
    bench.close();
}

#[test]
fn a_full_channel_is_an_error_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Plan::new(folder.path()).open();
    // Answers fill the inbox, which nobody empties: the writer stands still.
    let sessions = (1..).map(|number| bench.store.submit(started(number, number, 1)));
    let taken = sessions.take(100_000).take_while(Result::is_ok).count();
    assert!((CAPACITY as usize..60_000).contains(&taken), "{taken}");
    assert!((0..CAPACITY).any(|_| bench.store.submit(opened(1, 1, None, 1)) == Err(Full)));
    bench.close();
}

/// What the killed child does: starts sessions and says which ones were acknowledged.
fn write_until_killed(path: &Path) -> ! {
    let mut plan = Plan::new(path);
    plan.commit_every = Duration::from_millis(1);
    let mut bench = plan.open();
    let mut out = std::io::stdout();
    for number in bench.snapshot.next_session.. {
        bench.put([opened(number, number, Some(1), number), started(number, number, number)]);
        bench.put([closed(number, 10, number + 10)]);
        match bench.answer() {
            Event::Stored(session) => writeln!(out, "stored {}", session.0).unwrap(),
            other => panic!("{other:?}"),
        }
        out.flush().unwrap();
        if number % 40 == 0 {
            bench.store.publish().unwrap();
        }
    }
    unreachable!()
}

#[test]
fn a_killed_writer_keeps_every_session_it_acknowledged() {
    const CHILD: &str = "MAITRED_TEST_STORE";
    if let Some(folder) = std::env::var_os(CHILD) {
        write_until_killed(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 1..=12u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg(
                "adapters::store::tests::disk::a_killed_writer_keeps_every_session_it_acknowledged",
            )
            .env(CHILD, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut stored = lines
            .by_ref()
            .filter_map(|line| line.unwrap().strip_prefix("stored ")?.parse::<u64>().ok());
        acknowledged = stored.nth(usize::try_from(round * 13).unwrap()).unwrap();
        std::thread::sleep(Duration::from_micros(round * 370));
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged = stored.last().unwrap_or(acknowledged).max(acknowledged);

        let bench = Plan::new(folder.path()).open();
        let saved: Vec<u64> =
            bench.snapshot.sessions.iter().map(|saved| saved.grant.session.0).collect();
        let last = *saved.last().unwrap();
        assert!(last >= acknowledged, "round {round}: {last} < {acknowledged}");
        assert_eq!(saved, (1..=last).collect::<Vec<_>>(), "none is missing");
        bench.close();
        let rows: i64 = value(&folder.path().join("store.db"), "SELECT count(*) FROM outbox");
        let closed: i64 = value(&folder.path().join("store.db"), "SELECT count(dwell) FROM visit");
        assert_eq!(rows, closed, "a visit and its outbox row come together");
        assert!(closed + 2 >= i64::try_from(acknowledged).unwrap());
    }
    assert!(acknowledged > 500);
}

#[test]
fn a_damaged_database_is_set_aside_and_the_journal_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan::new(folder.path());
    let bench = plan.open();
    bench.put([opened(1, 2, None, 1000)]);
    bench.close();
    std::fs::write(&plan.path, b"SQLite format 3\0 and then nothing that makes sense".repeat(99))
        .unwrap();
    let bench = plan.open();
    assert_eq!(bench.snapshot.next_visit, 1, "a new database");
    bench.store.clock_trusted(1_000_000).unwrap();
    bench.put([opened(1, 2, None, 1000)]);
    bench.store.publish().unwrap();
    // The damage comes while the store runs: every page but the first, and none in a cache.
    let other = Connection::open(&plan.path).unwrap();
    other
        .execute_batch("INSERT INTO meta VALUES ('a', 1); PRAGMA wal_checkpoint(TRUNCATE)")
        .unwrap();
    let mut bytes = std::fs::read(&plan.path).unwrap();
    bytes[1024..].fill(0x5a);
    std::fs::write(&plan.path, &bytes).unwrap();
    drop(other);
    bench.put([opened(2, 2, None, 1000), started(1, 2, 2000)]);
    bench.store.flush().unwrap();
    bench.put([opened(3, 2, None, 3000)]);
    bench.close();
    let bench = plan.open();
    let visits: Vec<u64> = bench.snapshot.visits.iter().map(|visit| visit.visit.0).collect();
    assert_eq!((visits, bench.snapshot.sessions.len()), (vec![2, 3], 1));
    bench.close();
    let walls: String = value(&plan.path, "SELECT group_concat(started) FROM visit");
    assert_eq!(walls, "1001000,1003000", "the new database knows the time");
    for number in 1..=2 {
        let aside = folder.path().join(format!("store.db.damaged-{number}"));
        assert!(aside.exists(), "kept for whoever wants to look");
    }
}

#[test]
fn a_newer_database_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan::new(folder.path());
    plan.open().close();
    Connection::open(&plan.path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let refused = plan.try_open().err().unwrap();
    assert!(matches!(refused, StoreError::Newer { found: 99, .. }), "{refused}");
    let version: i64 = value(&plan.path, "SELECT user_version FROM pragma_user_version");
    assert_eq!(version, 99);
}

#[test]
fn a_database_of_version_1_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan::new(folder.path());
    let fixture = include_str!("../../../../tests/data/store-v1.sql");
    Connection::open(&plan.path).unwrap().execute_batch(fixture).unwrap();
    let bench = plan.open();
    let snapshot = &bench.snapshot;
    assert_eq!((snapshot.next_session, snapshot.next_visit), (4, 6));
    assert_eq!(snapshot.sessions.len(), 1);
    assert_eq!(snapshot.sessions[0].grant.left, Some(Duration::from_mins(30)));
    assert_eq!(snapshot.visits[0].carried, Duration::from_mins(1));
    assert_eq!(snapshot.guests[0].mask, "*34");
    assert_eq!(bench.store.next_batch(10).unwrap().unwrap().seqs, [7]);
    bench.close();
}

/// A small file system that is unmounted at the end. Needs root.
pub(super) struct SmallDisk(pub(super) tempfile::TempDir);

impl SmallDisk {
    pub(super) fn new(size: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", size, "tmpfs"])
            .arg(folder.path())
            .status()
            .unwrap();
        assert!(mount.success(), "this test mounts a tmpfs: run it as root");
        Self(folder)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_refuses_sessions_and_recovers() {
    let disk = SmallDisk::new("size=2m");
    let plan = Plan::new(disk.0.path());
    let mut bench = plan.open();
    bench.put([started(1, 2, 1000)]);
    assert!(matches!(bench.answer(), Event::Stored(SessionId(1))));
    let filler = disk.0.path().join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    // The journal's last page may have room for a few more.
    let mut session = 1;
    let refused = loop {
        session += 1;
        bench.put([opened(session, session, None, 1000), started(session, session, 2000)]);
        match bench.answer() {
            Event::Stored(_) => assert!(session < 100),
            Event::StoreFailed(SessionId(id)) => break id,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused, session);
    assert!(bench.store.counts().failures > 0);
    drop(file);
    std::fs::remove_file(&filler).unwrap();
    bench.put([started(session + 1, 2, 3000)]);
    assert!(matches!(bench.answer(), Event::Stored(SessionId(id)) if id == session + 1));
    bench.store.publish().unwrap();
    bench.close();
    let bench = plan.open();
    let saved: Vec<u64> =
        bench.snapshot.sessions.iter().map(|saved| saved.grant.session.0).collect();
    let expected: Vec<u64> = (1..=session + 1).filter(|id| *id != refused).collect();
    assert_eq!(saved, expected);
    assert_eq!(bench.snapshot.visits.len() as u64, session - 1, "the visits waited for room");
    bench.close();
}

#[test]
fn the_outbox_drops_the_oldest_anonymous_rows_first() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = Plan::new(folder.path());
    plan.retention.outbox_rows = 20;
    let bench = plan.open();
    let visits = |from: u64, to: u64, key: Option<u8>| {
        (from..=to).flat_map(move |n| [opened(n, n, key, n), closed(n, 1, n + 1)])
    };
    bench.put(visits(1, 4, None));
    let cut = bench.store.next_batch(2).unwrap().unwrap();
    assert_eq!(cut.seqs, [1, 2]);
    bench.put(visits(5, 14, Some(1)));
    bench.put(visits(15, 24, None));
    assert_eq!(bench.store.next_batch(100).unwrap().unwrap(), cut, "a cut batch stays");
    bench.store.acknowledge(2).unwrap();
    let rest = bench.store.next_batch(100).unwrap().unwrap().seqs;
    assert!(rest.len() <= 20 && rest.len() >= 17, "{rest:?}");
    assert!((5..=14).all(|seq| rest.contains(&seq)), "known guests stay: {rest:?}");
    assert!(!rest.contains(&3) && rest.contains(&24), "{rest:?}");
    bench.close();
}
