//! A store in memory: a domain, a clock, and a kernel and disk that answer when told to.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use maitred::domain::auth::follow::{Card, Token};
use maitred::domain::effect::{Answer, Effect, Firewall, Pass, Record, Report, View};
use maitred::domain::event::{Ask, Client, Command, Consent, Event, Evidence, Language, Sighting};
use maitred::domain::names::{
    BootTime, GuestKey, Mac, Now, Phone, RequestId, SessionId, WallTime, ZoneId,
};
use maitred::domain::policy::{AlarmPolicy, CodePolicy, Limits, Policy, VisitPolicy, ZonePolicy};
use maitred::domain::{Domain, Secrets};
use ring::signature::{Ed25519KeyPair, KeyPair as _};

pub(crate) const ZONE: ZoneId = ZoneId(0);
pub(crate) const WALL: i64 = 1_800_000_000_000;

pub(crate) fn mac(number: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, number])
}

pub(crate) fn phone(number: u32) -> Phone {
    Phone::parse(&format!("138{number:08}"), "86").unwrap()
}

pub(crate) fn address(mac: Mac) -> IpAddr {
    IpAddr::from([10, 0, mac.0[4], mac.0[5]])
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn signer() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
}

pub(crate) fn policy() -> Policy {
    let zone = ZonePolicy {
        name: "guest".into(),
        session_timeout: seconds(4 * 3600),
        extend: 0,
        idle_timeout: seconds(1800),
        preauth_idle_timeout: seconds(1800),
        limits: Limits::default(),
        max_clients: 100,
        roam: false,
        cut_on_move: false,
    };
    Policy {
        store_id: "s1".into(),
        zones: vec![zone],
        code: CodePolicy {
            length: 6,
            lifetime: seconds(300),
            tries: 3,
            resend_after: seconds(60),
            per_device_day: 4,
            per_number_hour: 3,
            per_number_day: 5,
            per_prefix_day: 8,
            per_zone_day: 100,
            per_store_day: 12,
            countries: vec!["86".into()],
            alarm: AlarmPolicy::QUIET,
        },
        follow_keys: vec![signer().public_key().as_ref().try_into().unwrap()],
        seal_key: None,
        pass: None,
        visit: VisitPolicy { leave_after: seconds(300), merge_gap: seconds(900) },
        trusted_macs: BTreeSet::new(),
        blocked_macs: BTreeSet::new(),
        preemptive_macs: BTreeSet::new(),
        remember_for: Duration::ZERO,
        return_by_tap: false,
        max_devices: 3,
        vouchers: true,
    }
}

/// A token for a device, good for ten minutes from the start.
pub(crate) fn token(mac: Mac, nonce: u8) -> String {
    let issued = u32::try_from(WALL / 1000).unwrap();
    Token {
        card: Card::new("s1", "guest", mac),
        guest: GuestKey([nonce; 16]),
        issued,
        expires: issued + 600,
        nonce: [nonce; 16],
    }
    .mint(&signer())
}

/// Follows the account's link, and agrees to the terms.
pub(crate) fn following(token: String) -> Ask {
    let consent = Consent { terms: "1".into(), marketing: false };
    Ask::Follow { token, consent }
}

/// Asks for a code.
pub(crate) fn code_to(number: u32) -> Ask {
    let consent = Consent { terms: "1".into(), marketing: false };
    Ask::RequestCode { phone: phone(number), language: Language::English, consent }
}

#[derive(Debug)]
pub(crate) struct House {
    pub(crate) domain: Domain,
    pub(crate) now: Now,
    requests: u32,
}

impl House {
    pub(crate) fn new(policy: Policy) -> Self {
        let domain =
            Domain::new(policy, Secrets { guest_key: [1; 32], voucher_key: [3; 32] }, [2; 32]);
        let now = Now { boot: BootTime(100_000_000), wall: Some(WallTime(WALL)) };
        Self { domain, now, requests: 0 }
    }

    pub(crate) fn tell(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.domain.handle(event, self.now, &mut effects);
        let next = self.domain.next_timeout();
        assert!(next.is_none_or(|at| at > self.now.boot), "a deadline lies in the past");
        effects
    }

