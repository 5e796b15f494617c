//! Connections are forgotten inside the kernel: a dump to look for them takes ten times as long.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Duration;
use std::{io, thread};

use netlink_packet_netfilter::NetfilterProtoFamily;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::warn;

use super::ruleset::{GRANTED, Plan, TABLE};
use super::socket::{Netfilter, NetfilterError};
use crate::domain::names::{Mac, ZoneId};
use crate::wire::conntrack::{Answers, CT_DELETE, MarkFilter};
use crate::wire::nft::attr::Attrs;
use crate::wire::nft::keys;

/// How long a walk waits after a revoke: its guest is answered by then. And how long the processor has
/// between two walks, for those who log in at the same time.
const ANSWERED_WITHIN: Duration = Duration::from_millis(10);
/// Single connections that may wait to be forgotten: guests can cause these, and must not take the
/// places of the marks.
const SINGLE: usize = 64;

/// What to forget.
#[derive(Debug)]
pub(super) enum Forget {
    /// All connections with this mark.
    Mark(u32),
    /// One that was redirected, if this device, by its key in [`GRANTED`], is online.
    Redirected { device: Vec<u8>, answers: Answers, _place: OwnedSemaphorePermit },
}

/// Ends redirections of single flows, for the DNS forwarder. A grant leaves them: TCP connections end
/// with their answers, but a UDP flow lives for as long as the guest sends from the same port.
#[derive(Clone, Debug)]
pub struct Redirections {
    plan: Arc<Plan>,
    orders: SyncSender<Forget>,
    places: Arc<Semaphore>,
}

impl Redirections {
    pub(super) fn new(plan: Arc<Plan>, orders: SyncSender<Forget>) -> Self {
        Self { plan, orders, places: Arc::new(Semaphore::new(SINGLE)) }
    }

    /// Has the kernel forget, soon, the flow on which a guest asked the DNS forwarder at our address
    /// `ours`, if this device, which is his, is online: what he sends next goes where he sends it. With
    /// too much to do, nothing is done until he asks again.
    pub fn end(&self, zone: ZoneId, mac: Mac, guest: SocketAddr, ours: IpAddr) {
        let Some(zone) = self.plan.zones.get(usize::from(zone.0)) else { return };
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else { return };
        let device = keys::device(&zone.interface, mac.0);
        let answers = Answers { from: (ours, self.plan.dns_port).into(), to: guest };
        let _ = self.orders.try_send(Forget::Redirected { device, answers, _place: place });
    }
}

/// Forgets what comes.
pub(super) fn forget_each(kernel: &mut Netfilter, mask: u32, orders: &Receiver<Forget>) {
    for order in orders {
        let outcome = match order {
            Forget::Mark(bits) => walk(kernel, MarkFilter { mark: bits, mask }),
            Forget::Redirected { device, answers, .. } => {
                kernel.element(TABLE, GRANTED, &device).and_then(|online| match online {
                    Some(_) => kernel.forget_one(answers),
                    None => Ok(()),
                })
            }
        };
        match outcome {
            Err(problem) if problem.errno() != Some(libc::ENOENT) => {
                warn!(%problem, "forgetting connections failed");
            }
            _ => {}
        }
    }
}

/// A walk over 50,000 connections takes the processor for 17 ms, and whoever is being answered must not
/// wait for it: who comes to want the processor during a walk gets it, but who wanted it before waits
/// for the kernel's tick. From such a thread there is no way back, so each walk has its own.
fn walk(kernel: &mut Netfilter, filter: MarkFilter) -> Result<(), NetfilterError> {
    thread::sleep(ANSWERED_WITHIN);
    thread::scope(|scope| {
        let walk = || {
            if let Err(problem) = run_when_idle() {
                warn!(%problem, "forgetting connections may delay answers");
            }
            kernel.forget_all(filter)
        };
        let walker =
            thread::Builder::new().name("conntrack walk".into()).spawn_scoped(scope, walk)?;
        walker.join().unwrap_or(Err(NetfilterError::NoAnswer))
    })
}

impl Netfilter {
    /// Deletes the connections that the filter matches, IPv4 and IPv6.
    fn forget_all(&mut self, filter: MarkFilter) -> Result<(), NetfilterError> {
        let mut attrs = Attrs::new();
        filter.emit(&mut attrs);
        self.execute(CT_DELETE, NetfilterProtoFamily::Unspec, 0, 0, attrs)
    }

    /// Deletes one connection; `ENOENT` if there is none.
    fn forget_one(&mut self, answers: Answers) -> Result<(), NetfilterError> {
        let mut attrs = Attrs::new();
        answers.emit(&mut attrs);
        self.execute(CT_DELETE, answers.family(), 0, 0, attrs)
    }
}

/// From here on this thread runs when no other wants the processor (`SCHED_IDLE`), and gives way in
/// the middle of a walk. By the system call itself: musl's function only says that it has none.
#[allow(unsafe_code)]
fn run_when_idle() -> io::Result<()> {
    /// `struct sched_param`; the class has no priorities, so it must be 0.
    #[repr(C)]
    struct Priority(libc::c_int);
    let priority = Priority(0);
    // SAFETY: the kernel reads one int behind the pointer, which outlives the call; 0 is this thread.
    let outcome = unsafe {
        libc::syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_IDLE, &raw const priority)
    };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
