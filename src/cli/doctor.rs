//! `maitred doctor`: why a phone gets no page, with the evidence and the mend.
//!
//! Each question is a function of its own that answers with what it found wrong; none changes
//! anything. It runs beside the daemon and without it.

mod network;
mod portal;
mod uplink;

use std::path::Path;

use serde::Serialize;

use super::{Output, print};
use crate::clock::{Clock, Trust};
use crate::config::Config;
use crate::domain::names::Now;

/// One thing that is wrong.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Finding {
    /// What was seen.
    evidence: String,
    /// What to do about it.
    mend: &'static str,
}

impl Finding {
    fn new(evidence: impl Into<String>, mend: &'static str) -> Self {
        Self { evidence: evidence.into(), mend }
    }
}

pub(super) fn doctor(file: &Path, output: &Output) -> anyhow::Result<()> {
    let config = Config::load(file)?;
    let now = Clock::new(config.store.clock).now();
    let mut findings = network::daemon(&config);
    findings.extend(network::table());
    findings.extend(network::offload(&config));
    findings.extend(network::bridges(&config));
    findings.extend(network::gaps(&config));
    findings.extend(clock(config.store.clock, now));
    findings.extend(portal::name(&config));
    findings.extend(portal::certificate(&config, now));
    findings.extend(portal::announcement(&config, now));
    findings.extend(portal::pictures(&config));
    findings.extend(uplink::garden_names(&config));
    let uplink = uplink::internet();
    // Without an uplink names resolve slowly or not at all.
    if uplink.is_none() {
        findings.extend(uplink::garden(&config));
    }
    findings.extend(uplink);
    if output.json {
        print::json(&serde_json::to_value(&findings)?)?;
    } else {
        for Finding { evidence, mend } in &findings {
            print::line(&format!("- {evidence}\n  {mend}"))?;
        }
    }
    match findings.len() {
        0 if output.json => Ok(()),
        0 => print::line("nothing is wrong"),
        count => anyhow::bail!("{count} found wrong"),
    }
}

fn clock(trust: Trust, now: Now) -> Option<Finding> {
    let unknown = trust == Trust::Ntp && now.wall.is_none();
    unknown.then(|| {
        Finding::new(
            "the clock is not known to be right: the kernel says that NTP does not steer it",
            "start NTP (`/etc/init.d/sysntpd start`), or set store.clock = \"always\" on a machine \
             with a clock battery; until then certificates and follow tokens are not believed",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::names::{BootTime, WallTime};

    #[test]
    fn only_a_clock_that_must_be_steered_and_is_not_is_found() {
        let now = |wall| Now { boot: BootTime(1), wall };
        assert!(clock(Trust::Ntp, now(None)).unwrap().evidence.contains("NTP"));
        assert_eq!(clock(Trust::Ntp, now(Some(WallTime(1)))), None);
        assert_eq!(clock(Trust::Always, now(Some(WallTime(1)))), None);
    }
}
