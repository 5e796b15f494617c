use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::*;
use crate::adapters::http::bind_zones;
use crate::adapters::inbox::Envelope;

/// The intercept on the loopback interface, where there are no MACs.
struct House {
    port: u16,
    counts: Arc<Counts>,
    stop: watch::Sender<bool>,
    running: JoinHandle<Result<(), HttpError>>,
    _outlet: mpsc::Receiver<Envelope>,
}

impl House {
    fn open() -> Self {
        let zone = toml::from_str("name = \"guest\"\ninterface = \"lo\"").unwrap();
        let listeners = bind_zones(&[zone], 0).unwrap();
        let port = listeners.local_addr().unwrap().port();
        let (inbox, outlet) = Inbox::new();
        let counts = Arc::new(Counts::default());
        let (stop, stopped) = watch::channel(false);
        let portal = PortalAddress { name: None, port: 2050 };
        let running =
            tokio::spawn(run_intercept(listeners, portal, inbox, Arc::clone(&counts), stopped));
        Self { port, counts, stop, running, _outlet: outlet }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.unwrap()
    }

    /// A connection that the house knows of, and that will not go on.
    async fn idle(&self) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(b"G").await.unwrap();
        stream
    }

    /// Sends `bytes` and reads until the end; a reset ends it too.
    async fn send(&self, bytes: &[u8]) -> String {
        exchange(self.connect().await, bytes).await
    }
}

async fn exchange(mut stream: TcpStream, bytes: &[u8]) -> String {
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

fn count(what: &std::sync::atomic::AtomicU32) -> u32 {
    what.load(std::sync::atomic::Ordering::Relaxed)
}

#[tokio::test]
async fn every_request_is_shown_the_way() {
    let house = House::open();
    for request in [
        "GET /generate_204 HTTP/1.1\r\nHost: connectivitycheck.gstatic.com\r\n\r\n",
        "GET /hotspot-detect.html HTTP/1.0\r\n\r\n",
        "POST /api HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n\r\nhi",
        "PURGE http://x.example/ HTTP/1.1\r\nHost: evil\"><script>.example\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "GET /..%2f..%2fetc/passwd HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    ] {
        let answer = house.send(request.as_bytes()).await;
        assert!(
            answer.starts_with("HTTP/1.1 302 ") || answer.starts_with("HTTP/1.0 302 "),
            "{answer}"
        );
        let head = answer.to_ascii_lowercase();
        assert!(head.contains("\r\nlocation: http://127.0.0.1:2050/\r\n"), "{answer}");
        assert!(head.contains("\r\ncache-control: no-store\r\n"), "{answer}");
        assert!(head.contains("\r\nconnection: close\r\n") || answer.starts_with("HTTP/1.0"));
        assert!(!answer.contains("script") && answer.len() < 400, "{answer}");
    }
    assert_eq!(count(&house.counts.served), 7);
    let six = TcpStream::connect(("::1", house.port)).await.unwrap();
    let answer = exchange(six, b"GET / HTTP/1.1\r\nHost: [2001:db8::1]\r\n\r\n").await;
    assert!(answer.contains("location: http://[::1]:2050/\r\n"), "{answer}");
}

#[tokio::test]
async fn a_usual_request_is_answered_as_any_other() {
    let house = House::open();
    let request = "GET /generate_204 HTTP/1.1\r\nHost: a.example\r\nUser-Agent: b\r\n\r\n";
    let at_once = house.send(request.as_bytes()).await;
    let mut slow = house.connect().await;
    slow.set_nodelay(true).unwrap();
    slow.write_all(&request.as_bytes()[..10]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let in_pieces = exchange(slow, &request.as_bytes()[10..]).await;
    let parts = |answer: &str| {
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let mut lines: Vec<_> = head.lines().map(str::to_ascii_lowercase).collect();
        lines.sort();
        (lines, body.to_owned())
    };
    assert_eq!(parts(&at_once), parts(&in_pieces));
    let asked = house.send(request.replace("GET", "HEAD").as_bytes()).await;
    assert_eq!(parts(&asked), (parts(&at_once).0, String::new()));
    assert_eq!(count(&house.counts.served), 3);
}

#[test]
fn only_a_whole_plain_request_is_usual() {
    assert_eq!(usual(b"GET / HTTP/1.0\r\n\r\n"), Some(true));
    assert_eq!(usual(b"HEAD /a?b HTTP/1.1\r\nHost: c\r\n\r\n"), Some(false));
    for other in [
        "",
        "GET / HTTP/1.1\r\nHost: a\r\n",
        "GET / HTTP/1.1\r\n\r\nG",
        "POST / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        "GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nUpgrade: h2c\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET\r\n\r\n",
        "\u{16}\u{3}\u{1}",
    ] {
        assert_eq!(usual(other.as_bytes()), None, "{other}");
    }
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(HEADERS + 1));
    assert_eq!(usual(many.as_bytes()), None);
}

#[tokio::test]
async fn what_is_no_http_is_refused_and_counted() {
    let house = House::open();
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(500));
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(20_000));
    let broken: [&[u8]; 8] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nNo colon\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: bogus\r\n\r\n",
        many.as_bytes(),
        long.as_bytes(),
    ];
    for bytes in broken {
        let answer = house.send(bytes).await;
        let status = answer.get(9..12).unwrap_or("closed");
        assert!(matches!(status, "400" | "414" | "431" | "closed"), "{answer}");
    }
    assert_eq!(count(&house.counts.malformed), 8);
    assert_eq!(count(&house.counts.served), 0);
}

