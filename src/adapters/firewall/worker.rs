//! The firewall's threads.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use super::conntrack::Forget;
use super::fixed::fixed_elements;
use super::monitor::Monitor;
use super::ruleset::{Plan, TABLE};
use super::sessions::Place;
use super::socket::{Netfilter, NetfilterError};
use super::{FirewallError, Found, NotOpened, garden, pass, sessions};
use crate::adapters::inbox::Inbox;
use crate::config::OnStop;
use crate::domain::effect::{Firewall, Grant, Pass};
use crate::domain::event::Event;
use crate::domain::garden::Garden;
use crate::domain::names::{Mac, SessionId};
use crate::wire::nft::object::{TABLE_OWNER, TABLE_PERSIST, Table};

/// What the worker's queue holds.
#[derive(Debug)]
pub(super) enum Order {
    Effect(Firewall),
    Learn { whose: Garden, addresses: Vec<IpAddr>, done: oneshot::Sender<Result<(), NotOpened>> },
    Stop(OnStop),
}

/// A flow table anywhere counts: the downloads of guests come in on the uplink's devices.
pub(super) fn refuse_flow_offload(
    kernel: &mut Netfilter,
    allowed: bool,
) -> Result<(), FirewallError> {
    let named = flow_tables(kernel)?.join(", ");
    if named.is_empty() {
        return Ok(());
    }
    if allowed {
        warn!(tables = named, "flow offload is on: limits of guests are not enforced");
        return Ok(());
    }
    Err(FirewallError::FlowOffload(named))
}

/// The flow tables of all tables, by name.
pub(super) fn flow_tables(kernel: &mut Netfilter) -> Result<Vec<String>, FirewallError> {
    let tables = match kernel.flow_tables() {
        // A kernel that cannot have them.
        Err(error) if error.errno() == Some(libc::EINVAL) => Vec::new(),
        other => other?,
    };
    Ok(tables.iter().map(|found| format!("{} of table {}", found.name, found.table)).collect())
}

/// Claims the table for this process where the kernel can keep it afterwards (6.9 and later); the
/// plan that comes back says which flags the table has. The owner is the socket: only this one
/// may change the table from here on.
pub(super) fn own(kernel: &mut Netfilter, plan: Plan) -> Result<Plan, FirewallError> {
    let standing = kernel.table(TABLE)?;
    let flags = match standing {
        // Made on a kernel, or by a hand, that did not own it: such a table cannot be claimed.
        Some(table) if table.flags & TABLE_PERSIST == 0 => 0,
        _ => TABLE_OWNER | TABLE_PERSIST,
    };
    match claim(kernel, flags) {
        Ok(()) => Ok(Plan { flags, ..plan }),
        Err(error) if error.errno() == Some(libc::EOPNOTSUPP) => {
            info!("this kernel cannot keep an owned table: watching ours instead");
            claim(kernel, 0)?;
            Ok(Plan { flags: 0, ..plan })
        }
        Err(error) if error.errno() == Some(libc::EPERM) => Err(FirewallError::Owned),
        // Kernels that know owners, or refuse flags with EOPNOTSUPP, keep two expressions an element.
        Err(error) if error.errno() == Some(libc::EINVAL) => Err(FirewallError::TooOld),
        Err(error) => Err(error.into()),
    }
}

fn claim(kernel: &mut Netfilter, flags: u32) -> Result<(), NetfilterError> {
    let mut batch = kernel.batch(TABLE, None);
    batch.add_table(&Table { name: TABLE.into(), flags, owner: None });
    kernel.commit(batch)
}

/// Keeps a table that is as we would build it; replaces any other by ours, closed.
pub(super) fn adopt_or_build(kernel: &mut Netfilter, plan: &Plan) -> Result<Found, FirewallError> {
    if differences(kernel, plan)?.is_empty()
        && let Some(live) = sessions::adoptable(kernel, plan)?
    {
        sessions::sweep(kernel, &live)?;
        info!(sessions = live.len(), "adopted the table");
        return Ok(Found::Ours(live));
    }
    build_closed(kernel, plan, &BTreeSet::new())?;
    info!("built the table");
    Ok(Found::Nothing)
}

/// Builds a table without guests, which the next start replaces: it lets in again whose time is not
/// over.
pub(super) fn build_closed(
    kernel: &mut Netfilter,
    plan: &Plan,
    blocked: &BTreeSet<Mac>,
) -> Result<(), FirewallError> {
    build(kernel, &Plan { closed: true, ..plan.clone() }, &[], blocked)
}

