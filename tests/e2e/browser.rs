//! A real browser on a phone-sized screen.

use std::path::Path;
use std::time::Duration;

use crate::lab::{Dhcp, Lab, Settings};

fn journey(language: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
    assert!(
        folder.join("node_modules/playwright-core").exists(),
        "playwright-core is missing: run `npm ci` in tests/browser"
    );
    assert!(Path::new("/usr/bin/chromium").exists(), "install chromium");
    let mut lab = Lab::new(1);
    let gateway = lab.maitred(&Settings::new());
    lab.guests[0].join(Dhcp::Udhcpc);
    let guest = &lab.guests[0];
    gateway.secret(&guest.phone);
    let log = lab.folder().join("browser.log");
    let script = folder.join("journey.mjs");
    let pictures = lab.folder().join("pictures");
    std::fs::create_dir(&pictures).unwrap();
    let spool = gateway.spool();
    let args = [
        "node",
        script.to_str().unwrap(),
        language,
        &guest.phone,
        spool.to_str().unwrap(),
        pictures.to_str().unwrap(),
    ];
    let mut browser = guest.netns.spawn(&args, &log);
    let status = browser.wait(Duration::from_secs(90));
    assert_eq!(status, Some(0), "{}", browser.output());
    gateway.code_for(&guest.phone);
    assert!(std::fs::read_dir(&pictures).unwrap().count() >= 3);
    assert!(guest.online());
}

#[test]
fn a_browser_gets_online_in_chinese() {
    journey("zh-CN");
}

#[test]
fn a_browser_gets_online_in_english() {
    journey("en-GB");
}
