//! The portal's name, its certificate, and what DHCP says of it.

use std::fs;
use std::net::{IpAddr, ToSocketAddrs as _, UdpSocket};
use std::time::Duration;

use super::Finding;
use crate::adapters::dnsmasq::Announcement;
use crate::adapters::http::tls::{self, Files, Good};
use crate::clock::{Clock, Trust};
use crate::config::Config;
use crate::domain::names::Now;

/// The kernel counts a process's start in these (`USER_HZ`, proc(5)).
const TICKS_A_SECOND: u64 = 100;

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
    let file = announcement.file();
    let shown = file.display();
    if !announcement.stands() {
        let evidence = format!("the API is not announced: {shown} is missing or says otherwise");
        return Some(Finding::new(
            evidence,
            "start maitred, and let it write to portal.dnsmasq_dir",
        ));
    }
    let Some(age) = dnsmasq_age(now) else {
        let evidence = "the API is not announced: no dnsmasq runs here";
        return Some(Finding::new(evidence, "start it (`/etc/init.d/dnsmasq start`)"));
    };
    let written = fs::metadata(&file).ok()?.modified().ok()?;
    let written = written.duration_since(std::time::SystemTime::UNIX_EPOCH).ok()?;
    let wall = Clock::new(Trust::Always).now().wall?;
    let file_age = Duration::from_millis(u64::try_from(wall.0).ok()?).saturating_sub(written);
    (file_age < age).then(|| {
        Finding::new(
            format!("the API is not announced: {shown} is newer than the dnsmasq that runs"),
            "restart dnsmasq (`/etc/init.d/dnsmasq restart`); it must read the folder (conf-dir)",
        )
    })
}

fn examined(config: &Config, now: Now) -> Option<Result<Good, tls::CertificateError>> {
    let files = Files::from_config(&config.portal)?;
    Some(files.load().and_then(|key| files.examine(&key.cert, now.wall)))
}

/// How long this network namespace's oldest dnsmasq has run.
fn dnsmasq_age(now: Now) -> Option<Duration> {
    let here = fs::read_link("/proc/self/ns/net").ok()?;
    let started = fs::read_dir("/proc").ok()?.flatten().filter_map(|process| {
        let path = process.path();
        let name = fs::read_to_string(path.join("comm")).ok()?;
        if name.trim() != "dnsmasq" || fs::read_link(path.join("ns/net")).ok()? != here {
            return None;
        }
        // proc(5): the 22nd field; the second is a name in brackets that may hold anything.
        let stat = fs::read_to_string(path.join("stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse::<u64>().ok()
    });
    let started = Duration::from_millis(started.min()? * 1000 / TICKS_A_SECOND);
    Some(Duration::from_millis(now.boot.0).saturating_sub(started))
}
