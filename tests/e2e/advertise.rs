//! The Captive Portal API in router advertisements: beside dnsmasq's, as true as those, and only
//! while it works.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use maitred::adapters::advertise::Advertiser;
use maitred::adapters::http::tls::Standing;
use maitred::adapters::neighbours;
use tokio::sync::watch;

use crate::captive_api::{Authority, ORIGIN, lab};
use crate::frames::icmp6;
use crate::lab::{
    Advertisement, Background, Dhcp, Ears, Guest, Lab, ROUTER_MAC, Settings, Wire, until,
};

const EVERYBODY: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// Of [`ROUTER_MAC`], with ff:fe in the middle.
const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x0000, 0x5eff, 0xfe77, 0x0001);
/// Ours beside it.
const BESIDE: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x0200, 0x5e89, 0x1077, 0x0001);
/// dnsmasq's flags in the lab: M and O.
const MANAGED: u8 = 0xc0;

fn api() -> String {
    format!("{ORIGIN}/api")
}

/// What comes beside the router's own advertisements in the next while.
fn beside(ears: &Ears, wait: Duration) -> Vec<Advertisement> {
    thread::sleep(wait);
    ears.advertisements().into_iter().filter(|heard| heard.from != ROUTER).collect()
}

fn address_stands(lab: &Lab) -> bool {
    lab.router
        .exec(&["ip", "-6", "addr", "show", "dev", "br-guest"])
        .ok()
        .contains(&BESIDE.to_string())
}

/// The default routes of a guest's kernel.
fn routers(guest: &Guest) -> Vec<String> {
    let routes = guest.netns.exec(&["ip", "-6", "route", "show", "default"]).ok();
    routes.lines().map(|line| line.split_whitespace().nth(2).unwrap().to_owned()).collect()
}

#[test]
fn guests_are_told_beside_the_routers_advertisements_and_lose_nothing_by_it() {
    let mut lab = lab(1);
    let authority = Authority::new(&lab);
    let ears = Ears::open(&lab.guests[0].netns);
    let gateway = lab.maitred(&authority.settings(&lab));
    lab.guests[0].join_v6();
    let guest = &lab.guests[0];
    let told = until(Duration::from_secs(8), "the guest to be told", || ears.told().pop());
    assert_eq!(told, api());
    assert_eq!(routers(guest), [ROUTER.to_string()], "the router's, and no other");
    assert_eq!(Ears::managed(&guest.netns), (true, true));

    // A phone that asks is answered alone, with what the router answered.
    ears.advertisements();
    ears.ask();
    let alone = until(Duration::from_secs(3), "an answer", || {
        let heard = ears.advertisements();
        heard.into_iter().find(|heard| heard.from == BESIDE && heard.to != EVERYBODY)
    });
    assert_eq!((alone.head, alone.lifetime), ([0, MANAGED], 0));
    assert_eq!(alone.api, Some(api()));
    assert_eq!(routers(guest), [ROUTER.to_string()]);
    assert_eq!(Ears::managed(&guest.netns), (true, true));
    ears.ask();
    let own = until(Duration::from_secs(3), "the router's answer", || {
        ears.advertisements().into_iter().find(|heard| heard.from != BESIDE)
    });
    assert_eq!((own.from, own.head[1], own.api), (ROUTER, MANAGED, None), "as before");
    assert!(own.lifetime > 0);

    // What does not work is not named.
    authority.issue(2021);
    until(Duration::from_secs(8), "it to be withdrawn", || (!address_stands(&lab)).then_some(()));
    ears.advertisements();
    ears.ask();
    assert_eq!(beside(&ears, Duration::from_secs(2)), []);
    ears.told();
    authority.issue(2099);
    // Nobody needs to ask.
    until(Duration::from_secs(8), "everybody to be told", || {
        ears.advertisements()
            .iter()
            .any(|heard| heard.to == EVERYBODY && heard.api == Some(api()))
            .then_some(())
    });
    until(Duration::from_secs(1), "the kernel to tell it", || ears.told().pop());
    gateway.term();
    assert!(!address_stands(&lab));
    assert_eq!(routers(guest), [ROUTER.to_string()]);
}

/// Our addresses of any MAC, on any interface.
fn addresses_beside(lab: &Lab) -> Vec<String> {
    let shown = lab.router.exec(&["ip", "-6", "-o", "addr", "show", "scope", "link"]).ok();
    let ours = |word: &&str| word.starts_with("fe80::") && word.contains("89:10");
    shown.split_whitespace().filter(ours).map(str::to_owned).collect()
}

