//! The kernel's table: rendered rarely, changed by set elements, always confirmed.
//!
//! Three threads share no state but the kernel: one carries out the domain's effects in order,
//! one forgets connections (a walk over conntrack must not delay a grant), one watches for others
//! who delete our table.

mod conntrack;
mod fixed;
mod monitor;
mod parts;
mod ruleset;
mod sessions;
mod socket;
mod table;
mod worker;

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;

use thiserror::Error;
use tokio::sync::mpsc;

pub use ruleset::{Plan, ZonePlan};
pub use socket::NetfilterError;

use crate::adapters::inbox::Inbox;
use crate::config::{Config, OnStop};
use crate::domain::effect::Firewall;
use crate::domain::event::Live;
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
    /// A thread could not be started, or a socket not be opened.
    #[error("starting the firewall: {0}")]
    Start(#[from] std::io::Error),
}

/// What was there when we opened the table.
#[derive(Debug)]
pub enum Found {
    /// Our table as we would build it, with these sessions.
    Ours(Vec<Live>),
    /// Nothing, or something else: the table was built anew and is empty.
    Nothing,
}

/// The way to the firewall's threads.
#[derive(Debug)]
pub struct Handle {
    orders: mpsc::Sender<Order>,
    worker: JoinHandle<()>,
}

/// Builds or adopts the table and starts the threads. From here on guests' traffic is decided.
pub fn open(plan: Plan, inbox: Inbox) -> Result<(Handle, Found), FirewallError> {
    let mut kernel = Netfilter::open()?;
    let plan = Arc::new(worker::own(&mut kernel, plan)?);
    let found = worker::adopt_or_build(&mut kernel, &plan)?;
    let (marks, forgotten) = sync_channel(ORDERS);
    let (mut forgetting, shared) = (Netfilter::open()?, Arc::clone(&plan));
    std::thread::Builder::new()
        .name("conntrack".into())
        .spawn(move || worker::forget_connections(&mut forgetting, &shared, &forgotten))?;
    worker::watch(Arc::clone(&plan), inbox.clone())?;
    // Unlike the standard one, this channel takes memory only for what waits in it.
    let (orders, queue) = mpsc::channel(ORDERS);
    let worker = std::thread::Builder::new()
        .name("firewall".into())
        .spawn(move || worker::Worker::new(kernel, plan, marks, inbox).run(queue))?;
    Ok((Handle { orders, worker }, found))
}

/// Whether a table of ours is there, whoever holds it; changes nothing.
pub fn is_standing() -> Result<bool, FirewallError> {
    Ok(Netfilter::open()?.table(ruleset::TABLE)?.is_some())
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

    /// Carries out what is queued, leaves behind what the configuration says, and ends.
    pub fn stop(self, on_stop: OnStop) {
        if self.orders.blocking_send(Order::Stop(on_stop)).is_ok() {
            let _ = self.worker.join();
        }
    }
}

impl Plan {
    /// The plan that a configuration asks for.
    pub fn from_config(config: &Config) -> Self {
        let secure = config.portal.certificate.as_ref().map(|_| config.portal.tls_port);
        let zones = config.zone.iter().map(|zone| ZonePlan {
            name: zone.name.clone(),
            interface: zone.interface.clone(),
            roam: zone.roam,
            garden: zone.walled_garden.clone(),
            router_ports: zone.users_to_router.clone(),
        });
        Self {
            zones: zones.collect(),
            mark_mask: config.firewall.mark_mask,
            portal_ports: std::iter::once(config.portal.port).chain(secure).collect(),
            intercept_port: config.portal.intercept_port,
            flags: 0,
        }
    }
}

#[cfg(test)]
mod tests;
