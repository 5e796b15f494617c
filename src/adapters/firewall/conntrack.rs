//! Connections are forgotten inside the kernel: a dump to look for them takes ten times as long.

use std::sync::mpsc::Receiver;
use std::time::Duration;
use std::{io, thread};

use netlink_packet_netfilter::NetfilterProtoFamily;
use tracing::warn;

use super::socket::{Netfilter, NetfilterError};
use crate::wire::conntrack::{CT_DELETE, MarkFilter};
use crate::wire::nft::attr::Attrs;

/// How long a walk waits after a grant or a revoke: its guest is answered by then. And how long the
/// processor has between two walks, for those who log in at the same time.
const ANSWERED_WITHIN: Duration = Duration::from_millis(10);

/// Forgets the connections of each mark that comes, both families at once. A walk over 50,000 of
/// them takes the processor for 17 ms, and whoever is being answered must not wait for it: who
/// comes to want the processor during a walk gets it, but who wanted it before waits for the
/// kernel's tick.
pub(super) fn forget_each(kernel: &mut Netfilter, mask: u32, marks: &Receiver<u32>) {
    if let Err(problem) = run_when_idle() {
        warn!(%problem, "forgetting connections may delay answers");
    }
    for mark in marks {
        thread::sleep(ANSWERED_WITHIN);
        match kernel.forget(MarkFilter { mark, mask }) {
            Err(problem) if problem.errno() != Some(libc::ENOENT) => {
                warn!(%problem, "forgetting connections failed");
            }
            _ => {}
        }
    }
}

impl Netfilter {
    /// Deletes the connections that the filter matches, IPv4 and IPv6.
    fn forget(&mut self, filter: MarkFilter) -> Result<(), NetfilterError> {
        let mut attrs = Attrs::new();
        filter.emit(&mut attrs);
        self.execute(CT_DELETE, NetfilterProtoFamily::Unspec, 0, 0, attrs)
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
