//! `maitred clients`: every device known.

use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;

use super::{Output, PATIENCE, ask, print};
use crate::adapters::control::Ask;

/// What the table shows of a [`crate::domain::effect::ClientRow`].
#[derive(Deserialize)]
struct Row {
    mac: String,
    zone: String,
    state: String,
    guest: Option<String>,
    addresses: Vec<String>,
    hostname: Option<String>,
    seconds_left: Option<u64>,
    up: u64,
    down: u64,
    dwell: Option<u64>,
}

const HEAD: [&str; 10] =
    ["MAC", "ZONE", "STATE", "GUEST", "STAY", "LEFT", "UP", "DOWN", "ADDRESS", "NAME"];

pub(super) fn clients(config: &Path, output: &Output) -> anyhow::Result<()> {
    let answer = ask(config, Ask::Clients {}, PATIENCE)?;
    if output.json {
        return print::json(&answer);
    }
    let rows: Vec<Row> = serde_json::from_value(answer).context("the daemon's list")?;
    print::table(&HEAD, rows.into_iter().map(cells))
}

fn cells(row: Row) -> [String; HEAD.len()] {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    let address = match row.addresses.as_slice() {
        [] => "-".into(),
        [only] => only.clone(),
        [first, rest @ ..] => format!("{first} +{}", rest.len()),
    };
    [
        row.mac,
        row.zone,
        row.state,
        or_dash(row.guest),
        or_dash(row.dwell.map(print::length)),
        or_dash(row.seconds_left.map(print::length)),
        print::bytes(row.up),
        print::bytes(row.down),
        address,
        or_dash(row.hostname),
    ]
}