/// Replaces the table in one transaction, then reads it back.
fn build(
    kernel: &mut Netfilter,
    plan: &Plan,
    grants: &[Grant],
    blocked: &BTreeSet<Mac>,
) -> Result<(), FirewallError> {
    let mut batch = kernel.batch(TABLE, None);
    plan.ruleset().replace(&mut batch);
    for (set, elements) in fixed_elements(plan) {
        batch.add_elements(&set, &elements);
    }
    sessions::add_all(&mut batch, plan, grants);
    pass::block(&mut batch, blocked);
    kernel.commit(batch)?;
    match differences(kernel, plan)? {
        found if found.is_empty() => Ok(()),
        found => Err(FirewallError::Differs(found.join(", "))),
    }
}

/// Where the kernel's table differs from the plan's; empty if it does not.
fn differences(kernel: &mut Netfilter, plan: &Plan) -> Result<Vec<String>, FirewallError> {
    let Some(standing) = kernel.ruleset(TABLE)? else {
        return Ok(vec!["there is none".into()]);
    };
    let mut found = plan.ruleset().differences(&standing);
    if !found.is_empty() {
        return Ok(found);
    }
    for (set, wanted) in fixed_elements(plan) {
        let mut wanted: Vec<_> = wanted.into_iter().map(|e| (e.key, e.interval_end)).collect();
        let mut held: Vec<_> =
            kernel.elements(TABLE, &set)?.into_iter().map(|e| (e.key, e.interval_end)).collect();
        // The kernel closes the gap before the first interval with an end of its own.
        held.retain(|(key, end)| !(*end && key.iter().all(|byte| *byte == 0)));
        wanted.sort();
        held.sort();
        if wanted != held {
            found.push(format!("elements of set {set}"));
        }
    }
    Ok(found)
}

/// Carries out effects in their order.
pub(super) struct Worker {
    kernel: Netfilter,
    plan: Arc<Plan>,
    forget: SyncSender<Forget>,
    inbox: Inbox,
    /// Kept for the tables to come.
    blocked: BTreeSet<Mac>,
}

