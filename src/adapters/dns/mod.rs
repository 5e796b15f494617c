//! DNS for guests who are not online yet: a forwarder that knows the portal and the garden, and
//! through which no tunnel is worth its while.
//!
//! A task a socket hears questions; what must wait for a resolver or the kernel waits in a task of
//! its own, as many as there are permits. What to do is decided by [`policy`], without sockets.

mod budget;
mod cache;
mod forwarder;
mod listen;
mod names;
mod policy;
mod seats;
mod settings;
mod socket;
mod stream;
mod upstream;

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::task::JoinSet;
use tracing::debug;

pub use forwarder::Forwarder;
pub use listen::{Listeners, bind};
pub use policy::Counts;
pub use settings::{Placeholder, Settings, ZoneSettings, resolvers};

use crate::domain::garden::Garden;
use crate::domain::names::{Mac, ZoneId};
use crate::wire::dns::LONGEST_QUESTION;
use forwarder::Step;
use socket::{GuestSocket, Sockets};

/// What failed.
#[derive(Debug, Error)]
pub enum DnsError {
    /// A socket on a guest interface.
    #[error("{what} port {port} on {interface}: {source}")]
    Bind {
        /// UDP or TCP.
        what: &'static str,
        /// The interface.
        interface: String,
        /// The port.
        port: u16,
        /// The reason.
        source: std::io::Error,
    },
}

/// Garden addresses could not be opened: the guest is told that his question failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the addresses were not opened")]
pub struct NotLearned;

/// Ends once the kernel lets those reach the addresses whose garden it is.
pub type Learning = Pin<Box<dyn Future<Output = Result<(), NotLearned>> + Send>>;

/// What the forwarder asks of the rest of the house.
pub struct Hooks {
    /// Opens garden addresses for at least ten minutes from now. Called before every answer that
    /// carries them, so that they are renewed while they are in use.
    pub learn: Box<dyn Fn(Garden, Vec<IpAddr>) -> Learning + Send + Sync>,
    /// The device that an address belongs to, if a table in memory says so. Budgets are a device's
    /// where this is known, so that more addresses (IPv6 gives a device as many as it likes) bring
    /// no more bytes; where it is not, they are an address's.
    pub device: Box<dyn Fn(ZoneId, IpAddr) -> Option<Mac> + Send + Sync>,
    /// A device sent a datagram from there to this address of ours and awaits no answer any more. If it
    /// is online by now, its flow should end: it was to go elsewhere, and would come here for as long
    /// as the guest uses that port. Must not block.
    pub asked: Box<dyn Fn(ZoneId, Mac, SocketAddr, IpAddr) + Send + Sync>,
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hooks")
    }
}

/// Serves one zone for as long as it is polled.
async fn serve(forwarder: Arc<Forwarder>, sockets: Sockets) {
    let mut tasks = JoinSet::new();
    for udp in sockets.udp {
        tasks.spawn(serve_datagrams(Arc::clone(&forwarder), sockets.zone, Arc::new(udp)));
    }
    for listener in sockets.tcp {
        tasks.spawn(stream::serve(Arc::clone(&forwarder), sockets.zone, listener));
    }
    while tasks.join_next().await.is_some() {}
}

async fn serve_datagrams(forwarder: Arc<Forwarder>, zone: ZoneId, socket: Arc<GuestSocket>) {
    let mut waiting = JoinSet::new();
    // One byte more than a question may have: what fills it was longer.
    let mut buffer = [0; LONGEST_QUESTION + 1];
    loop {
        while waiting.try_join_next().is_some() {}
        let (length, path) = match socket.receive(&mut buffer).await {
            Ok(received) => received,
            Err(problem) => {
                debug!(%problem, "hearing guests' DNS failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        match forwarder.begin(zone, path.peer.ip(), &buffer[..length]) {
            Step::Send(bytes) => send(&socket, &bytes, &path),
            Step::Wait(question) => {
                let (forwarder, socket) = (Arc::clone(&forwarder), Arc::clone(&socket));
                waiting.spawn(async move {
                    if let Some(bytes) = forwarder.finish(question).await {
                        send(&socket, &bytes, &path);
                    }
                    forwarder.done(zone, path.peer, path.ours());
                });
                continue;
            }
            Step::Nothing => {}
        }
        forwarder.done(zone, path.peer, path.ours());
    }
}

fn send(socket: &GuestSocket, bytes: &[u8], path: &socket::Path) {
    if let Err(problem) = socket.send(bytes, path) {
        debug!(%problem, "an answer to a guest was lost");
    }
}

#[cfg(test)]
mod tests;
