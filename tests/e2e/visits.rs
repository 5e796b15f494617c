//! What the record says of a stay.

use std::time::Duration;

use crate::lab::{Dhcp, Gateway, Lab, Settings, until};

/// A visit as the database has it.
#[derive(Debug)]
struct Visit {
    /// In milliseconds; `None` while it is open.
    dwell: Option<i64>,
    /// The guest's how manyth; `None` while no guest is known.
    guest_nth: Option<i64>,
}

fn visits(gateway: &Gateway, mac: &str) -> Vec<Visit> {
    let query = "SELECT dwell, guest_nth FROM visit WHERE lower(hex(mac)) = ?1 ORDER BY id";
    gateway.database(|db| {
        db.prepare(query)?
            .query_map([mac.replace(':', "")], |row| {
                Ok(Visit { dwell: row.get(0)?, guest_nth: row.get(1)? })
            })?
            .collect()
    })
}

fn closed(gateway: &Gateway, mac: &str, count: usize) -> Vec<Visit> {
    until(Duration::from_secs(15), "the visit to close", || {
        let visits = visits(gateway, mac);
        (visits.len() == count && visits.iter().all(|visit| visit.dwell.is_some()))
            .then_some(visits)
    })
}

#[test]
fn leave_and_return() {
    let mut lab = Lab::new(1);
    let gateway = lab.maitred(&Settings::new());
    let guest = &mut lab.guests[0];

    let came = now();
    guest.join(Dhcp::Udhcpc);
    guest.log_in(&gateway);
    std::thread::sleep(Duration::from_secs(2));
    let left = now();
    guest.release();
    let first = closed(&gateway, &guest.mac, 1);
    let (dwell, stayed) = (first[0].dwell.unwrap(), left - came);
    assert!((stayed - 700..stayed + 300).contains(&dwell), "{dwell} of {stayed} ms");
    assert_eq!(first[0].guest_nth, Some(1));

    // Longer away than merge_gap: a second visit, by a guest we know.
    std::thread::sleep(Duration::from_secs(3));
    let came = now();
    guest.join(Dhcp::Udhcpc);
    guest.log_in(&gateway);
    std::thread::sleep(Duration::from_secs(1));

    // Silence: the visit ends at the last evidence, not when we gave up.
    let left = now();
    guest.vanish();
    let both = closed(&gateway, &guest.mac, 2);
    assert!(now() - left >= 1500, "given up after {} ms", now() - left);
    let (dwell, stayed) = (both[1].dwell.unwrap(), left - came);
    assert!((0..stayed + 300).contains(&dwell), "{dwell} of {stayed} ms");
    assert_eq!(both[1].guest_nth, Some(2), "a repeat");
}

#[test]
fn a_short_absence_is_the_same_visit() {
    let mut lab = Lab::new(1);
    let gateway =
        lab.maitred(&Settings::new().with("[visit]", "leave_after = \"2s\"\nmerge_gap = \"30s\""));
    let guest = &mut lab.guests[0];
    guest.join(Dhcp::Udhcpc);
    guest.release();
    std::thread::sleep(Duration::from_secs(3));
    guest.join(Dhcp::Udhcpc);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(visits(&gateway, &guest.mac).len(), 1);
}

#[test]
fn a_silent_guest_who_is_there_stays() {
    let mut lab = Lab::new(1);
    let gateway = lab.maitred(&Settings::new());
    let guest = &mut lab.guests[0];
    guest.join(Dhcp::Udhcpc);
    // Three times leave_after: it answers when asked.
    std::thread::sleep(Duration::from_secs(6));
    let visits = visits(&gateway, &guest.mac);
    assert!(visits.len() == 1 && visits[0].dwell.is_none(), "{visits:?}");
}

/// The boot clock, in milliseconds.
fn now() -> i64 {
    maitred::clock::boot().0.cast_signed()
}
