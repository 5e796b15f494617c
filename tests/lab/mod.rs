//! A store in network namespaces, one for each test: the store's router with a guest bridge, an
//! uplink and a staff network; an internet with real servers; guests that are real DHCP clients.
//!
//! ```text
//!  guest1 ─┐
//!  guest2 ─┼─ br-guest ┐
//!  guest3 ─┘           ├ router ─ wan ──── internet
//!  staff ───────── lan ┘
//! ```
//!
//! A lab of two zones has a second bridge, `br-guest2`, beside the first.
//!
//! Names carry the test process's id, so tests run side by side; what a killed test left is swept
//! by the next. Every command has a time limit. Needs root; says what is missing.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed step fails the test"
)]

mod ears;
mod gateway;
mod guest;
mod host;
mod hq;
mod internet;
mod measure;
mod netns;
mod page;
mod run;
mod tap;
mod wechat;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

pub use ears::{Advertisement, Ears};
pub use gateway::{Gateway, PASSWORD, Settings};
pub use guest::{Dhcp, Guest, Staff};
pub use host::echoes;
pub use hq::{Hq, Mood};
pub use internet::{Internet, WEB_V4, WEB_V6};
pub use netns::Netns;
pub use page::Reply;
pub use run::{Background, run, until};
pub use tap::{Tap, Wire};
pub use wechat::{Mode, Wechat};

/// The router's addresses on the guest bridge.
pub const ROUTER_V4: &str = "10.77.0.1";
/// See [`ROUTER_V4`].
pub const ROUTER_V6: &str = "2001:db8:77::1";
/// The router's addresses on the second guest bridge.
pub const ROUTER2_V4: &str = "10.79.0.1";
/// See [`ROUTER2_V4`].
pub const ROUTER2_V6: &str = "2001:db8:79::1";
/// The router's MAC there.
pub const ROUTER_MAC: [u8; 6] = [0x02, 0x00, 0x5e, 0x77, 0x00, 0x01];
/// The router's address on the staff network.
pub const STAFF_V4: &str = "10.78.0.1";

/// The store and all that is in it; dropping it removes everything.
pub struct Lab {
    /// What the uplink leads to.
    pub internet: Internet,
    /// The guests, in order.
    pub guests: Vec<Guest>,
    /// The host on the staff network.
    pub staff: Staff,
    /// The router.
    pub router: Netns,
    dnsmasq: Background,
    folder: Folder,
}

impl Lab {
    /// Builds a store with so many guests (not joined yet), at most 9.
    pub fn new(guests: u8) -> Self {
        Self::with_zones(1, guests)
    }

    /// The same with one or two guest bridges; guests are on the first until they [`Guest::walk_to`]
    /// the other.
    pub fn with_zones(zones: usize, guests: u8) -> Self {
        require();
        netns::sweep();
        let name = name();
        let folder = Folder::new(&name);
        let router = Netns::new(&format!("{name}-router"));
        let internet = Internet::new(Netns::new(&format!("{name}-internet")), &router, &folder.0);
        wire_router(&router, &folder.0);
        BRIDGES[..zones].iter().for_each(|bridge| bridge.build(&router));
        let dnsmasq = serve_addresses(&router, &folder.0);
        // The first packets over a new link may be lost, which no test is about.
        until(std::time::Duration::from_secs(10), "the uplink to work", || {
            let answers = |to| router.exec(&["ping", "-n", "-q", "-c", "1", "-W", "1", to]).success;
            (answers(WEB_V4) && answers(WEB_V6)).then_some(())
        });
        let staff = Staff::new(Netns::new(&format!("{name}-staff")), &router, &folder.0);
        let guests = (1..=guests)
            .map(|number| {
                let netns = Netns::new(&format!("{name}-guest{number}"));
                Guest::new(number, netns, &router, &folder.0)
            })
            .collect();
        Self { internet, guests, staff, router, dnsmasq, folder }
    }

    /// The lab's own folder; gone with it.
    pub fn folder(&self) -> &Path {
        &self.folder.0
    }

