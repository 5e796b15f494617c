//! The desk against a simulated WeChat, and against those who are not.

use ring::signature::KeyPair as _;

use super::*;
use crate::domain::names::Mac;

const NOW: WallTime = WallTime(1_800_000_000_000);
const APP: &str = "wx1";

fn key() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
}

fn desk(folder: &tempfile::TempDir, safe: bool) -> Desk {
    let aes = if safe { format!("aes_key = \"{}\"\n", "A".repeat(43)) } else { String::new() };
    let text = format!(
        "listen = \"127.0.0.1:1\"\nstate_dir = \"/s\"\nkey = \"/k\"\n\
         [wechat]\napp_id = \"{APP}\"\napp_secret = \"s\"\ntoken = \"AAAAA\"\n{aes}\
         [[store]]\nid = \"s1\"\nportal = \"http://wifi.example:2050/\"\ntoken = \"one\"\n\
         [[store]]\nid = \"s2\"\nportal = \"https://other.example\"\ntoken = \"two\"\n"
    );
    let settings: Settings = toml::from_str(&text).unwrap();
    let book = Book::open(folder.path()).unwrap();
    Desk::new(&settings, key(), Secrets { guest_key: [5; 32], voucher_key: [0; 32] }, book)
}

fn card(store: &str) -> Card {
    Card::new(store, "guest", Mac([2, 0, 0, 0, 0, 1]))
}

fn event(openid: &str, created: i64, name: &str, key: &str) -> String {
    format!(
        "<xml><ToUserName><![CDATA[gh_1]]></ToUserName><FromUserName><![CDATA[{openid}]]>\
         </FromUserName><CreateTime>{created}</CreateTime><MsgType><![CDATA[event]]></MsgType>\
         <Event><![CDATA[{name}]]></Event><EventKey><![CDATA[{key}]]></EventKey></xml>"
    )
}

fn text(openid: &str, id: u64, content: &str) -> String {
    format!(
        "<xml><ToUserName>gh_1</ToUserName><FromUserName>{openid}</FromUserName>\
         <CreateTime>1</CreateTime><MsgType>text</MsgType><Content>{content}</Content>\
         <MsgId>{id}</MsgId></xml>"
    )
}

/// The query of a push in plain mode.
fn query(at: WallTime, nonce: &str) -> Query {
    let timestamp = at.seconds().to_string();
    let signature = signature(&["AAAAA", &timestamp, nonce]);
    Query { signature, timestamp, nonce: nonce.into(), ..Query::default() }
}

/// A push in safe mode: its query and body.
fn sealed(at: WallTime, nonce: &str, xml: &str) -> (Query, String) {
    let seal = Seal { key: [0; 32], app_id: APP.into() };
    let text = seal.close([9; 16], xml);
    let query = query(at, nonce);
    let msg_signature = signature(&["AAAAA", &query.timestamp, nonce, &text]);
    (Query { msg_signature, ..query }, format!("<xml><Encrypt>{text}</Encrypt></xml>"))
}

/// The token in an answer.
fn token(answer: &str) -> Option<(String, Token)> {
    let link = answer.split_whitespace().find(|word| word.contains("/f/"))?;
    let (portal, rest) = link.split_once("/f/").unwrap();
    let text = rest.split('<').next().unwrap();
    let keys = [key().public_key().as_ref().try_into().unwrap()];
    let read = |store| Token::verify(text, &keys, card(store), Some(NOW)).ok();
    Some((portal.to_owned(), read("s1").or_else(|| read("s2")).unwrap()))
}

#[test]
fn whoever_follows_scans_or_sends_the_code_gets_a_link_for_that_device() {
    let folder = tempfile::tempdir().unwrap();
    let mut desk = desk(&folder, false);
    let (one, two) = (card("s1").code(), card("s2").code());
    let pushes = [
        (event("oA", 1, "subscribe", &format!("qrscene_{one}")), "http://wifi.example:2050"),
        (event("oA", 2, "SCAN", &two), "https://other.example"),
        (
            text("oB", 3, &format!(" {}-{} ", &one[..8].to_lowercase(), &one[8..])),
            "http://wifi.example:2050",
        ),
    ];
    let mut nonces = std::collections::BTreeSet::new();
    for (number, (xml, expected)) in pushes.iter().enumerate() {
        let answer = desk.push(&query(NOW, &number.to_string()), xml, NOW).unwrap();
        assert!(answer.len() < 1500, "{answer}");
        let (portal, token) = token(&answer).unwrap();
        assert_eq!(portal, *expected);
        assert_eq!(token.expires - token.issued, 300);
        assert!(nonces.insert(token.nonce));
    }
}

