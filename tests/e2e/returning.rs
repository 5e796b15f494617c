//! Guests who come back: known by their device for a while, by their number always.

use std::time::Duration;

use crate::lab::{Dhcp, Lab, Settings};

const PAGE: &str = "http://example.com/";

/// A store that remembers, with sessions of 2 s.
fn settings(back: &str) -> Settings {
    let portal = format!("remember_for = \"1h\"\nreturn = \"{back}\"");
    let zone = "name = \"guest\"\ninterface = \"br-guest\"\nsession_timeout = \"2s\"";
    Settings::new().with("[portal]", &portal).with("[[zone]]", zone)
}

#[test]
fn a_remembered_guest_gets_online_by_opening_the_page() {
    let mut lab = Lab::new(1);
    let gateway = lab.maitred(&settings("silent"));
    let guest = &mut lab.guests[0];
    guest.join(Dhcp::Udhcpc);
    guest.log_in(&gateway);
    std::thread::sleep(Duration::from_millis(2500));
    assert!(!guest.online());
    let why = guest.follow(guest.get(PAGE));
    assert!(!why.has_form("/phone") && !guest.online(), "first why it ended: {why:#?}");
    let page = guest.submit(&why, "/change", &[]);
    assert!(page.has_form("/logout") && guest.online(), "{page:#?}");
    assert!(gateway.next_message(&guest.phone).is_none(), "no second message");
    // Who logs out means it.
    guest.submit(&page, "/logout", &[]);
    let page = guest.follow(guest.get(PAGE));
    assert!(page.has_form("/phone") && !guest.online(), "{page:#?}");
}

#[test]
fn a_remembered_guest_gets_online_by_one_tap() {
    let mut lab = Lab::new(1);
    let gateway = lab.maitred(&settings("tap"));
    let guest = &mut lab.guests[0];
    guest.join(Dhcp::Udhcpc);
    guest.log_in(&gateway);
    // The session's end is told once; a restart of the daemon forgets nobody.
    std::thread::sleep(Duration::from_millis(2500));
    gateway.term();
    gateway.run();
    let mut page = guest.follow(guest.get(PAGE));
    if !page.has_form("/return") {
        page = guest.submit(&page, "/change", &[]);
    }
    assert!(page.has_form("/return") && !guest.online(), "{page:#?}");
    let page = guest.submit(&page, "/return", &[]);
    assert!(page.has_form("/logout") && guest.online(), "{page:#?}");
    assert!(gateway.next_message(&guest.phone).is_none(), "no second message");
}

#[test]
fn a_new_address_needs_one_message_and_is_the_same_guest() {
    let mut lab = Lab::new(2);
    let gateway = lab.maitred(&settings("silent"));
    lab.guests[1].phone = lab.guests[0].phone.clone();
    for guest in &mut lab.guests {
        guest.join(Dhcp::Udhcpc);
        // The second device is a stranger: it is asked for the number.
        guest.log_in(&gateway);
        assert!(guest.online());
    }
    let (guests, macs, nth): (i64, i64, i64) = gateway.database(|db| {
        db.query_row(
            "SELECT count(DISTINCT guest), count(DISTINCT mac), max(guest_nth) FROM visit",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
    });
    assert_eq!((guests, macs, nth), (1, 2, 2), "one guest, two devices, the second visit");
}
