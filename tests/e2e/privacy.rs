//! What the router keeps of guests: nothing in clear, everything in reach of the guest, and the
//! access log for whom the law sends.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use data_encoding::{BASE64, HEXLOWER, HEXUPPER};
use maitred::adapters::store::journal::Groups;
use maitred::domain::Secrets;
use maitred::domain::names::{GuestKey, Phone};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::lab::{Dhcp, Gateway, Guest, Hq, Lab, Mood, Settings, until};

const PORTAL: &str = "http://10.77.0.1:2050";
pub(crate) const OPENID: &str = "oWifi_7f3kQ-AbCdEf";

fn hq_key() -> crypto_box::SecretKey {
    Hq::seal_key()
}

pub(crate) fn settings() -> Settings {
    let seal = BASE64.encode(hq_key().public_key().as_bytes());
    let wifi = "app_id = \"wx1\"\nshop_id = \"7\"\nsecret_key = \"hush\"\nssid = \"Cafe\"";
    Settings::new()
        .with("[hq]", &format!("url = \"{}\"\nseal_key = \"{seal}\"", Hq::URL))
        .with("[wechat_wifi]", wifi)
}

/// A day's trade: two guests by code, one by the account's name; wrong codes, a logout, a crash, a
/// return, a run to HQ, an erasure.
pub(crate) fn trade(lab: &mut Lab, gateway: &Gateway) {
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    let [one, two, three] = &lab.guests[..] else { unreachable!() };
    let page = one.log_in(gateway);
    let asked = two.ask_code(gateway, "http://example.com/");
    let asked = two.submit(&asked, "/code", &[("code", "000000")]);
    two.submit(&asked, "/code", &[("code", &gateway.code_for(&two.phone))]);
    let out = three.get(&format!("{PORTAL}/wx")).location();
    let extend = out.split(['?', '&']).find_map(|pair| pair.strip_prefix("extend=")).unwrap();
    let back = format!("{PORTAL}/wx/auth?extend={extend}&openId={OPENID}&tid=0102");
    three.follow(three.get(&back));
    assert!(one.online() && two.online() && three.online());
    one.submit(&page, "/logout", &[]);
    // Its end is on disk; killed this soon, the table may still have it until the next start reads that.
    gateway.kill9();
    gateway.run();
    until(Duration::from_secs(2), "the logout to hold", || (!one.online()).then_some(()));
    one.log_in(gateway);
    // Where HQ makes the guest keys there is no answer.
    gateway.command(&["guest", "show", &two.phone]);
}

/// Every form in which digits or a name might lie about.
fn forms(text: &str) -> Vec<(&'static str, Vec<u8>)> {
    let bytes = text.as_bytes();
    let mut forms = vec![
        ("plain", bytes.to_vec()),
        ("backwards", bytes.iter().rev().copied().collect()),
        ("UTF-16LE", bytes.iter().flat_map(|byte| [*byte, 0]).collect()),
        ("UTF-16BE", bytes.iter().flat_map(|byte| [0, *byte]).collect()),
        ("hex", HEXLOWER.encode(bytes).into_bytes()),
        ("HEX", HEXUPPER.encode(bytes).into_bytes()),
    ];
    // Base64 of a longer text shows all but the edges of this, in one of three shifts.
    for shift in 0..3 {
        let padded = [&vec![b' '; shift][..], bytes].concat();
        let code = BASE64.encode(&padded[..padded.len() / 3 * 3]).into_bytes();
        forms.push(("base64", code[if shift == 0 { 0 } else { 4 }..].to_vec()));
    }
    if let Ok(number) = text.parse::<u64>() {
        forms.push(("number", number.to_be_bytes()[2..].to_vec()));
        forms.push(("number", number.to_le_bytes()[..6].to_vec()));
        let packed = HEXLOWER.decode(format!("{text}f").as_bytes()).unwrap();
        forms.push(("packed", packed));
        forms.push(("packed", HEXLOWER.decode(format!("0{text}").as_bytes()).unwrap()));
    }
    forms
}

fn finds(haystack: &[u8], secret: &str) -> Option<&'static str> {
    let found = |form: &[u8]| haystack.windows(form.len()).any(|window| window == form);
    forms(secret).into_iter().find(|(_, form)| found(form)).map(|(name, _)| name)
}

