//! The staff page.

use crate::lab::{Dhcp, Lab, STAFF_V4, Settings};

#[test]
fn staff_see_who_is_in_the_store() {
    let mut lab = Lab::new(3);
    let gateway = lab.maitred(&Settings::new());
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    lab.guests[0].log_in(&gateway);
    // The record is written in groups.
    std::thread::sleep(std::time::Duration::from_millis(800));
    let page = lab.staff.log_in().body;
    for guest in &lab.guests {
        assert!(page.contains(&guest.hostname), "{page}");
        assert!(!page.contains(&guest.phone), "{page}");
    }
    assert!(page.contains("<svg"), "{page}");
    let mask = &lab.guests[0].phone[9..];
    assert!(page.contains(mask), "the guest's last two digits: {page}");
}

#[test]
fn staff_need_the_password_and_guests_have_no_way_in() {
    let mut lab = Lab::new(1);
    let _gateway = lab.maitred(&Settings::new());
    let url = format!("http://{STAFF_V4}:8080/staff");
    let page = lab.staff.follow(lab.staff.get(&url));
    assert!(page.has_form("/staff/login"), "{page:#?}");
    let login = format!("{url}/login");
    let mut refused = 0;
    for _ in 0..12 {
        let reply = lab.staff.post(&login, &[("password", "wrong")]);
        assert_ne!(reply.status, 500);
        assert!(!lab.staff.follow(reply.clone()).body.contains("<svg"), "{reply:#?}");
        refused += u32::from(reply.status == 429);
    }
    assert!(refused > 0, "attempts are limited");

    let guest = &mut lab.guests[0];
    guest.join(Dhcp::Udhcpc);
    assert!(guest.try_get(&url).is_err());
    let on_the_portal = guest.get(&format!("http://{}:2050/staff", crate::lab::ROUTER_V4));
    assert!(!on_the_portal.body.contains("password"), "{on_the_portal:#?}");
}
