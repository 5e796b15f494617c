//! Guest networks that are VLANs of one bridge, as on a router whose ports are a switch (DSA). The
//! kernel of the machine that tests may lack them: [`crate::machine`] has these told elsewhere.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::thread;
use std::time::Duration;

use crate::bridges::{introduce, isolated, mac, moves, pretend, reached, state};
use crate::coexist::reload_fw4;
use crate::doctor::found;
use crate::lab::{
    Dhcp, Gateway, Guest, Lab, ROUTER_MAC, ROUTER_V4, ROUTER_V6, ROUTER2_V4, ROUTER2_V6, Settings,
    Wire, until,
};

/// An emulated machine is slow.
const SOON: Duration = Duration::from_secs(10);

/// The guest bridge filters VLANs: each of these ports is in one, untagged. VLANs 10 and 20 are
/// networks of the router's.
fn split_into_vlans(lab: &mut Lab, ports: &[(&str, u16)]) {
    lab.router.ip("link set br-guest type bridge vlan_filtering 1 vlan_default_pvid 0
         addr flush dev br-guest");
    for (port, vlan) in ports {
        bridge_vlan(lab, &format!("add dev {port} vid {vlan} pvid untagged"));
    }
    let mut more = String::new();
    for (vlan, v4, v6) in [(10, ROUTER_V4, ROUTER_V6), (20, ROUTER2_V4, ROUTER2_V6)] {
        bridge_vlan(lab, &format!("add dev br-guest vid {vlan} self"));
        lab.router.ip(&format!(
            "link add link br-guest name br-guest.{vlan} type vlan id {vlan}
             addr add {v4}/16 dev br-guest.{vlan}
             addr add {v6}/64 dev br-guest.{vlan} nodad
             link set br-guest.{vlan} up"
        ));
        write!(
            more,
            "interface=br-guest.{vlan}\n\
             dhcp-range=::1000,::1fff,constructor:br-guest.{vlan},slaac,64,1h\n"
        )
        .unwrap();
    }
    fs::write(lab.dnsmasq_dir().join("vlans.conf"), more).unwrap();
    lab.restart_dnsmasq();
    let fw4 = lab.folder().join("fw4.nft");
    let rules = fs::read_to_string(&fw4).unwrap();
    let vlans = "\"br-guest.10\", \"br-guest.20\"";
    fs::write(&fw4, rules.replace("\"br-guest\", \"br-guest2\"", vlans)).unwrap();
    reload_fw4(lab);
}

fn bridge_vlan(lab: &Lab, what: &str) {
    let words: Vec<&str> = what.split(' ').collect();
    lab.router.exec(&[&["bridge", "vlan"][..], &words].concat()).ok();
}

fn one_zone(more: &str) -> Settings {
    let zone = format!("name = \"guest\"\ninterface = \"br-guest.10\"\n{more}");
    Settings::new().with("[[zone]]", &zone)
}

fn two_zones(more: &str) -> Settings {
    let cafe = format!("name = \"cafe\"\ninterface = \"br-guest.20\"\n{more}");
    one_zone(more).with("[[zone]] ", &cafe)
}

fn states(gateway: &Gateway) -> BTreeMap<String, String> {
    let rows = gateway.json(&["clients"]);
    let text = |row: &serde_json::Value, key| row[key].as_str().unwrap().to_owned();
    rows.as_array().unwrap().iter().map(|row| (text(row, "zone"), text(row, "state"))).collect()
}

#[test]
#[ignore = "stories_on_debians_kernel tells it"]
fn guests_in_vlans_of_one_bridge_are_kept_apart() {
    let mut lab = Lab::new(2);
    split_into_vlans(&mut lab, &[("guest1", 10), ("guest2", 20)]);
    let gateway = lab.maitred(&two_zones(""));
    // The same address of the wire, once in each.
    let mac = lab.guests[0].mac.clone();
    lab.guests[1].netns.ip(&format!("link set eth0 address {mac}"));
    lab.guests[1].mac = mac.clone();
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    let [guest, twin] = &lab.guests[..] else { unreachable!() };

    guest.log_in(&gateway);
    assert!(guest.online() && !twin.online());
    let states = states(&gateway);
    assert_eq!([&states["guest"], &states["cafe"]], ["online", "new"]);
    let redirect = twin.get("http://example.com/").location();
    assert!([ROUTER2_V4, ROUTER2_V6].iter().any(|own| redirect.contains(own)), "{redirect}");
    assert_eq!(moves(&gateway), 0, "two VLANs know the address: nobody moved");

    // Into the other VLAN, with a tag.
    guest.netns.ip("link add link eth0 name eth0.20 type vlan id 20
         addr add 10.79.200.1/16 dev eth0.20
         link set eth0.20 up");
    let hop = ["ping", "-n", "-c", "1", "-W", "1", "-I", "eth0.20", ROUTER2_V4];
    assert!(!guest.netns.exec(&hop).success);
    guest.netns.ip("link del eth0.20");

    gateway.command(&["revoke", &mac]).ok();
    gateway.command(&["grant", &mac, "--zone", "cafe"]).ok();
    assert!(!guest.online() && twin.online());
}

/// A host in VLAN 1 that knows nothing of guests.
fn move_to_lan(host: &Guest, last: u8) {
    host.netns.ip(&format!("addr add 10.80.0.{last}/24 dev eth0\nlink set eth0 up"));
}

/// What a trunk brings: a guest with a tag.
fn visit_behind(trunk: &Guest, last: u8) -> String {
    let address = format!("10.77.200.{last}");
    trunk.netns.ip(&format!(
        "link add link eth0 name eth0.10 type vlan id 10
         addr add {address}/16 dev eth0.10
         link set eth0.10 up"
    ));
    assert_eq!(trunk.ping(ROUTER_V4, 1), 1, "the VLAN goes up to the router");
    address
}

/// Whether this guest answers one behind a trunk; neither has to ask where the other is.
fn reaches(trunk: &Guest, address: &str, to: &Guest) -> bool {
    to.netns.ip(&format!("neigh replace {address} lladdr {} dev eth0 nud permanent", trunk.mac));
    let there = to.v4();
    trunk.netns.ip(&format!("neigh replace {there} lladdr {} dev eth0.10 nud permanent", to.mac));
    trunk.ping(&there, 1) == 1
}

fn gaps(gateway: &Gateway) -> Vec<String> {
    found(gateway).into_iter().filter(|finding| finding.contains("reach each other")).collect()
}

#[test]
#[ignore = "stories_on_debians_kernel tells it"]
fn guests_of_one_vlan_are_isolated_and_its_neighbours_are_not() {
    let mut lab = Lab::new(4);
    let ports = [("guest1", 10), ("guest2", 10), ("guest3", 1), ("guest4", 1)];
    split_into_vlans(&mut lab, &ports);
    let gateway = lab.maitred(&one_zone("isolate = true"));
    lab.guests[..2].iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    let [one, other, trunk, second] = &lab.guests[..] else { unreachable!() };
    let becomes = |port: &str, wanted| {
        until(SOON, &format!("{port}: {wanted}"), || {
            (isolated(&lab, port) == wanted).then_some(())
        });
    };
    becomes("guest1", true);
    becomes("guest2", true);
    for guest in [one, other] {
        guest.log_in(&gateway);
    }
    introduce(one, other, &other.mac);
    introduce(other, one, &one.mac);
    assert_eq!(reached(one, other) + reached(other, one), 0);
    assert!(one.online() && other.online());
    move_to_lan(trunk, 3);
    move_to_lan(second, 4);
    assert!(!isolated(&lab, "guest3") && !isolated(&lab, "guest4"));
    assert_eq!(trunk.ping("10.80.0.4", 2), 2);
    assert_eq!(gaps(&gateway), [""; 0]);

    // One port may be both networks'.
    bridge_vlan(&lab, "add dev guest3 vid 10");
    becomes("guest3", true);
    let address = visit_behind(trunk, 3);
    assert!(!reaches(trunk, &address, one) && trunk.ping("10.80.0.4", 2) == 2);

    // Of two one is left open, or the other network would be cut; it is told of.
    bridge_vlan(&lab, "add dev guest4 vid 10");
    let gap = "guest4, a port of br-guest.10, is in another network with an isolated port";
    until(SOON, "the gap in the log", || gateway.log().contains(gap).then_some(()));
    assert!(isolated(&lab, "guest3") && !isolated(&lab, "guest4"));
    assert_eq!(trunk.ping("10.80.0.4", 2), 2);
    let open = visit_behind(second, 4);
    assert!(reaches(second, &open, one) && !reaches(trunk, &address, one));
    assert_eq!(gaps(&gateway), [format!("guests reach each other: {gap}")]);

    // The first is the LAN's alone again.
    bridge_vlan(&lab, "del dev guest3 vid 10");
    becomes("guest4", true);
    becomes("guest3", false);
    assert!(!reaches(second, &open, one) && second.ping("10.80.0.3", 2) == 2);
    assert_eq!(gaps(&gateway), [""; 0]);

    lab.router.ip("link set br-guest type bridge vlan_filtering 0");
    let gap = "br-guest.10 is a VLAN of a bridge without VLAN filtering";
    until(SOON, "the gap in the log", || gateway.log().contains(gap).then_some(()));
    assert_eq!(gaps(&gateway), [format!("guests reach each other: {gap}")]);
    lab.router.ip("link set br-guest type bridge vlan_filtering 1");
    becomes("guest1", true);

    // The interface goes, and comes again.
    lab.router.ip("link del br-guest.10");
    becomes("guest1", false);
    lab.router.ip("link add link br-guest name br-guest.10 type vlan id 10");
    becomes("guest1", true);
}

#[test]
#[ignore = "stories_on_debians_kernel tells it"]
fn whoever_takes_an_address_within_a_vlan_is_noticed() {
    let mut lab = Lab::new(3);
    split_into_vlans(&mut lab, &[("guest1", 10), ("guest2", 10), ("guest3", 30)]);
    let gateway = lab.maitred(&one_zone("on_mac_move = \"cut\""));
    lab.guests[0].join(Dhcp::Udhcpc);
    lab.guests[1..].iter().for_each(|guest| guest.netns.ip("link set eth0 up"));
    let [guest, thief, neighbour] = &lab.guests[..] else { unreachable!() };
    guest.log_in(&gateway);
    assert!(guest.online());
    // In another VLAN of the bridge, which is nobody's zone.
    for _ in 0..5 {
        pretend(neighbour, mac(guest));
        thread::sleep(Duration::from_millis(200));
    }
    assert!(moves(&gateway) == 0 && guest.online());

    // More addresses than are followed take nobody's place.
    let wire = Wire::open(&thief.netns);
    for number in 0..40_000_u32 {
        let [_, a, b, c] = number.to_be_bytes();
        wire.send(&[&ROUTER_MAC[..], &[0x06, 9, 9, a, b, c, 0x88, 0xb5], &[0; 46]].concat());
        if number.is_multiple_of(100) {
            thread::sleep(Duration::from_millis(5));
        }
    }
    // Linux 6.7 and later keep 32,768 at most.
    let learned = lab.router.exec(&["bridge", "fdb", "show", "br", "br-guest"]).ok();
    let learned = learned.lines().filter(|line| line.starts_with("06:09")).count();
    println!("of 40,000 addresses in a VLAN the bridge keeps {learned}");
    assert!(learned > 25_000, "{learned}");

    pretend(thief, mac(guest));
    until(SOON, "the session to end", || (state(&gateway, guest) != "online").then_some(()));
    assert!(!guest.online() && moves(&gateway) == 1);
    let ended: String =
        gateway.database(|db| db.query_row("SELECT reason FROM session", [], |row| row.get(0)));
    assert_eq!(ended, "moved");
}

#[test]
#[ignore = "stories_on_debians_kernel tells it"]
fn one_address_in_two_vlans_that_roam_is_two_stations() {
    let mut lab = Lab::new(2);
    split_into_vlans(&mut lab, &[("guest1", 10), ("guest2", 20)]);
    let gateway = lab.maitred(&two_zones("roam = true\non_mac_move = \"cut\""));
    lab.guests[0].join(Dhcp::Udhcpc);
    lab.guests[1].netns.ip("link set eth0 up");
    let [guest, thief] = &lab.guests[..] else { unreachable!() };
    guest.log_in(&gateway);
    assert!(guest.online());
    until(Duration::from_secs(40), "the two to be noticed", || {
        pretend(guest, mac(guest));
        pretend(thief, mac(guest));
        thread::sleep(Duration::from_millis(500));
        (moves(&gateway) > 0).then_some(())
    });
    assert!(gateway.log().contains("heard in two zones at once"), "{}", gateway.log());
    assert!(!guest.online());
}
