//! DNS for guests who are not online, asked by dig, by a tunnel, and by hand.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use maitred::clock;
use maitred::wire::dns::{Kind, Name, Question, query};

use crate::lab::{
    Background, Dhcp, Guest, Internet, Lab, Netns, ROUTER_V4, ROUTER_V6, ROUTER2_V4, ROUTER2_V6,
    Settings, WEB_V4, WEB_V6, until,
};

/// A name server that only the forwarder asks: dnsmasq asks the internet's own.
pub(crate) const DNS: &str = "203.0.113.54";
const PAY: [&str; 2] = ["203.0.113.90", "2001:db8:203::90"];
const SHOP: [&str; 2] = ["203.0.113.91", "2001:db8:203::91"];
pub(crate) const GARDEN: &str = "\"pay.example.com\", \"*.garden.example\"";

/// What dig was told.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: String,
    /// TTL and data of each record.
    pub(crate) answers: Vec<(u32, String)>,
}

impl Said {
    pub(crate) fn addresses(&self) -> Vec<&str> {
        self.answers.iter().map(|(_, address)| address.as_str()).collect()
    }
}

/// Asks once; fails the test without an answer from the address that was asked.
#[track_caller]
pub(crate) fn dig(netns: &Netns, question: &str) -> Said {
    let args = ["dig", "+tries=1", "+time=5", "+noall", "+comments", "+answer"];
    let words: Vec<&str> = question.split_whitespace().collect();
    let text = netns.exec(&[&args[..], &words].concat()).ok();
    let status = text.split_once("status: ").and_then(|(_, rest)| rest.split(',').next());
    let record = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, ttl, "IN", "A" | "AAAA", data] = words[..] else { return None };
        Some((ttl.parse().unwrap(), data.to_owned()))
    };
    Said {
        status: status.unwrap_or_else(|| panic!("{question}: {text}")).to_owned(),
        answers: text.lines().filter_map(record).collect(),
    }
}

/// Starts the name server; everything else that it is asked for leads to the web.
pub(crate) fn name_server(lab: &Lab, more: &[&str]) -> Background {
    lab.internet.netns.ip(&format!("addr add {DNS}/32 dev lo"));
    let listen = format!("--listen-address={DNS}");
    let mut args = vec![
        "dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--user=root",
        "--pid-file=",
        "--no-resolv",
        "--no-hosts",
        "--bind-interfaces",
        "--local-ttl=60",
        &listen,
    ];
    let web = [format!("--address=/#/{WEB_V4}"), format!("--address=/#/{WEB_V6}")];
    args.extend(web.iter().map(String::as_str));
    args.extend(more);
    let server = lab.internet.netns.spawn(&args, &lab.folder().join("names.log"));
    until(Duration::from_secs(5), "the name server", || {
        let free = lab.internet.netns.within(|| UdpSocket::bind((DNS, 53)).is_ok());
        (!free).then_some(())
    });
    server
}

pub(crate) fn settings(garden: &str) -> Settings {
    let zone = format!("name = \"guest\"\ninterface = \"br-guest\"\nwalled_garden = [{garden}]");
    Settings::new().with("[[zone]]", &zone).with("[dns]", &format!("upstreams = [\"{DNS}\"]"))
}

/// Puts hosts on the internet that take connections.
fn hosts(lab: &Lab, addresses: &[&str]) {
    for address in addresses {
        let (length, more) = if address.contains(':') { (128, "nodad") } else { (32, "") };
        lab.internet.netns.ip(&format!("addr add {address}/{length} dev lo {more}"));
        let listener = lab.internet.netns.within(|| TcpListener::bind((*address, Internet::ECHO)));
        let listener = listener.unwrap();
        thread::spawn(move || listener.incoming().for_each(drop));
    }
}

fn reaches(guest: &Guest, address: &str) -> bool {
    guest.connect(address, Internet::ECHO).0.is_ok()
}

