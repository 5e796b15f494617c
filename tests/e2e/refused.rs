//! Starts that fail: those who were online stay so, nobody else gets in, and it is said why.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::lab::{Dhcp, Gateway, Guest, Lab, ROUTER_V4, Settings, WEB_V4, WEB_V6, run, until};

const MAITRED: &str = env!("CARGO_BIN_EXE_maitred");

/// Another table than that of [`Settings::new`].
fn changed() -> Settings {
    let zone = "name = \"guest\"\ninterface = \"br-guest\"\nwalled_garden = [\"192.0.2.7\"]";
    Settings::new().with("[[zone]]", zone)
}

/// A store with a guest who is online, a stranger, and no daemon any more.
fn store() -> (Lab, Gateway) {
    let mut lab = Lab::new(2);
    let gateway = lab.maitred(&Settings::new());
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    lab.guests[0].log_in(&gateway);
    gateway.kill9();
    (lab, gateway)
}

fn reach(guest: &Guest) -> u32 {
    guest.ping(WEB_V4, 1) + guest.ping(WEB_V6, 1)
}

/// A start fails, for this reason; what then gets through, of the guest and of the stranger.
#[track_caller]
pub(crate) fn refused(lab: &Lab, gateway: &Gateway, why: &str) -> [u32; 2] {
    let refused = gateway.command(&["run"]);
    assert!(!refused.success, "{refused:?}");
    assert!(format!("{refused:?}").contains(why), "{refused:?}");
    [reach(&lab.guests[0]), reach(&lab.guests[1])]
}

/// It starts: the guest is online without a login, and the stranger can log in.
#[track_caller]
fn mended(lab: &Lab, gateway: &Gateway) {
    gateway.run();
    let [guest, stranger] = &lab.guests[..] else { unreachable!() };
    until(Duration::from_secs(2), "the guest to be online", || guest.online().then_some(()));
    assert_eq!(reach(stranger), 0);
    let sessions: u32 =
        gateway.database(|db| db.query_row("SELECT count(*) FROM session", [], |row| row.get(0)));
    assert_eq!(sessions, 1, "it is the session from before");
    stranger.log_in(gateway);
    assert!(stranger.online());
}

/// A table from before, one of another configuration, and none, as after a reboot.
pub(crate) fn each_table(lab: &Lab, gateway: &Gateway, each: impl Fn(&str)) {
    each("the same");
    gateway.configure(&changed());
    each("another");
    lab.router.exec(&["nft", "delete", "table", "inet", "maitred"]).ok();
    each("none");
}

#[test]
fn while_a_port_is_taken_those_who_were_online_stay_so() {
    let (lab, gateway) = store();
    let ports = [("0.0.0.0:2051", "2051"), ("0.0.0.0:2050", "2050"), ("10.78.0.1:8080", "8080")];
    for (address, port) in ports {
        gateway.configure(&Settings::new());
        let taken = lab.router.within(|| TcpListener::bind(address).unwrap());
        each_table(&lab, &gateway, |table| {
            assert_eq!(refused(&lab, &gateway, port), [2, 0], "{port}, table: {table}");
        });
        drop(taken);
    }
    mended(&lab, &gateway);
}

#[test]
fn a_record_that_cannot_be_read_costs_no_session() {
    let (lab, gateway) = store();
    let record = lab.folder().join("state/maitred.db");
    let version = |number: i64| {
        let db = rusqlite::Connection::open(&record).unwrap();
        let before = db.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        db.pragma_update(None, "user_version", number).unwrap();
        before
    };
    let ours: i64 = version(99);
    each_table(&lab, &gateway, |table| {
        // Who is in a table that has to make way is in the record alone.
        let stay = if table == "the same" { 2 } else { 0 };
        let through = refused(&lab, &gateway, "the database has version 99");
        assert_eq!(through, [stay, 0], "table: {table}");
    });
    version(ours);
    mended(&lab, &gateway);
}

