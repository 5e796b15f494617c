use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::settings::{Placeholder, ZoneSettings};
use super::*;
use crate::wire::dns::query;

const ZONE: ZoneId = ZoneId(0);
const START: BootTime = BootTime(7_000_000);

fn settings() -> Settings {
    let zone = ZoneSettings {
        zone: ZONE,
        addresses: ["192.0.2.1", "2001:db8::1", "fe80::1"].map(|a| a.parse().unwrap()).into(),
        garden: ["pay.example.net", "*.wx.example.net"].map(|p| p.parse().unwrap()).into(),
    };
    Settings {
        portal: Some("portal.example.net".parse().unwrap()),
        zones: vec![zone],
        upstreams: vec!["203.0.113.53:53".parse().unwrap()],
        placeholder: Some(Placeholder::default()),
        ..Settings::default()
    }
}

fn question(name: &str, kind: Kind) -> Question {
    let name: Name = name.parse().unwrap();
    let mut bytes = query(7, &name, kind);
    let record_type = bytes.len() - 3;
    bytes[record_type] = match kind {
        Kind::A => 1,
        Kind::Aaaa => 28,
        Kind::Service => 65,
        Kind::Other => 16,
    };
    Question::parse(&bytes).unwrap()
}

fn payer(number: u8) -> Payer {
    Payer::Address(ZONE, [192, 0, 2, number].into())
}

fn found(addresses: &[&str], ttl: u32) -> Reply {
    let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
    Reply { code: Code::Found, addresses, ttl }
}

/// A policy with a resolver that knows every name, and the bytes that pass between them.
struct World {
    policy: Policy,
    settings: Settings,
    /// By millisecond: what a tunnel could have gained, names and addresses alike.
    crossed: BTreeMap<u64, usize>,
}

impl World {
    fn new() -> Self {
        Self { policy: Policy::new(), settings: settings(), crossed: BTreeMap::new() }
    }

    /// Asks; true if an address came back.
    fn ask(&mut self, payer: Payer, name: &str, kind: Kind, now: BootTime) -> bool {
        let asked = question(name, kind);
        let from = (ZONE, payer);
        match self.policy.decide(&self.settings, from, &asked, Flight::Clear, now) {
            Verdict::Forward => {
                let all = if kind == Kind::A {
                    found(&["203.0.113.1", "203.0.113.2"], 60)
                } else {
                    found(&["2001:db8:1::1", "2001:db8:1::2"], 60)
                };
                let key = (&asked.name, kind);
                let kept = self.policy.settle(&self.settings, key, Some(all), now).unwrap();
                let Verdict::Reply(reply) =
                    Policy::with_answer(&self.settings, ZONE, &asked.name, kept)
                else {
                    panic!("a garden name in a tunnel")
                };
                let back: usize =
                    reply.addresses.iter().map(|a| if a.is_ipv4() { 4 } else { 16 }).sum();
                let out = usize::try_from(names::chosen(&asked.name)).unwrap();
                *self.crossed.entry(now.0).or_default() += out + back;
                true
            }
            Verdict::Reply(reply) => !reply.addresses.is_empty(),
            other => panic!("{other:?}"),
        }
    }

    /// The most that crossed in any 60 seconds.
    fn best_minute(&self) -> usize {
        let starts = self.crossed.keys();
        let minute =
            |start: &u64| self.crossed.range(start..&(start + 60_000)).map(|(_, b)| b).sum();
        starts.map(minute).max().unwrap_or(0)
    }
}

fn first(settings: &Settings, name: &str, kind: Kind) -> Verdict {
    let asked = question(name, kind);
    Policy::new().decide(settings, (ZONE, payer(1)), &asked, Flight::Clear, START)
}

