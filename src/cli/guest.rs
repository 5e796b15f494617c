//! `maitred guest`: all that is kept of a guest, and forgetting them.

use std::io::{self, BufRead as _, Read as _};
use std::path::Path;

use anyhow::Context as _;
use clap::Subcommand;
use serde_json::Value;

use super::{PATIENCE, ask, print};
use crate::adapters::control::{Ask, GuestAct, Who};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show what is kept of a guest.
    Show(Whom),
    /// Print it as JSON, for the guest to take away.
    Export(Whom),
    /// Forget a guest, but for the access log, which the law keeps.
    Erase(Whom),
}

#[derive(Debug, clap::Args)]
struct Whom {
    /// A phone number, or a guest key of 32 hexadecimal digits; `-`, or nothing, reads it from the
    /// standard input, where no other user of the system sees it.
    who: Option<String>,
}

pub(super) fn guest(config: &Path, arguments: Arguments) -> anyhow::Result<()> {
    let (act, whom) = match arguments.verb {
        Verb::Show(whom) => {
            let file = question(config, GuestAct::Show, whom)?;
            return print::facts(&file, &super::Output { json: false });
        }
        Verb::Export(whom) => (GuestAct::Show, whom),
        Verb::Erase(whom) => (GuestAct::Erase, whom),
    };
    let answer = question(config, act, whom)?;
    match act {
        GuestAct::Show => print::json(&answer),
        GuestAct::Erase => {
            let kept = answer["access_log"].as_u64().unwrap_or(0);
            print::line(&format!(
                "forgotten; {kept} entries of the access log stay until their time is over"
            ))
        }
    }
}

fn question(config: &Path, act: GuestAct, whom: Whom) -> anyhow::Result<Value> {
    let who = match whom.who {
        Some(who) if who != "-" => who,
        _ => {
            let mut line = String::new();
            io::stdin().lock().take(256).read_line(&mut line).context("reading the number")?;
            line.trim().to_owned()
        }
    };
    ask(config, Ask::Guest { act, who: Who(who) }, PATIENCE)
}
