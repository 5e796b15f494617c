//! Bytes ↔ types, at the edge and without sockets: what comes out cannot be wrong.

pub mod arp;
pub mod conntrack;
pub mod dhcp;
pub mod dns;
pub mod evidence;
pub mod nd;
pub mod nft;
pub mod ra;
pub mod route;