#[tokio::test]
async fn a_second_request_in_the_same_bytes_is_not_heard() {
    let house = House::open();
    let smuggled =
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n\
                     0\r\n\r\nGET /logout HTTP/1.1\r\nHost: a\r\n\r\n";
    let answer = house.send(smuggled).await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    let piped = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(house.send(piped).await.matches("HTTP/1.1 302").count(), 1);
}

#[tokio::test]
async fn idle_connections_of_one_source_leave_room_for_others() {
    let house = House::open();
    let mut idle = Vec::new();
    for _ in 0..400 {
        idle.push(house.idle().await);
    }
    // The 257th and later are closed at once, unheard.
    let mut last = idle.pop().unwrap();
    assert_eq!(last.read(&mut [0; 1]).await.unwrap_or(0), 0);
    assert!(count(&house.counts.refused) >= 400 - u32::from(LIMITS.per_device));
    // Another source (::1) is served meanwhile.
    let other = TcpStream::connect(("::1", house.port)).await.unwrap();
    assert!(exchange(other, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.contains(" 302 "));
    drop(idle);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(house.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.contains(" 302 "), "room again");
}

#[tokio::test]
async fn who_dribbles_is_cut_off() {
    let house = House::open();
    let mut slow = house.connect().await;
    slow.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    tokio::task::yield_now().await;
    let (mut from, mut to) = slow.split();
    let dribble = async {
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            if to.write_all(b"A: b\r\n").await.is_err() {
                break;
            }
        }
    };
    let mut answer = Vec::new();
    let cut =
        async { tokio::time::timeout(Duration::from_secs(8), from.read_to_end(&mut answer)).await };
    tokio::select! {
        cut = cut => assert!(cut.is_ok(), "still open after 8 s"),
        () = dribble => {}
    }
    assert_eq!(count(&house.counts.late), 1);
}

#[tokio::test]
async fn a_stop_closes_the_idle_and_ends_soon() {
    let house = House::open();
    let mut idle = house.idle().await;
    assert!(house.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.contains(" 302 "));
    house.stop.send(true).unwrap();
    tokio::time::timeout(Duration::from_secs(3), house.running).await.unwrap().unwrap().unwrap();
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap_or(0), 0);
    assert!(TcpStream::connect(("127.0.0.1", house.port)).await.is_err());
}

#[tokio::test]
async fn a_device_is_evidence_once_in_a_while() {
    let (inbox, mut outlet) = Inbox::new();
    let intercept = Intercept {
        portal: PortalAddress { name: Some("wifi.store".into()), port: 80 },
        inbox,
        redirects: Mutex::default(),
        seen: Mutex::default(),
    };
    let mac = Mac([2, 0, 0, 0, 0, 7]);
    let peer = Peer {
        secure: false,
        address: "2001:db8::7".parse().unwrap(),
        local: "2001:db8::1".parse().unwrap(),
        device: Some((ZoneId(3), mac)),
    };
    for _ in 0..100 {
        let response = intercept.answer(&peer);
        assert_eq!(response.headers()[LOCATION], "http://wifi.store/");
    }
    let Event::Seen(sighting) = outlet.try_recv().unwrap().event else { panic!() };
    assert_eq!((sighting.zone, sighting.mac), (ZoneId(3), mac));
    assert_eq!((sighting.address, sighting.evidence), (Some(peer.address), Evidence::Http));
    assert!(outlet.try_recv().is_err());
    intercept.answer(&Peer { device: None, ..peer });
    assert!(outlet.try_recv().is_err());
}

#[test]
fn evidence_is_remembered_in_bounds() {
    let mut seen = Seen::default();
    let mac = |n: u32| {
        let [a, b, c, d] = n.to_be_bytes();
        Mac([2, 0, a, b, c, d])
    };
    let flooded = (0..100_000).filter(|n| seen.due(mac(*n), BootTime(10_000))).count();
    assert_eq!((flooded, seen.0.len()), (SEEN_AT_ONCE, SEEN_AT_ONCE));
    assert!(seen.due(mac(200_000), BootTime(15_000)), "old ones make room");
    assert!(!seen.due(mac(200_000), BootTime(19_999)));
    assert!(seen.due(mac(200_000), BootTime(20_000)));
}

#[test]
fn redirects_are_kept_in_bounds() {
    let (inbox, _outlet) = Inbox::new();
    let intercept = Intercept {
        portal: PortalAddress { name: Some("bad\r\nname".into()), port: 80 },
        inbox,
        redirects: Mutex::default(),
        seen: Mutex::default(),
    };
    let address = |n: u8| -> SocketAddr { ([192, 0, 2, n], 1).into() };
    assert!(intercept.redirect(address(1).ip()).is_none(), "no header is split");
    let intercept = Intercept { portal: PortalAddress { name: None, port: 1 }, ..intercept };
    for n in 0..200 {
        assert!(intercept.redirect(address(n).ip()).is_some());
    }
    assert!(intercept.redirects.lock().unwrap().len() <= REDIRECTS);
}
