//! Golden rulesets, and the adapter against the kernel in a network namespace of the test's own.

use std::fmt::Write as _;
use std::time::Duration;

use tokio::sync::mpsc;

use super::*;
use crate::adapters::inbox::Envelope;
use crate::domain::effect::Grant;
use crate::domain::event::Event;
use crate::domain::names::{Mac, Mark, SessionId, ZoneId};
use crate::domain::policy::Limits;
use crate::wire::nft::attr::Attrs;
use crate::wire::nft::object::Rule;

mod alike;
mod redirections;

fn plan() -> Plan {
    Plan {
        zones: vec![ZonePlan {
            name: "guest".into(),
            interface: "br-guest".into(),
            roam: false,
            garden: Vec::new(),
            router_ports: Vec::new(),
        }],
        mark_mask: 0xffff_0000,
        app: None,
        names: [0xa, 0xb, 0xc, 0xd],
        dns_port: 2054,
        portal_ports: vec![2050],
        intercept_port: 2051,
        flows: (1000, 200),
        allow_flow_offload: false,
        flags: 0,
        closed: false,
    }
}

fn two_zones() -> Plan {
    let mut plan = plan();
    plan.zones[0].garden = ["198.51.100.0/24", "198.51.100.7", "2001:db8:1::/48"]
        .map(|network| network.parse().unwrap())
        .to_vec();
    plan.app = Some(vec!["203.0.113.64/26".parse().unwrap()]);
    plan.zones.push(ZonePlan {
        name: "vip".into(),
        interface: "br-vip".into(),
        roam: false,
        garden: Vec::new(),
        router_ports: vec![RouterPort { udp: false, port: 9100 }],
    });
    plan
}

use crate::config::RouterPort;

fn grant(number: u16) -> Grant {
    let [high, low] = number.to_be_bytes();
    Grant {
        session: SessionId(u64::from(number)),
        zone: ZoneId(0),
        mac: Mac([2, 0, 0, 0, high, low]),
        mark: Mark(number),
        left: Some(Duration::from_secs(3600)),
        limits: Limits { quota: Some(1_000_000), upload_rate: Some(50_000), ..Limits::default() },
        used_up: 10,
        used_down: 20,
    }
}

/// The ruleset as the kernel's attributes say it, a line an object.
fn decoded(plan: &Plan) -> String {
    let ruleset = plan.ruleset();
    let mut text = String::new();
    for set in &ruleset.sets {
        writeln!(text, "set {} key {} bytes flags {:#x}", set.name, set.key_len, set.flags)
            .unwrap();
    }
    for (set, elements) in fixed::fixed_elements(plan) {
        for element in elements {
            let end = if element.interval_end { " end" } else { "" };
            writeln!(text, "element {set} {:02x?}{end}", element.key).unwrap();
        }
    }
    for chain in &ruleset.chains {
        match &chain.hook {
            Some(hook) => {
                writeln!(
                    text,
                    "chain {} {} hook {} priority {}",
                    chain.name, hook.kind, hook.hook, hook.priority
                )
            }
            None => writeln!(text, "chain {}", chain.name),
        }
        .unwrap();
        for rule in ruleset.rules.iter().filter(|rule| rule.chain == chain.name) {
            let mut attrs = Attrs::new();
            rule.emit(ruleset::TABLE, &mut attrs);
            let (_, back) = Rule::parse(&attrs.finish().unwrap()).unwrap();
            assert_eq!(&back, rule);
            writeln!(text, "    {:?}", back.exprs).unwrap();
        }
    }
    text
}

/// Compares with a file in `tests/golden`; `BLESS=1` writes it anew.
fn golden(name: &str, found: &str) {
    let path = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, found).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), found, "{path} differs; BLESS=1 renews it");
}

#[test]
#[cfg(target_endian = "little")] // marks and interface types are in the host's order
fn rulesets_are_as_reviewed() {
    golden("one-zone.txt", &decoded(&plan()));
    golden("two-zones-garden.txt", &decoded(&two_zones()));
}

#[test]
fn pass_marks_stay_apart_from_sessions() {
    let plan = plan();
    assert_eq!(plan.most_sessions(), u32::from(Mark::MOST));
    for mac in [[2, 0, 0, 0, 0xaa, 1], [0xfe; 6], [0xff; 6]] {
        let pass = plan.pass_mark(Mac(mac));
        assert_eq!(pass & 0xc000_0000, 0x8000_0000);
        assert_eq!(pass & !plan.mark_mask, 0);
    }
    assert_eq!(plan.sole_bit(), 0x4000_0000);
    assert_eq!(sessions::number_bits(&plan, Mark(Mark::MOST)), 0x3fff_0000);
}

/// Puts this test's thread, and all that it starts, in a network namespace that ends with it.
fn own_namespace() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
        .expect("a network namespace: these tests need root");
}

