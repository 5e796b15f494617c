//! The real daemon in a real store: one test, one lab. Needs root.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed step fails the test"
)]

#[path = "../lab/mod.rs"]
mod lab;

mod browser;
mod captive_api;
mod cli;
mod doctor;
mod follow;
mod lab_itself;
mod login;
mod probes;
mod restart;
mod returning;
mod revoke;
mod staff;
mod sync;
mod visits;
mod wall;
