//! Vouchers from the printed sheet to the guest, and what strangers try with them.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::browser;
use crate::lab::{Dhcp, Gateway, Guest, Hq, Lab, Mood, Reply, Settings, Wechat};
use crate::pages::BundleOffice;

const PORTAL: &str = "http://10.77.0.1:2050";

fn settings() -> Settings {
    Settings::new().with("[voucher]", "enabled = true")
}

fn set_up(guests: u8) -> (Lab, Gateway) {
    let mut lab = Lab::new(guests);
    let gateway = lab.maitred(&settings());
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    (lab, gateway)
}

/// Makes vouchers; the log and the disk must never hold their codes.
#[track_caller]
fn make(gateway: &Gateway, args: &[&str]) -> Vec<String> {
    let said = gateway.command(&[&["voucher", "new"], args].concat()).ok();
    let codes = said.lines().map(|line| line.split_whitespace().nth(1).unwrap().to_owned());
    let codes: Vec<String> = codes.collect();
    for code in &codes {
        gateway.secret(code);
        gateway.secret(&code.replace('-', ""));
    }
    codes
}

fn spend(guest: &Guest, code: &str) -> Reply {
    guest.post(&format!("{PORTAL}/voucher"), &[("code", code), ("terms", "yes")])
}

fn used(gateway: &Gateway) -> u64 {
    let batches = gateway.json(&["voucher", "list"]);
    batches.as_array().unwrap().iter().map(|batch| batch["used"].as_u64().unwrap()).sum()
}

#[test]
fn a_voucher_is_typed_or_scanned_and_opens_one_device() {
    let (lab, gateway) = set_up(3);
    let [one, two, three] = &lab.guests[..] else { unreachable!() };
    let args = ["--count", "2", "--minutes", "30", "--rate", "1MB", "--quota", "1GB"];
    let codes = make(&gateway, &args);
    assert_eq!(codes.iter().collect::<BTreeSet<_>>().len(), 2);

    let first = one.follow(one.get("http://example.com/"));
    let typed = codes[0].to_lowercase().replace('-', " ");
    let refused = one.submit(&first, "/voucher", &[("code", &typed)]);
    assert!(!one.online(), "without consent: {refused:#?}");
    one.submit(&first, "/voucher", &[("code", &typed), ("terms", "yes")]);
    assert!(one.online());
    let clients = gateway.json(&["clients"]);
    let row = clients.as_array().unwrap().iter().find(|row| row["mac"] == one.mac.as_str());
    let left = row.unwrap()["seconds_left"].as_u64().unwrap();
    assert!((1700..=1800).contains(&left), "{left}");

    let page = two.get(&format!("{PORTAL}/v/{}", codes[1]));
    for _ in 0..3 {
        two.get(&format!("{PORTAL}/v/{}", codes[1]));
    }
    assert_eq!(used(&gateway), 1, "looking costs nothing");
    two.submit(&page, "/voucher", &[("terms", "yes")]);
    assert!(two.online());

    let unknown = spend(three, "0000-0000-0000").body;
    for code in &codes {
        assert_eq!(spend(three, code).body, unknown, "used up is like unknown");
    }
    gateway.kill9();
    gateway.run();
    assert!(one.online() && two.online());
    for code in &codes {
        spend(three, code);
    }
    assert!(!three.online());
    assert_eq!(used(&gateway), 2);

    let agreed: u32 = gateway.database(|db| {
        let sql = "SELECT count(*) FROM voucher_use WHERE terms <> '' AND at NOT NULL";
        db.query_row(sql, [], |row| row.get(0))
    });
    assert_eq!(agreed, 2);
    let uses: Vec<(u32, u16, Vec<u8>)> = gateway.database(|db| {
        let mut uses = db.prepare("SELECT batch, number, mac FROM voucher_use ORDER BY number")?;
        uses.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
    });
    let told: Vec<String> = gateway.database(|db| {
        let mut told = db.prepare("SELECT body FROM outbox WHERE body LIKE '%\"voucher\"%'")?;
        told.query_map([], |row| row.get(0))?.collect()
    });
    let hex = |mac: &str| -> Vec<u8> {
        mac.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
    };
    assert_eq!(uses, [(1, 1, hex(&one.mac)), (1, 2, hex(&two.mac))]);
    assert!(told.len() == 2 && told.iter().all(|row| row.contains("\"batch\":1")), "{told:?}");
}

