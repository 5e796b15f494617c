//! `maitred export`: the access log for an inspection, with a manifest that proves it whole.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::Subcommand;
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{PATIENCE, print};
use crate::adapters::control::{self, Ask};
use crate::adapters::store::{AccessPage, AccessRow};
use crate::config::Config;
use crate::domain::auth::seal::Sealed;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Who was let online and out again: `access-log.csv` and `manifest.json`.
    AccessLog(Period),
}

#[derive(Debug, clap::Args)]
struct Period {
    /// The first day, in the store's time zone: 2026-01-31.
    #[arg(long, value_name = "DAY")]
    from: Date,
    /// The last day.
    #[arg(long, value_name = "DAY")]
    to: Date,
    /// The folder to write to; it must not hold an export.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

const HEAD: &str = "time,event,session,mac,address,identity,guest,sealed";

pub(super) fn export(config: &Path, arguments: Arguments) -> anyhow::Result<()> {
    let What::AccessLog(period) = arguments.what;
    let config = Config::load(config)?;
    let zone = config.store.zone()?;
    ensure!(period.from <= period.to, "--from is behind --to");
    let (from, to) = (start_of(period.from, &zone)?, start_of(period.to.tomorrow()?, &zone)?);
    DirBuilder::new().recursive(true).mode(0o700).create(&period.out)?;
    let mut csv = Hashed::new(create(&period.out.join("access-log.csv"))?);
    writeln!(csv, "{HEAD}")?;
    let (mut rows, mut after) = (0, 0);
    loop {
        let ask = Ask::AccessLog { from, to, after };
        let answer = control::ask(&config.store.run_dir, ask, PATIENCE)?;
        let page: AccessPage = serde_json::from_value(answer)?;
        for row in &page.rows {
            writeln!(csv, "{}", line(row)?)?;
            rows += 1;
            after = row.id;
        }
        if !page.more {
            break;
        }
    }
    let sha256 = csv.finish()?;
    let manifest = json!({
        "store": config.store.id,
        "from": period.from.to_string(),
        "to": period.to.to_string(),
        "time_zone": config.store.time_zone,
        "file": "access-log.csv",
        "rows": rows,
        "sha256": sha256,
    });
    let mut file = create(&period.out.join("manifest.json"))?;
    writeln!(file, "{}", serde_json::to_string_pretty(&manifest)?)?;
    file.sync_all()?;
    print::line(&format!("{rows} rows, sha256 {sha256}"))
}

fn start_of(day: Date, zone: &TimeZone) -> anyhow::Result<i64> {
    Ok(day.to_zoned(zone.clone())?.timestamp().as_millisecond())
}

fn create(path: &Path) -> anyhow::Result<File> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.with_context(|| format!("cannot make {}", path.display()))
}

/// No value has a comma, a quote or a line's end: all are made of digits, names of ours and base64.
fn line(row: &AccessRow) -> anyhow::Result<String> {
    let time = row.at.map(Timestamp::from_millisecond).transpose()?;
    Ok([
        time.map(|time| time.to_string()).unwrap_or_default(),
        row.event.clone(),
        row.session.to_string(),
        row.mac.to_string(),
        row.address.clone().unwrap_or_default(),
        row.identity.clone(),
        row.guest.map(|guest| guest.to_string()).unwrap_or_default(),
        row.sealed.as_ref().map(Sealed::text).unwrap_or_default(),
    ]
    .join(","))
}

/// A file and the hash of what went into it.
struct Hashed {
    file: BufWriter<File>,
    hash: Sha256,
}

impl Hashed {
    fn new(file: File) -> Self {
        Self { file: BufWriter::new(file), hash: Sha256::new() }
    }

    fn finish(self) -> anyhow::Result<String> {
        self.file.into_inner()?.sync_all()?;
        Ok(HEXLOWER.encode(&self.hash.finalize()))
    }
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hash.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}