#[test]
fn a_start_that_is_killed_costs_no_session() {
    let (lab, gateway) = store();
    for table in ["another", "none"] {
        gateway.configure(&changed());
        if table == "none" {
            lab.router.exec(&["nft", "delete", "table", "inet", "maitred"]).ok();
        }
        gateway.kill_without_record(|| {
            until(Duration::from_secs(5), "a new table", || {
                let walled = lab.router.exec(&["nft", "list", "set", "inet", "maitred", "closed"]);
                walled.success.then_some(())
            });
        });
        assert_eq!([reach(&lab.guests[0]), reach(&lab.guests[1])], [0, 0], "{table}");
    }
    mended(&lab, &gateway);
}

#[test]
fn keys_and_folders_that_are_not_to_be_had_leave_the_wall_standing() {
    let (lab, gateway) = store();
    let keys = lab.folder().join("state/keys.toml");
    let good = fs::read(&keys).unwrap();
    fs::write(&keys, "nonsense").unwrap();
    each_table(&lab, &gateway, |table| {
        let stay = if table == "the same" { 2 } else { 0 };
        assert_eq!(refused(&lab, &gateway, "keys.toml"), [stay, 0], "table: {table}");
    });
    fs::write(&keys, good).unwrap();
    mended(&lab, &gateway);
}

#[test]
fn a_configuration_that_is_wrong_changes_nothing() {
    let (lab, gateway) = store();
    for (settings, why) in [
        (Settings::new().with("[nonsense]", "a = 1"), "nonsense"),
        (Settings::new().with("[firewall]", "mark_mask = \"lots\""), "expected a whole number"),
    ] {
        gateway.configure(&settings);
        assert_eq!(refused(&lab, &gateway, why), [2, 0], "{why}");
    }
    gateway.configure(&changed());
    mended(&lab, &gateway);
}

#[test]
fn no_start_that_fails_opens_the_network_after_a_reboot() {
    let (lab, gateway) = store();
    let user = Settings::new().with("[store]", "clock = \"always\"\nuser = \"no-such-user\"");
    let cut = "name = \"guest\"\ninterface = \"br-guest\"\nnonsense = [";
    for (settings, why) in [
        (Settings::new().with("[nonsense]", "a = 1"), "nonsense"),
        (Settings::new().with("[[zone]]", cut), "maitred.toml:"),
        (user, "there is no user"),
    ] {
        lab.router.exec(&["nft", "delete", "table", "inet", "maitred"]).ok();
        gateway.configure(&settings);
        assert_eq!(refused(&lab, &gateway, why), [0, 0], "{why}");
    }
    // The init script's way, which never comes to a start.
    lab.router.exec(&["nft", "delete", "table", "inet", "maitred"]).ok();
    gateway.configure(&Settings::new().with("[nonsense]", "a = 1"));
    assert!(!gateway.command(&["check", "--wall"]).success);
    assert_eq!([reach(&lab.guests[0]), reach(&lab.guests[1])], [0, 0]);
    // A folder that others can write to, in the way of the lock.
    lab.router.exec(&["nft", "delete", "table", "inet", "maitred"]).ok();
    gateway.configure(&Settings::new());
    let folder = lab.folder().join("run");
    let mode = |mode| fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o777);
    assert_eq!(refused(&lab, &gateway, "others can write to it"), [0, 0]);
    mode(0o700);
    mended(&lab, &gateway);
}