/// The seconds for which an address stays open to the guests of `br-guest`.
fn open_for(lab: &Lab, address: &str) -> Option<u64> {
    let family = if address.contains(':') { "learned6" } else { "learned4" };
    let list = lab.router.exec(&["nft", "-j", "list", "set", "inet", "maitred", family]).ok();
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let set = list["nftables"].as_array().unwrap().iter().find_map(|part| part.get("set"));
    let elements = set.unwrap()["elem"].as_array().cloned().unwrap_or_default();
    let found = elements.iter().find(|element| element.to_string().contains(address))?;
    found["elem"]["expires"].as_u64()
}

#[test]
fn garden_names_are_open_and_nothing_else_is() {
    let mut lab = Lab::new(1);
    let records = [PAY, SHOP].iter().zip(["pay.example.com", "garden.example"]);
    let records: Vec<String> = records
        .flat_map(|(addresses, name)| addresses.map(|one| format!("--address=/{name}/{one}")))
        .collect();
    let _names = name_server(&lab, &records.iter().map(String::as_str).collect::<Vec<_>>());
    hosts(&lab, &[PAY, SHOP].concat());
    let gateway = lab.maitred(&settings(GARDEN));
    lab.guests[0].join(Dhcp::Udhcpc);
    let guest = &lab.guests[0];
    // Names beside the garden, at its very addresses.
    for (name, addresses) in [("sub.pay.example.com", PAY), ("garden.example", SHOP)] {
        for (kind, address) in ["A", "AAAA"].into_iter().zip(addresses) {
            let said = dig(&guest.netns, &format!("{name} {kind}"));
            assert_eq!(said.answers, [(30, address.to_owned())]);
            assert!(!reaches(guest, address), "{name}");
        }
    }
    for (name, addresses) in [("pay.example.com", PAY), ("a.b.Garden.example", SHOP)] {
        for (kind, address) in ["A", "AAAA"].into_iter().zip(addresses) {
            assert_eq!(dig(&guest.netns, &format!("{name} {kind}")).addresses(), [address]);
            assert!(reaches(guest, address), "{name}");
        }
    }
    assert!(!reaches(guest, WEB_V4) && !reaches(guest, WEB_V6));
    assert_eq!(guest.ping(WEB_V4, 1) + guest.ping(WEB_V6, 1), 0);

    // In use, it stays open past its time.
    thread::sleep(Duration::from_millis(2500));
    for address in PAY {
        let before = open_for(&lab, address).unwrap();
        assert!(before < 899, "{before}");
        assert!(reaches(guest, address));
        assert!(open_for(&lab, address) >= Some(899), "renewed by traffic");
    }
    thread::sleep(Duration::from_millis(2500));
    dig(&guest.netns, "pay.example.com A");
    assert!(open_for(&lab, PAY[0]) >= Some(899), "renewed by a question");
    assert!(open_for(&lab, PAY[1]) < Some(899));

    // Online, the guest asks the router's full resolver, which asks another server here.
    guest.log_in(&gateway);
    assert_eq!(dig(&guest.netns, "pay.example.com A").addresses(), [WEB_V4]);
}

