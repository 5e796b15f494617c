//! Several guest networks, and what becomes of them while the daemon runs.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::bridges::{mac, moves, pretend};
use crate::lab::{
    BRIDGES, Dhcp, Gateway, Guest, Internet, Lab, ROUTER_V4, ROUTER_V6, ROUTER2_V4, ROUTER2_V6,
    Settings, WEB_V4, WEB_V6, until,
};

fn two_zones(more: &str) -> Settings {
    Settings::new()
        .with("[[zone]]", &format!("name = \"guest\"\ninterface = \"br-guest\"\n{more}"))
        .with("[[zone]] ", &format!("name = \"cafe\"\ninterface = \"br-guest2\"\n{more}"))
}

fn row(gateway: &Gateway, guest: &Guest, zone: &str) -> Option<serde_json::Value> {
    let rows = gateway.json(&["clients"]);
    let mine = |row: &&serde_json::Value| row["mac"] == guest.mac.as_str() && row["zone"] == zone;
    rows.as_array().unwrap().iter().find(mine).cloned()
}

#[test]
fn a_bridge_made_again_gets_its_portal_again() {
    let mut lab = Lab::new(2);
    let gateway = lab.maitred(&Settings::new());
    lab.guests[0].join(Dhcp::Udhcpc);
    lab.guests[0].log_in(&gateway);
    // What `network restart` does to a bridge.
    lab.router.ip("link del br-guest");
    thread::sleep(Duration::from_millis(300));
    gateway.command(&["status"]).ok();
    BRIDGES[0].build(&lab.router);
    lab.router.ip("link set guest1 master br-guest up\nlink set guest2 master br-guest up");

    lab.guests[1].join(Dhcp::Udhcpc);
    lab.guests[1].log_in(&gateway);
    assert!(lab.guests[1].online(), "a new guest logs in on the new bridge");
    until(Duration::from_secs(5), "the session to live", || lab.guests[0].online().then_some(()));
    assert_eq!(lab.guests[0].ping(WEB_V6, 2), 2);
    assert_eq!(row(&gateway, &lab.guests[0], "guest").unwrap()["state"], "online");
}

#[test]
fn an_address_that_changes_is_followed() {
    let mut lab = Lab::new(1);
    let gateway = lab.maitred(&Settings::new());
    lab.router.ip("addr del 10.77.0.1/16 dev br-guest\naddr add 10.77.9.9/16 dev br-guest");
    let guest = &mut lab.guests[0];
    guest.join(Dhcp::Udhcpc);
    let redirect = guest.get(&format!("http://{WEB_V4}/"));
    assert_eq!(redirect.location(), "http://10.77.9.9:2050/");
    guest.log_in(&gateway);
    assert!(guest.online());
}

#[test]
fn a_zone_whose_interface_is_missing_is_picked_up_later() {
    let mut lab = Lab::new(2);
    let gateway = lab.maitred(&two_zones(""));
    lab.guests[0].join(Dhcp::Udhcpc);
    lab.guests[0].log_in(&gateway);
    assert!(gateway.log().contains("the interface is missing"), "{}", gateway.log());
    BRIDGES[1].build(&lab.router);
    let guest = &mut lab.guests[1];
    guest.walk_to("br-guest2");
    guest.join(Dhcp::Udhcpc);
    guest.log_in(&gateway);
    assert!(guest.online() && lab.guests[0].online());
}

#[test]
fn where_zones_roam_a_grant_goes_along() {
    let mut lab = Lab::with_zones(2, 2);
    let gateway = lab.maitred(&two_zones("roam = true"));
    for (guest, bridge) in lab.guests.iter_mut().zip(["br-guest", "br-guest2"]) {
        guest.walk_to(bridge);
        guest.join(Dhcp::Udhcpc);
    }
    lab.guests[0].log_in(&gateway);
    gateway.command(&["grant", &lab.guests[0].mac, "--for", "1h"]).ok();
    let guest = &mut lab.guests[0];
    guest.walk_to("br-guest2");
    guest.join(Dhcp::Udhcpc);
    assert!(guest.online() && guest.ping(WEB_V6, 2) == 2, "nothing to do for the guest");
    let here = row(&gateway, guest, "cafe").expect("it lives where it was last seen");
    assert!(here["seconds_left"].as_u64().unwrap() <= 3600 && here["state"] == "online");
    assert_eq!(row(&gateway, guest, "guest"), None);
    gateway.kill9();
    gateway.run();
    assert!(gateway.log().contains("adopted the table"), "a restart adopts both places");
    assert!(guest.online() && guest.ping(WEB_V6, 2) == 2);
    gateway.command(&["revoke", &guest.mac]).ok();
    for bridge in ["br-guest2", "br-guest"] {
        guest.walk_to(bridge);
        guest.join(Dhcp::Udhcpc);
        assert!(!guest.online() && guest.ping(WEB_V6, 1) == 0, "{bridge}");
    }
    assert!(!lab.guests[1].online());
}

