use std::time::Duration;

use maitred::domain::effect::{Effect, EndReason, Firewall, Record, Refusal, Report, View};
use maitred::domain::event::{Ask, Command, Consent, Event, Language, Usage};
use maitred::domain::names::{Mac, Phone, SessionId, WallTime};
use maitred::domain::policy::Overrides;

use crate::house::*;

fn submit(code: &str) -> Ask {
    Ask::SubmitCode { code: code.into() }
}

fn ended(effects: &[Effect]) -> Option<EndReason> {
    records(effects).into_iter().find_map(|record| match record {
        Record::SessionEnded { reason, .. } => Some(reason),
        _ => None,
    })
}

fn closed(effects: &[Effect]) -> Vec<Duration> {
    let dwell = |record| match record {
        Record::VisitClosed { dwell, .. } => Some(dwell),
        _ => None,
    };
    records(effects).into_iter().filter_map(dwell).collect()
}

fn refusal(view: &View) -> Option<Refusal> {
    match view {
        View::Phone { refusal } | View::Code { refusal, .. } => *refusal,
        _ => None,
    }
}

#[test]
fn a_guest_is_told_of_being_online_after_kernel_and_disk() {
    for disk_first in [false, true] {
        let mut house = House::new(policy());
        assert_eq!(house.page(mac(1), Ask::Show), View::Phone { refusal: None });
        let effects = house.ask_for_code(mac(1), 1);
        let resend_in = seconds(60);
        let page = View::Code { mask: "*01".into(), digits: 6, resend_in, refusal: None };
        assert_eq!(view(&effects), Some(page));
        let effects = house.ask(mac(1), submit(&code(&effects).unwrap()));
        assert!(view(&effects).is_none());
        let kinds = records(&effects);
        assert!(matches!(
            kinds[..],
            [Record::Verified { .. }, Record::VisitGuest { .. }, Record::SessionStarted { .. }]
        ));
        let id = granted(&effects).unwrap();
        // A second try and a reload meanwhile wait too, and open nothing.
        for ask in [submit("000000"), Ask::Show] {
            let effects = house.ask(mac(1), ask);
            assert!(view(&effects).is_none() && granted(&effects).is_none());
        }
        let mut events = [Event::Granted(id), Event::Stored(id)];
        if disk_first {
            events.reverse();
        }
        let [first, second] = events;
        assert!(house.tell(first).is_empty());
        let answers = house.tell(second);
        assert_eq!(answers.len(), 3);
        assert!(answers.iter().all(|answer| matches!(answer, Effect::Reply { .. })));
        assert!(matches!(house.page(mac(1), Ask::Show), View::Online { left: Some(_), .. }));
        assert_eq!(house.grants(), [id]);
    }
}

#[test]
fn what_one_half_refuses_the_other_half_undoes() {
    let mut house = House::new(policy());
    let code_ = code(&house.ask_for_code(mac(1), 1)).unwrap();
    let id = granted(&house.ask(mac(1), submit(&code_))).unwrap();
    house.tell(Event::Stored(id));
    let effects = house.tell(Event::GrantFailed(id));
    assert_eq!(view(&effects), Some(View::Phone { refusal: Some(Refusal::Failed) }));
    assert_eq!(ended(&effects), Some(EndReason::Failed));
    assert!(firewall(&effects).is_empty() && house.grants().is_empty());

    let code_ = code(&house.ask_for_code(mac(2), 2)).unwrap();
    let id = granted(&house.ask(mac(2), submit(&code_))).unwrap();
    house.tell(Event::Granted(id));
    let effects = house.tell(Event::StoreFailed(id));
    assert!(matches!(&firewall(&effects)[..], [Firewall::Revoke(grant)] if grant.session == id));
    assert_eq!(view(&effects), Some(View::Phone { refusal: Some(Refusal::Failed) }));
    assert!(house.tell(Event::Granted(id)).is_empty());
}