#[test]
fn the_portal_the_canaries_and_other_types_are_answered_here() {
    let mut lab = Lab::with_zones(2, 2);
    let settings = settings(GARDEN)
        .with("[[zone]] ", "name = \"cafe\"\ninterface = \"br-guest2\"")
        .with("[portal]", "name = \"wifi.example.com\"");
    let gateway = lab.maitred(&settings);
    for (guest, bridge) in lab.guests.iter_mut().zip(["br-guest", "br-guest2"]) {
        guest.walk_to(bridge);
        guest.join(Dhcp::Udhcpc);
    }
    let routers = [[ROUTER_V4, ROUTER_V6], [ROUTER2_V4, ROUTER2_V6]];
    for (guest, addresses) in lab.guests.iter().zip(routers) {
        for (kind, address) in ["A", "AAAA"].into_iter().zip(addresses) {
            let said = dig(&guest.netns, &format!("WiFi.Example.com {kind}"));
            assert_eq!((said.status.as_str(), said.addresses()), ("NOERROR", vec![address]));
        }
        assert_eq!(guest.get("http://wifi.example.com:2050/").status, 200);
    }
    let guest = &lab.guests[0];
    for name in ["use-application-dns.net", "mask.icloud.com", "mask-h2.icloud.com", "a.local"] {
        let said = dig(&guest.netns, &format!("{name} A"));
        assert_eq!((said.status.as_str(), said.answers.len()), ("NXDOMAIN", 0), "{name}");
    }
    for kind in ["HTTPS", "SVCB"] {
        let said = dig(&guest.netns, &format!("pay.example.com {kind}"));
        assert_eq!((said.status.as_str(), said.answers.len()), ("NOERROR", 0), "{kind}");
    }
    for kind in ["TXT", "NULL", "MX", "CNAME", "SRV", "ANY", "DNSKEY", "NS", "PTR"] {
        let said = dig(&guest.netns, &format!("x.example.com {kind}"));
        assert_eq!((said.status.as_str(), said.answers.len()), ("REFUSED", 0), "{kind}");
    }
    let counts = gateway.json(&["stats"])["dns"].clone();
    assert_eq!((&counts["refused"], &counts["forwarded"]), (&9.into(), &0.into()), "{counts}");
}

#[test]
fn long_answers_come_by_tcp_and_leave_short() {
    let mut lab = Lab::new(1);
    let many: Vec<String> =
        (1..=60).map(|last| format!("--address=/many.garden.example/192.0.2.{last}")).collect();
    let _names = name_server(&lab, &many.iter().map(String::as_str).collect::<Vec<_>>());
    let cut = dig(&lab.internet.netns, &format!("+ignore +noedns @{DNS} many.garden.example A"));
    assert!(cut.answers.len() < 60, "the server cuts what does not fit");
    let _gateway = lab.maitred(&settings(GARDEN));
    lab.guests[0].join(Dhcp::Udhcpc);
    let guest = &lab.guests[0].netns;
    for way in ["", "+tcp"] {
        let said = dig(guest, &format!("{way} many.garden.example A"));
        assert_eq!((said.status.as_str(), said.answers.len()), ("NOERROR", 4), "{way}");
    }
    assert_eq!(dig(guest, "+tcp www.elsewhere.example AAAA").addresses(), [WEB_V6]);
}

