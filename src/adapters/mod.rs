//! The outside: each adapter turns one piece of it into events and carries out effects on it.

pub mod http;
pub mod inbox;
pub mod store;
