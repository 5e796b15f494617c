//! Hears real DHCP clients in namespaces. Needs root, iproute2, dnsmasq, busybox and dhclient.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod frames;

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use frames::{OTHER, PHONE, PHONE_V4, ROUTER_V4, arp_packet, samples};
use maitred::adapters::capture::{Captures, Counts};
use maitred::adapters::inbox::{Envelope, Inbox};
use maitred::adapters::neighbours::{Link, Links, Solicitor, watch};
use maitred::adapters::packet::PacketSocket;
use maitred::domain::event::{Event, Evidence, Sighting};
use maitred::domain::names::{Mac, ZoneId};
use maitred::wire::evidence::FrameError;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::{mpsc, watch as channel};
use tokio::time::timeout;

const BRIDGE: &str = "br-guest";
const ZONE: ZoneId = ZoneId(2);
const PATIENCE: Duration = Duration::from_secs(15);

#[test]
fn udhcpc_is_heard_from_its_first_word_to_its_last() {
    let store = Store::new();
    let _dnsmasq = store.dnsmasq();
    store.listening(async |ears| {
        store.guest("ip link set eth0 up");
        let probe = ears.seen(|seen| seen.evidence == Evidence::Nd).await;
        assert_eq!((probe.mac, probe.address), (Mac(PHONE), None), "the probe of its own address");
        let solicits = ears.seen(|seen| seen.evidence == Evidence::Nd && seen.address.is_some());
        assert!(solicits.await.address.unwrap().to_string().starts_with("fe80::"));

        let udhcpc = store.udhcpc("Redmi-Note-12");
        let request = ears.seen(|seen| seen.evidence == Evidence::Dhcp && seen.address.is_some());
        let request = request.await;
        assert_eq!(request.hostname.as_deref(), Some("Redmi-Note-12"));
        assert_eq!((request.zone, request.mac), (ZONE, Mac(PHONE)));
        store.bound().await;
        store.guest("ping -c 1 -W 5 192.168.40.1");
        let arp = ears.seen(|seen| seen.evidence == Evidence::Arp).await;
        assert_eq!((arp.mac, arp.address), (Mac(PHONE), request.address));

        udhcpc.terminate();
        assert_eq!(ears.left().await, Mac(PHONE));
    });
}

#[test]
fn dhclient_is_heard_too() {
    let store = Store::new();
    let _dnsmasq = store.dnsmasq();
    store.listening(async |ears| {
        store.guest("ip link set eth0 up");
        store.guest(&store.dhclient("-1"));
        let request = ears.seen(|seen| seen.evidence == Evidence::Dhcp && seen.address.is_some());
        assert_eq!(request.await.hostname.as_deref(), Some("iPad"));
        store.guest(&store.dhclient("-r"));
        assert_eq!(ears.left().await, Mac(PHONE));
    });
}

#[test]
fn guests_data_never_comes_up() {
    let store = Store::new();
    store.listening(async |ears| {
        store.quiet_guest();
        ears.sync(&store).await;
        let before = ears.counts();
        store.in_guest(|| {
            let socket = UdpSocket::bind("192.168.40.117:0").unwrap();
            socket.set_broadcast(true).unwrap();
            for _ in 0..500 {
                for to in ["192.168.40.1:9", "192.168.40.1:67", "192.168.40.255:5353"] {
                    // An error is the answer to an earlier datagram: nobody listens.
                    let _ = socket.send_to(b"data", to);
                }
            }
            let wire = PacketSocket::open().unwrap();
            let hidden = [
                "tcp-http",
                "dhcp-fragment",
                "dhcp-spoofed",
                "vlan-arp",
                "icmp6-echo",
                "mld-report",
            ];
            for (_, frame) in samples().iter().filter(|(name, _)| hidden.contains(name)) {
                wire.send(index("eth0"), frame).unwrap();
            }
        });
        // Sent by the router itself.
        store.router("ping -c 3 -i 0.1 192.168.40.117");
        ears.sync(&store).await;
        let heard = ears.counts().frames - before.frames;
        assert_eq!(heard, 1, "the frame that ended the wait, and no other");
    });
}