#[test]
fn a_refused_grant_that_a_new_table_holds_is_taken_back() {
    let mut house = House::new(policy());
    let code_ = code(&house.ask_for_code(mac(1), 1)).unwrap();
    let id = granted(&house.ask(mac(1), submit(&code_))).unwrap();
    let effects = house.tell(Event::TableLost);
    assert!(matches!(&firewall(&effects)[..], [Firewall::Rebuild(grants)] if grants.len() == 1));
    let effects = house.tell(Event::GrantFailed(id));
    assert!(matches!(firewall(&effects)[..], [Firewall::Revoke(_)]));
}

#[test]
fn codes_are_refused_with_the_reason() {
    let mut house = House::new(policy());
    let code_ = code(&house.ask_for_code(mac(1), 1)).unwrap();
    let wrong = if code_ == "111111" { "222222" } else { "111111" };
    let mut try_ = |typed: &str| refusal(&house.page(mac(1), submit(typed)));
    assert_eq!(try_(wrong), Some(Refusal::WrongCode { left: 2 }));
    assert_eq!(try_(wrong), Some(Refusal::WrongCode { left: 1 }));
    assert_eq!(try_(wrong), Some(Refusal::CodeDead));
    assert_eq!(try_(&code_), Some(Refusal::CodeDead));
    house.pass(seconds(60));
    let old = code(&house.ask_for_code(mac(1), 1)).unwrap();
    house.pass(seconds(60));
    let new = code(&house.ask_for_code(mac(1), 1)).unwrap();
    assert_ne!(old, new);
    let page = house.page(mac(1), submit(&old));
    assert_eq!(refusal(&page), Some(Refusal::WrongCode { left: 2 }));
    assert!(matches!(house.page(mac(1), submit(&new)), View::Online { .. }));
    // A code is good once.
    house.page(mac(1), Ask::Logout);
    assert_eq!(refusal(&house.page(mac(1), submit(&new))), Some(Refusal::CodeExpired));
}

#[test]
fn a_code_expires_and_is_good_on_its_own_device_only() {
    let mut house = House::new(policy());
    let code_ = code(&house.ask_for_code(mac(1), 1)).unwrap();
    house.ask_for_code(mac(2), 1);
    let page = house.page(mac(2), submit(&code_));
    assert_eq!(refusal(&page), Some(Refusal::WrongCode { left: 2 }));
    house.pass(seconds(300));
    assert_eq!(refusal(&house.page(mac(1), submit(&code_))), Some(Refusal::CodeExpired));
}

#[test]
fn messages_need_consent_and_a_country_and_may_fail() {
    let mut house = House::new(policy());
    let language = Language::English;
    let mut ask = |phone: Phone, terms: &str| {
        let consent = Consent { terms: terms.into(), marketing: true };
        let effects = house.ask(mac(1), Ask::RequestCode { phone, language, consent });
        assert!(code(&effects).is_none());
        refusal(&view(&effects).unwrap())
    };
    assert_eq!(ask(phone(1), ""), Some(Refusal::NoConsent));
    let abroad = Phone::parse("+447700900123", "86").unwrap();
    assert_eq!(ask(abroad, "1"), Some(Refusal::Country));

    let effects = house.ask_for_code(mac(1), 1);
    let message = effects.iter().find_map(|e| match e {
        Effect::Sms(message) => Some(message.message),
        _ => None,
    });
    let wait = seconds(60);
    let soon = view(&house.ask_for_code(mac(1), 1)).unwrap();
    assert_eq!(refusal(&soon), Some(Refusal::TooSoon { wait }));
    let unsent = Err(Refusal::NotSent);
    house.tell(Event::Sms { mac: mac(1), message: message.unwrap() + 1, sent: unsent });
    assert_eq!(refusal(&house.page(mac(1), Ask::Show)), None);
    house.tell(Event::Sms { mac: mac(1), message: message.unwrap(), sent: unsent });
    assert_eq!(refusal(&house.page(mac(1), Ask::Show)), Some(Refusal::NotSent));
    assert!(code(&house.ask_for_code(mac(1), 1)).is_some());
    assert_eq!(house.page(mac(1), Ask::ChangeNumber), View::Phone { refusal: None });
}

