//! The kernel's table: rendered rarely, changed by set elements, always confirmed.
//!
//! Three threads share no state but the kernel: one carries out the domain's effects in order,
//! one forgets connections (a walk over conntrack must delay nobody), one watches for others who
//! delete our table.

mod conntrack;
mod fixed;
mod flows;
mod forward;
mod garden;
mod monitor;
mod parts;
mod pass;
mod ruleset;
mod sessions;
mod socket;
mod table;
mod worker;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;

use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

pub use conntrack::Redirections;
pub use ruleset::{Plan, ZonePlan};
pub use socket::NetfilterError;

use crate::adapters::inbox::Inbox;
use crate::config::{Config, OnStop, garden as places};
use crate::domain::effect::Firewall;
use crate::domain::garden::Garden as Whose;
use crate::domain::saved::Live;
use socket::Netfilter;
use worker::Order;

/// Orders that may wait for the kernel at once.
const ORDERS: usize = 4096;

/// What failed.
#[derive(Debug, Error)]
pub enum FirewallError {
    /// A netlink request.
    #[error(transparent)]
    Netfilter(#[from] NetfilterError),
    /// The table stands, but not as it was asked for.
    #[error("the kernel's table differs from ours: {0}")]
    Differs(String),
    /// The table belongs to another process that runs.
    #[error("the table belongs to another process: is maitred running already?")]
    Owned,
    /// The kernel would drop half of what limits an element without a word.
    #[error(
        "this kernel is too old: its nf_tables cannot hold guests' limits (5.15 can, 5.10 cannot)"
    )]
    TooOld,
    /// Packets may go round the table.
    #[error(
        "flow offload is on ({0}): it takes guests' packets past their limits. Turn it off \
         (flow_offloading in OpenWrt's firewall), or set firewall.allow_flow_offload"
    )]
    FlowOffload(String),
    /// A thread could not be started, or a socket not be opened.
    #[error("starting the firewall: {0}")]
    Start(#[from] std::io::Error),
}

/// What was there when we opened the table.
#[derive(Debug)]
pub enum Found {
    /// Our table as we would build it, with these sessions.
    Ours(Vec<Live>),
    /// Nothing, or something else: the table was built anew and lets nobody in. It counts as nothing
    /// until a [`Firewall::Rebuild`]: whoever dies before that leaves no table that has forgotten
    /// its guests.
    Nothing,
}

impl Found {
    /// The sessions that the table holds; `None` if it is new.
    pub fn sessions(self) -> Option<Vec<Live>> {
        match self {
            Self::Ours(live) => Some(live),
            Self::Nothing => None,
        }
    }
}

/// Garden addresses could not be opened: the table refused them, or is busy, or gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the addresses were not opened")]
pub struct NotOpened;

/// Opens garden addresses; for the DNS forwarder, which knows their names.
#[derive(Debug, Clone)]
pub struct Garden(mpsc::Sender<Order>);

impl Garden {
    /// Opens addresses to those whose garden it is, for [`garden::LEARNED_FOR`] from now or from
    /// the last packet that a guest sends there. Ends once the kernel has confirmed it.
    pub async fn learn(&self, whose: Whose, addresses: Vec<IpAddr>) -> Result<(), NotOpened> {
        let (done, confirmed) = oneshot::channel();
        self.0.try_send(Order::Learn { whose, addresses, done }).map_err(|_| NotOpened)?;
        confirmed.await.map_err(|_| NotOpened)?
    }
}

/// The way to the firewall's threads.
#[derive(Debug)]
pub struct Handle {
    orders: mpsc::Sender<Order>,
    worker: JoinHandle<()>,
    redirections: Redirections,
}

/// Builds or adopts the table and starts the threads. From here on guests' traffic is decided.
pub fn open(plan: Plan, inbox: Inbox) -> Result<(Handle, Found), FirewallError> {
    let mut kernel = Netfilter::open()?;
    let plan = Arc::new(worker::own(&mut kernel, plan)?);
    let found = worker::adopt_or_build(&mut kernel, &plan)?;
    let (forget, forgotten) = sync_channel(ORDERS);
    let redirections = Redirections::new(Arc::clone(&plan), forget.clone());
    // Whether a session stands alone in `up` is not in question here.
    let (mut forgetting, mask) = (Netfilter::open()?, plan.mark_mask ^ plan.sole_bit());
    std::thread::Builder::new()
        .name("conntrack".into())
        .spawn(move || conntrack::forget_each(&mut forgetting, mask, &forgotten))?;
    worker::watch(kernel.port(), Arc::clone(&plan), inbox.clone())?;
    // Unlike the standard one, this channel takes memory only for what waits in it.
    let (orders, queue) = mpsc::channel(ORDERS);
    let worker = std::thread::Builder::new()
        .name("firewall".into())
        .spawn(move || worker::Worker::new(kernel, plan, forget, inbox).run(queue))?;
    Ok((Handle { orders, worker, redirections }, found))
}

