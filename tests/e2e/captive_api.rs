//! The Captive Portal API: announced by DHCP while its certificate is good, true for each device.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use maitred::clock::{Clock, Trust};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use serde_json::Value;

use crate::lab::{Dhcp, Guest, Lab, ROUTER_V4, ROUTER_V6, Reply, STAFF_V4, Settings, until};

pub(crate) const NAME: &str = "wifi.lab.example";
pub(crate) const ORIGIN: &str = "https://wifi.lab.example:2053";
const CAPPORT: &str = "Accept: application/captive+json";

/// A small authority and what it has signed, in the lab's folder.
pub(crate) struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new(lab: &Lab) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut root = CertificateParams::default();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let folder = lab.folder().to_owned();
        fs::write(folder.join("roots.pem"), root.self_signed(&key).unwrap().pem()).unwrap();
        let authority = Self { folder, issuer: Issuer::new(root, key) };
        authority.issue(2099);
        authority
    }

    /// A certificate for the portal that ends with this year.
    pub(crate) fn issue(&self, until: i32) {
        self.issue_until((until, 12, 31));
    }

    /// A certificate for the portal that ends in so many days; which day that is.
    pub(crate) fn issue_for_days(&self, days: i64) -> String {
        let now = Clock::new(Trust::Always).now().wall.unwrap();
        let then = jiff::Timestamp::from_millisecond(now.0 + days * 86_400_000).unwrap();
        let day = then.to_zoned(jiff::tz::TimeZone::UTC).date();
        let numbers = (day.month().cast_unsigned(), day.day().cast_unsigned());
        self.issue_until((day.year().into(), numbers.0, numbers.1));
        day.to_string()
    }

    /// A certificate for another name.
    pub(crate) fn issue_to(&self, name: &str) {
        self.issue_until_to((2099, 12, 31), name);
    }

    fn issue_until(&self, end: (i32, u8, u8)) {
        self.issue_until_to(end, NAME);
    }

    fn issue_until_to(&self, (year, month, day): (i32, u8, u8), name: &str) {
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::new(vec![name.to_owned()]).unwrap();
        // Not the authority\'s own default name: a leaf that names itself as issuer is self-signed.
        leaf.distinguished_name.push(DnType::CommonName, NAME);
        leaf.not_before = date_time_ymd(2020, 1, 1);
        leaf.not_after = date_time_ymd(year, month, day);
        let chain = leaf.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.folder.join("key.pem"), key.serialize_pem()).unwrap();
        fs::write(self.folder.join("chain.pem"), chain.pem()).unwrap();
    }

    /// The settings of a store with this certificate.
    pub(crate) fn settings(&self, lab: &Lab) -> Settings {
        let at = |name| self.folder.join(name).display().to_string();
        Settings::new()
            .with(
                "[portal]",
                &format!(
                    "name = \"{NAME}\"\ncertificate = \"{}\"\nkey = \"{}\"\nroots = \"{}\"\n\
                     dnsmasq_dir = \"{}\"\nvenue_url = \"https://store.example/\"",
                    at("chain.pem"),
                    at("key.pem"),
                    at("roots.pem"),
                    lab.options_dir().display()
                ),
            )
            .with(
                "[[zone]]",
                "name = \"guest\"\ninterface = \"br-guest\"\nquota = \"1MB\"\nextend = 1",
            )
    }

    fn ask(&self, guest: &Guest, args: &[&str]) -> Result<Reply, String> {
        let roots = self.folder.join("roots.pem");
        let common = ["--cacert", roots.to_str().unwrap()];
        guest.curl(&format!("{ORIGIN}/api"), &[&common[..], args].concat())
    }

    #[track_caller]
    fn state(&self, guest: &Guest) -> Value {
        let reply = self.ask(guest, &["-H", CAPPORT]).unwrap();
        assert_eq!(reply.status, 200, "{reply:#?}");
        assert_eq!(reply.headers["content-type"], "application/captive+json");
        assert_eq!(reply.headers["cache-control"], "no-store");
        assert_eq!(reply.headers["vary"], "Accept");
        serde_json::from_str(&reply.body).unwrap()
    }
}

/// A lab whose DNS knows the portal's name, as a store's router is set up to.
pub(crate) fn lab(guests: u8) -> Lab {
    let mut lab = Lab::new(guests);
    let names = format!("address=/{NAME}/{ROUTER_V4}\naddress=/{NAME}/{ROUTER_V6}\n");
    fs::write(lab.dnsmasq_dir().join("portal.conf"), names).unwrap();
    lab.restart_dnsmasq();
    lab
}

