//! What a stranger sends past the gateway at bad moments: nothing. The whole suite of
//! [`crate::leaks`], over IPv4 and IPv6, while something happens to the daemon or its table.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::lab::{BRIDGES, Dhcp, Lab, Settings, WEB_V4, WEB_V6, until};
use crate::leaks::{ZONE, probe};

/// One stranger pings without a pause, the other runs all probes, while `happens` goes on, round
/// after round; it is given the round. How many rounds there were.
fn nothing_leaks_while(mut happens: impl FnMut(&Lab, u32)) -> u32 {
    let mut lab = Lab::new(2);
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    drop(lab.maitred(&Settings::new()));
    let tap = lab.tap_uplink();
    let log = lab.folder().join("stranger");
    let _pings = [WEB_V4, WEB_V6].map(|web| {
        let args = ["ping", "-n", "-i", "0.002", "-W", "1", web];
        lab.guests[0].netns.spawn(&args, &log)
    });
    let done = AtomicBool::new(false);
    let mut rounds = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            probe(&lab.guests[1]);
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) {
            happens(&lab, rounds);
            rounds += 1;
        }
    });
    assert_eq!(tap.packets(), Vec::<String>::new());
    assert_eq!(lab.internet.received(), 0);
    rounds
}

#[test]
fn while_the_daemon_starts_and_stops() {
    let rounds = nothing_leaks_while(|lab, round| {
        let on_stop = ["keep", "closed"][round as usize % 2];
        let settings = Settings::new().with("[firewall]", &format!("on_stop = \"{on_stop}\""));
        let gateway = lab.maitred(&settings);
        gateway.term();
        gateway.run();
        gateway.kill9();
    });
    assert!(rounds > 5, "{rounds} rounds");
}

#[test]
fn while_the_table_is_replaced_by_another() {
    let rounds = nothing_leaks_while(|lab, round| {
        let zone = format!("{ZONE}\nusers_to_router = [\"tcp/{}\"]", 9100 + round % 100);
        lab.maitred(&Settings::new().with("[[zone]]", &zone)).term();
    });
    assert!(rounds > 5, "{rounds} rounds");
}

#[test]
fn while_others_flush_all_tables() {
    let mut gateway = None;
    let rounds = nothing_leaks_while(|lab, _| {
        let gateway = gateway.get_or_insert_with(|| lab.maitred(&Settings::new()));
        for command in ["flush ruleset", "delete table inet maitred", "flush table inet maitred"] {
            lab.router.exec(&["nft", command]);
        }
        gateway.command(&["status"]).ok();
    });
    assert!(rounds > 20, "{rounds} rounds");
}

/// At a boot the daemon starts before the network: the table waits for the interface.
#[test]
fn before_the_interface_is_there() {
    let mut lab = Lab::new(1);
    lab.router.ip("link del br-guest");
    let _gateway = lab.maitred(&Settings::new());
    let tap = lab.tap_uplink();
    let log = lab.folder().join("stranger");
    lab.guests[0].netns.ip("link set eth0 up
         addr add 10.77.1.99/16 dev eth0
         addr add 2001:db8:77::99/64 dev eth0 nodad
         route add default via 10.77.0.1
         route add default via 2001:db8:77::1");
    let _pings = [WEB_V4, WEB_V6].map(|web| {
        let args = ["ping", "-n", "-i", "0.002", "-W", "1", web];
        lab.guests[0].netns.spawn(&args, &log)
    });
    BRIDGES[0].build(&lab.router);
    lab.router.ip("link set guest1 master br-guest up");
    lab.guests[0].join(Dhcp::Udhcpc);
    until(Duration::from_secs(5), "the pings to have a way", || {
        (lab.guests[0].ping(crate::lab::ROUTER_V4, 1) == 1).then_some(())
    });
    assert_eq!(tap.packets(), Vec::<String>::new());
}

#[test]
fn while_a_guest_beside_is_online() {
    let mut lab = Lab::new(2);
    let gateway = lab.maitred(&Settings::new());
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    lab.guests[0].log_in(&gateway);
    let tap = lab.tap_uplink();
    probe(&lab.guests[1]);
    assert_eq!(tap.packets(), Vec::<String>::new());
    assert!(lab.guests[0].online());
}

#[test]
fn a_guest_online_sends_nothing_in_another_networks_name() {
    let mut lab = Lab::new(1);
    let gateway = lab.maitred(&Settings::new());
    lab.guests[0].join(Dhcp::Udhcpc);
    lab.guests[0].log_in(&gateway);
    let tap = lab.tap_uplink();
    probe(&lab.guests[0]);
    let packets = tap.packets();
    let own = |line: &&String| {
        // tcpdump names no address of a packet that is cut short.
        let sources = ["IP 198.51.100.2", "IP6 2001:db8:77:", " [|"];
        sources.iter().any(|own| line.contains(own))
    };
    assert!(packets.iter().filter(own).count() > 400, "{packets:#?}");
    let forged: Vec<_> = packets.iter().filter(|line| !own(line)).collect();
    assert_eq!(forged, Vec::<&String>::new());
    assert!(lab.internet.received() > 0);
}
