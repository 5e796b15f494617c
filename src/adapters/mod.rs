//! The outside: each adapter turns one piece of it into events and carries out effects on it.

pub mod capture;
pub mod inbox;
pub mod neighbours;
pub mod packet;
pub mod store;
