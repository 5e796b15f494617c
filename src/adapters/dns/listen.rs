//! Sockets on the zones' interfaces, kept there while these come, go and are made again.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use nix::net::if_::if_nametoindex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::socket::{Sockets, bind_zone};
use super::{DnsError, Forwarder, serve};
use crate::adapters::neighbours::Links;
use crate::domain::names::ZoneId;

/// A port that could not be taken again is tried again after this long.
const RETRY: Duration = Duration::from_secs(1);

/// The sockets of all zones.
#[derive(Debug)]
pub struct Listeners(Vec<Listener>);

/// A zone's sockets and the number of the interface that they are tied to; none while it is
/// missing.
#[derive(Debug)]
struct Listener {
    zone: ZoneId,
    interface: String,
    port: u16,
    index: Option<u32>,
    sockets: Option<Sockets>,
}

/// Binds to the interfaces of zones that are there; the others are waited for. See [`bind_zone`].
pub fn bind(
    zones: impl IntoIterator<Item = (ZoneId, String)>,
    port: u16,
) -> Result<Listeners, DnsError> {
    let mut all = Vec::new();
    for (zone, interface) in zones {
        // Read first: if the interface is made again in between, the next news of it tells.
        let index = if_nametoindex(interface.as_str()).ok();
        if index.is_none() {
            warn!(interface, port, "the interface is missing: waiting for it");
        }
        let sockets = index.map(|_| bind_zone(zone, &interface, port)).transpose()?;
        all.push(Listener { zone, interface, port, index, sockets });
    }
    Ok(Listeners(all))
}

impl Listeners {
    /// Serves until `stop` turns true; answers that wait for a resolver then are not given.
    pub async fn run(
        self,
        forwarder: Arc<Forwarder>,
        links: watch::Receiver<Links>,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut zones = JoinSet::new();
        for listener in self.0 {
            zones.spawn(listener.keep_serving(Arc::clone(&forwarder), links.clone()));
        }
        let _ = stop.wait_for(|stop| *stop).await;
    }
}

impl Listener {
    async fn keep_serving(mut self, forwarder: Arc<Forwarder>, mut links: watch::Receiver<Links>) {
        loop {
            let sockets = self.sockets.take();
            let served = async {
                match sockets {
                    Some(sockets) => serve(Arc::clone(&forwarder), sockets).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = served => {}
                () = moved(&mut links, &self.interface, self.index) => {}
            }
            while !self.rebind(&mut links) {
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    /// Ties itself to the interface as it now is. False if that should be tried again.
    fn rebind(&mut self, links: &mut watch::Receiver<Links>) -> bool {
        self.index = links.borrow_and_update().get(&self.interface).map(|link| link.index);
        if self.index.is_none() {
            return true;
        }
        let (interface, port) = (&self.interface, self.port);
        match bind_zone(self.zone, interface, port) {
            Ok(sockets) => {
                info!(interface, port, "listening on the interface");
                self.sockets = Some(sockets);
                true
            }
            Err(problem) => {
                warn!(interface, %problem, "cannot listen on the interface");
                false
            }
        }
    }
}

/// Ends when the interface goes, comes, or is another than that with this number.
async fn moved(links: &mut watch::Receiver<Links>, interface: &str, index: Option<u32>) {
    while links.changed().await.is_ok() {
        if links.borrow_and_update().get(interface).map(|link| link.index) != index {
            return;
        }
    }
    // Nobody follows the interfaces any more: the daemon is stopping.
    pending::<()>().await;
}
