//! `maitred sync --now`: send to HQ what it has not got yet.

use std::path::Path;
use std::time::Duration;

use super::{Output, ask, print};
use crate::adapters::control::Ask;

/// Weeks of rows over a slow uplink take their time.
const PATIENCE: Duration = Duration::from_mins(15);

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Now, instead of at hq.at.
    #[arg(long, required = true)]
    now: bool,
    #[command(flatten)]
    output: Output,
}

pub(super) fn sync(config: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    debug_assert!(arguments.now, "clap requires it");
    print::facts(&ask(config, Ask::Sync {}, PATIENCE)?, &arguments.output)
}
