//! The daemon, its ports, the kernel's table.

use std::fs;
use std::time::Duration;

use super::Finding;
use crate::adapters::bridges::{self, Bridge, Gap};
use crate::adapters::control::{self, Ask, AskError};
use crate::adapters::{firewall, http};
use crate::config::Config;

/// Time for the daemon to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// The daemon answers; if not, whether something holds its ports.
pub(super) fn daemon(config: &Config) -> Vec<Finding> {
    match control::ask(&config.store.run_dir, Ask::Status {}, PATIENCE) {
        Ok(_) => Vec::new(),
        Err(AskError::NotRunning) => {
            let mut findings = vec![Finding::new(
                "maitred does not run",
                "start it (`/etc/init.d/maitred start`) and read its log (`logread -e maitred`)",
            )];
            findings.extend(ports(config));
            findings
        }
        Err(problem) => vec![Finding::new(
            format!("maitred does not answer: {problem}"),
            "restart it (`/etc/init.d/maitred restart`); guests who are online stay online",
        )],
    }
}

/// What keeps our ports from us. Asked only while we do not hold them ourselves.
fn ports(config: &Config) -> Vec<Finding> {
    let portal = &config.portal;
    let secure = portal.certificate.as_ref().map(|_| portal.tls_port);
    let ports = [portal.intercept_port, portal.port, config.dns.port].into_iter().chain(secure);
    let taken = ports.filter_map(|port| http::bind_zones(&config.zone, port).err());
    taken
        .map(|problem| {
            Finding::new(
                problem.to_string(),
                "if another server listens there (`netstat -lntp`), move it or set another port in \
                 [portal] or [dns]; if the interface is missing, mend zone.interface",
            )
        })
        .collect()
}

/// Our table decides what guests may; without it the kernel forwards them unasked.
pub(super) fn table() -> Option<Finding> {
    match firewall::is_standing() {
        Ok(true) => None,
        Ok(false) => {
            let forwards = |file| fs::read_to_string(file).is_ok_and(|on| on.trim() != "0");
            let families: Vec<&str> = [
                ("IPv4", "/proc/sys/net/ipv4/ip_forward"),
                ("IPv6", "/proc/sys/net/ipv6/conf/all/forwarding"),
            ]
            .into_iter()
            .filter_map(|(family, file)| forwards(file).then_some(family))
            .collect();
            let outside = match families.as_slice() {
                [] => "and nothing is forwarded".to_owned(),
                families => {
                    format!("and the kernel forwards {} without it", families.join(" and "))
                }
            };
            Some(Finding::new(
                format!("the table `inet maitred` does not stand, {outside}"),
                "start maitred: it builds the table first. firewall.on_stop = \"open\" removes it \
                 at a stop",
            ))
        }
        Err(problem) => Some(Finding::new(
            format!("the kernel's tables cannot be read: {problem}"),
            "run doctor as root, on a kernel with nf_tables (`opkg install kmod-nft-core`)",
        )),
    }
}

/// A flow table takes packets past our table.
pub(super) fn offload(config: &Config) -> Option<Finding> {
    // A kernel that cannot be asked is found by `table`.
    passed_by(&firewall::flow_tables().unwrap_or_default(), config.firewall.allow_flow_offload)
}

fn passed_by(tables: &[String], allowed: bool) -> Option<Finding> {
    let refused = if allowed { "" } else { ", and maitred does not start with it" };
    (!tables.is_empty()).then(|| {
        let names = tables.join(", ");
        Finding::new(
            format!("flow offload is on ({names}): guests' packets go past their limits{refused}"),
            "turn it off: `uci set firewall.@defaults[0].flow_offloading=0`, `uci commit \
             firewall`, `/etc/init.d/firewall restart`",
        )
    })
}

/// A port of a bridge forwards in the bridge's name: IPv4 and IPv6 of its guests pass by our table.
pub(super) fn bridges(config: &Config) -> Vec<Finding> {
    let master = |interface: &str| {
        let link = fs::read_link(format!("/sys/class/net/{interface}/master")).ok()?;
        Some(link.file_name()?.to_string_lossy().into_owned())
    };
    let zones = config.zone.iter().filter_map(|zone| Some((zone, master(&zone.interface)?)));
    zones
        .map(|(zone, bridge)| {
            Finding::new(
                format!(
                    "zone {} is {}, a port of the bridge {bridge}: what its guests send over IPv4 \
                     and IPv6 is forwarded outside our table",
                    zone.name, zone.interface
                ),
                "set zone.interface to the bridge",
            )
        })
        .collect()
}

/// Where `isolate` does not keep guests apart.
pub(super) fn gaps(config: &Config) -> Vec<Finding> {
    // A kernel that cannot be asked is found by `table`.
    let gaps = bridges::gaps(&Bridge::of_zones(&config.zone)).unwrap_or_default();
    let found = |gap: Gap| Finding::new(format!("guests reach each other: {gap}"), mend(&gap));
    gaps.into_iter().map(found).collect()
}

const fn mend(gap: &Gap) -> &'static str {
    match gap {
        Gap::NoBridge(_) => {
            "set zone.interface to a bridge or to a VLAN of one, or remove `isolate`, if something \
             else keeps guests apart"
        }
        Gap::NoFilter(_) => {
            "turn VLAN filtering on (`config bridge-vlan` in /etc/config/network), or give guests a \
             bridge of their own"
        }
        Gap::Shared { .. } => {
            "have one port at most that guests share with other networks, or give guests a bridge \
             of their own"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_table_is_found_by_its_name() {
        assert_eq!(passed_by(&[], false), None);
        let tables = ["ft of table fw4".to_owned()];
        let found = passed_by(&tables, false).unwrap().evidence;
        assert!(found.contains("(ft of table fw4)") && found.contains("does not start"), "{found}");
        assert!(!passed_by(&tables, true).unwrap().evidence.contains("does not start"));
    }
}
