//! What a stranger's device can send past the gateway, with real tools and with frames made by
//! hand: nothing. Seen where it would arrive, on the internet's side of the uplink.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::thread;
use std::time::Duration;

use etherparse::{Ipv6Header, UdpHeader};

use crate::lab::{
    Dhcp, Guest, Internet, Lab, Netns, ROUTER_MAC, ROUTER_V4, ROUTER_V6, STAFF_V4, Settings,
    WEB_V4, WEB_V6, Wire,
};

pub(crate) const ZONE: &str = "name = \"guest\"\ninterface = \"br-guest\"";

/// Every tool, both families. Each is told to be quick; none needs to succeed.
pub(crate) fn probe(guest: &Guest) {
    probe_with(
        guest,
        &[
            "ping -n -c 2 -i 0.2 -W 1 WEB",
            "ping -n -c 1 -W 1 -s 4000 WEB",
            "traceroute -n -q 1 -w 0.3 -m 4 WEB",
            "traceroute -n -q 1 -w 0.3 -m 4 -I WEB",
            "traceroute -n -q 1 -w 0.3 -m 4 -T -p 443 WEB",
            "nmap FAMILY -n -Pn --max-retries 0 --min-rate 100 --host-timeout 5s -sS -F WEB",
            "nmap FAMILY -n -Pn --max-retries 0 --min-rate 100 --host-timeout 5s -sA -p 7,80,443 WEB",
            "nmap FAMILY -n -Pn --max-retries 0 --min-rate 100 --host-timeout 5s -sF -p 7,80,443 WEB",
            "nmap FAMILY -n -Pn --max-retries 0 --min-rate 100 --host-timeout 5s -sU \
             -p 7,9,53,67,123,161,443,500,853,1194,4500,51820 WEB",
            "nmap FAMILY -n -Pn --max-retries 0 --min-rate 100 --host-timeout 5s -g 53 -sS -p 7,443,853 WEB",
            "nmap FAMILY -n -Pn --max-retries 0 --min-rate 100 --host-timeout 5s -g 67 -sU -p 7,443 WEB",
            "nmap FAMILY -n -Pn --max-retries 0 --min-rate 100 --host-timeout 5s -sO -p 0-255 WEB",
            "nmap FAMILY -n -Pn --max-retries 0 --min-rate 100 --host-timeout 5s --spoof-mac 02:aa:bb:cc:dd:ee -sS -p 7,443 WEB",
            "busybox nslookup example.com WEB",
        ],
    );
    let v4 = guest.v4();
    for args in [
        format!("nmap -n -Pn -f --max-retries 0 --host-timeout 5s -sS -p 7,80,443 {WEB_V4}"),
        format!(
            "nmap -n -Pn -e eth0 -S 10.77.9.9 --max-retries 0 --host-timeout 5s -sS -p 7,443 {WEB_V4}"
        ),
        format!(
            "nmap -n -Pn -D 10.77.9.8,{v4},192.0.2.7 --max-retries 0 --host-timeout 5s -sS -p 7,443 {WEB_V4}"
        ),
        format!("ping -n -c 1 -W 1 -R {WEB_V4}"),
    ] {
        exec(&guest.netns, &args);
    }
    let wire = Wire::open(&guest.netns);
    for frame in frames(guest) {
        wire.send(&frame);
    }
}

fn probe_with(guest: &Guest, commands: &[&str]) {
    thread::scope(|scope| {
        for (web, family) in [(WEB_V4, ""), (WEB_V6, "-6")] {
            scope.spawn(move || {
                for command in commands {
                    exec(&guest.netns, &command.replace("WEB", web).replace("FAMILY", family));
                }
            });
        }
    });
}

/// Runs a command that may fail, but must be there.
fn exec(netns: &Netns, command: &str) {
    let args: Vec<&str> = command.split_whitespace().collect();
    let output = netns.exec(&args);
    assert!(output.status != 127, "{command}: {output:?}");
}

fn mac(guest: &Guest) -> [u8; 6] {
    guest.mac.parse::<maitred::domain::names::Mac>().unwrap().0
}

