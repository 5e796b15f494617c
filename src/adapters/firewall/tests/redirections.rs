//! Single flows that end, in a network namespace of the test's own.

use std::time::Duration;

use super::{grant, granted, own_namespace, plan, start};
use crate::config::OnStop;
use crate::domain::names::ZoneId;

/// Puts in conntrack a UDP flow on which a guest asked a resolver outside, and the forwarder at `ours`
/// was put in its place.
fn redirect_flow(guest: &str, port: u16, ours: &str) {
    let asked = if guest.contains(':') { "2001:db8:203::53" } else { "203.0.113.53" };
    let line = format!(
        "-I -p udp -s {guest} -d {asked} --sport {port} --dport 53 \
         -r {ours} -q {guest} --reply-port-src 2054 --reply-port-dst {port} -t 60"
    );
    let words = line.split_whitespace();
    let made = std::process::Command::new("conntrack").args(words).output();
    let made = made.expect("conntrack: install conntrack");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// The source ports of the flows that conntrack keeps, in order.
fn flows() -> Vec<u16> {
    let mut ports = Vec::new();
    for family in ["ipv4", "ipv6"] {
        let args = ["-L", "-f", family, "-p", "udp"];
        let listed = std::process::Command::new("conntrack").args(args).output().unwrap();
        let text = String::from_utf8(listed.stdout).unwrap();
        let port = |line: &str| {
            let from = line.split_whitespace().find_map(|word| word.strip_prefix("sport="));
            from.map(|port| port.parse::<u16>().unwrap())
        };
        ports.extend(text.lines().filter_map(port));
    }
    ports.sort_unstable();
    ports
}

#[test]
fn a_redirection_ends_alone_and_for_a_device_that_is_online_alone() {
    own_namespace();
    let (handle, _, mut outlet) = start(plan());
    granted(&handle, &mut outlet, 1);
    let ours = ["10.7.0.1", "2001:db8:7::1"];
    for (port, guest) in (4001..).zip(["10.7.0.9", "10.7.0.9", "10.7.0.10"]) {
        redirect_flow(guest, port, ours[0]);
    }
    for (port, guest) in (6001..).zip(["2001:db8:7::9", "2001:db8:7::9", "2001:db8:7::10"]) {
        redirect_flow(guest, port, ours[1]);
    }
    let redirections = handle.redirections();
    let end = |number, guest: &str, ours: &str| {
        let mac = grant(number).mac;
        redirections.end(ZoneId(0), mac, guest.parse().unwrap(), ours.parse().unwrap());
    };
    // Of a device that is not online; and what there is none of.
    end(2, "10.7.0.10:4003", ours[0]);
    end(1, "10.7.0.9:4009", ours[0]);
    end(1, "10.7.0.9:4001", "10.7.0.2");
    redirections.end(
        ZoneId(9),
        grant(1).mac,
        "10.7.0.9:4001".parse().unwrap(),
        [10, 7, 0, 1].into(),
    );
    end(1, "10.7.0.9:4002", ours[0]);
    end(1, "[2001:db8:7::9]:6002", ours[1]);
    let left = [4001, 4003, 6001, 6003];
    for _ in 0..2_000 {
        if flows().len() == left.len() {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(flows(), left);
    handle.stop(OnStop::Keep);
}
