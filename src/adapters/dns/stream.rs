//! Questions over TCP (RFC 7766): few connections, few questions on each, little patience.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::debug;

use super::forwarder::{Forwarder, Step};
use super::seats::Seats;
use crate::domain::names::ZoneId;
use crate::wire::dns::LONGEST_QUESTION;

/// Connections at once on a listener; more are closed unheard.
const MOST_CONNECTIONS: usize = 128;
/// Connections of one address among them.
const MOST_PER_ADDRESS: usize = 4;
/// Questions on a connection.
const MOST_QUESTIONS: usize = 16;
/// Time from the beginning of a connection to its end.
const LIFETIME: Duration = Duration::from_secs(10);

/// Accepts connections for as long as it is polled.
pub(super) async fn serve(forwarder: Arc<Forwarder>, zone: ZoneId, listener: TcpListener) {
    let (mut connections, seats) = (JoinSet::new(), Seats::new(MOST_CONNECTIONS, MOST_PER_ADDRESS));
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, peer)) => {
                let Some(seat) = seats.take(peer.ip()) else { continue };
                let forwarder = Arc::clone(&forwarder);
                connections.spawn(async move {
                    let talk = converse(&forwarder, zone, peer.ip(), stream);
                    let _ = timeout(LIFETIME, talk).await;
                    drop(seat);
                });
            }
            Err(problem) => {
                debug!(%problem, "accepting guests' DNS failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(
    forwarder: &Arc<Forwarder>,
    zone: ZoneId,
    peer: IpAddr,
    mut stream: TcpStream,
) -> io::Result<()> {
    let mut buffer = [0; LONGEST_QUESTION];
    for _ in 0..MOST_QUESTIONS {
        let length = usize::from(stream.read_u16().await?);
        let Some(question) = buffer.get_mut(..length) else { break };
        stream.read_exact(question).await?;
        let answer = match forwarder.begin(zone, peer, question) {
            Step::Send(bytes) => Some(bytes),
            Step::Wait(waiting) => forwarder.finish(waiting).await,
            Step::Nothing => None,
        };
        let Some(answer) = answer else { break };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes()[..], &answer].concat()).await?;
    }
    Ok(())
}
