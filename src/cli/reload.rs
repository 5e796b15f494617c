//! `maitred reload`: let the daemon read its configuration again.

use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;

use super::{PATIENCE, ask, print};
use crate::adapters::control::Ask;

#[derive(Deserialize)]
struct Reloaded {
    needs_restart: Vec<String>,
}

pub(super) fn reload(config: &Path) -> anyhow::Result<()> {
    let answer = ask(config, Ask::Reload {}, PATIENCE)?;
    let Reloaded { needs_restart } = serde_json::from_value(answer).context("the answer")?;
    print::line("the configuration is read again; guests who are online stay online")?;
    if needs_restart.is_empty() {
        return Ok(());
    }
    print::line(&format!("changed, but waiting for a restart: {}", needs_restart.join(", ")))
}
