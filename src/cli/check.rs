//! `maitred check`: what is wrong with a configuration.

use std::path::{Path, PathBuf};

use super::{print, wall};
use crate::config::Config;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The file; the one of --config if unset.
    file: Option<PathBuf>,
    /// If it is wrong and no table stands, put one up that lets no guest out; as root.
    #[arg(long)]
    wall: bool,
}

pub(super) fn check(config: &Path, arguments: Arguments) -> anyhow::Result<()> {
    let file = arguments.file.unwrap_or_else(|| config.to_owned());
    let loaded = match Config::load(&file) {
        Ok(loaded) => loaded,
        // On lines of their own, so that editors find the places.
        Err(error) => {
            if arguments.wall {
                wall::stand_by_file(&file);
            }
            anyhow::bail!("the configuration cannot be used\n{error}")
        }
    };
    for warning in loaded.warnings(&file) {
        eprintln!("warning: {warning}");
    }
    print::line(&format!("{} is good", file.display()))
}
