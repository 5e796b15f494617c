//! The temporary pass: the app's own garden for a short while, and nothing else.

use std::net::{TcpListener, UdpSocket};
use std::thread;
use std::time::Duration;

use crate::lab::{Dhcp, Gateway, Guest, Internet, Lab, ROUTER_V4, Settings, WEB_V4, WEB_V6, until};

const ACCOUNT: &str =
    "keys = [\"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\"]\naccount = \"Lab\"";
/// The app's hosts: one by address, one by name, which the internet's name server sends there.
const APP: [&str; 2] = ["203.0.113.92", "2001:db8:203::92"];
const PASS: &str = "garden = [\"203.0.113.92\", \"2001:db8:203::92/127\"]";

fn settings(pass: &str) -> Settings {
    Settings::new().with("[follow]", ACCOUNT).with("[pass]", pass)
}

/// The app's hosts: TCP is taken, and a datagram to port 19 answered by ten seconds of them.
fn app(lab: &Lab) {
    for address in APP {
        let (length, more) = if address.contains(':') { (128, "nodad") } else { (32, "") };
        lab.internet.netns.ip(&format!("addr add {address}/{length} dev lo {more}"));
        let (listener, stream) = lab.internet.netns.within(|| {
            let listener = TcpListener::bind((address, Internet::ECHO)).unwrap();
            (listener, UdpSocket::bind((address, Internet::STREAM)).unwrap())
        });
        thread::spawn(move || listener.incoming().for_each(drop));
        thread::spawn(move || {
            while let Ok((_, peer)) = stream.recv_from(&mut [0; 8]) {
                for _ in 0..1000 {
                    let _ = stream.send_to(b"stream", peer);
                    thread::sleep(Duration::from_millis(10));
                }
            }
        });
    }
}

fn ask(guest: &Guest) -> String {
    let page = guest.follow(guest.post(&format!("http://{ROUTER_V4}:2050/follow?lang=en"), &[]));
    assert_eq!(page.status, 200, "{page:#?}");
    page.body
}

fn reaches(guest: &Guest, address: &str) -> bool {
    guest.connect(address, Internet::ECHO).0.is_ok()
}

fn state(gateway: &Gateway, guest: &Guest) -> (String, Option<u64>) {
    let rows = gateway.json(&["clients"]);
    let row = rows.as_array().unwrap().iter().find(|row| row["mac"] == guest.mac.as_str());
    let row = row.unwrap();
    (row["state"].as_str().unwrap().to_owned(), row["seconds_left"].as_u64())
}

#[test]
fn a_pass_opens_the_apps_garden_and_nothing_else_for_a_while() {
    let mut lab = Lab::new(2);
    app(&lab);
    let pass = format!("{PASS}\nlength = \"6s\"\nper_device_day = 2");
    let gateway = lab.maitred(&settings(&pass));
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    let [guest, other] = &lab.guests[..] else { unreachable!() };
    assert!(APP.iter().all(|address| !reaches(guest, address)));
    let page = ask(guest);
    let said = page.contains("WeChat works on this Wi-Fi for another") && page.contains(">6 s<");
    assert!(said, "{page}");
    assert!(APP.iter().all(|address| reaches(guest, address) && !reaches(other, address)));
    let (word, left) = state(&gateway, guest);
    assert!(word == "pass" && left <= Some(6), "{word} {left:?}");
    let streams = APP.map(|address| guest.udp(address, Internet::STREAM));
    for stream in &streams {
        stream.send(b"go").unwrap();
        stream.recv(&mut [0; 8]).unwrap();
    }
    // Never full access: not a page, not a packet, and the portal is where it was.
    assert!(!reaches(guest, WEB_V4) && !reaches(guest, WEB_V6));
    assert_eq!(guest.ping(WEB_V4, 1) + guest.ping(WEB_V6, 1), 0);
    assert_eq!(guest.get(&format!("http://{WEB_V4}/")).status, 302);

    until(Duration::from_secs(10), "the pass to end", || {
        (state(&gateway, guest).0 == "new").then_some(())
    });
    assert!(APP.iter().all(|address| !reaches(guest, address)));
    for stream in &streams {
        stream.set_nonblocking(true).unwrap();
        while stream.recv(&mut [0; 8]).is_ok() {}
    }
    thread::sleep(Duration::from_millis(300));
    let late = streams.iter().filter(|stream| stream.recv(&mut [0; 8]).is_ok()).count();
    assert_eq!(late, 0, "what was under way has stopped too");

    assert!(ask(guest).contains("WeChat works"));
    // It outlives the daemon, as what is in the kernel does.
    gateway.kill9();
    gateway.run();
    assert!(APP.iter().all(|address| reaches(guest, address)));
}

