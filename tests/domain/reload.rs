//! New rules, other limits and other zones while guests are online.

use maitred::domain::effect::{Effect, EndReason, Firewall, Record, Report, View};
use maitred::domain::event::{Ask, Client, Command, Event, Evidence, Sighting};
use maitred::domain::names::{Mac, ZoneId};
use maitred::domain::policy::{Identity, Limits, Overrides, Policy};
use maitred::domain::saved::Snapshot;

use crate::house::*;

fn reload(house: &mut House, policy: Policy) -> Vec<Effect> {
    let request = house.request();
    let mut effects = house.tell(Event::Reload { request, policy: Box::new(policy) });
    effects.extend(house.agree(&effects));
    effects
}

fn ends(effects: &[Effect]) -> Vec<EndReason> {
    let reason = |record| match record {
        Record::SessionEnded { reason, .. } => Some(reason),
        _ => None,
    };
    records(effects).into_iter().filter_map(reason).collect()
}

#[test]
fn a_reload_keeps_sessions_and_their_limits() {
    let mut house = House::new(policy());
    house.log_in(mac(1), 1);
    let before = house.domain.grants(house.now.boot);
    let mut rules = policy();
    rules.zones[0].session_timeout = seconds(60);
    rules.zones[0].limits.quota = Some(5);
    let effects = reload(&mut house, rules);
    assert!(firewall(&effects).is_empty() && records(&effects).is_empty(), "{effects:?}");
    assert_eq!(house.domain.grants(house.now.boot), before);
    house.log_in(mac(2), 2);
    let new = house.domain.grants(house.now.boot).pop().unwrap();
    assert_eq!((new.left, new.limits.quota), (Some(seconds(60)), Some(5)));
}

#[test]
fn who_is_blocked_goes_at_once_and_reads_why() {
    let mut house = House::new(policy());
    let session = house.log_in(mac(1), 1);
    house.log_in(mac(2), 2);
    let mut rules = policy();
    rules.blocked_macs.insert(mac(1));
    let effects = reload(&mut house, rules);
    let [Firewall::Block(blocked), Firewall::Revoke(grant)] = &firewall(&effects)[..] else {
        panic!("{effects:?}")
    };
    assert_eq!((grant.session, blocked), (session, &[mac(1)].into()));
    assert_eq!(ends(&effects), [EndReason::Revoked]);
    for ask in [Ask::Show, code_to(1), following(token(mac(1), 1))] {
        assert_eq!(house.page(mac(1), ask), View::Blocked);
    }
    let grant =
        Command::Grant { mac: mac(1), zone: None, length: None, limits: Overrides::default() };
    assert!(matches!(house.command(grant), Report::Refused(_)));
    assert!(matches!(house.page(mac(2), Ask::Show), View::Online { .. }));
    let effects = reload(&mut house, policy());
    assert_eq!(firewall(&effects), [Firewall::Block([].into())]);
    assert!(!matches!(house.page(mac(1), Ask::Show), View::Blocked | View::Online { .. }));
}

#[test]
fn who_is_trusted_is_online_without_limits_and_no_visitor() {
    let mut house = House::new(policy());
    let session = house.log_in(mac(1), 1);
    house.seen(mac(2));
    let mut rules = policy();
    rules.trusted_macs.extend([mac(1), mac(2), mac(3)]);
    let effects = reload(&mut house, rules.clone());
    // The guest's session goes on as another kind; nothing of it is cut.
    let changes = firewall(&effects);
    assert!(
        matches!(&changes[..], [Firewall::Replace(one), Firewall::Grant(two)]
        if one.session == session && one.left.is_none() && two.mac == mac(2)),
        "{changes:?}"
    );
    let closed =
        records(&effects).iter().filter(|r| matches!(r, Record::VisitClosed { .. })).count();
    assert_eq!(closed, 2);
    assert!(
        records(&effects).iter().any(|record| matches!(record,
        Record::SessionChanged { session: id, identity: Identity::Trusted, .. } if *id == session))
    );
    assert!(ends(&effects).is_empty());
    // One who was never seen comes in with the first frame.
    assert!(granted(&house.seen(mac(3))).is_some());
    house.pass(seconds(9 * 3600));
    assert_eq!(house.grants().len(), 3);
    let effects = reload(&mut house, policy());
    assert_eq!(ends(&effects).len(), 3);
    assert!(house.grants().is_empty());
}