    /// Sees what the internet gets from the store: all but the router's own DNS and neighbour
    /// discovery.
    #[track_caller]
    pub fn tap_uplink(&self) -> Tap {
        let filter = format!(
            "not arp and not (icmp6 and (src net fe80::/10 or src host 2001:db8:100::2)) \
             and not (ip6[6] == 0 and ip6 dst net ff00::/8) \
             and not (src host 198.51.100.2 and dst host {} and port 53)",
            internet::DNS_V4
        );
        Tap::new(&self.internet.netns, &self.folder.0, &filter)
    }

    /// Sees what a guest gets from the internet.
    #[track_caller]
    pub fn tap_guest(&self, guest: usize) -> Tap {
        let filter = "src net 203.0.113.0/24 or src net 198.51.100.0/24 \
                      or src net 2001:db8:203::/48 or src net 2001:db8:100::/64";
        Tap::new(&self.guests[guest].netns, &self.folder.0, filter)
    }

    /// Connections that the router keeps in mind.
    #[track_caller]
    pub fn connections(&self) -> usize {
        self.router.exec(&["conntrack", "-C"]).ok().trim().parse().unwrap()
    }

    /// A folder whose files dnsmasq reads when it starts.
    pub fn dnsmasq_dir(&self) -> PathBuf {
        self.folder.0.join("dnsmasq.d")
    }

    /// A folder of DHCP options, read as they come and forgotten by [`Self::reload_dnsmasq`].
    pub fn options_dir(&self) -> PathBuf {
        self.folder.0.join("dnsmasq.options")
    }

    /// Tells dnsmasq to read anew what it can without a restart.
    pub fn reload_dnsmasq(&self) {
        self.dnsmasq.signal(nix::sys::signal::Signal::SIGHUP);
        std::thread::sleep(std::time::Duration::from_millis(200));
    }

    /// Ends dnsmasq, if it runs.
    pub fn stop_dnsmasq(&mut self) {
        if self.dnsmasq.ended().is_none() {
            self.dnsmasq.signal(nix::sys::signal::Signal::SIGTERM);
            self.dnsmasq.wait(std::time::Duration::from_secs(5));
        }
    }

    /// Starts dnsmasq anew.
    pub fn restart_dnsmasq(&mut self) {
        self.stop_dnsmasq();
        self.dnsmasq = serve_addresses(&self.router, &self.folder.0);
        // Looked at from aside: whoever takes the port for a moment may keep dnsmasq from it.
        until(std::time::Duration::from_secs(10), "dnsmasq to hear questions", || {
            let heard = self.router.exec(&["ss", "-Hlun", "sport = :53"]).ok();
            (!heard.is_empty()).then_some(())
        });
    }

    /// Starts the daemon in the router and waits until it answers.
    pub fn maitred(&self, settings: &Settings) -> Gateway {
        Gateway::start(&self.router, &self.folder.0, settings)
    }
}

/// A folder that goes with the lab.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("the lab's folder is new");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let count = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{}{}-{count}", netns::PREFIX, std::process::id())
}

fn require() {
    assert!(
        nix::unistd::Uid::effective().is_root(),
        "the lab makes network namespaces: run as root"
    );
    let tools = [
        ("ip", "iproute2"),
        ("nft", "nftables"),
        ("dnsmasq", "dnsmasq-base"),
        ("busybox", "busybox"),
        ("dhclient", "isc-dhcp-client"),
        ("curl", "curl"),
        ("ping", "iputils-ping"),
        ("setpriv", "util-linux"),
        ("timeout", "coreutils"),
        ("sysctl", "procps"),
        ("tcpdump", "tcpdump"),
        ("nmap", "nmap"),
        ("traceroute", "traceroute"),
        ("iperf3", "iperf3"),
        ("conntrack", "conntrack"),
        ("dig", "bind9-dnsutils"),
        ("iodine", "iodine"),
    ];
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    for (tool, package) in tools {
        let found = path.split(':').any(|folder| Path::new(folder).join(tool).exists());
        assert!(found, "{tool} is missing: install {package}");
    }
}

/// A guest network of the store.
#[derive(Debug)]
pub struct Bridge {
    /// Its interface on the router.
    pub name: &'static str,
    mac: &'static str,
    v4: &'static str,
    v6: &'static str,
}

