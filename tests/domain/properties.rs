use std::collections::{BTreeMap, BTreeSet};

use maitred::domain::effect::{
    Answer, Effect, Firewall, Grant, Message, Method, Record, Refusal, View,
};
use maitred::domain::event::{Ask, Client, Command, Event, Language, Usage};
use maitred::domain::names::{BootTime, Mac, RequestId, SessionId, VisitId, WallTime};
use maitred::domain::policy::{Limits, Overrides, Policy};
use proptest::prelude::*;

use crate::house::*;

const DEVICES: u8 = 5;
const TRUSTED: u8 = 0;

/// A step of a random story. Devices are 0 to 4; 0 is on the trusted list.
#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    WallJump(Option<i64>),
    Seen(u8),
    Left(u8),
    Show(u8),
    RequestCode(u8, u32),
    ResendCode(u8),
    ChangeNumber(u8),
    RightCode(u8),
    WrongCode(u8),
    /// The second device's token on the first.
    Follow(u8, u8),
    Logout(u8),
    StaffGrant(u8),
    StaffRevoke(u8),
    Limit(u8, u64),
    /// The owner trusts and blocks other devices: a bit each; blocked goes first.
    Reload(u8, u8),
    Status,
    /// Kernel or disk settle what they were asked: yes or no.
    Kernel(bool),
    Disk(bool),
    SmsOutcome(bool),
    /// A reading in which every session moved this much; the odd ones may be missing.
    Usage(u64, bool),
    TableLost,
}

fn step() -> impl Strategy<Value = Step> {
    let device = || 0..DEVICES;
    prop_oneof![
        4 => (0u64..400_000).prop_map(Step::Pass),
        1 => (0u64..20_000_000).prop_map(Step::Pass),
        1 => proptest::option::of(-1_000_000_000i64..1_000_000_000).prop_map(Step::WallJump),
        4 => device().prop_map(Step::Seen),
        1 => device().prop_map(Step::Left),
        3 => device().prop_map(Step::Show),
        6 => (device(), 0u32..4).prop_map(|(d, n)| Step::RequestCode(d, n)),
        1 => device().prop_map(Step::ResendCode),
        1 => device().prop_map(Step::ChangeNumber),
        5 => device().prop_map(Step::RightCode),
        3 => device().prop_map(Step::WrongCode),
        3 => (device(), device()).prop_map(|(a, b)| Step::Follow(a, b)),
        1 => device().prop_map(Step::Logout),
        1 => device().prop_map(Step::StaffGrant),
        1 => device().prop_map(Step::StaffRevoke),
        1 => (device(), 0u64..9000).prop_map(|(d, quota)| Step::Limit(d, quota)),
        2 => (0u8..32, 0u8..32).prop_map(|(t, b)| Step::Reload(t & b, b & !t)),
        1 => Just(Step::Status),
        6 => prop::bool::weighted(0.85).prop_map(Step::Kernel),
        6 => prop::bool::weighted(0.85).prop_map(Step::Disk),
        2 => any::<bool>().prop_map(Step::SmsOutcome),
        3 => (0u64..5000, prop::bool::weighted(0.1)).prop_map(|(b, m)| Step::Usage(b, m)),
        1 => Just(Step::TableLost),
    ]
}

/// What an outside observer remembers, and holds the domain to.
#[derive(Default)]
struct Witness {
    sent: Vec<(BootTime, Message)>,
    codes: BTreeMap<Mac, String>,
    wrong: BTreeMap<Mac, u32>,
    trusted: BTreeSet<Mac>,
    blocked: BTreeSet<Mac>,
    /// Evidence that justifies a grant, by device.
    proofs: BTreeSet<Mac>,
    granted: BTreeSet<SessionId>,
    revoked: BTreeSet<SessionId>,
    started: BTreeSet<SessionId>,
    ended: BTreeSet<SessionId>,
    nonces: BTreeSet<[u8; 16]>,
    follows: usize,
    kernel: Vec<SessionId>,
    disk: Vec<SessionId>,
    confirmed: BTreeSet<SessionId>,
    usage: BTreeMap<SessionId, u64>,
    evidence: BTreeMap<Mac, BTreeSet<BootTime>>,
    open: BTreeMap<VisitId, (Mac, BootTime)>,
    closed: BTreeSet<VisitId>,
    awaited: BTreeSet<RequestId>,
}

