//! A thousand guests behind one port of the bridge, each with its own MAC and addresses, made of
//! frames; what they send and get is counted by the kernel on both ends.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use etherparse::PacketBuilder;
use maitred::adapters::control::{Ask, ask};
use maitred::domain::names::Mac;
use maitred::domain::policy::Overrides;

use crate::lab::{Dhcp, Lab, Netns, ROUTER_MAC, Settings, WEB_V4, WEB_V6, Wire, run, until};

const GUESTS: u16 = 1000;

fn mac(number: u16) -> [u8; 6] {
    let [high, low] = number.to_be_bytes();
    [0x3c, 0x5a, 0xb4, 1, high, low]
}

fn v4(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(10, 77, 251 + high, low)
}

fn v6(number: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 1, number)
}

/// Tells the router where they all are, so that it need not ask.
fn introduce(lab: &Lab) {
    let mut lines = String::new();
    for number in 0..GUESTS {
        let at = format!("lladdr {} dev br-guest nud permanent", Mac(mac(number)));
        writeln!(lines, "neigh replace {} {at}\nneigh replace {} {at}", v4(number), v6(number))
            .unwrap();
    }
    let file = lab.folder().join("neighbours");
    std::fs::write(&file, lines).unwrap();
    run(&["ip", "-n", lab.router.name(), "-batch", file.to_str().unwrap()], 20).ok();
}

/// Lets them all in.
fn grant_all(lab: &Lab) {
    let folder = lab.folder().join("run");
    for number in 0..GUESTS {
        let limits = Overrides::default();
        let order = Ask::Grant { mac: Mac(mac(number)), zone: None, seconds: None, limits };
        ask(&folder, order, Duration::from_secs(5)).unwrap();
    }
}

/// A ping of a guest's to the internet, over IPv4 and IPv6 by turns.
fn ping(number: u16, round: u16) -> Vec<u8> {
    let mut frame = Vec::new();
    let ethernet = PacketBuilder::ethernet2(mac(number), ROUTER_MAC);
    if (number + round).is_multiple_of(2) {
        let web: Ipv4Addr = WEB_V4.parse().unwrap();
        let packet = ethernet.ipv4(v4(number).octets(), web.octets(), 64);
        packet.icmpv4_echo_request(number, round).write(&mut frame, &[7; 40]).unwrap();
    } else {
        let web: Ipv6Addr = WEB_V6.parse().unwrap();
        let packet = ethernet.ipv6(v6(number).octets(), web.octets(), 64);
        packet.icmpv6_echo_request(number, round).write(&mut frame, &[7; 40]).unwrap();
    }
    frame
}

/// Has the kernel count pings that arrive in a namespace.
fn count_pings(netns: &Netns, hook: &str, family: &str, kind: &str) {
    let chain = format!(
        "table {family} pings {{ chain count {{ type filter hook {hook} priority 0; \
         icmp type {kind} counter; icmpv6 type {kind} counter; }}; }}"
    );
    netns.exec(&["nft", &chain]).ok();
}

/// What has been counted: IPv4, IPv6.
fn counted(netns: &Netns, family: &str) -> [u32; 2] {
    let text = netns.exec(&["nft", "list", "table", family, "pings"]).ok();
    let counts: Vec<u32> = text
        .split("packets ")
        .skip(1)
        .filter_map(|rest| rest.split_whitespace().next()?.parse().ok())
        .collect();
    counts.try_into().unwrap()
}

#[test]
fn sigkill_under_the_traffic_of_a_thousand_guests_loses_none_of_their_packets() {
    let mut lab = Lab::new(2);
    let gateway = lab.maitred(&Settings::new());
    lab.guests[1].join(Dhcp::Udhcpc);
    lab.guests[0].netns.ip("link set eth0 up");
    let (crowd, stranger) = (&lab.guests[0].netns, &lab.guests[1]);
    introduce(&lab);
    grant_all(&lab);
    assert_eq!(gateway.json(&["status"])["online"].as_u64(), Some(u64::from(GUESTS)));
    count_pings(&lab.internet.netns, "input", "inet", "echo-request");
    count_pings(crowd, "ingress device eth0", "netdev", "echo-reply");
    let wire = Wire::open(crowd);
    let over = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let mut sent = [0; 2];
            for round in 0..u16::MAX {
                for number in 0..GUESTS {
                    wire.send(&ping(number, round));
                    sent[usize::from((number + round) % 2)] += 1;
                    if number % 5 == 0 {
                        thread::sleep(Duration::from_millis(1));
                    }
                }
                if over.load(Ordering::Relaxed) {
                    break;
                }
            }
            sent
        });
        thread::sleep(Duration::from_millis(700));
        for _ in 0..3 {
            gateway.kill9();
            thread::sleep(Duration::from_millis(300));
            assert_eq!(stranger.ping(WEB_V4, 1) + stranger.ping(WEB_V6, 1), 0);
            gateway.run();
        }
        over.store(true, Ordering::Relaxed);
        sending.join().unwrap()
    });
    assert!(sent[0] > 2000 && sent[1] > 2000, "{sent:?}");
    until(Duration::from_secs(5), "the last answers", || {
        (counted(crowd, "netdev") == counted(&lab.internet.netns, "inet")).then_some(())
    });
    assert_eq!(counted(&lab.internet.netns, "inet"), sent, "on the way up");
    assert_eq!(counted(crowd, "netdev"), sent, "on the way down");
    assert_eq!(gateway.json(&["status"])["online"].as_u64(), Some(u64::from(GUESTS)));
    assert_eq!(gateway.log().matches("adopted the table").count(), 3);
}

/// On kernels before 6.9 anybody may flush our table. How fast it is back, the yardstick measures.
#[test]
fn after_a_flush_of_all_tables_a_thousand_guests_are_online_again() {
    let lab = Lab::new(1);
    lab.router.exec(&["nft", "add", "table", "inet", "maitred"]).ok();
    let gateway = lab.maitred(&Settings::new());
    grant_all(&lab);
    for _ in 0..3 {
        lab.router.exec(&["nft", "flush", "ruleset"]).ok();
        // It comes back in one transaction: when it is there, it is whole.
        let held = until(Duration::from_secs(5), "the table", || {
            let list = ["nft", "list", "map", "inet", "maitred", "granted"];
            Some(lab.router.exec(&list)).filter(|list| list.success)
        });
        assert_eq!(held.ok().matches("3c:5a:b4:01:").count(), usize::from(GUESTS));
        thread::sleep(Duration::from_millis(300));
    }
    let status = gateway.json(&["status"]);
    assert_eq!(status["online"].as_u64(), Some(u64::from(GUESTS)));
    assert!(status["rebuilds"].as_u64() >= Some(3), "{status}");
}
