//! What lies beyond the router, and what of it guests reach before the login.

use std::collections::BTreeSet;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::time::Duration;

use super::Finding;
use crate::adapters::client;
use crate::config::{Config, garden};
use crate::domain::probe::{Answer, CHECKS, Check, System, Verdict};

/// Time for one check.
const PATIENCE: Duration = Duration::from_secs(4);
/// As much of an answer as a check looks at.
const BODY: u64 = 4096;

/// The internet answers as itself; one of a few well-known checks is enough.
pub(super) fn internet() -> Vec<Finding> {
    let known = [System::AndroidChina, System::Apple, System::Windows];
    let checks =
        known.iter().filter_map(|system| CHECKS.iter().find(|check| check.system == *system));
    let mut silent = None;
    for check in checks {
        match ask(check) {
            Ok(Verdict::Online) => return Vec::new(),
            Ok(Verdict::Portal | Verdict::Failure) => {
                return vec![Finding::new(
                    format!(
                        "the uplink is itself behind a portal: {} is answered by it",
                        check.url()
                    ),
                    "log the router in there, or ask the provider for a line without a portal: \
                     guests' phones will not call this internet",
                )];
            }
            Err(problem) => silent = Some((check, problem)),
        }
    }
    let finding = silent.map(|(check, problem)| {
        Finding::new(
            format!("the internet does not answer: {}: {problem}", check.url()),
            "mend the uplink or its DNS; guests still get the page, and the login needs the \
             message's provider",
        )
    });
    finding.into_iter().collect()
}

fn ask(check: &Check) -> anyhow::Result<Verdict> {
    let url = check.url();
    let mut reply = client::agent(&url, None, PATIENCE)?.get(&url).call()?;
    let length = reply.headers().get("content-length");
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    let status = reply.status().as_u16();
    let body = reply.body_mut().with_config().limit(BODY).read_to_string().unwrap_or_default();
    Ok(check.judge(Answer { status, length, body: &body }))
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