#[test]
fn another_code_goes_to_the_same_number_in_its_time() {
    let mut house = House::new(policy());
    let again = || Ask::ResendCode { language: Language::Chinese };
    let effects = house.ask(mac(1), again());
    assert_eq!(view(&effects), Some(View::Phone { refusal: None }), "there is no number");
    assert!(code(&effects).is_none());
    let first = code(&house.ask_for_code(mac(1), 1)).unwrap();
    let soon = house.ask(mac(1), again());
    let wait = seconds(60);
    assert_eq!(refusal(&view(&soon).unwrap()), Some(Refusal::TooSoon { wait }));
    assert!(code(&soon).is_none());
    house.pass(wait);
    let effects = house.ask(mac(1), again());
    let sent = effects.iter().find_map(|effect| match effect {
        Effect::Sms(message) => Some(message.clone()),
        _ => None,
    });
    let sent = sent.unwrap();
    assert_eq!((sent.phone.digits(), sent.language), (phone(1).digits(), Language::Chinese));
    assert!(matches!(view(&effects), Some(View::Code { refusal: None, .. })));
    if sent.code.0 != first {
        let old = view(&house.ask(mac(1), submit(&first))).unwrap();
        assert!(matches!(refusal(&old), Some(Refusal::WrongCode { .. })), "{old:?}");
    }
    let effects = house.ask(mac(1), submit(&sent.code.0));
    assert!(granted(&effects).is_some());
    // With what was agreed to before the first.
    let agreed = records(&effects).into_iter().find_map(|record| match record {
        Record::Verified { consent, .. } => Some(consent.terms),
        _ => None,
    });
    assert_eq!(agreed.as_deref(), Some("1"));
    assert!(matches!(view(&house.ask(mac(1), again())), None | Some(View::Online { .. })));
}

#[test]
fn what_a_provider_says_of_a_number_reaches_the_guest() {
    let mut house = House::new(policy());
    let mut last = 0;
    let mut send = |house: &mut House, number, refusal| {
        let effects = house.ask_for_code(mac(1), number);
        let sent = effects.iter().find_map(|effect| match effect {
            Effect::Sms(message) => Some(message.message),
            _ => None,
        });
        last = sent.unwrap_or(last);
        house.tell(Event::Sms { mac: mac(1), message: last, sent: Err(refusal) });
        house.page(mac(1), Ask::Show)
    };
    // A number that does not exist: the page asks for another, and the guest need not wait.
    let bad = View::Phone { refusal: Some(Refusal::BadPhone) };
    assert_eq!(send(&mut house, 1, Refusal::BadPhone), bad);
    // A number that had its share: waiting is what helps.
    let page = send(&mut house, 2, Refusal::TooMany);
    assert!(matches!(page, View::Code { refusal: Some(Refusal::TooMany), .. }), "{page:?}");
    let soon = view(&house.ask_for_code(mac(1), 2)).unwrap();
    assert_eq!(refusal(&soon), Some(Refusal::TooSoon { wait: seconds(60) }));
}

#[test]
fn a_full_store_and_a_blocked_device_are_told_so() {
    let mut rules = policy();
    rules.zones[0].max_clients = 1;
    rules.blocked_macs.insert(mac(9));
    rules.trusted_macs.insert(mac(8));
    let mut house = House::new(rules);
    let effects = house.seen(mac(8));
    assert!(granted(&effects).is_some());
    house.agree(&effects);
    let effects = house.ask_for_code(mac(2), 2);
    house.log_in(mac(1), 1);
    let full = house.page(mac(2), submit(&code(&effects).unwrap()));
    assert_eq!(refusal(&full), Some(Refusal::Full));
    house.page(mac(1), Ask::Logout);
    let let_in = house.page(mac(2), submit(&code(&effects).unwrap()));
    assert!(matches!(let_in, View::Online { .. }));
    for ask in [Ask::Show, submit("1"), Ask::Logout, following(token(mac(9), 1))] {
        assert_eq!(house.page(mac(9), ask), View::Blocked);
    }
    let report = house.command(Command::Grant {
        mac: mac(9),
        zone: None,
        length: None,
        limits: Overrides::default(),
    });
    assert!(matches!(report, Report::Refused(_)));
}

