//! Stories of what this kernel may lack: flow tables, VLAN filtering on bridges, netem. Told on
//! Debian's own kernel, older than the one that most stories are told on, in a virtual machine.

use std::fs;
use std::net::UdpSocket;
use std::thread;
use std::time::Duration;

use maitred::clock;

use crate::coexist::reload_fw4;
use crate::dns::{self, DNS, dig, name_server};
use crate::doctor::{found, only, use_own_dns};
use crate::lab::{Dhcp, Guest, Internet, Lab, Netns, Settings, WEB_V4, run};
use crate::refused::{each_table, refused};

/// All that is told there, in one boot.
const STORIES: [&str; 8] = [
    "machine::flow_offload_is_found_and_refused",
    "machine::lossy_and_slow_links_keep_nobody_out",
    "machine::the_kernels_tables_are_made_for_a_store",
    "restart::sigkill_and_start_lose_no_packet",
    "vlans::guests_of_one_vlan_are_isolated_and_its_neighbours_are_not",
    "vlans::guests_in_vlans_of_one_bridge_are_kept_apart",
    "vlans::one_address_in_two_vlans_that_roam_is_two_stations",
    "vlans::whoever_takes_an_address_within_a_vlan_is_noticed",
];

#[test]
fn stories_on_debians_kernel() {
    let boot = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/machine/boot.sh");
    let this = std::env::current_exe().unwrap();
    let this = this.to_str().unwrap();
    let how = ["--exact", "--include-ignored", "--test-threads=3", "--color=never"];
    let told = run(&[&[boot, this][..], &how, &STORIES].concat(), 300).ok();
    let all = format!("test result: ok. {} passed", STORIES.len());
    assert!(told.contains(&all), "{told}");
    println!("{told}");
}

/// As fw4 has it with `flow_offloading`.
const FLOW_TABLE: &str = "
    add flowtable inet fw4 ft { hook ingress priority 0; devices = { br-guest, wan }; }
    insert rule inet fw4 forward meta l4proto { tcp, udp } flow add @ft
";

#[test]
#[ignore = "stories_on_debians_kernel tells it"]
fn flow_offload_is_found_and_refused() {
    let mut lab = Lab::new(2);
    use_own_dns(&lab);
    let gateway = lab.maitred(&Settings::new());
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    let guest = &lab.guests[0];
    let grant = || gateway.command(&["grant", &guest.mac, "--quota", "200kB"]).ok();
    guest.log_in(&gateway);
    assert!(guest.online());
    assert_eq!(found(&gateway), [""; 0]);

    // It comes while the daemon runs, as at a router's start: maitred's is before fw4's.
    let file = lab.folder().join("offload.nft");
    fs::write(&file, FLOW_TABLE).unwrap();
    lab.router.exec(&["nft", "-f", file.to_str().unwrap()]).ok();
    only(&gateway, "flow offload is on (ft of table fw4)");
    assert_eq!(gateway.json(&["status"])["flow_offload"], "ft of table fw4");
    assert!(gateway.log().contains("limits of guests are not enforced"), "{}", gateway.log());

    // Why: a quota is passed by unseen, and a flow outlives its guest's session.
    grant();
    assert_eq!(echoed(guest), DATAGRAMS);
    assert!(lab.router.exec(&["conntrack", "-L", "-p", "udp"]).ok().contains("[OFFLOAD]"));
    grant();
    let flow = keep_on(guest);
    let revoked = clock::boot().0;
    gateway.command(&["revoke", &guest.mac]).ok();
    let last = flow.join().unwrap().saturating_sub(revoked);
    println!("a flow in a flow table outlived its session by {last} ms");
    assert!(last < 5000 && !guest.online(), "{last} ms");

    // Whatever table there was before, the start is refused, who is online stays so, and the wall
    // stands.
    grant();
    gateway.kill9();
    each_table(&lab, &gateway, |table| {
        let through = refused(&lab, &gateway, "flow offload is on (ft of table fw4)");
        assert_eq!(through, [2, 0], "table: {table}");
    });
    gateway.configure(&Settings::new().with("[firewall]", "allow_flow_offload = true"));
    gateway.run();
    let allowed = found(&gateway);
    assert!(allowed.len() == 1 && !allowed[0].contains("does not start"), "{allowed:?}");

    reload_fw4(&lab);
    assert_eq!(found(&gateway), [""; 0]);
    assert!(gateway.json(&["status"])["flow_offload"].is_null());
    grant();
    assert!(echoed(guest) < 100, "the quota ends it");
}

