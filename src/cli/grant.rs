//! `maitred grant`: let a device online, or give it more time.

use std::path::Path;

use super::limits::Limits;
use super::{PATIENCE, ask, print};
use crate::adapters::control::Ask;
use crate::config::Length;
use crate::domain::names::Mac;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The device.
    mac: Mac,
    /// The zone's name; the device's last known zone if unset.
    #[arg(long)]
    zone: Option<String>,
    /// How long, such as 90m or 4h; the zone's session time-out if unset.
    #[arg(long = "for", value_name = "LENGTH")]
    length: Option<Length>,
    #[command(flatten)]
    limits: Limits,
}

pub(super) fn grant(config: &Path, arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { mac, zone, length, limits } = arguments;
    let seconds = length.map(|length| length.0.as_secs());
    ask(config, Ask::Grant { mac, zone, seconds, limits: limits.overrides() }, PATIENCE)?;
    print::line(&format!("{mac} is granted"))
}
