//! What types alone cannot say: ranges, names, and values that contradict each other.

mod follow;
mod garden;
mod privacy;
mod sms;

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use jiff::tz::TimeZone;

use super::{Config, Length, Portal, Secret, Store, Zone};
use crate::domain::names::Mark;

const DAY: Duration = Duration::from_hours(24);
const MINUTE: Duration = Duration::from_mins(1);
/// Where a system has its time zones.
const ZONEINFO: &str = "/usr/share/zoneinfo";
/// DNS and DHCP, of both families, answer on these.
const RESERVED_PORTS: [u16; 6] = [0, 53, 67, 68, 546, 547];
/// A Unix socket's path has 108 bytes with its NUL (`unix(7)`); `/control.sock` is 13 of them.
const RUN_DIR_MAX: usize = 107 - 13;
/// A login must fit in a router's memory.
const ARGON2_MAX_KIB: u32 = 64 * 1024;

/// All that is wrong: the path of a value (`zone.0.name`) and a sentence about it.
pub(super) fn contradictions(config: &Config) -> Vec<(String, String)> {
    let mut found = Found(Vec::new());
    store(config, &mut found);
    portal(config, &mut found);
    brand(config, &mut found);
    zones(config, &mut found);
    garden::check(config, &mut found);
    code(config, &mut found);
    privacy::check(config, &mut found);
    sms::check(config, &mut found);
    visit(config, &mut found);
    staff(config, &mut found);
    hq(config, &mut found);
    follow::check(config, &mut found);
    lists(config, &mut found);
    found.0
}

impl Store {
    /// The store's time zone; the error says what jiff made of it.
    pub fn zone(&self) -> Result<TimeZone, jiff::Error> {
        let name = &self.time_zone;
        // jiff would look at all that the system has, and keep their names: 0.1 MB.
        let file = fs::read(Path::new(ZONEINFO).join(name));
        if let Some(zone) = file.ok().and_then(|file| TimeZone::tzif(name, &file).ok()) {
            return Ok(zone);
        }
        TimeZone::posix(name).or_else(|problem| TimeZone::get(name).map_err(|_| problem))
    }
}

struct Found(Vec<(String, String)>);

impl Found {
    /// Notes, unless `good`, that the value at `path` should be otherwise.
    fn unless(&mut self, good: bool, path: &str, should: &str) {
        if !good {
            let steps = path.split('.').filter(|step| step.parse::<usize>().is_err());
            let key = steps.collect::<Vec<_>>().join(".");
            self.0.push((path.to_owned(), format!("{key} {should}")));
        }
    }

    fn length(&mut self, path: &str, length: Length, most: Duration, should: &str) {
        self.unless(!length.0.is_zero() && length.0 <= most, path, should);
    }
}

fn store(config: &Config, found: &mut Found) {
    let store = &config.store;
    found.unless(
        name(&store.id, 64, "-_."),
        "store.id",
        "must be 1 to 64 letters, digits, '-', '_' or '.'",
    );
    found.unless(display_name(&store.name), "store.name", "must be 1 to 64 printable characters");
    found.unless(
        store.zone().is_ok(),
        "store.time_zone",
        "must be a name in this system's zoneinfo, such as \"Asia/Shanghai\", or a POSIX rule, \
         such as \"CST-8\"",
    );
    absolute(&store.state_dir, "store.state_dir", found);
    absolute(&store.run_dir, "store.run_dir", found);
    found.unless(
        store.run_dir.as_os_str().len() <= RUN_DIR_MAX,
        "store.run_dir",
        "must have at most 94 bytes, for the socket in it",
    );
    found.length(
        "store.commit_every",
        store.commit_every,
        5 * MINUTE,
        "must be above 0, 5m at most",
    );
}

