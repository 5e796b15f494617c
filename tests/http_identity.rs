//! Who is asking is told by the connection's own SYN. Needs root and `ip`: a router and a guest in
//! network namespaces of their own, a bridge between them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use maitred::adapters::http::brand::{Brand, Parts};
use maitred::adapters::http::catalogue::Catalogues;
use maitred::adapters::http::portal::{Portal, run_portal};
use maitred::adapters::http::wechat::Wechat;
use maitred::adapters::http::{PortalAddress, ZoneListeners, bind_zones};
use maitred::adapters::inbox::Inbox;
use maitred::adapters::uplink::Line;
use maitred::domain::effect::{Answer, View};
use maitred::domain::event::{Client, Event};
use maitred::domain::names::{Mac, ZoneId};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;
use tokio::sync::watch;

const GUEST: Mac = Mac([0x02, 0, 0x5e, 0x10, 0, 0x77]);
const WAIT: Duration = Duration::from_secs(10);

fn ip(command: &str) {
    let done = Command::new("ip").args(command.split(' ')).status().expect("ip is installed");
    assert!(done.success(), "ip {command}");
}

/// A thread in a network namespace of its own, which does what it is handed.
struct Namespace(mpsc::Sender<Box<dyn FnOnce() + Send>>, i32);

impl Namespace {
    fn new() -> Self {
        let (jobs, inbox) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let (ready, born) = mpsc::channel();
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("this test needs root");
            ready.send(gettid().as_raw()).unwrap();
            for job in inbox {
                job();
            }
        });
        Self(jobs, born.recv().expect("this test needs root"))
    }

    fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        self.0.send(Box::new(move || drop(done.send(job())))).unwrap();
        result.recv_timeout(WAIT).expect("the job ends in time")
    }
}

/// A router with the portal on its bridge `br0`, and a guest on it.
fn store() -> (Namespace, Namespace, mpsc::Receiver<Client>) {
    let (router, guest) = (Namespace::new(), Namespace::new());
    let guest_id = guest.1;
    router.run(move || {
        ip("link add br0 type bridge");
        ip(&format!("link add v0 type veth peer name v1 address {GUEST} netns {guest_id}"));
        ip("link set v0 master br0");
        ip("link set v0 up");
        ip("link set br0 up");
        ip("address add 192.0.2.1/24 dev br0");
        ip("address add 2001:db8::1/64 dev br0 nodad");
    });
    guest.run(|| {
        ip("link set v1 up");
        ip("address add 192.0.2.7/24 dev v1");
        ip("address add 2001:db8::7/64 dev v1 nodad");
    });
    let (heard, clients) = mpsc::channel();
    router.run(move || {
        let zones: Vec<_> = ["lo", "br0"]
            .iter()
            .map(|interface| {
                toml::from_str(&format!("name = \"z\"\ninterface = \"{interface}\"")).unwrap()
            })
            .collect();
        let listeners = bind_zones(&zones, 2050).unwrap();
        // The sockets stay in the namespace they were made in.
        std::thread::spawn(move || serve(listeners, &heard));
    });
    (router, guest, clients)
}

fn serve(listeners: ZoneListeners, heard: &mpsc::Sender<Client>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (inbox, mut outlet) = Inbox::new();
        let portal = Portal {
            brand: watch::channel(Arc::new(Brand::new(Parts {
                name: "Jade Mall".into(),
                terms_version: "1".into(),
                ..Parts::default()
            })))
            .1,
            line: watch::channel(Line::Up).1,
            address: PortalAddress { name: None, port: 2050 },
            country: "86".into(),
            wechat: Wechat::default(),
            vouchers: false,
            api: None,
            guests: None,
            texts: Arc::new(Catalogues::load().unwrap()),
        };
        let (_running, stop) = watch::channel(false);
        tokio::spawn(run_portal(listeners, None, portal, inbox, Arc::default(), stop));
        while let Some(envelope) = outlet.recv().await {
            let (Event::Portal { client, .. }, Some((_, reply))) = (envelope.event, envelope.reply)
            else {
                panic!("only the portal asks here")
            };
            let _ = heard.send(client);
            let _ = reply.send(Answer::Portal(View::Blocked));
        }
    });
}

fn connect(to: &str) -> TcpStream {
    let to: SocketAddr = to.parse().unwrap();
    let stream = TcpStream::connect_timeout(&to, WAIT).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    stream
}

#[test]
fn a_guest_is_known_by_the_syn_over_both_families() {
    let (_router, guest, clients) = store();
    for (to, from) in [("192.0.2.1:2050", "192.0.2.7"), ("[2001:db8::1]:2050", "2001:db8::7")] {
        let answer = guest.run(move || {
            let mut stream = connect(to);
            let lie = "X-Forwarded-For: 192.0.2.99\r\nX-Client-MAC: 02:00:5e:10:00:99";
            write!(stream, "GET / HTTP/1.1\r\nHost: {to}\r\n{lie}\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        });
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        let client = clients.recv_timeout(WAIT).unwrap();
        let expected = Client { zone: ZoneId(1), mac: GUEST, address: from.parse().unwrap() };
        assert_eq!(client, expected);
    }
}

#[test]
fn a_turned_neighbour_table_turns_nobody() {
    let (router, guest, clients) = store();
    let mut stream = guest.run(|| connect("192.0.2.1:2050"));
    router.run(|| ip("neighbour replace 192.0.2.7 lladdr 02:00:5e:10:00:99 dev br0"));
    stream.write_all(b"GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n").unwrap();
    assert_eq!(clients.recv_timeout(WAIT).unwrap().mac, GUEST);
}
