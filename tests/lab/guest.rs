//! The people: guests with phones on the guest bridge, and staff on the staff network.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::host::Host;
use super::netns::Netns;
use super::run::{Background, until};
use super::{Gateway, ROUTER_V6, STAFF_V4, WEB_V4};

/// Which DHCP client a guest's device has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dhcp {
    /// busybox's `udhcpc`.
    Udhcpc,
    /// ISC's `dhclient`.
    Dhclient,
}

/// A guest's device. It is a [`Host`] on the guest bridge.
#[derive(Debug)]
pub struct Guest {
    host: Host,
    /// Its MAC.
    pub mac: String,
    /// The name it gives in DHCP.
    pub hostname: String,
    /// Its owner's number.
    pub phone: String,
    port: String,
    router: String,
    folder: PathBuf,
    client: Option<(Dhcp, Background)>,
}

impl Guest {
    pub(super) fn new(number: u8, netns: Netns, router: &Netns, folder: &Path) -> Self {
        // The third has a randomised MAC, as most phones do today.
        let mac = if number == 3 {
            "da:a1:19:00:00:03".into()
        } else {
            format!("3c:5a:b4:00:00:0{number}")
        };
        let port = format!("guest{number}");
        netns.sysctl(&["net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0"]);
        router.ip(&format!(
            "link add {port} type veth peer name eth0 address {mac} netns {}
             link set {port} master br-guest up",
            netns.name()
        ));
        let folder = folder.join(&port);
        std::fs::create_dir(&folder).unwrap();
        let host = Host { netns, jar: folder.join("cookies") };
        Self {
            host,
            mac,
            hostname: format!("phone-{number}"),
            phone: format!("1380013800{number}"),
            port,
            router: router.name().to_owned(),
            folder,
            client: None,
        }
    }

    /// Goes to the guest network behind this bridge; [`Self::join`] it then.
    #[track_caller]
    pub fn walk_to(&mut self, bridge: &str) {
        self.vanish();
        let line = ["ip", "-n", &self.router, "link", "set", &self.port, "master", bridge, "up"];
        super::run(&line, 5).ok();
    }

    /// Gets another IPv6 address by DHCPv6, and gives it.
    #[track_caller]
    pub fn lease_v6(&self) -> String {
        let (script, leases, pid) = (self.file("dhcp.sh"), self.file("leases6"), self.file("pid6"));
        let args = ["dhclient", "-6", "-d", "-sf", &script, "-lf", &leases, "-pf", &pid, "eth0"];
        let _client = self.netns.spawn(&args, &self.folder.join("dhcp6.log"));
        until(Duration::from_secs(15), "a DHCPv6 lease", || {
            let text = self.netns.exec(&["ip", "-6", "-o", "addr", "show", "dev", "eth0"]).ok();
            let address = text.split_whitespace().find_map(|word| word.strip_suffix("/128"));
            address.map(str::to_owned)
        })
    }

