//! One device floods; the tables stay bounded, guests online keep their speed, others still log in.

use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use etherparse::PacketBuilder;

use crate::lab::{
    Dhcp, Guest, Internet, Lab, ROUTER_MAC, ROUTER_V4, Settings, WEB_V4, WEB_V6, Wire,
};

/// Connections that the rest of the lab may hold while a test runs.
const OTHERS: usize = 200;
/// The configuration's default, for a device that is not online.
const PER_STRANGER: usize = 200;

const WEB: [u8; 4] = [203, 0, 113, 80];
/// An address that the router finds at the stranger's, where nobody answers.
const SILENT: [u8; 4] = [10, 77, 66, 66];
const STRANGER: [u8; 6] = [0x3c, 0x5a, 0xb4, 0, 0, 2];

/// Runs a flood of the second guest's for some seconds. Meanwhile the first, who is online, keeps
/// 90 % of a steady download, the third logs in, and the router holds at most `most` connections.
fn the_store_bears(most: usize, flood: impl Fn(&Wire) + Send + Sync) {
    let mut lab = Lab::new(3);
    let gateway = lab.maitred(&Settings::new());
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    lab.router.ip("neigh add 10.77.66.66 lladdr 3c:5a:b4:00:00:02 dev br-guest nud permanent");
    let [online, stranger, newcomer] = &lab.guests[..] else { unreachable!() };
    assert_eq!(stranger.mac, "3c:5a:b4:00:00:02");
    online.log_in(&gateway);
    let _meter = lab.meter();
    let steady = "-R -t 4 -b 40M";
    let before = online.measure(WEB_V4, steady).rate;
    let wire = Wire::open(&stranger.netns);
    let during = thread::scope(|scope| {
        scope.spawn(|| flood(&wire));
        let measured = scope.spawn(|| online.measure(WEB_V4, steady).rate);
        thread::sleep(Duration::from_millis(1500));
        newcomer.log_in(&gateway);
        let held = lab.connections();
        assert!(held <= most, "{held} connections");
        measured.join().unwrap()
    });
    let held = lab.connections();
    assert!(held <= most, "{held} connections");
    assert!(during >= 0.9 * before, "{during} of {before} bytes a second");
    assert!(online.online() && newcomer.online() && !stranger.online());
}