#[test]
fn malformed_frames_are_counted_by_kind() {
    let store = Store::new();
    store.listening(async |ears| {
        store.quiet_guest();
        let bad = [
            ("dhcp-cut", FrameError::Dhcp),
            ("dhcp-long-hlen", FrameError::Dhcp),
            ("dhcp-no-cookie", FrameError::Dhcp),
            ("dhcp-relayed", FrameError::Relayed),
            ("dhcp-impossible-address", FrameError::Address),
            ("arp-spoofed", FrameError::Spoofed),
            ("arp-long", FrameError::Headers),
            ("arp-reverse", FrameError::Arp),
            ("nd-wrong-sum", FrameError::Nd),
        ];
        ears.sync(&store).await;
        let before = ears.counts();
        store.in_guest(|| {
            let (wire, samples) = (PacketSocket::open().unwrap(), samples());
            for (name, _) in bad {
                let frame = &samples.iter().find(|(given, _)| *given == name).unwrap().1;
                wire.send(index("eth0"), frame).unwrap();
            }
        });
        ears.sync(&store).await;
        let after = ears.counts();
        for error in FrameError::ALL {
            let expected = bad.iter().filter(|(_, kind)| *kind == error).count();
            let counted = after.refused[error.place()] - before.refused[error.place()];
            assert_eq!(counted as usize, expected, "{error}");
        }
    });
}

#[test]
fn a_flood_from_one_guest_does_not_hide_another() {
    let store = Store::new();
    store.listening(async |ears| {
        store.quiet_guest();
        ears.sync(&store).await;
        store.in_guest(|| {
            let wire = PacketSocket::open().unwrap();
            let loud = arp_packet(OTHER, OTHER, Ipv4Addr::new(192, 168, 40, 66));
            for _ in 0..3000 {
                // A full queue is part of a flood.
                let _ = wire.send(index("eth0"), &loud);
            }
        });
        ears.sync(&store).await;
        let counts = ears.counts();
        assert!(counts.paced > 100, "{counts:?}");
        assert!(ears.loud < 100, "{} sightings of the loud one", ears.loud);
    });
}

#[test]
fn silent_devices_are_asked() {
    let store = Store::new();
    store.listening(async |ears| {
        store.quiet_guest();
        let link = ears.link(|link| link.addresses.len() == 2).await;
        let solicitor = Solicitor::open().unwrap();
        let v6: IpAddr = "fe80::77".parse().unwrap();
        let far = [Ipv4Addr::new(10, 0, 0, 1).into(), "2001:db8::1".parse().unwrap()];
        assert_eq!(solicitor.ask(&link, Mac(PHONE), &far).unwrap(), 0);
        assert_eq!(solicitor.ask(&link, Mac(PHONE), &[PHONE_V4.into(), v6]).unwrap(), 2);
        let arp = ears.seen(|seen| seen.evidence == Evidence::Arp).await;
        assert_eq!((arp.mac, arp.address), (Mac(PHONE), Some(PHONE_V4.into())));
        let nd = ears.seen(|seen| seen.evidence == Evidence::Nd && seen.address == Some(v6)).await;
        assert_eq!(nd.mac, Mac(PHONE));
    });
}

#[test]
fn an_interface_may_go_down_vanish_and_return() {
    let store = Store::new();
    store.listening(async |ears| {
        store.quiet_guest();
        ears.sync(&store).await;

        store.router("ip link set br-guest down");
        ears.links(|links| !links[BRIDGE].up).await;
        store.router("ip link set br-guest up");
        ears.links(|links| links[BRIDGE].up).await;
        ears.sync(&store).await;

        let old = ears.link(|_| true).await.index;
        for index in ["", &format!("index {old}")] {
            store.router("ip link del br-guest");
            ears.links(Links::is_empty).await;
            store.router(&format!("ip link add br-guest {index} type bridge"));
            store.router("ip link set guest master br-guest");
            store.router("ip link set br-guest up");
            let link = ears.link(|link| link.up).await;
            assert_eq!(link.index == old, !index.is_empty());
            ears.sync(&store).await;
        }

        // Unseen by the watcher: gone and back between two readings.
        store.router("ip link del br-guest");
        store.router(&format!("ip link add br-guest index {old} type bridge"));
        store.router("ip link set guest master br-guest");
        store.router("ip link set br-guest up");
        ears.links(|links| links.get(BRIDGE).is_some_and(|link| link.up)).await;
        ears.follow();
        ears.sync(&store).await;
    });
}

/// What the gateway's loop does, for one zone.
struct Ears {
    captures: Captures,
    links: channel::Receiver<Links>,
    events: mpsc::Receiver<Envelope>,
    loud: u32,
    marks: u8,
}

impl Ears {
    fn follow(&mut self) {
        let links = self.links.borrow_and_update().clone();
        let failed = self.captures.follow(&links);
        assert!(failed.is_empty(), "{failed:?}");
    }