/// Fragments, options, extension headers and forged sources: UDP to the internet's sink.
fn frames(guest: &Guest) -> Vec<Vec<u8>> {
    let mac = mac(guest);
    let (own4, web4): (Ipv4Addr, Ipv4Addr) = (guest.v4().parse().unwrap(), WEB_V4.parse().unwrap());
    let (own6, web6): (Ipv6Addr, Ipv6Addr) = (guest.v6().parse().unwrap(), WEB_V6.parse().unwrap());
    let mut all = Vec::new();
    for from in [own4, Ipv4Addr::new(10, 77, 99, 99), Ipv4Addr::new(192, 0, 2, 1), web4] {
        let udp = datagram(from.into(), web4.into());
        all.push(ip4(mac, from, web4, 0, &[], &udp));
        // Record route; loose source route by way of the router.
        all.push(ip4(mac, from, web4, 0, &[7, 7, 4, 0, 0, 0, 0, 0], &udp));
        all.push(ip4(mac, from, web4, 0, &[131, 7, 4, 198, 51, 100, 1, 0], &udp));
        // Two fragments, in order and the other way round.
        let halves =
            [ip4(mac, from, web4, 0x2000, &[], &udp[..8]), ip4(mac, from, web4, 1, &[], &udp[8..])];
        all.extend(halves.clone());
        all.extend(halves.into_iter().rev());
    }
    let forged: Ipv6Addr = "2001:db8:77::bad".parse().unwrap();
    for from in [own6, forged, "2001:db8:666::1".parse().unwrap(), web6] {
        let udp = datagram(from.into(), web6.into());
        let padded = [1, 4, 0, 0, 0, 0];
        let routing = [0, 0, 0, 0, 0, 0];
        for chain in [
            vec![],
            vec![(0, padded)],
            vec![(60, padded)],
            vec![(43, routing)],
            vec![(44, [0, 0, 0, 0, 0, 7])],
            vec![(0, padded), (60, padded), (43, routing), (60, padded)],
            vec![(0, padded), (44, [0, 0, 0, 0, 0, 8]), (60, padded)],
            vec![(60, padded); 8],
        ] {
            all.push(ip6(mac, from, web6, &chain, &udp));
        }
        let first = ip6(mac, from, web6, &[(44, [0, 1, 0, 0, 0, 9])], &udp[..8]);
        let second = ip6(mac, from, web6, &[(44, [0, 8, 0, 0, 0, 9])], &udp[8..]);
        all.extend([second, first]);
    }
    all
}

fn datagram(from: IpAddr, to: IpAddr) -> Vec<u8> {
    let payload = b"leaked!!";
    let header = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => UdpHeader::with_ipv4_checksum(
            40_000,
            Internet::SINK,
            &etherparse::Ipv4Header::new(
                16,
                64,
                etherparse::IpNumber::UDP,
                from.octets(),
                to.octets(),
            )
            .unwrap(),
            payload,
        ),
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let header = Ipv6Header {
                source: from.octets(),
                destination: to.octets(),
                ..Ipv6Header::default()
            };
            UdpHeader::with_ipv6_checksum(40_000, Internet::SINK, &header, payload)
        }
        _ => unreachable!("one family"),
    };
    [&header.unwrap().to_bytes()[..], payload].concat()
}

fn ethernet(from: [u8; 6], kind: u16) -> Vec<u8> {
    [&ROUTER_MAC[..], &from, &kind.to_be_bytes()].concat()
}

/// `fragment`: flags and offset as they stand in the header (RFC 791).
fn ip4(
    mac: [u8; 6],
    from: Ipv4Addr,
    to: Ipv4Addr,
    fragment: u16,
    options: &[u8],
    body: &[u8],
) -> Vec<u8> {
    let mut header = etherparse::Ipv4Header::new(
        u16::try_from(body.len()).unwrap(),
        64,
        etherparse::IpNumber::UDP,
        from.octets(),
        to.octets(),
    )
    .unwrap();
    header.identification = 77;
    header.dont_fragment = false;
    header.more_fragments = fragment & 0x2000 != 0;
    header.fragment_offset = (fragment & 0x1fff).try_into().unwrap();
    header.options = options.try_into().unwrap();
    header.total_len += u16::try_from(options.len()).unwrap();
    header.header_checksum = header.calc_header_checksum();
    [&ethernet(mac, 0x0800)[..], &header.to_bytes(), body].concat()
}

