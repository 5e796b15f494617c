//! `maitred voucher`: codes on paper, each good for so many uses of so many minutes.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Deserialize;

use super::limits::{self, Limits};
use super::{Output, PATIENCE, ask, print};
use crate::adapters::control::Ask;
use crate::adapters::http::catalogue::Catalogues;
use crate::adapters::http::sheet::Sheet;
use crate::config::Config;
use crate::domain::auth::voucher::{BATCH, HQ, Which, name};
use crate::domain::event::Language;
use crate::domain::names::WallTime;
use crate::domain::policy::Overrides;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Make a batch, and print its codes: nobody keeps them.
    New(Box<New>),
    /// Show the batches that are of use.
    List(Output),
    /// Make a batch, such as 3 or hq3, or one of its vouchers, such as 3-17, worth nothing, and end
    /// what they opened.
    Revoke {
        /// Which.
        which: Which,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct New {
    /// How many.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=i64::from(BATCH)))]
    pub(super) count: u16,
    /// Uses of each, one device a use.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) uses: u16,
    /// A use lasts this long, whether or not the device is there.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=366 * 24 * 60))]
    pub(super) minutes: u32,
    /// Bytes a second, such as 500kB, each way; none lifts the zone's limit.
    #[arg(long, value_name = "AMOUNT", value_parser = limits::limit)]
    rate: Option<u64>,
    #[command(flatten)]
    limits: Limits,
    /// The last day on which a use may begin, such as 2027-03-31.
    #[arg(long, value_name = "DATE")]
    expires: Option<Date>,
    /// The name of the one zone where they are good.
    #[arg(long)]
    pub(super) zone: Option<String>,
    /// Write a printable sheet to this file, which must be new.
    #[arg(long, value_name = "FILE")]
    sheet: Option<PathBuf>,
    /// The sheet's language: zh-CN or en.
    #[arg(long, default_value = "zh-CN", value_parser = language)]
    language: Language,
    /// The portal's address for the sheet's QR codes; by portal.name if unset.
    #[arg(long, value_name = "URL")]
    pub(super) portal: Option<String>,
}

impl New {
    /// What differs from the zone's limits.
    pub(super) fn overrides(&self) -> Overrides {
        let limits = self.limits.overrides();
        Overrides {
            upload_rate: limits.upload_rate.or(self.rate),
            download_rate: limits.download_rate.or(self.rate),
            ..limits
        }
    }

    /// The end of the last day, in a time zone.
    pub(super) fn end(&self, zone: TimeZone) -> anyhow::Result<Option<WallTime>> {
        let Some(last) = self.expires else { return Ok(None) };
        let next = last.tomorrow()?.to_zoned(zone)?;
        Ok(Some(WallTime(next.timestamp().as_millisecond())))
    }

    /// Makes the sheet's file, if there is to be one: before the codes are told, which is once.
    pub(super) fn open_sheet(&self, portal: Option<&str>) -> anyhow::Result<Option<File>> {
        if self.sheet.is_some() && portal.is_none() {
            eprintln!("maitred: the portal's address is not known: the sheet has no QR codes");
        }
        self.sheet.as_deref().map(create).transpose()
    }

    /// Nothing came of it: takes the sheet's file away.
    pub(super) fn drop_sheet(&self) {
        if let Some(path) = &self.sheet {
            let _ = std::fs::remove_file(path);
        }
    }

    /// Prints the codes, and draws the sheet.
    pub(super) fn hand_out(
        &self,
        (batch, codes): (&str, &[String]),
        (store, portal): (&str, Option<&str>),
        sheet: Option<File>,
    ) -> anyhow::Result<()> {
        for (code, number) in codes.iter().zip(1..) {
            print::line(&format!("{batch}-{number}  {code}"))?;
        }
        let Some(mut file) = sheet else { return Ok(()) };
        let length = Duration::from_mins(self.minutes.into());
        let expires = self.expires.map(|date| date.to_string());
        let page = Sheet { store, portal, batch, codes, length, uses: self.uses, expires };
        let page = page.render(&Catalogues::load()?, self.language).context("drawing the sheet")?;
        file.write_all(page.as_bytes()).context("writing the sheet")
    }
}

pub(super) fn voucher(config: &Path, verb: Verb) -> anyhow::Result<()> {
    match verb {
        Verb::New(new) => make(config, &new),
        Verb::List(output) => list(config, &output),
        Verb::Revoke { which } => {
            ask(config, Ask::RevokeVouchers(which), PATIENCE)?;
            print::line("revoked")
        }
    }
}

/// The daemon's answer.
#[derive(Deserialize)]
struct Made {
    batch: u32,
    codes: Vec<String>,
}

fn make(path: &Path, new: &New) -> anyhow::Result<()> {
    let config = Config::load(path)?;
    anyhow::ensure!(config.voucher.enabled, "the portal takes no vouchers: set voucher.enabled");
    let portal = new.portal.clone().or_else(|| portal(&config));
    let sheet = new.open_sheet(portal.as_deref())?;
    let wanted = Ask::MakeVouchers {
        count: new.count,
        uses: new.uses,
        seconds: new.minutes * 60,
        limits: new.overrides(),
        expires: new.end(config.store.zone()?)?,
        zone: new.zone.clone(),
    };
    let answer = ask(path, wanted, PATIENCE).inspect_err(|_| new.drop_sheet())?;
    let made: Made = serde_json::from_value(answer).context("the daemon's vouchers")?;
    let store = config.brand.name.as_deref().unwrap_or(&config.store.name);
    let batch = name(made.batch);
    new.hand_out((&batch, &made.codes), (store, portal.as_deref()), sheet)
}

/// A file that its owner alone can read.
fn create(path: &Path) -> anyhow::Result<File> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.with_context(|| path.display().to_string())
}

