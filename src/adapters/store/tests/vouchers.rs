//! Vouchers on disk: nothing that was said is lost, and no code is there to be read.

use super::*;
use crate::domain::auth::voucher::{Batch, HQ, Known, VoucherId, Worth};
use crate::domain::policy::Overrides;

fn made(uses: u16, zone: Option<ZoneId>) -> Record {
    let worth = Worth {
        zone,
        uses,
        length: Duration::from_mins(30),
        limits: Overrides { quota: Some(9), ..Overrides::default() },
        expires: Some(WallTime(9_000_000_000_000)),
    };
    let batch = Batch { id: 3, count: 2, worth };
    let (hashes, at) = (vec![[1; 16], [2; 16]], BootTime(10));
    Record::VouchersMade { batch, salt: None, hashes, at }
}

fn used(session: u64, number: u16) -> Record {
    let identity = Identity::Voucher(VoucherId { batch: 3, number });
    let (grant, method, at) = (grant(session, session), Method::Voucher, BootTime(100));
    let (address, extended, terms) = (None, 0, "2026-02".into());
    Record::SessionStarted { grant, identity, method, address, extended, terms, at }
}

fn failed(session: u64) -> Record {
    let (session, reason, at) = (SessionId(session), EndReason::Failed, BootTime(200));
    Record::SessionEnded { session, reason, up: 0, down: 0, at }
}

/// Number, first byte of the hash and uses left of those that come back.
fn left(snapshot: &Snapshot) -> Vec<(u16, u8, u16)> {
    let batches = snapshot.vouchers.iter();
    batches
        .flat_map(|saved| &saved.vouchers)
        .map(|(number, hash, left)| (*number, hash[0], *left))
        .collect()
}

#[test]
fn batches_and_uses_come_back_whether_or_not_there_was_an_end() {
    for orderly in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let plan = Plan::new(folder.path());
        let bench = plan.open();
        for record in [made(2, None), used(1, 1), used(2, 1), used(3, 2), failed(3)] {
            bench.store.submit(record).unwrap();
        }
        bench.store.flush().unwrap();
        // Without an end there is the journal, and a database that is behind it.
        if orderly {
            bench.store.close();
        }
        let bench = Plan::new(&copy(folder.path())).open();
        let saved = &bench.snapshot.vouchers[0];
        assert_eq!((saved.batch.id, saved.used, bench.snapshot.last_batch), (3, 2, 3));
        assert_eq!(saved.batch.worth.length, Duration::from_mins(30));
        assert_eq!(saved.batch.worth.limits.quota, Some(9));
        assert_eq!(saved.batch.worth.expires, Some(WallTime(9_000_000_000_000)));
        // The first is used up, but its uses are under way.
        assert_eq!(left(&bench.snapshot), [(1, 1, 0), (2, 2, 2)]);
        let identities: Vec<Identity> =
            bench.snapshot.sessions.iter().map(|saved| saved.identity).collect();
        let id = VoucherId { batch: 3, number: 1 };
        assert_eq!(identities, [Identity::Voucher(id); 2]);
    }
}

/// A copy of a store's folder, as a power cut would leave it.
fn copy(from: &Path) -> PathBuf {
    let to = from.join("copy");
    std::fs::create_dir(&to).unwrap();
    for file in std::fs::read_dir(from).unwrap().flatten().filter(|file| file.path().is_file()) {
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
    to
}

#[test]
fn what_is_revoked_or_of_a_zone_that_is_gone_does_not_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan::new(folder.path());
    let bench = plan.open();
    bench.store.submit(made(1, Some(ZoneId(0)))).unwrap();
    bench.store.submit(Record::VouchersRevoked("3-1".parse().unwrap())).unwrap();
    bench.store.close();
    let bench = Plan::new(folder.path()).open();
    assert_eq!(left(&bench.snapshot), [(2, 2, 1)]);
    assert_eq!(bench.snapshot.vouchers[0].batch.worth.zone, Some(ZoneId(0)));
    bench.store.close();
    let bench = Plan { zones: vec!["other".into()], ..Plan::new(folder.path()) }.open();
    assert!(bench.snapshot.vouchers.is_empty());
    bench.store.submit(Record::VouchersRevoked("3".parse().unwrap())).unwrap();
    bench.store.close();
    let bench = Plan::new(folder.path()).open();
    assert!(bench.snapshot.vouchers.is_empty());
    assert_eq!(bench.snapshot.last_batch, 3, "a number is used once");
}

#[test]
fn hqs_batches_are_known_for_ever_and_count_apart() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Plan::new(folder.path()).open();
    let Record::VouchersMade { mut batch, hashes, at, .. } = made(1, None) else { panic!() };
    batch.id |= HQ;
    let salt = Some([7; 16]);
    bench.store.submit(Record::VouchersMade { batch, salt, hashes, at }).unwrap();
    bench.store.close();
    let bench = Plan::new(folder.path()).open();
    assert_eq!((bench.snapshot.vouchers[0].batch.id, bench.snapshot.last_batch), (HQ | 3, 0));
    bench.store.submit(Record::VouchersRevoked("hq3".parse().unwrap())).unwrap();
    bench.store.close();
    let bench = Plan::new(folder.path()).open();
    assert!(bench.snapshot.vouchers.is_empty());
    let known = Known { salt: [7; 16], expires: Some(WallTime(9_000_000_000_000)) };
    assert_eq!(bench.snapshot.batches_from_hq, [(HQ | 3, known)]);
}

#[test]
fn a_use_is_told_to_hq_with_its_batch_and_no_address() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Plan::new(folder.path()).open();
    bench.store.submit(made(1, None)).unwrap();
    bench.store.submit(used(1, 2)).unwrap();
    let batch = bench.store.next_batch(10).unwrap().unwrap();
    let row: serde_json::Value = serde_json::from_slice(&batch.ndjson).unwrap();
    assert_eq!(
        (&row["type"], &row["batch"], &row["number"]),
        (&"voucher".into(), &3.into(), &2.into())
    );
    assert_eq!(
        (&row["guest"], row["device"].as_str().unwrap().len()),
        (&serde_json::Value::Null, 32)
    );
    assert!(!row.to_string().contains(&mac(1).to_string()));
    assert_eq!((&row["terms"], &row["hq"]), (&"2026-02".into(), &false.into()));
    bench.close();
    let kept = "SELECT terms || ' ' || at_ms FROM voucher_use";
    assert_eq!(value::<String>(&folder.path().join("store.db"), kept), "2026-02 100");
}
