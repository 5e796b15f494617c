//! The outside: each adapter turns one piece of it into events and carries out effects on it.

pub mod dns;
pub mod firewall;
pub mod inbox;
pub mod store;
