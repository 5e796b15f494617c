//! Before the login: HTTP is answered by us, all else is refused at once, in both families.

use std::io::ErrorKind;

use crate::lab::{Dhcp, Internet, Lab, Settings, WEB_V4, WEB_V6};

/// A refusal that comes later than this is a drop to a phone's eyes.
const AT_ONCE_MS: u64 = 50;

#[test]
fn everything_else_is_refused_at_once() {
    let mut lab = Lab::new(1);
    let _gateway = lab.maitred(&Settings::new());
    let guest = &mut lab.guests[0];
    guest.join(Dhcp::Udhcpc);
    for address in [WEB_V4, WEB_V6] {
        for port in [443, 853, 22, Internet::ECHO] {
            let (result, took) = guest.connect(address, port);
            assert_eq!(result.err(), Some(ErrorKind::ConnectionRefused), "{address} {port}");
            assert!(took < AT_ONCE_MS, "{address} {port}: {took} ms");
        }
    }
    let before = lab.internet.received();
    for address in [WEB_V4, WEB_V6] {
        for port in [443, Internet::ECHO] {
            let socket = guest.udp(address, port);
            socket.send(b"hello").unwrap();
            let start = maitred::clock::boot().0;
            let error = socket.recv(&mut [0; 16]).unwrap_err();
            let took = maitred::clock::boot().0 - start;
            // Admin-prohibited (RFC 1812, RFC 4443) reaches the socket as one of these.
            let errors = [Some(libc::EHOSTUNREACH), Some(libc::EACCES), Some(libc::EPERM)];
            assert!(errors.contains(&error.raw_os_error()), "{address} {port}: {error}");
            assert!(took < AT_ONCE_MS, "{address} {port}: {took} ms");
        }
    }
    assert_eq!(lab.internet.received(), before, "nothing got out");
    assert_eq!(guest.ping(WEB_V4, 2), 0);
    assert_eq!(guest.ping(WEB_V6, 2), 0);
}

#[test]
fn every_http_request_is_sent_to_the_portal() {
    let mut lab = Lab::new(1);
    let _gateway = lab.maitred(&Settings::new());
    let guest = &mut lab.guests[0];
    guest.join(Dhcp::Dhclient);
    let probes = [
        "http://captive.apple.com/hotspot-detect.html",
        "http://connectivitycheck.gstatic.com/generate_204",
        "http://www.msftconnecttest.com/connecttest.txt",
        "http://detectportal.firefox.com/success.txt?ipv4",
        "http://203.0.113.99/",
        "http://[2001:db8:203::99]/",
    ];
    for probe in probes {
        let reply = guest.get(probe);
        assert_eq!(reply.status, 302, "{reply:#?}");
        assert_eq!(reply.headers["cache-control"], "no-store", "{reply:#?}");
        assert!(reply.location().contains(":2050/"), "{reply:#?}");
    }
    let posted = guest.post("http://example.com/form", &[("a", "b")]);
    assert_eq!(posted.status, 302, "{posted:#?}");
    let portal = guest.follow(guest.get(probes[0]));
    assert!(portal.has_form("/phone"), "{portal:#?}");
}

#[test]
fn the_routers_own_services_stay_closed() {
    let mut lab = Lab::new(1);
    let _gateway = lab.maitred(&Settings::new());
    let guest = &mut lab.guests[0];
    guest.join(Dhcp::Udhcpc);
    for address in [crate::lab::ROUTER_V4, crate::lab::STAFF_V4] {
        for port in [22, 8080] {
            let (result, took) = guest.connect(address, port);
            assert_eq!(result.err(), Some(ErrorKind::ConnectionRefused), "{address} {port}");
            assert!(took < AT_ONCE_MS, "{address} {port}: {took} ms");
        }
    }
}
