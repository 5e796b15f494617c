//! The outside: each adapter turns one piece of it into events and carries out effects on it.

pub mod client;
pub mod inbox;
pub mod store;
pub mod sync;
