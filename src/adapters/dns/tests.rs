//! The forwarder on real sockets, in a network namespace of each test's own, before resolvers that
//! do what resolvers do.

mod flows;
mod trouble;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::socket::bind_zone;
use super::*;
use crate::wire::dns::{Code, Kind, Name, Question, Reply, Response, query, response};

const PORT: u16 = 2053;
const ZONE: ZoneId = ZoneId(0);
const PATIENCE: Duration = Duration::from_secs(10);
/// The one address whose device is known.
const KNOWN: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

fn ip(arguments: &str) {
    let status = std::process::Command::new("ip").args(arguments.split(' ')).status();
    assert!(status.expect("ip: install iproute2").success(), "ip {arguments}");
}

/// Puts this test's thread in a namespace with a loopback of several addresses.
fn own_namespace() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
        .expect("a network namespace: these tests need root");
    ip("link set lo up");
    for address in ["192.0.2.1/32", "192.0.2.2/32", "2001:db8::1/128", "2001:db8::2/128"] {
        ip(&format!("addr add {address} dev lo"));
    }
    ip("link add br-other type bridge");
    ip("link set br-other up");
}

/// A resolver whose behaviour is in the first label of the name it is asked for.
struct Resolver {
    address: SocketAddr,
    asked: AtomicU32,
    ports: Mutex<std::collections::HashSet<u16>>,
}

impl Resolver {
    async fn start() -> Arc<Self> {
        let udp = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let address = udp.local_addr().unwrap();
        let tcp = TcpListener::bind(address).await.unwrap();
        let resolver =
            Arc::new(Self { address, asked: AtomicU32::new(0), ports: Mutex::default() });
        let (of_udp, of_tcp) = (Arc::clone(&resolver), Arc::clone(&resolver));
        tokio::spawn(async move {
            let mut buffer = [0; 600];
            loop {
                let (length, peer) = udp.recv_from(&mut buffer).await.unwrap();
                of_udp.ports.lock().unwrap().insert(peer.port());
                of_udp.asked.fetch_add(1, Relaxed);
                let (udp, question) = (Arc::clone(&udp), buffer[..length].to_vec());
                tokio::spawn(async move { datagram(&udp, &question, peer).await });
            }
        });
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = tcp.accept().await.unwrap();
                let length = usize::from(stream.read_u16().await.unwrap());
                let mut question = vec![0; length];
                stream.read_exact(&mut question).await.unwrap();
                of_tcp.asked.fetch_add(1, Relaxed);
                let answer = truth(&question);
                let length = u16::try_from(answer.len()).unwrap();
                stream.write_all(&[&length.to_be_bytes()[..], &answer].concat()).await.unwrap();
            }
        });
        resolver
    }
}

/// Six addresses, which end in 1 to 6, for whatever is asked.
fn truth(bytes: &[u8]) -> Vec<u8> {
    let question = Question::parse(bytes).unwrap();
    let mut answer = bytes.to_vec();
    answer[2..4].copy_from_slice(&[0x81, 0x80]);
    answer[7] = 6;
    for last in 1..=6 {
        let (record_type, data) = match question.kind {
            Kind::A => (1, vec![203, 0, 113, last]),
            _ => (28, [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[last]].concat()),
        };
        let length = u8::try_from(data.len()).unwrap();
        answer.extend([0xc0, 12, 0, record_type, 0, 1, 0, 0, 0, 60, 0, length]);
        answer.extend(data);
    }
    answer
}

