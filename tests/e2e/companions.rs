//! One guest with several devices.

use crate::lab::{Dhcp, Guest, Lab, Reply, Settings};

const PORTAL: &str = "http://10.77.0.1:2050/";

/// The sessions that a page offers to end.
fn ends(page: &Reply) -> Vec<String> {
    let fields = page.body.split("name=\"session\" value=\"").skip(1);
    fields.map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

fn home(guest: &Guest) -> Reply {
    guest.follow(guest.get(PORTAL))
}

#[test]
fn a_guest_has_so_many_devices_and_rules_over_their_own_alone() {
    let mut lab = Lab::new(4);
    let gateway = lab.maitred(&Settings::new().with("[portal]", "max_devices = 2"));
    let owner = lab.guests[0].phone.clone();
    lab.guests[1].phone.clone_from(&owner);
    lab.guests[2].phone = owner;
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    let [first, second, third, other] = &lab.guests[..] else { unreachable!() };
    first.log_in(&gateway);
    assert!(ends(&home(first)).is_empty(), "one device needs no list");
    second.log_in(&gateway);
    other.log_in(&gateway);
    assert!(first.online() && second.online() && other.online());
    third.log_in(&gateway);
    assert!(!first.online(), "the oldest makes way");
    assert!(second.online() && third.online() && other.online());
    assert!(home(first).body.contains("您的另一台设备刚刚上线"), "{:#?}", home(first));
    let page = first.follow(first.get(&format!("{PORTAL}?lang=en")));
    assert!(page.body.contains("A newer device of yours"), "{page:#?}");
    let reason: String = gateway.database(|db| {
        db.query_row("SELECT reason FROM session WHERE reason IS NOT NULL", [], |row| row.get(0))
    });
    assert_eq!(reason, "replaced");

    let page = home(third);
    let [target] = &ends(&page)[..] else { panic!("{page:#?}") };
    assert!(page.body.contains(&second.hostname) && !page.body.contains(&first.hostname));
    assert!(!page.body.contains(&other.hostname), "never other guests' devices");
    assert!(ends(&home(other)).is_empty());

    // Every number there is, from another guest, from a stranger, from whoever was put out.
    for guest in [other, first] {
        for session in 0..12 {
            let session = session.to_string();
            guest.post(&format!("{PORTAL}device"), &[("session", &session)]);
        }
    }
    assert!(second.online() && third.online() && other.online());
    third.get(&format!("{PORTAL}device?session={target}"));
    assert!(second.online(), "a link ends nothing");

    let page = third.submit(&page, "/device", &[]);
    assert!(ends(&page).is_empty(), "{page:#?}");
    assert!(!second.online() && third.online() && other.online());
}
