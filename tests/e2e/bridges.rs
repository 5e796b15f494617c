//! What happens between the ports of a guest bridge.

use std::thread;
use std::time::Duration;

use crate::lab::{
    Dhcp, Gateway, Guest, Lab, ROUTER_MAC, ROUTER_V4, ROUTER_V6, Settings, Wire, until,
};

fn zone(more: &str) -> Settings {
    Settings::new().with("[[zone]]", &format!("name = \"guest\"\ninterface = \"br-guest\"\n{more}"))
}

pub(crate) fn mac(guest: &Guest) -> [u8; 6] {
    guest.mac.parse::<maitred::domain::names::Mac>().unwrap().0
}

/// How many of the other's addresses answer: IPv4, IPv6, link-local.
pub(crate) fn reached(from: &Guest, to: &Guest) -> u32 {
    let local = from.netns.exec(&["ping", "-n", "-q", "-c", "1", "-W", "1", &link_local(to)]);
    from.ping(&to.v4(), 1) + from.ping(&to.v6(), 1) + u32::from(local.success)
}

fn link_local(guest: &Guest) -> String {
    let text = guest.netns.exec(&["ip", "-6", "-o", "addr", "show", "scope", "link"]).ok();
    let address = text.split_whitespace().nth(3).unwrap();
    format!("{}%eth0", address.split('/').next().unwrap())
}

/// Tells a guest where the other is, as if neither had to ask.
pub(crate) fn introduce(from: &Guest, to: &Guest, mac: &str) {
    for address in [to.v4(), to.v6()] {
        from.netns.ip(&format!("neigh replace {address} lladdr {mac} dev eth0 nud permanent"));
    }
}

pub(crate) fn isolated(lab: &Lab, port: &str) -> bool {
    lab.router.exec(&["bridge", "-d", "link", "show", "dev", port]).ok().contains("isolated on")
}

#[test]
fn guests_of_a_zone_reach_each_other_unless_it_isolates_them() {
    for isolate in [false, true] {
        let mut lab = Lab::new(3);
        let gateway = lab.maitred(&zone(&format!("isolate = {isolate}")));
        lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
        lab.guests[0].log_in(&gateway);
        lab.guests[1].log_in(&gateway);
        for (from, to) in [(0, 1), (0, 2), (2, 0)] {
            let (from, to) = (&lab.guests[from], &lab.guests[to]);
            introduce(from, to, &to.mac);
            introduce(to, from, &from.mac);
            assert_eq!(reached(from, to), if isolate { 0 } else { 3 }, "isolate = {isolate}");
        }
        // By way of the router.
        let (from, to) = (&lab.guests[0], &lab.guests[1]);
        for (from, to) in [(from, to), (to, from)] {
            introduce(from, to, "02:00:5e:77:00:01");
        }
        assert_eq!(from.ping(&to.v4(), 1) + from.ping(&to.v6(), 1), 0, "isolate = {isolate}");
        assert!(from.online() && to.online());
        assert_eq!(isolated(&lab, "guest1"), isolate);
    }
}

#[test]
fn ports_that_come_or_are_changed_are_isolated_too() {
    let mut lab = Lab::new(2);
    lab.router.ip("link set guest2 nomaster");
    let gateway = lab.maitred(&zone("isolate = true"));
    let within = Duration::from_millis(500);
    let kept = |port: &'static str| {
        until(within, port, || isolated(&lab, port).then_some(()));
    };
    kept("guest1");
    lab.router.ip("link set guest2 master br-guest");
    kept("guest2");
    lab.router.exec(&["bridge", "link", "set", "dev", "guest1", "isolated", "off"]).ok();
    kept("guest1");
    // What `network restart` does.
    lab.router.ip("link del br-guest");
    crate::lab::BRIDGES[0].build(&lab.router);
    lab.router.ip("link set guest1 master br-guest up\nlink set guest2 master br-guest up");
    kept("guest1");
    kept("guest2");
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    introduce(&lab.guests[0], &lab.guests[1], &lab.guests[1].mac);
    assert_eq!(reached(&lab.guests[0], &lab.guests[1]), 0);
    lab.guests[0].log_in(&gateway);
    assert!(lab.guests[0].online());
}

pub(crate) fn moves(gateway: &Gateway) -> u64 {
    gateway.json(&["status"])["moves"].as_u64().unwrap()
}

/// Sends a frame with this source from a guest's port: the bridge learns that it is there.
pub(crate) fn pretend(guest: &Guest, mac: [u8; 6]) {
    let local_experiment = [0x88, 0xb5];
    let frame = [&ROUTER_MAC[..], &mac, &local_experiment, &[0; 46]].concat();
    Wire::open(&guest.netns).send(&frame);
}