fn start(plan: Plan) -> (Handle, Found, mpsc::Receiver<Envelope>) {
    let (inbox, outlet) = Inbox::new();
    let (handle, found) = open(plan, inbox).unwrap();
    if matches!(found, Found::Nothing) {
        // As every start does once it knows who is online.
        handle.submit(Firewall::Rebuild(Vec::new())).unwrap();
    }
    (handle, found, outlet)
}

fn next(outlet: &mut mpsc::Receiver<Envelope>) -> Event {
    for _ in 0..5_000 {
        if let Ok(envelope) = outlet.try_recv() {
            return envelope.event;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("no event in 5,000 looks");
}

fn nft(arguments: &[&str]) -> std::process::Output {
    std::process::Command::new("nft").args(arguments).output().expect("nft: install nftables")
}

fn granted(handle: &Handle, outlet: &mut mpsc::Receiver<Envelope>, number: u16) {
    handle.submit(Firewall::Grant(grant(number))).unwrap();
    assert!(matches!(next(outlet), Event::Granted(SessionId(n)) if n == u64::from(number)));
}

#[test]
fn a_session_outlives_the_daemon_and_is_adopted() {
    own_namespace();
    let (handle, found, mut outlet) = start(two_zones());
    assert!(matches!(found, Found::Nothing));
    granted(&handle, &mut outlet, 1);
    granted(&handle, &mut outlet, 2);
    handle.submit(Firewall::Revoke(grant(1))).unwrap();
    // A second grant of the same device replaces the first.
    granted(&handle, &mut outlet, 2);
    handle.stop(OnStop::Keep);

    let (handle, found, mut outlet) = start(two_zones());
    let Found::Ours(live) = found else { panic!("the table was not adopted") };
    let [live] = live.as_slice() else { panic!("one session was left: {live:?}") };
    let wanted = grant(2);
    assert_eq!((live.session, live.mac, live.mark), (wanted.session, wanted.mac, wanted.mark));
    assert!(live.left.unwrap() <= Duration::from_secs(3600));
    handle.submit(Firewall::ReadUsage).unwrap();
    let Event::Usage(usage) = next(&mut outlet) else { panic!("no usage") };
    let [usage] = usage.as_slice() else { panic!("one session was left: {usage:?}") };
    assert_eq!((usage.session, usage.up, usage.down), (wanted.session, 10, 20));
    handle.stop(OnStop::Closed);

    let (handle, found, _outlet) = start(two_zones());
    // Nobody is in it, but the record is to be asked who was.
    assert!(matches!(found, Found::Nothing));
    handle.stop(OnStop::Open);
    assert!(!nft(&["list", "table", "inet", "maitred"]).status.success());
}

#[test]
fn a_start_that_ends_before_it_knows_its_guests_leaves_no_table_without_them() {
    own_namespace();
    for rebuilt in [None, None, Some(vec![grant(1)])] {
        let (inbox, _outlet) = Inbox::new();
        let (handle, found) = open(plan(), inbox).unwrap();
        assert!(matches!(found, Found::Nothing));
        if let Some(grants) = rebuilt {
            handle.submit(Firewall::Rebuild(grants)).unwrap();
        }
        handle.stop(OnStop::Keep);
    }
    let (handle, found, _outlet) = start(plan());
    assert!(matches!(found, Found::Ours(live) if live.len() == 1));
    handle.stop(OnStop::Keep);
}

#[test]
fn another_plan_replaces_the_table() {
    own_namespace();
    let (handle, _, mut outlet) = start(plan());
    granted(&handle, &mut outlet, 1);
    handle.stop(OnStop::Keep);
    let (handle, found, _outlet) = start(two_zones());
    assert!(matches!(found, Found::Nothing));
    handle.stop(OnStop::Keep);
    // What a garden's old names led to does not stay open.
    let (handle, found, _outlet) = start(Plan { names: [1, 2, 3, 4], ..two_zones() });
    assert!(matches!(found, Found::Nothing));
    handle.stop(OnStop::Keep);
}

#[test]
fn gardens_with_other_names_are_told_apart() {
    let fingerprint = |garden: &str| {
        let text = format!(
            "[store]\nid = \"s\"\nname = \"S\"\ntime_zone = \"CST-8\"\n[[zone]]\n\
             name = \"guest\"\ninterface = \"br-guest\"\nwalled_garden = [{garden}]"
        );
        garden::fingerprint(&Config::parse(&text, "test").unwrap())
    };
    let (one, other) = ("\"a.example\"", "\"*.a.example\"");
    assert_eq!(fingerprint(one), fingerprint(&format!("{one}, \"192.0.2.1\"")));
    assert_ne!(fingerprint(one), fingerprint(other));
    assert_ne!(fingerprint(one), fingerprint(&format!("{one}, {other}")));
}

#[test]
fn nobody_else_changes_a_table_that_is_owned() {
    own_namespace();
    let (handle, _, mut outlet) = start(plan());
    granted(&handle, &mut outlet, 1);
    assert!(nft(&["flush", "ruleset"]).status.success());
    assert!(!nft(&["delete", "table", "inet", "maitred"]).status.success());
    assert!(nft(&["list", "map", "inet", "maitred", "granted"]).status.success());
    let (inbox, _second) = Inbox::new();
    assert!(matches!(open(plan(), inbox), Err(FirewallError::Owned)));
    handle.stop(OnStop::Keep);
}

#[test]
fn a_table_that_is_not_owned_is_watched_and_rebuilt() {
    own_namespace();
    // What a kernel before 6.9 leaves: a plain table, which cannot be claimed.
    assert!(nft(&["add", "table", "inet", "maitred"]).status.success());
    let (handle, found, mut outlet) = start(plan());
    assert!(matches!(found, Found::Nothing));
    granted(&handle, &mut outlet, 1);
    assert!(nft(&["flush", "ruleset"]).status.success());
    assert!(matches!(next(&mut outlet), Event::TableLost));
    handle.submit(Firewall::Rebuild(vec![grant(1), grant(3)])).unwrap();
    assert!(matches!(next(&mut outlet), Event::Granted(SessionId(1))));
    assert!(matches!(next(&mut outlet), Event::Granted(SessionId(3))));
    handle.stop(OnStop::Keep);
}

#[test]
fn a_live_change_keeps_what_is_used() {
    own_namespace();
    let (handle, _, mut outlet) = start(plan());
    granted(&handle, &mut outlet, 1);
    // The domain's figures are a poll old: the kernel's count.
    let changed = Grant {
        used_up: 0,
        used_down: 0,
        limits: Limits { quota: Some(9_000_000), ..Limits::default() },
        ..grant(1)
    };
    handle.submit(Firewall::Replace(changed)).unwrap();
    assert!(matches!(next(&mut outlet), Event::Granted(SessionId(1))));
    handle.submit(Firewall::ReadUsage).unwrap();
    let Event::Usage(usage) = next(&mut outlet) else { panic!("no usage") };
    assert_eq!((usage[0].up, usage[0].down), (10, 20));
    // Without a quota, nothing of it stays.
    let limits = Limits { download_rate: Some(9_000), ..Limits::default() };
    handle.submit(Firewall::Replace(Grant { limits, ..grant(1) })).unwrap();
    assert!(matches!(next(&mut outlet), Event::Granted(SessionId(1))));
    handle.submit(Firewall::ReadUsage).unwrap();
    let Event::Usage(usage) = next(&mut outlet) else { panic!("no usage") };
    assert_eq!((usage[0].up, usage[0].down), (10, 20));
    let listed = nft(&["list", "set", "inet", ruleset::TABLE, ruleset::QUOTA]);
    assert!(!String::from_utf8_lossy(&listed.stdout).contains("elements"));
    handle.stop(OnStop::Keep);
}

#[test]
fn ten_thousand_sessions_are_adopted() {
    own_namespace();
    let (handle, _, mut outlet) = start(plan());
    handle.submit(Firewall::Rebuild((1..=10_000).map(grant).collect())).unwrap();
    for _ in 0..10_000 {
        assert!(matches!(next(&mut outlet), Event::Granted(_)));
    }
    handle.stop(OnStop::Keep);
    let (handle, found, _outlet) = start(plan());
    assert!(matches!(found, Found::Ours(live) if live.len() == 10_000));
    handle.stop(OnStop::Keep);
}

#[test]
fn learned_addresses_are_open_until_they_time_out() {
    own_namespace();
    let (handle, _, _outlet) = start(two_zones());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let garden = handle.garden();
    let learn = |zone, addresses: &[&str]| {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        runtime.block_on(garden.learn(Whose::Zone(ZoneId(zone)), addresses))
    };
    // Twice the same, once more, and in another zone: each is renewed, none is refused.
    let both = ["203.0.113.5", "2001:db8:9::5", "203.0.113.5"];
    assert_eq!(learn(0, &both), Ok(()));
    assert_eq!(learn(0, &both), Ok(()));
    assert_eq!(learn(1, &["203.0.113.5"]), Ok(()));
    assert_eq!(learn(0, &[]), Ok(()));
    assert_eq!(learn(2, &["203.0.113.6"]), Err(NotOpened), "no such zone");
    let mut kernel = Netfilter::open().unwrap();
    let held = kernel.elements(ruleset::TABLE, garden::LEARNED4).unwrap();
    assert_eq!(held.len(), 2);
    for element in &held {
        let left = Duration::from_millis(element.expires_ms.unwrap());
        assert!(left > Duration::from_mins(14) && left <= garden::LEARNED_FOR, "{left:?}");
    }
    assert_eq!(kernel.elements(ruleset::TABLE, garden::LEARNED6).unwrap().len(), 1);
    handle.stop(OnStop::Keep);
    assert_eq!(learn(0, &["203.0.113.5"]), Err(NotOpened), "nobody is there");
}

#[test]
fn a_kernel_without_flow_tables_has_none() {
    own_namespace();
    assert_eq!(Netfilter::open().unwrap().flow_tables().unwrap(), []);
}
