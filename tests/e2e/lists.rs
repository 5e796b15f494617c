//! The owner's lists: trusted, blocked, expected.

use crate::lab::{Dhcp, Gateway, Guest, Lab, Settings, WEB_V4, WEB_V6};

fn visits(gateway: &Gateway, mac: &str) -> u32 {
    let bytes = mac.split(':').map(|hex| u8::from_str_radix(hex, 16).unwrap()).collect::<Vec<_>>();
    let count = "SELECT count(*) FROM visit WHERE mac = ?1";
    gateway.database(|db| db.query_row(count, [bytes], |row| row.get(0)))
}

fn is_shown_blocked(guest: &Guest) {
    let portal = guest.get("http://example.com/").location();
    let page = guest.get_in("en", &portal);
    assert!(!page.has_form("/phone") && !page.has_form("/logout"), "{page:#?}");
    assert!(page.body.contains("This device cannot go online"), "{page:#?}");
    assert_eq!(guest.ping(WEB_V4, 1) + guest.ping(WEB_V6, 1), 0);
}

#[test]
fn a_blocked_guest_is_cut_off_and_told_so() {
    let mut lab = Lab::new(2);
    let gateway = lab.maitred(&Settings::new());
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    let [guest, other] = &lab.guests[..] else { unreachable!() };
    guest.log_in(&gateway);
    other.log_in(&gateway);
    gateway.command(&["block", &guest.mac]).ok();
    assert!(!guest.online());
    is_shown_blocked(guest);
    assert!(!gateway.command(&["grant", &guest.mac]).success);
    assert!(other.online());
    gateway.kill9();
    gateway.run();
    is_shown_blocked(guest);
    assert!(other.online());
    gateway.command(&["block", &guest.mac, "--remove"]).ok();
    guest.log_in(&gateway);
    assert!(guest.online());
    assert!(!gateway.command(&["block", &guest.mac, "--remove"]).success, "it is on no list");
}

#[test]
fn a_trusted_device_is_online_and_no_visitor() {
    let mut lab = Lab::new(2);
    let gateway = lab.maitred(&Settings::new());
    gateway.command(&["trust", &lab.guests[0].mac]).ok();
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    let [staff, guest] = &lab.guests[..] else { unreachable!() };
    assert!(staff.online() && !guest.online());
    assert_eq!((visits(&gateway, &staff.mac), visits(&gateway, &guest.mac)), (0, 1));
    // One who is online already is not cut off.
    guest.log_in(&gateway);
    let flood = guest.ping_flood(WEB_V6, 200);
    gateway.command(&["trust", &guest.mac]).ok();
    assert_eq!(flood.lost(), 0);
    let rows = gateway.json(&["clients"]);
    let states: Vec<_> = rows.as_array().unwrap().iter().map(|row| &row["state"]).collect();
    assert_eq!(states, ["trusted", "trusted"]);
    gateway.term();
    gateway.run();
    assert!(staff.online() && guest.online());
    gateway.command(&["trust", &guest.mac, "--remove"]).ok();
    assert!(staff.online() && !guest.online());
}

#[test]
fn an_expected_device_is_online_at_once_and_counted() {
    let mut lab = Lab::new(1);
    let mac = lab.guests[0].mac.clone();
    let lists = format!("preemptive_macs = [\"{mac}\"]\nblocked_macs = [\"02:00:00:00:00:99\"]");
    let gateway = lab.maitred(&Settings::new().with("[lists]", &lists));
    lab.guests[0].join(Dhcp::Udhcpc);
    assert!(lab.guests[0].online());
    assert_eq!(visits(&gateway, &mac), 1);
    let refused = gateway.command(&["block", "02:00:00:00:00:99", "--remove"]);
    assert!(!refused.success && refused.stderr.contains("blocked_macs"), "{refused:?}");
    // The command line's word comes after the configuration's.
    gateway.command(&["block", &mac]).ok();
    assert!(!lab.guests[0].online());
}
