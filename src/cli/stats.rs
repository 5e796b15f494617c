//! `maitred stats`: what the daemon counted since its start.

use std::path::Path;

use super::{Output, PATIENCE, ask, print};
use crate::adapters::control::Ask;

pub(super) fn stats(config: &Path, output: &Output) -> anyhow::Result<()> {
    print::facts(&ask(config, Ask::Stats {}, PATIENCE)?, output)
}
