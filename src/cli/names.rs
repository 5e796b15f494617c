//! The DNS forwarder in the running daemon: what it asks of the house, and what it is told.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::adapters::capture::Known;
use crate::adapters::dns::{
    self, DnsError, Forwarder, Hooks, Listeners, NotLearned, Placeholder, Settings, ZoneSettings,
};
use crate::adapters::neighbours::Links;
use crate::adapters::{firewall, memory, uplink};
use crate::config::{Config, garden};
use crate::domain::names::ZoneId;

/// How often the system's resolvers and routes are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The forwarder, its sockets, and what keeps it informed.
pub(super) struct Names {
    config: Config,
    links: watch::Receiver<Links>,
    listeners: Listeners,
    forwarder: Arc<Forwarder>,
    told: watch::Sender<Arc<Settings>>,
}

impl Names {
    /// Binds the sockets; nobody is answered before [`Self::run`].
    pub(super) fn open(
        config: &Config,
        table: &firewall::Handle,
        known: Known,
        links: &watch::Receiver<Links>,
    ) -> Result<Self, DnsError> {
        let (open_garden, redirections) = (table.garden(), table.redirections());
        let hooks = Hooks {
            learn: Box::new(move |whose, addresses| {
                let garden = open_garden.clone();
                Box::pin(
                    async move { garden.learn(whose, addresses).await.map_err(|_| NotLearned) },
                )
            }),
            device: Box::new(move |zone, address| known.device(zone, address)),
            asked: Box::new(move |zone, mac, guest, ours| redirections.end(zone, mac, guest, ours)),
        };
        let interfaces = config.zone.iter().map(|zone| zone.interface.clone());
        let listeners = dns::bind((0..).map(ZoneId).zip(interfaces), config.dns.port)?;
        let (told, heard) = watch::channel(Arc::new(settings(config, &links.borrow())));
        let forwarder = Forwarder::new(heard, hooks);
        Ok(Self { config: config.clone(), links: links.clone(), listeners, forwarder, told })
    }

    /// For whoever reads its counts.
    pub(super) fn forwarder(&self) -> Arc<Forwarder> {
        Arc::clone(&self.forwarder)
    }

    /// Serves until `closed`.
    pub(super) async fn run(self, closed: watch::Receiver<bool>) {
        let Self { config, mut links, listeners, forwarder, told } = self;
        let informed = links.clone();
        let inform = async move {
            loop {
                let now = settings(&config, &links.borrow_and_update());
                told.send_if_modified(|before| {
                    let changed = **before != now;
                    *before = Arc::new(now);
                    changed
                });
                // They are followed no more while the daemon is stopping.
                tokio::select! {
                    Ok(()) = links.changed() => {}
                    () = memory::beat(LOOK_EVERY) => {}
                }
            }
        };
        tokio::select! {
            () = listeners.run(forwarder, informed, closed) => {}
            () = inform => {}
        }
    }
}

fn settings(config: &Config, links: &Links) -> Settings {
    let zones = (0..).map(ZoneId).zip(&config.zone).map(|(id, zone)| {
        let prefixes = links.get(&zone.interface).map_or(&[][..], |link| &link.addresses);
        ZoneSettings {
            zone: id,
            addresses: prefixes.iter().map(|prefix| prefix.address).collect(),
            garden: garden::names(&zone.walled_garden).cloned().collect(),
        }
    });
    let app = config.pass.iter().flat_map(|pass| garden::names(&pass.garden));
    Settings {
        portal: config.portal.name.as_deref().and_then(|name| name.parse().ok()),
        zones: zones.collect(),
        app: app.cloned().collect(),
        upstreams: resolvers(config),
        wan_down: !uplink::has_default_route(),
        placeholder: config.dns.placeholder.then(Placeholder::default),
        private_answers: config.dns.private_answers,
    }
}

/// Those of the configuration, or of the system; the router's own if that names none
/// (`resolv.conf(5)`).
fn resolvers(config: &Config) -> Vec<SocketAddr> {
    let mut found: Vec<_> = config.dns.upstreams.iter().map(|resolver| resolver.0).collect();
    if found.is_empty() {
        found = dns::resolvers(&fs::read_to_string(RESOLV_CONF).unwrap_or_default());
    }
    if found.is_empty() {
        found.push((Ipv4Addr::LOCALHOST, 53).into());
    }
    found
}
