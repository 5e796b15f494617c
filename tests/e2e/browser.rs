//! A real browser on a phone-sized screen. Its pictures go to `target/screenshots`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::lab::{Dhcp, Lab, Netns, PASSWORD, STAFF_V4, Settings};

#[test]
fn a_browser_gets_online_in_chinese() {
    guest_journey("zh-CN");
}

#[test]
fn a_browser_gets_online_in_english() {
    guest_journey("en-GB");
}

#[test]
fn staff_see_the_store_in_chinese() {
    staff_journey("zh-CN");
}

#[test]
fn staff_see_the_store_in_english() {
    staff_journey("en-GB");
}

fn guest_journey(language: &str) {
    let mut lab = Lab::new(1);
    let gateway = lab.maitred(&Settings::new());
    lab.guests[0].join(Dhcp::Udhcpc);
    let guest = &lab.guests[0];
    gateway.secret(&guest.phone);
    let spool = gateway.spool();
    let pages =
        ["number", "terms", "privacy", "bad-number", "code", "wrong-code", "online", "offline"];
    let words = [&guest.phone, spool.to_str().unwrap()];
    browse(&lab, &guest.netns, "guest.mjs", language, &words, &pages);
    gateway.code_for(&guest.phone);
    assert!(!guest.online());
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
        folder.join("node_modules/playwright-core").exists(),
        "playwright-core is missing: run `npm ci` in tests/browser"
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
    for picture in expected {
        assert!(picture.exists(), "no picture {}", picture.display());
    }
}

/// Where the pictures go.
pub(crate) fn pictures() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("screenshots")
}
