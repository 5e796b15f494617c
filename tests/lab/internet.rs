//! The internet: a web server, a name server that knows every name, echoes and a sink, on IPv4
//! and IPv6.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use maitred::domain::probe::{CHECKS, Online};

use super::netns::Netns;
use super::run::Background;

/// Where the web server and the echoes are: every name leads here.
pub const WEB_V4: &str = "203.0.113.80";
/// See [`WEB_V4`].
pub const WEB_V6: &str = "2001:db8:203::80";
/// The name server.
pub const DNS_V4: &str = "203.0.113.53";

/// What the uplink leads to.
#[derive(Debug)]
pub struct Internet {
    /// Its namespace.
    pub netns: Netns,
    received: Arc<AtomicUsize>,
    captive: Arc<AtomicBool>,
    name_server: Background,
}

impl Internet {
    /// TCP and UDP port that echoes.
    pub const ECHO: u16 = 7;
    /// UDP port that only counts.
    pub const SINK: u16 = 9;
    /// UDP port that answers a datagram with a stream: one a millisecond, for 10 s.
    pub const STREAM: u16 = 19;

    /// Wires it to the router's `wan` and starts its servers.
    pub(super) fn new(netns: Netns, router: &Netns, folder: &Path) -> Self {
        wire(&netns, router);
        let name_server = netns.spawn(
            &[
                "dnsmasq",
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--user=root",
                "--pid-file=",
                "--no-resolv",
                "--no-hosts",
                "--bind-interfaces",
                &format!("--listen-address={DNS_V4}"),
                &format!("--address=/#/{WEB_V4}"),
                &format!("--address=/#/{WEB_V6}"),
            ],
            &folder.join("internet-dns.log"),
        );
        let received = Arc::new(AtomicUsize::new(0));
        let captive = Arc::new(AtomicBool::new(false));
        netns.within(|| {
            for address in [WEB_V4, WEB_V6] {
                let captive = Arc::clone(&captive);
                let web = move |stream: &TcpStream| web(stream, &captive);
                serve_tcp(TcpListener::bind((address, 80)).unwrap(), web);
                serve_tcp(TcpListener::bind((address, Self::ECHO)).unwrap(), echo);
                serve_udp(UdpSocket::bind((address, Self::ECHO)).unwrap(), &received);
                serve_udp(UdpSocket::bind((address, Self::SINK)).unwrap(), &received);
                serve_udp(UdpSocket::bind((address, Self::STREAM)).unwrap(), &received);
            }
        });
        Self { netns, received, captive, name_server }
    }

    /// Puts a portal of the provider's before the web.
    pub fn be_captive(&self) {
        self.captive.store(true, Ordering::Relaxed);
    }

    /// Datagrams that have arrived, on all ports.
    pub fn received(&self) -> usize {
        self.received.load(Ordering::Relaxed)
    }
}

fn wire(netns: &Netns, router: &Netns) {
    let quick = ["net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0"];
    netns.sysctl(&quick);
    router.sysctl(&quick);
    router.ip(&format!(
        "link add wan type veth peer name eth0 netns {}
         addr add 198.51.100.2/24 dev wan
         addr add 2001:db8:100::2/64 dev wan nodad
         link set wan up",
        netns.name()
    ));
    netns.ip(&format!(
        "addr add 198.51.100.1/24 dev eth0
         addr add 2001:db8:100::1/64 dev eth0 nodad
         link set eth0 up
         addr add {WEB_V4}/32 dev lo
         addr add {DNS_V4}/32 dev lo
         addr add {WEB_V6}/128 dev lo nodad
         route add 2001:db8:77::/64 via 2001:db8:100::2
         route add 2001:db8:79::/64 via 2001:db8:100::2"
    ));
    router.ip("route add default via 198.51.100.1
         route add default via 2001:db8:100::1");
}

fn serve_tcp(listener: TcpListener, serve: impl Fn(&TcpStream) + Clone + Send + 'static) {
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            thread::spawn(move || serve(&stream));
        }
    });
}

fn web(mut stream: &TcpStream, captive: &AtomicBool) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let mut lines = BufReader::new(stream).lines();
    let Some(Ok(request)) = lines.next() else { return };
    let host = lines
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
        .find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("host").then(|| value.to_owned())
        })
        .unwrap_or_default();
    if captive.load(Ordering::Relaxed) {
        let _ = stream.write_all(PROVIDERS_PORTAL);
        return;
    }
    let path = request.split(' ').nth(1).unwrap_or_default();
    let check = CHECKS.iter().find(|check| check.host == host && check.path == path);
    let (status, body) = match check.map(|check| check.online) {
        Some(Online::NoContent) => ("204 No Content", String::new()),
        Some(Online::Body(body)) => ("200 OK", body.to_owned()),
        Some(Online::Holds(mark)) => ("200 OK", format!("<html><!-- {mark} --></html>")),
        None => (
            "200 OK",
            format!(
                "<!doctype html><html lang=\"en\"><title>Internet</title>\
                 <link rel=\"icon\" href=\"data:,\">\
                 <p>This is the internet: {host}: {request}</p></html>\n"
            ),
        ),
    };
    // RFC 9110, 8.6: a 204 has no length.
    let length = match body.len() {
        0 => String::new(),
        length => format!("Content-Type: text/html\r\nContent-Length: {length}\r\n"),
    };
    let head = format!("HTTP/1.1 {status}\r\n{length}Connection: close\r\n\r\n");
    let _ = stream.write_all((head + &body).as_bytes());
}

const PROVIDERS_PORTAL: &[u8] =
    b"HTTP/1.1 302 Found\r\nLocation: http://login.provider.example/\r\n\
    Content-Length: 0\r\nConnection: close\r\n\r\n";

fn echo(mut stream: &TcpStream) {
    let mut bytes = [0; 2048];
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        if stream.write_all(&bytes[..count]).is_err() {
            return;
        }
    }
}

fn serve_udp(socket: UdpSocket, received: &Arc<AtomicUsize>) {
    let received = Arc::clone(received);
    let port = socket.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut bytes = [0; 2048];
        while let Ok((count, peer)) = socket.recv_from(&mut bytes) {
            received.fetch_add(1, Ordering::Relaxed);
            match port {
                Internet::ECHO => drop(socket.send_to(&bytes[..count], peer)),
                Internet::STREAM => {
                    let socket = socket.try_clone().unwrap();
                    thread::spawn(move || {
                        for _ in 0..10_000 {
                            let _ = socket.send_to(b"stream", peer);
                            thread::sleep(Duration::from_millis(1));
                        }
                    });
                }
                _ => {}
            }
        }
    });
}