/// `chain`: extension headers of 8 bytes (RFC 8200), each its number and the bytes behind its
/// next-header and length; in a fragment header these bytes begin with the offset.
fn ip6(
    mac: [u8; 6],
    from: Ipv6Addr,
    to: Ipv6Addr,
    chain: &[(u8, [u8; 6])],
    body: &[u8],
) -> Vec<u8> {
    let mut extensions = Vec::new();
    let numbers = chain.iter().map(|(number, _)| *number).chain([17]);
    for ((_, rest), next) in chain.iter().zip(numbers.clone().skip(1)) {
        extensions.extend([next, 0]);
        extensions.extend(rest);
    }
    let header = Ipv6Header {
        payload_length: u16::try_from(extensions.len() + body.len()).unwrap(),
        next_header: etherparse::IpNumber(numbers.clone().next().unwrap()),
        hop_limit: 64,
        source: from.octets(),
        destination: to.octets(),
        ..Ipv6Header::default()
    };
    [&ethernet(mac, 0x86dd)[..], &header.to_bytes(), &extensions, body].concat()
}

#[test]
fn without_a_gateway_every_probe_gets_out() {
    let mut lab = Lab::new(1);
    lab.guests[0].join(Dhcp::Udhcpc);
    let tap = lab.tap_uplink();
    probe(&lab.guests[0]);
    let packets = tap.packets();
    // What the test below finds missing is what this one sees.
    let count = |what: &str| packets.iter().filter(|line| line.contains(what)).count();
    for (what, least) in [
        (" IP ", 200),
        (" IP6 ", 200),
        ("ICMP echo request", 3),
        ("ICMP6, echo request", 3),
        (".443", 10),
        (".853", 2),
        (".53", 2),
        (".9: UDP, length 8", 10),
        ("DSTOPT", 4),
        ("frag", 2),
    ] {
        assert!(count(what) >= least, "{what}: {} of {packets:#?}", count(what));
    }
}

#[test]
fn a_stranger_sends_nothing_out() {
    let mut lab = Lab::new(1);
    let _gateway = lab.maitred(&Settings::new());
    lab.guests[0].join(Dhcp::Udhcpc);
    let tap = lab.tap_uplink();
    probe(&lab.guests[0]);
    assert_eq!(tap.packets(), Vec::<String>::new());
    assert_eq!(lab.internet.received(), 0);
}

#[test]
fn a_guest_who_was_revoked_sends_nothing_out() {
    let mut lab = Lab::new(1);
    let gateway = lab.maitred(&Settings::new());
    lab.guests[0].join(Dhcp::Udhcpc);
    let guest = &lab.guests[0];
    gateway.command(&["grant", &guest.mac]).ok();
    let mut kept: Vec<_> =
        [WEB_V4, WEB_V6].map(|web| guest.connect(web, Internet::ECHO).0.unwrap()).into();
    assert!(guest.online() && guest.ping(WEB_V6, 1) == 1);
    gateway.command(&["revoke", &guest.mac]).ok();
    thread::sleep(Duration::from_millis(100));
    let tap = lab.tap_uplink();
    for stream in &mut kept {
        assert!(crate::lab::echoes(stream).is_err());
    }
    probe(&lab.guests[0]);
    assert_eq!(tap.packets(), Vec::<String>::new());
}

