//! Stories of what this kernel may lack: flow tables, VLAN filtering on bridges, netem. Told on
//! Debian's own kernel, older than the one that most stories are told on, in a virtual machine.

use std::fmt::Write as _;
use std::fs;
use std::net::UdpSocket;
use std::thread;
use std::time::Duration;

use maitred::clock;

use crate::bridges::moves;
use crate::coexist::reload_fw4;
use crate::dns::{self, DNS, dig, name_server};
use crate::doctor::{found, only, use_own_dns};
use crate::lab::{
    Dhcp, Gateway, Guest, Internet, Lab, Netns, ROUTER_V4, ROUTER_V6, ROUTER2_V4, ROUTER2_V6,
    Settings, WEB_V4, run,
};
use crate::refused::{each_table, refused};

/// All that is told there, in one boot.
const STORIES: [&str; 4] = [
    "machine::flow_offload_is_found_and_refused",
    "machine::guests_in_vlans_of_one_bridge_are_kept_apart",
    "machine::lossy_and_slow_links_keep_nobody_out",
    "restart::sigkill_and_start_lose_no_packet",
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

/// The guest bridge filters VLANs: 10 with the first guest and 20 with the second, each a network of
/// the router's, as on a router whose ports are a switch (DSA).
fn split_into_vlans(lab: &mut Lab) {
    lab.router.ip("link set br-guest type bridge vlan_filtering 1 vlan_default_pvid 0
         addr flush dev br-guest");
    let networks = [(10, ROUTER_V4, ROUTER_V6), (20, ROUTER2_V4, ROUTER2_V6)];
    let mut more = String::new();
    for (port, (vlan, v4, v6)) in ["guest1", "guest2"].into_iter().zip(networks) {
        let join = format!(
            "bridge vlan add dev {port} vid {vlan} pvid untagged && \
             bridge vlan add dev br-guest vid {vlan} self"
        );
        lab.router.exec(&["sh", "-c", &join]).ok();
        lab.router.ip(&format!(
            "link add link br-guest name br-guest.{vlan} type vlan id {vlan}
             addr add {v4}/16 dev br-guest.{vlan}
             addr add {v6}/64 dev br-guest.{vlan} nodad
             link set br-guest.{vlan} up"
        ));
        write!(
            more,
            "interface=br-guest.{vlan}\n\
             dhcp-range=::1000,::1fff,constructor:br-guest.{vlan},slaac,64,1h\n"
        )
        .unwrap();
    }
    fs::write(lab.dnsmasq_dir().join("vlans.conf"), more).unwrap();
    lab.restart_dnsmasq();
    let fw4 = lab.folder().join("fw4.nft");
    let rules = fs::read_to_string(&fw4).unwrap();
    let vlans = "\"br-guest.10\", \"br-guest.20\"";
    fs::write(&fw4, rules.replace("\"br-guest\", \"br-guest2\"", vlans)).unwrap();
    reload_fw4(lab);
}

fn state(gateway: &Gateway, zone: &str) -> String {
    let rows = gateway.json(&["clients"]);
    let row = rows.as_array().unwrap().iter().find(|row| row["zone"] == zone);
    row.unwrap_or_else(|| panic!("{rows}"))["state"].as_str().unwrap().to_owned()
}

#[test]
#[ignore = "stories_on_debians_kernel tells it"]
fn guests_in_vlans_of_one_bridge_are_kept_apart() {
    let mut lab = Lab::new(2);
    split_into_vlans(&mut lab);
    let settings = Settings::new()
        .with("[[zone]]", "name = \"guest\"\ninterface = \"br-guest.10\"")
        .with("[[zone]] ", "name = \"cafe\"\ninterface = \"br-guest.20\"");
    let gateway = lab.maitred(&settings);
    // The same address of the wire, once in each.
    let mac = lab.guests[0].mac.clone();
    lab.guests[1].netns.ip(&format!("link set eth0 address {mac}"));
    lab.guests[1].mac = mac.clone();
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    let [guest, twin] = &lab.guests[..] else { unreachable!() };

    guest.log_in(&gateway);
    assert!(guest.online() && !twin.online());
    assert_eq!([state(&gateway, "guest"), state(&gateway, "cafe")], ["online", "new"]);
    let redirect = twin.get("http://example.com/").location();
    assert!([ROUTER2_V4, ROUTER2_V6].iter().any(|own| redirect.contains(own)), "{redirect}");
    assert_eq!(moves(&gateway), 0, "two VLANs know the address: nobody moved");

    // Into the other VLAN, with a tag.
    guest.netns.ip("link add link eth0 name eth0.20 type vlan id 20
         addr add 10.79.200.1/16 dev eth0.20
         link set eth0.20 up");
    let hop = ["ping", "-n", "-c", "1", "-W", "1", "-I", "eth0.20", ROUTER2_V4];
    assert!(!guest.netns.exec(&hop).success);
    guest.netns.ip("link del eth0.20");

    gateway.command(&["revoke", &mac]).ok();
    gateway.command(&["grant", &mac, "--zone", "cafe"]).ok();
    assert!(!guest.online() && twin.online());
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

fn netem(netns: &Netns, device: &str, link: &str) {
    let words: Vec<&str> = link.split(' ').collect();
    let tc = ["tc", "qdisc", "replace", "dev", device, "root", "netem"];
    netns.exec(&[&tc[..], &words].concat()).ok();
}
