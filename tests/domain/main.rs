//! The domain from outside: stories, starts, and properties over random events and time.

// Clippy lets only functions marked as tests unwrap; the helpers here are tests too.
#![allow(clippy::unwrap_used, clippy::panic)]

mod abuse;
mod companions;
mod extend;
mod follows;
mod house;
mod names;
mod passes;
mod properties;
mod reload;
mod restart;
mod stories;
mod vouchers;
