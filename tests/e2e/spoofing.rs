//! Guests who pretend to be others.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use etherparse::PacketBuilder;

use crate::lab::{
    Dhcp, Guest, Internet, Lab, ROUTER_MAC, ROUTER_V4, ROUTER_V6, Settings, WEB_V4, WEB_V6, Wire,
    until,
};

fn mac(guest: &Guest) -> [u8; 6] {
    guest.mac.parse::<maitred::domain::names::Mac>().unwrap().0
}

/// An ARP reply to the router that an address is at `at` (RFC 826).
fn forged_arp(at: [u8; 6], address: &str) -> Vec<u8> {
    let octets = |text: &str| text.parse::<std::net::Ipv4Addr>().unwrap().octets();
    [
        &ROUTER_MAC[..],
        &at,
        &[0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 2],
        &at,
        &octets(address),
        &ROUTER_MAC,
        &octets(ROUTER_V4),
    ]
    .concat()
}

#[test]
fn forged_arp_during_a_login_grants_nobody_else() {
    let mut lab = Lab::new(2);
    let gateway = lab.maitred(&Settings::new());
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    let [victim, forger] = &lab.guests[..] else { unreachable!() };
    let page = victim.ask_code(&gateway, "http://example.com/");
    let code = gateway.code_for(&victim.phone);
    let (wire, frame) = (Wire::open(&forger.netns), forged_arp(mac(forger), &victim.v4()));
    let poison = |times: u32| {
        for _ in 0..times {
            wire.send(&frame);
            thread::sleep(Duration::from_millis(2));
        }
    };
    poison(5);
    let neighbour = || lab.router.exec(&["ip", "neigh", "show", &victim.v4()]).stdout;
    until(Duration::from_secs(5), "the router to believe it", || {
        poison(1);
        neighbour().contains(&forger.mac).then_some(())
    });
    thread::scope(|scope| {
        scope.spawn(|| poison(500));
        // The answer may go to the forger; the request is the victim's all the same.
        let _ =
            catch_unwind(AssertUnwindSafe(|| victim.submit(&page, "/code", &[("code", &code)])));
        assert!(!forger.online());
        // In the victim's name, with a MAC of his own.
        let address = format!("{}/32", victim.v4());
        forger.netns.ip(&format!("addr add {address} dev eth0"));
        let args = ["curl", "-s", "--max-time", "2", "--interface", &victim.v4()];
        let page = forger.netns.exec(&[&args[..], &[&format!("http://{WEB_V4}/")]].concat()).stdout;
        assert!(!page.contains("This is the internet"), "{page}");
        forger.netns.ip(&format!("addr del {address} dev eth0"));
    });
    assert!(!forger.online() && forger.ping(WEB_V6, 1) == 0);
    let clients = gateway.json(&["clients"]);
    let row = |guest: &Guest| {
        let rows = clients.as_array().unwrap().clone();
        rows.into_iter().find(|row| row["mac"] == guest.mac.as_str()).unwrap()
    };
    assert_ne!(row(forger)["state"], "online", "{clients}");
    // Told the truth again, the router serves the victim: at once if the code got through.
    victim.netns.exec(&["busybox", "arping", "-U", "-c", "2", "-I", "eth0", &victim.v4()]);
    until(Duration::from_secs(10), "the victim to be online", || {
        if row(victim)["state"] != "online" {
            let _ = catch_unwind(AssertUnwindSafe(|| {
                victim.submit(&page, "/code", &[("code", &code)])
            }));
        }
        victim.online().then_some(())
    });
    assert!(!forger.online());
}

/// An advertisement to the router, unasked, that an address is at `at` (RFC 4861, section 4.4).
fn forged_advertisement(at: [u8; 6], address: &str) -> Vec<u8> {
    const OVERRIDE: u8 = 0x20;
    let octets = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
    let target_link = [&[2, 1][..], &at].concat();
    let body = [&octets(address)[..], &target_link].concat();
    let header = etherparse::Icmpv6Type::Unknown {
        type_u8: 136,
        code_u8: 0,
        bytes5to8: [OVERRIDE, 0, 0, 0],
    };
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(at, ROUTER_MAC)
        .ipv6(octets(address), octets(ROUTER_V6), 255)
        .icmpv6(header)
        .write(&mut frame, &body)
        .unwrap();
    frame
}

