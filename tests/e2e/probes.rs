//! Each system's connectivity check, replayed by its documented rules: a portal before the login,
//! the internet at the first look after it. What is seen is written to `target/matrix.md`, and
//! with `BLESS=1` to the README.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use maitred::clock;
use maitred::domain::probe::{Answer, CHECKS, Check, System, Verdict};

use crate::lab::{Dhcp, Gateway, Guest, Lab, Reply, Settings, WEB_V4};

/// A sheet that comes later is not believed to come at all.
const SHEET_WITHIN_MS: u64 = 2000;
const FAMILIES: [&str; 2] = ["-4", "-6"];

/// What a system sends, and where its sheet starts.
struct Client {
    user_agent: &'static str,
    sheet: Sheet,
}

enum Sheet {
    /// Where the check was redirected to.
    Redirect,
    /// The check's own address, asked again by the sheet's browser.
    Check,
    /// An address that is only for this.
    Page(&'static str),
}

#[test]
fn every_system_sees_the_portal_then_the_internet() {
    let mut lab = Lab::new(1);
    let often = "resend_after = \"0s\"\nper_device_day = 99\nper_number_hour = 99\n\
                 per_number_day = 99\nper_prefix_day = 99";
    let gateway = lab.maitred(&Settings::new().with("[code]", often));
    let guest = &mut lab.guests[0];
    guest.join(Dhcp::Udhcpc);
    let mut systems: Vec<System> = CHECKS.iter().map(|check| check.system).collect();
    systems.dedup();
    let mut table = String::from(
        "| system | checks | sheet opens | login works | recheck says online |\n|---|---|---|---|---|\n",
    );
    for system in systems {
        let checks: Vec<&Check> = CHECKS.iter().filter(|check| check.system == system).collect();
        play(&gateway, guest, &checks);
        let name = system.name();
        writeln!(table, "| {name} | {} | IPv4, IPv6 | yes | IPv4, IPv6 |", checks.len()).unwrap();
    }
    publish(&table);
}

#[test]
fn a_check_after_the_session_is_a_portal_again() {
    let mut lab = Lab::new(1);
    let zone = "name = \"guest\"\ninterface = \"br-guest\"\nsession_timeout = \"3s\"";
    let gateway = lab.maitred(&Settings::new().with("[[zone]]", zone));
    let guest = &mut lab.guests[0];
    guest.join(Dhcp::Udhcpc);
    let apple = CHECKS[0];
    guest.log_in(&gateway);
    assert_eq!(verdict(guest, &apple, "-4").0, Verdict::Online);
    std::thread::sleep(std::time::Duration::from_millis(3500));
    for family in FAMILIES {
        assert_eq!(verdict(guest, &apple, family).0, Verdict::Portal, "{family}");
    }
    // The page says why and offers to go on, to the number.
    let page = guest.follow(guest.get(&apple.url()));
    assert!(page.body.contains("时间"), "{page:#?}");
    let page = guest.submit(&page, "/change", &[]);
    assert!(page.has_form("/phone"), "{page:#?}");
    guest.log_in(&gateway);
    assert_eq!(verdict(guest, &apple, "-4").0, Verdict::Online);
}

/// The kernel remembers where it sent a connection: a client that keeps its port is not to be sent
/// there again.
#[test]
fn a_recheck_from_the_same_port_sees_the_internet() {
    let mut lab = Lab::new(1);
    let gateway = lab.maitred(&Settings::new());
    lab.guests[0].join(Dhcp::Udhcpc);
    let guest = &lab.guests[0];
    let check = |expected| {
        let reply = guest.curl(&CHECKS[0].url(), &["-4", "--local-port", "40080"]).unwrap();
        assert_eq!(reply.status, expected, "{reply:#?}");
    };
    // No server is there: an answer is our forwarder's.
    let server = format!("@{WEB_V4}");
    let ours = || {
        let ask = ["dig", "+tries=1", "+time=1", "-b", "0.0.0.0#40053", &server, "x.example", "A"];
        guest.netns.exec(&ask).success
    };
    check(302);
    assert!(ours());
    guest.log_in(&gateway);
    check(200);
    // The forwarder ends the flow at the next that it hears of it.
    assert!(ours(), "A");
    assert!(!ours(), "B");
    gateway.command(&["revoke", &guest.mac]).ok();
    check(302);
    assert!(ours());
}

/// One system's story, from the check to the check after the login, and out again.
fn play(gateway: &Gateway, guest: &Guest, checks: &[&Check]) {
    for check in checks {
        for family in families(check) {
            let start = clock::boot().0;
            let (seen, reply) = verdict(guest, check, family);
            assert_eq!(seen, Verdict::Portal, "{check:?} {family} {reply:#?}");
            assert_eq!(reply.headers["cache-control"], "no-store", "{reply:#?}");
            assert_eq!(reply.headers["connection"], "close", "{reply:#?}");
            let page = sheet(guest, check, family, &reply);
            assert!(page.has_form("/phone"), "{check:?} {family} {page:#?}");
            let took = clock::boot().0 - start;
            assert!(took < SHEET_WITHIN_MS, "{check:?} {family}: {took} ms");
        }
    }
    let (check, family) = (checks[0], families(checks[0])[0]);
    let (_, reply) = verdict(guest, check, family);
    let page = sheet(guest, check, family, &reply);
    gateway.secret(&guest.phone);
    let page = guest.submit(&page, "/phone", &[("phone", &guest.phone), ("terms", "yes")]);
    let code = gateway.code_for(&guest.phone);
    let page = guest.submit(&page, "/code", &[("code", &code)]);
    // A navigation ended the login, so Apple's sheet looks again.
    assert!(page.url.ends_with('/') && page.has_form("/logout"), "{page:#?}");
    for check in checks {
        for family in families(check) {
            let (seen, reply) = verdict(guest, check, family);
            assert_eq!(seen, Verdict::Online, "{check:?} {family} {reply:#?}");
        }
    }
    guest.submit(&page, "/logout", &[]);
    let (seen, reply) = verdict(guest, check, family);
    assert_eq!(seen, Verdict::Portal, "{check:?} after the logout: {reply:#?}");
}

fn families(check: &Check) -> Vec<&'static str> {
    let only = |family: &&str| match (check.host, check.path) {
        ("ipv6.msftconnecttest.com", _) | (_, "/success.txt?ipv6") => *family == "-6",
        (_, "/success.txt?ipv4") => *family == "-4",
        _ => true,
    };
    FAMILIES.into_iter().filter(only).collect()
}