    fn counts(&self) -> Counts {
        self.captures.tally().counts().next().unwrap().1
    }

    async fn links(&mut self, wanted: impl Fn(&Links) -> bool) {
        let waiting = async {
            while !wanted(&self.links.borrow_and_update()) {
                self.links.changed().await.unwrap();
            }
        };
        timeout(PATIENCE, waiting).await.expect("the interface is not as wanted");
        self.follow();
    }

    async fn link(&mut self, wanted: impl Fn(&Link) -> bool) -> Link {
        self.links(|links| links.get(BRIDGE).is_some_and(&wanted)).await;
        self.links.borrow()[BRIDGE].clone()
    }

    async fn event<T>(&mut self, wanted: impl Fn(Event) -> Option<T>) -> T {
        let waiting = async {
            loop {
                let event = self.events.recv().await.unwrap().event;
                if matches!(&event, Event::Seen(seen) if seen.mac == Mac(OTHER)) {
                    self.loud += 1;
                }
                if let Some(found) = wanted(event) {
                    return found;
                }
            }
        };
        timeout(PATIENCE, waiting).await.expect("not heard")
    }

    async fn seen(&mut self, wanted: impl Fn(&Sighting) -> bool) -> Sighting {
        self.event(|event| match event {
            Event::Seen(seen) if wanted(&seen) => Some(seen),
            _ => None,
        })
        .await
    }

    async fn left(&mut self) -> Mac {
        self.event(|event| match event {
            Event::Left { zone: ZONE, mac } => Some(mac),
            _ => None,
        })
        .await
    }

    /// Waits until everything that was sent before has been heard: an ARP packet of a device that
    /// was never seen is the last. Sent again only after it was lost for good.
    async fn sync(&mut self, store: &Store) {
        self.marks += 1;
        let mac = [2, 0, 0, 0, 0xee, self.marks];
        let mark = arp_packet(mac, mac, PHONE_V4);
        for _ in 0..PATIENCE.as_secs() / 3 {
            store.in_guest(|| PacketSocket::open().unwrap().send(index("eth0"), &mark).unwrap());
            let heard = self.event(|event| {
                matches!(event, Event::Seen(seen) if seen.mac == Mac(mac)).then_some(())
            });
            if timeout(Duration::from_secs(3), heard).await.is_ok() {
                return;
            }
        }
        panic!("deaf");
    }
}

/// A router with a bridge and one guest, each in a namespace of its own.
struct Store {
    router: String,
    guest: String,
    folder: tempfile::TempDir,
}