#[test]
fn answers_come_from_the_address_that_was_asked() {
    let mut lab = Lab::new(1);
    lab.router.ip("addr add 10.77.0.9/16 dev br-guest
         addr add 10.88.0.1/24 dev br-guest
         addr add 2001:db8:77::9/64 dev br-guest nodad");
    let _names = name_server(&lab, &[]);
    let _gateway = lab.maitred(&settings(GARDEN));
    lab.guests[0].join(Dhcp::Udhcpc);
    let text = lab.router.exec(&["ip", "-6", "-o", "addr", "show", "br-guest", "scope", "link"]);
    let text = text.ok();
    let near = text.split_whitespace().nth(3).unwrap().split('/').next().unwrap();
    let near = format!("{near}%eth0");
    // dig takes no answer from elsewhere. Redirected to the forwarder, whoever is asked, and asked
    // at its own port.
    let ours = [ROUTER_V4, "10.77.0.9", "10.88.0.1", ROUTER_V6, "2001:db8:77::9", &near];
    let others = ["203.0.113.99", "2001:db8:203::99"];
    for server in ours.iter().chain(&others) {
        for way in ["", "+tcp"] {
            let question = format!("{way} @{server} www.elsewhere.example A");
            assert_eq!(dig(&lab.guests[0].netns, &question).addresses(), [WEB_V4], "{question}");
        }
    }
    for server in ours {
        let question = format!("-p 2054 @{server} www.elsewhere.example A");
        assert_eq!(dig(&lab.guests[0].netns, &question).addresses(), [WEB_V4], "{question}");
    }
}

#[test]
fn while_the_uplink_is_down_every_name_leads_to_the_portal() {
    let mut lab = Lab::new(1);
    let _names = name_server(&lab, &[]);
    let gateway = lab.maitred(&settings(GARDEN));
    lab.guests[0].join(Dhcp::Udhcpc);
    let guest = &lab.guests[0];
    assert_eq!(dig(&guest.netns, "www.elsewhere.example A").addresses(), [WEB_V4]);
    lab.router.ip("link set wan down");
    until(Duration::from_secs(10), "a placeholder", || {
        (dig(&guest.netns, "one.example A").addresses() == ["198.18.0.1"]).then_some(())
    });
    let said = dig(&guest.netns, "www.shop.example AAAA");
    assert_eq!(said.addresses(), ["2001:2::1"]);
    assert!(said.answers[0].0 <= 5, "{said:?}");
    for family in ["-4", "-6"] {
        let reply = guest.curl("http://www.other.example/", &[family]).unwrap();
        assert_eq!(reply.status, 302, "{reply:#?}");
        assert_eq!(guest.follow(reply).status, 200);
    }
    lab.router.ip("link set wan up
         route add default via 198.51.100.1");
    until(Duration::from_secs(10), "the uplink to be noticed", || {
        (dig(&guest.netns, "two.example A").addresses() == [WEB_V4]).then_some(())
    });
    assert!(gateway.json(&["stats"])["dns"]["placeholders"].as_u64() >= Some(2));

    // Without placeholders such a question fails.
    let off = format!("upstreams = [\"{DNS}\"]\nplaceholder = false");
    gateway.configure(&settings(GARDEN).with("[dns]", &off));
    gateway.term();
    gateway.run();
    lab.router.ip("link set wan down");
    until(Duration::from_secs(10), "a failure", || {
        (dig(&guest.netns, "three.example A").status == "SERVFAIL").then_some(())
    });
}

/// Names of the test below, all in its garden.
const TRIALS: u16 = 10_000;
/// A device's budget of garden names is spent after more than these.
const TRIALS_OF_ONE: u16 = 600;

/// Answers `n<number>.g.cc` with an address of that number.
fn numbered_names(lab: &Lab) {
    lab.internet.netns.ip(&format!(
        "addr add {DNS}/32 dev lo
         route add local 9.9.0.0/16 dev lo
         route add local 2001:db8:9::/64 dev lo"
    ));
    let socket = lab.internet.netns.within(|| UdpSocket::bind((DNS, 53)).unwrap());
    thread::spawn(move || {
        let mut bytes = [0; 512];
        while let Ok((length, peer)) = socket.recv_from(&mut bytes) {
            let question = Question::parse(&bytes[..length]).unwrap();
            let number = question.name.as_str().strip_prefix('n').unwrap().split('.').next();
            let [high, low] = number.unwrap().parse::<u16>().unwrap().to_be_bytes();
            let (kind, data) = match question.kind {
                Kind::A => (1, vec![9, 9, high, low]),
                _ => (28, [&[0x20, 1, 0xd, 0xb8, 0, 9][..], &[0; 8], &[high, low]].concat()),
            };
            let length_of_data = u8::try_from(data.len()).unwrap();
            let record = [0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 60, 0, length_of_data];
            let mut answer = [&bytes[..length], &record, &data].concat();
            answer[2..4].copy_from_slice(&[0x81, 0x80]);
            answer[7] = 1;
            socket.send_to(&answer, peer).unwrap();
        }
    });
    let listener = lab.internet.netns.within(|| TcpListener::bind("[::]:7777").unwrap());
    thread::spawn(move || listener.incoming().for_each(drop));
}

/// Asks for a name and connects the moment that the answer is there; whether that gets through at
/// once. Even numbers are asked for, and reached, over IPv4, odd ones over IPv6.
fn asks_and_connects(sockets: &[UdpSocket; 2], number: u16) -> bool {
    let v6 = number % 2 == 1;
    let kind = if v6 { Kind::Aaaa } else { Kind::A };
    let name: Name = format!("n{number}.g.cc").parse().unwrap();
    let (socket, mut bytes) = (&sockets[usize::from(v6)], [0; 512]);
    socket.send(&query(number, &name, kind)).unwrap();
    let length = socket.recv(&mut bytes).unwrap_or_else(|error| panic!("{number}: {error}"));
    let answer = &bytes[..length];
    assert_eq!((&answer[..2], answer[7]), (&number.to_be_bytes()[..], 1), "{answer:02x?}");
    let address = if v6 {
        IpAddr::from(<[u8; 16]>::try_from(&answer[length - 16..]).unwrap())
    } else {
        IpAddr::from(<[u8; 4]>::try_from(&answer[length - 4..]).unwrap())
    };
    // Shorter than the second try of a SYN.
    let patience = Duration::from_millis(900);
    TcpStream::connect_timeout(&SocketAddr::new(address, 7777), patience).is_ok()
}

#[test]
fn a_syn_straight_after_the_answer_of_a_garden_name_passes() {
    let lab = Lab::new(1);
    numbered_names(&lab);
    let _gateway =
        lab.maitred(&settings("\"*.g.cc\"").with("[firewall]", "flows_per_stranger = 65535"));
    let guest = &lab.guests[0];
    guest.netns.ip("link set eth0 up");
    let mut late = Vec::new();
    let starts = (0..TRIALS).step_by(usize::from(TRIALS_OF_ONE));
    for (device, start) in (1u8..).zip(starts) {
        // The next device, with an address of each family.
        let [v4, v6] = [format!("10.77.200.{device}"), format!("2001:db8:77::200:{device:x}")];
        guest.netns.ip(&format!(
            "link set eth0 address 02:00:00:00:77:{device:02x}
             addr flush dev eth0
             addr add {v4}/16 dev eth0
             addr add {v6}/64 dev eth0 nodad
             route replace default via {ROUTER_V4}
             route replace default via {ROUTER_V6}"
        ));
        until(Duration::from_secs(5), "both families to work", || {
            let answers = |to| guest.netns.exec(&["ping", "-n", "-c", "1", "-W", "1", to]).success;
            (answers(ROUTER_V4) && answers(ROUTER_V6)).then_some(())
        });
        let end = TRIALS.min(start + TRIALS_OF_ONE);
        late.extend(guest.netns.within(|| {
            let sockets = [(v4, ROUTER_V4), (v6, ROUTER_V6)].map(|(own, router)| {
                let own = SocketAddr::new(own.parse::<IpAddr>().unwrap(), 0);
                let socket = UdpSocket::bind(own).unwrap();
                socket.connect((router, 53)).unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
                socket
            });
            (start..end).filter(|number| !asks_and_connects(&sockets, *number)).collect::<Vec<_>>()
        }));
    }
    assert!(late.is_empty(), "{} of {TRIALS} did not get through: {late:?}", late.len());
}

/// The window of the tunnels, seconds.
const WINDOW: u64 = 60;
/// What a tunnel may carry in it: less than 100 bytes a second.
const MOST: usize = 100 * 60;

/// A name server of a tunnel's owner: counts what guests chose of the names, and what it gave.
fn count_tunnel(lab: &Lab, address: &str) -> Arc<AtomicUsize> {
    lab.internet.netns.ip(&format!("addr add {address}/32 dev lo"));
    let socket = lab.internet.netns.within(|| UdpSocket::bind((address, 53)).unwrap());
    let carried = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&carried);
    thread::spawn(move || {
        let mut bytes = [0; 512];
        while let Ok((length, peer)) = socket.recv_from(&mut bytes) {
            let Ok(question) = Question::parse(&bytes[..length]) else { continue };
            let chosen = question.name.as_str().trim_end_matches("flood.example").len();
            counter.fetch_add(chosen + 4, Relaxed);
            let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1];
            let mut answer = [&bytes[..length], &record].concat();
            answer[2..4].copy_from_slice(&[0x81, 0x80]);
            answer[7] = 1;
            let _ = socket.send_to(&answer, peer);
        }
    });
    carried
}

