use maitred::domain::auth::voucher::{Batch, FromHq, HQ, SavedBatch, Worth, make_for_stores};
use maitred::domain::effect::{Effect, EndReason, Method, Record, Refusal, Report, View};
use maitred::domain::event::{Ask, Command, Consent, Event};
use maitred::domain::names::{Mac, WallTime, ZoneId};
use maitred::domain::policy::{Identity, Overrides, Policy};
use maitred::domain::saved::{SavedSession, Snapshot};

use crate::house::*;

fn worth() -> Worth {
    let limits = Overrides { download_rate: Some(1000), ..Overrides::default() };
    Worth { zone: None, uses: 1, length: seconds(1800), limits, expires: None }
}

fn using(code: &str) -> Ask {
    let consent = Consent { terms: "1".into(), marketing: false };
    Ask::UseVoucher { code: code.into(), consent }
}

/// Makes a batch: its record and its codes.
fn make(house: &mut House, count: u16, worth: Worth) -> (Record, Vec<String>) {
    let request = house.request();
    let effects =
        house.tell(Event::Control { request, command: Command::MakeVouchers { count, worth } });
    let record = records(&effects).into_iter().next().unwrap();
    let codes = effects.into_iter().find_map(|effect| match report(effect)? {
        Report::Made(_, codes) => {
            assert_eq!(usize::from(count), codes.len());
            Some(codes.into_iter().map(|code| code.0).collect())
        }
        other => panic!("{other:?}"),
    });
    (record, codes.unwrap())
}

fn used(house: &mut House) -> Vec<u32> {
    match house.command(Command::Vouchers) {
        Report::Vouchers(rows) => rows.iter().map(|row| row.used).collect(),
        other => panic!("{other:?}"),
    }
}

fn refused(refusal: Refusal) -> View {
    View::Phone { refusal: Some(refusal) }
}

#[test]
fn a_voucher_opens_with_its_own_time_and_limits_and_its_use_is_the_sessions_row() {
    let mut house = House::new(policy());
    let (record, codes) = make(&mut house, 2, worth());
    assert!(!format!("{record:?}").contains(&codes[0]), "no code is kept");
    house.seen(mac(1));
    let effects = house.ask(mac(1), using(&codes[0]));
    assert!(view(&effects).is_none(), "told only once kernel and disk have it");
    let [Record::SessionStarted { grant, identity, method, .. }] = &records(&effects)[..] else {
        panic!("{effects:?}")
    };
    assert_eq!((grant.left, grant.limits.download_rate), (Some(seconds(1800)), Some(1000)));
    let Identity::Voucher(id) = identity else { panic!("{identity:?}") };
    assert_eq!((id.to_string().as_str(), *method), ("1-1", Method::Voucher));
    let answers = house.agree(&effects);
    let Some(View::Online { extend: false, devices, .. }) = view(&answers) else {
        panic!("{answers:?}")
    };
    assert!(devices.is_empty());
    // A second look at the link, or another tap, costs nothing.
    assert!(matches!(house.page(mac(1), using(&codes[1])), View::Online { .. }));
    assert_eq!(used(&mut house), [1]);
    let effects = house.pass(seconds(1800));
    let over = |record: &Record| matches!(record, Record::SessionEnded { reason, .. } if *reason == EndReason::SessionTimeout);
    assert!(records(&effects).iter().any(over));
    house.page(mac(1), Ask::ChangeNumber);
    assert_eq!(house.page(mac(1), using(&codes[0])), refused(Refusal::BadVoucher));
}

#[test]
fn two_devices_at_once_share_no_use() {
    let mut house = House::new(policy());
    let codes = make(&mut house, 1, worth()).1;
    let first = house.ask(mac(1), using(&codes[0]));
    // Neither kernel nor disk has answered yet.
    let second = house.ask(mac(2), using(&codes[0]));
    assert_eq!(view(&second), Some(refused(Refusal::BadVoucher)));
    assert!(granted(&second).is_none());
    house.agree(&first);
    assert_eq!(house.grants(), [granted(&first).unwrap()]);
}

#[test]
fn a_use_that_came_to_nothing_is_given_back() {
    for event in [Event::StoreFailed, Event::GrantFailed] {
        let mut house = House::new(policy());
        let codes = make(&mut house, 1, worth()).1;
        let id = granted(&house.ask(mac(1), using(&codes[0]))).unwrap();
        let effects = house.tell(event(id));
        assert_eq!(view(&effects), Some(refused(Refusal::Failed)));
        assert_eq!(used(&mut house), [0]);
        assert!(matches!(house.page(mac(1), using(&codes[0])), View::Online { .. }));
        assert_eq!(used(&mut house), [1]);
    }
}

