//! The temporary pass to the app.

use maitred::domain::effect::{Attempt, Firewall, Pass, Record, Refusal, Report, View};
use maitred::domain::event::{Ask, Command, Event};
use maitred::domain::policy::{PassPolicy, Policy};
use maitred::domain::saved::{SavedAttempt, Snapshot};

use crate::house::{House, ZONE, firewall, mac, policy, records, seconds, view};

fn rules() -> Policy {
    let pass = PassPolicy { length: seconds(60), per_device_day: 2, per_store_day: 3 };
    Policy { pass: Some(pass), ..policy() }
}

fn pass(number: u8, left: u64) -> Firewall {
    Firewall::Pass(Pass { zone: ZONE, mac: mac(number), left: seconds(left) })
}

fn refused(refusal: Refusal) -> View {
    View::Follow { pass: None, refusal: Some(refusal) }
}

fn passing(left: u64) -> View {
    View::Follow { pass: Some(seconds(left)), refusal: None }
}

fn state(house: &mut House, number: u8) -> (&'static str, Option<u64>) {
    let Report::Clients(rows) = house.command(Command::Clients) else { panic!("no list") };
    let row = rows.into_iter().find(|row| row.mac == mac(number)).unwrap();
    (row.state, row.seconds_left)
}

#[test]
fn a_pass_is_answered_once_the_kernel_has_it_and_ends_by_itself() {
    let mut house = House::new(rules());
    let first = house.ask(mac(1), Ask::BeginFollow);
    assert_eq!((firewall(&first), view(&first)), (vec![pass(1, 60)], None));
    let second = house.ask(mac(1), Ask::BeginFollow);
    assert_eq!((firewall(&second), view(&second)), (vec![], None), "waits for the first");
    assert_eq!(state(&mut house, 1).0, "new");
    let answers = house.tell(Event::Passed { zone: ZONE, mac: mac(1), opened: true });
    assert_eq!(answers.len(), 2);
    house.pass(seconds(20));
    assert_eq!(house.page(mac(1), Ask::BeginFollow), passing(40), "the same one");
    assert_eq!(state(&mut house, 1), ("pass", Some(40)));
    // It is no session: nothing else opened. The step is kept until the guest goes another way.
    assert_eq!(house.page(mac(1), Ask::Show), passing(40));
    assert!(house.grants().is_empty());
    // A table that was lost gets it back, with the time that is left.
    let rebuilt = firewall(&house.tell(Event::TableLost));
    assert_eq!(rebuilt, [Firewall::Rebuild(vec![]), pass(1, 40)]);
    house.pass(seconds(40));
    assert_eq!(house.page(mac(1), Ask::Show), View::Follow { pass: None, refusal: None });
    assert_eq!(state(&mut house, 1), ("new", None));
    assert_eq!(firewall(&house.tell(Event::TableLost)), [Firewall::Rebuild(vec![])]);
}

#[test]
fn passes_are_counted_by_device_and_store() {
    let mut house = House::new(rules());
    for number in [1, 1, 2] {
        assert_eq!(house.page(mac(number), Ask::BeginFollow), passing(60));
        house.pass(seconds(60));
    }
    assert_eq!(
        house.page(mac(1), Ask::BeginFollow),
        refused(Refusal::NoPass),
        "the device's share"
    );
    assert_eq!(house.page(mac(3), Ask::BeginFollow), refused(Refusal::NoPass), "the store's");
    house.pass(seconds(86_400));
    assert_eq!(house.page(mac(1), Ask::BeginFollow), passing(60));
}

#[test]
fn a_start_gives_no_new_pass() {
    let mut first = House::new(rules());
    let mut attempts = Vec::new();
    for _ in 0..2 {
        for record in records(&first.ask(mac(1), Ask::BeginFollow)) {
            if let Record::Attempted { attempt: attempt @ Attempt::Pass, mac, at } = record {
                attempts.push((attempt, mac, at));
            }
        }
        first.pass(seconds(60));
    }
    let age = |at| first.now.boot - at;
    let attempts =
        attempts.into_iter().map(|(attempt, mac, at)| SavedAttempt { attempt, mac, age: age(at) });
    let snapshot = Snapshot { attempts: attempts.collect(), ..Snapshot::default() };
    let mut house = House::new(rules());
    drop(house.domain.restore(snapshot, None, house.now));
    assert_eq!(house.page(mac(1), Ask::BeginFollow), refused(Refusal::NoPass));
    house.pass(seconds(86_400 - 120));
    assert_eq!(house.page(mac(1), Ask::BeginFollow), passing(60), "the first is a day ago");
}

#[test]
fn a_pass_is_for_those_who_need_one() {
    let mut house = House::new(policy());
    let none = View::Follow { pass: None, refusal: None };
    assert_eq!(house.page(mac(1), Ask::BeginFollow), none, "there are none");
    let mut blocking = rules();
    blocking.blocked_macs.insert(mac(9));
    let mut house = House::new(blocking);
    assert_eq!(house.page(mac(9), Ask::BeginFollow), View::Blocked);
    house.log_in(mac(1), 1);
    assert!(matches!(house.page(mac(1), Ask::BeginFollow), View::Online { .. }));
    let effects = house.ask(mac(2), Ask::BeginFollow);
    assert_eq!(firewall(&effects), [pass(2, 60)]);
    let effects = house.tell(Event::Passed { zone: ZONE, mac: mac(2), opened: false });
    assert_eq!(view(&effects), Some(refused(Refusal::Failed)));
    assert_eq!(house.page(mac(2), Ask::BeginFollow), passing(60), "again");
}