#[test]
fn what_needs_no_link_gets_none() {
    let folder = tempfile::tempdir().unwrap();
    let mut desk = desk(&folder, false);
    let strange = card("s3").code();
    let mut mistyped = card("s1").code();
    mistyped.replace_range(3..4, if mistyped.as_bytes()[3] == b'7' { "8" } else { "7" });
    for (number, (xml, part)) in [
        (event("oA", 1, "subscribe", ""), "欢迎"),
        (event("oA", 2, "subscribe", "qrscene_campaign"), "欢迎"),
        (event("oA", 3, "SCAN", "campaign"), "success"),
        (event("oA", 4, "SCAN", &strange), "success"),
        (event("oA", 5, "CLICK", "menu"), "success"),
        (event("oA", 6, "unsubscribe", ""), "success"),
        (text("oA", 7, "when do you open on Sunday?"), "success"),
        (text("oA", 8, "internationalization"), "success"),
        (text("oA", 9, &mistyped), "有误"),
        (text("oA", 10, &strange), "有误"),
    ]
    .iter()
    .enumerate()
    {
        let answer = desk.push(&query(NOW, &number.to_string()), xml, NOW).unwrap();
        assert!(answer.contains(part) && token(&answer).is_none(), "{xml}: {answer}");
    }
}

#[test]
fn forged_stale_and_replayed_pushes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut desk = desk(&folder, false);
    let xml = event("oA", 1, "SCAN", &card("s1").code());
    let mut refused = |query: Query, xml: &str, now| desk.push(&query, xml, now).is_err();
    let forged = Query { signature: "0".repeat(40), ..query(NOW, "1") };
    assert!(refused(forged, &xml, NOW));
    assert!(refused(Query { nonce: "2".into(), ..query(NOW, "1") }, &xml, NOW));
    assert!(refused(Query::default(), &xml, NOW));
    let minutes = |count| Duration::from_mins(count);
    assert!(refused(query(NOW, "1"), &xml, NOW + minutes(6)), "too old");
    assert!(refused(query(NOW + minutes(6), "1"), &xml, NOW), "from the future");
    assert!(refused(query(NOW, "1"), "<xml>", NOW));
    assert!(refused(query(NOW, "1"), &event("not an openid!", 1, "SCAN", ""), NOW));

    let first = desk.push(&query(NOW, "1"), &xml, NOW).unwrap();
    let (_, token_of_first) = token(&first).unwrap();
    // WeChat repeats what it got no answer to; that is one link, not two.
    let repeated = desk.push(&query(NOW, "1"), &xml, NOW + REPEATS).unwrap();
    assert_eq!(token(&repeated).unwrap().1, token_of_first);
    let later = NOW + Duration::from_secs(15);
    let signed_anew = desk.push(&query(later, "8"), &xml, later).unwrap();
    assert_eq!(token(&signed_anew).unwrap().1, token_of_first);
    // The signature does not cover the words: its nonce is good for one saying.
    let other = event("oEVIL", 1, "SCAN", &card("s1").code());
    assert!(matches!(desk.push(&query(NOW, "1"), &other, NOW), Err(DeskError::Replayed)));
    let replayed = desk.push(&query(NOW, "1"), &xml, NOW + REPEATS + Duration::from_millis(1));
    assert!(matches!(replayed, Err(DeskError::Replayed)));
}

#[test]
fn nothing_is_forgotten_by_a_restart_until_it_could_not_come_again() {
    let folder = tempfile::tempdir().unwrap();
    let xml = event("oA", 1, "SCAN", &card("s1").code());
    desk(&folder, false).push(&query(NOW, "1"), &xml, NOW).unwrap();
    let mut second = desk(&folder, false);
    let other = event("oB", 1, "SCAN", &card("s1").code());
    assert!(second.push(&query(NOW, "1"), &other, NOW).is_err());
    let later = NOW + Duration::from_mins(16);
    second.push(&query(later, "2"), &event("oA", 9, "SCAN", "x"), later).unwrap();
    assert_eq!(second.book.pushed((NOW.seconds(), "1"), &[0; 32]).unwrap(), Known::No);
}

