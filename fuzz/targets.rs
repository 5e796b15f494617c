//! What each fuzz target does with its bytes: reads them as the daemon would and checks what must
//! hold of the result. `../tests/corpus.rs` replays the corpora through the same functions.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, LazyLock};

use maitred::adapters::control::{self, VERSION};
use maitred::adapters::http::brand::{Brand, Parts};
use maitred::adapters::http::catalogue::Catalogues;
use maitred::adapters::http::portal::{Portal, serve_portal};
use maitred::adapters::http::wechat::Wechat;
use maitred::adapters::http::{Counts, PortalAddress, syn};
use maitred::adapters::inbox::{Envelope, Inbox};
use maitred::adapters::store::journal::{self, Group, Groups};
use maitred::adapters::sync;
use maitred::adapters::uplink::Line;
use maitred::config::{Config, ConfigError};
use maitred::domain::auth::follow::{Card, Token};
use maitred::domain::effect::Effect;
use maitred::domain::event::Client;
use maitred::domain::names::{BootTime, GuestKey, Mac, Now, Phone, WallTime, ZoneId};
use maitred::domain::{Domain, Secrets};
use maitred::wire::dns::{self, Kind};
use maitred::wire::nft::attr::Attrs;
use maitred::wire::nft::element::{self, Element};
use maitred::wire::nft::expr::Expr;
use maitred::wire::nft::keys;
use maitred::wire::nft::message::{Reply, replies};
use maitred::wire::nft::object::{Chain, Rule, Set, Table};
use maitred::wire::{dhcp, evidence, ra, route};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

/// What a fuzzer calls with its bytes.
pub type Target = fn(&[u8]);

/// Every target, by the name of its binary and of its folder in `corpus`.
pub const ALL: [(&str, Target); 13] = [
    ("config", config),
    ("control", control),
    ("dhcp", dhcp),
    ("dns", dns),
    ("frame", frame),
    ("journal", journal),
    ("names", names),
    ("netlink", netlink),
    ("portal", portal),
    ("ra", ra),
    ("syn", syn),
    ("token", token),
    ("watermark", watermark),
];

const STORE: &str = "lab-1";
const ZONE: &str = "guest";
const GUEST: Mac = Mac([2, 0, 0x5e, 0x10, 0, 1]);
const NOW: Now = Now { boot: BootTime(60_000), wall: Some(WallTime(1_800_000_100_000)) };

/// A configuration file.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Config::parse(text, "maitred.toml") {
        Ok(config) => {
            let _ = config.policy();
        }
        Err(ConfigError::Invalid(problems)) => {
            assert!(!problems.is_empty());
            for problem in problems {
                assert!(problem.line <= text.lines().count() + 1 && !problem.text.is_empty());
            }
        }
        Err(ConfigError::Read { .. }) => panic!("there is no file to read"),
    }
}

/// A line on the control socket.
pub fn control(bytes: &[u8]) {
    match control::read(bytes) {
        Ok(ask) => {
            let request = control::Request { version: VERSION, ask: ask.clone() };
            let mut line = serde_json::to_vec(&request).unwrap();
            line.push(b'\n');
            assert_eq!(control::read(&line), Ok(ask));
        }
        Err(reason) => assert!(!reason.is_empty()),
    }
}

/// A DHCP message, of either version.
pub fn dhcp(bytes: &[u8]) {
    if let Ok(message) = dhcp::parse(bytes, GUEST) {
        assert!(message.hostname.is_none_or(|name| (1..=63).contains(&name.len())));
    }
    let _ = dhcp::check_v6(bytes);
}

/// A DNS message from a guest, or from a resolver.
pub fn dns(bytes: &[u8]) {
    let name: dns::Name = "www.example.net".parse().unwrap();
    if let Ok(question) = dns::Question::parse(bytes) {
        let refusal = question.answer(&dns::Reply::empty(dns::Code::Refused));
        assert!(refusal.len() <= bytes.len() + 11, "an answer that amplifies");
    }
    for family in [Kind::A, Kind::Aaaa] {
        if let Ok(dns::Response::Answer(reply)) = dns::response(bytes, 7, &name, family) {
            assert!(reply.addresses.len() <= dns::MOST_ADDRESSES);
            let v6 = family == Kind::Aaaa;
            assert!(reply.addresses.iter().all(|address| address.is_ipv6() == v6));
        }
    }
}

