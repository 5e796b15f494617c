//! The daemon goes and comes; guests do not notice.

use crate::lab::{Dhcp, Gateway, Internet, Lab, Settings, WEB_V4, WEB_V6, echoes, until};

fn no_packet_is_lost(end: impl Fn(&Gateway)) {
    let mut lab = Lab::new(2);
    let gateway = lab.maitred(&Settings::new());
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    let [guest, stranger] = &lab.guests[..] else { unreachable!() };
    guest.log_in(&gateway);
    let mut kept = guest.connect(WEB_V4, Internet::ECHO).0.unwrap();
    assert!(echoes(&mut kept).unwrap());

    let floods = [guest.ping_flood(WEB_V4, 300), guest.ping_flood(WEB_V6, 300)];
    std::thread::sleep(std::time::Duration::from_millis(500));
    end(&gateway);
    assert!(guest.online(), "online without the daemon");
    assert_eq!(stranger.ping(WEB_V4, 1), 0, "the wall stands without the daemon");
    gateway.run();
    for flood in floods {
        assert_eq!(flood.lost(), 0);
    }
    assert!(echoes(&mut kept).unwrap(), "a connection lives through it");
    assert!(guest.online() && !stranger.online());
    let clients = gateway.command(&["clients"]).ok().to_lowercase();
    assert!(clients.contains(&guest.mac), "{clients}");
    stranger.log_in(&gateway);
    assert!(stranger.online());
    gateway.command(&["revoke", &guest.mac]).ok();
    assert!(!guest.online(), "an adopted session ends like any other");
}

#[test]
fn sigterm_and_start_lose_no_packet() {
    no_packet_is_lost(Gateway::term);
}

#[test]
fn sigkill_and_start_lose_no_packet() {
    no_packet_is_lost(Gateway::kill9);
}

#[test]
fn sigkill_loses_nothing_that_a_guest_was_shown() {
    let mut lab = Lab::new(1);
    let gateway = lab.maitred(&Settings::new());
    let guest = &mut lab.guests[0];
    guest.join(Dhcp::Udhcpc);
    guest.log_in(&gateway);
    gateway.kill9();
    gateway.run();
    let sessions: u32 =
        gateway.database(|db| db.query_row("SELECT count(*) FROM session", [], |row| row.get(0)));
    assert_eq!(sessions, 1);
}

#[test]
fn after_a_reboot_sessions_come_from_the_record() {
    let mut lab = Lab::new(2);
    let gateway = lab.maitred(&Settings::new());
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    lab.guests[0].log_in(&gateway);
    gateway.command(&["grant", &lab.guests[0].mac, "--for", "90s"]).ok();
    gateway.command(&["stats"]).ok();
    gateway.kill9();
    std::thread::sleep(std::time::Duration::from_secs(2));
    lab.router.exec(&["nft", "delete", "table", "inet", "maitred"]);
    gateway.run();
    let back = std::time::Duration::from_secs(2);
    until(back, "the guest to be online again", || lab.guests[0].online().then_some(()));
    assert!(!lab.guests[1].online());
    let rows = gateway.json(&["clients"]);
    let left = rows.as_array().unwrap().iter().find_map(|row| row["seconds_left"].as_u64());
    assert!((60..=88).contains(&left.unwrap()), "the time goes on meanwhile: {left:?}");
}

#[test]
fn ten_kills_in_a_row_lose_nobody() {
    let mut lab = Lab::new(3);
    let gateway = lab.maitred(&Settings::new());
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    let (guests, late) = lab.guests.split_at(2);
    guests.iter().for_each(|guest| drop(guest.log_in(&gateway)));
    let floods = [guests[0].ping_flood(WEB_V4, 600), guests[1].ping_flood(WEB_V6, 600)];
    for round in 0..10 {
        if round == 5 {
            gateway.command(&["grant", &late[0].mac]).ok();
        }
        gateway.kill9();
        gateway.run();
    }
    for flood in floods {
        assert_eq!(flood.lost(), 0);
    }
    let online = gateway.json(&["status"])["online"].as_u64();
    assert!(online == Some(3) && lab.guests.iter().all(|guest| guest.online()), "{online:?}");
}

#[test]
fn a_stop_leaves_what_the_owner_wants() {
    for (on_stop, guest_online, stranger_online) in
        [("keep", true, false), ("open", true, true), ("closed", false, false)]
    {
        let mut lab = Lab::new(2);
        let stop = format!("on_stop = \"{on_stop}\"");
        let gateway = lab.maitred(&Settings::new().with("[firewall]", &stop));
        lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
        let [guest, stranger] = &lab.guests[..] else { unreachable!() };
        guest.log_in(&gateway);
        gateway.term();
        let echoes = |guest: &crate::lab::Guest| guest.ping(WEB_V4, 1) + guest.ping(WEB_V6, 1);
        assert_eq!(echoes(guest), 2 * u32::from(guest_online), "{on_stop}");
        assert_eq!(echoes(stranger), 2 * u32::from(stranger_online), "{on_stop}");
        gateway.run();
        let back = std::time::Duration::from_secs(2);
        until(back, "the guest to be online", || guest.online().then_some(()));
        assert_eq!(echoes(stranger), 0, "{on_stop}");
    }
}

#[test]
fn a_code_asked_before_a_restart_can_be_asked_again() {
    let mut lab = Lab::new(1);
    let gateway = lab.maitred(&Settings::new());
    let guest = &mut lab.guests[0];
    guest.join(Dhcp::Udhcpc);
    guest.ask_code(&gateway, "http://example.com/");
    gateway.code_for(&guest.phone);
    gateway.term();
    gateway.run();
    guest.log_in(&gateway);
    assert!(guest.online());
}