pub(crate) fn state(gateway: &Gateway, guest: &Guest) -> String {
    let rows = gateway.json(&["clients"]);
    let row = rows.as_array().unwrap().iter().find(|row| row["mac"] == guest.mac.as_str());
    row.unwrap()["state"].as_str().unwrap().to_owned()
}

#[test]
fn a_second_station_with_a_guests_address_is_noticed() {
    let mut lab = Lab::new(3);
    let gateway = lab.maitred(&zone(""));
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    let [guest, thief, stranger] = &lab.guests[..] else { unreachable!() };
    guest.log_in(&gateway);
    assert!(guest.online() && moves(&gateway) == 0);
    let within = Duration::from_secs(1);
    pretend(thief, mac(guest));
    until(within, "the move to be noticed", || (moves(&gateway) == 1).then_some(()));
    assert!(gateway.log().contains("heard on another port of its bridge"), "{}", gateway.log());
    assert!(guest.online(), "it is logged, no more");
    // One who is not online is nobody's loss.
    pretend(thief, mac(stranger));
    thread::sleep(Duration::from_millis(300));
    assert!(moves(&gateway) <= 2, "the guest's way back and nothing else");
    // A start reads where everybody is.
    gateway.kill9();
    gateway.run();
    thread::sleep(Duration::from_millis(1200));
    let before = moves(&gateway);
    pretend(thief, mac(guest));
    until(within, "the move to be noticed", || (moves(&gateway) == before + 1).then_some(()));
}

#[test]
fn a_flood_of_addresses_is_bounded_and_hides_no_move() {
    let mut lab = Lab::new(2);
    let gateway = lab.maitred(&zone(""));
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    let [guest, thief] = &lab.guests[..] else { unreachable!() };
    guest.log_in(&gateway);
    let wire = Wire::open(&thief.netns);
    for number in 0..40_000_u32 {
        let [_, a, b, c] = number.to_be_bytes();
        let frame = [&ROUTER_MAC[..], &[0x06, 9, 9, a, b, c, 0x88, 0xb5], &[0; 46]].concat();
        wire.send(&frame);
        if number.is_multiple_of(100) {
            thread::sleep(Duration::from_millis(5));
        }
    }
    let learned = lab.router.exec(&["bridge", "fdb", "show", "br", "br-guest"]).ok();
    let learned = learned.lines().filter(|line| line.starts_with("06:09")).count();
    assert!((25_000..=32_768).contains(&learned), "{learned} addresses");
    pretend(thief, mac(guest));
    until(Duration::from_secs(5), "the move to be noticed", || {
        (moves(&gateway) == 1).then_some(())
    });
    assert!(guest.online());
}

#[test]
fn where_the_owner_wants_it_both_are_cut_off() {
    let mut lab = Lab::new(2);
    let settings = zone("on_mac_move = \"cut\"").with("[portal]", "remember_for = \"1d\"");
    let gateway = lab.maitred(&settings);
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    let (guests, thieves) = lab.guests.split_at_mut(1);
    let (guest, thief) = (&guests[0], &thieves[0]);
    guest.log_in(&gateway);
    assert!(guest.online());
    // The whole device: its address of the wire and those above.
    let (v4, v6) = (guest.v4(), guest.v6());
    thief.netns.ip(&format!(
        "link set eth0 down
         link set eth0 address {}
         link set eth0 up
         addr replace {v4}/16 dev eth0
         addr replace {v6}/64 dev eth0 nodad
         route replace default via {ROUTER_V4}
         route replace default via {ROUTER_V6}",
        guest.mac
    ));
    thief.ping(ROUTER_V4, 1);
    until(Duration::from_secs(1), "the session to end", || {
        (state(&gateway, guest) != "online").then_some(())
    });
    assert!(!thief.online() && thief.ping(crate::lab::WEB_V6, 1) == 0);
    let ended: String =
        gateway.database(|db| db.query_row("SELECT reason FROM session", [], |row| row.get(0)));
    assert_eq!(ended, "moved");
    thief.netns.ip("link set eth0 down");
    // The guest is told, and is not let in by what is remembered of the device.
    let told = guest.get_in("en", &format!("http://{ROUTER_V4}:2050/"));
    assert!(told.body.contains("used the address"), "{told:#?}");
    thread::sleep(Duration::from_millis(1100));
    guest.log_in(&gateway);
    assert!(guest.online() && moves(&gateway) == 1);
}
