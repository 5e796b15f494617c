//! The guests' interfaces as the kernel has them, and questions to the devices on them.

mod links;
mod solicit;

use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{debug, info, warn};

pub use links::{Link, Links, LinksError, Prefix, watch};
pub use solicit::{SolicitError, Solicitor};

use crate::adapters::capture::Captures;
use crate::adapters::memory;
use crate::domain::names::{Mac, ZoneId};

/// How often capture is looked after when no interface changes: its threads may end by themselves.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Knows the zones' interfaces, for questions to their devices.
#[derive(Debug)]
pub struct Neighbours {
    /// By zone.
    interfaces: Vec<String>,
    links: watch::Receiver<Links>,
    solicitor: Solicitor,
}

impl Neighbours {
    /// Over the interfaces of all zones, in the zones' order.
    pub fn new(
        interfaces: Vec<String>,
        links: watch::Receiver<Links>,
    ) -> Result<Self, SolicitError> {
        Ok(Self { interfaces, links, solicitor: Solicitor::open()? })
    }

    /// Asks a silent device whether it is there. Never waits; a question that cannot be sent is
    /// a device that will not answer.
    pub fn solicit(&self, zone: ZoneId, mac: Mac, addresses: &[IpAddr]) {
        let Some(interface) = self.interfaces.get(usize::from(zone.0)) else { return };
        let links = self.links.borrow();
        let Some(link) = links.get(interface) else { return };
        match self.solicitor.ask(link, mac, addresses) {
            Ok(questions) => debug!(%mac, questions, "asked a silent device"),
            Err(error) => warn!(%error, interface, "cannot ask silent devices"),
        }
    }
}

/// Keeps capture on the zones' interfaces while they come, go and change, until `stop`; what it
/// knows is passed on through `known`.
pub async fn keep_listening(
    interfaces: Vec<String>,
    mut captures: Captures,
    known: watch::Sender<Links>,
    mut stop: watch::Receiver<bool>,
) {
    let mut news = None;
    loop {
        if news.is_none() {
            news = watch(interfaces.clone())
                .inspect_err(|error| warn!(%error, "cannot follow the interfaces"))
                .ok();
        }
        let links = news.as_mut().map(|links| links.borrow_and_update().clone());
        if let Some(links) = links {
            for (zone, error) in captures.follow(&links) {
                warn!(zone = zone.0, %error, "cannot listen on the zone's interface");
            }
            known.send_if_modified(|before| {
                let changed = *before != links;
                if changed {
                    info!(interfaces = ?links.keys().collect::<Vec<_>>(), "interfaces changed");
                }
                *before = links;
                changed
            });
        }
        let changed = async {
            match &mut news {
                Some(links) => links.changed().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            alive = changed => if !alive { news = None },
            () = memory::beat(LOOK_EVERY) => {}
        }
    }
}