#[test]
fn every_voucher_that_is_not_good_gets_the_same_answer() {
    let mut house = House::new(policy());
    let good = make(&mut house, 1, Worth { uses: 2, ..worth() }).1;
    let revoked = make(&mut house, 1, worth()).1;
    let soon = WallTime(WALL + 1000);
    let over = make(&mut house, 1, Worth { expires: Some(soon), ..worth() }).1;
    let used_up = make(&mut house, 1, worth()).1;
    assert!(matches!(house.page(mac(9), using(&used_up[0])), View::Online { .. }));
    let which = "2".parse().unwrap();
    assert_eq!(house.command(Command::RevokeVouchers(which)), Report::Done);
    house.pass(seconds(1));
    let unknown = "0000-0000-0000".to_owned();
    let mut answers = Vec::new();
    for code in [&unknown, &revoked[0], &over[0], &used_up[0], &String::new(), &"x".repeat(4000)] {
        let effects = house.ask(mac(1), using(code));
        answers.push((view(&effects), firewall(&effects), records(&effects).len()));
    }
    let (expected, ..) = answers.remove(0);
    assert_eq!(expected, Some(refused(Refusal::BadVoucher)));
    for (answer, firewall, _) in &answers {
        assert_eq!((answer, firewall.len()), (&expected, 0));
    }
    let no_terms = Ask::UseVoucher { code: good[0].clone(), consent: Consent::default() };
    assert_eq!(house.page(mac(1), no_terms), refused(Refusal::NoConsent));
    assert!(matches!(house.page(mac(1), using(&good[0])), View::Online { .. }));
    let off = Policy { vouchers: false, ..policy() };
    let request = house.request();
    house.tell(Event::Reload { request, policy: Box::new(off) });
    assert_eq!(house.page(mac(2), using(&good[0])), refused(Refusal::BadVoucher));
}

#[test]
fn guessing_is_over_before_it_has_begun() {
    let mut house = House::new(policy());
    let codes = make(&mut house, 1, worth()).1;
    for guess in 0..10 {
        let guess = format!("0000-0000-000{guess}");
        assert_eq!(house.page(mac(1), using(&guess)), refused(Refusal::BadVoucher));
    }
    // From here on a good one is refused like a bad one.
    let effects = house.ask(mac(1), using(&codes[0]));
    assert_eq!(view(&effects), Some(refused(Refusal::TooManyGuesses)));
    assert!(granted(&effects).is_none());
    // A device that is forgotten, or comes by another zone, is the same device.
    house.pass(seconds(599));
    assert_eq!(house.page(mac(1), using(&codes[0])), refused(Refusal::TooManyGuesses));
    house.pass(seconds(1));
    assert!(matches!(house.page(mac(1), using(&codes[0])), View::Online { .. }));
}

#[test]
fn a_greedy_crowd_gets_no_more_than_the_stores_guesses() {
    let mut house = House::new(policy());
    make(&mut house, 2000, worth());
    let mut tried = 0;
    for device in 0..2000_u16 {
        let [high, low] = device.to_be_bytes();
        let mac = Mac([6, 0, 0, 0, high, low]);
        for guess in 0..3 {
            let effects = house.ask(mac, using(&format!("0000-{device:04}-000{guess}")));
            match view(&effects) {
                Some(View::Phone { refusal: Some(Refusal::BadVoucher) }) => tried += 1,
                Some(View::Phone { refusal: Some(Refusal::TooManyGuesses) }) => {}
                other => panic!("{other:?}"),
            }
        }
        house.pass(std::time::Duration::from_millis(10));
    }
    assert_eq!(tried, 3000);
}

#[test]
fn revoked_vouchers_end_what_they_opened_and_open_nothing_again() {
    let mut house = House::new(policy());
    let codes = make(&mut house, 2, Worth { uses: 5, ..worth() }).1;
    house.page(mac(1), using(&codes[0]));
    house.page(mac(2), using(&codes[1]));
    let request = house.request();
    let which = "1-1".parse().unwrap();
    let effects = house.tell(Event::Control { request, command: Command::RevokeVouchers(which) });
    assert!(matches!(
        records(&effects)[..],
        [Record::VouchersRevoked(_), Record::SessionEnded { reason: EndReason::Revoked, .. }]
    ));
    assert_eq!(house.grants().len(), 1);
    house.page(mac(1), Ask::ChangeNumber);
    assert_eq!(house.page(mac(1), using(&codes[0])), refused(Refusal::BadVoucher));
    assert!(matches!(house.page(mac(3), using(&codes[1])), View::Online { .. }));
    assert!(matches!(house.command(Command::RevokeVouchers(which)), Report::Refused(_)));
}

#[test]
fn a_voucher_of_another_zone_or_of_none_is_not_good() {
    let mut house = House::new(policy());
    let request = house.request();
    let nowhere = Worth { zone: Some(ZoneId(7)), ..worth() };
    let command = Command::MakeVouchers { count: 1, worth: nowhere };
    let effects = house.tell(Event::Control { request, command });
    assert!(effects.iter().all(|effect| !matches!(effect, Effect::Store(_))));
    let here = make(&mut house, 1, Worth { zone: Some(ZONE), ..worth() }).1;
    assert!(matches!(house.page(mac(1), using(&here[0])), View::Online { .. }));
}