#[test]
fn safe_mode_takes_and_gives_sealed_words_only() {
    let folder = tempfile::tempdir().unwrap();
    let mut desk = desk(&folder, true);
    let xml = event("oA", 1, "SCAN", &card("s1").code());
    let plain = desk.push(&query(NOW, "1"), &xml, NOW);
    assert!(matches!(plain, Err(DeskError::Unsigned)), "signed, but not sealed");
    let (asked, body) = sealed(NOW, "1", &xml);
    let unsigned = Query { msg_signature: asked.signature.clone(), ..query(NOW, "1") };
    assert!(matches!(desk.push(&unsigned, &body, NOW), Err(DeskError::Unsigned)));
    let (_, other_body) = sealed(NOW, "1", &event("oEVIL", 1, "SCAN", &card("s1").code()));
    assert!(matches!(desk.push(&asked, &other_body, NOW), Err(DeskError::Unsigned)));

    let answer = desk.push(&asked, &body, NOW).unwrap();
    assert!(!answer.contains("/f/"));
    let field = |name: &str| {
        let rest = answer.split(&format!("<{name}>")).nth(1).unwrap();
        rest.split('<').next().unwrap().to_owned()
    };
    let text = field("Encrypt");
    let parts = ["AAAAA", &field("TimeStamp"), &field("Nonce"), &text];
    assert!(is_signed(&field("MsgSignature"), &parts));
    let inner = desk.seal.as_ref().unwrap().open(&text).unwrap();
    assert_eq!(token(&inner).unwrap().0, "http://wifi.example:2050");
}

#[test]
fn the_echo_is_for_wechat_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut desk = desk(&folder, false);
    // protocols: AAAAA, 1714036504, 1514711492.
    let asked = Query {
        signature: "f464b24fc39322e44b38aa78f5edd27bd1441696".into(),
        timestamp: "1714036504".into(),
        nonce: "1514711492".into(),
        echostr: "4375120948345356249".into(),
        ..Query::default()
    };
    let then = WallTime(1_714_036_510_000);
    assert_eq!(desk.echo(&asked, then).unwrap(), "4375120948345356249");
    assert!(matches!(desk.echo(&asked, NOW), Err(DeskError::Stale(_))));
    assert!(desk.echo(&asked, then).is_ok(), "as often as WeChat asks");
    let xml = event("oEVIL", 1, "SCAN", &card("s1").code());
    let reused = desk.push(&asked, &xml, then);
    assert!(matches!(reused, Err(DeskError::Replayed)), "its signature is good for no push");
    let forged = Query { nonce: "1".into(), ..asked };
    assert!(matches!(desk.echo(&forged, then), Err(DeskError::Unsigned)));
}

#[test]
fn an_unfollow_is_told_to_the_stores_that_know_the_guest() {
    let folder = tempfile::tempdir().unwrap();
    let mut desk = desk(&folder, false);
    let mut number = 0;
    let mut push = |desk: &mut Desk, xml: String| {
        number += 1;
        desk.push(&query(NOW, &number.to_string()), &xml, NOW).unwrap();
    };
    push(&mut desk, event("oFollower-A", 1, "SCAN", &card("s1").code()));
    push(&mut desk, event("oFollower-B", 2, "SCAN", &card("s2").code()));
    push(&mut desk, event("oFollower-A", 3, "unsubscribe", ""));
    push(&mut desk, event("oC", 4, "unsubscribe", ""));
    let told = desk.erasures("s1", &[]).unwrap();
    let openid = crate::domain::names::OpenId::parse("oFollower-A").unwrap();
    let guest = desk.secrets.openid_guest(&openid);
    assert_eq!(told.iter().map(|(_, guest)| *guest).collect::<Vec<_>>(), [guest]);
    assert!(desk.erasures("s2", &[]).unwrap().is_empty());
    assert_eq!(desk.erasures("s2", &[told[0].0]).unwrap(), [], "not another store's to end");
    assert_eq!(desk.erasures("s1", &[]).unwrap(), told, "until it is done");
    assert_eq!(desk.erasures("s1", &[told[0].0]).unwrap(), []);
    // No openid lies on disk.
    drop(desk);
    for entry in std::fs::read_dir(folder.path()).unwrap().flatten() {
        let bytes = std::fs::read(entry.path()).unwrap();
        assert!(!bytes.windows(9).any(|part| part == b"oFollower"));
    }
}

#[test]
fn a_gateway_is_known_by_its_token() {
    let folder = tempfile::tempdir().unwrap();
    let desk = desk(&folder, false);
    let known = |id, token| desk.store(id, token).map(|store| store.id.clone());
    assert_eq!(known("s1", "one").as_deref(), Some("s1"));
    for (id, token) in [("s1", "two"), ("s1", ""), ("s3", "one"), ("", "")] {
        assert_eq!(known(id, token), None);
    }
}