/// Asks for new names as fast as it can be imagined to help, from many addresses, until `end`.
fn flood(netns: &Netns, end: u64) {
    netns.within(|| {
        let own = ["10.77.201.1", "10.77.201.2", "2001:db8:77::201:1", "2001:db8:77::201:2"];
        let sockets = own.map(|own| {
            let socket = UdpSocket::bind((own, 0)).unwrap();
            let router = if own.contains(':') { ROUTER_V6 } else { ROUTER_V4 };
            socket.connect((router, 53)).unwrap();
            socket
        });
        for (number, socket) in (0u32..).zip(sockets.iter().cycle()) {
            if clock::boot().0 >= end {
                return;
            }
            let name = format!("{number:060}.x.flood.example").parse().unwrap();
            let _ = socket.send(&query(7, &name, Kind::A));
            thread::sleep(Duration::from_millis(2));
        }
    });
}

/// Bytes that came out of iodine's tunnel on the far side.
fn tunnelled(lab: &Lab) -> usize {
    let file = "/sys/class/net/dns0/statistics/rx_bytes";
    lab.internet.netns.exec(&["cat", file]).ok().trim().parse().unwrap()
}

#[test]
fn a_tunnel_through_dns_is_not_worth_its_while() {
    let mut lab = Lab::new(2);
    let delegated = "server=/t.tunnel.example/203.0.113.55";
    let more = [&format!("--{delegated}"), "--server=/x.flood.example/203.0.113.56"];
    let _names = name_server(&lab, &more);
    std::fs::write(lab.dnsmasq_dir().join("tunnel.conf"), format!("{delegated}\n")).unwrap();
    lab.restart_dnsmasq();
    lab.internet.netns.ip("addr add 203.0.113.55/32 dev lo");
    let server = "iodined -f -c -P secret -l 203.0.113.55 10.99.0.1/24 t.tunnel.example";
    let server: Vec<&str> = server.split(' ').collect();
    let _server = lab.internet.netns.spawn(&server, &lab.folder().join("iodined.log"));
    let carried = count_tunnel(&lab, "203.0.113.56");
    lab.guests[0].join(Dhcp::Udhcpc);
    lab.guests[1].netns.ip("link set eth0 up
         addr add 10.77.201.1/16 dev eth0
         addr add 10.77.201.2/16 dev eth0
         addr add 2001:db8:77::201:1/64 dev eth0 nodad
         addr add 2001:db8:77::201:2/64 dev eth0 nodad
         route add default via 10.77.0.1");
    until(Duration::from_secs(5), "iodined", || {
        lab.internet.netns.exec(&["ip", "link", "show", "dns0"]).success.then_some(())
    });
    let client = "iodine -f -r -P secret";
    let zone = "10.77.0.1 t.tunnel.example";
    let spawn = |args: &[&str], log: &str| lab.guests[0].netns.spawn(args, &lab.folder().join(log));
    let ping = || spawn(&["ping", "-n", "-q", "-s", "400", "-i", "0.2", "10.99.0.1"], "ping");

    // Through the router's own resolver, without us, it works.
    let open = [spawn(&format!("{client} {zone}").split(' ').collect::<Vec<_>>(), "open"), ping()];
    until(Duration::from_secs(60), "the tunnel to work without us", || {
        (tunnelled(&lab) > MOST).then_some(())
    });
    drop(open);

    let _gateway = lab.maitred(&settings(GARDEN));
    let tries = format!(
        "while :; do for type in '' '-T A' '-T CNAME' '-T MX'; do {client} $type {zone}; done; \
         sleep 1; done"
    );
    let _shut = [spawn(&["sh", "-c", &tries], "shut"), ping()];
    let (before, start) = (tunnelled(&lab), clock::boot().0);
    flood(&lab.guests[1].netns, start + WINDOW * 1000);
    let through = tunnelled(&lab) - before;
    let carried = carried.load(Relaxed);
    println!("in {WINDOW} s: iodine {through} bytes; chosen names and answers {carried} bytes");
    assert!(through < MOST, "iodine carried {through} bytes");
    assert!((1000..MOST).contains(&carried), "names and answers carried {carried} bytes");
}
