//! A start that comes to nothing must not leave guests' networks open, as they are after a reboot.

use std::path::Path;

use crate::adapters::firewall;
use crate::config::Config;

/// Before the configuration is known: the interfaces that the file seems to name.
pub(super) fn stand_by_file(path: &Path) {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    stand(text.lines().filter_map(interface).map(str::to_owned).collect());
}

/// Before the table is opened.
pub(super) fn stand_by_config(config: &Config) {
    stand(config.zone.iter().map(|zone| zone.interface.clone()).collect());
}

fn stand(mut interfaces: Vec<String>) {
    interfaces.sort();
    interfaces.dedup();
    if interfaces.is_empty() {
        return;
    }
    if let Err(problem) = firewall::wall_off(interfaces) {
        eprintln!("maitred: guests may be online: {problem}");
    }
}

/// The interface that a line names, as in `interface = "br-guest"`.
fn interface(line: &str) -> Option<&str> {
    let value = line.trim().strip_prefix("interface")?.trim_start().strip_prefix('=')?.trim_start();
    let quote = value.chars().next().filter(|quote| ['"', '\''].contains(quote))?;
    let (name, _) = value.strip_prefix(quote)?.split_once(quote)?;
    // As the kernel takes them.
    let good = |byte: u8| byte.is_ascii_graphic() && byte != b'/';
    ((1..16).contains(&name.len()) && name.bytes().all(good)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_found_in_any_file() {
        for (line, found) in [
            (r#"interface = "br-guest""#, Some("br-guest")),
            ("  interface='wlan0' # there", Some("wlan0")),
            (r#"interface = "br-lan.10"  x"#, Some("br-lan.10")),
            (r#"interface = "br-guest"#, None),
            (r#"interface = "a/b""#, None),
            (r#"interface = "sixteen_or_more_""#, None),
            (r#"interface = """#, None),
            (r#"interfaces = "br-guest""#, None),
            (r#"# interface = "br-guest""#, None),
            ("interface = é", None),
            ("interface =", None),
        ] {
            assert_eq!(interface(line), found, "{line}");
        }
    }
}
