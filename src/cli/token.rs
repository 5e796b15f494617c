//! `maitred token`: keys for follow tokens.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use data_encoding::BASE64;
use ed25519_dalek::SigningKey;

use super::print;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Make a key: its seed goes to a new file (mode 0600), its public half, for follow.keys, is
    /// printed.
    #[arg(long, value_name = "FILE")]
    generate: PathBuf,
}

pub(super) fn token(_config: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    print::line(&generate(&arguments.generate)?)
}

fn generate(path: &Path) -> anyhow::Result<String> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot make {}", path.display()))?;
    writeln!(file, "{}", BASE64.encode(&seed))?;
    file.sync_all()?;
    Ok(BASE64.encode(SigningKey::from_bytes(&seed).verifying_key().as_bytes()))
}
