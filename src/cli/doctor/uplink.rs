//! What lies beyond the router, and what of it guests reach before the login.

use std::collections::BTreeSet;
use std::net::{IpAddr, ToSocketAddrs as _};

use super::Finding;
use crate::adapters::uplink::{self, Internet};
use crate::config::{Config, garden};
use crate::domain::probe::CHECKS;

/// The internet answers as itself.
pub(super) fn internet() -> Option<Finding> {
    match uplink::look() {
        Internet::There => None,
        Internet::Captive(url) => Some(Finding::new(
            format!("the uplink is itself behind a portal: {url} is answered by it"),
            "log the router in there, or ask the provider for a line without a portal: guests' \
             phones will not call this internet",
        )),
        Internet::Silent(url, problem) => Some(Finding::new(
            format!("the internet does not answer: {url}: {problem}"),
            "mend the uplink or its DNS; guests still get the page, and the login needs the \
             message's provider",
        )),
    }
}

/// The same by name: nothing needs to be asked.
pub(super) fn garden_names(config: &Config) -> Vec<Finding> {
    let found = config.checks_in_gardens().into_iter();
    let finding = |evidence| {
        Finding::new(
            evidence,
            "take that name out, or name the hosts below it that guests need: a phone that gets \
             its answer before the login opens no page",
        )
    };
    found.map(finding).collect()
}

/// A check that is answered before the login says "online" too early, and no sheet opens.
pub(super) fn garden(config: &Config) -> Vec<Finding> {
    let gardens: Vec<_> = config
        .zone
        .iter()
        .filter(|zone| garden::networks(&zone.walled_garden).next().is_some())
        .collect();
    if gardens.is_empty() {
        return Vec::new();
    }
    let hosts: BTreeSet<&str> = CHECKS.iter().map(|check| check.host).collect();
    let resolved: Vec<(&str, IpAddr)> = hosts
        .into_iter()
        .filter_map(|host| Some((host, (host, 80).to_socket_addrs().ok()?)))
        .flat_map(|(host, found)| found.map(move |address| (host, address.ip())))
        .collect();
    gardens
        .into_iter()
        .filter_map(|zone| {
            let (host, address) = resolved.iter().find(|(_, address)| {
                garden::networks(&zone.walled_garden).any(|network| network.contains(*address))
            })?;
            Some(Finding::new(
                format!(
                    "the garden of zone {} holds {address}, an address of {host}: phones ask it \
                     whether they are online",
                    zone.name
                ),
                "take that network out of walled_garden, or make it narrower: a phone that gets \
                 its answer before the login opens no page",
            ))
        })
        .collect()
}
