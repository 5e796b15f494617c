//! HQ says who is behind a pseudonym.

use std::collections::{BTreeMap, BTreeSet};

use maitred::domain::Secrets;
use maitred::domain::effect::{Effect, Record, Report, View};
use maitred::domain::event::{Ask, Command};
use maitred::domain::names::GuestKey;
use maitred::domain::policy::{CodePolicy, Identity, Policy};
use proptest::prelude::*;

use crate::house::*;

fn rules() -> Policy {
    let policy = policy();
    let code = CodePolicy {
        per_device_day: 900,
        per_number_hour: 900,
        per_number_day: 900,
        per_prefix_day: 900,
        per_zone_day: 900,
        per_store_day: 900,
        ..policy.code
    };
    let mut rules = Policy { code, remember_for: seconds(86_400), ..policy };
    rules.zones[0].extend = 2;
    rules
}

fn pseudonym(number: u32) -> GuestKey {
    // The house's own.
    Secrets { guest_key: [1; 32], voucher_key: [3; 32] }.phone_guest(&phone(number))
}

fn key(number: u32) -> GuestKey {
    GuestKey([0xa0 + u8::try_from(number).unwrap(); 16])
}

fn name(house: &mut House, number: u32) {
    let names = BTreeMap::from([(pseudonym(number), key(number))]);
    assert!(matches!(house.command(Command::Rename(names)), Report::Done));
}

fn forget(house: &mut House, number: u32) {
    let names = BTreeMap::from([(key(number), GuestKey::NOBODY)]);
    assert!(matches!(house.command(Command::Rename(names)), Report::Done));
}

/// Whose session a device has.
fn whose(house: &mut House, device: u8) -> Option<GuestKey> {
    house.pass(seconds(60));
    match house.page(mac(device), Ask::Mine) {
        View::Mine { guest } => Some(guest),
        _ => None,
    }
}

fn guest_in(record: &Record) -> Option<GuestKey> {
    match record {
        Record::Verified { guest, .. }
        | Record::VisitGuest { guest, .. }
        | Record::SessionStarted { identity: Identity::Guest(guest), .. }
        | Record::SessionChanged { identity: Identity::Guest(guest), .. } => Some(*guest),
        Record::VisitOpened { guest, .. } => *guest,
        _ => None,
    }
}

#[test]
fn a_named_guest_is_the_same_on_every_device_at_once() {
    let mut house = House::new(rules());
    house.log_in(mac(1), 1);
    house.log_in(mac(9), 2);
    assert_eq!(whose(&mut house, 1), Some(pseudonym(1)));
    name(&mut house, 1);
    assert_eq!(whose(&mut house, 1), Some(key(1)));
    assert_eq!(whose(&mut house, 9), Some(pseudonym(2)), "nobody else is");
    // Another address of the same number; and one that had its code before HQ answered.
    house.log_in(mac(2), 1);
    assert_eq!(whose(&mut house, 2), Some(key(1)));
    let code = code(&house.ask_for_code(mac(8), 2)).unwrap();
    name(&mut house, 2);
    let effects = house.ask(mac(8), Ask::SubmitCode { code });
    house.agree(&effects);
    assert_eq!(whose(&mut house, 8), Some(key(2)));
    let View::Online { devices, .. } = house.page(mac(2), Ask::Show) else { panic!() };
    assert_eq!(devices.len(), 2);
    // At most three devices, those that the guest had under the pseudonym among them.
    house.log_in(mac(3), 1);
    house.log_in(mac(4), 1);
    assert_eq!(whose(&mut house, 1), None, "the oldest made way");
}

#[test]
fn whom_hq_has_forgotten_is_nobody_here_until_they_prove_themselves_again() {
    let mut house = House::new(rules());
    house.log_in(mac(1), 1);
    name(&mut house, 1);
    forget(&mut house, 1);
    assert_eq!(whose(&mut house, 1), None);
    assert!(matches!(house.page(mac(1), Ask::Show), View::Online { .. }));
    house.log_in(mac(2), 1);
    assert_eq!(whose(&mut house, 2), Some(pseudonym(1)), "HQ is asked anew");
    // Both in one answer: forgotten, and back since.
    name(&mut house, 1);
    house.log_in(mac(3), 1);
    let names = BTreeMap::from([(key(1), GuestKey::NOBODY), (pseudonym(1), key(1))]);
    house.command(Command::Rename(names));
    assert_eq!(whose(&mut house, 3), None);
    house.log_in(mac(4), 1);
    assert_eq!(whose(&mut house, 4), Some(key(1)));
}

#[derive(Clone, Debug)]
enum Step {
    LogIn(u8, u32),
    Show(u8),
    Extend(u8),
    Logout(u8),
    Pass(u64),
    Name(u32),
    Forget(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let device = || 0u8..4;
    prop_oneof![
        5 => (device(), 0u32..3).prop_map(|(device, number)| Step::LogIn(device, number)),
        3 => device().prop_map(Step::Show),
        2 => device().prop_map(Step::Extend),
        1 => device().prop_map(Step::Logout),
        3 => (1u64..20_000).prop_map(Step::Pass),
        3 => (0u32..3).prop_map(Step::Name),
        1 => (0u32..3).prop_map(Step::Forget),
    ]
}

fn play(house: &mut House, step: &Step) -> Vec<Effect> {
    let with_answers = |house: &mut House, mut effects: Vec<Effect>| {
        effects.extend(house.agree(&effects));
        effects
    };
    match *step {
        Step::LogIn(device, number) => {
            let mut effects = house.pass(seconds(61));
            let asked = house.ask_for_code(mac(device), number);
            let code = code(&asked);
            effects.extend(asked);
            if let Some(code) = code {
                let entered = house.ask(mac(device), Ask::SubmitCode { code });
                effects.extend(with_answers(house, entered));
            }
            effects
        }
        Step::Show(device) => {
            house.ask(mac(device), Ask::ChangeNumber);
            let shown = house.ask(mac(device), Ask::Show);
            with_answers(house, shown)
        }
        Step::Extend(device) => {
            let extended = house.ask(mac(device), Ask::Extend);
            with_answers(house, extended)
        }
        Step::Logout(device) => house.ask(mac(device), Ask::Logout),
        Step::Pass(length) => house.pass(seconds(length)),
        Step::Name(number) => {
            name(house, number);
            Vec::new()
        }
        Step::Forget(number) => {
            forget(house, number);
            Vec::new()
        }
    }
}

proptest! {
    /// What HQ has named goes to disk under that name alone; whom it has forgotten, not at all.
    #[test]
    fn no_record_names_a_guest_otherwise_than_hq_does(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut house = House::new(rules());
        let (mut named, mut here) = (BTreeSet::new(), BTreeSet::new());
        for step in steps {
            let effects = play(&mut house, &step);
            match step {
                Step::LogIn(_, number) => drop(here.insert(number)),
                Step::Name(number) => drop(named.insert(number)),
                // Of a pseudonym HQ says nothing here.
                Step::Forget(number) if named.remove(&number) => drop(here.remove(&number)),
                _ => {}
            }
            let allowed = |number: &u32| {
                if named.contains(number) { key(*number) } else { pseudonym(*number) }
            };
            let allowed: BTreeSet<_> =
                here.iter().map(allowed).chain([GuestKey::NOBODY]).collect();
            for record in records(&effects) {
                let other = guest_in(&record).filter(|guest| !allowed.contains(guest));
                prop_assert!(other.is_none(), "{step:?}: {record:?}");
            }
        }
    }
}
