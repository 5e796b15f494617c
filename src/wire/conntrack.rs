//! Conntrack: a filter for a delete inside the kernel (`uapi/linux/netfilter/nfnetlink_conntrack.h`).

use crate::wire::nft::attr::Attrs;

/// `IPCTNL_MSG_CT_DELETE` of the ctnetlink subsystem.
pub const CT_DELETE: u16 = 1 << 8 | 2;

const MARK: u16 = 8;
const MARK_MASK: u16 = 21;

/// Which entries to delete: those whose mark, under the mask, is this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarkFilter {
    /// The value, in place.
    pub mark: u32,
    /// The bits that count.
    pub mask: u32,
}

impl MarkFilter {
    /// The body of the request.
    pub fn emit(self, a: &mut Attrs) {
        a.u32(MARK, self.mark).u32(MARK_MASK, self.mask);
    }
}
