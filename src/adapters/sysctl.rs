//! The kernel is set up for a home, and for programs rather than for forwarding. Its tables are made
//! larger for a store, never smaller, while we may still write below `/proc/sys`.

use std::fs;
use std::path::{Path, PathBuf};

use tracing::{debug, info};

/// The most connections that are asked for.
const CONNECTIONS_MOST: u64 = 65_536;
/// One connection for so much memory: an entry takes about 320 bytes.
const KIB_A_CONNECTION: u64 = 4;
/// The most neighbours that are asked for.
const NEIGHBOURS_MOST: u64 = 65_536;
/// A device has an IPv4 address and a few of IPv6.
const NEIGHBOURS_A_DEVICE: u64 = 4;

/// Looks for a socket before it looks for a route, for each packet of both families. It pays where most
/// packets end; on a router it costs those that go on (the kernel's `ip-sysctl.rst`).
const EARLY_DEMUX: &str = "/proc/sys/net/ipv4/ip_early_demux";

/// Raises the limits of conntrack and of the neighbour tables, for so many devices, and spares what is
/// forwarded the search for a socket of ours. What cannot be set stays: a container's kernel may
/// refuse it.
pub fn prepare(devices: usize) {
    match fs::write(EARLY_DEMUX, "0") {
        Ok(()) => info!(name = EARLY_DEMUX, "turned off"),
        Err(problem) => info!(name = EARLY_DEMUX, %problem, "not turned off"),
    }
    let memory = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_kib(&text));
    for (path, wanted) in wishes(devices, memory.unwrap_or(0)) {
        raise_one(&path, wanted);
    }
}

fn wishes(devices: usize, memory_kib: u64) -> Vec<(PathBuf, u64)> {
    let connections = (memory_kib / KIB_A_CONNECTION).min(CONNECTIONS_MOST);
    let devices = u64::try_from(devices).unwrap_or(NEIGHBOURS_MOST);
    let neighbours = devices.saturating_mul(NEIGHBOURS_A_DEVICE).min(NEIGHBOURS_MOST);
    // Below the first nothing is tidied away; above the third nobody new is found.
    // As many chains as connections, which is how the kernel begins (`nf_conntrack-sysctl.rst`). It lets
    // the first network namespace alone set them.
    let mut all = ["max", "buckets"]
        .map(|what| (format!("net/netfilter/nf_conntrack_{what}"), connections))
        .to_vec();
    for family in ["ipv4", "ipv6"] {
        for (step, share) in [(1, 4), (2, 2), (3, 1)] {
            let name = format!("net/{family}/neigh/default/gc_thresh{step}");
            all.push((name, neighbours / share));
        }
    }
    all.into_iter().map(|(name, wanted)| (Path::new("/proc/sys").join(name), wanted)).collect()
}

fn raise_one(path: &Path, wanted: u64) {
    let held = fs::read_to_string(path).map(|text| text.trim().parse::<u64>());
    let name = path.display();
    match held {
        Ok(Ok(held)) if held >= wanted => {}
        Ok(Ok(held)) => match fs::write(path, wanted.to_string()) {
            Ok(()) => info!(%name, from = held, to = wanted, "raised"),
            Err(problem) => info!(%name, held, wanted, %problem, "not raised"),
        },
        _ => debug!(%name, "not there"),
    }
}

fn total_kib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_fit_the_router() {
        let wanted = |devices, memory| -> Vec<u64> {
            wishes(devices, memory).into_iter().map(|(_, wanted)| wanted).collect()
        };
        assert_eq!(wanted(300, 64 << 10)[..5], [16_384, 16_384, 300, 600, 1200]);
        assert_eq!(wanted(10_000, 8 << 20)[..5], [65_536, 65_536, 10_000, 20_000, 40_000]);
        assert_eq!(wanted(usize::MAX, 1 << 20)[4], 65_536);
        assert_eq!(total_kib("MemTotal:      24684224 kB\nMemFree: 1 kB\n"), Some(24_684_224));
        assert_eq!(total_kib("nonsense"), None);
    }

    #[test]
    fn only_upwards() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("limit");
        for (held, wanted, after) in [("1024\n", 4096, "4096"), ("4096\n", 1024, "4096\n")] {
            fs::write(&path, held).unwrap();
            raise_one(&path, wanted);
            assert_eq!(fs::read_to_string(&path).unwrap(), after);
        }
        raise_one(&folder.path().join("missing"), 1);
    }
}
