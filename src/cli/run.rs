//! `maitred run`: be the gateway.

use anyhow::bail;

use crate::config::Config;

pub(super) fn run(_config: &Config) -> anyhow::Result<()> {
    bail!("the gateway's loop is not built yet")
}
