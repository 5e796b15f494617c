//! nf_tables over netlink: typed objects to attributes and back.
//!
//! netlink-packet-netfilter supplies the headers; its typed attributes stop short of what is
//! needed here (limit, quota, ct, set `KEY_END`, element flags in dumps), so attributes are ours.

#![allow(missing_docs, reason = "names of uapi/linux/netfilter/nf_tables.h stand for themselves")]

pub mod attr;
pub mod batch;
pub mod element;
pub mod expr;
mod expr_emit;
mod expr_parse;
pub mod keys;
pub mod message;
pub mod object;
mod older;
pub mod ruleset;

use thiserror::Error;

/// Why bytes could not become a value, or a value bytes.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum WireError {
    /// An attribute that must be there is not.
    #[error("attribute {0} is missing")]
    Missing(u16),
    /// An attribute has a length that its type does not allow.
    #[error("attribute {0} has a wrong length")]
    Length(u16),
    /// A name is not UTF-8 or not terminated.
    #[error("attribute {0} is not a name")]
    Name(u16),
    /// The attribute list is cut short.
    #[error("malformed attributes")]
    Malformed,
    /// A value that this program does not know.
    #[error("attribute {0} holds the unknown value {1}")]
    Unknown(u16, u32),
    /// An attribute would exceed the 65,535 bytes that netlink can say.
    #[error("attribute {0} is too long")]
    TooLong(u16),
}

#[cfg(test)]
mod tests;
