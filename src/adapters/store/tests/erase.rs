//! A guest who is forgotten.

use super::*;

fn count(path: &Path, what: &str) -> i64 {
    value(path, &format!("SELECT count(*) FROM {what}"))
}

#[test]
fn only_the_access_log_still_names_a_guest_who_is_erased() {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan::new(folder.path());
    let mut bench = plan.open();
    for (number, key) in [(1, 1), (2, 2)] {
        bench.put([
            opened(number, number, Some(key), 1000),
            verified(key, number, 1500),
            Record::SessionStarted {
                grant: grant(number, number),
                identity: Identity::Guest(guest(key)),
                method: Method::Follow,
                address: None,
                extended: 0,
                terms: String::new(),
                at: BootTime(2000),
            },
            closed(number, 500, 2500),
        ]);
        bench.answer();
    }
    bench.put([ended(2, 3000)]);
    bench.store.erase(guest(1)).unwrap();
    // Their session is still open, and ends as nobody's.
    bench.put([ended(1, 4000)]);
    let batch = bench.store.next_batch(100).unwrap().unwrap();
    let rows = String::from_utf8(batch.ndjson).unwrap();
    let named = |row: &&str| row.contains(&guest(1).to_string());
    let named: Vec<&str> = rows.lines().filter(named).collect();
    assert!(named.len() == 1 && named[0].contains(r#""type":"erased""#), "{rows}");
    assert!(rows.contains(&guest(2).to_string()), "{rows}");
    bench.close();
    let path = &plan.path;
    for table in ["visit", "session", "consent", "device"] {
        assert_eq!(count(path, &format!("{table} WHERE guest = x'{}'", guest(1))), 0, "{table}");
        assert_eq!(count(path, &format!("{table} WHERE guest = x'{}'", guest(2))), 1, "{table}");
    }
    assert_eq!(count(path, "guest"), 1);
    assert_eq!(count(path, "visit"), 2, "the figures stay as counted");
    assert_eq!(count(path, &format!("access_log WHERE guest = x'{}'", guest(1))), 1);
}

#[test]
fn a_guest_erased_while_online_stays_online_as_nobody_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan::new(folder.path());
    let mut bench = plan.open();
    bench.put([verified(1, 1, 1000), started(1, 1, 2000)]);
    bench.answer();
    bench.store.erase(guest(1)).unwrap();
    bench.close();
    let again = plan.open();
    let [session] = &again.snapshot.sessions[..] else { panic!("{:?}", again.snapshot) };
    assert_eq!(session.identity, Identity::Guest(GuestKey::NOBODY));
    assert!(again.snapshot.guests.is_empty());
    again.close();
}