    /// Comes into the store and gets an address by DHCP; waits for IPv6 too.
    #[track_caller]
    pub fn join(&mut self, dhcp: Dhcp) {
        self.radio(true);
        let script = self.folder.join("dhcp.sh");
        std::fs::write(&script, DHCP_SCRIPT).unwrap();
        let chmod = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&script, chmod).unwrap();
        let (script, name) = (script.to_str().unwrap(), format!("hostname:{}", self.hostname));
        let resolv = format!("RESOLV={}", self.netns.resolv_conf().display());
        let (conf, leases, pid) = (self.file("conf"), self.file("leases"), self.file("pid"));
        let args: Vec<&str> = match dhcp {
            Dhcp::Udhcpc => vec![
                "env", &resolv, "busybox", "udhcpc", "-f", "-i", "eth0", "-s", script, "-x", &name,
                "-R", "-t", "20", "-T", "1",
            ],
            Dhcp::Dhclient => {
                std::fs::write(&conf, format!("send host-name \"{}\";\n", self.hostname)).unwrap();
                vec![
                    "env", &resolv, "dhclient", "-4", "-d", "-cf", &conf, "-sf", script, "-lf",
                    &leases, "-pf", &pid, "-e", &resolv, "eth0",
                ]
            }
        };
        self.client = Some((dhcp, self.netns.spawn(&args, &self.folder.join("dhcp.log"))));
        self.address_of("-4");
        until(Duration::from_secs(5), "a way out", || {
            let routes = self.netns.exec(&["ip", "-4", "route", "show", "default"]).ok();
            (!routes.is_empty()).then_some(())
        });
        self.address_of("-6");
        self.greet_router();
    }

    /// Until the router answers over IPv6: the first packets after an address may be lost, which
    /// no test is about.
    fn greet_router(&self) {
        until(Duration::from_secs(10), "the router to answer over IPv6", || {
            (self.ping(ROUTER_V6, 1) == 1).then_some(())
        });
    }

    /// Comes into the store with IPv6 alone: an address by router advertisement, no DHCP.
    #[track_caller]
    pub fn join_v6(&mut self) {
        self.radio(true);
        let server = format!("nameserver {ROUTER_V6}\n");
        std::fs::write(self.netns.resolv_conf(), server).unwrap();
        self.address_of("-6");
    }

    /// Its IPv4 address.
    #[track_caller]
    pub fn v4(&self) -> String {
        self.address_of("-4")
    }

    /// Its global IPv6 address.
    #[track_caller]
    pub fn v6(&self) -> String {
        self.address_of("-6")
    }

    /// Leaves politely: releases its lease.
    pub fn release(&mut self) {
        let (dhcp, mut client) = self.client.take().expect("a guest that joined by DHCP");
        match dhcp {
            Dhcp::Udhcpc => client.signal(Signal::SIGTERM),
            Dhcp::Dhclient => {
                let (conf, leases, pid) =
                    (self.file("conf"), self.file("leases"), self.file("pid"));
                let args = ["dhclient", "-4", "-r", "-cf", &conf, "-lf", &leases, "-pf", &pid];
                let script = self.folder.join("dhcp.sh");
                let script = ["-sf", script.to_str().unwrap(), "eth0"];
                self.netns.exec(&[&args[..], &script].concat()).ok();
            }
        }
        client.wait(Duration::from_secs(5));
        self.radio(false);
    }

    /// Walks out of range without a word.
    pub fn vanish(&mut self) {
        self.radio(false);
        self.client = None;
    }

    /// The way a guest gets online: a page, the portal, a number, a code. Returns the last page.
    #[track_caller]
    pub fn log_in(&self, gateway: &Gateway) -> super::Reply {
        self.log_in_from(gateway, "http://example.com/")
    }

    /// As [`Self::log_in`], from the page at `url`.
    #[track_caller]
    pub fn log_in_from(&self, gateway: &Gateway, url: &str) -> super::Reply {
        let page = self.ask_code(gateway, url);
        let code = gateway.code_for(&self.phone);
        let page = self.submit(&page, "/code", &[("code", &code)]);
        assert_eq!(page.status, 200, "{page:#?}");
        page
    }

    /// Opens the account's link, agrees to the terms, and goes on.
    #[track_caller]
    pub fn open_link(&self, link: &str) -> super::Reply {
        let page = self.follow(self.get(link));
        let path = link.find("/f/").map_or("", |at| &link[at..]);
        if page.has_form(path) { self.submit(&page, path, &[("terms", "yes")]) } else { page }
    }

    /// The first half: up to the page that asks for the code.
    #[track_caller]
    pub fn ask_code(&self, gateway: &Gateway, url: &str) -> super::Reply {
        gateway.secret(&self.phone);
        let redirect = self.get(url);
        assert_eq!(redirect.status, 302, "{redirect:#?}");
        let mut portal = self.follow(redirect);
        // A session that is over is told of first.
        if !portal.has_form("/phone") && portal.has_form("/change") {
            portal = self.submit(&portal, "/change", &[]);
        }
        let page = self.submit(&portal, "/phone", &[("phone", &self.phone), ("terms", "yes")]);
        assert!(page.has_form("/code"), "{page:#?}");
        page
    }

    /// Whether a page of the internet opens.
    pub fn online(&self) -> bool {
        self.page_opens(&format!("http://{WEB_V4}/"))
    }

    /// Whether this page of the internet opens.
    pub fn page_opens(&self, url: &str) -> bool {
        self.try_get(url).is_ok_and(|reply| reply.body.contains("This is the internet"))
    }

    /// Sends so many pings 10 ms apart, beside the test.
    pub fn ping_flood(&self, address: &str, count: u32) -> Flood {
        let count_text = count.to_string();
        let args = ["ping", "-n", "-q", "-i", "0.01", "-W", "1", "-c", &count_text, address];
        let log = self.folder.join(format!("ping-{}", address.replace(':', "-")));
        Flood { ping: self.netns.spawn(&args, &log), count }
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }

    fn radio(&self, on: bool) {
        let state = if on { "up" } else { "down" };
        self.netns.ip(&format!("link set eth0 {state}"));
        if !on {
            self.netns.ip("addr flush dev eth0");
        }
    }

    #[track_caller]
    fn address_of(&self, family: &str) -> String {
        until(
            Duration::from_secs(15),
            &format!("{} to get an address ({family})", self.port),
            || {
                let args =
                    ["ip", "-n", self.netns.name(), family, "-o", "addr", "show", "dev", "eth0"];
                let text = super::run(&[&args[..], &["scope", "global"]].concat(), 5).ok();
                let address = text.split_whitespace().nth(3)?;
                address.split('/').next().map(str::to_owned)
            },
        )
    }
}

