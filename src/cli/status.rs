//! `maitred status`: the state of the house, in counts.

use std::path::Path;

use super::{Output, PATIENCE, ask, print};
use crate::adapters::control::Ask;

pub(super) fn status(config: &Path, output: &Output) -> anyhow::Result<()> {
    print::facts(&ask(config, Ask::Status {}, PATIENCE)?, output)
}