/// A batch of HQ's, and its first code.
fn of_hq(number: u32, expires: Option<WallTime>, zone: Option<&str>) -> (FromHq, String) {
    let (codes, salt, hashes) = make_for_stores(1, [u8::try_from(number).unwrap(); 32]);
    let worth = Worth { expires, uses: 3, ..worth() };
    let batch = Batch { id: HQ | number, count: 1, worth };
    let zone = zone.map(Into::into);
    (FromHq { batch, zone, salt, hashes }, codes[0].0.clone())
}

#[test]
fn what_hq_leaves_out_is_revoked_and_what_it_repeats_changes_nothing() {
    let mut house = House::new(policy());
    let (soon, code) = of_hq(1, Some(WallTime(WALL + 10_000)), None);
    let (here, here_code) = of_hq(2, None, Some("guest"));
    let (elsewhere, elsewhere_code) = of_hq(3, None, Some("yard"));
    let tell = |house: &mut House, batches: &[&FromHq]| {
        let request = house.request();
        let command = Command::VouchersFromHq(batches.iter().copied().cloned().collect());
        let effects = house.tell(Event::Control { request, command });
        (records(&effects).len(), effects.into_iter().find_map(report).unwrap())
    };
    let all = [&soon, &here, &elsewhere];
    assert_eq!(tell(&mut house, &all), (2, Report::Done));
    assert_eq!(tell(&mut house, &all), (0, Report::Done), "as they were");
    assert!(matches!(house.page(mac(1), using(&code)), View::Online { .. }));
    assert!(matches!(house.page(mac(2), using(&here_code)), View::Online { .. }));
    assert_eq!(house.page(mac(3), using(&elsewhere_code)), refused(Refusal::BadVoucher));
    // The first is over: to leave it out is to tidy up, and ends nothing.
    house.pass(seconds(10));
    assert_eq!(house.page(mac(3), using(&code)), refused(Refusal::BadVoucher));
    let wall = house.now.wall.take();
    assert_eq!(tell(&mut house, &[&here]), (0, Report::Done), "nobody can tell");
    house.now.wall = wall;
    assert_eq!(tell(&mut house, &[&here]), (0, Report::Done));
    assert_eq!(house.grants().len(), 2);
    assert_eq!(tell(&mut house, &[]), (2, Report::Done), "a batch, and the session it opened");
    assert_eq!(house.grants().len(), 1);
    assert_eq!(tell(&mut house, &[]), (0, Report::Done));
    assert_eq!(tell(&mut house, &[&here]), (0, Report::Done), "for good");
    assert_eq!(house.page(mac(3), using(&here_code)), refused(Refusal::BadVoucher));
    let (mut twice, _) = of_hq(2, None, None);
    twice.salt = [0; 16];
    assert!(matches!(tell(&mut house, &[&twice]), (0, Report::Refused(_))));
}

#[test]
fn a_start_takes_up_what_is_left_and_what_never_was() {
    let mut first = House::new(policy());
    let (record, codes) = make(&mut first, 2, Worth { uses: 1, ..worth() });
    let Record::VouchersMade { batch, hashes, .. } = record else { panic!("{record:?}") };
    first.seen(mac(1));
    let effects = first.ask(mac(1), using(&codes[0]));
    let [Record::SessionStarted { grant, identity, .. }] = &records(&effects)[..] else {
        panic!("{effects:?}")
    };
    let snapshot = |sessions| {
        let vouchers = vec![(1, hashes[0], 0), (2, hashes[1], 1)];
        let saved = SavedBatch { batch: Batch { id: 1, ..batch }, used: 1, vouchers };
        Snapshot { sessions, vouchers: vec![saved], last_batch: 4, ..Snapshot::default() }
    };
    let (grant, identity) = (grant.clone(), *identity);
    let saved = SavedSession { grant, identity, started: None, extended: 0 };
    // The table was lost with the power: the session goes on in the new one.
    let mut house = House::new(policy());
    drop(house.domain.restore(snapshot(vec![saved.clone()]), None, house.now));
    assert!(matches!(house.page(mac(1), Ask::Show), View::Online { .. }));
    assert_eq!(house.page(mac(2), using(&codes[0])), refused(Refusal::BadVoucher));
    assert!(matches!(house.page(mac(2), using(&codes[1])), View::Online { .. }));
    let Record::VouchersMade { batch, .. } = make(&mut house, 1, worth()).0 else { panic!() };
    assert_eq!(batch.id, 5);
    // The table stands and never had it, as nobody was told: the use begins now, or is given back.
    for refuses in [false, true] {
        let mut house = House::new(policy());
        let saved = snapshot(vec![saved.clone()]);
        let effects = house.domain.restore(saved, Some(Vec::new()), house.now);
        let id = granted(&effects).unwrap();
        assert!(view(&house.ask(mac(1), Ask::Show)).is_none(), "not before the kernel has it");
        let answer = if refuses { Event::GrantFailed(id) } else { Event::Granted(id) };
        let told = view(&house.tell(answer)).unwrap();
        assert_eq!(matches!(told, View::Online { .. }), !refuses);
        assert!(matches!(house.page(mac(1), using(&codes[0])), View::Online { .. }));
        assert_eq!(used(&mut house), [1]);
    }
}
