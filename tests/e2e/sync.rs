//! The record goes to HQ, whatever HQ does.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::lab::{Dhcp, Gateway, Hq, Lab, Mood, Settings};

fn settings() -> Settings {
    Settings::new().with("[hq]", &format!("url = \"{}\"\ntoken = \"t0ken\"", Hq::URL))
}

/// One visit with a session, begun and over.
fn a_visit(lab: &mut Lab, gateway: &Gateway) {
    let guest = &mut lab.guests[0];
    guest.join(Dhcp::Udhcpc);
    guest.log_in(gateway);
    gateway.command(&["revoke", &guest.mac]).ok();
    guest.release();
    std::thread::sleep(Duration::from_secs(7));
}

#[test]
fn hq_down_then_up_then_answering_twice() {
    let mut lab = Lab::new(1);
    let gateway = lab.maitred(&settings());
    a_visit(&mut lab, &gateway);

    // Nobody listens; then somebody who is ill.
    assert!(!gateway.command(&["sync", "--now"]).success);
    let hq = Hq::open(&lab.internet, Mood::Ill);
    assert!(!gateway.command(&["sync", "--now"]).success);

    // The batch arrives but its answer is lost: it comes again, the same.
    hq.feel(Mood::Mute);
    assert!(!gateway.command(&["sync", "--now"]).success);
    let mute = hq.taken();
    assert!(!mute.is_empty());
    hq.feel(Mood::Well);
    gateway.command(&["sync", "--now"]).ok();
    let taken = hq.taken();
    let again = &taken[mute.len()];
    assert_eq!(again.body, mute[0].body, "a batch sent twice is the same batch");
    assert_eq!(again.headers["authorization"], "Bearer t0ken");

    let rows: BTreeSet<String> = again.rows.iter().map(ToString::to_string).collect();
    assert!(rows.iter().any(|row| row.contains("visit")), "{rows:?}");
    assert!(rows.iter().any(|row| row.contains("session")), "{rows:?}");
    assert!(rows.iter().all(|row| !row.contains(&lab.guests[0].phone)), "{rows:?}");

    // Acknowledged is acknowledged.
    gateway.command(&["sync", "--now"]).ok();
    assert_eq!(hq.taken().len(), taken.len());
    gateway.kill9();
    gateway.run();
    gateway.command(&["sync", "--now"]).ok();
    assert_eq!(hq.taken().len(), taken.len());
}

#[test]
fn what_was_not_acknowledged_survives_a_power_cut() {
    let mut lab = Lab::new(1);
    let gateway = lab.maitred(&settings());
    a_visit(&mut lab, &gateway);
    gateway.kill9();
    gateway.run();
    let hq = Hq::open(&lab.internet, Mood::Well);
    gateway.command(&["sync", "--now"]).ok();
    let rows: usize = hq.taken().iter().map(|batch| batch.rows.len()).sum();
    assert!(rows >= 2, "{:?}", hq.taken());
}
