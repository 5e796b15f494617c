//! `[dns]` and `[pass]`.

use super::{Found, MINUTE, RESERVED_PORTS};
use crate::config::Config;

pub(super) fn check(config: &Config, found: &mut Found) {
    let (dns, portal) = (&config.dns, &config.portal);
    let secure = portal.certificate.as_ref().map(|_| portal.tls_port);
    let own = !RESERVED_PORTS.contains(&dns.port)
        && ![portal.port, portal.intercept_port].contains(&dns.port)
        && secure != Some(dns.port);
    found.unless(own, "dns.port", "must be a port of its own, not 0, 53 or one of [portal]");
    found.unless(dns.upstreams.len() <= 3, "dns.upstreams", "must be three at most");
    let Some(pass) = &config.pass else { return };
    found.unless(!pass.garden.is_empty(), "pass.garden", "must name what a pass opens");
    found.length("pass.length", pass.length, 10 * MINUTE, "must be above 0, 10m at most");
    found.unless(pass.per_device_day > 0, "pass.per_device_day", "must be at least 1");
    found.unless(
        (1..=10_000).contains(&pass.per_store_day),
        "pass.per_store_day",
        "must be 1 to 10000",
    );
    found.unless(!config.follow.keys.is_empty(), "pass", "needs follow.keys: it is for following");
}
