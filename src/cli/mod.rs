//! The command line, one file a verb.
//!
//! Exit codes: 0 it is done; 1 it failed; 2 the arguments make no sense; 3 the daemon is not running.

#[cfg(feature = "hq")]
mod bundle;
mod check;
mod clients;
mod doctor;
mod doors;
mod export;
mod grant;
mod guest;
#[cfg(feature = "hq")]
mod hq;
mod limit;
mod limits;
mod list;
mod names;
mod pages;
mod password;
mod print;
mod record;
mod reload;
mod revoke;
mod rules;
mod run;
mod services;
mod stats;
mod status;
mod sync;
mod token;
mod voucher;
mod wall;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use serde_json::Value;

use crate::adapters::control::{self, Ask, AskError, List};
use crate::config::Config;

/// Time for each step of a question to the daemon.
const PATIENCE: Duration = Duration::from_secs(15);

/// The gateway of a store's guest Wi-Fi.
#[derive(Debug, Parser)]
#[command(
    name = "maitred",
    version,
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong arguments, 3 the daemon is not running."
)]
struct Arguments {
    /// The configuration.
    #[arg(long, global = true, value_name = "FILE", default_value = "/etc/maitred/maitred.toml")]
    config: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Be the gateway, until a signal.
    Run,
    /// Say what is wrong with a configuration, and on which line.
    Check(check::Arguments),
    /// Say why a phone gets no page, and what to do about it.
    Doctor(Output),
    /// Show the state of the house.
    Status(Output),
    /// Show every device known.
    Clients(Output),
    /// Let a device online.
    Grant(grant::Arguments),
    /// Put a device offline.
    Revoke(revoke::Arguments),
    /// Change what a device that is online may use.
    Limit(limit::Arguments),
    /// Let a device online always, and count it as no visitor.
    Trust(list::Arguments),
    /// Let a device online never.
    Block(list::Arguments),
    /// Let the daemon read its configuration again.
    Reload,
    /// Show the daemon's counters.
    Stats(Output),
    /// Send to HQ what it has not got yet.
    Sync(sync::Arguments),
    /// Show, export or forget what is kept of a guest.
    Guest(guest::Arguments),
    /// Write the access log to files, for an inspection.
    Export(export::Arguments),
    /// Make keys for follow tokens, and tokens for tests.
    Token(token::Arguments),
    /// Make, list and revoke vouchers.
    #[command(subcommand)]
    Voucher(voucher::Verb),
    /// Make vouchers for stores, and sign the bundle that brings them.
    #[cfg(feature = "hq")]
    #[command(subcommand)]
    Bundle(bundle::Verb),
    /// Be the backend of the stores' WeChat account, until a signal.
    #[cfg(feature = "hq")]
    Hq(hq::Arguments),
    /// Hash a password, read from the terminal or a pipe, for the staff page.
    Password,
}

/// How to print.
#[derive(Debug, clap::Args)]
struct Output {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Does what the process's arguments say.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // For every TLS connection of the process; fails only if one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match obey(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("maitred: {error:#}");
            let absent = matches!(error.downcast_ref(), Some(AskError::NotRunning));
            ExitCode::from(if absent { 3 } else { 1 })
        }
    }
}

fn obey(arguments: Arguments) -> anyhow::Result<()> {
    let config = arguments.config.as_path();
    match arguments.verb {
        Verb::Run => {
            let loaded =
                Config::load(config).inspect_err(|_problem| wall::stand_by_file(config))?;
            for warning in loaded.warnings(config) {
                eprintln!("maitred: {warning}");
            }
            run::run(config, &loaded)
        }
        Verb::Check(check) => check::check(config, check),
        Verb::Doctor(output) => doctor::doctor(config, &output),
        Verb::Status(output) => status::status(config, &output),
        Verb::Clients(output) => clients::clients(config, &output),
        Verb::Grant(grant) => grant::grant(config, grant),
        Verb::Revoke(revoke) => revoke::revoke(config, &revoke),
        Verb::Limit(limit) => limit::limit(config, &limit),
        Verb::Trust(device) => list::list(config, List::Trusted, &device),
        Verb::Block(device) => list::list(config, List::Blocked, &device),
        Verb::Reload => reload::reload(config),
        Verb::Stats(output) => stats::stats(config, &output),
        Verb::Sync(sync) => sync::sync(config, &sync),
        Verb::Guest(guest) => guest::guest(config, guest),
        Verb::Export(export) => export::export(config, export),
        Verb::Token(token) => token::token(&token),
        Verb::Voucher(verb) => voucher::voucher(config, verb),
        #[cfg(feature = "hq")]
        Verb::Bundle(verb) => bundle::bundle(verb),
        #[cfg(feature = "hq")]
        Verb::Hq(arguments) => hq::hq(&arguments),
        Verb::Password => password::password(),
    }
}

/// Asks the daemon that runs with this configuration.
fn ask(config: &Path, ask: Ask, patience: Duration) -> anyhow::Result<Value> {
    let run_dir = Config::load(config)?.store.run_dir;
    Ok(control::ask(&run_dir, ask, patience)?)
}
