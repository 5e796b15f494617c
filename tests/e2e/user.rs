//! `store.user`: started as root, the daemon goes on as somebody else with three capabilities.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

use crate::captive_api;
use crate::lab::{Dhcp, Ears, Lab, Settings, WEB_V4, WEB_V6, until};

/// Every system has this one.
const USER: &str = "nobody";

fn settings(more: &str) -> Settings {
    let store = format!("clock = \"always\"\nuser = \"{USER}\"");
    Settings::new()
        .with("[store]", &store)
        .with("[[zone]]", &format!("name = \"guest\"\ninterface = \"br-guest\"\n{more}"))
}

/// A line of `/proc/PID/status`.
fn status(pid: u32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    line.unwrap().trim().to_owned()
}

#[test]
fn the_daemon_serves_as_an_ordinary_user() {
    let user = nix::unistd::User::from_name(USER).unwrap().unwrap();
    let mut lab = Lab::new(2);
    // An earlier run, as root, has left its files.
    drop(lab.maitred(&Settings::new()));
    let gateway = lab.maitred(&settings("isolate = true"));
    let uid = user.uid.to_string();
    assert_eq!(status(gateway.pid(), "Uid").split_whitespace().collect::<Vec<_>>(), [&uid; 4]);
    assert_eq!(status(gateway.pid(), "Groups"), "");
    let kept = "0000000000003400"; // net_admin, net_raw, net_bind_service
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        assert_eq!(status(gateway.pid(), set), kept, "{set}");
    }
    assert_eq!(status(gateway.pid(), "NoNewPrivs"), "1");
    // What needs root is done before it is dropped.
    let demux = lab.router.exec(&["sysctl", "-n", "net.ipv4.ip_early_demux"]).ok();
    assert_eq!(demux.trim(), "0");
    for thread in fs::read_dir(format!("/proc/{}/task", gateway.pid())).unwrap().flatten() {
        let status = fs::read_to_string(thread.path().join("status")).unwrap();
        assert!(status.contains(&format!("CapEff:\t{kept}")), "{status}");
    }

    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    let [guest, stranger] = &lab.guests[..] else { unreachable!() };
    guest.log_in(&gateway);
    assert!(guest.online() && guest.ping(WEB_V6, 1) == 1 && !stranger.online());
    let ports = lab.router.exec(&["bridge", "-d", "link", "show"]).ok();
    assert_eq!(ports.matches("isolated on").count(), 2, "{ports}");

    for folder in ["state", "run", "spool"] {
        let folder = lab.folder().join(folder);
        let owned = |path: &std::path::Path| {
            let found = fs::symlink_metadata(path).unwrap();
            assert_eq!(found.uid(), user.uid.as_raw(), "{}", path.display());
            found.permissions().mode() & 0o777
        };
        owned(&folder);
        for file in fs::read_dir(&folder).unwrap().flatten() {
            let mode = owned(&file.path());
            let others = if folder.ends_with("state") { 0o077 } else { 0o007 };
            assert_eq!(mode & others, 0, "{}: {mode:o}", file.path().display());
        }
    }

    // A reload reads the file anew; a restart adopts the table; root's command line may ask.
    gateway.configure(&settings("isolate = true\nsession_timeout = \"5m\""));
    gateway.command(&["reload"]).ok();
    stranger.log_in(&gateway);
    let rows = gateway.json(&["clients"]);
    let mine = |row: &&serde_json::Value| row["mac"] == stranger.mac.as_str();
    let left = rows.as_array().unwrap().iter().find(mine).unwrap()["seconds_left"].as_u64();
    assert!(left.unwrap() <= 300);
    let flood = guest.ping_flood(WEB_V6, 150);
    gateway.kill9();
    gateway.run();
    assert_eq!(flood.lost(), 0);
    gateway.term();
    gateway.run();
    assert!(guest.online() && stranger.online());
    gateway.json(&["stats"]);
}

#[test]
fn the_modems_program_has_no_capabilities() {
    let mut lab = Lab::new(1);
    let [program, told] = ["sms_tool", "told"].map(|name| lab.folder().join(name));
    let script = format!("#!/bin/sh\ncp /proc/self/status {}\necho sms sent\n", told.display());
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let modem = format!("provider = \"modem\"\ntool = \"sms_tool\"\nprogram = {program:?}");
    let gateway = lab.maitred(&Settings::new().with("[sms]", &modem));
    lab.guests[0].join(Dhcp::Udhcpc);
    lab.guests[0].ask_code(&gateway, &format!("http://{WEB_V4}/"));
    let status = until(Duration::from_secs(5), "the program to run", || {
        fs::read_to_string(&told).ok().filter(|text| text.contains("CapAmb:"))
    });
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert!(status.contains(&format!("{set}:\t0000000000000000")), "{status}");
    }
}

#[test]
fn it_announces_the_api_in_dnsmasqs_folder() {
    let user = nix::unistd::User::from_name(USER).unwrap().unwrap();
    let mut lab = captive_api::lab(1);
    let authority = captive_api::Authority::new(&lab);
    let store = format!("clock = \"always\"\nuser = \"{USER}\"");
    let _gateway = lab.maitred(&authority.settings(&lab).with("[store]", &store));
    let file = lab.options_dir().join("maitred");
    until(Duration::from_secs(5), "the announcement", || file.exists().then_some(()));
    assert_eq!(fs::metadata(&file).unwrap().uid(), user.uid.as_raw());
    let mode = fs::metadata(lab.options_dir()).unwrap().permissions().mode();
    assert_eq!(mode & 0o055, 0o055, "dnsmasq is another user: {mode:o}");
    let ears = Ears::open(&lab.guests[0].netns);
    lab.guests[0].join(Dhcp::Udhcpc);
    // Advertisements take both of the capabilities that are left for the network.
    until(Duration::from_secs(8), "the guest to be told", || ears.told().pop());
    let roots = lab.folder().join("roots.pem");
    let args = ["--cacert", roots.to_str().unwrap()];
    let reply = lab.guests[0].curl(&format!("{}/api", captive_api::ORIGIN), &args).unwrap();
    assert!(reply.status < 400, "{reply:#?}");
}