impl Witness {
    fn watch(&mut self, effects: &[Effect], now: BootTime) {
        for effect in effects {
            match effect {
                Effect::Firewall(change) => self.firewall(change),
                Effect::Store(record) => self.record(record, now),
                Effect::Sms(message) => {
                    self.codes.insert(message.mac, message.code.0.clone());
                    self.wrong.insert(message.mac, 0);
                    self.sent.push((now, message.clone()));
                    self.limits(message, now);
                }
                Effect::Reply { request, answer } => {
                    assert!(self.awaited.remove(request), "answered twice or unasked");
                    if let Answer::Portal(View::Online { .. }) = answer {
                        assert!(!self.granted.is_empty());
                    }
                }
                Effect::Solicit { addresses, .. } => assert!(!addresses.is_empty()),
            }
        }
    }

    fn limits(&self, message: &Message, now: BootTime) {
        let count = |window: u64, same: &dyn Fn(&Message) -> bool| {
            let recent = self.sent.iter().filter(|(at, _)| now.0 - at.0 < window * 1000);
            recent.filter(|(_, other)| same(other)).count()
        };
        let day = 86_400;
        assert!(count(day, &|other| other.mac == message.mac) <= 4);
        assert!(count(day, &|other| other.phone == message.phone) <= 5);
        assert!(count(3600, &|other| other.phone == message.phone) <= 3);
        assert!(count(day, &|_| true) <= 8, "all numbers here are of one range");
    }

    fn may(&self, mac: Mac) -> bool {
        let proof = self.proofs.contains(&mac) || self.trusted.contains(&mac);
        proof && !self.blocked.contains(&mac)
    }

    fn firewall(&mut self, change: &Firewall) {
        match change {
            Firewall::Grant(grant) => {
                assert!(self.granted.insert(grant.session), "granted twice");
                assert!(self.may(grant.mac), "granted without proof");
                self.kernel.push(grant.session);
                self.usage.insert(grant.session, 0);
            }
            Firewall::Replace(grant) => self.kernel.push(grant.session),
            Firewall::Revoke(grant) => {
                assert!(self.granted.contains(&grant.session));
                assert!(self.revoked.insert(grant.session), "revoked twice");
            }
            Firewall::Rebuild(grants) => {
                let marks: BTreeSet<_> = grants.iter().map(|grant| grant.mark).collect();
                assert_eq!(marks.len(), grants.len(), "marks are unique");
                let dead = |grant: &Grant| self.ended.contains(&grant.session);
                assert!(!grants.iter().any(dead));
            }
            Firewall::Pass(_) => panic!("nobody asked for a pass"),
            Firewall::Block(devices) => assert_eq!(*devices, self.blocked),
            Firewall::ReadUsage => {}
        }
    }

    fn record(&mut self, record: &Record, now: BootTime) {
        match record {
            Record::Verified { mac, .. } => {
                self.proofs.insert(*mac);
            }
            Record::TokenUsed { nonce, .. } => {
                assert!(self.nonces.insert(*nonce), "a token was used twice");
            }
            Record::SessionStarted { grant, method, .. } => {
                assert!(self.started.insert(grant.session));
                self.disk.push(grant.session);
                self.follows += usize::from(*method == Method::Follow);
                assert!(self.follows <= self.nonces.len());
            }
            Record::SessionEnded { session, .. } => {
                assert!(self.started.contains(session) && self.ended.insert(*session));
            }
            Record::VisitOpened { visit, mac, at, .. } => {
                assert!(!self.trusted.contains(mac), "trusted devices are no visitors");
                assert!(self.open.insert(*visit, (*mac, *at)).is_none());
                assert!(*at == now);
            }
            Record::VisitClosed { visit, dwell, last } => {
                assert!(self.closed.insert(*visit), "closed twice");
                let (mac, first) = self.open.remove(visit).unwrap();
                assert!(*last >= first);
                assert_eq!(*dwell, *last - first);
                let at = &self.evidence[&mac];
                assert!(at.contains(&first) && at.contains(last), "ends are evidence");
                assert_eq!(at.range(..=now).next_back(), Some(last));
            }
            _ => {}
        }
    }
}

fn mac_of(device: u8) -> Mac {
    mac(device)
}

fn rules() -> Policy {
    let mut rules = policy();
    rules.zones[0].max_clients = 3;
    rules
}

struct Story {
    house: House,
    witness: Witness,
}

impl Story {
    fn new() -> Self {
        let mut rules = rules();
        rules.trusted_macs.insert(mac_of(TRUSTED));
        let mut witness = Witness::default();
        witness.trusted.insert(mac_of(TRUSTED));
        Self { house: House::new(rules), witness }
    }

