//! The configuration and the limits of sessions change under the running daemon.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::lab::{Dhcp, Gateway, Guest, Internet, Lab, Settings, WEB_V4, WEB_V6, until};

const ZONE: &str = "name = \"guest\"\ninterface = \"br-guest\"\n";

fn settings(zone: &str, blocked: &str) -> Settings {
    Settings::new()
        .with("[[zone]]", &format!("{ZONE}{zone}"))
        .with("[lists]", &format!("blocked_macs = [{blocked}]"))
}

fn row(gateway: &Gateway, guest: &Guest) -> serde_json::Value {
    let rows = gateway.json(&["clients"]);
    let mine = |row: &&serde_json::Value| row["mac"] == guest.mac.as_str();
    rows.as_array().unwrap().iter().find(mine).expect("a known device").clone()
}

#[test]
fn a_reload_keeps_every_session_and_applies_what_it_can() {
    let mut lab = Lab::new(3);
    let gateway = lab.maitred(&settings("", ""));
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    let [kept, blocked, new] = &lab.guests[..] else { unreachable!() };
    kept.log_in(&gateway);
    blocked.log_in(&gateway);
    let flood = kept.ping_flood(WEB_V6, 300);
    let zone = "session_timeout = \"5m\"\nroam = true";
    gateway.configure(&settings(zone, &format!("\"{}\"", blocked.mac)));
    let said = gateway.command(&["reload"]).ok();
    assert!(said.contains("restart: zone guest"), "{said}");
    assert!(kept.online() && !blocked.online());
    new.log_in(&gateway);
    let left = |guest| row(&gateway, guest)["seconds_left"].as_u64().unwrap();
    assert!(left(kept) > 14_000 && left(new) <= 300);
    assert_eq!(flood.lost(), 0);
}

#[test]
fn a_hangup_reloads_and_a_bad_file_changes_nothing() {
    let mut lab = Lab::new(1);
    let gateway = lab.maitred(&settings("", ""));
    let guest = &mut lab.guests[0];
    guest.join(Dhcp::Udhcpc);
    guest.log_in(&gateway);
    gateway.configure(&settings("session_timout = \"5m\"", &format!("\"{}\"", guest.mac)));
    let refused = gateway.command(&["reload"]);
    assert!(!refused.success && refused.stderr.contains("session_timout"), "{refused:?}");
    gateway.signal(Signal::SIGHUP);
    let within = Duration::from_secs(5);
    until(within, "the error in the log", || {
        gateway.log().contains("the old one stays").then_some(())
    });
    assert!(guest.online());
    gateway.configure(&settings("", &format!("\"{}\"", guest.mac)));
    gateway.signal(Signal::SIGHUP);
    until(within, "the guest to be blocked", || (!guest.online()).then_some(()));
    gateway.command(&["status"]).ok();
}

#[test]
fn limits_of_one_session_change_at_once() {
    let mut lab = Lab::new(1);
    let gateway = lab.maitred(&settings("quota = \"10kB\"", ""));
    let guest = &mut lab.guests[0];
    guest.join(Dhcp::Udhcpc);
    let echoed = || {
        let socket = guest.udp(WEB_V4, Internet::ECHO);
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let sent = (0..20)
            .filter(|_| socket.send(&[7; 1000]).is_ok() && socket.recv(&mut [0; 1500]).is_ok());
        sent.count()
    };
    gateway.command(&["grant", &guest.mac, "--for", "1h", "--quota", "60kB"]).ok();
    assert_eq!(echoed(), 20, "40 kB, more than the zone's quota");
    gateway.command(&["limit", &guest.mac, "--quota", "none"]).ok();
    assert_eq!(echoed(), 20);
    // What is used stays used.
    gateway.command(&["limit", &guest.mac, "--quota", "70kB"]).ok();
    assert_eq!(echoed(), 0);
    // A quota that is reached is the session's end.
    let limit = ["limit", &guest.mac, "--quota", "1GB", "--download-rate", "2kB"];
    until(Duration::from_secs(5), "the end", || (!gateway.command(&limit).success).then_some(()));
    gateway.command(&["grant", &guest.mac, "--for", "1h"]).ok();
    gateway.command(&limit).ok();
    assert!((1..15).contains(&echoed()), "two kilobytes a second");
    assert!(!gateway.command(&["limit", &guest.mac]).success, "no limit named");
    assert!(!gateway.command(&["limit", "02:00:00:00:00:99", "--quota", "1GB"]).success);

    // A start on an empty kernel knows them too.
    gateway.term();
    lab.router.exec(&["nft", "delete", "table", "inet", "maitred"]);
    gateway.run();
    let guest = &lab.guests[0];
    until(Duration::from_secs(2), "the guest to be back", || {
        (guest.ping(WEB_V6, 1) == 1).then_some(())
    });
    let limits: String = gateway.database(|db| {
        db.query_row("SELECT limits FROM session ORDER BY rowid DESC", [], |row| row.get(0))
    });
    assert!(limits.contains("\"quota\":1000000000") && limits.contains("\"download_rate\":2000"));
}
