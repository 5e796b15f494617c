use std::time::Duration;

use maitred::domain::effect::{EndReason, Firewall, Grant, Record, Refusal, Report, View};
use maitred::domain::event::{Ask, Command, Event, Usage};
use maitred::domain::names::{BootTime, GuestKey, Mac, Mark, SessionId, VisitId, WallTime};
use maitred::domain::policy::{Identity, Limits, Overrides};
use maitred::domain::saved::{Live, SavedGuest, SavedSession, SavedVisit, Snapshot};

use crate::house::*;

fn saved(id: u8) -> SavedSession {
    SavedSession {
        grant: Grant {
            session: SessionId(id.into()),
            zone: ZONE,
            mac: mac(id),
            mark: Mark(id.into()),
            left: Some(seconds(600)),
            limits: Limits::default(),
            used_up: 10,
            used_down: 20,
        },
        identity: Identity::Guest(GuestKey([id; 16])),
        started: None,
        extended: 0,
    }
}

fn live(id: u8) -> Live {
    Live {
        session: SessionId(id.into()),
        zone: ZONE,
        mac: mac(id),
        mark: Mark(u16::from(id) + 100),
        left: Some(seconds(500)),
    }
}

fn snapshot(ids: &[u8]) -> Snapshot {
    let sessions = ids.iter().map(|id| saved(*id)).collect();
    Snapshot { next_session: 50, next_visit: 60, sessions, ..Snapshot::default() }
}

