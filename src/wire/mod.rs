//! Bytes ↔ types, at the edge and without sockets: what comes out cannot be wrong.

pub mod conntrack;
pub mod dns;
pub mod nft;