/// Sends `count` frames in about three seconds.
fn evenly(count: u32, mut send: impl FnMut(u32)) {
    for number in 0..count {
        send(number);
        if number % (count / 300) == 0 {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

fn port(number: u32) -> u16 {
    u16::try_from(1024 + number % 60_000).unwrap()
}

fn syn(mac: [u8; 6], from: [u8; 4], ports: (u16, u16)) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(mac, ROUTER_MAC)
        .ipv4(from, WEB, 64)
        .tcp(ports.0, ports.1, 7, 64_000)
        .syn()
        .write(&mut frame, &[])
        .unwrap();
    frame
}

fn udp(mac: [u8; 6], from: [u8; 4], ports: (u16, u16)) -> Vec<u8> {
    // A question for `x`, type A.
    let question = [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'x', 0, 0, 1, 0, 1];
    let mut frame = Vec::new();
    let packet = PacketBuilder::ethernet2(mac, ROUTER_MAC).ipv4(from, WEB, 64);
    packet.udp(ports.0, ports.1).write(&mut frame, &question).unwrap();
    frame
}

#[test]
fn thirty_thousand_flows_of_a_stranger() {
    the_store_bears(PER_STRANGER + OTHERS, |wire| {
        evenly(15_000, |number| {
            wire.send(&udp(STRANGER, SILENT, (port(number), 53)));
            wire.send(&syn(STRANGER, SILENT, (port(number), 80)));
            if number % 3 == 0 {
                wire.send(&udp(STRANGER, SILENT, (port(number), Internet::SINK)));
            }
        });
    });
}

#[test]
fn ten_thousand_half_open_connections() {
    // A hundred devices' worth of them.
    the_store_bears(100 * PER_STRANGER + OTHERS, |wire| {
        evenly(10_000, |number| {
            let [.., device] = (number % 100).to_be_bytes();
            let mac = [0x06, 0, 0, 0, 1, device];
            wire.send(&syn(mac, SILENT, (port(number), [80, 2050][usize::from(number % 2 == 0)])));
        });
    });
}

#[test]
fn twenty_thousand_random_macs() {
    // One connection each is all that they get.
    the_store_bears(20_000 + OTHERS, |wire| {
        evenly(20_000, |number| {
            let [_, mixed @ ..] = number.wrapping_mul(0x9e37_79b1).to_be_bytes();
            let [_, _, high, low] = number.to_be_bytes();
            let mac = [0x06, mixed[0], mixed[1], mixed[2], high, low];
            wire.send(&syn(mac, SILENT, (port(number), 80)));
        });
    });
}

/// A DHCP message (RFC 2131), in the name of a device which need not be the one that sends it.
fn dhcp(sender: [u8; 6], name: [u8; 6], options: &[&[u8]]) -> Vec<u8> {
    let mut message = vec![0; 236];
    message[..4].copy_from_slice(&[1, 1, 6, 0]);
    message[4..8].copy_from_slice(&name[2..]);
    message[28..34].copy_from_slice(&name);
    message.extend([99, 130, 83, 99]);
    message.extend(options.concat());
    message.push(255);
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(sender, [0xff; 6])
        .ipv4([0; 4], [0xff; 4], 64)
        .udp(68, 67)
        .write(&mut frame, &message)
        .unwrap();
    frame
}

/// Ten thousand devices that ask, and each claim an address without waiting for an offer.
fn starve(wire: &Wire, sender: impl Fn([u8; 6]) -> [u8; 6]) {
    const TYPE: u8 = 53;
    let server = [&[54, 4][..], &ROUTER_V4.parse::<Ipv4Addr>().unwrap().octets()].concat();
    evenly(10_000, |number| {
        let [_, mixed, high, low] = number.to_be_bytes();
        let name = [0x06, 1, 2, mixed, high, low];
        let claim = [50, 4, 10, 77, 100 + high, low];
        wire.send(&dhcp(sender(name), name, &[&[TYPE, 1, 1]]));
        wire.send(&dhcp(sender(name), name, &[&[TYPE, 1, 3], &claim, &server]));
    });
}

/// Starves the pool; meanwhile the guest online keeps 90 % of a steady download, and one who
/// comes now, as `join` does, logs in. How many addresses are gone.
fn the_store_bears_starvation(
    sender: impl Fn([u8; 6]) -> [u8; 6] + Send,
    join: impl Fn(&mut Guest),
) -> usize {
    let mut lab = Lab::new(3);
    let gateway = lab.maitred(&Settings::new());
    let mut late = lab.guests.pop().unwrap();
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    let [online, stranger] = &lab.guests[..] else { unreachable!() };
    online.log_in(&gateway);
    let _meter = lab.meter();
    let steady = "-R -t 6 -b 40M";
    let before = online.measure(WEB_V4, steady).rate;
    let wire = Wire::open(&stranger.netns);
    let during = thread::scope(|scope| {
        scope.spawn(|| starve(&wire, sender));
        let measured = scope.spawn(|| online.measure(WEB_V4, steady).rate);
        thread::sleep(Duration::from_millis(1500));
        join(&mut late);
        late.log_in(&gateway);
        measured.join().unwrap()
    });
    assert!(during >= 0.9 * before, "{during} of {before} bytes a second");
    assert!(online.online() && !stranger.online());
    assert_eq!(late.ping(WEB_V6, 1), 1);
    let known = gateway.json(&["status"])["devices"].as_u64().unwrap();
    assert!(known <= 20_003, "{known} devices in memory");
    std::fs::read_to_string(lab.folder().join("leases")).unwrap().lines().count()
}

#[test]
fn dhcp_starvation_by_one_station() {
    let leases = the_store_bears_starvation(|_| STRANGER, |late| late.join(Dhcp::Udhcpc));
    assert!(leases < 40, "{leases} leases");
}

/// By as many stations, which only a wire can carry. The pool is gone then; there is IPv6 still.
#[test]
fn dhcp_starvation_by_ten_thousand_stations() {
    let leases = the_store_bears_starvation(|name| name, Guest::join_v6);
    assert!(leases > 400, "{leases} leases");
}
