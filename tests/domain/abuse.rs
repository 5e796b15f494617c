//! Strangers who want messages sent, codes guessed, or numbers told.

use std::collections::BTreeMap;
use std::time::Duration;

use maitred::domain::effect::{Effect, Record, Refusal, Report, View};
use maitred::domain::event::{Ask, Client, Command, Event};
use maitred::domain::names::{Mac, ZoneId};
use maitred::domain::policy::{AlarmPolicy, CodePolicy, OnAlarm, Policy};
use maitred::domain::saved::{SavedMessage, Snapshot};
use proptest::prelude::*;

use crate::house::*;

const DEVICES: u64 = 1000;
const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

/// A message that was sent, and the guesses at its code that were looked at.
struct Sent {
    at: u64,
    mac: Mac,
    zone: ZoneId,
    number: u32,
    guesses: u32,
    dead: bool,
}

/// A thousand devices in two zones, and all the time of a day and an hour.
struct Attacker {
    house: House,
    seed: u64,
    sent: Vec<Sent>,
    /// The message whose code each device may guess at.
    current: BTreeMap<Mac, usize>,
    counted: Vec<Record>,
}

fn device(number: u64) -> Mac {
    let [.., a, b] = number.to_be_bytes();
    Mac([2, 0, 0, 1, a, b])
}

fn zone_of(mac: Mac) -> ZoneId {
    ZoneId(mac.0[5] % 2)
}

fn rules(code: CodePolicy) -> Policy {
    let mut rules = policy();
    let mut second = rules.zones[0].clone();
    second.name = "second".into();
    rules.zones.push(second);
    rules.code = code;
    rules
}

impl Attacker {
    fn random(&mut self, below: u64) -> u64 {
        // SplitMix64.
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below
    }

    fn ask(&mut self, mac: Mac, ask: Ask) -> Vec<Effect> {
        let (request, client) =
            (self.house.request(), Client { zone: zone_of(mac), mac, address: address(mac) });
        self.house.tell(Event::Portal { request, client, ask })
    }

    /// One device asks for a code, then guesses until nobody listens.
    fn turn(&mut self, mac: Mac) {
        // Few numbers for the numbers' limits, many ranges for the others.
        let number = u32::try_from(self.random(40) * 10_000 + self.random(3)).unwrap();
        let effects = self.ask(mac, code_to(number));
        for effect in effects {
            match effect {
                Effect::Sms(message) => {
                    assert_eq!(message.mac, mac);
                    let (at, zone) = (self.house.now.boot.0, zone_of(mac));
                    self.current.insert(mac, self.sent.len());
                    self.sent.push(Sent { at, mac, zone, number, guesses: 0, dead: false });
                }
                Effect::Store(record @ Record::MessageCounted { .. }) => self.counted.push(record),
                _ => {}
            }
        }
        for _ in 0..12 {
            let code = format!("{:06}", self.random(1_000_000));
            let effects = self.ask(mac, Ask::SubmitCode { code });
            let Some(View::Code { refusal, .. }) = view(&effects) else { break };
            let Some(sent) = self.current.get(&mac).map(|place| &mut self.sent[*place]) else {
                break;
            };
            match refusal {
                Some(Refusal::WrongCode { .. }) => sent.guesses += 1,
                // The guess that kills a code is answered as those behind it are.
                Some(Refusal::CodeDead) if !sent.dead => {
                    sent.guesses += 1;
                    sent.dead = true;
                }
                _ => break,
            }
        }
    }

    /// A power cut: what was counted is on disk, nothing else is.
    fn restart(&mut self, policy: Policy) {
        let now = self.house.now;
        let messages = self.counted.iter().map(|record| {
            let Record::MessageCounted { mac, number, prefix, zone, at } = record else {
                unreachable!()
            };
            let (mac, number, prefix, zone) = (*mac, *number, *prefix, Some(*zone));
            SavedMessage { mac, number, prefix, zone, age: now.boot - *at }
        });
        let messages = messages.collect();
        self.house = House::new(policy);
        self.house.now = now;
        let snapshot = Snapshot { messages, ..Snapshot::default() };
        let _ = self.house.domain.restore(snapshot, Some(Vec::new()), now);
        self.current.clear();
    }