impl Store {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        assert!(nix::unistd::geteuid().is_root(), "needs root, for namespaces");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = |role| format!("maitred-{}-{number}-{role}", std::process::id());
        let folder = tempfile::tempdir().unwrap();
        let store = Self { router: name("router"), guest: name("guest"), folder };
        run(&format!("ip netns add {}", store.router));
        run(&format!("ip netns add {}", store.guest));
        store.router("ip link add br-guest type bridge");
        store.router(&format!("ip link add guest type veth peer name eth0 netns {}", store.guest));
        store.router("ip link set guest master br-guest");
        store.router("ip addr add 192.168.40.1/24 dev br-guest");
        store.router("ip link set guest up");
        store.router("ip link set br-guest up");
        store.guest(&format!("ip link set eth0 address {}", Mac(PHONE)));
        store.guest("sysctl -qw net.ipv6.conf.eth0.router_solicitations=1");
        let mark = store.path("bound");
        store.script(
            "udhcpc.sh",
            &format!(
                "[ \"$1\" = bound ] || exit 0\nip addr add $ip/$mask dev $interface\ntouch {}",
                mark.display()
            ),
        );
        store.script(
            "dhclient.sh",
            "[ \"$reason\" = BOUND ] && ip addr add $new_ip_address/24 dev $interface; true",
        );
        fs::write(store.path("dhclient.conf"), "send host-name \"iPad\";\n").unwrap();
        store
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn script(&self, name: &str, body: &str) {
        let path = self.path(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn router(&self, command: &str) {
        run(&format!("ip netns exec {} {command}", self.router));
    }

    fn guest(&self, command: &str) {
        run(&format!("ip netns exec {} {command}", self.guest));
    }

    /// A client that gives its lease back when it is told to end.
    fn udhcpc(&self, hostname: &str) -> Daemon {
        let script = self.path("udhcpc.sh");
        let child = Command::new("ip")
            .args(["netns", "exec", &self.guest, "busybox", "udhcpc", "-i", "eth0", "-f", "-R"])
            .args(["-x", &format!("hostname:{hostname}"), "-s"])
            .arg(script)
            .spawn()
            .expect("busybox");
        Daemon(child)
    }

    /// Waits until udhcpc has set its address.
    async fn bound(&self) {
        let mark = self.path("bound");
        let waiting = async {
            while !mark.exists() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, waiting).await.expect("no lease");
    }

    fn dhclient(&self, verb: &str) -> String {
        let path = |name| self.path(name).display().to_string();
        format!(
            "dhclient {verb} -cf {} -sf {} -lf {} -pf {} eth0",
            path("dhclient.conf"),
            path("dhclient.sh"),
            path("dhclient.leases"),
            path("dhclient.pid"),
        )
    }

    /// A guest that says nothing of its own accord: fixed addresses and neighbours.
    fn quiet_guest(&self) {
        self.guest("sysctl -qw net.ipv6.conf.eth0.addr_gen_mode=1");
        self.guest("sysctl -qw net.ipv6.conf.eth0.router_solicitations=0");
        self.guest("ip link set eth0 up");
        self.guest("ip addr add 192.168.40.117/24 dev eth0");
        self.guest("ip addr add fe80::77/64 dev eth0 nodad");
        let bridge = in_namespace(&self.router, || mac_of(BRIDGE));
        self.guest(&format!(
            "ip neigh replace 192.168.40.1 lladdr {bridge} dev eth0 nud permanent"
        ));
        self.router(&format!(
            "ip neigh replace {PHONE_V4} lladdr {} dev br-guest nud permanent",
            Mac(PHONE)
        ));
    }

    fn in_guest<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        in_namespace(&self.guest, work)
    }

    /// Runs `story` in the router, beside a capture that listens on the bridge.
    fn listening(&self, story: impl AsyncFnOnce(&mut Ears) + Send) {
        in_namespace(&self.router, || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let links = watch(vec![BRIDGE.to_owned()]).unwrap();
                let (inbox, events) = Inbox::new();
                let captures = Captures::new([(ZONE, BRIDGE.to_owned())], inbox);
                let mut ears = Ears { captures, links, events, loud: 0, marks: 0 };
                let link = ears.link(|link| link.up && !link.addresses.is_empty()).await;
                assert!(link.addresses.iter().any(|own| own.address == IpAddr::V4(ROUTER_V4)));
                story(&mut ears).await;
            });
        });
    }

    fn dnsmasq(&self) -> Daemon {
        let leases = self.path("leases");
        let child = Command::new("ip")
            .args(["netns", "exec", &self.router, "dnsmasq", "--keep-in-foreground"])
            .args(["--conf-file=/dev/null", "--pid-file=", "--user=root", "--port=0", "--no-ping"])
            .args(["--interface=br-guest", "--bind-interfaces"])
            .args(["--dhcp-range=192.168.40.100,192.168.40.200,1h", "--log-facility=-"])
            .arg(format!("--dhcp-leasefile={}", leases.display()))
            .spawn()
            .expect("dnsmasq");
        Daemon(child)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        for name in [&self.router, &self.guest] {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
        // dhclient stays behind as a daemon.
        if let Ok(pid) = fs::read_to_string(self.path("dhclient.pid")) {
            let pid = pid.trim().parse().ok().filter(|pid| *pid > 1);
            let _ = pid.map(|pid| kill(Pid::from_raw(pid), Signal::SIGKILL));
        }
    }
}

struct Daemon(Child);

impl Daemon {
    fn terminate(&self) {
        kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM).unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a command to its end, for at most 20 s.
fn run(command: &str) {
    let output = Command::new("timeout")
        .args(["-k", "2", "20"])
        .args(command.split_whitespace())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {}: {error}", output.status);
}

/// Runs `work` in a thread inside a network namespace.
fn in_namespace<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> T {
    let namespace = File::open(Path::new("/run/netns").join(name)).unwrap();
    let work = || {
        setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
        work()
    };
    match thread::scope(|scope| scope.spawn(work).join()) {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn index(interface: &str) -> u32 {
    nix::net::if_::if_nametoindex(interface).unwrap()
}

fn mac_of(interface: &str) -> Mac {
    let output = Command::new("ip").args(["-brief", "link", "show", interface]).output().unwrap();
    let line = String::from_utf8(output.stdout).unwrap();
    line.split_whitespace().nth(2).unwrap().parse().unwrap()
}