#[test]
fn two_stations_with_one_address_in_two_zones_are_noticed_and_one_that_walks_is_not() {
    let mut lab = Lab::with_zones(2, 2);
    let gateway = lab.maitred(&two_zones("roam = true"));
    lab.guests[0].join(Dhcp::Udhcpc);
    lab.guests[0].log_in(&gateway);
    lab.guests[0].walk_to("br-guest2");
    lab.guests[0].join(Dhcp::Udhcpc);
    let [guest, thief] = &lab.guests[..] else { unreachable!() };
    thief.netns.ip("link set eth0 up");
    let busy = guest.ping_flood(ROUTER2_V4, 8000);
    // What a phone leaves behind that has just walked over: the port that it was heard on stays.
    for _ in 0..4 {
        pretend(thief, mac(guest));
        thread::sleep(Duration::from_millis(500));
    }
    thread::sleep(Duration::from_secs(13));
    let entries = lab.router.exec(&["bridge", "fdb", "show"]).ok();
    let own = entries.lines().filter(|line| line.starts_with(&guest.mac));
    let bridges: BTreeSet<&str> = own.filter_map(|line| line.split(" master ").nth(1)).collect();
    assert_eq!(bridges.len(), 2, "{entries}");
    assert_eq!(moves(&gateway), 0);
    assert!(!gateway.log().contains("two zones at once"));

    let stay = AtomicBool::new(true);
    let heard = |count| {
        until(Duration::from_secs(25), "the two to be noticed", || {
            (moves(&gateway) == count).then_some(())
        });
    };
    thread::scope(|scope| {
        let goes = Goes(&stay);
        scope.spawn(|| {
            while stay.load(Ordering::Relaxed) {
                pretend(thief, mac(guest));
                thread::sleep(Duration::from_millis(500));
            }
        });
        heard(1);
        assert!(gateway.log().contains("heard in two zones at once"), "{}", gateway.log());
        assert!(guest.online(), "it is logged, no more");
        // The other zone wants more.
        let cut = "name = \"cafe\"\ninterface = \"br-guest2\"\nroam = true\non_mac_move = \"cut\"";
        gateway.configure(&two_zones("roam = true").with("[[zone]] ", cut));
        gateway.command(&["reload"]).ok();
        heard(2);
        assert!(!guest.online());
        drop(goes);
    });
    drop(busy);
    let ended: String =
        gateway.database(|db| db.query_row("SELECT reason FROM session", [], |row| row.get(0)));
    assert_eq!(ended, "moved");
}

/// Ends the thief's visit, however the story ends.
struct Goes<'a>(&'a AtomicBool);

impl Drop for Goes<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

#[test]
fn a_grant_is_good_in_its_zone_alone() {
    let mut lab = Lab::with_zones(2, 2);
    let settings = two_zones("")
        .with("[[zone]] ", "name = \"cafe\"\ninterface = \"br-guest2\"\nsession_timeout = \"1h\"");
    let gateway = lab.maitred(&settings);
    for (guest, bridge) in lab.guests.iter_mut().zip(["br-guest", "br-guest2"]) {
        guest.walk_to(bridge);
        guest.join(Dhcp::Dhclient);
        guest.lease_v6();
    }
    let portals = [(ROUTER_V4, ROUTER_V6), (ROUTER2_V4, ROUTER2_V6)];
    for (guest, (v4, v6)) in lab.guests.iter().zip(portals) {
        let asked = guest.get(&format!("http://{WEB_V4}/"));
        assert_eq!(asked.location(), format!("http://{v4}:2050/"));
        let asked = guest.get(&format!("http://[{WEB_V6}]/"));
        assert_eq!(asked.location(), format!("http://[{v6}]:2050/"));
    }
    lab.guests[0].log_in(&gateway);
    assert!(lab.guests[0].online() && lab.guests[0].ping(WEB_V6, 2) == 2);
    assert!(!lab.guests[1].online() && lab.guests[1].ping(WEB_V6, 1) == 0);
    lab.guests[1].log_in(&gateway);
    assert!(lab.guests[1].online() && lab.guests[1].ping(WEB_V6, 2) == 2);
    let left = row(&gateway, &lab.guests[1], "cafe").unwrap()["seconds_left"].as_u64().unwrap();
    assert!((3500..=3600).contains(&left), "the zone's own time-out: {left}");

    let guest = &mut lab.guests[0];
    guest.walk_to("br-guest2");
    guest.join(Dhcp::Udhcpc);
    assert!(!guest.online() && guest.ping(WEB_V4, 1) == 0 && guest.ping(WEB_V6, 1) == 0);
    guest.walk_to("br-guest");
    guest.join(Dhcp::Udhcpc);
    assert!(guest.online() && guest.ping(WEB_V6, 2) == 2, "and still is");
}

#[test]
fn a_zone_has_a_garden_and_limits_of_its_own() {
    let mut lab = Lab::with_zones(2, 2);
    let garden = format!("walled_garden = [\"{WEB_V4}\", \"{WEB_V6}\"]");
    let cafe = "name = \"cafe\"\ninterface = \"br-guest2\"\nupload_quota = \"10kB\"";
    let settings = two_zones(&garden).with("[[zone]] ", cafe);
    let gateway = lab.maitred(&settings);
    for (guest, bridge) in lab.guests.iter_mut().zip(["br-guest", "br-guest2"]) {
        guest.walk_to(bridge);
        guest.join(Dhcp::Udhcpc);
    }
    let reach = |guest: &Guest| (guest.ping(WEB_V4, 1), guest.ping(WEB_V6, 1));
    assert_eq!(lab.guests.iter().map(reach).collect::<Vec<_>>(), [(1, 1), (0, 0)]);
    for guest in &lab.guests {
        gateway.command(&["grant", &guest.mac]).ok();
    }
    let sent = lab.guests.iter().map(|guest| {
        let (before, socket) = (lab.internet.received(), guest.udp(WEB_V6, Internet::SINK));
        for _ in 0..20 {
            let _ = socket.send(&[7; 1000]);
            thread::sleep(Duration::from_millis(2));
        }
        thread::sleep(Duration::from_millis(100));
        lab.internet.received() - before
    });
    // Of 1,048 bytes each.
    assert_eq!(sent.collect::<Vec<_>>(), [20, 9]);
}
