//! What is kept under pseudonyms, once HQ has said whose they are.

use std::collections::BTreeMap;

use super::*;
use crate::domain::auth::seal::Sealed;

fn count(path: &Path, what: &str) -> i64 {
    value(path, &format!("SELECT count(*) FROM {what}"))
}

fn sealed(key: u8, device: u64, at: u64) -> Record {
    let mut record = verified(key, device, at);
    if let Record::Verified { sealed, .. } = &mut record {
        *sealed = Some(Sealed(vec![key; 60]));
    }
    record
}

fn started_by(session: u64, device: u64, key: u8, at: u64) -> Record {
    let mut record = started(session, device, at);
    if let Record::SessionStarted { identity, .. } = &mut record {
        *identity = Identity::Guest(guest(key));
    }
    record
}

/// A store where guests 1, 2 and 3 (a pseudonym each) were once, twice and once, with a device each.
fn trade(plan: &Plan) -> Bench {
    let mut bench = plan.open();
    let (mut visit, mut at) = (0, 1000);
    for (key, visits) in [(1, 1), (2, 2), (3, 1)] {
        for _ in 0..visits {
            (visit, at) = (visit + 1, at + 1000);
            bench.put([
                opened(visit, key.into(), Some(key), at),
                sealed(key, key.into(), at + 1),
                started_by(visit, key.into(), key, at + 2),
                closed(visit, 100, at + 100),
            ]);
            bench.answer();
        }
    }
    bench
}

#[test]
fn pseudonyms_of_one_guest_become_one_guest() {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan::new(folder.path());
    let bench = trade(&plan);
    // The first was named some time ago, the second is now; the third is somebody else.
    bench.store.rename([(guest(1), guest(9))].into()).unwrap();
    bench.store.rename([(guest(2), guest(9)), (guest(7), guest(8))].into()).unwrap();
    let file = bench.store.reader().guest(guest(9)).unwrap();
    assert_eq!(file.mask.as_deref(), Some("*02"), "as they proved it last");
    assert_eq!((file.visits.len(), file.sessions.len(), file.devices.len()), (3, 3, 2));
    assert_eq!((file.consents.len(), file.access_log), (2, 3));
    assert_eq!(file.sealed, Some(Sealed(vec![1; 60]).text()), "one is enough");
    assert_eq!(bench.store.reader().guest(guest(3)).unwrap().visits.len(), 1);
    assert_eq!(bench.store.reader().masked("*02").unwrap(), [guest(9)]);
    bench.close();
    let path = &plan.path;
    for table in ["visit", "session", "consent", "device", "identity", "access_log"] {
        let old = format!("{table} WHERE guest IN (x'{}', x'{}')", guest(1), guest(2));
        assert_eq!(count(path, &old), 0, "{table}");
    }
    assert_eq!(count(path, "guest"), 2, "and none for whoever was never here");
    assert_eq!((count(path, "identity"), count(path, "seal")), (1, 1), "of 9 and of 3");
    // Repeat visits count, and go on counting.
    let nth = format!("SELECT group_concat(guest_nth) FROM visit WHERE guest = x'{}'", guest(9));
    assert_eq!(value::<String>(path, &nth), "1,2,3");
    let bench = Plan { now: Now { boot: BootTime(2_000_000), ..plan.now }, ..plan }.open();
    let known: Vec<_> = bench.snapshot.guests.iter().map(|saved| saved.guest).collect();
    assert_eq!(known.iter().filter(|known| **known == guest(9)).count(), 2, "{known:?}");
    bench.put([opened(20, 1, Some(9), 9000)]);
    assert_eq!(bench.store.reader().guest(guest(9)).unwrap().visits.len(), 4);
    bench.close();
    let path = folder.path().join("store.db");
    assert_eq!(value::<i64>(&path, "SELECT guest_nth FROM visit WHERE id = 20"), 4);
}

#[test]
fn several_pseudonyms_in_one_answer_keep_their_visits_apart() {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan::new(folder.path());
    let bench = trade(&plan);
    bench.store.rename((1..=3).map(|key| (guest(key), guest(9))).collect()).unwrap();
    bench.close();
    let nth = "SELECT group_concat(guest_nth) FROM (SELECT guest_nth FROM visit ORDER BY 1)";
    assert_eq!(value::<String>(&plan.path, nth), "1,2,3,4");
    assert_eq!(value::<i64>(&plan.path, "SELECT visits FROM guest"), 4);
}

#[test]
fn what_hq_named_survives_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan::new(folder.path());
    let bench = trade(&plan);
    bench.store.rename([(guest(1), guest(9)), (guest(2), GuestKey::NOBODY)].into()).unwrap();
    // The journal alone, as a power cut leaves it.
    let crashed = tempfile::tempdir().unwrap();
    for name in ["store.db", "store.db-wal", "store.journal"] {
        let from = folder.path().join(name);
        if from.exists() {
            std::fs::copy(from, crashed.path().join(name)).unwrap();
        }
    }
    bench.close();
    let again = Plan::new(crashed.path()).open();
    let known: BTreeMap<_, _> =
        again.snapshot.guests.iter().map(|saved| (saved.mac, saved.guest)).collect();
    assert_eq!(known, [(mac(1), guest(9)), (mac(3), guest(3))].into());
    again.close();
}

#[test]
fn hq_is_told_whom_a_pseudonym_was_of_and_not_of_its_own_word() {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan::new(folder.path());
    let bench = trade(&plan);
    let rows = |bench: &Bench| {
        let batch = bench.store.next_batch(100).unwrap();
        let rows = batch.map(|batch| (batch.last, String::from_utf8(batch.ndjson).unwrap()));
        rows.unwrap_or_default()
    };
    // A guest has themself erased before HQ ever heard of them.
    bench.store.erase(guest(1)).unwrap();
    let (last, told) = rows(&bench);
    let erased: Vec<&str> = told.lines().filter(|row| row.contains("\"erased\"")).collect();
    assert_eq!(erased.len(), 1, "{told}");
    assert!(erased[0].contains(&Sealed(vec![1; 60]).text()), "{erased:?}");
    assert!(
        !told.lines().any(|row| row.contains("consent") && row.contains(&guest(1).to_string()))
    );
    bench.store.acknowledge(last).unwrap();
    // HQ's own word needs no answer.
    bench.store.rename([(guest(2), GuestKey::NOBODY)].into()).unwrap();
    assert!(bench.store.reader().guest(guest(2)).unwrap().is_empty());
    assert_eq!(rows(&bench), (0, String::new()));
    bench.close();
    let log = format!("access_log WHERE guest = x'{}'", guest(2));
    assert_eq!(count(&plan.path, &log), 2, "the access log stays");
}