#[test]
fn a_trusted_device_is_online_at_sight_and_no_visitor() {
    let mut rules = policy();
    rules.trusted_macs.insert(mac(8));
    let mut house = House::new(rules);
    let effects = house.seen(mac(8));
    let id = granted(&effects).unwrap();
    assert!(!records(&effects).iter().any(|r| matches!(r, Record::VisitOpened { .. })));
    let effects = house.tell(Event::GrantFailed(id));
    assert!(granted(&effects).is_none());
    assert!(granted(&house.seen(mac(8))).is_none(), "not at once again");
    house.pass(seconds(30));
    let effects = house.seen(mac(8));
    let id = granted(&effects).unwrap();
    house.tell(Event::Granted(id));
    assert!(house.tell(Event::StoreFailed(id)).is_empty());
    assert!(matches!(house.page(mac(8), Ask::Logout), View::Online { left: None, .. }));
    house.pass(seconds(100_000));
    assert_eq!(house.grants(), [id]);
}

#[test]
fn a_token_opens_once_for_its_device() {
    let mut house = House::new(policy());
    let follow = |number| following(token(mac(number), number));
    assert_eq!(refusal(&house.page(mac(1), follow(2))), Some(Refusal::TokenElsewhere));
    house.now.wall = None;
    assert_eq!(refusal(&house.page(mac(1), follow(1))), Some(Refusal::ClockUntrusted));
    house.now.wall = Some(WallTime(WALL));
    let not_agreed = Ask::Follow { token: token(mac(1), 1), consent: Consent::default() };
    assert_eq!(refusal(&house.page(mac(1), not_agreed)), Some(Refusal::NoConsent));
    let effects = house.ask(mac(1), follow(1));
    let [
        Record::TokenUsed { .. },
        Record::Verified { consent, .. },
        ..,
        Record::SessionStarted { .. },
    ] = &records(&effects)[..]
    else {
        panic!("{effects:?}")
    };
    assert_eq!(consent.terms, "1");
    house.agree(&effects);
    assert!(matches!(house.page(mac(1), follow(1)), View::Online { .. }));
    house.page(mac(1), Ask::Logout);
    assert_eq!(refusal(&house.page(mac(1), follow(1))), Some(Refusal::TokenUsed));
    house.pass(seconds(600));
    assert_eq!(refusal(&house.page(mac(2), follow(2))), Some(Refusal::TokenExpired));
}

#[test]
fn a_session_ends_once_and_the_guest_reads_why_once() {
    let mut house = House::new(policy());
    house.log_in(mac(1), 1);
    let effects = house.pass(seconds(4 * 3600));
    assert_eq!(ended(&effects), Some(EndReason::SessionTimeout));
    assert!(firewall(&effects).iter().any(|f| matches!(f, Firewall::Revoke(_))));
    house.log_in(mac(2), 2);
    assert_eq!(house.command(Command::Revoke { mac: mac(2) }), Report::Done);
    let reason = EndReason::Revoked;
    assert_eq!(house.page(mac(2), Ask::Show), View::Ended { reason, extend: false });
    assert_eq!(house.page(mac(2), Ask::Show), View::Ended { reason, extend: false }, "told again");
    assert_eq!(house.page(mac(2), Ask::ChangeNumber), View::Phone { refusal: None });
    assert_eq!(house.page(mac(2), Ask::Show), View::Phone { refusal: None });
    assert!(matches!(house.command(Command::Revoke { mac: mac(2) }), Report::Refused(_)));
}

