//! Tables for people, JSON for scripts.

use std::io::{self, ErrorKind, Write as _};

use serde_json::Value;

use super::Output;

/// Prints a line; a reader that went away (`| head`) is no failure.
pub(super) fn line(text: &str) -> anyhow::Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Prints JSON.
pub(super) fn json(value: &Value) -> anyhow::Result<()> {
    line(&serde_json::to_string_pretty(value)?)
}

/// Prints names and values, a line each; what is nested is named by its path.
pub(super) fn facts(value: &Value, output: &Output) -> anyhow::Result<()> {
    if output.json {
        return json(value);
    }
    let mut rows = Vec::new();
    flatten(value, "", &mut rows);
    line(&aligned(&rows))
}

/// Prints rows under a head.
pub(super) fn table<const N: usize>(
    head: &[&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> anyhow::Result<()> {
    let head = head.map(str::to_owned);
    line(&aligned(&std::iter::once(head).chain(rows).collect::<Vec<_>>()))
}

/// Bytes, to three digits: `999 B`, `1.0 kB`, `12.3 MB`.
pub(super) fn bytes(count: u64) -> String {
    let mut unit = 1;
    for (name, next) in [("B", 1_000), ("kB", 1_000_000), ("MB", 1_000_000_000)] {
        if count < next {
            return if unit == 1 {
                format!("{count} {name}")
            } else {
                format!("{}.{} {name}", count / unit, count % unit * 10 / unit)
            };
        }
        unit = next;
    }
    format!("{}.{} GB", count / unit, count % unit * 10 / unit)
}

/// Seconds, to two units: `45s`, `5m 03s`, `4h 30m`, `2d 01h`.
pub(super) fn length(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if days > 0 => format!("{days}d {:02}h", hours % 24),
        () if hours > 0 => format!("{hours}h {:02}m", minutes % 60),
        () if minutes > 0 => format!("{minutes}m {:02}s", seconds % 60),
        () => format!("{seconds}s"),
    }
}

fn flatten(value: &Value, path: &str, rows: &mut Vec<[String; 2]>) {
    let below = |name: &str| if path.is_empty() { name.into() } else { format!("{path}.{name}") };
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                flatten(member, &below(name), rows);
            }
        }
        Value::Array(items) => {
            for (place, item) in items.iter().enumerate() {
                flatten(item, &below(&place.to_string()), rows);
            }
        }
        Value::String(text) => rows.push([path.into(), text.clone()]),
        other => rows.push([path.into(), other.to_string()]),
    }
}

fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{:width$}", clean(cell)));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A guest chooses its device's name; it must not steer the clerk's terminal.
fn clean(cell: &str) -> String {
    cell.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn amounts_are_short() {
        let shown = [0, 999, 1_000, 12_345_678, 7_000_000_000].map(bytes);
        assert_eq!(shown, ["0 B", "999 B", "1.0 kB", "12.3 MB", "7.0 GB"]);
        let shown = [45, 303, 16_200, 176_400].map(length);
        assert_eq!(shown, ["45s", "5m 03s", "4h 30m", "2d 01h"]);
    }

    #[test]
    fn facts_are_flat_and_aligned() {
        let mut rows = Vec::new();
        flatten(&json!({"sms": {"taken": 3}, "zones": ["a"], "up": true}), "", &mut rows);
        assert_eq!(aligned(&rows), "sms.taken  3\nup         true\nzones.0    a");
    }

    #[test]
    fn a_device_name_cannot_steer_the_terminal() {
        let rows = [["\u{1b}[2Jx\n".to_owned(), "手机".to_owned()]];
        assert_eq!(aligned(&rows), "?[2Jx?  手机");
    }
}