#[test]
fn two_devices_at_once_spend_a_voucher_once() {
    let (lab, gateway) = set_up(2);
    let codes = make(&gateway, &["--count", "6", "--minutes", "30"]);
    for (round, code) in codes.iter().enumerate() {
        std::thread::scope(|scope| {
            for guest in &lab.guests {
                scope.spawn(|| spend(guest, code));
            }
        });
        let online = lab.guests.iter().filter(|guest| guest.online()).count();
        assert_eq!((online, used(&gateway)), (1, round as u64 + 1), "round {round}");
        for guest in &lab.guests {
            gateway.command(&["revoke", &guest.mac]);
            guest.post(&format!("{PORTAL}/change"), &[]);
        }
    }
}

#[test]
fn guessing_ends_before_a_good_voucher_does() {
    let (lab, gateway) = set_up(2);
    let [guesser, guest] = &lab.guests[..] else { unreachable!() };
    let codes = make(&gateway, &["--count", "1", "--minutes", "30"]);
    let wrong: BTreeSet<String> =
        (0..10).map(|guess| spend(guesser, &format!("0000-0000-000{guess}")).body).collect();
    assert_eq!(wrong.len(), 1, "one answer to all");
    let closed = spend(guesser, "0000-0000-0000").body;
    assert!(!wrong.contains(&closed));
    assert_eq!(spend(guesser, &codes[0]).body, closed, "no oracle");
    assert!(!guesser.online());
    spend(guest, &codes[0]);
    assert!(guest.online());
}

#[test]
fn a_revoked_voucher_is_worth_nothing_ever_again() {
    let (lab, gateway) = set_up(2);
    let [one, two] = &lab.guests[..] else { unreachable!() };
    let args = ["--count", "1", "--uses", "5", "--minutes", "30", "--expires", "2099-12-31"];
    let codes = make(&gateway, &args);
    spend(one, &codes[0]);
    assert!(one.online());
    assert!(!gateway.command(&["voucher", "revoke", "1-2"]).success);
    gateway.command(&["voucher", "revoke", "1-1"]).ok();
    assert!(!one.online(), "what it opened is closed");
    for _ in 0..2 {
        spend(two, &codes[0]);
        assert!(!two.online());
        gateway.kill9();
        gateway.run();
    }
    let listed = gateway.command(&["voucher", "list"]).ok();
    assert!(!listed.contains("2099"), "{listed}");
}

#[test]
fn a_kill_loses_no_use_and_burns_none() {
    let (lab, gateway) = set_up(1);
    let guest = &lab.guests[0];
    let codes = make(&gateway, &["--count", "8", "--minutes", "30"]);
    for (round, code) in codes.iter().enumerate() {
        let told = std::thread::scope(|scope| {
            let asked = scope.spawn(|| {
                let form = format!("code={code}");
                let args = ["-X", "POST", "--data-urlencode", &form, "-d", "terms=yes"];
                guest.curl(&format!("{PORTAL}/voucher"), &args)
            });
            std::thread::sleep(Duration::from_millis(4 * round as u64 + 4));
            gateway.kill9();
            asked.join().unwrap()
        });
        gateway.run();
        let told = told.is_ok_and(|reply| reply.status == 303);
        assert!(!told || guest.online(), "who was told is online");
        let before = used(&gateway);
        // Whoever was not told tries again.
        spend(guest, code);
        assert!(guest.online(), "round {round}: the use is burnt ({before} before)");
        assert_eq!(used(&gateway), round as u64 + 1);
        gateway.command(&["revoke", &guest.mac]).ok();
        guest.post(&format!("{PORTAL}/change"), &[]);
        spend(guest, code);
        assert!(!guest.online(), "round {round}: spent twice");
        // The end is on disk as well.
        gateway.command(&["stats"]).ok();
        gateway.kill9();
        gateway.run();
    }
}