/// A frame on a guest bridge.
pub fn frame(bytes: &[u8]) {
    if let Ok(heard) = evidence::parse(bytes) {
        assert!(heard.mac.is_station());
        let _ = heard.into_event(ZoneId(0));
    }
}

/// The journal's file, and a frame's payload whose checksum was right.
pub fn journal(bytes: &[u8]) {
    let length = bytes.len() as u64;
    if let Some((_, mut groups)) = Groups::open(bytes, length).unwrap() {
        while groups.next().unwrap().is_some() {}
        assert!(groups.remains() < length);
    }
    let _ = journal::decode::<Group>(bytes);
}

/// What people type and paste: numbers, MAC addresses, guest keys.
pub fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(phone) = Phone::parse(text, "86") {
        let digits = phone.digits();
        assert!((8..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()));
        assert_eq!(Phone::parse(&format!("+{digits}"), "44"), Ok(phone.clone()));
        assert_eq!(phone.mask().len(), 3);
    }
    if let Ok(mac) = text.parse::<Mac>() {
        assert_eq!(mac.to_string().parse(), Ok(mac));
    }
    if let Ok(key) = text.parse::<GuestKey>() {
        assert_eq!(key.to_string().parse(), Ok(key));
    }
}

/// A datagram from the kernel's firewall, or about interfaces.
pub fn netlink(bytes: &[u8]) {
    assert!(route::messages(bytes).count() <= bytes.len());
    for reply in replies(bytes) {
        let Ok(Reply::Message { attrs, .. }) = reply else { continue };
        // What we could have said says the same when we say it.
        if let Ok(table) = Table::parse(attrs) {
            let said = say(|a| table.emit(a));
            assert_eq!(Table::parse(&said), Ok(Table { owner: None, ..table }));
        }
        if let Ok((table, chain)) = Chain::parse(attrs) {
            assert_eq!(Chain::parse(&say(|a| chain.emit(&table, a))), Ok((table, chain)));
        }
        if let Ok((table, rule)) = Rule::parse(attrs)
            && all_ours(&rule.exprs)
        {
            assert_eq!(Rule::parse(&say(|a| rule.emit(&table, a))), Ok((table, rule)));
        }
        if let Ok((table, set)) = Set::parse(attrs)
            && all_ours(&set.exprs)
        {
            assert_eq!(Set::parse(&say(|a| set.emit(&table, 1, a))), Ok((table, set)));
        }
        let mut elements = Vec::new();
        if element::parse(attrs, |one| elements.push(one)).is_ok() {
            for element in &elements {
                let _ = (keys::parse_device(&element.key), keys::parse_mark(&element.key));
                let _ = keys::parse_session(&element.user);
            }
            elements.retain(|element| all_ours(&element.exprs));
            let said = say(|a| element::emit("t", "s", &elements, a));
            let mut again: Vec<Element> = Vec::new();
            element::parse(&said, |one| again.push(one)).unwrap();
            assert_eq!(again, elements);
        }
    }
}

