//! The portal's name, its certificate, and what DHCP says of it.

use std::fs;
use std::net::{IpAddr, ToSocketAddrs as _, UdpSocket};
use std::path::Path;

use super::Finding;
use crate::adapters::dnsmasq::Announcement;
use crate::adapters::http::brand::{BrandError, Parts};
use crate::adapters::http::tls::{self, Files, Good};
use crate::config::Config;
use crate::domain::names::Now;

/// The portal's name leads to us.
pub(super) fn name(config: &Config) -> Option<Finding> {
    let name = config.portal.name.as_deref()?;
    let mend = "answer it from this router's DNS, with the router's own address: \
                `uci add_list dhcp.@dnsmasq[0].address='/NAME/ADDRESS'`, or unset portal.name";
    let addresses: Vec<IpAddr> = match (name, 80).to_socket_addrs() {
        Ok(found) => found.map(|address| address.ip()).collect(),
        Err(problem) => {
            let evidence = format!("the portal's name {name} does not resolve: {problem}");
            return Some(Finding::new(evidence, mend));
        }
    };
    let foreign: Vec<String> =
        addresses.iter().filter(|address| !is_ours(**address)).map(IpAddr::to_string).collect();
    (!foreign.is_empty()).then(|| {
        let evidence = format!(
            "the portal's name {name} leads to {}, which is not this router",
            foreign.join(", ")
        );
        Finding::new(evidence, mend)
    })
}

/// A socket can be bound to our own addresses alone.
fn is_ours(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

/// The certificate is one that phones believe, and will be for a while.
pub(super) fn certificate(config: &Config, now: Now) -> Option<Finding> {
    let mend = "renew it, with the whole chain in portal.certificate; until then the Captive \
                Portal API is not announced";
    match examined(config, now)? {
        Ok(Good { expires: None }) | Err(tls::CertificateError::NoClock) => None,
        Ok(Good { expires: Some(at) }) => {
            let evidence = format!("the portal's certificate expires on {}", tls::date(at));
            Some(Finding::new(evidence, "renew it"))
        }
        Err(problem) => {
            Some(Finding::new(format!("the portal's certificate is not good: {problem}"), mend))
        }
    }
}

/// dnsmasq announces the API while its certificate is good.
pub(super) fn announcement(config: &Config, now: Now) -> Option<Finding> {
    let announcement = Announcement::from_config(config)?;
    examined(config, now)?.ok()?;
    if !announcement.stands() {
        let file = announcement.file();
        let evidence =
            format!("the API is not announced: {} is missing or says otherwise", file.display());
        return Some(Finding::new(
            evidence,
            "start maitred, and let it write to portal.dnsmasq_dir",
        ));
    }
    let folder = config.portal.dnsmasq_dir.as_deref()?;
    (!is_read_by_dnsmasq(folder)).then(|| {
        Finding::new(
            format!("the API is not announced: no dnsmasq here reads {}", folder.display()),
            "give dnsmasq the line `dhcp-optsdir=` with portal.dnsmasq_dir, and start it",
        )
    })
}

/// The pictures of the pages can be shown.
pub(super) fn pictures(config: &Config) -> Vec<Finding> {
    let (_, problems) = Parts::from_config(config);
    let finding = |problem: BrandError| {
        Finding::new(problem.to_string(), "mend [brand], and restart; the pages go without it")
    };
    problems.into_iter().map(finding).collect()
}

fn examined(config: &Config, now: Now) -> Option<Result<Good, tls::CertificateError>> {
    let files = Files::from_config(&config.portal)?;
    Some(files.load().and_then(|key| files.examine(&key.cert, now.wall)))
}

/// Whether a dnsmasq of this network namespace was told of the folder, on its command line or in
/// the file that names.
fn is_read_by_dnsmasq(folder: &Path) -> bool {
    let (Ok(here), Ok(processes)) = (fs::read_link("/proc/self/ns/net"), fs::read_dir("/proc"))
    else {
        return false;
    };
    let option = format!("dhcp-optsdir={}", folder.display());
    processes.flatten().map(|process| process.path()).any(|process| {
        let is_dnsmasq = fs::read_to_string(process.join("comm"))
            .is_ok_and(|name| name.trim() == "dnsmasq")
            && fs::read_link(process.join("ns/net")).is_ok_and(|namespace| namespace == here);
        is_dnsmasq && is_told(&process, &option)
    })
}

fn is_told(process: &Path, option: &str) -> bool {
    let line = fs::read_to_string(process.join("cmdline")).unwrap_or_default();
    let mut words = line.split('\0');
    let mut file = None;
    while let Some(word) = words.next() {
        if word.strip_prefix("--") == Some(option) {
            return true;
        }
        file = match word {
            "-C" => words.next(),
            word => word.strip_prefix("--conf-file=").or(word.strip_prefix("-C")).or(file),
        };
    }
    let text = fs::read_to_string(file.unwrap_or("/etc/dnsmasq.conf")).unwrap_or_default();
    text.lines().any(|line| line.trim() == option)
}