#[test]
fn without_a_table_it_is_rebuilt() {
    let mut house = House::new(policy());
    let effects = house.domain.restore(snapshot(&[1, 2]), None, house.now);
    let [Firewall::Rebuild(grants), Firewall::Block(_)] = &firewall(&effects)[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(grants.len(), 2);
    assert_eq!(
        (grants[0].left, grants[0].used_up, grants[0].used_down),
        (Some(seconds(600)), 10, 20)
    );
    assert!(records(&effects).is_empty());
    let effects = house.pass(seconds(600));
    let ends = records(&effects).into_iter().filter(|r| matches!(r, Record::SessionEnded { .. }));
    assert_eq!(ends.count(), 2);
    // A new one gets a number of its own.
    assert_eq!(house.log_in(mac(5), 5), SessionId(50));
}

#[test]
fn an_empty_house_has_a_table_too() {
    let mut house = House::new(policy());
    let effects = house.domain.restore(Snapshot::default(), None, house.now);
    let wanted = [Firewall::Rebuild(vec![]), Firewall::Block([].into())];
    assert_eq!(firewall(&effects), wanted);
}

#[test]
fn with_a_table_nobody_notices() {
    let mut house = House::new(policy());
    let effects = house.domain.restore(snapshot(&[1, 2]), Some(vec![live(1), live(3)]), house.now);
    // 1 goes on, 2 left the kernel, 3 has no row.
    assert!(matches!(&firewall(&effects)[..],
        [Firewall::Revoke(grant), Firewall::ReadUsage, Firewall::Block(_)]
        if grant.session == SessionId(3) && grant.mac == mac(3) && grant.mark == Mark(103)));
    assert!(matches!(
        records(&effects)[..],
        [Record::SessionEnded {
            session: SessionId(2),
            reason: EndReason::SessionTimeout,
            up: 10,
            down: 20,
            ..
        }]
    ));
    // What passed after the last checkpoint is read from the kernel.
    house.tell(Event::Usage(vec![Usage { session: SessionId(1), up: 30, down: 40, spent: false }]));
    let page = View::Online {
        left: Some(seconds(500)),
        used: (30, 40),
        quota_left: None,
        extend: false,
        devices: Vec::new(),
    };
    assert_eq!(house.page(mac(1), Ask::Show), page);
    assert_eq!(house.domain.grants(house.now.boot)[0].mark, Mark(101));
}

#[test]
fn lists_that_changed_meanwhile_hold() {
    let mut rules = policy();
    rules.blocked_macs.insert(mac(1));
    rules.trusted_macs.insert(mac(2));
    let mut house = House::new(rules);
    let stands = Some(vec![live(1), live(2), live(3)]);
    let mut snapshot = snapshot(&[1, 2, 3]);
    snapshot.sessions[2].identity = Identity::Trusted;
    let effects = house.domain.restore(snapshot, stands, house.now);
    let revoked = |f: &Firewall| matches!(f, Firewall::Revoke(_));
    assert_eq!(firewall(&effects).iter().filter(|f| revoked(f)).count(), 3);
    assert!(house.grants().is_empty());
}

#[test]
fn spent_time_quota_and_swapped_devices_do_not_go_on() {
    let mut house = House::new(policy());
    let mut snapshot = snapshot(&[1, 2, 3]);
    snapshot.sessions[0].grant.left = Some(Duration::ZERO);
    snapshot.sessions[1].grant.limits.quota = Some(30);
    let swapped = Live { mac: mac(4), ..live(3) };
    let effects = house.domain.restore(snapshot.clone(), None, house.now);
    assert_eq!(house.grants(), [SessionId(3)]);
    assert_eq!(records(&effects).len(), 2);
    let mut house = House::new(policy());
    let effects = house.domain.restore(snapshot, Some(vec![swapped]), house.now);
    assert!(house.grants().is_empty());
    let [Firewall::Revoke(grant), Firewall::Block(_)] = &firewall(&effects)[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(grant.mac, mac(4));
}

fn visit(id: u8, seen: Option<(u64, u64)>) -> SavedVisit {
    SavedVisit {
        visit: VisitId(id.into()),
        zone: ZONE,
        mac: mac(id),
        carried: seconds(100),
        seen: seen.map(|(first, last)| (BootTime(first * 1000), BootTime(last * 1000))),
    }
}

#[test]
fn visits_go_on_or_close_with_their_dwell() {
    let mut house = House::new(policy());
    let start = house.now.boot.0 / 1000;
    let visits = vec![
        visit(1, None),
        visit(2, None),
        visit(3, Some((start - 50, start - 10))),
        visit(4, Some((start - 9999, start - 5000))),
    ];
    let snapshot = Snapshot { visits, ..Snapshot::default() };
    assert!(records(&house.domain.restore(snapshot, None, house.now)).is_empty());
    let mut effects = house.pass(seconds(200));
    house.seen(mac(2));
    effects.extend(house.pass(seconds(5)));
    house.seen(mac(2));
    effects.extend(house.pass(seconds(5000)));
    let dwells = records(&effects).into_iter().filter_map(|record| match record {
        Record::VisitClosed { visit, dwell, .. } => Some((visit.0, dwell.as_secs())),
        _ => None,
    });
    let mut dwells: Vec<_> = dwells.collect();
    dwells.sort_unstable();
    assert_eq!(dwells, [(1, 100), (2, 105), (3, 140), (4, 5099)]);
}

#[test]
fn guests_and_used_tokens_are_remembered() {
    let mut rules = policy();
    rules.remember_for = Duration::from_hours(24);
    let mut house = House::new(rules);
    let guest = |id: u8, hours: i64| SavedGuest {
        mac: mac(id),
        guest: GuestKey([id; 16]),
        mask: "*00".into(),
        verified: Some(WallTime(WALL - hours * 3_600_000)),
    };
    let snapshot = Snapshot {
        guests: vec![guest(1, 23), guest(2, 25)],
        used_tokens: vec![([3; 16], WallTime(WALL + 600_000))],
        ..Snapshot::default()
    };
    house.domain.restore(snapshot, None, house.now);
    let effects = house.seen(mac(1));
    assert!(
        records(&effects).iter().any(|r| matches!(r, Record::VisitOpened { guest: Some(_), .. }))
    );
    assert!(matches!(house.page(mac(1), Ask::Show), View::Online { .. }));
    assert_eq!(house.page(mac(2), Ask::Show), View::Phone { refusal: None });
    let page = house.page(mac(3), following(token(mac(3), 3)));
    assert_eq!(page, View::Phone { refusal: Some(Refusal::TokenUsed) });
}

#[test]
fn a_stop_writes_what_the_disk_does_not_know() {
    let mut house = House::new(policy());
    let start = house.now.boot.0 / 1000;
    let visits = vec![visit(1, Some((start - 50, start - 10))), visit(2, None)];
    let saved = Snapshot { visits, ..snapshot(&[1, 2, 3]) };
    house.domain.restore(saved, Some(vec![live(1), live(2), live(3)]), house.now);
    assert_eq!(records(&house.tell(Event::Stopping)).len(), 0, "the disk knows all of it");
    let used = |id: u8, up, down| Usage { session: SessionId(id.into()), up, down, spent: false };
    // Not in the kernel's order.
    house.tell(Event::Usage(vec![used(3, 10, 20), used(1, 10, 20), used(2, 10, 21)]));
    house.pass(seconds(1));
    house.seen(mac(1));
    let written = records(&house.tell(Event::Stopping));
    assert!(
        matches!(
            written[..],
            [
                Record::SessionUsed { session: SessionId(2), up: 10, down: 21, .. },
                Record::VisitSeen { visit: VisitId(1), .. },
            ]
        ),
        "{written:?}"
    );
}

/// Resident bytes of this process that are data, not code (`/proc/self/status`, `RssAnon`, in kB).
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn ten_thousand_guests_fit_into_nine_megabytes() {
    let mut house = House::new(policy());
    let before = resident();
    let device = |number: u16| {
        let [a, b] = number.to_be_bytes();
        Mac([2, 0, 0, 1, a, b])
    };
    let guest = |number| SavedGuest {
        mac: device(number),
        guest: GuestKey([7; 16]),
        mask: "*00".into(),
        verified: None,
    };
    let guests = (0..10_000).map(guest).collect();
    drop(house.domain.restore(Snapshot { guests, ..Snapshot::default() }, None, house.now));
    for number in 0..10_000 {
        house.pass(Duration::from_millis(20));
        house.seen(device(number));
        let grant = Command::Grant {
            mac: device(number),
            zone: None,
            length: None,
            limits: Overrides::default(),
        };
        assert_eq!(house.command(grant), Report::Done);
    }
    // The turnstile has kept some waiting.
    house.pass(seconds(120));
    for number in 0..10_000 {
        house.seen(device(number));
        house.pass(Duration::from_millis(150));
    }
    let Report::Status(status) = house.command(Command::Status) else { panic!() };
    assert_eq!((status.devices, status.online), (10_000, 10_000));
    let used = resident().saturating_sub(before);
    assert!(used < 9 << 20, "{used} bytes");
}