    fn tell(&mut self, event: Event) {
        let now = self.house.now.boot;
        let effects = self.house.tell(event);
        self.witness.watch(&effects, now);
        let grants = self.house.domain.grants(now);
        for grant in grants {
            assert!(self.witness.may(grant.mac));
            let trusted = self.witness.trusted.contains(&grant.mac);
            assert!(!trusted || (grant.left, grant.limits) == (None, Limits::default()));
            assert!(!self.witness.ended.contains(&grant.session));
            assert!(!self.witness.revoked.contains(&grant.session));
        }
    }

    fn evidence(&mut self, device: u8) {
        let at = self.house.now.boot;
        self.witness.evidence.entry(mac_of(device)).or_default().insert(at);
    }

    fn ask(&mut self, device: u8, ask: Ask) {
        self.evidence(device);
        let request = self.house.request();
        self.witness.awaited.insert(request);
        let mac = mac_of(device);
        let client = Client { zone: ZONE, mac, address: address(mac) };
        self.tell(Event::Portal { request, client, ask });
    }

    fn command(&mut self, command: Command) {
        let request = self.house.request();
        self.witness.awaited.insert(request);
        self.tell(Event::Control { request, command });
    }

    fn pass(&mut self, millis: u64) {
        let end = BootTime(self.house.now.boot.0 + millis);
        let mut ticks = 0;
        while let Some(at) = self.house.domain.next_timeout().filter(|at| *at <= end) {
            self.house.now.boot = at;
            self.tell(Event::Tick);
            ticks += 1;
            assert!(ticks < 10_000, "a busy loop");
        }
        self.house.now.boot = end;
    }

    fn kernel(&mut self, agrees: bool) {
        for session in std::mem::take(&mut self.witness.kernel) {
            if agrees {
                self.witness.confirmed.insert(session);
            }
            self.tell(if agrees { Event::Granted(session) } else { Event::GrantFailed(session) });
        }
    }

    fn disk(&mut self, agrees: bool) {
        for session in std::mem::take(&mut self.witness.disk) {
            self.tell(if agrees { Event::Stored(session) } else { Event::StoreFailed(session) });
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Pass(millis) => self.pass(millis),
            Step::WallJump(to) => self.house.now.wall = to.map(|by| WallTime(WALL + by)),
            Step::Seen(device) => {
                self.evidence(device);
                let mac = mac_of(device);
                let now = self.house.now.boot;
                let effects = self.house.seen(mac);
                self.witness.watch(&effects, now);
            }
            Step::Left(device) => {
                // Counts only if a visit is open.
                let mac = mac_of(device);
                self.tell(Event::Tick);
                if self.witness.open.values().any(|(visitor, _)| *visitor == mac) {
                    self.evidence(device);
                }
                self.tell(Event::Left { zone: ZONE, mac });
            }
            Step::Show(device) => self.ask(device, Ask::Show),
            Step::RequestCode(device, number) => self.ask(device, code_to(number)),
            Step::ResendCode(device) => {
                self.ask(device, Ask::ResendCode { language: Language::Chinese });
            }
            Step::ChangeNumber(device) => self.ask(device, Ask::ChangeNumber),
            Step::RightCode(device) => {
                let code = self.witness.codes.get(&mac_of(device)).cloned();
                let code = code.unwrap_or_else(|| "123456".into());
                // More wrong tries than allowed kill even the right code.
                let dead = self.witness.wrong.get(&mac_of(device)).is_some_and(|n| *n >= 3);
                let before = self.witness.granted.len();
                let trusted = self.witness.trusted.contains(&mac_of(device));
                self.ask(device, Ask::SubmitCode { code });
                assert!(trusted || !dead || self.witness.granted.len() == before);
            }
            Step::WrongCode(device) => {
                let mac = mac_of(device);
                let code = self.witness.codes.get(&mac).map(String::as_str);
                let code = if code == Some("000000") { "000001" } else { "000000" }.to_owned();
                let online =
                    self.house.domain.grants(self.house.now.boot).iter().any(|g| g.mac == mac);
                let guests = self.house.domain.grants(self.house.now.boot).len();
                let trusted = self.witness.trusted.contains(&mac);
                if !online && guests < 3 && !trusted && !self.witness.blocked.contains(&mac) {
                    *self.witness.wrong.entry(mac).or_insert(0) += 1;
                }
                self.ask(device, Ask::SubmitCode { code });
            }
            Step::Follow(device, made_for) => {
                let before = self.witness.follows;
                let token = token(mac_of(made_for), made_for);
                self.ask(device, following(token));
                assert!(device == made_for || self.witness.follows == before);
            }
            Step::Logout(device) => self.ask(device, Ask::Logout),
            _ => self.world(step),
        }
    }

