//! What maitred knows and decides: no sockets, no files, no clock, no async.

pub mod effect;
pub mod event;
pub mod names;
pub mod policy;
pub mod report;