#[test]
fn who_is_expected_is_let_in_and_counted() {
    let mut house = House::new(policy());
    let mut rules = policy();
    rules.preemptive_macs.insert(mac(1));
    rules.zones[0].limits.quota = Some(1000);
    reload(&mut house, rules.clone());
    let effects = house.seen(mac(1));
    house.agree(&effects);
    let grant = house.domain.grants(house.now.boot).pop().unwrap();
    assert_eq!((grant.limits.quota, grant.left), (Some(1000), Some(seconds(4 * 3600))));
    let opened = |record: &Record| matches!(record, Record::VisitOpened { .. });
    assert!(records(&effects).iter().any(opened));
    // Logging out is no way to another quota.
    assert_eq!(
        house.page(mac(1), Ask::Logout),
        View::Ended { reason: EndReason::Logout, extend: false }
    );
    assert!(granted(&house.seen(mac(1))).is_none());
    house.pass(seconds(4 * 3600));
    let effects = house.seen(mac(1));
    house.agree(&effects);
    assert!(granted(&effects).is_some());
    // A restart keeps it, unless the list does not.
    let snapshot = |house: &House| {
        let grants = house.domain.grants(house.now.boot);
        let saved = grants.into_iter().map(|grant| maitred::domain::saved::SavedSession {
            grant,
            identity: Identity::Preemptive,
            started: None,
            extended: 0,
        });
        Snapshot { sessions: saved.collect(), ..Snapshot::default() }
    };
    for (rules, kept) in [(rules, 1), (policy(), 0)] {
        let mut next = House::new(rules);
        next.domain.restore(snapshot(&house), None, house.now);
        assert_eq!(next.grants().len(), kept);
    }
}

#[test]
fn other_zones_are_refused() {
    let mut house = House::new(policy());
    let mut rules = policy();
    rules.zones[0].name = "other".into();
    let request = house.request();
    let effects = house.tell(Event::Reload { request, policy: Box::new(rules) });
    assert!(matches!(&effects[..], [Effect::Reply { .. }]), "{effects:?}");
    assert_eq!(token_page(&mut house), None);
}

/// What a token for the zone `guest` is refused with.
fn token_page(house: &mut House) -> Option<View> {
    let page = house.page(mac(1), following(token(mac(1), 1)));
    (!matches!(page, View::Online { .. })).then_some(page)
}

#[test]
fn limits_change_at_once_and_keep_what_is_used() {
    let mut rules = policy();
    rules.zones[0].limits = Limits { quota: Some(900), upload_rate: Some(10), ..Limits::default() };
    let mut house = House::new(rules);
    let session = house.log_in(mac(1), 1);
    let usage = maitred::domain::event::Usage { session, up: 300, down: 400, spent: false };
    house.tell(Event::Usage(vec![usage]));
    let limits = Overrides { quota: Some(5000), upload_rate: Some(0), ..Overrides::default() };
    let request = house.request();
    let command = Command::Limit { mac: mac(1), limits };
    let effects = house.tell(Event::Control { request, command });
    let wanted = Limits { quota: Some(5000), ..Limits::default() };
    assert!(matches!(&firewall(&effects)[..], [Firewall::Replace(grant)]
        if grant.limits == wanted && (grant.used_up, grant.used_down) == (300, 400)));
    assert!(records(&effects).iter().any(|record| matches!(record,
        Record::SessionChanged { limits, identity: Identity::Guest(_), .. } if *limits == wanted)));
    house.agree(&effects);
    let left = house.domain.grants(house.now.boot)[0].left;
    let command = Command::Limit { mac: mac(2), limits };
    assert!(matches!(house.command(command), Report::Refused(_)));
    let length = Some(seconds(60));
    let limits = Overrides { download_rate: Some(7), ..Overrides::default() };
    let grant = Command::Grant { mac: mac(1), zone: None, length, limits };
    assert_eq!(house.command(grant), Report::Done);
    let now = &house.domain.grants(house.now.boot)[0];
    assert_eq!(now.limits, Limits { download_rate: Some(7), ..wanted });
    assert_eq!((left, now.left), (Some(seconds(4 * 3600)), length));
}

fn two_zones(roam: bool) -> Policy {
    let mut rules = policy();
    rules.zones[0].roam = roam;
    let second = maitred::domain::policy::ZonePolicy {
        name: "cafe".into(),
        max_clients: 1,
        ..rules.zones[0].clone()
    };
    rules.zones.push(second);
    rules
}

fn seen_in(house: &mut House, zone: u8, mac: Mac) -> Vec<Effect> {
    let effects = house.tell(Event::Seen(Sighting {
        zone: ZoneId(zone),
        mac,
        address: Some(address(mac)),
        hostname: None,
        evidence: Evidence::Arp,
    }));
    house.agree(&effects);
    effects
}

