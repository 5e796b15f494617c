//! From the page to WeChat and back: a real `maitred hq` in the internet, pushes by wechatpy.

use std::time::Duration;

use maitred::clock::{Clock, Trust};

use crate::browser;
use crate::lab::{Dhcp, Gateway, Guest, Lab, Mode, ROUTER_V4, Reply, Wechat};

const PORTAL: &str = "http://10.77.0.1:2050";

/// The code that a page shows for the account.
#[track_caller]
fn card(page: &Reply) -> String {
    let rest = page.body.split("class=\"copy\"").nth(1).unwrap_or_else(|| panic!("{page:#?}"));
    let code = rest.split('>').nth(1).unwrap().split('<').next().unwrap();
    assert_eq!(code.len(), 19, "{code}");
    code.to_owned()
}

/// The scene of a page's code.
fn scene(page: &Reply) -> String {
    card(page).replace('-', "")
}

fn portal(guest: &Guest) -> Reply {
    guest.follow(guest.get("http://example.com/"))
}

#[track_caller]
fn open(guest: &Guest, link: &str) -> Reply {
    assert!(link.starts_with(&format!("{PORTAL}/f/")), "{link}");
    guest.open_link(link)
}

/// A lab with WeChat, its backend and a gateway that trusts it.
fn set_up(guests: u8, mode: Mode) -> (Lab, Wechat, Gateway) {
    let mut lab = Lab::new(guests);
    let mut wechat = Wechat::new(&lab, mode);
    let (key, public) = wechat.new_key();
    wechat.open_backend(&key);
    let pass = "garden = [\"203.0.113.53\"]\nlength = \"1m\"";
    let gateway = lab.maitred(&Wechat::settings(&[&public]).with("[pass]", pass));
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    (lab, wechat, gateway)
}

#[test]
fn a_follow_in_plain_mode_opens_one_device() {
    a_follow_opens_one_device(Mode::Plain);
}

#[test]
fn a_follow_in_safe_mode_opens_one_device() {
    a_follow_opens_one_device(Mode::Safe);
}

fn a_follow_opens_one_device(mode: Mode) {
    let (lab, wechat, gateway) = set_up(2, mode);
    let [one, two] = &lab.guests[..] else { unreachable!() };
    let page = portal(one);
    assert!(page.body.contains("静安咖啡"), "{page:#?}");
    let picture = one.get(&format!("{PORTAL}/follow.svg"));
    assert!(picture.body.contains("<path"), "a QR code: {picture:#?}");
    one.get(&format!("{PORTAL}/follow.svg"));
    assert_eq!(wechat.scenes(), [scene(&page)], "asked for once, for this device");

    assert_eq!(one.ping("203.0.113.53", 1), 0);
    let waiting = one.submit(&page, "/follow", &[]);
    assert!(waiting.body.contains("http-equiv=\"refresh\""), "{waiting:#?}");
    assert_eq!(one.ping("203.0.113.53", 1), 1, "the pass is open");
    assert!(!one.online(), "and nothing else");
    let again = portal(one);
    assert_eq!(scene(&again), scene(&page), "the step is kept");
    assert!(again.body.contains("http-equiv=\"refresh\""), "{again:#?}");

    let answered = wechat.by("oFollower-1", &["subscribe", &scene(&page)]);
    let link = answered.link();
    assert!(link.len() < 200, "{link}");
    let elsewhere = open(two, link);
    assert!(!two.online(), "another device with the same link: {elsewhere:#?}");
    open(one, link);
    assert!(one.online());
    open(two, link);
    assert!(!two.online(), "nor once it is used");

    // A follower scans again, another sends the code.
    let page = portal(two);
    assert!(wechat.by("oFollower-1", &["scan", &scene(&page)]).text.contains("/f/"));
    let sent = card(&page).to_lowercase().replace('-', " ");
    let answered = wechat.by("oFollower-2", &["text", &sent]);
    open(two, answered.link());
    assert!(two.online());
    assert_eq!(wechat.access_tokens(), 1, "one access token serves all");
    for secret in ["oFollower", "labsecret", "gateway-token", "access_1"] {
        let said = gateway.log() + &wechat.log();
        assert!(!said.contains(secret), "{secret} in {said}");
    }
}