fn portal(config: &Config, found: &mut Found) {
    let portal = &config.portal;
    for (path, port) in
        [("portal.port", portal.port), ("portal.intercept_port", portal.intercept_port)]
    {
        let free = !RESERVED_PORTS.contains(&port);
        found.unless(free, path, "must not be 0 or a port of DNS or DHCP");
    }
    found.unless(
        portal.port != portal.intercept_port,
        "portal.intercept_port",
        "must not be portal.port",
    );
    found.unless(
        portal.name.as_deref().is_none_or(host_name),
        "portal.name",
        "must be a host name, such as \"wifi.example.com\"",
    );
    secure_portal(portal, found);
    let devices = (1..=100).contains(&portal.max_devices);
    found.unless(devices, "portal.max_devices", "must be 1 to 100");
    found.unless(
        name(&portal.terms_version, 32, "-_."),
        "portal.terms_version",
        "must be 1 to 32 letters, digits, '-', '_' or '.'",
    );
}

fn brand(config: &Config, found: &mut Found) {
    let brand = &config.brand;
    let good = brand.name.as_deref().is_none_or(display_name);
    found.unless(good, "brand.name", "must be 1 to 64 printable characters");
    for (path, file) in [("brand.logo", &brand.logo), ("brand.hero", &brand.hero)] {
        if let Some(file) = file {
            absolute(file, path, found);
        }
    }
    for (language, words) in [("zh-CN", &brand.chinese), ("en", &brand.english)] {
        if let Some((key, should)) = words.problem() {
            found.unless(false, &format!("brand.{language}.{key}"), should);
        }
    }
}

fn secure_portal(portal: &Portal, found: &mut Found) {
    let port = portal.tls_port;
    let own = port != portal.port && port != portal.intercept_port;
    let good = portal.certificate.is_none() || own && !RESERVED_PORTS.contains(&port);
    found.unless(good, "portal.tls_port", "must be a port of its own, not 0 or one of DNS or DHCP");
    let paired = portal.certificate.is_some() == portal.key.is_some();
    found.unless(paired, "portal", "must have both certificate and key, or neither");
    let named = portal.certificate.is_none() || portal.name.is_some();
    found.unless(named, "portal.certificate", "needs portal.name, the name that it is for");
    let secure = portal.dnsmasq_dir.is_none() || portal.certificate.is_some();
    found.unless(secure, "portal.dnsmasq_dir", "needs portal.certificate: the API is TLS only");
    for (path, file) in [
        ("portal.certificate", &portal.certificate),
        ("portal.key", &portal.key),
        ("portal.roots", &portal.roots),
        ("portal.dnsmasq_dir", &portal.dnsmasq_dir),
    ] {
        if let Some(file) = file {
            absolute(file, path, found);
        }
    }
    let venue = portal.venue_url.as_deref();
    let good = venue.is_none_or(|url| url.starts_with("https://") && web_address(url));
    found.unless(good, "portal.venue_url", "must be an absolute https:// address");
}

fn zones(config: &Config, found: &mut Found) {
    found.unless(
        !config.zone.is_empty(),
        "zone",
        "is missing: there must be at least one [[zone]]",
    );
    found.unless(config.zone.len() <= 32, "zone", "may stand at most 32 times");
    let mask = config.firewall.mark_mask;
    found.unless(
        mask.checked_shr(mask.trailing_zeros()) == Some(0xffff),
        "firewall.mark_mask",
        "must be one run of 16 ones, such as 0xffff0000",
    );
    for (path, flows) in [
        ("firewall.flows_per_device", config.firewall.flows_per_device),
        ("firewall.flows_per_stranger", config.firewall.flows_per_stranger),
    ] {
        found.unless((10..=65_535).contains(&flows), path, "must be 10 to 65535");
    }
    let (mut names, mut interfaces) = (BTreeSet::new(), BTreeSet::new());
    for (place, zone) in config.zone.iter().enumerate() {
        let at = |key: &str| format!("zone.{place}.{key}");
        self::zone(zone, &at, found);
        found.unless(names.insert(&zone.name), &at("name"), "must be different in every zone");
        let new = interfaces.insert(&zone.interface);
        found.unless(new, &at("interface"), "must be different in every zone");
        found.unless(
            (1..=usize::from(Mark::MOST)).contains(&zone.max_clients),
            &at("max_clients"),
            &format!("must be 1 to {}", Mark::MOST),
        );
        if let Some(staff) = &config.staff {
            let port = staff.listen.port();
            let open = zone.users_to_router.iter().any(|open| !open.udp && open.port == port);
            found.unless(!open, &at("users_to_router"), "must not open staff.listen to guests");
        }
    }
}

