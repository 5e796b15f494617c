//! HQ makes the guest keys, and the router keeps none: `key = "hq"`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use maitred::domain::Secrets;
use maitred::domain::names::{GuestKey, Phone};
use serde_json::Value;

use crate::lab::{Dhcp, Gateway, Guest, Hq, Lab, Mood, Settings, run};
use crate::privacy::{OPENID, assert_clean, settings, trade};

const PORTAL: &str = "http://10.77.0.1:2050";

fn hq_keys() -> Settings {
    settings().with("[store]", "clock = \"always\"\nkey = \"hq\"")
}

/// Ends the daemon, and what a power cut ends besides.
fn power_cut(lab: &Lab, gateway: &Gateway) {
    gateway.kill9();
    // If this machine's temporary files are in memory.
    let _ = fs::remove_file(lab.folder().join("run/pseudonyms.key"));
    gateway.run();
}

/// The guests that a table names.
fn guests_of(gateway: &Gateway, table: &str) -> BTreeSet<GuestKey> {
    gateway.database(|db| {
        let sql = format!("SELECT DISTINCT guest FROM {table} WHERE guest IS NOT NULL");
        let mut select = db.prepare(&sql)?;
        select.query_map([], |row| row.get(0).map(GuestKey))?.collect()
    })
}

fn mine(guest: &Guest) -> Value {
    serde_json::from_str(&guest.get(&format!("{PORTAL}/me/data")).body).unwrap()
}