#[test]
fn an_unfollow_takes_the_guests_marketing_data_with_it() {
    let (lab, wechat, gateway) = set_up(1, Mode::Safe);
    let guest = &lab.guests[0];
    let page = portal(guest);
    open(guest, wechat.by("oGoes", &["scan", &scene(&page)]).link());
    assert!(guest.online());
    let named = |table: &str| -> i64 {
        let sql = format!("SELECT count(*) FROM {table} WHERE guest IS NOT NULL");
        gateway.database(|db| db.query_row(&sql, [], |row| row.get(0)))
    };
    assert!(["consent", "device", "session", "visit"].iter().all(|table| named(table) == 1));

    gateway.command(&["sync", "--now"]).ok();
    assert_eq!(named("visit"), 1, "nobody has left yet");
    assert_eq!(wechat.by("oGoes", &["unsubscribe"]).text, "success");
    let said = gateway.json(&["sync", "--now"]);
    assert_eq!(said["forgotten"], 1, "{said}");
    for table in ["consent", "device", "session", "visit"] {
        assert_eq!(named(table), 0, "{table}");
    }
    assert_eq!(named("access_log"), 1, "the law's log stays for its time");
    assert!(guest.online(), "and so does the guest");
    assert_eq!(gateway.json(&["sync", "--now"])["forgotten"], 0, "once");
    gateway.kill9();
    gateway.run();
    assert!(guest.online());
    assert_eq!(named("visit") + named("device"), 0);
}

#[test]
fn pushes_that_are_not_wechats_are_refused_in_plain_mode() {
    refusals(Mode::Plain);
}

#[test]
fn pushes_that_are_not_wechats_are_refused_in_safe_mode() {
    refusals(Mode::Safe);
}

fn refusals(mode: Mode) {
    let (lab, wechat, _gateway) = set_up(1, mode);
    let page = portal(&lab.guests[0]);
    let scene = scene(&page);
    let scan = ["scan", scene.as_str()];
    let refused = |more: &[&str], what: &[&str]| {
        let answered = wechat.push(&[&["--openid", "oEvil"], more].concat(), what);
        assert_eq!((answered.status, answered.text.as_str()), (403, ""), "{more:?}");
    };
    refused(&["--signature", &"0".repeat(40)], &scan);
    refused(&["--signature", "0"], &["echo", "<script>alert(1)</script>"]);
    let now = Clock::new(Trust::Always).now().wall.unwrap().seconds();
    refused(&["--stamp", &(now - 400).to_string()], &scan);
    refused(&["--stamp", &(now + 400).to_string()], &scan);

    // A nonce that was heard is good for the same words alone.
    let stamp = now.to_string();
    let heard = ["--stamp", &stamp, "--nonce", "4711", "--created", &stamp];
    let first = wechat.push(&[&heard[..], &["--openid", "oGood"]].concat(), &scan);
    assert!(first.link().contains("/f/"));
    refused(&heard, &scan);
    if mode == Mode::Safe {
        assert_eq!(wechat.push_in_clear(&["--openid", "oEvil"], &scan).status, 403);
    }
    assert!(!lab.guests[0].online());
}

#[test]
fn a_key_is_changed_without_a_gap() {
    let mut lab = Lab::new(1);
    let mut wechat = Wechat::new(&lab, Mode::Plain);
    let ((old_key, old), (new_key, new)) = (wechat.new_key(), wechat.new_key());
    wechat.open_backend(&old_key);
    let gateway = lab.maitred(&Wechat::settings(&[&old]));
    lab.guests[0].join(Dhcp::Udhcpc);
    let guest = &lab.guests[0];
    let log_in = |wechat: &Wechat, expected: bool| {
        // Two scans within a second would be the same event to WeChat's own rule.
        let answered = wechat.by("oFollower", &["text", &card(&portal(guest))]);
        let page = open(guest, answered.link());
        assert_eq!(guest.online(), expected, "{page:#?}");
        gateway.command(&["revoke", &guest.mac]);
        guest.follow(guest.post(&format!("{PORTAL}/change"), &[]));
    };
    log_in(&wechat, true);
    gateway.configure(&Wechat::settings(&[&old, &new]));
    gateway.command(&["reload"]).ok();
    log_in(&wechat, true);
    wechat.open_backend(&new_key);
    log_in(&wechat, true);
    gateway.configure(&Wechat::settings(&[&new]));
    gateway.command(&["reload"]).ok();
    log_in(&wechat, true);
    wechat.open_backend(&old_key);
    log_in(&wechat, false);
}

#[test]
fn without_the_backend_there_is_still_a_code() {
    let (lab, mut wechat, gateway) = set_up(1, Mode::Plain);
    let guest = &lab.guests[0];
    wechat.close_backend();
    let page = portal(guest);
    let picture = guest.get(&format!("{PORTAL}/follow.svg"));
    assert!(!picture.body.contains("<path"), "{picture:#?}");
    assert!(!portal(guest).body.contains("/follow.svg"), "not offered while it is known to fail");
    assert!(!gateway.command(&["sync", "--now"]).success);
    let waiting = guest.submit(&page, "/follow", &[]);
    let (key, public) = wechat.new_key();
    gateway.configure(&Wechat::settings(&[&public]));
    gateway.command(&["reload"]).ok();
    wechat.open_backend(&key);
    open(guest, wechat.by("oFollower", &["text", &card(&waiting)]).link());
    assert!(guest.online());
}