/// HQ's desk: a bundle that is worked on, and its key.
struct Desk {
    file: String,
    key: String,
    signed: String,
    office: BundleOffice,
}

impl Desk {
    fn open(lab: &Lab) -> (Self, Settings) {
        let path = |name: &str| lab.folder().join(name).to_str().unwrap().to_owned();
        let (file, key, signed) = (path("bundle.json"), path("bundle.key"), path("bundle.signed"));
        let public = Gateway::tool(&["token", "--generate", &key]).ok();
        let (office, url) = (BundleOffice::open(&lab.internet), BundleOffice::URL);
        Hq::open(&lab.internet, Mood::Well);
        let public = public.trim();
        let hq =
            format!("url = \"{}\"\nbundle_url = \"{url}\"\nbundle_key = \"{public}\"", Hq::URL);
        (Self { file, key, signed, office }, settings().with("[hq]", &hq))
    }

    fn make(&self, args: &[&str]) -> Vec<String> {
        let said = Gateway::tool(&[&["bundle", "voucher", &self.file], args].concat()).ok();
        said.lines().map(|line| line.split_whitespace().nth(1).unwrap().to_owned()).collect()
    }

    fn publish(&self) {
        let keys = ["--key", &self.key, "--out", &self.signed];
        Gateway::tool(&[&["bundle", "sign", &self.file], &keys[..]].concat()).ok();
        self.office.put(std::fs::read(&self.signed).unwrap());
    }
}

#[test]
fn hq_makes_vouchers_that_a_store_takes_offline() {
    let mut lab = Lab::new(2);
    let (desk, settings) = Desk::open(&lab);
    let gateway = lab.maitred(&settings);
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    let [one, two] = &lab.guests[..] else { unreachable!() };
    let sheet = lab.folder().join("hq.html");
    let printed = ["--sheet", sheet.to_str().unwrap(), "--portal", "http://10.77.0.1:2050/"];
    let codes = desk.make(&[&["--count", "2", "--minutes", "30"], &printed[..]].concat());
    let sheet = std::fs::read_to_string(sheet).unwrap();
    assert!(sheet.contains(&codes[0]) && sheet.contains("hq1-2") && sheet.contains("<svg"));
    let lost = desk.make(&["--count", "1", "--minutes", "30", "--zone", "elsewhere"]);
    codes.iter().chain(&lost).for_each(|code| {
        gateway.secret(code);
        gateway.secret(&code.replace('-', ""));
    });
    desk.publish();
    assert_eq!(spend(one, &codes[0]).status, 200, "not before it is here");
    gateway.command(&["sync", "--now"]).ok();
    // From here on nobody needs the internet.
    lab.router.ip("link set wan down");
    spend(one, &codes[0].to_lowercase().replace('-', " "));
    let state = |guest: &Guest| {
        let rows = gateway.json(&["clients"]);
        let row = rows.as_array().unwrap().iter().find(|row| row["mac"] == guest.mac.as_str());
        row.unwrap()["state"].clone()
    };
    assert_eq!(state(one), "online");
    spend(two, &lost[0]);
    assert_ne!(state(two), "online", "good in another zone alone");
}