    /// Lets time pass, with a tick at every deadline.
    pub(crate) fn pass(&mut self, length: Duration) -> Vec<Effect> {
        let mut effects = Vec::new();
        let end = self.now.boot + length;
        while let Some(at) = self.domain.next_timeout().filter(|at| *at <= end) {
            self.set(at);
            effects.extend(self.tell(Event::Tick));
        }
        self.set(end);
        effects
    }

    fn set(&mut self, boot: BootTime) {
        let step = boot - self.now.boot;
        self.now = Now { boot, wall: self.now.wall.map(|wall| wall + step) };
    }

    pub(crate) fn seen(&mut self, mac: Mac) -> Vec<Effect> {
        self.tell(Event::Seen(Sighting {
            zone: ZONE,
            mac,
            address: Some(address(mac)),
            hostname: None,
            evidence: Evidence::Arp,
        }))
    }

    pub(crate) fn request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    pub(crate) fn ask(&mut self, mac: Mac, ask: Ask) -> Vec<Effect> {
        let request = self.request();
        let client = Client { zone: ZONE, mac, address: address(mac) };
        self.tell(Event::Portal { request, client, ask })
    }

    /// Asks and gives the page; the kernel and the disk agree to everything.
    pub(crate) fn page(&mut self, mac: Mac, ask: Ask) -> View {
        let mut effects = self.ask(mac, ask);
        effects.extend(self.agree(&effects));
        view(&effects).unwrap()
    }

    pub(crate) fn command(&mut self, command: Command) -> Report {
        let request = self.request();
        let mut effects = self.tell(Event::Control { request, command });
        effects.extend(self.agree(&effects));
        effects.into_iter().find_map(report).unwrap()
    }

    /// Kernel and disk agree to every grant in `effects`.
    pub(crate) fn agree(&mut self, effects: &[Effect]) -> Vec<Effect> {
        let mut more = Vec::new();
        for effect in effects {
            match effect {
                Effect::Firewall(Firewall::Grant(grant) | Firewall::Replace(grant)) => {
                    more.extend(self.tell(Event::Granted(grant.session)));
                }
                Effect::Firewall(Firewall::Pass(Pass { zone, mac, .. })) => {
                    let (zone, mac) = (*zone, *mac);
                    more.extend(self.tell(Event::Passed { zone, mac, opened: true }));
                }
                Effect::Store(Record::SessionStarted { grant, .. }) => {
                    more.extend(self.tell(Event::Stored(grant.session)));
                }
                _ => {}
            }
        }
        more
    }

    pub(crate) fn ask_for_code(&mut self, mac: Mac, number: u32) -> Vec<Effect> {
        self.ask(mac, code_to(number))
    }

    /// Takes a device online by a code.
    pub(crate) fn log_in(&mut self, mac: Mac, number: u32) -> SessionId {
        let code = code(&self.ask_for_code(mac, number)).unwrap();
        let effects = self.ask(mac, Ask::SubmitCode { code });
        self.agree(&effects);
        granted(&effects).unwrap()
    }

    pub(crate) fn grants(&self) -> Vec<SessionId> {
        self.domain.grants(self.now.boot).iter().map(|grant| grant.session).collect()
    }
}

pub(crate) fn view(effects: &[Effect]) -> Option<View> {
    let views: Vec<View> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Reply { answer: Answer::Portal(view), .. } => Some(view.clone()),
            _ => None,
        })
        .collect();
    assert!(views.len() <= 1, "{views:?}");
    views.into_iter().next()
}

pub(crate) fn report(effect: Effect) -> Option<Report> {
    match effect {
        Effect::Reply { answer: Answer::Control(report), .. } => Some(report),
        _ => None,
    }
}

pub(crate) fn code(effects: &[Effect]) -> Option<String> {
    effects.iter().find_map(|effect| match effect {
        Effect::Sms(message) => Some(message.code.0.clone()),
        _ => None,
    })
}

pub(crate) fn granted(effects: &[Effect]) -> Option<SessionId> {
    effects.iter().find_map(|effect| match effect {
        Effect::Firewall(Firewall::Grant(grant)) => Some(grant.session),
        _ => None,
    })
}

pub(crate) fn records(effects: &[Effect]) -> Vec<Record> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Store(record) => Some(record.clone()),
            _ => None,
        })
        .collect()
}

pub(crate) fn firewall(effects: &[Effect]) -> Vec<Firewall> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Firewall(firewall) => Some(firewall.clone()),
            _ => None,
        })
        .collect()
}