    /// The steps that are not a guest's.
    fn world(&mut self, step: &Step) {
        match *step {
            Step::StaffGrant(device) => {
                let mac = mac_of(device);
                self.witness.proofs.insert(mac);
                let length = Some(seconds(1000));
                let limits = Overrides { quota: Some(5000), ..Overrides::default() };
                self.command(Command::Grant { mac, zone: None, length, limits });
            }
            Step::StaffRevoke(device) => self.command(Command::Revoke { mac: mac_of(device) }),
            Step::Limit(device, quota) => {
                let limits = Overrides { quota: Some(quota), ..Overrides::default() };
                self.command(Command::Limit { mac: mac_of(device), limits });
            }
            Step::Reload(trusted, blocked) => self.reload(trusted, blocked),
            Step::Status => self.command(Command::Status),
            Step::Kernel(agrees) => self.kernel(agrees),
            Step::Disk(agrees) => self.disk(agrees),
            Step::SmsOutcome(taken) => {
                if let Some((_, message)) = self.witness.sent.last() {
                    let (mac, message) = (message.mac, message.message);
                    let sent = taken.then_some(()).ok_or(Refusal::NotSent);
                    self.tell(Event::Sms { mac, message, sent });
                }
            }
            Step::Usage(bytes, missing) => self.usage(bytes, missing),
            Step::TableLost => self.tell(Event::TableLost),
            _ => unreachable!("a guest's step"),
        }
    }

    fn reload(&mut self, trusted: u8, blocked: u8) {
        let macs = |bits: u8| (0..DEVICES).filter(move |d| bits >> d & 1 == 1).map(mac_of);
        // What fell due before goes by the old rules.
        self.tell(Event::Tick);
        self.witness.trusted = macs(trusted).collect();
        self.witness.blocked = macs(blocked).collect();
        let mut policy = rules();
        policy.trusted_macs.clone_from(&self.witness.trusted);
        policy.blocked_macs.clone_from(&self.witness.blocked);
        let request = self.house.request();
        self.witness.awaited.insert(request);
        self.tell(Event::Reload { request, policy: Box::new(policy) });
    }

    /// A reading of the counters in which nothing has moved.
    fn look(&mut self) {
        self.tell(Event::Tick);
        let grants = self.house.domain.grants(self.house.now.boot);
        let usage = grants.into_iter().map(|grant| Usage {
            session: grant.session,
            up: grant.used_up,
            down: grant.used_down,
            spent: false,
        });
        self.tell(Event::Usage(usage.collect()));
    }

    fn usage(&mut self, bytes: u64, missing: bool) {
        self.tell(Event::Tick);
        let mut usage = Vec::new();
        for grant in self.house.domain.grants(self.house.now.boot) {
            if missing && grant.session.0 % 2 == 1 {
                continue;
            }
            let up = self.witness.usage.entry(grant.session).or_default();
            *up += bytes;
            usage.push(Usage { session: grant.session, up: *up, down: 0, spent: false });
            // Counts only once the kernel confirmed the session.
            if bytes > 0 && self.witness.confirmed.contains(&grant.session) {
                self.evidence(grant.mac.0[5]);
            }
        }
        self.tell(Event::Usage(usage));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_rules_hold(steps in prop::collection::vec(step(), 1..120)) {
        let mut story = Story::new();
        for step in steps {
            story.step(&step);
        }
        story.kernel(true);
        story.disk(true);
        story.look();
        prop_assert!(story.witness.awaited.is_empty(), "somebody still waits");
        // Everybody goes home.
        story.pass(16_000_000);
        prop_assert!(story.witness.open.is_empty(), "a visit stays open");
        let live: BTreeSet<SessionId> = story.house.grants().into_iter().collect();
        let over: BTreeSet<SessionId> =
            story.witness.started.difference(&story.witness.ended).copied().collect();
        prop_assert_eq!(live, over);
    }

    #[test]
    fn a_greedy_guesser_gets_its_tries_and_no_more(guesses in prop::collection::vec("[0-9]{6}", 20)) {
        let mut house = House::new(policy());
        let code = code(&house.ask_for_code(mac(1), 1)).unwrap();
        prop_assume!(!guesses.contains(&code));
        for guess in guesses {
            house.page(mac(1), Ask::SubmitCode { code: guess });
        }
        let effects = house.ask(mac(1), Ask::SubmitCode { code });
        prop_assert!(granted(&effects).is_none());
    }
}