/// The check, once, as the system makes it: plain, no redirects followed, no cookies of the sheet.
#[track_caller]
fn verdict(guest: &Guest, check: &Check, family: &str) -> (Verdict, Reply) {
    let agent = client(check.system).user_agent;
    let reply = guest.curl(&check.url(), &[family, "-A", agent]);
    let reply = reply.unwrap_or_else(|error| panic!("{check:?} {family}: {error}"));
    let length = reply.headers.get("content-length").map(|length| length.parse().unwrap());
    let answer = Answer { status: reply.status, length, body: &reply.body };
    (check.judge(answer), reply)
}

/// What the sheet shows.
#[track_caller]
fn sheet(guest: &Guest, check: &Check, family: &str, reply: &Reply) -> Reply {
    let first = match client(check.system).sheet {
        Sheet::Redirect => return guest.follow(guest.get(&reply.location())),
        Sheet::Check => guest.curl(&check.url(), &[family]),
        Sheet::Page(url) => guest.curl(url, &[family]),
    };
    guest.follow(first.unwrap_or_else(|error| panic!("{check:?} {family}: {error}")))
}

const fn client(system: System) -> Client {
    let (user_agent, sheet) = match system {
        System::Apple => ("CaptiveNetworkSupport-481.60.2 wispr", Sheet::Check),
        System::Android
        | System::AndroidChina
        | System::Huawei
        | System::Xiaomi
        | System::Vivo
        | System::Oppo
        | System::SamsungChina => (
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
             Chrome/60.0.3112.32 Safari/537.36",
            Sheet::Redirect,
        ),
        System::Windows => {
            ("Microsoft NCSI", Sheet::Page("http://www.msftconnecttest.com/redirect"))
        }
        System::OldWindows => {
            ("Microsoft NCSI", Sheet::Page("http://go.microsoft.com/fwlink/?LinkID=219472"))
        }
        System::Firefox => (
            "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
            Sheet::Page("http://detectportal.firefox.com/canonical.html"),
        ),
        System::Edge => ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) Edg/126.0.0.0", Sheet::Check),
        System::NetworkManager => ("", Sheet::Page("http://nmcheck.gnome.org/")),
        System::Fedora => ("", Sheet::Check),
        System::Kindle => ("Mozilla/5.0 (Linux; U; en-US) Kindle/3.0", Sheet::Check),
    };
    Client { user_agent, sheet }
}

/// Writes the table; a README that says otherwise fails the test, unless it is to be renewed.
fn publish(table: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::create_dir_all(root.join("target")).unwrap();
    fs::write(root.join("target/matrix.md"), table).unwrap();
    let file = root.join("README.md");
    let readme = fs::read_to_string(&file).unwrap();
    let (begin, end) = ("<!-- matrix: begin -->\n", "<!-- matrix: end -->");
    let (before, rest) = readme.split_once(begin).expect("a place for the matrix");
    let (old, after) = rest.split_once(end).expect("the end of the matrix");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&file, [before, begin, table, end, after].concat()).unwrap();
    } else {
        assert_eq!(old, table, "the README's matrix is old: BLESS=1 renews it");
    }
}
