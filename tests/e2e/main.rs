//! The real daemon in a real store: one test, one lab. Needs root.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed step fails the test"
)]

#[path = "../frames/mod.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod frames;
#[path = "../lab/mod.rs"]
mod lab;

mod advertise;
mod bad_input;
mod bridges;
mod browser;
mod captive_api;
mod cli;
mod clients;
mod coexist;
mod companions;
mod dns;
mod doctor;
mod floods;
mod follow;
mod lab_itself;
mod leaks;
mod lists;
mod login;
mod machine;
mod many;
mod moments;
mod pages;
mod pass;
mod privacy;
mod probes;
mod pseudonyms;
mod quality;
mod refused;
mod reload;
mod restart;
mod returning;
mod revoke;
mod same_port;
mod spoofing;
mod staff;
mod sync;
mod user;
mod visits;
mod vlans;
mod voucher;
mod wall;
mod wechat;
mod zones;