/// Lets 30 s pass and answers the reading with `usage`.
fn reading(house: &mut House, usage: &[(SessionId, u64, u64)]) -> Vec<Effect> {
    let asked = house.pass(seconds(30));
    let asked = firewall(&asked).into_iter().filter(|f| *f == Firewall::ReadUsage).count();
    assert!(asked > 0);
    let usage = usage.iter().map(|&(session, up, down)| Usage { session, up, down, spent: false });
    let usage: Vec<Usage> = usage.collect();
    (0..asked).flat_map(|_| house.tell(Event::Usage(usage.clone()))).collect()
}

#[test]
fn bytes_keep_a_session_and_a_visit_alive() {
    let mut house = House::new(policy());
    let id = house.log_in(mac(1), 1);
    let mut checkpoints = 0;
    for round in 1..=120 {
        let effects = reading(&mut house, &[(id, round * 100, 0)]);
        assert_eq!(ended(&effects), None);
        let used = |r: &Record| matches!(r, Record::SessionUsed { .. });
        checkpoints += records(&effects).iter().filter(|record| used(record)).count();
    }
    assert_eq!(checkpoints, 30);
    // Bytes to the device alone do not show it present.
    for round in 1..=61 {
        reading(&mut house, &[(id, 12_000, round)]);
    }
    let Report::Status(status) = house.command(Command::Status) else { panic!() };
    assert_eq!((status.online, status.visits), (1, 0));
    let effects: Vec<Effect> =
        (0..60).flat_map(|_| reading(&mut house, &[(id, 12_000, 61)])).collect();
    assert_eq!(ended(&effects), Some(EndReason::IdleTimeout));
}

#[test]
fn quotas_end_sessions() {
    let mut rules = policy();
    rules.zones[0].limits.quota = Some(1000);
    let mut house = House::new(rules);
    let id = house.log_in(mac(1), 1);
    reading(&mut house, &[(id, 300, 200)]);
    let View::Online { quota_left, used, .. } = house.page(mac(1), Ask::Show) else { panic!() };
    assert_eq!((quota_left, used), (Some(500), (300, 200)));
    let effects = reading(&mut house, &[(id, 600, 400)]);
    assert_eq!(ended(&effects), Some(EndReason::Quota));
    assert!(matches!(firewall(&effects)[..], [Firewall::Revoke(_)]));
    // One that the kernel dropped itself.
    house.log_in(mac(2), 2);
    house.pass(seconds(29));
    let effects = reading(&mut house, &[]);
    assert_eq!(ended(&effects), Some(EndReason::Quota));
    assert!(firewall(&effects).is_empty());
}

#[test]
fn a_reading_older_than_the_grant_does_not_end_it() {
    let mut house = House::new(policy());
    house.log_in(mac(1), 1);
    house.pass(seconds(30));
    house.log_in(mac(2), 2);
    let effects = house.tell(Event::Usage(vec![]));
    let gone = records(&effects).into_iter().filter_map(|record| match record {
        Record::SessionEnded { session, .. } => Some(session),
        _ => None,
    });
    assert_eq!(gone.collect::<Vec<_>>(), [SessionId(1)]);
    assert_eq!(house.grants(), [SessionId(2)]);
    // Nor does one that was asked for before the table was rebuilt.
    house.pass(seconds(30));
    house.tell(Event::TableLost);
    assert_eq!(ended(&house.tell(Event::Usage(vec![]))), None);
    assert_eq!(ended(&reading(&mut house, &[])), Some(EndReason::SessionTimeout));
}

