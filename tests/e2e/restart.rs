//! The daemon goes and comes; guests do not notice.

use maitred::clock;

use crate::lab::{Dhcp, Gateway, Guest, Internet, Lab, Settings, WEB_V4, WEB_V6, echoes, until};

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
fn strangers_are_redirected_while_the_record_is_read() {
    let mut lab = Lab::new(2);
    let gateway = lab.maitred(&Settings::new());
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    let [guest, stranger] = &lab.guests[..] else { unreachable!() };
    guest.log_in(&gateway);
    gateway.term();
    gateway.run_without_record(|| {
        let soon = std::time::Duration::from_secs(3);
        let url = format!("http://{WEB_V4}/");
        let redirect = until(soon, "a redirect", || stranger.try_get(&url).ok());
        assert_eq!(redirect.status, 302, "{redirect:#?}");
        assert!(!gateway.command(&["status"]).success, "the record is not read");
        assert!(guest.online(), "a guest is not redirected");
    });
    stranger.log_in(&gateway);
    assert!(guest.online() && stranger.online());
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
    for guest in guests {
        guest.log_in(&gateway);
    }
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
    assert!(online == Some(3) && lab.guests.iter().all(crate::lab::Guest::online), "{online:?}");
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

/// What a power cut leaves behind: the record, and nothing in the kernel. A router without a clock
/// battery then wakes in the past, and believes its clock only once NTP has set it.
#[test]
fn after_a_power_cut_sessions_go_on_with_the_time_that_was_left() {
    let mut lab = Lab::new(2);
    let settings = Settings::new().with("[store]", "clock = \"ntp\"");
    let gateway = lab.maitred(&settings);
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    let [guest, stranger] = &lab.guests[..] else { unreachable!() };
    gateway.command(&["grant", &guest.mac, "--for", "90s", "--quota", "1GB"]).ok();
    assert!(guest.online());
    let granted = row(&gateway, guest)["seconds_left"].as_u64().unwrap();
    std::thread::sleep(std::time::Duration::from_secs(3));
    gateway.kill9();
    lab.router.exec(&["nft", "delete", "table", "inet", "maitred"]);
    std::thread::sleep(std::time::Duration::from_secs(2));
    gateway.reboot();
    let back = std::time::Duration::from_secs(2);
    until(back, "the guest to be online again", || guest.online().then_some(()));
    assert!(!stranger.online() && stranger.ping(WEB_V6, 1) == 0);
    let trusted = gateway.json(&["status"])["clock_trusted"].as_bool().unwrap();
    let left = row(&gateway, guest)["seconds_left"].as_u64().unwrap();
    // Nobody can tell how long it was dark: nothing is taken from the guest for that, and nothing
    // given. With a clock of which both boots were sure, the time goes on.
    let wanted = if trusted { 78..=86 } else { 80..=granted };
    assert!(wanted.contains(&left), "{left} of {granted} s, clock trusted: {trusted}");
    let boots: u32 =
        gateway.database(|db| db.query_row("SELECT count(*) FROM boot", [], |row| row.get(0)));
    assert_eq!(boots, 2);
    let limits: String =
        gateway.database(|db| db.query_row("SELECT limits FROM session", [], |row| row.get(0)));
    assert!(limits.contains("1000000000"), "{limits}");
    stranger.log_in(&gateway);
    assert!(stranger.online());
}

fn row(gateway: &Gateway, guest: &Guest) -> serde_json::Value {
    let rows = gateway.json(&["clients"]);
    let mine = |row: &&serde_json::Value| row["mac"] == guest.mac.as_str();
    rows.as_array().unwrap().iter().find(mine).expect("a known device").clone()
}

#[test]
fn a_restart_gives_nobody_new_guesses_passes_or_extensions() {
    let mut lab = Lab::new(2);
    let zone = "name = \"guest\"\ninterface = \"br-guest\"\nextend = 1";
    let follow = "keys = [\"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\"]\naccount = \"Lab\"";
    let pass = "garden = [\"203.0.113.92\"]\nlength = \"1s\"\nper_device_day = 1";
    let settings = Settings::new()
        .with("[[zone]]", zone)
        .with("[voucher]", "enabled = true")
        .with("[follow]", follow)
        .with("[pass]", pass);
    let gateway = lab.maitred(&settings);
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    let [guesser, guest] = &lab.guests[..] else { unreachable!() };
    let portal = "http://10.77.0.1:2050";
    let try_voucher = |code: &str| {
        guesser.post(&format!("{portal}/voucher?lang=en"), &[("code", code), ("terms", "yes")]).body
    };
    let made = gateway.command(&["voucher", "new", "--count", "1", "--minutes", "30"]).ok();
    let code = made.split_whitespace().nth(1).unwrap();
    (0..10).for_each(|guess| drop(try_voucher(&format!("0000-0000-000{guess}"))));
    let closed = try_voucher(code);
    let follow = || {
        guesser.follow(guesser.post(&format!("{portal}/follow?lang=en"), &[("terms", "yes")])).body
    };
    assert!(follow().contains("WeChat works"));
    guest.log_in(&gateway);
    let page = || guest.get_in("en", &format!("{portal}/"));
    let longer = guest.submit(&page(), "/extend", &[]);
    assert!(!longer.has_form("/extend"), "{longer:#?}");
    // What a kill may take is the last group: 200 ms here.
    std::thread::sleep(std::time::Duration::from_millis(1200));
    let ends: [&dyn Fn(); 2] = [&|| gateway.run(), &|| gateway.reboot()];
    for start in ends {
        gateway.kill9();
        start();
        assert_eq!(try_voucher(code), closed);
        assert!(!guesser.online());
        assert!(follow().contains("No more passes for today"));
        guesser.post(&format!("{portal}/change"), &[]);
        assert!(guest.online() && !page().has_form("/extend"), "{:#?}", page());
    }
}

#[test]
fn a_restart_gives_nobody_a_new_allowance_of_messages() {
    let mut lab = Lab::new(2);
    let code = "resend_after = \"10ms\"\nper_number_hour = 3\nper_device_day = 3";
    let gateway = lab.maitred(&Settings::new().with("[code]", code));
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    let [guest, other] = &lab.guests[..] else { unreachable!() };
    let asks = |guest: &Guest, phone: &str| {
        gateway.secret(phone);
        let portal = guest.follow(guest.get("http://example.com/"));
        let portal =
            if portal.has_form("/code") { guest.submit(&portal, "/change", &[]) } else { portal };
        guest.submit(&portal, "/phone", &[("phone", phone), ("terms", "yes")])
    };
    for end in [Gateway::kill9, Gateway::term, Gateway::kill9] {
        let page = asks(guest, &guest.phone);
        assert!(page.has_form("/code"), "{page:#?}");
        gateway.code_for(&guest.phone);
        // Longer than a group of records waits.
        std::thread::sleep(std::time::Duration::from_millis(400));
        end(&gateway);
        gateway.run();
    }
    // The number and the device have had theirs; so it stays after a reboot.
    for reboot in [false, true] {
        if reboot {
            gateway.kill9();
            gateway.reboot();
        }
        for (guest, phone) in [(other, &guest.phone), (guest, &other.phone)] {
            let page = asks(guest, phone);
            assert!(!page.has_form("/code"), "{page:#?}");
        }
        assert!(gateway.next_message(&guest.phone).is_none());
    }
    other.log_in(&gateway);
    assert!(other.online());
}

#[test]
fn a_check_that_hears_nothing_holds_up_no_stop() {
    let lab = Lab::new(0);
    let dead = "203.0.113.253";
    let rules = format!(
        "table ip dead {{ chain in {{ type filter hook prerouting priority raw ; \
         ip daddr {dead} drop ; }} ; }}"
    );
    let loaded = lab.internet.netns.exec(&["nft", &rules]);
    assert!(loaded.success, "{loaded:?}");
    std::fs::write(lab.router.resolv_conf(), format!("nameserver {dead}\n")).unwrap();
    let gateway = lab.maitred(&Settings::new().with("[uplink]", "check = true"));
    let asks = ["ss", "-Huna", "dst", dead];
    until(std::time::Duration::from_secs(20), "a check to begin", || {
        (!lab.router.exec(&asks).stdout.is_empty()).then_some(())
    });
    let began = clock::boot();
    gateway.term();
    let took = clock::boot() - began;
    assert!(took < std::time::Duration::from_secs(2), "{took:?}");
}

/// Half of a million visits is past its term; the daemon knows the time from the run before.
#[test]
fn a_long_record_holds_up_neither_a_start_nor_a_login() {
    let mut lab = Lab::new(2);
    let gateway = lab.maitred(&Settings::new());
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    let [guest, stranger] = &lab.guests[..] else { unreachable!() };
    guest.log_in(&gateway);
    gateway.term();
    let record = rusqlite::Connection::open(lab.folder().join("state/maitred.db")).unwrap();
    record
        .execute_batch(
            "WITH RECURSIVE n (i) AS (SELECT 1000 UNION ALL SELECT i + 1 FROM n WHERE i < 1001000)
             INSERT INTO visit (id, zone, mac, boot, started_ms, started, dwell, device_nth)
             SELECT i, 'guest', randomblob(6), 1, i,
                 unixepoch() * 1000 - 366 * 86400000 + (i - 501000) * 60000, 1000, 1
             FROM n;
             DELETE FROM meta WHERE name = 'terms_kept';",
        )
        .unwrap();
    let old = || -> u32 {
        let sql = "SELECT count(*) FROM visit WHERE id BETWEEN 1000 AND 500000";
        record.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(old(), 499_001);
    let began = clock::boot();
    gateway.run();
    let page = stranger.follow(stranger.get("http://example.com/"));
    println!("a stranger's page {:?} after the start", clock::boot() - began);
    assert!(page.has_form("/phone"), "{page:#?}");
    assert_eq!(old(), 499_001, "it has time");
    let soon = std::time::Duration::from_mins(1);
    until(soon, "the deletion to begin", || (old() < 499_001).then_some(()));
    stranger.log_in(&gateway);
    assert!(guest.online() && stranger.online());
    gateway.kill9();
    assert!(old() > 0, "it was under way meanwhile");
    gateway.run();
    until(soon, "the rest to go", || (old() == 0).then_some(()));
    let young = "SELECT count(*) FROM visit WHERE id > 502000";
    let young: u32 = record.query_row(young, [], |row| row.get(0)).unwrap();
    assert!((499_000..499_010).contains(&young), "{young}");
}
