//! Others load, flush and delete tables beside ours.

use std::fs;
use std::time::Duration;

use crate::lab::{Dhcp, Gateway, Lab, Settings, WEB_V4, WEB_V6, until};

fn rebuilds(gateway: &Gateway) -> u64 {
    gateway.json(&["status"])["rebuilds"].as_u64().expect("a count")
}

/// Loads the router's own firewall anew, in one transaction, as fw4 does.
pub(crate) fn reload_fw4(lab: &Lab) {
    let rules = fs::read_to_string(lab.folder().join("fw4.nft")).unwrap();
    let file = lab.folder().join("reload.nft");
    fs::write(&file, format!("table inet fw4\ndelete table inet fw4\n{rules}")).unwrap();
    lab.router.exec(&["nft", "-f", file.to_str().unwrap()]).ok();
}

fn one_online_one_not(settings: &Settings) -> (Lab, Gateway) {
    let mut lab = Lab::new(2);
    let gateway = lab.maitred(settings);
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    lab.guests[0].log_in(&gateway);
    (lab, gateway)
}

#[test]
fn the_routers_firewall_may_reload_at_any_time() {
    let (lab, gateway) = one_online_one_not(&Settings::new());
    let floods = [lab.guests[0].ping_flood(WEB_V4, 150), lab.guests[0].ping_flood(WEB_V6, 150)];
    for _ in 0..10 {
        reload_fw4(&lab);
        assert!(!lab.guests[1].online());
    }
    for flood in floods {
        assert_eq!(flood.lost(), 0);
    }
    assert_eq!(rebuilds(&gateway), 0);
    lab.guests[1].log_in(&gateway);
    assert!(lab.guests[1].online());
}

#[test]
fn the_routers_firewall_may_come_later() {
    let mut lab = Lab::new(2);
    lab.router.exec(&["nft", "delete", "table", "inet", "fw4"]).ok();
    let gateway = lab.maitred(&Settings::new());
    reload_fw4(&lab);
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    lab.guests[0].log_in(&gateway);
    assert!(lab.guests[0].online() && !lab.guests[1].online());
}

#[test]
fn a_table_that_is_ours_alone_survives_a_flush_of_all() {
    let (lab, gateway) = one_online_one_not(&Settings::new());
    let tap = lab.tap_uplink();
    let flood = lab.guests[0].ping_flood(WEB_V6, 100);
    lab.router.exec(&["nft", "flush", "ruleset"]).ok();
    assert!(!lab.router.exec(&["nft", "delete", "table", "inet", "maitred"]).success);
    assert_eq!(lab.guests[1].ping(WEB_V6, 3), 0);
    assert_eq!(flood.lost(), 0);
    let stranger = lab.guests[1].v6();
    assert!(!tap.packets().iter().any(|line| line.contains(&stranger)));
    assert_eq!(rebuilds(&gateway), 0);
}

/// A kernel before 6.9 cannot keep a table for its owner. There, what stands is a plain table.
fn with_a_plain_table(guests: u8) -> (Lab, Gateway) {
    let mut lab = Lab::new(guests);
    lab.router.exec(&["nft", "add", "table", "inet", "maitred"]).ok();
    let gateway = lab.maitred(&Settings::new());
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    (lab, gateway)
}

#[test]
fn a_plain_table_is_built_again_within_100_ms() {
    let (lab, gateway) = with_a_plain_table(2);
    lab.guests[0].log_in(&gateway);
    // A ping every 2 ms: the gap, as the internet sees it.
    let log = lab.folder().join("stranger");
    let args = ["ping", "-n", "-i", "0.002", "-W", "1", WEB_V6];
    let _pings = lab.guests[1].netns.spawn(&args, &log);
    let stranger = lab.guests[1].v6();
    for (done, command) in
        ["flush ruleset", "delete table inet maitred", "flush chain inet maitred deny"]
            .into_iter()
            .enumerate()
    {
        let tap = lab.tap_uplink();
        let words: Vec<&str> = command.split(' ').collect();
        lab.router.exec(&[&["nft"], &words[..]].concat()).ok();
        until(Duration::from_secs(1), "the table to be built again", || {
            (rebuilds(&gateway) == done as u64 + 1).then_some(())
        });
        let packets = tap.packets();
        let leaked = packets.iter().filter(|line| line.contains(&stranger)).count();
        assert!(leaked <= 50, "{command}: {leaked} packets in 2 ms each");
        assert_eq!(lab.guests[0].ping(WEB_V6, 1), 1);
        assert_eq!(lab.guests[1].ping(WEB_V6, 1), 0);
    }
}

#[test]
fn an_address_that_was_learned_is_open_and_renewed_by_its_traffic() {
    // A plain table, so that the test may put in what the DNS forwarder would.
    let (lab, gateway) = with_a_plain_table(1);
    for element in [
        format!("learned4 {{ \"br-guest\" . {WEB_V4} timeout 3s }}"),
        format!("learned6 {{ \"br-guest\" . {WEB_V6} timeout 3s }}"),
        "learned4 { \"br-guest\" . 203.0.113.81 timeout 3s }".to_owned(),
    ] {
        let command = format!("add element inet maitred {element}");
        lab.router.exec(&["nft", &command]).ok();
    }
    lab.internet.netns.ip("addr add 203.0.113.81/32 dev lo");
    let guest = &lab.guests[0];
    for (address, page) in [(WEB_V4, WEB_V4.to_owned()), (WEB_V6, format!("[{WEB_V6}]"))] {
        until(Duration::from_secs(2), "the address to answer", || {
            (guest.ping(address, 1) == 1).then_some(())
        });
        assert!(guest.page_opens(&format!("http://{page}/")));
    }
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!((guest.ping(WEB_V4, 1), guest.ping(WEB_V6, 1)), (1, 1), "renewed");
    assert_eq!(guest.ping("203.0.113.81", 1), 0, "timed out");
    assert_eq!(rebuilds(&gateway), 0);
}
