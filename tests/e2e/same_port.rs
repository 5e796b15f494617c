//! What guests do after a login from the very port that was redirected before it.

use std::io::{self, Read, Write};
use std::net::{IpAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use etherparse::PacketBuilder;

use crate::lab::{Dhcp, Guest, Lab, ROUTER_MAC, ROUTER_V6, Settings, WEB_V4, WEB_V6, Wire, until};

/// Resolvers on the internet, which say the same to whatever they are asked.
const RESOLVERS: [&str; 2] = ["203.0.113.99", "2001:db8:203::99"];
const OUTSIDE: &[u8] = b"said by a resolver outside";
/// A question for `x.example`, TXT: what the forwarder refuses.
const QUESTION: &[u8] = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x01x\x07example\0\0\x10\0\x01";

fn resolvers(lab: &Lab) {
    for address in RESOLVERS {
        let (length, more) = if address.contains(':') { (128, "nodad") } else { (32, "") };
        lab.internet.netns.ip(&format!("addr add {address}/{length} dev lo {more}"));
        let socket = lab.internet.netns.within(|| UdpSocket::bind((address, 53)).unwrap());
        thread::spawn(move || {
            while let Ok((_, peer)) = socket.recv_from(&mut [0; 512]) {
                let _ = socket.send_to(OUTSIDE, peer);
            }
        });
    }
}

fn answer(socket: &UdpSocket, question: &[u8]) -> io::Result<Vec<u8>> {
    socket.send(question)?;
    let mut bytes = vec![0; 512];
    let length = socket.recv(&mut bytes)?;
    bytes.truncate(length);
    Ok(bytes)
}

/// Asks; whether the resolver outside answered.
#[track_caller]
fn asks_outside(socket: &UdpSocket, question: &[u8]) -> bool {
    answer(socket, question).unwrap() == OUTSIDE
}

/// Waits until the router knows whose addresses these are, as it does of who has been there a while.
#[track_caller]
fn is_known(guest: &Guest) {
    assert!(guest.ping(crate::lab::ROUTER_V4, 1) + guest.ping(ROUTER_V6, 1) == 2);
}

#[test]
fn a_resolver_with_one_port_is_left_to_itself_after_a_login() {
    let mut lab = Lab::new(1);
    resolvers(&lab);
    let gateway = lab.maitred(&Settings::new());
    lab.guests[0].join(Dhcp::Udhcpc);
    let guest = &lab.guests[0];
    is_known(guest);
    // Also of what is no DNS at all, and gets no answer of ours.
    let sockets = RESOLVERS.map(|address| [guest.udp(address, 53), guest.udp(address, 53)]);
    for [asks, talks] in &sockets {
        for _ in 0..3 {
            assert!(!asks_outside(asks, QUESTION));
        }
        talks.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        talks.send(b"hello").unwrap();
        assert!(talks.recv(&mut [0; 8]).is_err());
    }
    gateway.command(&["grant", &guest.mac]).ok();
    for [asks, talks] in &sockets {
        // The forwarder hears the first; what comes behind it passes by.
        asks_outside(asks, QUESTION);
        talks.send(b"hello").unwrap();
        thread::sleep(Duration::from_millis(200));
        let _ = talks.recv(&mut [0; 8]);
        for _ in 0..3 {
            assert!(asks_outside(asks, QUESTION) && asks_outside(talks, b"hello"));
        }
    }
    // With the session's connections, these go too.
    gateway.command(&["revoke", &guest.mac]).ok();
    until(Duration::from_secs(10), "the forwarder to answer again", || {
        let ours = |socket: &UdpSocket| answer(socket, QUESTION).is_ok_and(|said| said != OUTSIDE);
        sockets.iter().all(|[asks, _]| ours(asks)).then_some(())
    });
}

#[test]
fn pages_open_from_a_port_that_was_redirected() {
    let mut lab = Lab::new(1);
    let gateway = lab.maitred(&Settings::new());
    lab.guests[0].join(Dhcp::Udhcpc);
    let guest = &lab.guests[0];
    let page = |(host, port): &(String, &str)| {
        guest.curl(&format!("http://{host}/"), &["--local-port", port]).unwrap()
    };
    let webs = [(WEB_V4.to_owned(), "40004"), (format!("[{WEB_V6}]"), "40006")];
    assert!(webs.iter().all(|web| page(web).status == 302));
    // Open at the grant: a browser keeps some for what it may ask next.
    let kept = [WEB_V4, WEB_V6].map(|web| guest.connect(web, 80).0.unwrap());
    gateway.command(&["grant", &guest.mac]).ok();
    assert!(webs.iter().all(|web| page(web).body.contains("This is the internet")));
    for mut stream in kept {
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x.example\r\n\r\n").unwrap();
        let error = stream.read(&mut [0; 64]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "so it asks again, elsewhere");
    }
}

#[test]
fn forged_questions_cut_no_flow_of_another() {
    let mut lab = Lab::new(2);
    resolvers(&lab);
    let gateway = lab.maitred(&Settings::new());
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    let [victim, forger] = &lab.guests[..] else { unreachable!() };
    is_known(victim);
    gateway.command(&["grant", &victim.mac]).ok();
    let sockets = [victim.udp(RESOLVERS[0], 53), victim.udp(RESOLVERS[1], 53)];
    let web = [victim.udp(WEB_V4, 7), victim.udp(WEB_V6, 7)];
    assert!(sockets.iter().all(|socket| asks_outside(socket, QUESTION)));
    assert!(web.iter().all(|socket| !asks_outside(socket, b"echo")));
    // Conntrack's own numbers of the victim's flows.
    let numbers = || {
        let list = |family| ["conntrack", "-L", "-o", "id", "-f", family, "-p", "udp"];
        let text = ["ipv4", "ipv6"].map(|family| lab.router.exec(&list(family)).ok()).concat();
        let ports = sockets.iter().chain(&web).map(|socket| socket.local_addr().unwrap().port());
        let id = |port: u16| {
            let (from, id) = (format!(" sport={port} "), " id=");
            let line = text.lines().find(|line| line.contains(&from))?;
            line.split_once(id).map(|(_, id)| id.to_owned())
        };
        ports.map(|port| id(port).unwrap_or_else(|| panic!("{port}: {text}"))).collect::<Vec<_>>()
    };
    let before = numbers();
    // In the victim's name, from all its ports and one of no flow, to resolvers, to us at the
    // forwarder's own port, and as if we had asked.
    let wire = Wire::open(&forger.netns);
    let from: [u8; 6] = forger.mac.parse::<maitred::domain::names::Mac>().unwrap().0;
    let ports = sockets.iter().chain(&web).map(|socket| socket.local_addr().unwrap().port());
    let ports: Vec<u16> = ports.chain([4444]).collect();
    for to in RESOLVERS.iter().chain([&WEB_V4, &WEB_V6, &crate::lab::ROUTER_V4, &ROUTER_V6]) {
        let own = if to.contains(':') { victim.v6() } else { victim.v4() };
        for (port, asked) in ports.iter().flat_map(|port| [(*port, 53), (*port, 2054)]) {
            let frame = PacketBuilder::ethernet2(from, ROUTER_MAC);
            let frame = match (own.parse().unwrap(), to.parse().unwrap()) {
                (IpAddr::V4(own), IpAddr::V4(to)) => frame.ipv4(own.octets(), to.octets(), 64),
                (IpAddr::V6(own), IpAddr::V6(to)) => frame.ipv6(own.octets(), to.octets(), 64),
                _ => unreachable!(),
            };
            let mut bytes = Vec::new();
            frame.udp(port, asked).write(&mut bytes, QUESTION).unwrap();
            wire.send(&bytes);
        }
    }
    // The forger's own questions are heard last: all of the others were, by then.
    let own = forger.udp(RESOLVERS[0], 53);
    until(Duration::from_secs(5), "the forwarder", || {
        (!asks_outside(&own, QUESTION)).then_some(())
    });
    thread::sleep(Duration::from_millis(300));
    assert_eq!(numbers(), before);
    // What was forged is gone: it is taken for the victim's, who is online.
    let text = lab.router.exec(&["conntrack", "-L", "-p", "udp", "--sport", "4444"]).stdout;
    assert_eq!(text.matches("src=").count() / 2, 0, "{text}");
    let heard = gateway.json(&["stats"])["dns"]["questions"].as_u64().unwrap();
    assert!(heard > 10, "{heard}");
    for socket in &sockets {
        // What was refused to the forger was told to the victim, who goes on all the same.
        let _ = socket.take_error().unwrap();
        assert!(asks_outside(socket, QUESTION));
    }
}