/// What a guest sends to the portal's port, answered with the real domain behind it.
pub fn portal(bytes: &[u8]) {
    static TEXTS: LazyLock<Arc<Catalogues>> =
        LazyLock::new(|| Arc::new(Catalogues::load().unwrap()));
    // Whoever waits with nothing left to do has waited long enough.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let answer = runtime.block_on(async {
        let (inbox, mut outlet) = Inbox::new();
        tokio::spawn(async move {
            let mut domain = house();
            while let Some(envelope) = outlet.recv().await {
                answer(&mut domain, envelope);
            }
        });
        let portal = Portal {
            brand: watch::channel(Arc::new(Brand::new(Parts {
                name: "Jade Mall".into(),
                terms_version: "1".into(),
                ..Parts::default()
            })))
            .1,
            line: watch::channel(Line::Up).1,
            address: PortalAddress { name: None, port: 2050 },
            country: "86".into(),
            wechat: Wechat::default(),
            vouchers: false,
            api: None,
            guests: None,
            texts: Arc::clone(&TEXTS),
        };
        let [address, local] = ["192.0.2.77", "192.0.2.1"].map(|a| a.parse::<IpAddr>().unwrap());
        let client = Client { zone: ZoneId(0), mac: GUEST, address };
        let (mut guest, ours) = tokio::io::duplex(1 << 16);
        let (_going, stop) = watch::channel(false);
        let counts = Arc::<Counts>::default();
        let serving = serve_portal(ours, (client, local), portal, inbox, counts, stop);
        let asking = async {
            // The portal may hang up while the guest still talks.
            let _ = guest.write_all(bytes).await;
            let mut answer = Vec::new();
            let _ = guest.read_to_end(&mut answer).await;
            answer
        };
        tokio::join!(serving, asking).1
    });
    let answer = String::from_utf8(answer).unwrap();
    let status = answer.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5));
    assert!(answer.is_empty() || status.is_some_and(|status| status < "500"), "{answer}");
    // The page's own, and none that a guest wrote.
    assert!(answer.matches("<script").count() <= 1, "{answer}");
}

/// A message of router discovery.
pub fn ra(bytes: &[u8]) {
    let from = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    if let Ok(ra::Message::Advertisement(router)) = ra::parse(bytes, from) {
        let beside = ra::beside(router, "https://wifi.example/api").unwrap();
        let same = ra::Router { names_api: true, ..router };
        assert_eq!(ra::parse(&beside, from), Ok(ra::Message::Advertisement(same)));
    }
}

/// The headers of a connection's first packet, as the kernel saved them.
pub fn syn(bytes: &[u8]) {
    assert!(syn::source(bytes).is_none_or(Mac::is_station));
}

/// The text behind `/f/`.
pub fn token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let key = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let card = Card::new(STORE, ZONE, GUEST);
    let keys = [[0xff; 32], key.public_key().as_ref().try_into().unwrap()];
    if let Ok(token) = Token::verify(text, &keys, card, NOW.wall) {
        assert_eq!(token.mint(&key), text, "a second spelling of a token");
    }
    if let Some(card) = Card::read(text) {
        assert_eq!(Card::read(&card.code()), Some(card));
    }
}

/// HQ's answer to a batch.
pub fn watermark(bytes: &[u8]) {
    let sent = 100..=199;
    let answer = sync::acknowledgement(bytes, sent.clone());
    assert!(answer.is_none_or(|answer| sent.contains(&answer.watermark)));
}

fn all_ours(exprs: &[Expr]) -> bool {
    exprs.iter().all(|expr| match expr {
        Expr::Other { .. } => false,
        Expr::Dynset { exprs, .. } => all_ours(exprs),
        _ => true,
    })
}

fn say(emit: impl FnOnce(&mut Attrs)) -> Vec<u8> {
    let mut attrs = Attrs::new();
    emit(&mut attrs);
    attrs.finish().unwrap()
}

/// A store that has just opened.
fn house() -> Domain {
    let text = format!(
        "[store]\nid = \"{STORE}\"\nname = \"Jade Mall\"\ntime_zone = \"CST-8\"\n\
         [[zone]]\nname = \"{ZONE}\"\ninterface = \"br-guest\"\n"
    );
    let policy = Config::parse(&text, "maitred.toml").unwrap().policy();
    Domain::new(policy, Secrets { guest_key: [3; 32], voucher_key: [5; 32] }, [4; 32])
}

fn answer(domain: &mut Domain, Envelope { event, reply }: Envelope) {
    let mut effects = Vec::new();
    domain.handle(event, NOW, &mut effects);
    let Some((asked, reply)) = reply else { return };
    let answer = effects.into_iter().find_map(|effect| match effect {
        Effect::Reply { request, answer } if request == asked => Some(answer),
        _ => None,
    });
    // Nobody without a session waits for disk or kernel.
    let _ = reply.send(answer.expect("an answer at once"));
}
