//! `maitred trust` and `maitred block`: put a device on a list, for good.

use std::path::Path;

use super::{PATIENCE, ask, print};
use crate::adapters::control::{Ask, List};
use crate::domain::names::Mac;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The device.
    mac: Mac,
    /// Take it off the list again.
    #[arg(long)]
    remove: bool,
}

pub(super) fn list(config: &Path, list: List, arguments: &Arguments) -> anyhow::Result<()> {
    let Arguments { mac, remove } = *arguments;
    ask(config, Ask::List { list, mac, remove }, PATIENCE)?;
    let what = match list {
        List::Trusted => "trusted",
        List::Blocked => "blocked",
    };
    let not = if remove { "no longer " } else { "" };
    print::line(&format!("{mac} is {not}{what}"))
}
