//! `maitred revoke`: put a device offline.

use std::path::Path;

use super::{PATIENCE, ask, print};
use crate::adapters::control::Ask;
use crate::domain::names::Mac;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The device.
    mac: Mac,
}

pub(super) fn revoke(config: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    let mac = arguments.mac;
    ask(config, Ask::Revoke { mac }, PATIENCE)?;
    print::line(&format!("{mac} is revoked"))
}
