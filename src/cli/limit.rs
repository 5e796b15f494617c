//! `maitred limit`: change what a device that is online may use.

use std::path::Path;

use super::limits::Limits;
use super::{PATIENCE, ask, print};
use crate::adapters::control::Ask;
use crate::domain::names::Mac;
use crate::domain::policy::Overrides;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The device.
    mac: Mac,
    #[command(flatten)]
    limits: Limits,
}

pub(super) fn limit(config: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    let (mac, limits) = (arguments.mac, arguments.limits.overrides());
    anyhow::ensure!(limits != Overrides::default(), "say which limits, such as --quota 1GB");
    ask(config, Ask::Limit { mac, limits }, PATIENCE)?;
    print::line(&format!("{mac} has other limits"))
}