async fn datagram(udp: &UdpSocket, question: &[u8], peer: SocketAddr) {
    let name = Question::parse(question).unwrap().name;
    let mut answer = truth(question);
    let send = async |bytes: &[u8]| {
        udp.send_to(bytes, peer).await.unwrap();
    };
    let forged = |place: usize, value: u8| {
        let mut lie = answer.clone();
        // What a liar would have believed: 203.0.113.66.
        *lie.last_mut().unwrap() = 66;
        lie[31 + name.as_str().len()] = 66;
        lie[place] ^= value;
        lie
    };
    match name.as_str().split(['.', '-']).next().unwrap() {
        "silent" => return,
        "slow" => sleep(Duration::from_millis(300)).await,
        "cut" => answer[2] |= 0x02,
        "nobody" => answer[3] |= 3,
        "broken" => answer[3] |= 2,
        "liar" => {
            send(&forged(0, 0x55)).await; // another id
            send(&forged(14, 0x01)).await; // another name
            send(&forged(2, 0x80)).await; // no answer at all
            send(b"\xff").await;
            let elsewhere = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            elsewhere.send_to(&forged(14, 0), peer).await.unwrap();
            sleep(Duration::from_millis(50)).await;
        }
        _ => {}
    }
    send(&answer).await;
}

/// A forwarder that serves loopback, and what the house around it saw.
struct Bench {
    resolver: Arc<Resolver>,
    forwarder: Arc<Forwarder>,
    settings: watch::Sender<Arc<Settings>>,
    learned: Arc<Mutex<Vec<IpAddr>>>,
    /// From where and which of our addresses a known device asked.
    done: Arc<Mutex<Vec<(SocketAddr, IpAddr)>>>,
    /// Whether the kernel takes addresses.
    opens: watch::Sender<bool>,
}

impl Bench {
    async fn start() -> Self {
        own_namespace();
        let resolver = Resolver::start().await;
        let zone = ZoneSettings {
            zone: ZONE,
            addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
            garden: vec!["*.pay.example.net".parse().unwrap()],
        };
        let (settings, watched) = watch::channel(Arc::new(Settings {
            portal: Some("portal.example.net".parse().unwrap()),
            zones: vec![zone],
            upstreams: vec![resolver.address],
            placeholder: Some(Placeholder::default()),
            ..Settings::default()
        }));
        let learned = Arc::new(Mutex::new(Vec::new()));
        let (opens, opening) = watch::channel(true);
        let seen = Arc::clone(&learned);
        let done = Arc::new(Mutex::new(Vec::new()));
        let asked = Arc::clone(&done);
        let hooks = Hooks {
            learn: Box::new(move |garden, addresses| {
                assert_eq!(garden, Garden::Zone(ZONE));
                let (seen, opening) = (Arc::clone(&seen), *opening.borrow());
                Box::pin(async move {
                    sleep(Duration::from_millis(20)).await;
                    seen.lock().unwrap().extend(addresses);
                    if opening { Ok(()) } else { Err(NotLearned) }
                })
            }),
            device: Box::new(|_, address| (address == KNOWN).then_some(Mac([2; 6]))),
            asked: Box::new(move |_, _, guest, ours| asked.lock().unwrap().push((guest, ours))),
        };
        let forwarder = Forwarder::new(watched, hooks);
        for (zone, interface) in [(ZONE, "lo"), (ZoneId(1), "br-other")] {
            let sockets = bind_zone(zone, interface, PORT).unwrap();
            tokio::spawn(serve(Arc::clone(&forwarder), sockets));
        }
        Self { resolver, forwarder, settings, learned, done, opens }
    }

    fn asked(&self) -> u32 {
        self.resolver.asked.load(Relaxed)
    }
}

/// A guest's socket that hears only `server`.
async fn guest(server: &str) -> UdpSocket {
    let server: SocketAddr = server.parse().unwrap();
    let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await.unwrap();
    socket.connect(server).await.unwrap();
    socket
}

async fn ask(socket: &UdpSocket, name: &str, kind: Kind) -> Response {
    let name: Name = name.parse().unwrap();
    socket.send(&query(7, &name, kind)).await.unwrap();
    let mut buffer = [0; 600];
    let length = timeout(PATIENCE, socket.recv(&mut buffer)).await.unwrap().unwrap();
    response(&buffer[..length], 7, &name, kind).unwrap()
}

/// Asks over loopback's own address, for A.
async fn told(name: &str) -> Response {
    ask(&guest("127.0.0.1:2053").await, name, Kind::A).await
}