fn zone(zone: &Zone, at: &dyn Fn(&str) -> String, found: &mut Found) {
    let good = name(&zone.name, 16, "-_");
    found.unless(good, &at("name"), "must be 1 to 16 letters, digits, '-' or '_'");
    found.unless(
        interface_name(&zone.interface),
        &at("interface"),
        "must be a network interface's name: 1 to 15 characters, no '/', ':' or space",
    );
    for (key, length) in [
        ("session_timeout", zone.session_timeout),
        ("idle_timeout", zone.idle_timeout),
        ("preauth_idle_timeout", zone.preauth_idle_timeout),
    ] {
        found.length(&at(key), length, 366 * DAY, "must be above 0, 366d at most");
    }
}

fn code(config: &Config, found: &mut Found) {
    let code = &config.code;
    found.unless((4..=6).contains(&code.length), "code.length", "must be 4 to 6");
    found.unless((1..=10).contains(&code.tries), "code.tries", "must be 1 to 10");
    found.length("code.lifetime", code.lifetime, 30 * MINUTE, "must be above 0, 30m at most");
    found.unless(code.resend_after.0 <= DAY, "code.resend_after", "must be at most 1d");
    for (path, count) in [
        ("code.per_device_day", code.per_device_day),
        ("code.per_number_hour", code.per_number_hour),
        ("code.per_number_day", code.per_number_day),
        ("code.per_prefix_day", code.per_prefix_day),
        ("code.per_zone_day", code.per_zone_day),
        ("code.per_store_day", code.per_store_day),
    ] {
        found.unless(count > 0, path, "must be at least 1; without [sms] no codes are sent");
    }
    found.unless(!code.countries.is_empty(), "code.countries", "must name at least one country");
    for (place, country) in code.countries.iter().enumerate() {
        // ITU-T E.164: a country code has 1 to 3 digits, the first not 0.
        let good = (1..=3).contains(&country.len())
            && country.bytes().all(|byte| byte.is_ascii_digit())
            && !country.starts_with('0');
        let path = format!("code.countries.{place}");
        found.unless(good, &path, "must be country codes of 1 to 3 digits, such as \"86\"");
    }
}

fn visit(config: &Config, found: &mut Found) {
    let visit = &config.visit;
    found.length("visit.leave_after", visit.leave_after, DAY, "must be above 0, 1d at most");
    found.unless(
        visit.merge_gap.0.is_zero() || visit.merge_gap >= visit.leave_after,
        "visit.merge_gap",
        "must be at least visit.leave_after (a shorter gap goes unnoticed), or \"0s\"",
    );
    found.unless(visit.merge_gap.0 <= DAY, "visit.merge_gap", "must be at most 1d");
    found.unless(visit.visitor_after.0 <= DAY, "visit.visitor_after", "must be at most 1d");
}

fn staff(config: &Config, found: &mut Found) {
    let Some(staff) = &config.staff else { return };
    let (address, port) = (staff.listen.ip(), staff.listen.port());
    let portal = &config.portal;
    let secure = portal.certificate.as_ref().map(|_| portal.tls_port);
    let own = ![0, portal.port, portal.intercept_port].contains(&port) && secure != Some(port);
    found.unless(own, "staff.listen", "must have a port of its own, not 0 or one of [portal]");
    let broadcast = address == IpAddr::V4(std::net::Ipv4Addr::BROADCAST);
    found.unless(
        !address.is_unspecified() && !address.is_multicast() && !broadcast,
        "staff.listen",
        "must be one address that guests cannot reach, such as the router's in the staff network",
    );
    found.unless(
        password_hash(staff.password_hash.reveal()),
        "staff.password_hash",
        "must be an argon2id hash of at most 64 MiB, as `maitred password` prints it",
    );
    found.length("staff.session", staff.session, 31 * DAY, "must be above 0, 31d at most");
}

