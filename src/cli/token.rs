//! `maitred token`: keys for follow tokens, and tokens for tests. `maitred hq` mints its own.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use data_encoding::BASE64;
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use super::print;
use crate::clock::{Clock, Trust};
use crate::config::Length;
use crate::domain::auth::follow::{self, Card, Token};
use crate::domain::names::{GuestKey, Mac, WallTime};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Make a key: its seed goes to a new file (mode 0600), its public half, for follow.keys, is
    /// printed.
    #[arg(long, value_name = "FILE", conflicts_with = "Mint")]
    generate: Option<PathBuf>,
    #[command(flatten)]
    mint: Option<Mint>,
}

/// What a token says.
#[derive(Debug, clap::Args)]
struct Mint {
    /// The file of the key that signs.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The store's id.
    #[arg(long, value_name = "ID")]
    store: String,
    /// The name of the zone that the device is in.
    #[arg(long)]
    zone: String,
    /// The device.
    #[arg(long)]
    mac: Mac,
    /// The guest's key: 32 hexadecimal digits.
    #[arg(long, value_name = "KEY")]
    guest: GuestKey,
    /// The token is good for this long.
    #[arg(long, value_name = "LENGTH", default_value = "5m")]
    lifetime: Length,
}

pub(super) fn token(arguments: &Arguments) -> anyhow::Result<()> {
    match (&arguments.generate, &arguments.mint) {
        (Some(path), _) => print::line(&generate(path)?),
        (None, Some(wanted)) => {
            let now = Clock::new(Trust::Always).now().wall.context("there is no wall clock")?;
            print::line(&mint(wanted, now)?)
        }
        (None, None) => anyhow::bail!("say --generate, or what the token is for"),
    }
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
    Ok(BASE64.encode(read_key(path)?.public_key().as_ref()))
}

fn mint(wanted: &Mint, now: WallTime) -> anyhow::Result<String> {
    anyhow::ensure!(wanted.lifetime.0 <= follow::LONGEST, "a token is good for a day at most");
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce)?;
    let token = Token {
        card: Card::new(&wanted.store, &wanted.zone, wanted.mac),
        guest: wanted.guest,
        issued: u32::try_from(now.seconds())?,
        expires: u32::try_from((now + wanted.lifetime.0).seconds())?,
        nonce,
    };
    Ok(token.mint(&read_key(&wanted.key)?))
}

pub(super) fn read_key(path: &Path) -> anyhow::Result<Ed25519KeyPair> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let seed = BASE64.decode(text.trim().as_bytes()).ok();
    seed.and_then(|seed| Ed25519KeyPair::from_seed_unchecked(&seed).ok())
        .with_context(|| format!("{} is not a key of ours", path.display()))
}