fn show_in(house: &mut House, zone: u8, mac: Mac) -> Option<View> {
    let request = house.request();
    let client = Client { zone: ZoneId(zone), mac, address: address(mac) };
    view(&house.tell(Event::Portal { request, client, ask: Ask::Show }))
}

#[test]
fn a_grant_is_good_in_its_zone() {
    let mut house = House::new(two_zones(false));
    house.log_in(mac(1), 1);
    seen_in(&mut house, 1, mac(1));
    assert_eq!(show_in(&mut house, 1, mac(1)), Some(View::Phone { refusal: None }));
    assert!(matches!(show_in(&mut house, 0, mac(1)), Some(View::Online { .. })));
}

#[test]
fn where_zones_roam_a_device_is_one_with_one_session_and_one_visit() {
    let mut house = House::new(two_zones(true));
    let session = house.log_in(mac(1), 1);
    house.pass(seconds(100));
    let effects = seen_in(&mut house, 1, mac(1));
    assert!(firewall(&effects).is_empty(), "the kernel holds it in both: {effects:?}");
    assert!(!records(&effects).iter().any(|r| matches!(r, Record::VisitOpened { .. })));
    let left = Some(seconds(4 * 3600 - 100));
    assert!(
        matches!(show_in(&mut house, 1, mac(1)), Some(View::Online { left: l, .. }) if l == left)
    );
    let Report::Clients(rows) = house.command(Command::Clients) else { panic!() };
    assert_eq!((rows.len(), rows[0].zone.as_str()), (1, "cafe"));
    // It counts where it is: the café's one place is taken, the other zone's is free again.
    let grant = |mac, zone| Command::Grant {
        mac,
        zone: Some(ZoneId(zone)),
        length: None,
        limits: Overrides::default(),
    };
    assert_eq!(show_in(&mut house, 1, mac(2)), Some(View::Phone { refusal: None }));
    let request = house.request();
    let client = Client { zone: ZoneId(1), mac: mac(2), address: address(mac(2)) };
    let effects = house.tell(Event::Portal { request, client, ask: code_to(2) });
    assert_eq!(
        view(&effects),
        Some(View::Phone { refusal: Some(maitred::domain::effect::Refusal::Full) })
    );
    // A grant for another zone is more time for the same session.
    assert_eq!(house.command(grant(mac(1), 0)), Report::Done);
    assert_eq!(house.grants(), [session]);
    assert_eq!(house.command(Command::Revoke { mac: mac(1) }), Report::Done);
    assert!(house.grants().is_empty());
    let goodbye = house.pass(seconds(4000));
    let closed = |r: &&Record| matches!(r, Record::VisitClosed { .. });
    assert_eq!(records(&goodbye).iter().filter(closed).count(), 2, "one of each device");
}

#[test]
fn a_device_in_two_zones_at_once_is_counted_and_cut_off_where_either_wants_that() {
    for (roam, cut) in [(true, None), (true, Some(0)), (true, Some(1)), (false, Some(0))] {
        let mut rules = two_zones(roam);
        if let Some(zone) = cut {
            rules.zones[zone].cut_on_move = true;
        }
        let mut house = House::new(rules);
        house.log_in(mac(1), 1);
        seen_in(&mut house, 1, mac(2));
        let both = [ZoneId(0), ZoneId(1)];
        let effects = house.tell(Event::Doubled(vec![(mac(1), both), (mac(2), both)]));
        let reasons = ends(&effects);
        assert_eq!(reasons, if cut.is_some() { vec![EndReason::Moved] } else { vec![] });
        let Report::Status(status) = house.command(Command::Status) else { panic!() };
        assert_eq!(status.moves, 1, "one who is not online is nobody's loss");
    }
}

#[test]
fn a_restart_finds_a_roaming_session_wherever_the_kernel_names_it() {
    let mut house = House::new(two_zones(true));
    let session = house.log_in(mac(1), 1);
    let grant = house.domain.grants(house.now.boot).pop().unwrap();
    let saved = maitred::domain::saved::SavedSession {
        identity: Identity::Staff,
        started: None,
        extended: 0,
        grant: grant.clone(),
    };
    let snapshot = Snapshot { sessions: vec![saved], ..Snapshot::default() };
    let live = maitred::domain::saved::Live {
        session,
        zone: ZoneId(1),
        mac: mac(1),
        mark: grant.mark,
        left: grant.left,
    };
    for (rules, kept) in [(two_zones(true), 1), (two_zones(false), 0)] {
        let mut next = House::new(rules);
        next.domain.restore(snapshot.clone(), Some(vec![live.clone()]), house.now);
        assert_eq!(next.grants().len(), kept);
    }
}