#[test]
fn a_lost_table_is_rebuilt_with_what_is_left() {
    let mut house = House::new(policy());
    let id = house.log_in(mac(1), 1);
    reading(&mut house, &[(id, 70, 30)]);
    let effects = house.tell(Event::TableLost);
    let [Firewall::Rebuild(grants)] = &firewall(&effects)[..] else { panic!() };
    assert_eq!(grants[0].left, Some(seconds(4 * 3600 - 30)));
    assert_eq!((grants[0].used_up, grants[0].used_down), (70, 30));
    let Report::Status(status) = house.command(Command::Status) else { panic!() };
    assert_eq!((status.rebuilds, status.online, status.devices), (1, 1, 1));
}

#[test]
fn a_visit_lasts_from_first_to_last_evidence() {
    let mut house = House::new(policy());
    house.seen(mac(1));
    house.pass(seconds(100));
    // A wall clock that jumps changes nothing.
    house.now.wall = Some(WallTime(WALL * 2));
    house.seen(mac(1));
    let effects = house.pass(seconds(899));
    let asked = effects.iter().filter(|e| matches!(e, Effect::Solicit { .. })).count();
    assert_eq!((asked, closed(&effects)), (2, vec![]));
    // Within the gap: the same visit.
    house.now.wall = None;
    assert!(records(&house.seen(mac(1))).iter().all(|r| matches!(r, Record::VisitSeen { .. })));
    house.tell(Event::Left { zone: ZONE, mac: mac(1) });
    let effects = house.pass(seconds(10_000));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Solicit { .. })));
    assert_eq!(closed(&effects), [seconds(999)]);
    assert_eq!(house.domain.next_timeout(), None);
    let opened = |r: &Record| matches!(r, Record::VisitOpened { .. });
    assert!(records(&house.seen(mac(1))).iter().any(opened));
}

#[test]
fn one_who_said_goodbye_and_stays_away_is_offline() {
    let mut house = House::new(policy());
    house.log_in(mac(1), 1);
    house.tell(Event::Left { zone: ZONE, mac: mac(1) });
    assert_eq!(ended(&house.pass(seconds(899))), None);
    assert_eq!(ended(&house.pass(seconds(1))), Some(EndReason::Left));
}

#[test]
fn one_who_is_remembered_needs_no_code() {
    let mut rules = policy();
    rules.remember_for = Duration::from_hours(24);
    let mut house = House::new(rules);
    house.log_in(mac(1), 1);
    house.pass(seconds(4 * 3600));
    assert!(matches!(house.page(mac(1), Ask::Show), View::Ended { .. }));
    assert!(matches!(house.page(mac(1), Ask::ChangeNumber), View::Online { .. }));
    // Who is sent away, or goes, proves again.
    house.command(Command::Revoke { mac: mac(1) });
    assert_eq!(house.page(mac(1), Ask::ChangeNumber), View::Phone { refusal: None });
}

#[test]
fn one_who_is_remembered_may_be_asked_for_a_tap() {
    let mut rules = policy();
    rules.remember_for = Duration::from_hours(24);
    rules.return_by_tap = true;
    let mut house = House::new(rules);
    // A tap without a page before it opens nothing to a stranger.
    assert_eq!(house.page(mac(1), Ask::Return), View::Phone { refusal: None });
    house.log_in(mac(1), 1);
    house.pass(seconds(4 * 3600));
    assert!(matches!(house.page(mac(1), Ask::Show), View::Ended { .. }));
    assert_eq!(house.page(mac(1), Ask::ChangeNumber), View::Return);
    assert_eq!(house.page(mac(1), Ask::Show), View::Return);
    assert_eq!(house.page(mac(1), Ask::Look), View::Phone { refusal: None });
    assert!(matches!(house.page(mac(1), Ask::Return), View::Online { .. }));
    house.pass(Duration::from_hours(24));
    house.page(mac(1), Ask::Show);
    assert_eq!(house.page(mac(1), Ask::Return), View::Phone { refusal: None }, "too long ago");
}