#[test]
fn wechats_own_trouble_is_met() {
    let (lab, wechat, _gateway) = set_up(2, Mode::Plain);
    let picture = |guest: &Guest| guest.get(&format!("{PORTAL}/follow.svg")).body;
    assert!(picture(&lab.guests[0]).contains("<path"));
    wechat.revoke_access();
    assert!(picture(&lab.guests[1]).contains("<path"), "a revoked access token is renewed");
    assert_eq!(wechat.access_tokens(), 2);

    let (lab, wechat, _gateway) = set_up(1, Mode::Plain);
    wechat.be_unverified();
    assert!(!picture(&lab.guests[0]).contains("<path"));
    assert!(wechat.log().contains("48001"), "{}", wechat.log());
    card(&portal(&lab.guests[0]));
}

#[test]
fn the_retired_wifi_portal_is_understood() {
    let mut lab = Lab::new(2);
    let wifi = "app_id = \"wx1\"\nshop_id = \"7\"\nsecret_key = \"hush\"\nssid = \"Café 1\"\n\
                operator = \"http://203.0.113.80/connect\"";
    let gateway = lab.maitred(&crate::lab::Settings::new().with("[wechat_wifi]", wifi));
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    let [one, two] = &lab.guests[..] else { unreachable!() };
    let out = one.get(&format!("{PORTAL}/wx")).location();
    let field = |name: &str| -> String {
        let pairs = out.split(['?', '&']);
        let value = pairs.filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name);
        percent_encoding::percent_decode_str(value.unwrap().1).decode_utf8().unwrap().into()
    };
    assert_eq!(field("authUrl"), format!("http://{ROUTER_V4}:2050/wx/auth"));
    assert_eq!((field("mac"), field("ssid").as_str()), (one.mac.clone(), "Café 1"));
    // The page's signature, by md5sum.
    let names = ["appId", "extend", "timestamp", "shopId", "authUrl", "mac", "ssid"];
    let signed = lab.folder().join("signed");
    std::fs::write(&signed, names.map(&field).concat() + "hush").unwrap();
    let sum = crate::lab::run(&["md5sum", signed.to_str().unwrap()], 5).ok();
    assert!(sum.starts_with(&field("sign")), "{sum}");

    let back = format!("{PORTAL}/wx/auth?extend={}&openId=oWifi-1&tid=0102", field("extend"));
    for (guest, url) in [
        (two, back.clone()),
        (one, format!("{PORTAL}/wx/auth?extend=00&openId=oWifi-1&tid=")),
        (one, back.replace("oWifi-1", "%27%20or%201")),
    ] {
        assert_eq!(guest.get(&url).status, 403, "{url}");
        assert!(!guest.online());
    }
    assert_eq!(one.get(&back).status, 200);
    assert!(one.online() && !two.online());
    assert!(!gateway.log().contains("oWifi"));
    let method: String =
        gateway.database(|db| db.query_row("SELECT method FROM session", [], |row| row.get(0)));
    assert_eq!(method, "wechat_wifi");
}

#[test]
fn a_browser_gets_online_by_following_in_chinese() {
    journey("zh-CN", Mode::Safe);
}

#[test]
fn a_browser_gets_online_by_following_in_english() {
    journey("en-GB", Mode::Plain);
}

/// The browser leaves the code that it reads in a file; WeChat leaves the link in another.
fn journey(language: &str, mode: Mode) {
    let (lab, wechat, _gateway) = set_up(1, mode);
    let guest = &lab.guests[0];
    let (code, link) = (lab.folder().join("code"), lab.folder().join("link"));
    let words = [code.to_str().unwrap(), link.to_str().unwrap()];
    let pages = ["follow-offer", "follow-waiting", "follow-link", "follow-online"];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let sent = crate::lab::until(Duration::from_secs(60), "the browser's code", || {
                std::fs::read_to_string(&code).ok().filter(|code| code.ends_with('\n'))
            });
            let answered = wechat.by("oFollower", &["text", sent.trim()]);
            std::fs::write(link.with_extension("new"), answered.link()).unwrap();
            std::fs::rename(link.with_extension("new"), &link).unwrap();
        });
        browser::browse(&lab, &guest.netns, "follow.mjs", language, &words, &pages);
    });
    assert!(guest.online());
    for page in ["01-follow-offer", "02-follow-waiting"] {
        let picture = browser::pictures().join(format!("{language}-{page}.png"));
        assert_eq!(Wechat::scan(&picture), "http://weixin.qq.com/q/1", "{page}");
    }
}
