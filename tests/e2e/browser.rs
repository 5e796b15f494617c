//! A real browser on a phone-sized screen. Its pictures go to `target/screenshots`, and with
//! `BLESS=1` those in [`KEPT`] to `examples/pages`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::lab::{
    Dhcp, Gateway, Guest, Lab, Netns, PASSWORD, ROUTER_V4, STAFF_V4, Settings, until,
};

/// The pictures that are kept.
const KEPT: [&str; 17] = [
    "number",
    "terms",
    "code",
    "wrong-code",
    "online",
    "offline",
    "blocked",
    "ended",
    "return",
    "dead-code",
    "line-down",
    "line-down-online",
    "devices",
    "mine",
    "follow-waiting",
    "voucher-scanned",
    "staff",
];

#[test]
fn a_browser_gets_online_in_chinese() {
    guest_journey("zh-CN", true);
}

#[test]
fn a_browser_gets_online_in_english() {
    guest_journey("en-GB", true);
}

#[test]
fn a_browser_without_scripts_gets_online() {
    guest_journey("en-GB", false);
}

#[test]
fn staff_see_the_store_in_chinese() {
    staff_journey("zh-CN");
}

#[test]
fn staff_see_the_store_in_english() {
    staff_journey("en-GB");
}

fn guest_journey(language: &str, scripts: bool) {
    let mut lab = Lab::new(1);
    let gateway = lab.maitred(&branded("extend = 1"));
    lab.guests[0].join(Dhcp::Udhcpc);
    let guest = &lab.guests[0];
    gateway.secret(&guest.phone);
    let (spool, result) = (gateway.spool(), lab.folder().join("cost"));
    let pages = [
        "number",
        "rules",
        "terms",
        "privacy",
        "bad-number",
        "code",
        "wrong-code",
        "online",
        "extended",
        "offline",
    ];
    let (result, pages) =
        if scripts { (result.to_str().unwrap(), &pages[..]) } else { ("", &[][..]) };
    let words = [&guest.phone, spool.to_str().unwrap(), result];
    browse(&lab, &guest.netns, "guest.mjs", language, &words, pages);
    gateway.code_for(&guest.phone);
    assert!(!guest.online());
    if scripts {
        let took = std::fs::read_to_string(result).unwrap();
        println!("the first page, on a processor six times slower: {took}");
    }
}

#[test]
fn the_script_saves_taps_and_says_what_happens() {
    let mut lab = Lab::new(1);
    let zone = "name = \"guest\"\ninterface = \"br-guest\"\nsession_timeout = \"9s\"\nextend = 1";
    let settings = Settings::new().with("[[zone]]", zone).with("[code]", "resend_after = \"4s\"");
    let gateway = lab.maitred(&settings);
    lab.guests[0].join(Dhcp::Udhcpc);
    let guest = &lab.guests[0];
    gateway.secret(&guest.phone);
    let spool = gateway.spool();
    let words = [&guest.phone, spool.to_str().unwrap()];
    browse(&lab, &guest.netns, "script.mjs", "en-GB", &words, &["counting"]);
}

#[test]
fn a_guests_own_pages_are_fit_to_be_seen_in_chinese() {
    own_pages("zh-CN");
}

#[test]
fn a_guests_own_pages_are_fit_to_be_seen_in_english() {
    own_pages("en-GB");
}

/// Two devices of one guest online.
fn two_devices(settings: &Settings, other: &str) -> (Lab, Gateway) {
    let mut lab = Lab::new(2);
    let gateway = lab.maitred(settings);
    let owner = lab.guests[0].phone.clone();
    lab.guests[1].phone = owner;
    other.clone_into(&mut lab.guests[1].hostname);
    for guest in &mut lab.guests {
        guest.join(Dhcp::Udhcpc);
        guest.log_in(&gateway);
        std::thread::sleep(Duration::from_secs(1));
    }
    (lab, gateway)
}

fn own_pages(language: &str) {
    let (lab, _gateway) = two_devices(&branded(""), "Mei-tablet");
    let database = std::fs::read_dir(lab.folder().join("state")).unwrap().flatten();
    let mut files = database.map(|entry| entry.path());
    let database = files.find(|path| path.extension().is_some_and(|it| it == "db")).unwrap();
    let pages = ["devices", "busy", "foreign", "mine", "forgotten"];
    let words = [database.to_str().unwrap()];
    browse(&lab, &lab.guests[0].netns, "mine.mjs", language, &words, &pages);
    assert!(lab.guests[0].online());
}

#[test]
fn nothing_that_a_stranger_writes_runs_in_a_browser() {
    let settings = Settings::new().with("[voucher]", "enabled = true");
    let evil = "<img src=x onerror=window.hit=1>";
    let (lab, _gateway) = two_devices(&settings, evil);
    let portal = format!("http://{ROUTER_V4}:2050/");
    let staff = format!("http://{STAFF_V4}:8080/staff");
    let guest = &lab.guests[0];
    let attack = |place, words: &[&str]| browse(&lab, place, "attack.mjs", "en-GB", words, &[]);
    attack(&guest.netns, &[&portal, "guest"]);
    attack(&lab.staff.netns, &[&staff, "staff", PASSWORD]);
    guest.post(&format!("{portal}logout"), &[]);
    attack(&guest.netns, &[&portal, "stranger"]);
}