    /// The most messages of one subject within any `length`.
    fn most<K: Ord>(&self, length: u64, subject: impl Fn(&Sent) -> K) -> u32 {
        let mut times: BTreeMap<K, Vec<u64>> = BTreeMap::new();
        for sent in &self.sent {
            times.entry(subject(sent)).or_default().push(sent.at);
        }
        let most_of = |times: &Vec<u64>| {
            let within = |from: u64| times.partition_point(|at| *at < from + length);
            let counts = times.iter().enumerate().map(|(place, from)| within(*from) - place);
            counts.max().unwrap_or(0)
        };
        u32::try_from(times.values().map(most_of).max().unwrap_or(0)).unwrap()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    #[test]
    fn a_thousand_greedy_devices_get_no_more_than_is_configured(
        seed in any::<u64>(),
        tries in 1u8..6,
        (device_day, hour, day, prefix) in (1u32..5, 1u32..4, 2u32..8, 3u32..30),
        (zone, store) in (20u32..400, 50u32..600),
        cut in 1u64..24,
        slow in any::<bool>(),
    ) {
        let then = if slow { OnAlarm::Slow } else { OnAlarm::Tell };
        let alarm = AlarmPolicy { window: seconds(3600), at_least: 30, percent: 20, then };
        let code = CodePolicy {
            tries,
            per_device_day: device_day,
            per_number_hour: hour,
            per_number_day: day,
            per_prefix_day: prefix,
            per_zone_day: zone,
            per_store_day: store,
            alarm,
            ..policy().code
        };
        let rules = rules(code);
        let house = House::new(rules.clone());
        let (sent, current, counted) = (Vec::new(), BTreeMap::new(), Vec::new());
        let mut attacker = Attacker { house, seed, sent, current, counted };
        for minute in (0..25 * 60).step_by(20) {
            for number in 0..DEVICES {
                attacker.turn(device(number));
            }
            attacker.house.pass(seconds(20 * 60));
            if minute == cut * 60 {
                attacker.restart(rules.clone());
            }
        }
        for (most, limit, what) in [
            (attacker.most(DAY, |sent| sent.mac), device_day, "a device"),
            (attacker.most(HOUR, |sent| sent.number), hour, "a number in an hour"),
            (attacker.most(DAY, |sent| sent.number), day, "a number"),
            (attacker.most(DAY, |sent| sent.number / 10_000), prefix, "a range"),
            (attacker.most(DAY, |sent| sent.zone), zone, "a zone"),
            (attacker.most(DAY, |_| ()), store, "the store"),
        ] {
            prop_assert!(most <= limit, "{what}: {most} of {limit}");
        }
        prop_assert!(!attacker.sent.is_empty());
        for sent in &attacker.sent {
            prop_assert!(sent.guesses <= u32::from(tries), "{} of {tries}", sent.guesses);
        }
    }
}

#[test]
fn a_number_that_is_known_is_answered_like_any_other() {
    let mut house = House::new(policy());
    house.log_in(mac(1), 55);
    let known = house.page(mac(2), code_to(55));
    let unknown = house.page(mac(3), code_to(155));
    assert_eq!(known, unknown);
    let wrong = |house: &mut House, mac| house.page(mac, Ask::SubmitCode { code: "x".into() });
    assert_eq!(wrong(&mut house, mac(2)), wrong(&mut house, mac(3)));
}

#[test]
fn messages_stop_while_few_codes_come_back_and_go_on_by_themselves() {
    let mut rules = policy();
    rules.code.per_store_day = 100;
    rules.code.alarm =
        AlarmPolicy { window: seconds(3600), at_least: 5, percent: 30, then: OnAlarm::Pause };
    let mut house = House::new(rules);
    for number in 1..=5 {
        assert!(code(&house.ask_for_code(mac(number), u32::from(number) * 10_000)).is_some());
    }
    house.pass(seconds(299));
    assert!(code(&house.ask_for_code(mac(6), 60_000)).is_some(), "they may still be typed in");
    house.pass(seconds(1));
    let effects = house.ask_for_code(mac(7), 70_000);
    assert!(code(&effects).is_none());
    let refusal = Some(Refusal::TooMany);
    assert_eq!(view(&effects), Some(View::Phone { refusal }));
    let told = |effects: &[Effect]| -> Vec<(bool, u32, u32)> {
        let alarms = records(effects).into_iter().filter_map(|record| match record {
            Record::Alarm { begins, sent, accepted, .. } => Some((begins, sent, accepted)),
            _ => None,
        });
        alarms.collect()
    };
    assert_eq!(told(&effects), [(true, 5, 0)]);
    assert!(told(&house.ask_for_code(mac(8), 80_000)).is_empty(), "told once");
    let alarm = |house: &mut House| {
        let Report::Status(status) = house.command(Command::Status) else { panic!() };
        status.alarm
    };
    assert!(alarm(&mut house));
    house.pass(seconds(3600));
    assert!(!alarm(&mut house));
    assert!(code(&house.ask_for_code(mac(7), 70_000)).is_some());
}

#[test]
fn messages_that_no_provider_took_raise_no_alarm() {
    let mut rules = policy();
    rules.code.alarm =
        AlarmPolicy { window: seconds(3600), at_least: 3, percent: 50, then: OnAlarm::Pause };
    let mut house = House::new(rules);
    for number in 1..=4 {
        let effects = house.ask_for_code(mac(number), u32::from(number) * 10_000);
        let message = effects.iter().find_map(|effect| match effect {
            Effect::Sms(message) => Some(message.message),
            _ => None,
        });
        let (mac, message) = (mac(number), message.unwrap());
        house.tell(Event::Sms { mac, message, sent: Err(Refusal::NotSent) });
    }
    house.pass(seconds(600));
    assert!(code(&house.ask_for_code(mac(5), 50_000)).is_some());
}

#[test]
fn a_page_of_ones_own_is_of_the_session_and_of_nobody_else() {
    let mut house = House::new(policy());
    assert_eq!(house.page(mac(1), Ask::Mine), View::Phone { refusal: None });
    house.log_in(mac(1), 1);
    house.log_in(mac(2), 2);
    let mine = |house: &mut House, number| match house.page(mac(number), Ask::Mine) {
        View::Mine { guest } => Some(guest),
        _ => None,
    };
    let (one, two) = (mine(&mut house, 1), mine(&mut house, 2));
    assert!(one.is_some() && two.is_some() && one != two);
    assert_eq!(mine(&mut house, 3), None, "a device without a session");
    house.command(Command::Erase { guest: one.unwrap() });
    assert_eq!(mine(&mut house, 1), None, "nobody's any more, though online");
    assert!(matches!(house.page(mac(1), Ask::Show), View::Online { .. }));
    for _ in 0..10 {
        mine(&mut house, 2);
    }
    assert_eq!(mine(&mut house, 2), None, "the disk is not theirs to wear out");
    house.pass(Duration::from_secs(60));
    assert_eq!(mine(&mut house, 2), two);
}