#[test]
fn of_two_daemons_one_is_refused_and_changes_nothing() {
    let (lab, gateway) = store();
    gateway.run();
    gateway.configure(&changed());
    assert_eq!(refused(&lab, &gateway, "already running as process"), [2, 0]);
    // With folders of its own it is found by the table.
    let other = lab.folder().join("other.toml");
    let text = fs::read_to_string(lab.folder().join("maitred.toml")).unwrap();
    fs::write(&other, text.replace("/run\"", "/run2\"").replace("/state\"", "/state2\"")).unwrap();
    let run = [MAITRED, "run", "--config"];
    let second = lab.router.exec(&[&run[..], &[other.to_str().unwrap()]].concat());
    assert!(format!("{second:?}").contains("belongs to another process"), "{second:?}");
    assert_eq!([reach(&lab.guests[0]), reach(&lab.guests[1])], [2, 0]);
    gateway.kill9();

    // Both at once.
    gateway.configure(&Settings::new());
    let ours = lab.folder().join("maitred.toml");
    for round in 0..5 {
        let start = |log: &str| {
            let log = lab.folder().join(format!("{log}-{round}.log"));
            lab.router.spawn(&[&run[..], &[ours.to_str().unwrap()]].concat(), &log)
        };
        let mut both = [start("one"), start("two")];
        until(Duration::from_secs(5), "one of them to answer", || {
            gateway.command(&["status"]).success.then_some(())
        });
        let refused = until(Duration::from_secs(5), "the other to end", || {
            both.iter_mut().position(|one| one.ended().is_some())
        });
        assert!(both[refused].output().contains("already running"), "{}", both[refused].output());
        assert!(both[1 - refused].ended().is_none() && lab.guests[0].online());
        both[1 - refused].signal(Signal::SIGTERM);
        assert_eq!(both[1 - refused].wait(Duration::from_secs(5)), Some(0));
    }
    mended(&lab, &gateway);
}

/// A file system of its own for the record, with so much room.
struct Disk(PathBuf);

impl Disk {
    fn new(folder: PathBuf, size: &str) -> Self {
        fs::create_dir_all(&folder).unwrap();
        let size = format!("size={size},mode=0700");
        run(&["mount", "-t", "tmpfs", "-o", &size, "tmpfs", folder.to_str().unwrap()], 5).ok();
        Self(folder)
    }

    fn fill(&self) {
        let mut file = fs::File::create(self.0.join("filler")).unwrap();
        while file.write_all(&[0; 512]).is_ok() {}
    }

    fn clear(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run(&["umount", "-l", self.0.to_str().unwrap()], 5);
    }
}

#[test]
fn a_full_disk_keeps_nobody_out_who_was_let_in() {
    let mut lab = Lab::new(2);
    let disk = Disk::new(lab.folder().join("state"), "2m");
    let gateway = lab.maitred(&Settings::new());
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    let [guest, stranger] = &lab.guests[..] else { unreachable!() };
    guest.log_in(&gateway);
    disk.fill();
    gateway.kill9();
    each_table(&lab, &gateway, |table| {
        gateway.run();
        let back = Duration::from_secs(2);
        until(back, "the guest to be online", || guest.online().then_some(()));
        assert_eq!([reach(guest), reach(stranger)], [2, 0], "table: {table}");
        assert!(gateway.log().contains("the disk does not take the record"));
        assert!(!gateway.command(&["grant", &stranger.mac]).success, "it could not be recorded");
        gateway.kill9();
    });
    gateway.run();
    disk.clear();
    // It is tried again after a minute at the latest.
    until(Duration::from_secs(90), "the stranger to be let in", || {
        gateway.command(&["grant", &stranger.mac]).success.then_some(())
    });
    gateway.kill9();
    gateway.run();
    assert!(guest.online() && stranger.online());
    let sessions: u32 =
        gateway.database(|db| db.query_row("SELECT count(*) FROM session", [], |row| row.get(0)));
    assert_eq!(sessions, 2);
    // After a stop even reading takes room.
    gateway.term();
    disk.fill();
    let refused = gateway.command(&["run"]);
    assert!(format!("{refused:?}").contains("database files: no storage space"), "{refused:?}");
    assert!(guest.online() && stranger.online());
}

#[test]
fn a_certificate_that_is_missing_keeps_nobody_out() {
    let (lab, gateway) = store();
    let folder = lab.folder().display();
    let portal = format!(
        "name = \"wifi.example.com\"\ncertificate = \"{folder}/portal.pem\"\n\
         key = \"{folder}/portal.key\""
    );
    gateway.configure(&Settings::new().with("[portal]", &portal));
    gateway.run();
    let [guest, stranger] = &lab.guests[..] else { unreachable!() };
    assert!(guest.online() && reach(stranger) == 0);
    assert!(stranger.get(&format!("http://{ROUTER_V4}:2050/")).has_form("/phone"));
    let said = gateway.json(&["status"])["certificate"].as_str().unwrap().to_owned();
    assert!(said.contains("portal.pem"), "{said}");
}