#[test]
fn staff_open_and_prolong() {
    let mut house = House::new(policy());
    let grant = |length| Command::Grant {
        mac: mac(1),
        zone: None,
        length: Some(length),
        limits: Overrides::default(),
    };
    assert_eq!(house.command(grant(seconds(600))), Report::Done);
    assert_eq!(house.command(grant(seconds(6000))), Report::Done);
    assert_eq!(ended(&house.pass(seconds(5999))), None);
    let Report::Clients(rows) = house.command(Command::Clients) else { panic!() };
    assert_eq!((rows[0].state, rows[0].seconds_left), ("online", Some(1)));
    assert_eq!(ended(&house.pass(seconds(1))), Some(EndReason::SessionTimeout));
    let mut rules = policy();
    rules.zones.push(rules.zones[0].clone());
    let report = House::new(rules).command(grant(seconds(600)));
    assert!(matches!(report, Report::Refused(_)));
}

#[test]
fn a_flood_of_random_addresses_fills_neither_memory_nor_disk() {
    let mut house = House::new(policy());
    let mut rows = 0;
    for number in 0..50_000u32 {
        let [a, b, c, d] = number.to_be_bytes();
        rows += records(&house.seen(Mac([6, 0, a, b, c, d]))).len();
    }
    let Report::Status(status) = house.command(Command::Status) else { panic!() };
    assert_eq!(status.devices, 20_000);
    assert!(rows <= 3 * 1000, "{rows} rows");
    // A guest among them still gets in.
    house.log_in(mac(1), 1);
    house.pass(Duration::from_hours(1));
    let Report::Status(status) = house.command(Command::Status) else { panic!() };
    assert_eq!(status.devices, 1);
}

#[test]
fn strange_addresses_and_zones_open_nothing() {
    let mut house = House::new(policy());
    for mac in [Mac([0; 6]), Mac([0xff; 6]), Mac([1, 0, 0x5e, 0, 0, 1])] {
        assert!(house.seen(mac).is_empty());
        assert_eq!(house.page(mac, Ask::Show), View::Phone { refusal: Some(Refusal::Failed) });
        let report = house.command(Command::Grant {
            mac,
            zone: None,
            length: None,
            limits: Overrides::default(),
        });
        assert!(matches!(report, Report::Refused(_)));
    }
}

#[test]
fn a_device_that_moves_is_counted_and_cut_off_where_the_owner_wants_that() {
    for cut in [false, true] {
        let mut rules = policy();
        rules.zones[0].cut_on_move = cut;
        rules.remember_for = seconds(86_400);
        rules.trusted_macs.insert(mac(3));
        let mut house = House::new(rules);
        let effects = house.seen(mac(3));
        house.agree(&effects);
        house.log_in(mac(1), 1);
        house.seen(mac(2));
        let moved = [1, 2, 3, 4].map(|device| (ZONE, mac(device)));
        let effects = house.tell(Event::Moved(moved.into()));
        assert_eq!(ended(&effects), cut.then_some(EndReason::Moved));
        let Report::Status(status) = house.command(Command::Status) else { panic!() };
        assert_eq!((status.moves, status.online), (2, if cut { 1 } else { 2 }));
        if cut {
            assert_eq!(
                house.page(mac(1), Ask::Show),
                View::Ended { reason: EndReason::Moved, extend: false }
            );
            // What is remembered of the device is not its word any more.
            assert_eq!(house.page(mac(1), Ask::ChangeNumber), View::Phone { refusal: None });
        }
    }
}

#[test]
fn what_is_sent_is_on_record_before_it_is_sent() {
    let mut house = House::new(policy());
    let effects = house.ask_for_code(mac(1), 1);
    let counted = |effect: &Effect| matches!(effect, Effect::Store(Record::MessageCounted { mac: m, .. }) if *m == mac(1));
    let place = effects.iter().position(counted).unwrap();
    assert!(effects[place..].iter().any(|effect| matches!(effect, Effect::Sms(_))));
    // Refused ones are not.
    let effects = house.ask_for_code(mac(1), 1);
    assert!(!effects.iter().any(counted));
}