#[test]
fn the_api_tells_each_device_its_own_state() {
    let mut lab = lab(2);
    let authority = Authority::new(&lab);
    let gateway = lab.maitred(&authority.settings(&lab));
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    let [one, two] = &lab.guests[..] else { unreachable!() };

    let captive = authority.state(one);
    assert_eq!(captive["captive"], true);
    assert_eq!(captive["user-portal-url"], format!("{ORIGIN}/"));
    assert_eq!(captive["venue-info-url"], "https://store.example/");
    assert!(captive.get("seconds-remaining").is_none() && captive.get("bytes-remaining").is_none());

    let browser = authority.ask(one, &["-H", "Accept: text/html"]).unwrap();
    assert_eq!((browser.status, browser.location()), (302, format!("{ORIGIN}/")));
    assert_eq!(browser.headers["vary"], "Accept");

    one.log_in(&gateway);
    let online = authority.state(one);
    assert_eq!(online["captive"], false);
    let left = online["seconds-remaining"].as_u64().unwrap();
    assert!((14_300..=14_400).contains(&left), "{online}");
    assert!((1..=1_000_000).contains(&online["bytes-remaining"].as_u64().unwrap()), "{online}");
    assert_eq!(authority.state(two)["captive"], true, "the neighbour is not online");

    // What the API says can be done on the page can.
    assert_eq!(online["can-extend-session"], true);
    let page = one.get(&format!("http://{ROUTER_V4}:2050/"));
    one.submit(&page, "/extend", &[]);
    let longer = authority.state(one);
    let left = longer["seconds-remaining"].as_u64().unwrap();
    assert!((28_600..=28_800).contains(&left), "{longer}");
    assert_eq!(longer["can-extend-session"], false);

    gateway.command(&["revoke", &one.mac]).ok();
    assert_eq!(authority.state(one)["captive"], true);
    // Asking changes nothing: the page still says why.
    let ended = one.get(&format!("http://{ROUTER_V4}:2050/"));
    assert!(!ended.has_form("/phone"), "{ended:#?}");
}

#[test]
fn the_pages_are_served_over_tls_too() {
    let mut lab = lab(2);
    let authority = Authority::new(&lab);
    let gateway = lab.maitred(&authority.settings(&lab));
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    let [one, two] = &lab.guests[..] else { unreachable!() };
    let roots = authority.folder.join("roots.pem");
    let trust = ["--cacert", roots.to_str().unwrap()];
    let page = one.curl(&format!("{ORIGIN}/"), &trust).unwrap();
    assert!(page.has_form("/phone"), "{page:#?}");
    gateway.secret(&one.phone);
    let fields = format!("phone={}&terms=yes", one.phone);
    let post = |origin: &str| {
        let origin = format!("Origin: {origin}");
        let args = [&trust[..], &["-H", &origin, "--data", &fields]].concat();
        one.curl(&format!("{ORIGIN}/phone"), &args).unwrap().status
    };
    assert_eq!(post("https://evil.example"), 403);
    assert_eq!(post(&format!("http://{NAME}:2053")), 403);
    assert_eq!(post(ORIGIN), 303);
    gateway.code_for(&one.phone);
    // One who holds connections open and says nothing, and one who speaks no TLS, cost others
    // nothing.
    let held: Vec<_> = (0..40).map(|_| one.connect(ROUTER_V4, 2053).0).collect();
    assert!(one.try_get(&format!("http://{ROUTER_V4}:2053/")).is_err());
    assert_eq!(authority.state(two)["captive"], true);
    drop(held);
}

#[test]
fn dhcp_announces_the_api_while_the_certificate_is_good() {
    let mut lab = lab(1);
    let authority = Authority::new(&lab);
    let _gateway = lab.maitred(&authority.settings(&lab));
    let file = lab.options_dir().join("maitred");
    assert!(file.exists());
    lab.guests[0].join(Dhcp::Udhcpc);
    let guest = &lab.guests[0];
    assert_eq!(offered(&lab, guest, Dhcp::Udhcpc), format!("{ORIGIN}/api"));
    assert_eq!(offered(&lab, guest, Dhcp::Dhclient), format!("{ORIGIN}/api"));
    assert_eq!(offered_v6(&lab, guest), format!("{ORIGIN}/api"));

    authority.issue(2021);
    until(Duration::from_secs(8), "the announcement to go", || (!file.exists()).then_some(()));
    assert!(authority.ask(guest, &["-H", CAPPORT]).is_err(), "expired");
    lab.reload_dnsmasq();
    assert_eq!(offered(&lab, guest, Dhcp::Udhcpc), "");
    assert_eq!(offered_v6(&lab, guest), "");
    authority.issue(2099);
    until(Duration::from_secs(8), "the announcement to come back", || file.exists().then_some(()));
    assert_eq!(authority.state(guest)["captive"], true, "no restart was needed");
    assert_eq!(offered(&lab, guest, Dhcp::Udhcpc), format!("{ORIGIN}/api"), "nor for dnsmasq");
    fs::write(authority.folder.join("roots.pem"), "").unwrap();
    authority.issue(2099);
    until(Duration::from_secs(8), "nobody to trust it", || (!file.exists()).then_some(()));
}