#[test]
fn a_batch_of_hqs_comes_once_and_goes_for_good() {
    let mut lab = Lab::new(3);
    let (desk, settings) = Desk::open(&lab);
    let gateway = lab.maitred(&settings);
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    let [one, two, three] = &lab.guests[..] else { unreachable!() };
    let codes = desk.make(&["--count", "2", "--uses", "2", "--minutes", "30"]);
    desk.make(&["--count", "1", "--minutes", "30", "--zone", "elsewhere"]);
    desk.publish();
    gateway.command(&["sync", "--now"]).ok();
    spend(one, &codes[0]);
    assert!(one.online());

    // The same again, a restart, a new version: what is used is used.
    gateway.command(&["sync", "--now"]).ok();
    gateway.kill9();
    gateway.run();
    let more = desk.make(&["--count", "1", "--minutes", "30"]);
    desk.publish();
    gateway.command(&["sync", "--now"]).ok();
    let rows = gateway.json(&["voucher", "list"]);
    let rows: Vec<(u64, bool, u64)> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            (
                row["batch"].as_u64().unwrap(),
                row["hq"].as_bool().unwrap(),
                row["used"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(rows, [(1, true, 1), (3, true, 0)]);
    assert!(gateway.command(&["voucher", "list"]).ok().contains("hq3"));
    spend(two, &codes[0]);
    assert!(two.online());
    spend(three, &codes[0]);
    assert!(!three.online(), "two uses are two");
    let told: Vec<String> = gateway.database(|db| {
        let mut told = db.prepare("SELECT body FROM outbox WHERE body LIKE '%\"voucher\"%'")?;
        told.query_map([], |row| row.get(0))?.collect()
    });
    assert!(!told.is_empty());
    assert!(told.iter().all(|row| row.contains("\"batch\":1") && row.contains("\"hq\":true")));

    // What a store revokes stays revoked, and so does what HQ leaves out.
    gateway.command(&["voucher", "revoke", "hq3"]).ok();
    Gateway::tool(&["bundle", "revoke", &desk.file, "hq1"]).ok();
    desk.publish();
    gateway.command(&["sync", "--now"]).ok();
    assert!(!one.online() && !two.online(), "what they opened is closed");
    gateway.kill9();
    gateway.run();
    gateway.command(&["sync", "--now"]).ok();
    for code in codes.iter().chain(&more) {
        spend(three, code);
        assert!(!three.online());
    }
}

#[test]
fn a_browser_gets_online_with_a_printed_voucher_in_chinese() {
    journey("zh-CN", "zh-CN");
}

#[test]
fn a_browser_gets_online_with_a_printed_voucher_in_english() {
    journey("en-GB", "en");
}

fn journey(language: &str, sheet_language: &str) {
    let (lab, gateway) = set_up(2);
    let [one, two] = &lab.guests[..] else { unreachable!() };
    let sheet = lab.folder().join("sheet.html");
    let args = ["--sheet", sheet.to_str().unwrap(), "--language", sheet_language];
    let batch = ["--portal", "http://10.77.0.1:2050/", "--count", "4", "--minutes", "90"];
    let codes = make(&gateway, &[&args[..], &batch].concat());
    let mode = std::os::unix::fs::PermissionsExt::mode(&sheet.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert!(!gateway.command(&[&["voucher", "new"], &args[..], &batch].concat()).success);
    assert_eq!(gateway.json(&["voucher", "list"]).as_array().unwrap().len(), 1, "none in vain");

    let typed = ["typed", &codes[0], sheet.to_str().unwrap()];
    let pages = ["voucher-offer", "voucher-wrong", "voucher-online", "voucher-sheet"];
    browser::browse(&lab, &one.netns, "voucher.mjs", language, &typed, &pages);
    assert!(one.online());
    // The sheet shows the first voucher's code alone.
    let picture = browser::pictures().join(format!("{language}-04-voucher-sheet.png"));
    let link = Wechat::scan(&picture);
    assert_eq!(link, format!("{PORTAL}/v/{}", codes[1]));
    let scanned = ["scanned", &link, ""];
    let pages = ["voucher-scanned", "voucher-scanned-online"];
    browser::browse(&lab, &two.netns, "voucher.mjs", language, &scanned, &pages);
    assert!(two.online());
}
