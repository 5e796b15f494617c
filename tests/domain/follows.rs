//! Following the account: a step of its own, and a guest who is forgotten.

use maitred::domain::effect::{Record, Refusal, Report, View};
use maitred::domain::event::{Ask, Command};
use maitred::domain::names::{GuestKey, OpenId};
use maitred::domain::policy::Policy;

use crate::house::{House, code_to, following, mac, policy, records, seconds, token};

const WAITING: View = View::Follow { pass: None, refusal: None };

#[test]
fn the_step_is_kept_until_the_token_comes_or_the_guest_goes_another_way() {
    let mut house = House::new(policy());
    assert_eq!(house.page(mac(1), Ask::BeginFollow), WAITING);
    for ask in [Ask::Show, Ask::Look, Ask::Show] {
        assert_eq!(house.page(mac(1), ask), WAITING);
    }
    let not_ours = following(token(mac(2), 1));
    let refusal = Some(Refusal::TokenElsewhere);
    assert_eq!(house.page(mac(1), not_ours), View::Follow { pass: None, refusal });
    assert_eq!(house.page(mac(1), Ask::ChangeNumber), View::Phone { refusal: None });
    assert_eq!(house.page(mac(1), Ask::Show), View::Phone { refusal: None });

    house.page(mac(1), Ask::BeginFollow);
    assert!(matches!(house.page(mac(1), code_to(1)), View::Code { refusal: None, .. }));
    assert_eq!(house.page(mac(1), Ask::BeginFollow), WAITING, "the code is given up");
    let online = house.page(mac(1), following(token(mac(1), 1)));
    assert!(matches!(online, View::Online { .. }), "{online:?}");
    house.page(mac(1), Ask::Logout);
    assert_eq!(house.page(mac(1), Ask::Show), View::Phone { refusal: None }, "from the start");
}

#[test]
fn a_guest_who_is_erased_is_nobody_and_stays_online() {
    let rules = Policy { remember_for: seconds(86_400), ..policy() };
    let mut house = House::new(rules);
    for number in [1, 2] {
        house.page(mac(number), following(token(mac(number), number)));
    }
    let guest_of = |house: &mut House, number: u8| {
        let Report::Clients(rows) = house.command(Command::Clients) else { panic!("no list") };
        rows.into_iter().find(|row| row.mac == mac(number)).unwrap().guest
    };
    assert!(guest_of(&mut house, 1).is_some());
    let erase = Command::Erase { guest: GuestKey([1; 16]) };
    assert!(matches!(house.command(erase), Report::Done));
    assert_eq!(guest_of(&mut house, 1), None);
    assert!(guest_of(&mut house, 2).is_some(), "nobody else is");
    for number in [1, 2] {
        assert!(matches!(house.page(mac(number), Ask::Show), View::Online { .. }));
    }
    // Not even later: neither remembered, nor named by a visit to come.
    house.page(mac(1), Ask::Logout);
    assert_eq!(house.page(mac(1), Ask::Show), View::Phone { refusal: None });
    house.pass(seconds(7200));
    let opened = records(&house.seen(mac(1)));
    let named = |record: &Record| match record {
        Record::VisitOpened { guest, .. } => guest.is_some(),
        _ => false,
    };
    assert!(opened.iter().any(|record| matches!(record, Record::VisitOpened { .. })));
    assert!(!opened.iter().any(named), "{opened:?}");
}

#[test]
fn wechats_word_is_heard_ten_times_a_minute() {
    let mut house = House::new(policy());
    let openid = || Ask::WechatWifi { openid: OpenId::parse("oABC").unwrap() };
    for _ in 0..10 {
        assert!(matches!(house.page(mac(1), openid()), View::Online { .. }));
        house.page(mac(1), Ask::Logout);
    }
    let refusal = Some(Refusal::TooMany);
    assert_eq!(house.page(mac(1), openid()), View::Phone { refusal });
}
