use maitred::domain::effect::{EndReason, OwnDevice, Record, View};
use maitred::domain::event::{Ask, Command, Event, Evidence, Sighting};
use maitred::domain::names::{GuestKey, SessionId};
use maitred::domain::policy::{CodePolicy, Identity, Policy};

use crate::house::*;

fn rules() -> Policy {
    let policy = policy();
    let code =
        CodePolicy { per_number_hour: 20, per_number_day: 20, per_store_day: 90, ..policy.code };
    let code = CodePolicy { per_prefix_day: 90, ..code };
    Policy { code, max_devices: 3, ..policy }
}

fn devices(house: &mut House, number: u8) -> Vec<OwnDevice> {
    match house.page(mac(number), Ask::Show) {
        View::Online { devices, .. } => devices,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_oldest_device_makes_way_for_one_too_many() {
    let mut house = House::new(rules());
    let ids: Vec<SessionId> = (1..=4).map(|device| house.log_in(mac(device), 7)).collect();
    assert_eq!(house.grants(), ids[1..]);
    let told = View::Ended { reason: EndReason::Replaced, extend: false };
    assert_eq!(house.page(mac(1), Ask::Show), told);
    // Others have their own.
    house.log_in(mac(5), 8);
    assert_eq!(house.grants().len(), 4);
    // Whoever comes back is the newest.
    house.page(mac(1), Ask::ChangeNumber);
    house.pass(seconds(60));
    house.log_in(mac(1), 7);
    assert_eq!(house.page(mac(2), Ask::Show), told);
    assert_eq!(house.grants().len(), 4);
}

#[test]
fn nobodys_devices_are_not_one_guests() {
    let mut house = House::new(rules());
    let mut guest = None;
    for device in 1..=3 {
        let code = code(&house.ask_for_code(mac(device), 7)).unwrap();
        let effects = house.ask(mac(device), Ask::SubmitCode { code });
        house.agree(&effects);
        guest = records(&effects).into_iter().find_map(|record| match record {
            Record::SessionStarted { identity: Identity::Guest(guest), .. } => Some(guest),
            _ => None,
        });
    }
    house.command(Command::Erase { guest: guest.unwrap() });
    assert_ne!(guest, Some(GuestKey::NOBODY));
    assert!(devices(&mut house, 1).is_empty());
    let effects = house.ask(mac(1), Ask::EndOther { session: SessionId(2) });
    assert!(firewall(&effects).is_empty());
    for device in 4..=5 {
        house.log_in(mac(device), 7);
    }
    assert_eq!(house.grants().len(), 5);
    assert_eq!(devices(&mut house, 5).len(), 2);
}

#[test]
fn a_guest_sees_and_ends_their_own_devices_and_nobody_elses() {
    let mut house = House::new(rules());
    let first = house.log_in(mac(1), 7);
    assert!(devices(&mut house, 1).is_empty(), "nothing to choose from");
    house.tell(Event::Seen(Sighting {
        zone: ZONE,
        mac: mac(1),
        address: None,
        hostname: Some("tablet".into()),
        evidence: Evidence::Dhcp,
    }));
    house.pass(seconds(60));
    let second = house.log_in(mac(2), 7);
    let other = house.log_in(mac(3), 8);
    let own = |session, name: Option<&str>, seconds_: u64, here| OwnDevice {
        session,
        name: name.map(str::to_owned),
        online_for: Some(seconds(seconds_)),
        here,
    };
    let expected = [own(first, Some("tablet"), 60, false), own(second, None, 0, true)];
    assert_eq!(devices(&mut house, 2), expected);
    assert!(devices(&mut house, 3).is_empty());

    // Another guest's device, one's own, one that is not there, and from a stranger.
    for (asking, target) in [(2, other), (3, first), (2, second), (2, SessionId(99)), (9, first)] {
        let effects = house.ask(mac(asking), Ask::EndOther { session: target });
        assert!(firewall(&effects).is_empty() && view(&effects).is_some(), "{asking} {target:?}");
    }
    assert_eq!(house.grants(), [first, second, other]);

    let effects = house.ask(mac(2), Ask::EndOther { session: first });
    assert!(matches!(view(&effects), Some(View::Online { devices, .. }) if devices.is_empty()));
    assert_eq!(house.grants(), [second, other]);
    let told = View::Ended { reason: EndReason::Logout, extend: false };
    assert_eq!(house.page(mac(1), Ask::Show), told);
}

#[test]
fn the_cap_holds_across_a_start() {
    use maitred::domain::saved::{SavedSession, Snapshot};
    let mut first = House::new(rules());
    let mut sessions = Vec::new();
    for device in 1..=3 {
        let code = code(&first.ask_for_code(mac(device), 7)).unwrap();
        let effects = first.ask(mac(device), Ask::SubmitCode { code });
        sessions.extend(records(&effects).into_iter().filter_map(|record| match record {
            Record::SessionStarted { grant, identity, .. } => {
                Some(SavedSession { grant, identity, started: None, extended: 0 })
            }
            _ => None,
        }));
    }
    let mut house = House::new(rules());
    let snapshot = Snapshot { sessions, next_session: 50, ..Snapshot::default() };
    drop(house.domain.restore(snapshot, None, house.now));
    assert_eq!(devices(&mut house, 1).len(), 3);
    assert!(devices(&mut house, 1).iter().all(|device| device.online_for.is_none()));
    house.log_in(mac(4), 7);
    assert_eq!(house.grants(), [2, 3, 50].map(SessionId));
}
