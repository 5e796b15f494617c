//! The outside: each adapter turns one piece of it into events and carries out effects on it.

pub mod account;
pub mod advertise;
pub mod bpf;
pub mod bridges;
pub mod capture;
pub mod client;
pub mod control;
pub mod dns;
pub mod dnsmasq;
pub mod firewall;
pub mod guests;
pub mod http;
pub mod inbox;
pub mod keys;
pub mod lists;
pub mod memory;
pub mod neighbours;
pub mod packet;
pub mod privileges;
pub mod sms;
pub mod store;
pub mod sync;
pub mod sysctl;
pub mod uplink;