#[test]
fn forged_advertisements_during_a_login_grant_nobody_else() {
    let mut lab = Lab::new(2);
    let gateway = lab.maitred(&Settings::new());
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    let [victim, forger] = &lab.guests[..] else { unreachable!() };
    // The whole login over IPv6.
    let page = victim.ask_code(&gateway, &format!("http://[{WEB_V6}]/"));
    assert!(page.url.contains('['), "{page:#?}");
    let code = gateway.code_for(&victim.phone);
    let address = victim.v6();
    let (wire, frame) = (Wire::open(&forger.netns), forged_advertisement(mac(forger), &address));
    let poison = |times: u32| {
        for _ in 0..times {
            wire.send(&frame);
            thread::sleep(Duration::from_millis(2));
        }
    };
    let neighbour = || lab.router.exec(&["ip", "neigh", "show", &address]).stdout;
    until(Duration::from_secs(5), "the router to believe it", || {
        poison(1);
        neighbour().contains(&forger.mac).then_some(())
    });
    thread::scope(|scope| {
        scope.spawn(|| poison(500));
        // The answer may go to the forger; the request is the victim's all the same.
        let _ =
            catch_unwind(AssertUnwindSafe(|| victim.submit(&page, "/code", &[("code", &code)])));
        assert!(!forger.online() && forger.ping(WEB_V6, 1) == 0);
        // In the victim's name, with a MAC of his own.
        forger.netns.ip(&format!("addr add {address}/128 dev eth0 nodad"));
        let args = ["curl", "-s", "-g", "--max-time", "2", "--interface", &address];
        let web = format!("http://[{WEB_V6}]/");
        let page = forger.netns.exec(&[&args[..], &[&web]].concat()).stdout;
        assert!(!page.contains("This is the internet"), "{page}");
        forger.netns.ip(&format!("addr del {address}/128 dev eth0"));
    });
    let clients = gateway.json(&["clients"]);
    let row = |guest: &Guest| {
        let rows = clients.as_array().unwrap().clone();
        rows.into_iter().find(|row| row["mac"] == guest.mac.as_str()).unwrap()
    };
    assert_ne!(row(forger)["state"], "online", "{clients}");
    assert!(!forger.online() && forger.ping(WEB_V6, 1) == 0);
    // Told the truth again, the router serves the victim: at once if the code got through.
    lab.router.ip("neigh flush dev br-guest");
    until(Duration::from_secs(10), "the victim to be online", || {
        if row(victim)["state"] != "online" {
            let _ = catch_unwind(AssertUnwindSafe(|| {
                victim.submit(&page, "/code", &[("code", &code)])
            }));
        }
        (victim.ping(WEB_V6, 1) == 1).then_some(())
    });
    assert!(!forger.online());
}

