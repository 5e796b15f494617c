//! What the record says of a stay.

use std::time::Duration;

use crate::lab::{Dhcp, Gateway, Lab, Settings, until};

/// A visit as the database has it: dwell in milliseconds, and whether it is over.
#[derive(Debug, PartialEq, Eq)]
struct Visit {
    dwell: u64,
    over: bool,
}

fn visits(gateway: &Gateway, mac: &str) -> Vec<Visit> {
    gateway.database(|db| {
        let mut rows =
            db.prepare("SELECT dwell_ms, ended FROM visit WHERE lower(mac) = ?1 ORDER BY id")?;
        let rows = rows.query_map([mac], |row| {
            Ok(Visit {
                dwell: row.get::<_, i64>(0)?.cast_unsigned(),
                over: row.get::<_, Option<i64>>(1)?.is_some(),
            })
        })?;
        rows.collect()
    })
}

fn closed(gateway: &Gateway, mac: &str, count: usize) -> Vec<Visit> {
    until(Duration::from_secs(15), "the visit to close", || {
        let visits = visits(gateway, mac);
        (visits.len() == count && visits.iter().all(|visit| visit.over)).then_some(visits)
    })
}

#[test]
fn leave_and_return() {
    let mut lab = Lab::new(1);
    let gateway = lab.maitred(&Settings::new());
    let guest = &mut lab.guests[0];

    let came = maitred::clock::boot().0;
    guest.join(Dhcp::Udhcpc);
    guest.log_in(&gateway);
    std::thread::sleep(Duration::from_secs(2));
    let left = maitred::clock::boot().0;
    guest.release();
    let first = closed(&gateway, &guest.mac, 1);
    let stayed = left - came;
    assert!(
        first[0].dwell <= stayed + 200 && first[0].dwell + 700 >= stayed,
        "{first:?}, stayed {stayed} ms"
    );

    // Longer away than merge_gap: a second visit, by a guest we know.
    std::thread::sleep(Duration::from_secs(3));
    guest.join(Dhcp::Udhcpc);
    guest.log_in(&gateway);
    std::thread::sleep(Duration::from_secs(1));
    let stats = gateway.json(&["stats"]);
    assert_eq!(stats["guests"]["all"], 1, "{stats}");
    assert_eq!(stats["guests"]["again"], 1, "{stats}");

    // Silence: the visit ends at the last evidence, not when we gave up.
    let left = maitred::clock::boot().0;
    guest.vanish();
    let both = closed(&gateway, &guest.mac, 2);
    let noticed = maitred::clock::boot().0;
    assert!(noticed - left >= 1500, "given up after {} ms", noticed - left);
    assert!(both[1].dwell < noticed - left + 2500, "{both:?}");
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
    assert!(visits.len() == 1 && !visits[0].over, "{visits:?}");
}