#[test]
fn only_the_garden_is_open_to_strangers() {
    let mut lab = Lab::new(1);
    let garden = format!("{ZONE}\nwalled_garden = [\"{WEB_V4}\", \"2001:db8:203::/64\"]");
    let _gateway = lab.maitred(&Settings::new().with("[[zone]]", &garden));
    lab.internet.netns.ip("addr add 203.0.113.81/32 dev lo
         addr add 2001:db8:204::80/128 dev lo nodad");
    lab.guests[0].join(Dhcp::Udhcpc);
    let guest = &lab.guests[0];
    let tap = lab.tap_uplink();
    assert!(guest.online() && guest.page_opens(&format!("http://[{WEB_V6}]/")));
    assert_eq!((guest.ping(WEB_V4, 1), guest.ping(WEB_V6, 1)), (1, 1));
    assert_eq!((guest.ping("203.0.113.81", 1), guest.ping("2001:db8:204::80", 1)), (0, 0));
    let packets = tap.packets();
    let inside = |line: &String| line.contains(WEB_V4) || line.contains(WEB_V6);
    assert!(!packets.is_empty() && packets.iter().all(inside), "{packets:#?}");
}

#[test]
fn nothing_comes_to_a_guest_unasked() {
    let mut lab = Lab::new(2);
    let gateway = lab.maitred(&Settings::new());
    // A neighbour on the uplink who routes to guests by himself.
    lab.internet.netns.ip("route add 10.77.0.0/16 via 198.51.100.2");
    lab.router
        .exec(&["nft", "insert rule inet fw4 forward iifname wan oifname br-guest accept"])
        .ok();
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    lab.guests[0].log_in(&gateway);
    crate::lab::until(Duration::from_secs(5), "IPv6 to work", || {
        (lab.guests[0].ping(WEB_V6, 1) == 1).then_some(())
    });
    let answers = lab.tap_guest(0);
    assert_eq!(lab.guests[0].ping(WEB_V6, 1), 1);
    assert_eq!(answers.packets().len(), 1, "the tap sees answers");
    let taps = [lab.tap_guest(0), lab.tap_guest(1)];
    for guest in &lab.guests {
        for (address, family) in [(guest.v4(), ""), (guest.v6(), "-6")] {
            for command in [
                format!("ping -n -c 2 -i 0.2 -W 1 {address}"),
                format!(
                    "nmap {family} -n -Pn --max-retries 0 --min-rate 100 --host-timeout 5s -sS -F {address}"
                ),
                format!(
                    "nmap {family} -n -Pn --max-retries 0 --min-rate 100 --host-timeout 5s -sA -p 80,443 {address}"
                ),
                format!(
                    "nmap {family} -n -Pn --max-retries 0 --min-rate 100 --host-timeout 5s -sU -p 53,68,443,546,5353 {address}"
                ),
                format!(
                    "nmap {family} -n -Pn --max-retries 0 --min-rate 100 --host-timeout 5s -g 443 -sU -p 1024,40000 {address}"
                ),
            ] {
                exec(&lab.internet.netns, &command);
            }
        }
    }
    for tap in taps {
        assert_eq!(tap.packets(), Vec::<String>::new());
    }
}

#[test]
fn the_router_shows_a_stranger_its_portal_and_dns() {
    let mut lab = Lab::new(1);
    let _gateway = lab.maitred(&Settings::new());
    // A service on all addresses, which fw4 lets in: ours refuses it still.
    lab.router.exec(&["nft", "insert rule inet fw4 input accept"]).ok();
    let silent = lab.router.within(|| UdpSocket::bind("[::]:9997").unwrap());
    let listeners: Vec<TcpListener> = lab.router.within(|| {
        ["0.0.0.0:9999", "[::]:9998"].map(|place| TcpListener::bind(place).unwrap()).into()
    });
    let guest = &mut lab.guests[0];
    guest.join(Dhcp::Udhcpc);
    let addresses = [ROUTER_V4, STAFF_V4, "198.51.100.2", ROUTER_V6, "2001:db8:100::2"];
    for address in addresses {
        let mut args = vec!["nmap", "-n", "-Pn", "--open", "-sT", "--max-retries", "2", "-oG", "-"];
        if address.contains(':') {
            args.push("-6");
        }
        let ports = "22,23,53,80,443,2050,2051,5000,8080,8443,9998,9999";
        let found = guest.netns.exec_for(&[&args[..], &["-p", ports, address]].concat(), 30).ok();
        let open: Vec<&str> = found
            .split([' ', ','])
            .filter_map(|word| word.split_once("/open/").map(|(port, _)| port))
            .collect();
        let allowed = ["53", "80", "2050", "2051"];
        assert!(open.iter().all(|port| allowed.contains(port)), "{address}: {open:?}");
        assert!(address != ROUTER_V4 || open.contains(&"2050"), "{found}");
    }
    for listener in listeners {
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err());
    }
    for address in addresses {
        let more: &[&str] = if address.contains(':') { &["-6"] } else { &[] };
        let ports = "67,69,123,161,547,1900,5353,9997";
        let scan = ["nmap", "-n", "-Pn", "-sU", "--max-retries", "0", "--host-timeout", "5s"];
        guest.netns.exec_for(&[&scan[..], &["-p", ports, address], more].concat(), 30);
        let _ = guest.udp(address, 9997).send(b"hello");
    }
    silent.set_nonblocking(true).unwrap();
    assert!(silent.recv(&mut [0; 16]).is_err(), "a service of the router's heard a stranger");
}
