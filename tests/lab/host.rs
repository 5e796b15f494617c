//! A host that uses the network as people do: curl, ping, sockets.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use maitred::clock;

use super::netns::Netns;
use super::page::Reply;

/// A host in its namespace, with a browser's cookie jar.
#[derive(Debug)]
pub struct Host {
    /// Its namespace.
    pub netns: Netns,
    pub(super) jar: PathBuf,
}

impl Host {
    /// Asks for a page; follows nothing. Fails the test without an answer.
    #[track_caller]
    pub fn get(&self, url: &str) -> Reply {
        self.curl(url, &[]).unwrap_or_else(|error| panic!("GET {url}: {error}"))
    }

    /// Asks for a page; `Err` says why curl got no answer.
    pub fn try_get(&self, url: &str) -> Result<Reply, String> {
        self.curl(url, &[])
    }

    /// Asks for a page in a language.
    #[track_caller]
    pub fn get_in(&self, language: &str, url: &str) -> Reply {
        let header = format!("Accept-Language: {language}");
        self.curl(url, &["-H", &header]).unwrap_or_else(|error| panic!("GET {url}: {error}"))
    }

    /// Posts a form; follows nothing.
    #[track_caller]
    pub fn post(&self, url: &str, fields: &[(&str, &str)]) -> Reply {
        let fields: Vec<String> =
            fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut args = vec!["-X", "POST"];
        for field in &fields {
            args.extend(["--data-urlencode", field]);
        }
        self.curl(url, &args).unwrap_or_else(|error| panic!("POST {url}: {error}"))
    }

    /// Fills in the page's form that posts to `action` and follows where the answer leads.
    #[track_caller]
    pub fn submit(&self, page: &Reply, action: &str, fields: &[(&str, &str)]) -> Reply {
        let (url, hidden) = page.filled(action);
        let mut all: Vec<(&str, &str)> =
            hidden.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        all.extend(fields);
        self.follow(self.post(&url, &all))
    }

    /// Follows redirects, five at most, to a page.
    #[track_caller]
    pub fn follow(&self, mut reply: Reply) -> Reply {
        for _ in 0..5 {
            if !(300..400).contains(&reply.status) {
                return reply;
            }
            reply = self.get(&reply.location());
        }
        panic!("too many redirects: {reply:#?}");
    }

    /// Sends so many pings 200 ms apart; says how many came back.
    pub fn ping(&self, address: &str, count: u32) -> u32 {
        let count = count.to_string();
        let args = ["ping", "-n", "-q", "-i", "0.2", "-W", "1", "-c", &count, address];
        received(&self.netns.exec(&args).stdout)
    }

    /// Opens a TCP connection, 3 s at most; what came of it, and after how many milliseconds.
    pub fn connect(&self, address: &str, port: u16) -> (Result<TcpStream, ErrorKind>, u64) {
        let address = SocketAddr::new(address.parse::<IpAddr>().unwrap(), port);
        self.netns.within(|| {
            let start = clock::boot().0;
            let stream = TcpStream::connect_timeout(&address, Duration::from_secs(3));
            (stream.map_err(|error| error.kind()), clock::boot().0 - start)
        })
    }

    /// A UDP socket connected to a place, with a read time-out of 2 s.
    pub fn udp(&self, address: &str, port: u16) -> UdpSocket {
        let address = SocketAddr::new(address.parse::<IpAddr>().unwrap(), port);
        let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        self.netns.within(|| {
            let socket = UdpSocket::bind(any).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            socket.connect(address).unwrap();
            socket
        })
    }

    /// Asks with curl's own arguments; follows nothing. `Err` says why there was no answer.
    pub fn curl(&self, url: &str, args: &[&str]) -> Result<Reply, String> {
        let jar = self.jar.to_str().unwrap();
        let common = ["curl", "-sS", "-i", "-g", "--max-time", "5", "-b", jar, "-c", jar];
        let output = self.netns.exec(&[&common, args, &[url]].concat());
        if !output.success {
            return Err(output.stderr);
        }
        Ok(Reply::parse(url, &output.stdout))
    }
}

/// How many echoes `ping` saw, by its summary.
pub(super) fn received(summary: &str) -> u32 {
    let words: Vec<&str> = summary.split([' ', ',']).collect();
    let place = words.iter().position(|word| *word == "received");
    place.and_then(|place| words[place - 1].parse().ok()).unwrap_or(0)
}

/// Sends a line and reads it back.
pub fn echoes(stream: &mut TcpStream) -> std::io::Result<bool> {
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"still there?")?;
    let mut bytes = [0; 12];
    stream.read_exact(&mut bytes)?;
    Ok(&bytes == b"still there?")
}