#[test]
fn passes_are_counted_and_never_given_to_the_blocked() {
    let mut lab = Lab::new(2);
    app(&lab);
    let garden = format!(
        "name = \"guest\"\ninterface = \"br-guest\"\nwalled_garden = [\"{WEB_V4}\", \"*.shop.example\"]"
    );
    let pass = format!("{PASS}\nlength = \"1s\"\nper_device_day = 2");
    let gateway = lab.maitred(&settings(&pass).with("[[zone]]", &garden));
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    let [guest, other] = &lab.guests[..] else { unreachable!() };
    for _ in 0..2 {
        assert!(ask(guest).contains("WeChat works"));
        thread::sleep(Duration::from_millis(1100));
    }
    let page = ask(guest);
    assert!(page.contains("No more passes for today"), "{page}");
    assert!(!reaches(guest, APP[0]));
    assert!(ask(other).contains("WeChat works"), "another device has its own");

    // The blocked reach no garden: not the zone's, not a learned address, not the app's.
    let mut open = guest.connect(WEB_V4, Internet::ECHO).0.unwrap();
    guest.netns.exec(&["dig", "+short", "www.shop.example", "AAAA"]).ok();
    assert!(reaches(guest, WEB_V6) && crate::lab::echoes(&mut open).unwrap());
    gateway.command(&["block", &guest.mac]).ok();
    let shut = |guest: &Guest| {
        !reaches(guest, WEB_V4) && !reaches(guest, WEB_V6) && !reaches(guest, APP[0])
    };
    assert!(shut(guest) && crate::lab::echoes(&mut open).is_err());
    assert_eq!(guest.get(&format!("http://{WEB_V4}/")).status, 302, "the portal says why");
    assert!(reaches(other, WEB_V4));
    assert!(ask(other).contains("WeChat works"));
    gateway.command(&["block", &other.mac]).ok();
    assert!(shut(other), "a pass does not outlive it either");
    gateway.kill9();
    gateway.run();
    assert!(shut(guest) && shut(other));
    gateway.command(&["block", "--remove", &guest.mac]).ok();
    assert!(reaches(guest, WEB_V4) && shut(other));
}

#[test]
fn what_the_app_has_open_goes_on_through_a_login_and_longer_than_the_pass() {
    let mut lab = Lab::new(1);
    app(&lab);
    let gateway = lab.maitred(&settings(&format!("{PASS}\nlength = \"4s\"")));
    lab.guests[0].join(Dhcp::Udhcpc);
    let guest = &lab.guests[0];
    assert!(ask(guest).contains("WeChat works"));
    let streams = APP.map(|address| guest.udp(address, Internet::STREAM));
    for stream in &streams {
        stream.send(b"go").unwrap();
        stream.recv(&mut [0; 8]).unwrap();
    }
    gateway.command(&["grant", &guest.mac]).ok();
    // Downloads go on before the guest sends anything, and after the pass once it did.
    thread::sleep(Duration::from_millis(300));
    for stream in &streams {
        stream.set_nonblocking(true).unwrap();
        while stream.recv(&mut [0; 8]).is_ok() {}
        thread::sleep(Duration::from_millis(100));
        stream.recv(&mut [0; 8]).unwrap();
        stream.send(b"more").unwrap();
    }
    thread::sleep(Duration::from_millis(4500));
    let list = ["nft", "list", "set", "inet", "maitred", "pass_marks"];
    assert!(!lab.router.exec(&list).ok().contains("elements"), "the pass is over");
    let arrives = |stream: &UdpSocket| {
        while stream.recv(&mut [0; 8]).is_ok() {}
        thread::sleep(Duration::from_millis(200));
        stream.recv(&mut [0; 8]).is_ok()
    };
    assert!(streams.iter().all(arrives));
    // They are the session's now, and end with it.
    gateway.command(&["revoke", &guest.mac]).ok();
    thread::sleep(Duration::from_millis(200));
    assert!(!streams.iter().any(arrives));
}

#[test]
fn the_apps_names_open_to_passes_alone() {
    let mut lab = Lab::new(2);
    let pass = "garden = [\"*.app.example\"]\nlength = \"30s\"";
    let gateway = lab.maitred(&settings(pass));
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    let [guest, other] = &lab.guests[..] else { unreachable!() };
    for kind in ["A", "AAAA"] {
        guest.netns.exec(&["dig", "+short", "login.app.example", kind]).ok();
    }
    let webs = [WEB_V4, WEB_V6];
    assert!(webs.iter().all(|web| !reaches(guest, web)));
    assert!(ask(guest).contains("WeChat works"));
    assert!(webs.iter().all(|web| reaches(guest, web) && !reaches(other, web)));
    assert!(guest.page_opens(&format!("http://{WEB_V4}/")), "and its pages are not redirected");
    // A login takes the place of the pass, with the connections that it had.
    gateway.command(&["grant", &guest.mac]).ok();
    assert!(guest.online() && guest.ping(WEB_V6, 1) == 1);
    gateway.command(&["revoke", &guest.mac]).ok();
}
