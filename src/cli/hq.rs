//! `maitred hq`: be the backend of the stores' WeChat account.

use std::path::PathBuf;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use super::{run, token};
use crate::hq::{self, Settings};

/// `SQLite`, and questions to WeChat.
const BLOCKING_THREADS: usize = 8;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The backend's own configuration.
    #[arg(default_value = "/etc/maitred/hq.toml")]
    file: PathBuf,
}

pub(super) fn hq(arguments: &Arguments) -> anyhow::Result<()> {
    run::say_to_stderr();
    let settings = Settings::load(&arguments.file)?;
    let key = token::read_key(&settings.key)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .context("starting the runtime")?
        .block_on(async {
            let mut term = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            let stop = async move {
                tokio::select! {
                    _ = term.recv() => {}
                    _ = interrupt.recv() => {}
                }
            };
            Ok(hq::run(settings, key, stop).await?)
        })
}