impl Worker {
    pub(super) fn new(
        kernel: Netfilter,
        plan: Arc<Plan>,
        forget: SyncSender<Forget>,
        inbox: Inbox,
    ) -> Self {
        Self { kernel, plan, forget, inbox, blocked: BTreeSet::new() }
    }

    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Order>) {
        while let Some(order) = queue.blocking_recv() {
            match order {
                Order::Effect(effect) => self.carry_out(effect),
                Order::Learn { whose, addresses, done } => {
                    // The guest who asked may have gone.
                    let _ = done.send(self.learn(whose, &addresses));
                }
                Order::Stop(on_stop) => return self.stop(on_stop),
            }
        }
    }

    fn carry_out(&mut self, effect: Firewall) {
        match effect {
            Firewall::Grant(grant) => {
                let outcome = self.grant(&grant);
                self.report(&grant, outcome);
            }
            Firewall::Replace(grant) => {
                let outcome = self.replace(&grant);
                self.report(&grant, outcome);
            }
            Firewall::Revoke(grant) => {
                if let Err(problem) = self.revoke(&grant) {
                    error!(session = grant.session.0, %problem, "revoking failed: rebuilding");
                    self.inbox.tell(Event::TableLost);
                }
                self.forget(sessions::number_bits(&self.plan, grant.mark));
            }
            Firewall::Rebuild(grants) => self.rebuild(&grants),
            Firewall::ReadUsage => match sessions::usage(&mut self.kernel) {
                Ok(usage) => {
                    self.inbox.tell(Event::Usage(usage));
                }
                Err(problem) => error!(%problem, "reading the counters failed"),
            },
            Firewall::Pass(pass) => self.open_pass(&pass),
            Firewall::Block(devices) => self.block(devices),
        }
    }

    fn learn(&mut self, whose: Garden, addresses: &[IpAddr]) -> Result<(), NotOpened> {
        let mut batch = self.kernel.batch(TABLE, None);
        match whose {
            Garden::Zone(zone) => {
                let zone = self.plan.zones.get(usize::from(zone.0)).ok_or(NotOpened)?;
                garden::learn(&mut batch, zone, addresses);
            }
            Garden::App if self.plan.app.is_some() => pass::learn(&mut batch, addresses),
            Garden::App => return Err(NotOpened),
        }
        if addresses.is_empty() {
            return Ok(());
        }
        self.kernel.commit(batch).map_err(|problem| {
            warn!(?whose, %problem, "opening garden addresses failed");
            NotOpened
        })
    }

    fn open_pass(&mut self, pass: &Pass) {
        let mut batch = self.kernel.batch(TABLE, None);
        let opened = pass::open(&mut batch, &self.plan, pass)
            && self
                .kernel
                .commit(batch)
                .inspect_err(|problem| error!(%problem, "opening a pass failed"))
                .is_ok();
        self.inbox.tell(Event::Passed { zone: pass.zone, mac: pass.mac, opened });
    }

    fn block(&mut self, devices: BTreeSet<Mac>) {
        let mut batch = self.kernel.batch(TABLE, None);
        pass::block(&mut batch, &devices);
        self.blocked = devices;
        if let Err(problem) = self.kernel.commit(batch) {
            error!(%problem, "blocking failed: rebuilding");
            self.inbox.tell(Event::TableLost);
        }
    }

    /// Lets a device in. A leftover of the same device or mark goes: what the domain says is what
    /// stands.
    fn grant(&mut self, grant: &Grant) -> Result<(), NetfilterError> {
        let sole = sessions::sole(&mut self.kernel, grant.mac)?;
        let free = sole.is_none_or(|session| session == grant.session);
        self.put(grant, sole, if free { Place::Sole } else { Place::Alike })
    }

    /// Puts a session in its own place, with what it has used so far.
    fn replace(&mut self, grant: &Grant) -> Result<(), NetfilterError> {
        let sole = sessions::sole(&mut self.kernel, grant.mac)?;
        let place = if sole == Some(grant.session) { Place::Sole } else { Place::Alike };
        let current = sessions::with_usage(&mut self.kernel, &self.plan, grant, place)?;
        self.put(&current, sole, place)
    }

    /// In one transaction.
    fn put(
        &mut self,
        grant: &Grant,
        sole: Option<SessionId>,
        place: Place,
    ) -> Result<(), NetfilterError> {
        let mut batch = self.kernel.batch(TABLE, None);
        sessions::remove(&mut batch, &self.plan, grant, sole);
        sessions::add(&mut batch, &self.plan, grant, place);
        self.kernel.commit(batch)
    }

    fn revoke(&mut self, grant: &Grant) -> Result<(), NetfilterError> {
        let sole = sessions::sole(&mut self.kernel, grant.mac)?;
        let mut batch = self.kernel.batch(TABLE, None);
        sessions::remove(&mut batch, &self.plan, grant, sole);
        self.kernel.commit(batch)
    }

    fn report(&self, grant: &Grant, outcome: Result<(), NetfilterError>) {
        self.inbox.tell(match outcome {
            Ok(()) => Event::Granted(grant.session),
            Err(problem) => {
                error!(session = grant.session.0, %problem, "granting failed");
                Event::GrantFailed(grant.session)
            }
        });
    }

    fn rebuild(&mut self, grants: &[Grant]) {
        match build(&mut self.kernel, &self.plan, grants, &self.blocked) {
            Ok(()) => {
                info!(sessions = grants.len(), "rebuilt the table");
                for grant in grants {
                    self.inbox.tell(Event::Granted(grant.session));
                }
            }
            Err(problem) => {
                error!(%problem, "rebuilding the table failed: guests stay as they are");
                for grant in grants {
                    self.inbox.tell(Event::GrantFailed(grant.session));
                }
            }
        }
    }

    fn forget(&self, mark: u32) {
        if self.forget.try_send(Forget::Mark(mark)).is_err() {
            warn!("too many connections to forget: they end by their own time-outs");
        }
    }

    fn stop(mut self, on_stop: OnStop) {
        let outcome = match on_stop {
            OnStop::Keep => Ok(()),
            OnStop::Open => {
                let mut batch = self.kernel.batch(TABLE, None);
                batch.destroy_table();
                self.kernel.commit(batch).map_err(FirewallError::from)
            }
            OnStop::Closed => build_closed(&mut self.kernel, &self.plan, &self.blocked),
        };
        if let Err(problem) = outcome {
            error!(%problem, ?on_stop, "leaving the table as it is");
        }
    }
}

/// Starts the thread that notices when our table goes or changes by another's hand. Each change
/// to any table that is not made through the socket `ours` wakes it; it then compares our table
/// with the plan.
pub(super) fn watch(ours: u32, plan: Arc<Plan>, inbox: Inbox) -> Result<(), FirewallError> {
    let mut monitor = Monitor::open(ours)?;
    let mut kernel = Netfilter::open()?;
    std::thread::Builder::new().name("nft-monitor".into()).spawn(move || {
        loop {
            if let Err(problem) = monitor.wait() {
                return error!(%problem, "watching the table failed");
            }
            // It may be turned on while we run; the guests online stay so.
            if let Err(problem) = refuse_flow_offload(&mut kernel, plan.allow_flow_offload) {
                error!(%problem, "limits of guests are not enforced");
            }
            let lost = differences(&mut kernel, &plan);
            if !matches!(&lost, Ok(found) if found.is_empty()) {
                warn!(?lost, "our table was changed: rebuilding");
                if !inbox.tell(Event::TableLost) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    })?;
    Ok(())
}