#[test]
fn what_a_kill_has_left_goes_at_the_next_start() {
    let mut lab = lab(1);
    // Without a port in use a bridge has no address.
    lab.guests[0].join(Dhcp::Udhcpc);
    let authority = Authority::new(&lab);
    let announcing = authority.settings(&lab);
    let gateway = lab.maitred(&announcing);
    let stands = || address_stands(&lab).then_some(());
    until(Duration::from_secs(5), "the address", stands);
    gateway.kill9();
    assert!(address_stands(&lab));
    // The next announces nothing.
    gateway.configure(&Settings::new());
    gateway.run();
    assert_eq!(addresses_beside(&lab), [""; 0]);
    gateway.term();

    // The next has a certificate that is none; the one after it another MAC.
    gateway.configure(&announcing);
    gateway.run();
    until(Duration::from_secs(5), "the address", stands);
    gateway.kill9();
    authority.issue(2021);
    gateway.run();
    assert_eq!(addresses_beside(&lab), [""; 0]);
    authority.issue(2099);
    until(Duration::from_secs(8), "the address", stands);
    gateway.kill9();
    lab.router.ip("link set br-guest address 02:00:5e:77:00:99");
    gateway.run();
    let other = vec!["fe80::200:5e89:1077:99/128".to_owned()];
    until(Duration::from_secs(5), "the other address", || {
        (addresses_beside(&lab) == other).then_some(())
    });
    // Where it is no zone any more.
    gateway.kill9();
    let elsewhere = "name = \"guest\"\ninterface = \"lan\"";
    gateway.configure(&Settings::new().with("[[zone]]", elsewhere));
    gateway.run();
    assert_eq!(addresses_beside(&lab), [""; 0]);
}

#[test]
fn where_the_router_is_silent_so_is_maitred() {
    let mut lab = lab(1);
    let authority = Authority::new(&lab);
    lab.guests[0].join(Dhcp::Udhcpc);
    lab.stop_dnsmasq();
    let ears = Ears::open(&lab.guests[0].netns);
    let _gateway = lab.maitred(&authority.settings(&lab));
    until(Duration::from_secs(5), "the address", || address_stands(&lab).then_some(()));
    ears.ask();
    assert_eq!(beside(&ears, Duration::from_secs(2)), []);
    // Nor does a guest's word count for the router's.
    let wire = Wire::open(&lab.guests[0].netns);
    for _ in 0..20 {
        ears.ask();
        wire.send(&forged());
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(beside(&ears, Duration::from_secs(1)), []);
    lab.restart_dnsmasq();
    until(Duration::from_secs(20), "the guest to be told", || {
        ears.ask();
        thread::sleep(Duration::from_millis(500));
        ears.told().pop()
    });
}

#[test]
fn a_flood_of_questions_is_answered_at_a_bounded_rate() {
    let mut lab = lab(2);
    let authority = Authority::new(&lab);
    let gateway = lab.maitred(&authority.settings(&lab));
    lab.guests[1].join(Dhcp::Udhcpc);
    lab.guests[0].join_v6();
    let flooder = &lab.guests[0];
    let mac = flooder.mac.parse::<maitred::domain::names::Mac>().unwrap().0;
    let wire = Wire::open(&flooder.netns);
    let seen = answers(&lab, flooder);
    let forged = |number: u16| {
        // Every tenth has no address: everybody is to be told.
        if number.is_multiple_of(10) {
            return icmp6(mac, Ipv6Addr::UNSPECIFIED, 133, [0; 4], &[]);
        }
        // More would fill the kernel's table of neighbours, which all namespaces share.
        let from = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 7, number % 200);
        icmp6(mac, from, 133, [0; 4], &[&[1, 1], &mac[..]].concat())
    };
    let start = maitred::clock::boot();
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..=8000 {
                wire.send(&forged(number));
                if number.is_multiple_of(20) {
                    thread::sleep(Duration::from_millis(10));
                }
            }
        });
        // Meanwhile others get in.
        lab.guests[1].log_in(&gateway);
        assert!(lab.guests[1].online());
    });
    thread::sleep(Duration::from_secs(2));
    let secs = (maitred::clock::boot() - start).as_secs();
    let lines = seen.output();
    let all = lines.lines().filter(|line| line.contains("router advertisement"));
    let (everybody, alone): (Vec<&str>, Vec<&str>) =
        all.partition(|line| line.contains("ff02::1:"));
    let (everybody, alone) = (everybody.len() as u64, alone.len() as u64);
    println!("{alone} and {everybody} of 8,000 in {secs} s");
    assert!((1..=32 * (secs + 1)).contains(&alone), "{alone} in {secs} s");
    assert!((1..=secs / 3 + 2).contains(&everybody), "{everybody} in {secs} s");
    // And a phone that asks after it is told.
    let ears = Ears::open(&lab.guests[0].netns);
    until(Duration::from_secs(5), "the guest to be told", || {
        ears.ask();
        thread::sleep(Duration::from_millis(500));
        ears.told().pop()
    });
}

