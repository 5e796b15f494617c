//! The ways through WeChat, as a browser sees them.

use super::*;

/// A portal that offers to follow, without a backend.
fn portal_with_account() -> Portal {
    let follow = crate::adapters::http::wechat::Follow {
        account: "Café <Jade>".into(),
        store_id: "s1".into(),
        zones: vec!["guest".into()],
        backend: None,
    };
    Portal { wechat: Wechat { follow: Some(follow), wifi: None }, ..portal("Jade Mall") }
}

#[tokio::test]
async fn the_account_is_offered_with_a_code_for_this_device() {
    let card = crate::domain::auth::follow::Card::new("s1", "guest", peer().device.unwrap().1);
    let code = card.code();
    let grouped = format!("{}-{}-{}-{}", &code[..4], &code[4..8], &code[8..12], &code[12..]);
    let stage = Stage::of(portal_with_account(), Answer::Portal(ask_phone()));
    let page = stage.get("/?lang=en").await;
    assert!(page.text.contains(&grouped) && page.text.contains("action=\"/follow?lang=en\""));
    assert!(!page.text.contains("<Jade>") && !page.text.contains("/follow.svg"), "{}", page.text);
    let waiting = View::Follow { pass: Some(Duration::from_secs(50)), refusal: None };
    let stage = Stage::of(portal_with_account(), Answer::Portal(waiting));
    let page = stage.post("/follow", "").await;
    assert_eq!((page.status, page.location()), (303, "/"));
    let asked = stage.asked();
    assert!(matches!(asked[..], [Ask::BeginFollow]), "{asked:?}");
    let page = stage.get("/?lang=en").await;
    assert!(page.text.contains("http-equiv=\"refresh\" content=\"5;url=/?lang=en\""));
    assert!(page.text.contains(&grouped) && page.text.contains("50 s"), "{}", page.text);
    assert!(!page.text.contains("weixin:") && !page.text.contains("action=\"/follow"));
    let picture = stage.get("/follow.svg").await;
    assert_eq!(picture.headers[CONTENT_TYPE], "image/svg+xml");
    assert!(picture.text.starts_with("<svg"));
    let over = View::Follow { pass: None, refusal: Some(Refusal::TokenElsewhere) };
    let page = Stage::of(portal_with_account(), Answer::Portal(over)).get("/?lang=en").await;
    assert!(
        page.text.contains("another device") && page.text.contains("action=\"/follow?lang=en\"")
    );
}

#[tokio::test]
async fn nobody_begins_to_follow_where_there_is_no_account() {
    let stage = Stage::new(ask_phone());
    for page in [stage.post("/follow", "").await, stage.get("/wx").await] {
        assert_eq!((page.status, page.location()), (302, "/"));
    }
    assert_eq!(stage.get("/wx/auth?extend=1&openId=o&tid=").await.status, 302);
    assert!(stage.asked().is_empty());
}

#[tokio::test]
async fn wechats_wifi_client_is_heard_from_a_device_that_was_sent_there() {
    let wifi = crate::adapters::http::wechat::WifiPortal::new(
        toml::from_str(
            "app_id = \"wx1\"\nshop_id = \"7\"\nsecret_key = \"k\"\nssid = \"Cafe\"\n\
             operator = \"https://operator.example/connect\"",
        )
        .unwrap(),
        [3; 32],
        crate::clock::Clock::new(crate::clock::Trust::Always),
    );
    let online = View::Online {
        left: None,
        used: (0, 0),
        quota_left: None,
        extend: false,
        devices: Vec::new(),
    };
    let wechat = Wechat { follow: None, wifi: Some(wifi) };
    let stage = Stage::of(Portal { wechat, ..portal("Jade Mall") }, Answer::Portal(online));
    let out = stage.get("/wx").await;
    assert_eq!(out.status, 302);
    let fields = out.location().strip_prefix("https://operator.example/connect?").unwrap();
    let word = fields.split('&').find_map(|pair| pair.strip_prefix("extend=")).unwrap();
    let back = |word: &str, openid: &str| format!("/wx/auth?extend={word}&openId={openid}&tid=x");
    for refused in [back("0".repeat(32).as_str(), "oA"), back(word, "o%20A"), "/wx/auth".into()] {
        assert_eq!(stage.get(&refused).await.status, 403, "{refused}");
    }
    assert!(stage.asked().is_empty());
    assert_eq!(stage.get(&back(word, "oABC-1_x")).await.status, 200, "200 is yes");
    let asked = stage.asked();
    let [Ask::WechatWifi { openid }] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!(openid.reveal(), "oABC-1_x");
}
