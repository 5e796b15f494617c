//! The store works without a gateway, so that what the other tests see is the gateway's doing.

use crate::lab::{Dhcp, Internet, Lab, Netns, WEB_V4, WEB_V6, run};

#[test]
fn without_a_gateway_everybody_is_online() {
    let mut lab = Lab::new(2);
    lab.guests[0].join(Dhcp::Udhcpc);
    lab.guests[1].join(Dhcp::Dhclient);
    for guest in &lab.guests {
        assert!(guest.page_opens("http://example.com/"));
        assert!(guest.page_opens(&format!("http://[{WEB_V6}]/")));
        assert_eq!(guest.ping(WEB_V4, 2), 2);
        let echo = guest.udp(WEB_V6, Internet::ECHO);
        echo.send(b"hello").unwrap();
        assert_eq!(echo.recv(&mut [0; 16]).unwrap(), 5);
    }
    let leases = std::fs::read_to_string(lab.folder().join("leases")).unwrap();
    assert!(leases.contains("phone-1") && leases.contains("phone-2"), "{leases}");
    lab.guests[0].release();
    lab.guests[1].release();
    let leases = std::fs::read_to_string(lab.folder().join("leases")).unwrap();
    assert!(!leases.contains("phone-"), "{leases}");
}

#[test]
fn nothing_stays_behind() {
    let lab = Lab::new(1);
    let name = lab.router.name().to_owned();
    let folder = lab.folder().to_owned();
    assert!(run(&["ip", "netns", "list"], 5).ok().contains(&name));
    let stray = Netns::new("mt-999999999-1-stray");
    std::mem::forget(stray);
    drop(lab);
    drop(Lab::new(0));
    let left = run(&["ip", "netns", "list"], 5).ok();
    assert!(!left.contains(&name) && !left.contains("mt-999999999"), "{left}");
    assert!(!folder.exists());
}