/// Without the table, which keeps guests' advertisements from the router at all, and without
/// dnsmasq: the test is the router.
#[test]
fn only_this_machines_router_counts_and_one_that_names_an_api_is_left_alone() {
    let mut lab = lab(1);
    lab.guests[0].join(Dhcp::Udhcpc);
    lab.stop_dnsmasq();
    // As on a real router: the address is of use once nobody else claims it.
    lab.router.sysctl(&["net.ipv6.conf.all.accept_dad=1", "net.ipv6.conf.br-guest.accept_dad=1"]);
    let guest = &lab.guests[0];
    let (ears, wire) = (Ears::open(&guest.netns), Wire::open(&guest.netns));
    let (asked, questions) = channel();
    let (answers, answer) = channel();
    let (stop, stopped) = watch::channel(false);
    let router = &lab.router;
    // What ends the threads goes with the story, however it ends.
    thread::scope(move |scope| {
        scope.spawn(move || router.within(|| advertise(stopped)));
        scope.spawn(move || router.within(|| be_router(asked, answer)));
        // It is asked at once, and says nothing: a guest speaks in its name.
        questions.recv_timeout(Duration::from_secs(5)).unwrap();
        for _ in 0..20 {
            wire.send(&forged());
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(beside(&ears, Duration::from_millis(500)), []);
        // Then it speaks itself.
        let plain = [134, 0, 0, 0, 64, 0x40, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
        answers.send(plain.to_vec()).unwrap();
        let heard = beside(&ears, Duration::from_secs(1));
        assert_eq!(heard.len(), 1, "{heard:?}");
        assert_eq!((heard[0].from, heard[0].to), (BESIDE, EVERYBODY));
        assert_eq!((heard[0].head, heard[0].lifetime), ([0, 0x40], 0), "its flags");
        assert_eq!(heard[0].api, Some(api()));
        // And names an API itself: nobody is to hear of two.
        ears.ask();
        questions.recv_timeout(Duration::from_secs(20)).unwrap();
        let naming = [&plain[..], &[37, 2], b"https://else/\0"].concat();
        answers.send(naming).unwrap();
        let heard = beside(&ears, Duration::from_secs(1));
        assert_eq!(heard, []);
        drop((stop, answers));
    });
    assert!(!address_stands(&lab));
}

/// The program's own part, in the router.
fn advertise(stop: watch::Receiver<bool>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let links = neighbours::watch(vec!["br-guest".into()]).unwrap();
        let (_good, standing) = watch::channel(Standing::Good);
        Advertiser::new(api(), ["br-guest".to_owned()]).run(links, standing, stop).await;
    });
}

/// Tells of each question to the router, and sends the next answer there is.
#[allow(clippy::needless_pass_by_value, reason = "they belong to its thread")]
fn be_router(asked: Sender<()>, answers: Receiver<Vec<u8>>) {
    use nix::sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, recvfrom, sendto,
        setsockopt, socket, sockopt,
    };
    use std::os::fd::AsRawFd as _;

    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let raw = socket(AddressFamily::Inet6, SockType::Raw, flags, SockProtocol::IcmpV6).unwrap();
    setsockopt(&raw, sockopt::Ipv6Ttl, &255).unwrap();
    let index = nix::net::if_::if_nametoindex("br-guest").unwrap();
    let own = SockaddrIn6::from(SocketAddrV6::new(ROUTER, 0, 0, index));
    loop {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = recvfrom::<SockaddrIn6>(raw.as_raw_fd(), &mut buffer) {
            if buffer[..length].first() == Some(&133)
                && from.is_some_and(|from| from.ip() == ROUTER)
            {
                let _ = asked.send(());
            }
        }
        match answers.recv_timeout(Duration::from_millis(20)) {
            Ok(answer) => {
                sendto(raw.as_raw_fd(), &answer, &own, MsgFlags::empty()).unwrap();
            }
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// An advertisement from the router's address, and from its station too, by a guest.
fn forged() -> Vec<u8> {
    icmp6(ROUTER_MAC, ROUTER, 134, [64, 0, 7, 8], &[0; 8])
}

/// What a guest's wire brings of our advertisements, to whomever.
fn answers(lab: &Lab, guest: &Guest) -> Background {
    let filter = format!("icmp6 and ip6[40] == 134 and src host {BESIDE}");
    let args = ["tcpdump", "-i", "eth0", "-nn", "-l", "--immediate-mode", "-Q", "in", "-Z", "root"];
    let seen = guest.netns.spawn(&[&args[..], &[&filter]].concat(), &lab.folder().join("answers"));
    until(Duration::from_secs(5), "tcpdump", || {
        seen.output().contains("listening on").then_some(())
    });
    seen
}
