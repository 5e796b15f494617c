//! Connections are forgotten inside the kernel: a dump to look for them takes ten times as long.

use std::io;

use netlink_packet_netfilter::NetfilterProtoFamily;

use super::socket::{Netfilter, NetfilterError};
use crate::wire::conntrack::{CT_DELETE, MarkFilter};
use crate::wire::nft::attr::Attrs;

impl Netfilter {
    /// Deletes the connections that the filter matches, IPv4 and IPv6.
    pub fn forget(&mut self, filter: MarkFilter) -> Result<(), NetfilterError> {
        let mut attrs = Attrs::new();
        filter.emit(&mut attrs);
        self.execute(CT_DELETE, NetfilterProtoFamily::Unspec, 0, 0, attrs)
    }
}

/// From here on this thread runs when no other wants the processor (`SCHED_IDLE`), and gives way in
/// the middle of a walk. By the system call itself: musl's function only says that it has none.
#[allow(unsafe_code)]
pub(super) fn run_when_idle() -> io::Result<()> {
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
