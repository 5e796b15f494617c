//! `maitred doctor`: each thing that can be wrong is caused, and found with its evidence.

use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use serde_json::Value;

use crate::captive_api::{self, Authority, NAME};
use crate::lab::{Gateway, Lab, Settings, WEB_V4, until};

/// What the doctor finds, as evidence.
#[track_caller]
pub(crate) fn found(gateway: &Gateway) -> Vec<String> {
    let output = gateway.command(&["doctor", "--json"]);
    let findings: Value =
        serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let findings = findings.as_array().unwrap();
    assert_eq!(output.success, findings.is_empty(), "{output:?}");
    let text = |finding: &Value, key| finding[key].as_str().unwrap().to_owned();
    assert!(findings.iter().all(|finding| text(finding, "mend").len() > 5), "{output:?}");
    findings.iter().map(|finding| text(finding, "evidence")).collect()
}

#[track_caller]
pub(crate) fn only(gateway: &Gateway, evidence: &str) {
    let found = found(gateway);
    assert!(found.len() == 1 && found[0].contains(evidence), "{found:#?}");
}

/// The router asks its own dnsmasq, as OpenWrt's does.
pub(crate) fn use_own_dns(lab: &Lab) {
    fs::write(lab.router.resolv_conf(), "nameserver 127.0.0.1\n").unwrap();
}

#[test]
fn a_healthy_store_has_nothing_wrong() {
    let mut lab = captive_api::lab(0);
    use_own_dns(&lab);
    let authority = Authority::new(&lab);
    let gateway = lab.maitred(&authority.settings(&lab));
    assert_eq!(found(&gateway), [""; 0]);
    assert!(gateway.command(&["doctor"]).ok().contains("nothing is wrong"));

    let announced = lab.options_dir().join("maitred");
    fs::remove_file(&announced).unwrap();
    only(&gateway, "is missing or says otherwise");
    authority.issue(2021);
    only(&gateway, "certificate is not good");
    authority.issue_to("elsewhere.example");
    only(&gateway, "elsewhere.example");
    let soon = authority.issue_for_days(10);
    until(Duration::from_secs(8), "the announcement", || announced.exists().then_some(()));
    only(&gateway, &format!("expires on {soon}"));
    authority.issue(2099);
    until(Duration::from_secs(8), "the announcement", || announced.exists().then_some(()));
    lab.stop_dnsmasq();
    let stopped = found(&gateway);
    assert!(stopped.iter().any(|finding| finding.contains("no dnsmasq here reads")), "{stopped:?}");
    lab.restart_dnsmasq();
    assert_eq!(found(&gateway), [""; 0]);
    lab.internet.be_captive();
    only(&gateway, "the uplink is itself behind a portal");
    lab.router.ip("link set wan down");
    only(&gateway, "the internet does not answer");
}

#[test]
fn a_name_that_leads_elsewhere_is_found() {
    let mut lab = Lab::new(0);
    use_own_dns(&lab);
    let portal = format!("name = \"{NAME}\"");
    let gateway = lab.maitred(&Settings::new().with("[portal]", &portal));
    only(&gateway, &format!("{NAME} leads to"));
    fs::write(lab.dnsmasq_dir().join("portal.conf"), format!("address=/{NAME}/\n")).unwrap();
    lab.restart_dnsmasq();
    only(&gateway, "does not resolve");
}

#[test]
fn a_garden_that_answers_phones_is_found() {
    let lab = Lab::new(0);
    use_own_dns(&lab);
    let garden = format!(
        "name = \"guest\"\ninterface = \"br-guest\"\nwalled_garden = [\"192.0.2.0/24\", \"{WEB_V4}/31\"]"
    );
    let gateway = lab.maitred(&Settings::new().with("[[zone]]", &garden));
    only(&gateway, &format!("the garden of zone guest holds {WEB_V4}"));
    // By name it is seen in the configuration alone.
    let garden = "name = \"guest\"\ninterface = \"br-guest\"\n\
                  walled_garden = [\"pay.example.com\", \"*.apple.com\"]";
    gateway.configure(&Settings::new().with("[[zone]]", garden));
    only(&gateway, "the garden of zone guest holds *.apple.com: phones ask it");
    let said = gateway.command(&["check"]);
    assert!(said.success && said.stderr.contains("holds *.apple.com"), "{said:?}");
}

#[test]
fn an_interface_that_guests_pass_by_is_found() {
    let lab = Lab::new(1);
    use_own_dns(&lab);
    let gateway = lab.maitred(&Settings::new());
    assert_eq!(found(&gateway), [""; 0]);
    let port = "name = \"guest\"\ninterface = \"guest1\"";
    gateway.configure(&Settings::new().with("[[zone]]", port));
    only(&gateway, "guest1, a port of the bridge br-guest");
}

#[test]
fn a_picture_that_cannot_be_shown_is_found_and_keeps_nobody_out() {
    let mut lab = Lab::new(1);
    use_own_dns(&lab);
    let gateway = lab.maitred(&Settings::new().with("[brand]", "logo = \"/nowhere/logo.png\""));
    only(&gateway, "/nowhere/logo.png");
    assert!(gateway.log().contains("a picture is left out"));
    lab.guests[0].join(crate::lab::Dhcp::Udhcpc);
    lab.guests[0].log_in(&gateway);
}

/// A machine that keeps time has nothing wrong; what its kernel says, the doctor must say.
#[test]
fn a_clock_that_nobody_steers_is_found() {
    let lab = Lab::new(0);
    use_own_dns(&lab);
    let gateway = lab.maitred(&Settings::new());
    let file = lab.folder().join("maitred.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("clock = \"always\"", "clock = \"ntp\"")).unwrap();
    if lab.router.exec(&["busybox", "adjtimex"]).ok().contains("UNSYNC") {
        only(&gateway, "NTP does not steer it");
    } else {
        assert_eq!(found(&gateway), [""; 0]);
    }
}

#[test]
fn a_dead_daemon_a_lost_table_and_a_taken_port_are_found() {
    let lab = Lab::new(0);
    use_own_dns(&lab);
    let gateway = lab.maitred(&Settings::new());
    gateway.kill9();
    only(&gateway, "maitred does not run");
    lab.router.exec(&["nft", "delete", "table", "inet", "maitred"]).ok();
    let both = found(&gateway);
    assert!(both[1].contains("does not stand, and the kernel forwards IPv4 and IPv6"), "{both:#?}");
    let other = lab.router.within(|| TcpListener::bind("[::]:2050").unwrap());
    let three = found(&gateway);
    assert!(three[1].contains("port 2050 of br-guest"), "{three:#?}");
    drop(other);
    assert_eq!(found(&gateway), both);
    gateway.run();
    assert_eq!(found(&gateway), [""; 0]);
}