impl Deref for Guest {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.host
    }
}

/// Pings that run beside the test.
#[derive(Debug)]
pub struct Flood {
    ping: Background,
    count: u32,
}

impl Flood {
    /// Waits for the last; how many were lost.
    #[track_caller]
    pub fn lost(mut self) -> u32 {
        self.ping.wait(Duration::from_mins(1));
        self.count - super::host::received(&self.ping.output())
    }
}

/// The host on the staff network. It is a [`Host`].
#[derive(Debug)]
pub struct Staff(Host);

impl Staff {
    pub(super) fn new(netns: Netns, router: &Netns, folder: &Path) -> Self {
        router.ip(&format!(
            "link add lan type veth peer name eth0 netns {}
             addr add {STAFF_V4}/24 dev lan
             link set lan up",
            netns.name()
        ));
        netns.ip(&format!(
            "addr add 10.78.0.2/24 dev eth0
             link set eth0 up
             route add default via {STAFF_V4}"
        ));
        Self(Host { netns, jar: folder.join("staff-cookies") })
    }

    /// Logs in to the staff page; the page after that.
    #[track_caller]
    pub fn log_in(&self) -> super::Reply {
        let page = self.follow(self.get(&format!("http://{STAFF_V4}:8080/staff")));
        let page = self.submit(&page, "/staff/login", &[("password", super::gateway::PASSWORD)]);
        assert_eq!(page.status, 200, "{page:#?}");
        page
    }
}

impl Deref for Staff {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.0
    }
}

/// What a DHCP client calls with what it got: udhcpc's words first, dhclient's second.
const DHCP_SCRIPT: &str = r#"#!/bin/sh
case "$1$reason" in
BOUND6) ip addr replace "$new_ip6_address/128" dev eth0 ;;
deconfig | RELEASE | EXPIRE | FAIL | STOP) ip -4 addr flush dev eth0 ;;
bound | renew | BOUND | RENEW | REBIND | REBOOT)
    for server in ${dns:-$new_domain_name_servers}; do echo "nameserver $server"; done >"$RESOLV"
    ip addr replace "${ip:-$new_ip_address}/16" dev eth0
    ip route replace default via "${router:-$new_routers}"
    ;;
esac
"#;