#[test]
fn a_guest_is_one_again_once_hq_has_answered() {
    let mut lab = Lab::new(3);
    let gateway = lab.maitred(&hq_keys());
    let phone = lab.guests[0].phone.clone();
    lab.guests.iter_mut().for_each(|guest| guest.phone.clone_from(&phone));
    lab.guests[0].join(Dhcp::Udhcpc);
    lab.guests[0].log_in(&gateway);
    power_cut(&lab, &gateway);
    lab.guests[1].join(Dhcp::Udhcpc);
    lab.guests[1].log_in(&gateway);
    // The number made another pseudonym after the power cut: two guests, as far as is known here.
    let pseudonyms = guests_of(&gateway, "visit");
    assert_eq!(pseudonyms.len(), 2, "{pseudonyms:?}");
    assert!(!pseudonyms.contains(&Hq::key_of(&phone)));

    let hq = Hq::open(&lab.internet, Mood::Mute);
    hq.name_guests();
    assert!(!gateway.command(&["sync", "--now"]).success);
    assert_eq!(guests_of(&gateway, "visit"), pseudonyms, "an answer that is lost");
    hq.feel(Mood::Well);
    gateway.command(&["sync", "--now"]).ok();
    let key = Hq::key_of(&phone);
    for table in ["visit", "session", "access_log", "device", "consent", "identity"] {
        assert_eq!(guests_of(&gateway, table), [key].into(), "{table}");
    }
    assert!(lab.guests[..2].iter().all(Guest::online), "nobody is cut off");
    // An address that was never here is the same guest at once; and a third visit.
    lab.guests[2].join(Dhcp::Udhcpc);
    lab.guests[2].log_in(&gateway);
    let (visits, last): (i64, i64) = gateway.database(|db| {
        db.query_row("SELECT g.visits, max(v.guest_nth) FROM guest g, visit v", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
    });
    assert_eq!((visits, last), (3, 3));
    let file = mine(&lab.guests[2]);
    assert_eq!(file["devices"].as_array().unwrap().len(), 3, "{file}");

    // Staff: by HQ's key, not by the number.
    let refused = gateway.command(&["guest", "show", &phone]);
    assert!(!refused.success && refused.stderr.contains("head office"), "{refused:?}");
    assert!(refused.stderr.contains(&key.to_string()), "{refused:?}");
    let nobody = gateway.command(&["guest", "erase", "13900000077"]);
    assert!(!nobody.success && nobody.stderr.contains("no guest *77"), "{nobody:?}");
    let shown = gateway.command(&["guest", "show", &key.to_string()]).ok();
    assert!(lab.guests.iter().all(|guest| shown.contains(&guest.mac)), "{shown}");
    gateway.command(&["guest", "erase", &key.to_string()]).ok();
    assert!(guests_of(&gateway, "visit").is_empty());
    assert!(!gateway.command(&["guest", "show", &key.to_string()]).success);
}

#[test]
fn who_is_erased_under_a_pseudonym_is_forgotten_under_the_key_as_well() {
    let mut lab = Lab::new(2);
    let gateway = lab.maitred(&hq_keys());
    let hq = Hq::open(&lab.internet, Mood::Well);
    hq.name_guests();
    lab.guests[1].phone = lab.guests[0].phone.clone();
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    let [one, two] = &lab.guests[..] else { unreachable!() };
    one.log_in(&gateway);
    gateway.command(&["sync", "--now"]).ok();
    let key = Hq::key_of(&one.phone);
    assert_eq!(guests_of(&gateway, "visit"), [key].into());
    power_cut(&lab, &gateway);
    two.log_in(&gateway);
    two.submit(&two.get(&format!("{PORTAL}/me")), "/me/erase", &[]);
    assert_eq!(guests_of(&gateway, "visit"), [key].into(), "nobody here knows that it is theirs");
    gateway.command(&["sync", "--now"]).ok();
    for table in ["visit", "session", "device", "consent"] {
        assert!(guests_of(&gateway, table).is_empty(), "{table}");
    }
    assert!(one.online() && two.online());
    let taken = hq.taken().len();
    gateway.command(&["sync", "--now"]).ok();
    assert_eq!(hq.taken().len(), taken, "HQ need not be told what it said");
}

#[test]
fn a_remembered_device_needs_no_code_whoever_has_the_key() {
    let portal = "remember_for = \"1h\"\nreturn = \"silent\"";
    let zone = "name = \"guest\"\ninterface = \"br-guest\"\nsession_timeout = \"2s\"";
    let settings = hq_keys().with("[portal]", portal).with("[[zone]]", zone);
    let mut lab = Lab::new(1);
    let gateway = lab.maitred(&settings);
    let hq = Hq::open(&lab.internet, Mood::Well);
    lab.guests[0].join(Dhcp::Udhcpc);
    let guest = &lab.guests[0];
    guest.log_in(&gateway);
    let comes_back = || {
        std::thread::sleep(std::time::Duration::from_millis(2500));
        let mut page = guest.follow(guest.get("http://example.com/"));
        if page.has_form("/change") {
            page = guest.submit(&page, "/change", &[]);
        }
        assert!(page.has_form("/logout") && guest.online(), "{page:#?}");
        assert!(gateway.next_message(&guest.phone).is_none(), "no second message");
    };
    power_cut(&lab, &gateway);
    comes_back();
    hq.name_guests();
    gateway.command(&["sync", "--now"]).ok();
    power_cut(&lab, &gateway);
    comes_back();
    let key = Hq::key_of(&guest.phone);
    assert_eq!(guests_of(&gateway, "session"), [key].into());
}

#[test]
fn vouchers_on_paper_outlive_the_power_cut_that_pseudonyms_do_not() {
    let mut lab = Lab::new(1);
    let gateway = lab.maitred(&hq_keys().with("[voucher]", "enabled = true"));
    let made = gateway.command(&["voucher", "new", "--count", "1", "--minutes", "30"]).ok();
    let code = made.split_whitespace().nth(1).unwrap();
    power_cut(&lab, &gateway);
    lab.guests[0].join(Dhcp::Udhcpc);
    let guest = &lab.guests[0];
    guest.post(&format!("{PORTAL}/voucher"), &[("code", code), ("terms", "yes")]);
    assert!(guest.online(), "{code}");
}

/// A run folder in memory, as routers have it.
struct Memory(PathBuf);

impl Memory {
    fn mount(folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        let folder = folder.to_owned();
        let options = ["-t", "tmpfs", "-o", "mode=0700,size=1m", "tmpfs"];
        run(&[&["mount"][..], &options, &[folder.to_str().unwrap()]].concat(), 5).ok();
        Self(folder)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        run(&["umount", "--lazy", self.0.to_str().unwrap()], 5);
    }
}

#[test]
fn a_number_has_its_share_of_messages_whatever_restarts_and_whoever_asks() {
    let code = "resend_after = \"1s\"\nper_number_hour = 2";
    let mut lab = Lab::new(3);
    let memory = Memory::mount(&lab.folder().join("run"));
    let gateway = lab.maitred(&hq_keys().with("[code]", code));
    let phone = lab.guests[0].phone.clone();
    lab.guests.iter_mut().for_each(|guest| {
        guest.phone.clone_from(&phone);
        guest.join(Dhcp::Udhcpc);
    });
    lab.guests[0].ask_code(&gateway, "http://example.com/");
    gateway.code_for(&phone);
    gateway.term();
    gateway.run();
    lab.guests[1].ask_code(&gateway, "http://example.com/");
    gateway.code_for(&phone);
    // The count of messages may take so long to the disk.
    std::thread::sleep(std::time::Duration::from_millis(500));
    gateway.kill9();
    gateway.run();
    let three = &lab.guests[2];
    let page = three.follow(three.get("http://example.com/"));
    let page = three.submit(&page, "/phone", &[("phone", &phone), ("terms", "yes")]);
    assert!(!page.has_form("/code"), "{page:#?}");
    assert!(gateway.next_message(&phone).is_none());
    drop((gateway, memory));
}

/// All files of a folder.
fn files(folder: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().flatten();
    entries.filter_map(|entry| fs::read(entry.path()).ok()).collect()
}

/// Whatever in these files could be a key: any 32 bytes, and any 64 hexadecimal digits.
fn candidates(files: &[Vec<u8>]) -> BTreeSet<[u8; 32]> {
    let plain = files.iter().flat_map(|file| file.windows(32)).map(<[u8; 32]>::try_from);
    let hex = files.iter().flat_map(|file| file.windows(64)).filter_map(|digits| {
        HEXLOWER.decode(digits).ok().map(|bytes| <[u8; 32]>::try_from(&bytes[..]))
    });
    plain.chain(hex).map(Result::unwrap).collect()
}

/// What the database has of guests that may stem from a number.
fn hashes(state: &Path) -> BTreeSet<GuestKey> {
    let database = rusqlite::Connection::open(state.join("maitred.db")).unwrap();
    let sql = "SELECT key FROM guest UNION SELECT number FROM message UNION
               SELECT guest FROM access_log WHERE guest IS NOT NULL";
    let mut select = database.prepare(sql).unwrap();
    let rows = select.query_map([], |row| Ok(GuestKey(row.get(0)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

/// The numbers that a thief of a state folder finds by trying every number with everything in the
/// folder that may be a key. Of the numbers that are no guest's, which only take time, this tries
/// none.
fn stolen(state: &Path, phones: &[String]) -> BTreeSet<String> {
    let (hashes, keys) = (hashes(state), candidates(&files(state)));
    let found = |(number, phone): (&String, &Phone), key: &[u8; 32]| {
        let secrets = Secrets { guest_key: *key, voucher_key: *key };
        hashes.contains(&secrets.phone_guest(phone)).then(|| number.clone())
    };
    let phones = phones.iter().map(|number| (number, Phone::parse(number, "86").unwrap()));
    let phones: Vec<_> = phones.collect();
    let tried = |key| phones.iter().filter_map(move |(number, phone)| found((number, phone), key));
    keys.iter().flat_map(tried).collect()
}

#[test]
fn a_stolen_router_yields_no_number_unless_it_makes_the_keys_itself() {
    let mut lab = Lab::new(3);
    let gateway = lab.maitred(&hq_keys());
    let phones: Vec<String> = lab.guests[..2].iter().map(|guest| guest.phone.clone()).collect();
    trade(&mut lab, &gateway);
    // Some guests by HQ's key, one by a pseudonym, as on any day.
    let hq = Hq::open(&lab.internet, Mood::Well);
    hq.name_guests();
    gateway.command(&["sync", "--now"]).ok();
    power_cut(&lab, &gateway);
    gateway.command(&["revoke", &lab.guests[1].mac]).ok();
    lab.guests[1].log_in(&gateway);
    let secrets = [phones[0].as_str(), &phones[1], OPENID];
    assert_clean(&lab, &gateway, &secrets);
    gateway.term();
    assert_clean(&lab, &gateway, &secrets);
    let copy = lab.folder().join("copy");
    run(&["cp", "-a", lab.folder().join("state").to_str().unwrap(), copy.to_str().unwrap()], 5)
        .ok();
    assert!(hashes(&copy).len() >= 4);
    assert!(stolen(&copy, &phones).is_empty());
    let keys = candidates(&[fs::read(copy.join("keys.toml")).unwrap()]);
    let database = rusqlite::Connection::open(copy.join("maitred.db")).unwrap();
    let mut select =
        database.prepare("SELECT sealed FROM seal UNION SELECT sealed FROM identity").unwrap();
    let sealed: Vec<Vec<u8>> =
        select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert_eq!(sealed.len(), 4);
    for sealed in &sealed {
        assert!(keys.iter().all(|key| crypto_box::SecretKey::from(*key).unseal(sealed).is_err()));
        assert!(Hq::seal_key().unseal(sealed).is_ok());
    }

    // The same theft from a router that makes the keys: its file gives every number away. The owner
    // changes that, and a thief who comes later finds nothing.
    gateway.configure(&settings());
    gateway.run();
    for guest in &lab.guests[..2] {
        gateway.command(&["revoke", &guest.mac]);
        guest.log_in(&gateway);
    }
    gateway.term();
    let state = lab.folder().join("state");
    assert_eq!(stolen(&state, &phones), phones.iter().cloned().collect());
    gateway.configure(&hq_keys());
    gateway.run();
    gateway.term();
    assert!(stolen(&state, &phones).is_empty());
}