fn hq(config: &Config, found: &mut Found) {
    let Some(hq) = &config.hq else { return };
    found.unless(web_address(&hq.url), "hq.url", WEB_ADDRESS);
    header(hq.token.as_ref(), "hq.token", found);
    found.unless(hq.jitter.0 <= DAY / 2, "hq.jitter", "must be at most 12h");
    found.unless((1..=100_000).contains(&hq.batch), "hq.batch", "must be 1 to 100000");
    let bundle = hq.bundle_url.as_deref();
    found.unless(bundle.is_none_or(web_address), "hq.bundle_url", WEB_ADDRESS);
    let paired = bundle.is_some() == hq.bundle_key.is_some();
    found.unless(paired, "hq", "must have both bundle_url and bundle_key, or neither");
    if let Some(file) = &hq.ca_file {
        absolute(file, "hq.ca_file", found);
    }
}

fn lists(config: &Config, found: &mut Found) {
    let lists = &config.lists;
    for (path, macs) in [
        ("lists.trusted_macs", &lists.trusted_macs),
        ("lists.blocked_macs", &lists.blocked_macs),
        ("lists.preemptive_macs", &lists.preemptive_macs),
    ] {
        for mac in macs.iter().filter(|mac| !mac.is_station()) {
            found.unless(false, path, &format!("must hold devices; {mac} is a group address"));
        }
    }
    for mac in lists.trusted_macs.intersection(&lists.blocked_macs) {
        found.unless(false, "lists.blocked_macs", &format!("must not hold {mac}, it is trusted"));
    }
    for mac in &lists.preemptive_macs {
        let other = lists.trusted_macs.contains(mac) || lists.blocked_macs.contains(mac);
        let should = format!("must not hold {mac}, it is on another list");
        found.unless(!other, "lists.preemptive_macs", &should);
    }
}

/// A name that people read.
pub(crate) fn display_name(text: &str) -> bool {
    (1..=64).contains(&text.chars().count())
        && !text.chars().any(char::is_control)
        && !text.trim().is_empty()
}

fn name(text: &str, most: usize, signs: &str) -> bool {
    (1..=most).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || signs.contains(c))
}

/// As the kernel's `dev_valid_name`, and printable.
fn interface_name(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && !matches!(text, "." | "..")
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':'))
}

/// RFC 1123 section 2.1.
fn host_name(text: &str) -> bool {
    let label =
        |label: &str| name(label, 63, "-") && !label.starts_with('-') && !label.ends_with('-');
    text.len() <= 253 && text.parse::<IpAddr>().is_err() && text.split('.').all(label)
}

const WEB_ADDRESS: &str = "must be an absolute http:// or https:// address without a user name";

fn web_address(text: &str) -> bool {
    text.parse::<hyper::Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|host| !host.is_empty())
            && !uri.authority().is_some_and(|authority| authority.as_str().contains('@'))
    })
}

fn header(secret: Option<&Secret>, path: &str, found: &mut Found) {
    let good = secret.is_none_or(|secret| {
        !secret.reveal().is_empty()
            && secret.reveal().bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
    });
    found.unless(good, path, "must be printable ASCII");
}

fn absolute(path: &Path, at: &str, found: &mut Found) {
    found.unless(path.is_absolute(), at, "must be an absolute path");
}

fn password_hash(text: &str) -> bool {
    let Ok(hash) = PasswordHash::new(text) else { return false };
    hash.algorithm.as_str() == "argon2id"
        && hash.salt.is_some()
        && hash.hash.is_some()
        && argon2::Params::try_from(&hash).is_ok_and(|params| {
            params.m_cost() <= ARGON2_MAX_KIB && params.t_cost() <= 10 && params.p_cost() <= 4
        })
}