const DATAGRAMS: usize = 400;

/// How many datagrams of 1,000 bytes come back, up to the first that does not.
fn echoed(guest: &Guest) -> usize {
    let socket = guest.udp(WEB_V4, Internet::ECHO);
    (0..DATAGRAMS).take_while(|_| returns(&socket)).count()
}

fn returns(socket: &UdpSocket) -> bool {
    socket.send(&[7; 1000]).is_ok() && socket.recv(&mut [0; 1000]).is_ok()
}

/// Has datagrams echoed until one is not; when the last was.
fn keep_on(guest: &Guest) -> thread::JoinHandle<u64> {
    let socket = guest.udp(WEB_V4, Internet::ECHO);
    (0..5).for_each(|_| assert!(returns(&socket)));
    thread::spawn(move || {
        let mut last = 0;
        while returns(&socket) {
            last = clock::boot().0;
            thread::sleep(Duration::from_millis(10));
        }
        last
    })
}

#[test]
#[ignore = "stories_on_debians_kernel tells it"]
fn lossy_and_slow_links_keep_nobody_out() {
    let mut lab = Lab::new(1);
    let many: Vec<String> =
        (1..=60).map(|last| format!("--address=/many.garden.example/192.0.2.{last}")).collect();
    let _names = name_server(&lab, &many.iter().map(String::as_str).collect::<Vec<_>>());
    let gateway = lab.maitred(&dns::settings(dns::GARDEN));
    let guest = &mut lab.guests[0];
    let air = |guest: &Guest, link| {
        netem(&lab.router, "guest1", link);
        netem(&guest.netns, "eth0", link);
    };
    air(guest, "delay 100ms loss 3%");
    guest.join(Dhcp::Udhcpc);
    // glibc asks again after five seconds, phones after one.
    let resolver = guest.netns.resolv_conf();
    let servers = std::fs::read_to_string(&resolver).unwrap();
    std::fs::write(&resolver, format!("{servers}options timeout:1 attempts:4\n")).unwrap();
    let said = dig(&guest.netns, "+tries=3 +time=2 pay.garden.example A");
    assert_eq!(said.addresses(), [WEB_V4]);
    guest.log_in(&gateway);
    assert!(guest.online());
    gateway.command(&["revoke", &guest.mac]).ok();
    air(guest, "delay 0ms");

    // A line that is slow, and loses the forwarder's first question: it asks again by itself.
    let line = |link| {
        netem(&lab.router, "wan", link);
        netem(&lab.internet.netns, "eth0", link);
    };
    line("delay 100ms");
    let loses = format!(
        "table ip loses {{ chain first {{ type filter hook prerouting priority raw ; \
         ip daddr {DNS} limit rate 1/day burst 1 packets counter drop ; }} ; }}"
    );
    lab.internet.netns.exec(&["nft", &loses]).ok();
    let again = dig(&guest.netns, "again.garden.example A");
    assert_eq!(again.addresses(), [WEB_V4]);
    let lost = lab.internet.netns.exec(&["nft", "list", "table", "ip", "loses"]).ok();
    assert!(lost.contains("counter packets 1 "), "{lost}");
    line("delay 100ms loss 3%");
    let long = dig(&guest.netns, "+tries=3 many.garden.example A");
    assert_eq!((long.status.as_str(), long.answers.len()), ("NOERROR", 4), "{long:?}");
}

/// Some of them belong to the first network namespace alone, where no other story is told.
#[test]
#[ignore = "stories_on_debians_kernel tells it"]
fn the_kernels_tables_are_made_for_a_store() {
    maitred::adapters::sysctl::prepare(300);
    for what in ["max", "buckets"] {
        let held =
            fs::read_to_string(format!("/proc/sys/net/netfilter/nf_conntrack_{what}")).unwrap();
        assert!(held.trim().parse::<u32>().unwrap() >= 65_536, "{what}: {held}");
    }
}

fn netem(netns: &Netns, device: &str, link: &str) {
    let words: Vec<&str> = link.split(' ').collect();
    let tc = ["tc", "qdisc", "replace", "dev", device, "root", "netem"];
    netns.exec(&[&tc[..], &words].concat()).ok();
}