#[test]
fn every_other_page_is_fit_to_be_seen_in_chinese() {
    other_pages("zh-CN");
}

#[test]
fn every_other_page_is_fit_to_be_seen_in_english() {
    other_pages("en-GB");
}

/// A store with the brand of `examples/brand` and these rules for its zone.
fn branded(zone: &str) -> Settings {
    let brand = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/brand");
    let words = "[brand.zh-CN]\nrules = [\"请勿外放声音。\", \"宠物请系好牵引绳。\"]\n\
         offers = [{ title = \"第二杯半价\", text = \"今日 14 点至 17 点，出示本页即可。\", \
         url = \"https://jade.example/\" }]\n\
         [brand.en]\nrules = [\"Please use headphones.\", \"Keep pets on a lead.\"]\n\
         offers = [{ title = \"Second cup at half price\", text = \"Today from 2 to 5 pm: show this \
         page.\", url = \"https://jade.example/\" }]";
    let looks = format!(
        "name = \"翡翠茶馆 Jade\"\nlogo = \"{}\"\nhero = \"{}\"\n{words}",
        brand.join("logo.svg").display(),
        brand.join("hero.svg").display()
    );
    let zone = format!("name = \"guest\"\ninterface = \"br-guest\"\n{zone}");
    Settings::new().with("[brand]", &looks).with("[[zone]]", &zone)
}

fn other_pages(language: &str) {
    let mut lab = Lab::new(3);
    let settings = branded("session_timeout = \"4s\"\nextend = 1")
        .with("[portal]", "remember_for = \"1h\"\nreturn = \"tap\"")
        .with("[code]", "tries = 1")
        .with("[visit]", "leave_after = \"5m\"\nmerge_gap = \"15m\"");
    let gateway = lab.maitred(&settings);
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    let [blocked, ended, tried] = &lab.guests[..] else { unreachable!() };
    let look = |guest: &Guest, name: &str| {
        let url = format!("http://{ROUTER_V4}:2050/");
        browse(&lab, &guest.netns, "page.mjs", language, &[name, &url], &[name]);
    };
    gateway.command(&["block", &blocked.mac]).ok();
    look(blocked, "blocked");
    ended.log_in(&gateway);
    let page = tried.ask_code(&gateway, "http://example.com/");
    let code = gateway.code_for(&tried.phone);
    let wrong = if code == "000000" { "000001" } else { "000000" };
    tried.submit(&page, "/code", &[("code", wrong)]);
    look(tried, "dead-code");
    until(Duration::from_secs(8), "the end", || (!ended.online()).then_some(()));
    look(ended, "ended");
    let change = format!("http://{ROUTER_V4}:2050/change");
    ended.post(&change, &[]);
    look(ended, "return");
    lab.router.ip("link set wan down");
    std::thread::sleep(Duration::from_secs(4));
    tried.post(&change, &[]);
    look(tried, "line-down");
    gateway.command(&["grant", &ended.mac, "--for", "4h"]).ok();
    look(ended, "line-down-online");
}

fn staff_journey(language: &str) {
    let mut lab = Lab::new(1);
    let gateway = lab.maitred(&Settings::new());
    lab.guests[0].join(Dhcp::Udhcpc);
    let guest = &lab.guests[0];
    guest.log_in(&gateway);
    let url = format!("http://{STAFF_V4}:8080/staff");
    let words = [&url, PASSWORD, &guest.hostname];
    let pages = ["staff-login", "staff-wrong-password", "staff", "staff-hours"];
    browse(&lab, &lab.staff.netns, "staff.mjs", language, &words, &pages);
}

/// Plays a script of `tests/browser` in a namespace; it must have taken a picture of each page.
#[track_caller]
pub(crate) fn browse(
    lab: &Lab,
    place: &Netns,
    script: &str,
    language: &str,
    words: &[&str],
    pages: &[&str],
) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
    assert!(
        ["playwright-core", "axe-core"]
            .iter()
            .all(|name| folder.join("node_modules").join(name).exists()),
        "playwright-core and axe-core are missing: run `npm ci` in tests/browser"
    );
    assert!(Path::new("/usr/bin/chromium").exists(), "install chromium");
    let pictures = pictures();
    std::fs::create_dir_all(&pictures).unwrap();
    let expected: Vec<PathBuf> = pages
        .iter()
        .zip(1..)
        .map(|(page, number)| pictures.join(format!("{language}-{number:02}-{page}.png")))
        .collect();
    for picture in &expected {
        let _ = std::fs::remove_file(picture);
    }
    let script = folder.join(script);
    let args = ["node", script.to_str().unwrap(), language, pictures.to_str().unwrap()];
    let log = lab.folder().join("browser.log");
    let mut browser = place.spawn(&[&args, words].concat(), &log);
    let status = browser.wait(Duration::from_secs(90));
    assert_eq!(status, Some(0), "{}", browser.output());
    for (picture, page) in expected.iter().zip(pages) {
        assert!(picture.exists(), "no picture {}", picture.display());
        if std::env::var_os("BLESS").is_some() && KEPT.contains(page) {
            let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/pages");
            std::fs::create_dir_all(&kept).unwrap();
            std::fs::copy(picture, kept.join(format!("{language}-{page}.png"))).unwrap();
        }
    }
}

/// Where the pictures go.
pub(crate) fn pictures() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("screenshots")
}