/// The portal's address by its own name, with the final slash.
fn portal(config: &Config) -> Option<String> {
    let portal = &config.portal;
    let name = portal.name.as_deref()?;
    Some(match (&portal.certificate, portal.port) {
        (Some(_), _) if portal.tls_port == 443 => format!("https://{name}/"),
        (Some(_), _) => format!("https://{name}:{}/", portal.tls_port),
        (None, 80) => format!("http://{name}/"),
        (None, port) => format!("http://{name}:{port}/"),
    })
}

fn language(text: &str) -> Result<Language, &'static str> {
    match text {
        "zh-CN" => Ok(Language::Chinese),
        "en" => Ok(Language::English),
        _ => Err("zh-CN or en"),
    }
}

/// What the table shows of a [`crate::domain::effect::BatchRow`].
#[derive(Deserialize)]
struct Row {
    batch: u32,
    hq: bool,
    count: u16,
    uses: u16,
    seconds: u64,
    zone: Option<String>,
    expires: Option<i64>,
    used: u32,
    revoked: bool,
}

const HEAD: [&str; 7] = ["BATCH", "VOUCHERS", "USES", "USED", "LENGTH", "ZONE", "GOOD UNTIL"];

fn list(path: &Path, output: &Output) -> anyhow::Result<()> {
    let answer = ask(path, Ask::Vouchers {}, PATIENCE)?;
    if output.json {
        return print::json(&answer);
    }
    let rows: Vec<Row> = serde_json::from_value(answer).context("the daemon's list")?;
    let zone = Config::load(path)?.store.zone()?;
    let day = |at: i64| {
        let end = jiff::Timestamp::from_millisecond(at - 1).ok()?;
        Some(end.to_zoned(zone.clone()).date().to_string())
    };
    let cells = |row: Row| {
        let until = match row.expires.and_then(day) {
            _ if row.revoked => "revoked".into(),
            Some(date) => date,
            None => "-".into(),
        };
        [
            name(if row.hq { row.batch | HQ } else { row.batch }),
            row.count.to_string(),
            row.uses.to_string(),
            row.used.to_string(),
            print::length(row.seconds),
            row.zone.unwrap_or_else(|| "-".into()),
            until,
        ]
    };
    print::table(&HEAD, rows.into_iter().map(cells))
}
