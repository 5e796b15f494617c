//! Grant and revoke by hand, and how fast a revoke is.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use maitred::clock;

use crate::lab::{Dhcp, Internet, Lab, Settings, WEB_V4, WEB_V6, echoes, until};

#[test]
fn grant_and_revoke_by_hand() {
    let mut lab = Lab::new(1);
    let gateway = lab.maitred(&Settings::new());
    let guest = &mut lab.guests[0];
    guest.join(Dhcp::Udhcpc);
    assert!(!guest.online());
    gateway.command(&["grant", &guest.mac, "--zone", "guest", "--for", "1h"]).ok();
    assert!(guest.online());
    gateway.command(&["revoke", &guest.mac]).ok();
    assert!(!guest.online());
    assert!(!gateway.command(&["grant", "not-a-mac"]).success);
    assert!(!gateway.command(&["revoke", "02:00:00:00:00:99"]).success, "a device nobody knows");
}

#[test]
fn a_power_cut_brings_nobody_back_whom_a_clerk_put_offline() {
    let mut lab = Lab::new(2);
    let gateway = lab.maitred(&Settings::new());
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    let [one, two] = &lab.guests[..] else { unreachable!() };
    for round in 0..3 {
        gateway.command(&["grant", &one.mac]).ok();
        gateway.command(&["grant", &two.mac]).ok();
        gateway.command(&["revoke", &one.mac]).ok();
        // The table goes with the power: who comes back comes from the record.
        gateway.kill9();
        lab.router.exec(&["nft", "delete", "table", "inet", "maitred"]);
        gateway.reboot();
        until(Duration::from_secs(2), "the other guest", || two.online().then_some(()));
        assert!(!one.online(), "round {round}");
    }
}

#[test]
fn a_grant_ends_by_itself() {
    let mut lab = Lab::new(1);
    let gateway = lab.maitred(&Settings::new());
    let guest = &mut lab.guests[0];
    guest.join(Dhcp::Udhcpc);
    gateway.command(&["grant", &guest.mac, "--for", "2s"]).ok();
    assert!(guest.online());
    let mut chats = [WEB_V4, WEB_V6].map(|to| guest.connect(to, Internet::ECHO).0.unwrap());
    assert!(chats.iter_mut().all(|chat| echoes(chat).unwrap()));
    let uploads = [WEB_V4, WEB_V6].map(|to| guest.udp(to, Internet::SINK));
    let upload = || {
        for socket in &uploads {
            let _ = socket.send(b"up");
        }
    };
    upload();
    // Time is in the kernel: the daemon need not live.
    gateway.kill9();
    thread::sleep(Duration::from_millis(2500));
    assert!(!guest.online());
    for chat in &mut chats {
        assert!(!echoes(chat).unwrap_or(false), "an answer on what was open");
    }
    gateway.run();
    assert!(!guest.online());
    // The table that was adopted lets out no more what had been begun.
    let before = lab.internet.received();
    for _ in 0..20 {
        upload();
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(lab.internet.received(), before);
}

/// Sends on a connection without a pause until it fails; when the last byte came back.
fn chatter(mut stream: TcpStream) -> JoinHandle<u64> {
    let mut reader = stream.try_clone().unwrap();
    thread::spawn(move || {
        while stream.write_all(&[7; 500]).is_ok() {
            thread::sleep(Duration::from_millis(1));
        }
    });
    thread::spawn(move || {
        reader.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        let mut last = 0;
        while let Ok(1..) = reader.read(&mut [0; 4096]) {
            last = clock::boot().0;
        }
        last
    })
}

#[test]
fn a_revoke_stops_both_ways_within_100_ms() {
    let mut lab = Lab::new(1);
    let gateway = lab.maitred(&Settings::new());
    let guest = &mut lab.guests[0];
    guest.join(Dhcp::Udhcpc);
    gateway.command(&["grant", &guest.mac]).ok();

    // Downloads that need nothing from the guest to go on.
    let streams: Vec<UdpSocket> =
        [WEB_V4, WEB_V6].iter().map(|address| guest.udp(address, Internet::STREAM)).collect();
    for stream in &streams {
        stream.send(b"go").unwrap();
        stream.recv(&mut [0; 16]).unwrap();
    }
    // TCP both ways, each family.
    let chats =
        [WEB_V4, WEB_V6].map(|address| chatter(guest.connect(address, Internet::ECHO).0.unwrap()));
    // Uploads, one a millisecond each.
    let uploads = [guest.udp(WEB_V4, Internet::SINK), guest.udp(WEB_V6, Internet::SINK)];
    let sender = thread::spawn(move || {
        for _ in 0..4000 {
            for upload in &uploads {
                let _ = upload.send(b"up");
            }
            thread::sleep(Duration::from_millis(1));
        }
    });
    thread::sleep(Duration::from_millis(300));

    gateway.command(&["revoke", &guest.mac]).ok();
    let revoked = clock::boot().0;
    thread::sleep(Duration::from_millis(100));
    let up = lab.internet.received();
    for stream in &streams {
        drain(stream);
    }
    thread::sleep(Duration::from_millis(500));
    assert_eq!(lab.internet.received(), up, "uploads go on");
    for stream in &streams {
        assert_eq!(drain(stream), 0, "downloads go on");
    }
    for (chat, address) in chats.into_iter().zip([WEB_V4, WEB_V6]) {
        let last = chat.join().unwrap();
        // It went on until the revoke, and no longer.
        assert!(last + 500 > revoked && last <= revoked + 100, "{address}: {last}, {revoked}");
        assert!(guest.connect(address, Internet::ECHO).0.is_err(), "a new connection to {address}");
    }
    drop(sender);
}

/// Reads all that waits in the socket; how many datagrams that was.
fn drain(socket: &UdpSocket) -> usize {
    socket.set_nonblocking(true).unwrap();
    let mut count = 0;
    while count < 100_000 {
        match socket.recv(&mut [0; 16]) {
            Ok(_) => count += 1,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
            Err(_) => {} // a pending ICMP error
        }
    }
    count
}
