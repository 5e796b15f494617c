//! Asking a resolver. Each try has a socket of its own, connected, so that the kernel picks a fresh
//! random port and drops what other hosts send (RFC 5452).

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::wire::dns::{Kind, Malformed, Name, Reply, Response, query, response};

/// Time for one try, TCP included.
const TRY: Duration = Duration::from_secs(2);
/// Tries for a question, each of the next resolver.
const TRIES: usize = 2;
/// Wrong answers in one try after which it is given up: somebody is guessing.
const MOST_WRONG: u32 = 8;
/// The longest answer that is read, bytes: a datagram without EDNS has 512, TCP may carry more.
const LONGEST_UDP: usize = 1500;
const LONGEST_TCP: usize = 8192;

/// What came of asking.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// The first usable answer.
    pub answer: Option<Reply>,
    /// Datagrams that were no answer to the question.
    pub mismatched: u32,
}

/// Asks the resolvers in turn until one answers.
pub(super) async fn ask(upstreams: &[SocketAddr], name: &Name, family: Kind) -> Asked {
    let mut asked = Asked::default();
    for upstream in upstreams.iter().cycle().take(TRIES.min(upstreams.len() * TRIES)) {
        let one = one_try(*upstream, name, family, &mut asked.mismatched);
        if let Ok(Ok(Response::Answer(reply))) = timeout(TRY, one).await {
            asked.answer = Some(reply);
            break;
        }
    }
    asked
}

async fn one_try(
    upstream: SocketAddr,
    name: &Name,
    family: Kind,
    mismatched: &mut u32,
) -> io::Result<Response> {
    let id = u16::try_from(getrandom::u32().map_err(io::Error::other)? >> 16).unwrap_or(0);
    let question = query(id, name, family);
    let socket = UdpSocket::bind(any_port(upstream)).await?;
    socket.connect(upstream).await?;
    socket.send(&question).await?;
    let mut buffer = vec![0; LONGEST_UDP];
    for _ in 0..MOST_WRONG {
        let length = socket.recv(&mut buffer).await?;
        match response(&buffer[..length], id, name, family) {
            Ok(Response::Truncated) => return by_tcp(upstream, &question, id, name, family).await,
            Ok(other) => return Ok(other),
            Err(_) => *mismatched += 1,
        }
    }
    Ok(Response::Failure)
}

/// RFC 7766: the same question, its length before it.
async fn by_tcp(
    upstream: SocketAddr,
    question: &[u8],
    id: u16,
    name: &Name,
    family: Kind,
) -> io::Result<Response> {
    let mut stream = TcpStream::connect(upstream).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
    let length = usize::from(stream.read_u16().await?);
    if length > LONGEST_TCP {
        return Ok(Response::Failure);
    }
    let mut buffer = vec![0; length];
    stream.read_exact(&mut buffer).await?;
    response(&buffer, id, name, family).map_err(unreadable)
}

fn any_port(upstream: SocketAddr) -> SocketAddr {
    match upstream {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

fn unreadable(problem: Malformed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}