/// For a start that comes to nothing before the table is opened: puts up one that lets nobody out of
/// these interfaces, if none of ours stands. The next start takes its place.
pub fn wall_off(interfaces: impl IntoIterator<Item = String>) -> Result<(), FirewallError> {
    let mut kernel = Netfilter::open()?;
    if kernel.table(ruleset::TABLE)?.is_some() {
        return Ok(());
    }
    let plan = worker::own(&mut kernel, Plan::closed(interfaces))?;
    worker::build_closed(&mut kernel, &plan, &BTreeSet::new())
}

/// An error if packets may go round the table, unless that is allowed.
pub fn refuse_flow_offload(allowed: bool) -> Result<(), FirewallError> {
    worker::refuse_flow_offload(&mut Netfilter::open()?, allowed)
}

/// Whether a table of ours is there, whoever holds it; changes nothing.
pub fn is_standing() -> Result<bool, FirewallError> {
    Ok(Netfilter::open()?.table(ruleset::TABLE)?.is_some())
}

/// The flow tables there are, as `name of table name`; changes nothing.
pub fn flow_tables() -> Result<Vec<String>, FirewallError> {
    worker::flow_tables(&mut Netfilter::open()?)
}

impl Handle {
    /// Queues an effect; its outcome comes back as an event. Gives it back if the queue is full.
    #[allow(clippy::result_large_err, reason = "the effect comes back, to be owed or undone")]
    pub fn submit(&self, effect: Firewall) -> Result<(), Firewall> {
        use mpsc::error::TrySendError::{Closed, Full};
        match self.orders.try_send(Order::Effect(effect)) {
            Err(Full(Order::Effect(effect)) | Closed(Order::Effect(effect))) => Err(effect),
            _ => Ok(()),
        }
    }

    /// For whoever learns where the garden's names lead.
    pub fn garden(&self) -> Garden {
        Garden(self.orders.clone())
    }

    /// For the DNS forwarder, to which strangers' questions are redirected.
    pub fn redirections(&self) -> Redirections {
        self.redirections.clone()
    }

    /// Carries out what is queued, leaves behind what the configuration says, and ends.
    pub fn stop(self, on_stop: OnStop) {
        if self.orders.blocking_send(Order::Stop(on_stop)).is_ok() {
            let _ = self.worker.join();
        }
    }
}

impl Plan {
    /// A plan for a table without guests and pages.
    fn closed(interfaces: impl IntoIterator<Item = String>) -> Self {
        let zones = (0..=u8::MAX).zip(interfaces).map(|(number, interface)| ZonePlan {
            name: number.to_string(),
            interface,
            roam: false,
            garden: Vec::new(),
            router_ports: Vec::new(),
        });
        Self {
            zones: zones.collect(),
            mark_mask: 0xffff_0000,
            app: None,
            names: [0; 4],
            dns_port: 0,
            portal_ports: Vec::new(),
            intercept_port: 0,
            flows: (1, 1),
            allow_flow_offload: false,
            flags: 0,
            closed: true,
        }
    }

    /// The plan that a configuration asks for.
    pub fn from_config(config: &Config) -> Self {
        let secure = config.portal.certificate.as_ref().map(|_| config.portal.tls_port);
        let zones = config.zone.iter().map(|zone| ZonePlan {
            name: zone.name.clone(),
            interface: zone.interface.clone(),
            roam: zone.roam,
            garden: places::networks(&zone.walled_garden).collect(),
            router_ports: zone.users_to_router.clone(),
        });
        Self {
            zones: zones.collect(),
            mark_mask: config.firewall.mark_mask,
            app: config.pass.as_ref().map(|pass| places::networks(&pass.garden).collect()),
            names: garden::fingerprint(config),
            dns_port: config.dns.port,
            portal_ports: std::iter::once(config.portal.port).chain(secure).collect(),
            intercept_port: config.portal.intercept_port,
            flows: (config.firewall.flows_per_device, config.firewall.flows_per_stranger),
            allow_flow_offload: config.firewall.allow_flow_offload,
            flags: 0,
            closed: false,
        }
    }
}

#[cfg(test)]
mod tests;