#[test]
fn what_is_ours_is_answered_here() {
    let settings = settings();
    let told = |name, kind| match first(&settings, name, kind) {
        Verdict::Reply(reply) => reply,
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!(told("portal.example.net", Kind::A), found(&["192.0.2.1"], PORTAL_TTL));
    assert_eq!(told("portal.example.net", Kind::Aaaa), found(&["2001:db8::1"], PORTAL_TTL));
    assert_eq!(told("portal.example.net", Kind::Service), found(&[], PORTAL_TTL));
    for canary in ["use-application-dns.net", "mask.icloud.com", "mask-h2.icloud.com"] {
        for kind in [Kind::A, Kind::Aaaa, Kind::Service] {
            assert_eq!(told(canary, kind).code, Code::NoName, "{canary}");
        }
    }
    assert_eq!(told("www.example.org", Kind::Service), Reply::empty(Code::Found));
    assert_eq!(told("pay.example.net", Kind::Other).code, Code::Refused);
    assert_eq!(told("portal.example.net", Kind::Other).code, Code::Refused);
    assert_eq!(told("printer.local", Kind::A).code, Code::NoName);
    assert_eq!(told("1.2.3.4.5.6.7.8.example.org", Kind::A).code, Code::Refused);
    assert_eq!(first(&settings, "www.example.org", Kind::A), Verdict::Forward);
}

#[test]
fn garden_addresses_are_opened_first_and_strangers_get_one() {
    let (settings, mut policy) = (settings(), Policy::new());
    let four = found(&["203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.4"], 250);
    for (name, learn) in
        [("pay.example.net", true), ("a.wx.example.net", true), ("wx.example.net", false)]
    {
        let asked = question(name, Kind::A);
        let from = (ZONE, payer(1));
        let decide =
            |policy: &mut Policy, now| policy.decide(&settings, from, &asked, Flight::Clear, now);
        assert_eq!(decide(&mut policy, START), Verdict::Forward);
        let kept = policy.settle(&settings, (&asked.name, Kind::A), Some(four.clone()), START);
        let wanted = if learn {
            Verdict::Learn(four.clone())
        } else {
            Verdict::Reply(found(&["203.0.113.1"], STRANGER_TTL))
        };
        assert_eq!(Policy::with_answer(&settings, ZONE, &asked.name, kept.unwrap()), wanted);
        // From the cache, too, they are opened before they are told.
        assert_eq!(decide(&mut policy, START), wanted);
    }
    // Another zone has a garden of its own.
    let asked = question("pay.example.net", Kind::A);
    let elsewhere = (ZoneId(1), payer(2));
    let verdict = policy.decide(&settings, elsewhere, &asked, Flight::Clear, START);
    assert_eq!(verdict, Verdict::Reply(found(&["203.0.113.1"], STRANGER_TTL)));
}

#[test]
fn addresses_of_our_own_side_are_not_believed() {
    let (mut settings, mut policy) = (settings(), Policy::new());
    let name: Name = "pay.example.net".parse().unwrap();
    let lie = found(&["10.0.0.1", "192.168.1.1", "100.64.0.9", "127.0.0.1", "203.0.113.1"], 60);
    let kept = policy.settle(&settings, (&name, Kind::A), Some(lie.clone()), START);
    assert_eq!(kept, Some(found(&["203.0.113.1"], 60)));
    let lie6 = found(&["::1", "fe80::1", "fd00::1", "ff02::1", "::ffff:10.0.0.1"], 60);
    let kept = policy.settle(&settings, (&name, Kind::Aaaa), Some(lie6), START);
    assert_eq!(kept, Some(found(&[], 60)));
    settings.private_answers = true;
    let kept = policy.settle(&settings, (&name, Kind::A), Some(lie), START).unwrap();
    assert_eq!(kept.addresses.len(), 4);
    assert!(kept.addresses.iter().all(|address| !address.is_loopback()));
}

#[test]
fn a_phone_that_wakes_is_not_held_up() {
    // Names as phones ask for them, across some of their domains; each for A and AAAA.
    let hosts = [
        "captive",
        "www",
        "api",
        "init-p01st.push",
        "gsp-ssl.ls",
        "configuration",
        "mesu",
        "time",
        "connectivitycheck",
        "play",
        "mtalk",
        "android.clients",
        "edge-mqtt",
        "gateway.icloud",
        "p57-escrowproxy",
        "weather-data",
        "short.weixin",
        "mp",
        "res.wx",
        "extshort.weixin",
    ];
    let domains = ["apple.com", "gstatic.com", "qq.com", "example.com.cn", "alipay.com"];
    let mut world = World::new();
    let mut asked = 0_u64;
    for host in hosts {
        for domain in domains {
            for kind in [Kind::A, Kind::Aaaa] {
                let now = BootTime(START.0 + asked * 50);
                let name = format!("{host}.{domain}");
                assert!(world.ask(payer(1), &name, kind, now), "{name}, question {asked}");
                asked += 1;
            }
        }
    }
    assert_eq!((asked, world.policy.counts.forwarded), (200, 200));
    // A second phone asks the same: nothing is forwarded, nothing is paid.
    assert!(world.ask(payer(2), "captive.apple.com", Kind::A, BootTime(START.0 + 10_000)));
    assert_eq!(world.policy.counts.forwarded, 200);
}

#[test]
fn two_hundred_names_of_one_domain_get_through() {
    let mut world = World::new();
    for number in 0..200 {
        let now = BootTime(START.0 + number * 50);
        assert!(world.ask(payer(1), &format!("host-{number:03}.example.com"), Kind::A, now));
    }
}

#[test]
fn a_tunnel_gets_less_than_a_hundred_bytes_a_second() {
    // The fattest names and addresses there are, 100 questions a second, for two minutes.
    for (devices, domains) in [(1, 1), (1, 50), (100, 1)] {
        let mut world = World::new();
        for turn in 0..12_000_u64 {
            let now = BootTime(START.0 + turn * 10);
            let label = format!("{turn:050}");
            let domain = turn % domains;
            let name = format!("{label}.{label}.tunnel{domain}.org");
            let device = u8::try_from(turn % devices).unwrap();
            world.ask(payer(device), &name, Kind::Aaaa, now);
        }
        let best = world.best_minute();
        assert!(best < 6000, "{devices} devices, {domains} domains: {best} bytes in a minute");
        assert!(world.policy.counts.over_budget > 10_000);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn no_device_and_no_domain_passes_its_budget(
        turns in prop::collection::vec(
            (0_u64..400, "[a-z0-9]{1,60}", 0_u8..3, any::<bool>()), 1..600),
        one_device in any::<bool>(),
    ) {
        let (mut world, mut now) = (World::new(), START);
        for (wait, label, pick, wide) in turns {
            now = BootTime(now.0 + wait);
            let kind = if wide { Kind::Aaaa } else { Kind::A };
            let (device, domain) = if one_device { (0, pick) } else { (pick, 0) };
            world.ask(payer(device), &format!("{label}.t{domain}.org"), kind, now);
        }
        prop_assert!(world.best_minute() < 6000);
    }
}

#[test]
fn a_spent_budget_still_gives_old_answers_and_garden_names() {
    let mut world = World::new();
    assert!(world.ask(payer(1), "captive.apple.com", Kind::A, START));
    let later = START + Duration::from_secs(120);
    for number in 0..400 {
        world.ask(payer(1), &format!("{number:060}.t{}.org", number % 3), Kind::A, later);
        world.ask(payer(1), &format!("{number:03}.t{}.org", number % 3), Kind::A, later);
    }
    assert!(!world.ask(payer(1), "new.example.com", Kind::A, later));
    assert!(world.ask(payer(1), "captive.apple.com", Kind::A, later));
    let asked = question("pay.example.net", Kind::A);
    let from = (ZONE, payer(1));
    let verdict = world.policy.decide(&world.settings, from, &asked, Flight::Clear, later);
    assert_eq!(verdict, Verdict::Forward);
}

#[test]
fn only_while_the_uplink_is_down_is_a_name_forged() {
    let (mut policy, mut settings) = (Policy::new(), settings());
    let asked = |name: &str| question(name, Kind::A);
    let placeholder = Verdict::Reply(found(&["198.18.0.1"], PLACEHOLDER_TTL));
    let failed = Verdict::Reply(Reply::empty(Code::Failed));
    let fail = |policy: &mut Policy, settings: &Settings, name: &str| {
        policy.settle(settings, (&name.parse().unwrap(), Kind::A), None, START);
    };
    // One domain whose servers are silent proves nothing, however often it fails.
    for host in ["a", "b", "c", "d"] {
        fail(&mut policy, &settings, &format!("{host}.example.org"));
    }
    fail(&mut policy, &settings, "b.example.com");
    assert_eq!(policy.without_answer(&settings, ZONE, &asked("x.org"), START), failed);
    fail(&mut policy, &settings, "c.example.cn");
    assert_eq!(policy.without_answer(&settings, ZONE, &asked("x.org"), START), placeholder);
    // One question a second looks whether it is over.
    let decide = |policy: &mut Policy, settings: &Settings, name: &str, now| {
        policy.decide(settings, (ZONE, payer(1)), &asked(name), Flight::Clear, now)
    };
    let probe = Verdict::Probe(found(&["198.18.0.1"], PLACEHOLDER_TTL));
    assert_eq!(decide(&mut policy, &settings, "x.org", START), probe);
    assert_eq!(decide(&mut policy, &settings, "y.org", START), placeholder);
    let later = START + PROBE_EVERY;
    assert_eq!(decide(&mut policy, &settings, "y.org", later), probe);
    let answer = Some(found(&["203.0.113.1"], 60));
    policy.settle(&settings, (&"y.org".parse().unwrap(), Kind::A), answer, later);
    assert_eq!(decide(&mut policy, &settings, "z.org", later), Verdict::Forward);
    for domain in ["d.org", "e.org", "f.org"] {
        fail(&mut policy, &settings, domain);
    }
    assert_eq!(decide(&mut policy, &settings, "r.org", later), placeholder);
    assert_eq!(decide(&mut policy, &settings, "pay.example.net", later), Verdict::Forward);
    // Told so, it holds whatever the resolvers say, but what is known stays true.
    settings.wan_down = true;
    assert_eq!(decide(&mut policy, &settings, "q.org", later), placeholder);
    assert_eq!(decide(&mut policy, &settings, "pay.example.net", later), placeholder);
    let kept = Verdict::Reply(found(&["203.0.113.1"], STRANGER_TTL));
    assert_eq!(decide(&mut policy, &settings, "y.org", later), kept);
    let v6 = policy.without_answer(&settings, ZONE, &question("q.org", Kind::Aaaa), later);
    assert_eq!(v6, Verdict::Reply(found(&["2001:2::1"], PLACEHOLDER_TTL)));
    settings.placeholder = None;
    assert_eq!(decide(&mut policy, &settings, "q.org", later), failed);
}

#[test]
fn too_much_under_way_is_dropped() {
    let (mut policy, settings) = (Policy::new(), settings());
    let asked = question("www.example.org", Kind::A);
    let mut decide = |flight| policy.decide(&settings, (ZONE, payer(1)), &asked, flight, START);
    assert_eq!(decide(Flight::UnderWay), Verdict::Join);
    assert_eq!(decide(Flight::Full), Verdict::Drop);
    assert_eq!((policy.counts.joined, policy.counts.overloaded), (1, 1));
}
