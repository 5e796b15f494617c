//! More time for a guest, and what the page says while the kernel decides.

use maitred::domain::effect::{EndReason, Firewall, Record, View};
use maitred::domain::event::{Ask, Command, Event, Usage};
use maitred::domain::policy::Overrides;
use maitred::domain::saved::{SavedSession, Snapshot};

use crate::house::*;

#[test]
fn a_guest_lengthens_a_session_as_often_as_the_zone_allows() {
    let mut rules = policy();
    rules.zones[0].extend = 2;
    let length = rules.zones[0].session_timeout;
    let mut house = House::new(rules);
    let id = house.log_in(mac(1), 1);
    let View::Online { left, extend: true, .. } = house.page(mac(1), Ask::Show) else { panic!() };
    assert_eq!(left, Some(length));
    // While it runs: the time is added, the session and what it has used stay.
    house.pass(seconds(30));
    house.tell(Event::Usage(vec![Usage { session: id, up: 300, down: 200, spent: false }]));
    let View::Online { left, used, extend, .. } = house.page(mac(1), Ask::Extend) else { panic!() };
    let rest = (length * 2).saturating_sub(seconds(30));
    assert_eq!((left, used, extend), (Some(rest), (300, 200), true));
    assert_eq!(house.grants(), [id]);
    // After it has run out, without a code: a session of its own.
    house.pass(rest);
    let reason = EndReason::SessionTimeout;
    assert_eq!(house.page(mac(1), Ask::Show), View::Ended { reason, extend: true });
    let View::Online { left, extend, .. } = house.page(mac(1), Ask::Extend) else { panic!() };
    assert_eq!((left, extend), (Some(length), false));
    // Twice is twice.
    assert!(matches!(house.page(mac(1), Ask::Extend), View::Online { left: l, .. } if l == left));
    house.pass(length);
    assert_eq!(house.page(mac(1), Ask::Show), View::Ended { reason, extend: false });
    assert!(matches!(house.page(mac(1), Ask::Extend), View::Phone { .. }));
    assert!(house.grants().is_empty());
}

#[test]
fn a_start_forgets_no_extension() {
    let mut rules = policy();
    rules.zones[0].extend = 1;
    let mut first = House::new(rules.clone());
    let session = first.log_in(mac(1), 1);
    let effects = first.ask(mac(1), Ask::Extend);
    let changed = records(&effects).into_iter().find_map(|record| match record {
        Record::SessionChanged { identity, extended, .. } => Some((identity, extended)),
        _ => None,
    });
    let (identity, extended) = changed.unwrap();
    let grant = first.domain.grants(first.now.boot).pop().unwrap();
    assert_eq!((grant.session, extended), (session, 1));
    let saved = SavedSession { grant, identity, started: None, extended };
    let mut house = House::new(rules);
    let snapshot = Snapshot { sessions: vec![saved], ..Snapshot::default() };
    drop(house.domain.restore(snapshot, None, house.now));
    assert!(matches!(house.page(mac(1), Ask::Show), View::Online { extend: false, .. }));
}

#[test]
fn only_time_that_ran_out_is_given_anew() {
    let mut rules = policy();
    rules.zones[0].extend = 9;
    let mut house = House::new(rules);
    house.log_in(mac(1), 1);
    house.page(mac(1), Ask::Logout);
    assert!(matches!(house.page(mac(1), Ask::Extend), View::Phone { .. }));
    house.log_in(mac(2), 2);
    house.command(Command::Revoke { mac: mac(2) });
    let reason = EndReason::Revoked;
    assert_eq!(house.page(mac(2), Ask::Show), View::Ended { reason, extend: false });
    assert!(matches!(house.page(mac(2), Ask::Extend), View::Phone { .. }));
    // Nor does a stranger, or a device that staff let in for a while.
    assert!(matches!(house.page(mac(3), Ask::Extend), View::Phone { .. }));
    let (length, limits) = (Some(seconds(60)), Overrides::default());
    house.command(Command::Grant { mac: mac(3), zone: None, length, limits });
    let View::Online { extend, .. } = house.page(mac(3), Ask::Extend) else { panic!() };
    assert!(!extend && house.grants().len() == 1);
}

#[test]
fn a_page_is_not_shown_before_the_counters_of_a_quota_are_read() {
    let mut rules = policy();
    rules.zones[0].limits.quota = Some(1000);
    let mut house = House::new(rules);
    let id = house.log_in(mac(1), 1);
    let asked = house.ask(mac(1), Ask::Show);
    assert!(view(&asked).is_none() && firewall(&asked) == [Firewall::ReadUsage]);
    let told = house.tell(Event::Usage(vec![Usage { session: id, up: 1, down: 2, spent: false }]));
    assert!(matches!(view(&told), Some(View::Online { used: (1, 2), .. })));
    // The kernel let go of it: the page says why, at once.
    house.pass(seconds(2));
    assert!(view(&house.ask(mac(1), Ask::Show)).is_none());
    let told = house.tell(Event::Usage(Vec::new()));
    assert!(matches!(view(&told), Some(View::Ended { reason: EndReason::Quota, .. })));
    assert!(matches!(house.page(mac(1), Ask::Show), View::Ended { .. }));
    house.pass(seconds(600));
    assert!(matches!(house.page(mac(1), Ask::Show), View::Phone { .. }), "another day");
}

#[test]
fn a_quota_is_watched_closely_only_near_its_end() {
    let readings = |quota: u64| {
        let mut rules = policy();
        rules.zones[0].limits.quota = Some(quota);
        let mut house = House::new(rules);
        house.log_in(mac(1), 1);
        let effects = house.pass(seconds(60));
        firewall(&effects).into_iter().filter(|effect| *effect == Firewall::ReadUsage).count()
    };
    assert_eq!((readings(10_000_000_000), readings(125_000_000), readings(1_000_000)), (2, 6, 30));
}

#[test]
fn a_quota_that_the_kernel_has_reached_ends_the_session() {
    let mut rules = policy();
    rules.zones[0].limits.quota = Some(100_000);
    let mut house = House::new(rules);
    let id = house.log_in(mac(1), 1);
    house.pass(seconds(2));
    // The packet that reached it was large, and is not counted.
    house.tell(Event::Usage(vec![Usage { session: id, up: 50_000, down: 0, spent: true }]));
    let reason = EndReason::Quota;
    assert_eq!(house.page(mac(1), Ask::Show), View::Ended { reason, extend: false });
}
