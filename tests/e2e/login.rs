//! From the lease to the online page.

use std::time::Duration;

use crate::lab::{Dhcp, Lab, ROUTER_V4, ROUTER_V6, Settings, WEB_V4, WEB_V6, until};

#[test]
fn a_guest_gets_online_over_ipv4() {
    let mut lab = Lab::new(1);
    let gateway = lab.maitred(&Settings::new());
    let guest = &mut lab.guests[0];
    guest.join(Dhcp::Udhcpc);

    // Known by its lease, before the first request.
    until(Duration::from_secs(2), "the device to be known", || {
        let clients = gateway.command(&["clients"]).ok().to_lowercase();
        (clients.contains(&guest.mac) && clients.contains("phone-1")).then_some(())
    });

    let redirect = guest.get(&format!("http://{WEB_V4}/some/page?q=1"));
    assert_eq!(redirect.status, 302);
    assert!(redirect.location().starts_with(&format!("http://{ROUTER_V4}:2050/")), "{redirect:#?}");
    assert_eq!(redirect.headers["cache-control"], "no-store");
    assert_eq!(redirect.headers["connection"], "close");
    assert!(!guest.online());

    let page = guest.log_in(&gateway);
    assert!(guest.online(), "{page:#?}");
    assert!(guest.page_opens("http://example.com/"));
    assert!(guest.page_opens(&format!("http://[{WEB_V6}]/")), "one grant opens both families");
    assert_eq!(guest.ping(WEB_V4, 2), 2);
    assert_eq!(guest.ping(WEB_V6, 2), 2);
    // On disk before the guest was told.
    let (method, mac): (String, String) = gateway.database(|db| {
        db.query_row("SELECT method, lower(hex(mac)) FROM session", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
    });
    assert_eq!(mac, guest.mac.replace(':', ""));
    assert!(!method.is_empty());
}

#[test]
fn a_guest_gets_online_over_ipv6_alone() {
    let mut lab = Lab::new(1);
    let gateway = lab.maitred(&Settings::new());
    let guest = &mut lab.guests[0];
    guest.join_v6();
    let redirect = guest.get(&format!("http://[{WEB_V6}]/"));
    assert_eq!(redirect.status, 302);
    assert!(
        redirect.location().starts_with(&format!("http://[{ROUTER_V6}]:2050/")),
        "{redirect:#?}"
    );
    guest.log_in(&gateway);
    assert!(guest.page_opens(&format!("http://[{WEB_V6}]/")));
    assert!(guest.page_opens("http://example.com/"), "by name, over IPv6");
}

#[test]
fn three_guests_at_once() {
    let mut lab = Lab::new(3);
    let gateway = lab.maitred(&Settings::new());
    for (guest, dhcp) in lab.guests.iter_mut().zip([Dhcp::Udhcpc, Dhcp::Dhclient, Dhcp::Udhcpc]) {
        guest.join(dhcp);
    }
    // Every step by all, before the next step by any.
    let pages: Vec<_> =
        lab.guests.iter().map(|guest| guest.ask_code(&gateway, "http://example.com/")).collect();
    let codes: Vec<_> = lab.guests.iter().map(|guest| gateway.code_for(&guest.phone)).collect();
    for ((guest, page), code) in lab.guests.iter().zip(&pages).zip(&codes) {
        assert!(!guest.online());
        guest.submit(page, "/code", &[("code", code)]);
        assert!(guest.online());
    }
}

#[test]
fn a_code_of_another_guest_opens_nothing() {
    let mut lab = Lab::new(2);
    let gateway = lab.maitred(&Settings::new());
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    let [one, two] = &lab.guests[..] else { unreachable!() };
    one.ask_code(&gateway, "http://example.com/");
    let page = two.ask_code(&gateway, "http://example.com/");
    two.submit(&page, "/code", &[("code", &gateway.code_for(&one.phone))]);
    assert!(!two.online() && !one.online());
}

#[test]
fn a_wrong_code_opens_nothing_and_five_end_it() {
    let mut lab = Lab::new(1);
    let gateway = lab.maitred(&Settings::new());
    let guest = &mut lab.guests[0];
    guest.join(Dhcp::Udhcpc);
    let mut page = guest.ask_code(&gateway, "http://example.com/");
    let code = gateway.code_for(&guest.phone);
    let wrong = if code == "000000" { "000001" } else { "000000" };
    for _ in 0..5 {
        assert!(page.has_form("/code"), "{page:#?}");
        page = guest.submit(&page, "/code", &[("code", wrong)]);
        assert!(!guest.online());
    }
    let url = format!("http://{ROUTER_V4}:2050/code");
    guest.follow(guest.post(&url, &[("code", &code)]));
    assert!(!guest.online(), "the right code after five wrong ones is dead");
}

#[test]
fn a_wrong_code_then_the_right_one() {
    let mut lab = Lab::new(1);
    let gateway = lab.maitred(&Settings::new());
    let guest = &mut lab.guests[0];
    guest.join(Dhcp::Udhcpc);
    let page = guest.ask_code(&gateway, "http://example.com/");
    let code = gateway.code_for(&guest.phone);
    let wrong = if code == "000000" { "000001" } else { "000000" };
    let page = guest.submit(&page, "/code", &[("code", wrong)]);
    assert!(!guest.online());
    guest.submit(&page, "/code", &[("code", &code)]);
    assert!(guest.online());
}

#[test]
fn an_expired_code_opens_nothing() {
    let mut lab = Lab::new(1);
    let gateway =
        lab.maitred(&Settings::new().with("[code]", "lifetime = \"1s\"\nresend_after = \"1s\""));
    let guest = &mut lab.guests[0];
    guest.join(Dhcp::Udhcpc);
    let page = guest.ask_code(&gateway, "http://example.com/");
    let code = gateway.code_for(&guest.phone);
    std::thread::sleep(Duration::from_millis(1500));
    let page = guest.submit(&page, "/code", &[("code", &code)]);
    assert!(!guest.online(), "{page:#?}");
    // A new one does.
    guest.follow(guest.post(&format!("http://{ROUTER_V4}:2050/change"), &[]));
    guest.log_in(&gateway);
    assert!(guest.online());
}

#[test]
fn a_guest_can_leave_by_the_page() {
    let mut lab = Lab::new(1);
    let gateway = lab.maitred(&Settings::new());
    let guest = &mut lab.guests[0];
    guest.join(Dhcp::Udhcpc);
    let page = guest.log_in(&gateway);
    assert!(guest.online());
    guest.submit(&page, "/logout", &[]);
    assert!(!guest.online());
}

#[test]
fn the_page_speaks_the_guests_language() {
    let mut lab = Lab::new(1);
    let _gateway = lab.maitred(&Settings::new());
    let guest = &mut lab.guests[0];
    guest.join(Dhcp::Udhcpc);
    let url = format!("http://{ROUTER_V4}:2050/");
    let chinese = guest.get_in("zh-CN,zh;q=0.9,en;q=0.5", &url).body;
    let english = guest.get_in("en-GB,en;q=0.9", &url).body;
    assert!(chinese.contains("lang=\"zh-CN\"") && english.contains("lang=\"en\""));
    assert_ne!(chinese, english);
}
