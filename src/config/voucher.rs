//! `[voucher]`: codes on paper.

use serde::Deserialize;

/// `[voucher]`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Voucher {
    /// The first page takes them. `maitred voucher` makes them.
    pub enabled: bool,
}