#[test]
fn a_guest_online_cannot_send_in_a_strangers_name() {
    let mut lab = Lab::new(1);
    let gateway = lab.maitred(&Settings::new());
    lab.guests[0].join(Dhcp::Udhcpc);
    let guest = &lab.guests[0];
    guest.log_in(&gateway);
    let tap = lab.tap_uplink();
    guest.netns.ip("addr add 192.0.2.77/32 dev eth0
         addr add 2001:db8:666::77/128 dev eth0 nodad");
    for (from, to) in [("192.0.2.77", WEB_V4), ("2001:db8:666::77", WEB_V6)] {
        guest.netns.exec(&["ping", "-n", "-c", "2", "-i", "0.2", "-W", "1", "-I", from, to]);
    }
    assert_eq!(tap.packets(), Vec::<String>::new());
    assert_eq!(guest.ping(WEB_V4, 1), 1);
}

/// A datagram from the internet's echo service, sent by somebody in the store.
fn forged_echo(at: [u8; 6], to: IpAddr, port: u16) -> Vec<u8> {
    let link = PacketBuilder::ethernet2(at, ROUTER_MAC);
    let packet = match to {
        IpAddr::V4(to) => link.ipv4(WEB_V4.parse::<Ipv4Addr>().unwrap().octets(), to.octets(), 64),
        IpAddr::V6(to) => link.ipv6(WEB_V6.parse::<Ipv6Addr>().unwrap().octets(), to.octets(), 64),
    };
    let mut frame = Vec::new();
    packet.udp(Internet::ECHO, port).write(&mut frame, b"forged").unwrap();
    frame
}

#[test]
fn nobody_in_the_store_answers_in_the_internets_name() {
    let mut lab = Lab::new(2);
    let gateway = lab.maitred(&Settings::new());
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    let [victim, forger] = &lab.guests[..] else { unreachable!() };
    victim.log_in(&gateway);
    for (own, server, seen_outside) in
        [(victim.v4(), WEB_V4, "198.51.100.2".to_owned()), (victim.v6(), WEB_V6, victim.v6())]
    {
        let own: IpAddr = own.parse().unwrap();
        let socket = victim.netns.within(|| UdpSocket::bind((own, 0)).unwrap());
        socket.connect((server, Internet::ECHO)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let port = socket.local_addr().unwrap().port();
        let mut answer = [0; 16];
        let mut echo = || {
            socket.send(b"asked").unwrap();
            socket.recv(&mut answer).map(|length| answer[..length].to_vec())
        };
        assert_eq!(echo().unwrap(), b"asked");
        // By turns a stranger, then a guest who is online as well.
        for online in [false, true] {
            if online && !forger.online() {
                forger.log_in(&gateway);
            }
            let frame = forged_echo(mac(forger), seen_outside.parse().unwrap(), port);
            let wire = Wire::open(&forger.netns);
            (0..5).for_each(|_| wire.send(&frame));
            assert_eq!(echo().unwrap(), b"asked", "{own}");
            assert!(socket.recv(&mut [0; 16]).is_err(), "{own}");
        }
    }
}

/// An upload on a connection that a guest has open, from another station.
#[test]
fn nobody_sends_on_a_guests_connection_but_the_guest() {
    let mut lab = Lab::new(2);
    let gateway = lab.maitred(&Settings::new());
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    let [victim, forger] = &lab.guests[..] else { unreachable!() };
    victim.log_in(&gateway);
    for (own, server) in [(victim.v4(), WEB_V4), (victim.v6(), WEB_V6)] {
        let own: IpAddr = own.parse().unwrap();
        let socket = victim.netns.within(|| UdpSocket::bind((own, 0)).unwrap());
        socket.connect((server, Internet::SINK)).unwrap();
        let before = lab.internet.received();
        socket.send(b"sent").unwrap();
        until(Duration::from_secs(2), "what the guest sends", || {
            (lab.internet.received() == before + 1).then_some(())
        });
        let link = PacketBuilder::ethernet2(mac(forger), ROUTER_MAC);
        let packet = match (own, server.parse().unwrap()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => link.ipv4(from.octets(), to.octets(), 64),
            (IpAddr::V6(from), IpAddr::V6(to)) => link.ipv6(from.octets(), to.octets(), 64),
            _ => unreachable!(),
        };
        let (port, mut frame) = (socket.local_addr().unwrap().port(), Vec::new());
        packet.udp(port, Internet::SINK).write(&mut frame, b"forged").unwrap();
        let wire = Wire::open(&forger.netns);
        (0..20).for_each(|_| wire.send(&frame));
        thread::sleep(Duration::from_millis(200));
        assert_eq!(lab.internet.received(), before + 1, "{server}");
        socket.send(b"sent").unwrap();
        until(Duration::from_secs(2), "what the guest sends after that", || {
            (lab.internet.received() == before + 2).then_some(())
        });
    }
}