/// The guest networks.
pub const BRIDGES: [Bridge; 2] = [
    Bridge { name: "br-guest", mac: "02:00:5e:77:00:01", v4: ROUTER_V4, v6: ROUTER_V6 },
    Bridge { name: "br-guest2", mac: "02:00:5e:79:00:01", v4: ROUTER2_V4, v6: ROUTER2_V6 },
];

impl Bridge {
    /// Makes it in the router.
    pub fn build(&self, router: &Netns) {
        let Self { name, mac, v4, v6 } = self;
        router.ip(&format!(
            "link add {name} address {mac} type bridge forward_delay 0
             addr add {v4}/16 dev {name}
             addr add {v6}/64 dev {name} nodad
             link set {name} up"
        ));
    }
}

/// Forwarding, and the part of the router's own firewall (fw4) that matters: source NAT on the uplink,
/// and a guest zone that rejects input but for what the package opens.
fn wire_router(router: &Netns, folder: &Path) {
    router.sysctl(&[
        "net.ipv4.ip_forward=1",
        "net.ipv6.conf.all.forwarding=1",
        "net.ipv6.conf.default.forwarding=1",
        "net.ipv6.conf.default.accept_dad=0",
        "net.ipv6.conf.all.accept_dad=0",
    ]);
    let bridged = "/proc/sys/net/bridge/bridge-nf-call-iptables";
    if router.exec(&["test", "-e", bridged]).success {
        router.sysctl(&[
            "net.bridge.bridge-nf-call-iptables=0",
            "net.bridge.bridge-nf-call-ip6tables=0",
        ]);
    }
    let rules = folder.join("fw4.nft");
    std::fs::write(&rules, FW4).unwrap();
    router.exec(&["nft", "-f", rules.to_str().unwrap()]).ok();
}

/// dnsmasq as a store's router runs it: DHCP, router advertisements, DHCPv6, DNS by way of the
/// uplink.
fn serve_addresses(router: &Netns, folder: &Path) -> Background {
    let leases = format!("--dhcp-leasefile={}", folder.join("leases").display());
    let server = format!("--server={}", internet::DNS_V4);
    let more = folder.join("dnsmasq.d");
    std::fs::create_dir_all(&more).unwrap();
    let more = format!("--conf-dir={},*.conf", more.display());
    let options = folder.join("dnsmasq.options");
    std::fs::create_dir_all(&options).unwrap();
    let options = format!("--dhcp-optsdir={}", options.display());
    let args = [
        "dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--user=root",
        "--pid-file=",
        "--no-resolv",
        "--no-hosts",
        "--no-ping",
        "--bind-dynamic",
        "--interface=br-guest",
        "--interface=br-guest2",
        "--interface=lan",
        "--dhcp-authoritative",
        "--dhcp-range=10.77.1.1,10.77.250.254,255.255.0.0,1h",
        "--dhcp-range=10.79.1.1,10.79.250.254,255.255.0.0,1h",
        "--dhcp-range=::1000,::1fff,constructor:br-guest,slaac,64,1h",
        "--dhcp-range=::1000,::1fff,constructor:br-guest2,slaac,64,1h",
        "--enable-ra",
        &leases,
        &server,
        &more,
        &options,
    ];
    router.spawn(&args, &folder.join("dnsmasq.log"))
}

const FW4: &str = r#"
table inet fw4 {
    chain input {
        type filter hook input priority filter; policy drop;
        iifname "lo" accept
        ct state established,related accept
        iifname "lan" accept
        meta l4proto { icmp, icmpv6 } accept
        iifname { "br-guest", "br-guest2" } jump input_guest
        reject
    }
    chain input_guest {
        udp dport { 53, 67, 547, 2054 } accept
        tcp dport { 53, 2050, 2051, 2053, 2054 } accept
        reject with tcp reset
    }
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        iifname "lan" oifname "wan" accept
        iifname { "br-guest", "br-guest2" } oifname "wan" accept
        iifname "wan" oifname { "br-guest", "br-guest2" } meta nfproto ipv6 accept
        reject
    }
    chain srcnat {
        type nat hook postrouting priority srcnat; policy accept;
        oifname "wan" meta nfproto ipv4 masquerade
    }
}
"#;