/// All that lies in the state and run folders, the journal's inside too, and all that was logged.
fn everything(lab: &Lab, gateway: &Gateway) -> Vec<(String, Vec<u8>)> {
    let mut all = vec![("the log".to_owned(), gateway.log().into_bytes())];
    for folder in ["state", "run"] {
        for entry in fs::read_dir(lab.folder().join(folder)).unwrap().flatten() {
            let name = entry.path().display().to_string();
            if let Ok(bytes) = fs::read(entry.path()) {
                all.push((name, bytes));
            }
        }
    }
    let journal = File::open(lab.folder().join("state/maitred.journal")).unwrap();
    let length = journal.metadata().unwrap().len();
    let (header, mut groups) = Groups::open(journal, length).unwrap().unwrap();
    let mut text = serde_json::to_string(&header).unwrap();
    while let Some(group) = groups.next().unwrap() {
        text += &serde_json::to_string(&group).unwrap();
    }
    all.push(("the journal".to_owned(), text.into_bytes()));
    all
}

#[track_caller]
pub(crate) fn assert_clean(lab: &Lab, gateway: &Gateway, secrets: &[&str]) {
    for (place, bytes) in everything(lab, gateway) {
        for secret in secrets {
            if let Some(form) = finds(&bytes, secret) {
                panic!("{place} holds an identity in clear ({form})");
            }
        }
    }
}

#[test]
fn a_days_trade_leaves_no_identity_in_clear() {
    // The search finds what there is to find.
    for (name, form) in forms("13800138001") {
        let hidden = [&b"before"[..], &form, b"after"].concat();
        assert!(finds(&hidden, "13800138001").is_some(), "{name}");
    }
    assert!(
        finds(BASE64.encode(b"{\"a\":\"+8613800138001\"}").as_bytes(), "13800138001").is_some()
    );

    let mut lab = Lab::new(3);
    let gateway = lab.maitred(&settings());
    trade(&mut lab, &gateway);
    let phones: Vec<String> = lab.guests.iter().map(|guest| guest.phone.clone()).collect();
    let secrets = [phones[0].as_str(), &phones[1], OPENID];
    // Once as it runs, with a journal; once settled; once after HQ and an erasure.
    assert_clean(&lab, &gateway, &secrets);
    gateway.command(&["stats"]).ok();
    assert_clean(&lab, &gateway, &secrets);
    let hq = Hq::open(&lab.internet, Mood::Well);
    gateway.command(&["sync", "--now"]).ok();
    gateway.command(&["guest", "erase", &phones[1]]).ok();
    assert_clean(&lab, &gateway, &secrets);
    gateway.term();
    assert_clean(&lab, &gateway, &secrets);

    // HQ opens what it was sent, and nobody else does.
    let rows: Vec<Value> = hq.taken().into_iter().flat_map(|batch| batch.rows).collect();
    let text = serde_json::to_string(&rows).unwrap();
    assert!(secrets.iter().all(|secret| finds(text.as_bytes(), secret).is_none()));
    let opened: BTreeSet<String> = rows
        .iter()
        .filter_map(|row| row["sealed"].as_str())
        .map(|sealed| {
            let sealed = BASE64.decode(sealed.as_bytes()).unwrap();
            String::from_utf8(hq_key().unseal(&sealed).unwrap()).unwrap()
        })
        .collect();
    let expected = [
        format!("openid:{OPENID}"),
        format!("phone:+86{}", phones[0]),
        format!("phone:+86{}", phones[1]),
    ];
    assert_eq!(opened, expected.into());
    let keys = lab.folder().join("state/keys.toml");
    assert_eq!(fs::metadata(keys).unwrap().permissions().mode() & 0o777, 0o600);
}