fn found(last: &[u8], ttl: u32) -> Response {
    let addresses = last.iter().map(|last| Ipv4Addr::new(203, 0, 113, *last).into()).collect();
    Response::Answer(Reply { code: Code::Found, addresses, ttl })
}

#[tokio::test]
async fn answers_leave_from_the_address_that_was_asked() {
    let bench = Bench::start().await;
    for server in [
        "127.0.0.1",
        "127.7.7.7",
        "192.0.2.1",
        "192.0.2.2",
        "[::1]",
        "[2001:db8::1]",
        "[2001:db8::2]",
    ] {
        let socket = guest(&format!("{server}:{PORT}")).await;
        let reply = ask(&socket, "portal.example.net", Kind::Aaaa).await;
        let Response::Answer(reply) = reply else { panic!("{server}: {reply:?}") };
        assert_eq!(reply.addresses, vec!["2001:db8::1".parse::<IpAddr>().unwrap()], "{server}");
    }
    assert_eq!((bench.asked(), bench.forwarder.counts().questions), (0, 7));
}

/// A socket in a guest's namespace of its own, at the other end of a new interface `br-guest`, and
/// the index of the guest's own interface.
fn beyond_the_bridge(address: &'static str) -> (UdpSocket, u32) {
    let (told, heard) = std::sync::mpsc::channel();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let guest = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        told.send(nix::unistd::gettid()).unwrap();
        wait.recv().unwrap();
        ip("link set guest0 up");
        ip("addr add 10.7.0.9/24 dev guest0");
        ip("addr add 2001:db8:7::9/64 dev guest0 nodad");
        ip("addr add fe80::9/64 dev guest0 nodad");
        let index = nix::net::if_::if_nametoindex("guest0").unwrap();
        (std::net::UdpSocket::bind(address).unwrap(), index)
    });
    ip("link add br-guest type veth peer name guest0");
    ip(&format!("link set guest0 netns {}", heard.recv().unwrap()));
    ip("link set br-guest up");
    for address in ["10.7.0.1/24", "10.7.0.2/24", "10.7.1.1/32"] {
        ip(&format!("addr add {address} dev br-guest"));
    }
    for address in ["2001:db8:7::1/64", "2001:db8:7::2/64", "fe80::7/64"] {
        ip(&format!("addr add {address} dev br-guest nodad"));
    }
    go.send(()).unwrap();
    let (socket, index) = guest.join().unwrap();
    socket.set_nonblocking(true).unwrap();
    (UdpSocket::from_std(socket).unwrap(), index)
}

#[tokio::test]
async fn every_address_of_a_bridge_answers_for_itself() {
    let bench = Bench::start().await;
    for (own, servers) in [
        ("10.7.0.9:0", &["10.7.0.1:2053", "10.7.0.2:2053"][..]),
        ("[::]:0", &["[2001:db8:7::1]:2053", "[2001:db8:7::2]:2053", "[fe80::7]:2053"]),
    ] {
        let (socket, index) = beyond_the_bridge(own);
        let zone = ZoneId(if own.starts_with('1') { 2 } else { 3 });
        let sockets = bind_zone(zone, "br-guest", PORT).unwrap();
        let serving = tokio::spawn(serve(Arc::clone(&bench.forwarder), sockets));
        for server in servers {
            let mut server: SocketAddr = server.parse().unwrap();
            if let SocketAddr::V6(v6) = &mut server
                && v6.ip().is_unicast_link_local()
            {
                v6.set_scope_id(index);
            }
            let asked = query(7, &"use-application-dns.net".parse().unwrap(), Kind::A);
            let mut buffer = [0; 600];
            let (length, from) = timeout(PATIENCE, async {
                // Neighbours are found out first: a first datagram may be lost.
                loop {
                    let _ = socket.send_to(&asked, server).await;
                    let answer = socket.recv_from(&mut buffer);
                    if let Ok(answer) = timeout(Duration::from_millis(500), answer).await {
                        break answer.unwrap();
                    }
                }
            })
            .await
            .unwrap_or_else(|_| panic!("{server} is silent"));
            assert_eq!((from.ip(), from.port()), (server.ip(), server.port()));
            assert_eq!(buffer[..length][3] & 0x0f, 3, "the canary is told not to exist");
            while timeout(Duration::from_millis(20), socket.recv(&mut buffer)).await.is_ok() {}
        }
        serving.abort();
        ip("link del br-guest");
    }
}