/// Without roots of its own a store goes by those of its system, as its guests' phones go by theirs.
#[test]
fn the_systems_roots_count_where_none_are_configured() {
    let lab = lab(0);
    let authority = Authority::new(&lab);
    let at = |name: &str| authority.folder.join(name).display().to_string();
    let portal = format!(
        "name = \"{NAME}\"\ncertificate = \"{}\"\nkey = \"{}\"\ndnsmasq_dir = \"{}\"",
        at("chain.pem"),
        at("key.pem"),
        lab.options_dir().display()
    );
    let gateway = lab.maitred(&Settings::new().with("[portal]", &portal));
    let file = lab.options_dir().join("maitred");
    assert!(!file.exists(), "this machine's do not know the authority");
    gateway.term();
    // What `ip netns exec` shows as /etc/ssl.
    let certificates = lab.router.resolv_conf().with_file_name("ssl").join("certs");
    fs::create_dir_all(&certificates).unwrap();
    fs::copy(at("roots.pem"), certificates.join("ca-certificates.crt")).unwrap();
    gateway.run();
    assert!(file.exists());
    assert_eq!(gateway.json(&["status"])["certificate"], "good");
}

#[test]
fn a_certificate_that_soon_ends_is_warned_of_everywhere() {
    let lab = lab(0);
    let authority = Authority::new(&lab);
    let date = authority.issue_for_days(10);
    let gateway = lab.maitred(&authority.settings(&lab));
    assert_eq!(gateway.json(&["status"])["certificate"], format!("expires on {date}"));
    let warned = gateway.log();
    let line = warned.lines().find(|line| line.contains("WARN") && line.contains(&date));
    assert!(line.is_some_and(|line| line.contains("certificate")), "{warned}");
    assert!(lab.staff.log_in().body.contains(&date), "the staff page");
    // It is good until then.
    assert!(lab.options_dir().join("maitred").exists());
    authority.issue(2099);
    until(Duration::from_secs(8), "the warning to go", || {
        (gateway.json(&["status"])["certificate"] == "good").then_some(())
    });
    let staff = lab.staff.get(&format!("http://{STAFF_V4}:8080/staff"));
    assert!(staff.body.contains("<svg") && !staff.body.contains(&date), "{staff:#?}");
}

/// Option 103 (RFC 8910, 2.2) as a DHCPv6 client that asks for it is told.
#[track_caller]
fn offered_v6(lab: &Lab, guest: &Guest) -> String {
    let folder = lab.folder();
    let at = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (conf, leases, pid, script) =
        (at("ask6.conf"), at("ask6.leases"), at("ask6.pid"), at("told6.sh"));
    let told = folder.join("told6");
    let _ = (fs::remove_file(&told), fs::remove_file(&leases));
    let text = format!(
        "#!/bin/sh\ncase $reason in BOUND6) echo \"$new_dhcp6_capport\" >'{}' ;; esac\n",
        told.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fs::write(&conf, "option dhcp6.capport code 103 = text;\nalso request dhcp6.capport;\n")
        .unwrap();
    let args = ["dhclient", "-6", "-1", "-d", "-cf", &conf, "-sf", &script, "-lf", &leases];
    let log = folder.join("ask6.log");
    let client = guest.netns.spawn(&[&args[..], &["-pf", &pid, "eth0"]].concat(), &log);
    let text = until(Duration::from_secs(15), "dhclient to be told", || {
        fs::read_to_string(&told).ok().filter(|text| text.ends_with('\n'))
    });
    drop(client);
    text.trim().trim_matches('"').to_owned()
}

/// Option 114 as a DHCP client that asks for it is told.
#[track_caller]
fn offered(lab: &Lab, guest: &Guest, dhcp: Dhcp) -> String {
    let folder = lab.folder();
    let (script, told) = (folder.join("told.sh"), folder.join("told"));
    let text = format!(
        "#!/bin/sh\ncase \"$1$reason\" in bound | BOUND | REBOOT) echo \"$opt114$new_capport\" >'{}' ;; esac\n",
        told.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let _ = fs::remove_file(&told);
    let script = script.to_str().unwrap();
    match dhcp {
        Dhcp::Udhcpc => {
            let args = ["busybox", "udhcpc", "-f", "-q", "-n", "-i", "eth0", "-s", script];
            guest.netns.exec(&[&args[..], &["-O", "114"]].concat()).ok();
            let hex = fs::read_to_string(told).unwrap();
            let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(hex.trim().as_bytes()).unwrap();
            String::from_utf8(bytes).unwrap()
        }
        Dhcp::Dhclient => {
            let at = |name: &str| folder.join(name).to_str().unwrap().to_owned();
            let (conf, leases, pid) = (at("ask.conf"), at("ask.leases"), at("ask.pid"));
            fs::write(&conf, "option capport code 114 = text;\nrequest capport;\n").unwrap();
            let args = ["dhclient", "-4", "-1", "-d", "-cf", &conf, "-sf", script, "-lf", &leases];
            let log = folder.join("ask.log");
            let client = guest.netns.spawn(&[&args[..], &["-pf", &pid, "eth0"]].concat(), &log);
            let text = until(Duration::from_secs(10), "dhclient to be told", || {
                fs::read_to_string(&told).ok().filter(|text| text.ends_with('\n'))
            });
            drop(client);
            text.trim().to_owned()
        }
    }
}