/// Hashes of the copied database that stem from numbers: guests and messages.
fn hashes(copy: &Path) -> BTreeSet<GuestKey> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let database = rusqlite::Connection::open_with_flags(copy.join("maitred.db"), flags).unwrap();
    let sql = "SELECT key FROM guest UNION SELECT number FROM message";
    let mut select = database.prepare(sql).unwrap();
    let rows = select.query_map([], |row| Ok(GuestKey(row.get(0)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

/// The numbers among all of one range that a key gives away.
fn guessed(key: [u8; 32], hashes: &BTreeSet<GuestKey>) -> Vec<String> {
    let secrets = Secrets { guest_key: key, voucher_key: key };
    let numbers = (0..10_000).map(|last| format!("1380013{last:04}"));
    let known = |number: &String| {
        hashes.contains(&secrets.phone_guest(&Phone::parse(number, "86").unwrap()))
    };
    numbers.filter(known).collect()
}

#[test]
fn a_stolen_database_yields_no_number_and_one_with_its_keys_those_that_are_guessed() {
    let mut lab = Lab::new(3);
    let gateway = lab.maitred(&settings());
    trade(&mut lab, &gateway);
    gateway.term();
    let state = lab.folder().join("state");
    let copy = lab.folder().join("copy");
    fs::create_dir(&copy).unwrap();
    for name in ["maitred.db", "maitred.db-wal", "maitred.journal"] {
        if state.join(name).exists() {
            fs::copy(state.join(name), copy.join(name)).unwrap();
        }
    }
    let hashes = hashes(&copy);
    assert!(hashes.len() >= 3);
    // Without the key file: keys that are no secret, and anything of 32 bytes in the copy.
    let mut keys: BTreeSet<[u8; 32]> = [[0; 32], [0xff; 32]].into();
    let public = hq_key().public_key();
    keys.extend([*public.as_bytes(), Sha256::digest(b"lab-1").into()]);
    let database = fs::read(copy.join("maitred.db")).unwrap();
    let twice = |hash: &GuestKey| <[u8; 32]>::try_from([hash.0, hash.0].concat()).unwrap();
    keys.extend(hashes.iter().map(twice));
    let step = database.len() / 40;
    let part = |place: usize| <[u8; 32]>::try_from(&database[place * step..][..32]).unwrap();
    keys.extend((0..40).map(part));
    for key in &keys {
        assert_eq!(guessed(*key, &hashes), Vec::<String>::new());
    }
    for number in (0..10_000).map(|last| format!("1380013{last:04}")) {
        for text in [number.clone(), format!("+86{number}"), format!("phone:+86{number}")] {
            let plain: [u8; 32] = Sha256::digest(text.as_bytes()).into();
            assert!(!hashes.contains(&GuestKey(plain[..16].try_into().unwrap())));
        }
    }

    // With it: whose number is guessed is found, as the README says; the rest stays shut.
    let text = fs::read_to_string(state.join("keys.toml")).unwrap();
    let hex = text.lines().find_map(|line| line.strip_prefix("guest_key = \"")).unwrap();
    let key = HEXLOWER.decode(hex.trim_end_matches('"').as_bytes()).unwrap();
    let found = guessed(key.clone().try_into().unwrap(), &hashes);
    assert_eq!(found, [lab.guests[0].phone.clone(), lab.guests[1].phone.clone()]);
    let stolen = crypto_box::SecretKey::from(<[u8; 32]>::try_from(key).unwrap());
    let sealed: Vec<Vec<u8>> = rusqlite::Connection::open(copy.join("maitred.db"))
        .unwrap()
        .prepare("SELECT sealed FROM seal")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(sealed.len(), 3);
    assert!(sealed.iter().all(|sealed| stolen.unseal(sealed).is_err()));
    assert!(sealed.iter().all(|sealed| hq_key().unseal(sealed).is_ok()));
}

#[test]
fn staff_show_export_and_forget_a_guest_and_hand_over_the_access_log() {
    let mut lab = Lab::new(3);
    let gateway = lab.maitred(&settings());
    trade(&mut lab, &gateway);
    let phone = lab.guests[0].phone.clone();
    let shown = gateway.command(&["guest", "show", &phone]).ok();
    assert!(shown.contains("visits") && shown.contains(&lab.guests[0].mac), "{shown}");
    assert!(!shown.contains(&lab.guests[1].mac) && !shown.contains(&phone), "{shown}");
    let export = gateway.command(&["guest", "export", &phone]).ok();
    let file: Value = serde_json::from_str(&export).unwrap();
    assert_eq!(file["consents"].as_array().unwrap().len(), 1, "as it did not change: {file}");
    assert_eq!(file["consents"][0]["marketing"], false);
    assert!(!gateway.command(&["guest", "show", "13900000000"]).success);
    assert!(!gateway.command(&["guest", "show", "x"]).success);

    gateway.command(&["guest", "erase", &phone]).ok();
    assert!(lab.guests[0].online(), "forgotten, not thrown out");
    assert!(!gateway.command(&["guest", "show", &phone]).success);
    let hq = Hq::open(&lab.internet, Mood::Well);
    gateway.command(&["sync", "--now"]).ok();
    let rows: Vec<Value> = hq.taken().into_iter().flat_map(|batch| batch.rows).collect();
    assert_eq!(rows.iter().filter(|row| row["type"] == "erased").count(), 1, "{rows:?}");

    let out = lab.folder().join("inspection");
    let out = out.to_str().unwrap();
    let period = ["--from", "2020-01-01", "--to", "2099-12-31", "--out", out];
    let args = [&["export", "access-log"][..], &period].concat();
    gateway.command(&args).ok();
    assert!(!gateway.command(&args).success, "an export is not written over");
    let csv = fs::read_to_string(format!("{out}/access-log.csv")).unwrap();
    let manifest: Value =
        serde_json::from_str(&fs::read_to_string(format!("{out}/manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["sha256"], HEXLOWER.encode(&Sha256::digest(csv.as_bytes())));
    assert_eq!((&manifest["store"], &manifest["from"]), (&"lab-1".into(), &"2020-01-01".into()));
    let lines: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines[0].len(), 8);
    assert_eq!(manifest["rows"], lines.len() - 1);
    // The log still names whom the store has forgotten, for HQ alone.
    let of_one = lines.iter().filter(|line| line[3] == lab.guests[0].mac).collect::<Vec<_>>();
    assert!(of_one.len() >= 3, "{csv}");
    let of_the_store =
        |line: &&Vec<&str>| ["10.77.", "2001:db8:77:"].iter().any(|net| line[4].starts_with(net));
    assert!(of_one.iter().copied().all(|line| of_the_store(&line)), "{csv}");
    let sealed = BASE64.decode(of_one[0][7].as_bytes()).unwrap();
    assert_eq!(hq_key().unseal(&sealed).unwrap(), format!("phone:+86{phone}").into_bytes());
    assert!(finds(csv.as_bytes(), &phone).is_none());
    let other = ["--from", "2020-01-01", "--to", "2020-12-31", "--out"];
    let empty = format!("{out}-2020");
    let said = gateway.command(&[&["export", "access-log"][..], &other, &[&empty]].concat()).ok();
    assert!(said.starts_with("0 rows"), "{said}");
}

fn mine(guest: &Guest) -> Value {
    let file = guest.get(&format!("{PORTAL}/me/data"));
    assert!(file.headers["content-disposition"].starts_with("attachment"), "{file:#?}");
    assert_eq!(file.headers["cache-control"], "no-store");
    serde_json::from_str(&file.body).unwrap()
}

#[test]
fn a_guest_sees_takes_and_erases_their_own_data_and_nobody_elses() {
    let mut lab = Lab::new(3);
    let gateway = lab.maitred(&settings());
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    let [one, two, three] = &lab.guests[..] else { unreachable!() };
    let online = one.log_in(&gateway);
    assert!(online.body.contains("href=\"/me"), "{online:#?}");
    two.log_in(&gateway);
    let page = one.get(&format!("{PORTAL}/me"));
    assert!(page.has_form("/me/erase") && page.body.contains("01"), "{page:#?}");
    assert!(!page.body.contains(&one.phone));
    assert_eq!(mine(one)["devices"][0]["mac"], one.mac);
    let of_two = mine(two);
    assert!(!of_two.to_string().contains(&one.mac), "{of_two}");

    // A stranger has nothing there, whoever they say they are.
    for path in ["me", "me/data", &format!("me?mac={}", two.mac), "me/data?mac=1"] {
        let reply = three.get(&format!("{PORTAL}/{path}"));
        assert_eq!(reply.status, 302, "{reply:#?}");
    }
    let claims = format!("X-Forwarded-For: {}", two.v4());
    let reply = three.curl(&format!("{PORTAL}/me/data"), &["-H", &claims]).unwrap();
    assert_eq!(reply.status, 302);
    let erase = format!("{PORTAL}/me/erase");
    three.post(&erase, &[("mac", &two.mac), ("phone", &two.phone)]);
    // Nor does a page elsewhere, in the guest's own browser, nor a link.
    let foreign = two.curl(&erase, &["-X", "POST", "-H", "Origin: http://evil.example"]).unwrap();
    assert_eq!(foreign.status, 403);
    let site = ["-X", "POST", "-H", "Sec-Fetch-Site: cross-site"];
    assert_eq!(two.curl(&erase, &site).unwrap().status, 403);
    let rebound = two.curl(&format!("{PORTAL}/me/data"), &["-H", "Host: evil.example"]).unwrap();
    assert_eq!(rebound.status, 302);
    assert_eq!(two.get(&erase).status, 302);
    assert_eq!(mine(two)["consents"].as_array().unwrap().len(), 1, "still there");

    let page = two.submit(&two.get(&format!("{PORTAL}/me")), "/me/erase", &[]);
    assert_eq!(page.status, 200, "{page:#?}");
    assert!(two.online() && one.online());
    assert_eq!(two.get(&format!("{PORTAL}/me/data")).status, 302, "nobody's session");
    assert!(!gateway.command(&["guest", "show", &two.phone]).success);
    assert_eq!(mine(one)["consents"].as_array().unwrap().len(), 1);
    let named: i64 = gateway.database(|db| {
        db.query_row("SELECT count(DISTINCT guest) FROM access_log", [], |row| row.get(0))
    });
    assert_eq!(named, 2, "the access log stays");

    // Ten looks a minute, as the disk is not a guest's to wear out.
    let looks = (0..12).filter(|_| one.get(&format!("{PORTAL}/me/data")).status == 200).count();
    assert!(looks < 10, "{looks}");
}