#[tokio::test]
async fn a_redirected_question_is_answered_by_whom_it_was_sent_to() {
    let _bench = Bench::start().await;
    ip("addr add 198.51.100.9/24 dev br-other");
    let rule = "add table ip t; add chain ip t o { type nat hook output priority -100; }; \
                add rule ip t o udp dport 53 redirect to :2053; \
                add rule ip t o tcp dport 53 redirect to :2053";
    let nft = std::process::Command::new("nft").arg(rule).status();
    assert!(nft.expect("nft: install nftables").success());
    let socket = guest("198.51.100.53:53").await;
    let reply = ask(&socket, "portal.example.net", Kind::A).await;
    assert!(matches!(reply, Response::Answer(reply) if reply.addresses.len() == 1));
    let mut stream = TcpStream::connect("198.51.100.53:53").await.unwrap();
    assert_eq!(over_tcp(&mut stream, "www.example.org").await, found(&[1], 30));
}

async fn over_tcp(stream: &mut TcpStream, name: &str) -> Response {
    let name: Name = name.parse().unwrap();
    let question = query(7, &name, Kind::A);
    let length = u16::try_from(question.len()).unwrap();
    stream.write_all(&[&length.to_be_bytes()[..], &question].concat()).await.unwrap();
    let mut answer = vec![0; usize::from(stream.read_u16().await.unwrap())];
    stream.read_exact(&mut answer).await.unwrap();
    response(&answer, 7, &name, Kind::A).unwrap()
}

#[tokio::test]
async fn resolvers_that_cut_lie_or_fail_are_coped_with() {
    let bench = Bench::start().await;
    assert_eq!(told("www.example.org").await, found(&[1], 30));
    assert_eq!(told("cut.example.org").await, found(&[1], 30));
    assert_eq!(told("slow.example.org").await, found(&[1], 30));
    assert_eq!(told("liar.example.org").await, found(&[1], 30));
    assert_eq!(bench.forwarder.counts().mismatched, 4);
    assert_eq!(told("nobody.example.org").await, Response::Answer(Reply::empty(Code::NoName)));
    assert_eq!(told("broken.example.org").await, Response::Failure);
    let before = bench.asked();
    assert_eq!(told("nobody.example.org").await, Response::Answer(Reply::empty(Code::NoName)));
    assert_eq!(told("www.example.org").await, found(&[1], 30));
    assert_eq!(bench.asked(), before);
    // A dead resolver ahead of a live one costs one try; each try has a port of its own.
    bench.settings.send_modify(|settings| {
        Arc::make_mut(settings).upstreams.insert(0, "127.0.0.1:9".parse().unwrap());
    });
    for number in 0..20 {
        assert_eq!(told(&format!("n{number}.example.org")).await, found(&[1], 30));
    }
    assert!(bench.resolver.ports.lock().unwrap().len() > 20);
}

#[tokio::test]
async fn garden_addresses_are_open_before_the_guest_hears_of_them() {
    let bench = Bench::start().await;
    assert_eq!(told("api.pay.example.net").await, found(&[1, 2, 3, 4], 60));
    assert_eq!(bench.learned.lock().unwrap().len(), 4);
    let Response::Answer(again) = told("api.pay.example.net").await else { panic!("no answer") };
    assert_eq!((again.addresses.len(), bench.learned.lock().unwrap().len()), (4, 8));
    bench.opens.send_replace(false);
    assert_eq!(told("api.pay.example.net").await, Response::Failure);
    assert_eq!(bench.forwarder.counts().not_learned, 1);
    assert_eq!(told("www.example.org").await, found(&[1], 30));
    assert_eq!(bench.learned.lock().unwrap().len(), 12);
}
