//! The connectivity checks of the systems that people carry: what each asks, and what it makes of
//! the answer.
//!
//! A guest's check must be answered by our redirect before the login and by the real server after
//! it. So a garden must never hold one of these hosts, and we never answer in their place: a phone
//! that is told "online" too early closes the sheet, and one that is not told later never trusts
//! the network.

/// One check: a plain HTTP request to port 80 and the answer that means "online".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// Who asks.
    pub system: System,
    /// The host.
    pub host: &'static str,
    /// Path and query.
    pub path: &'static str,
    /// What the real server says.
    pub online: Online,
}

/// A family of devices with the same checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum System {
    /// iOS, iPadOS, macOS, watchOS.
    Apple,
    /// Android with Google's services.
    Android,
    /// Android with a Chinese SIM.
    AndroidChina,
    /// Huawei and Honor.
    Huawei,
    /// Xiaomi and Redmi.
    Xiaomi,
    /// vivo and iQOO.
    Vivo,
    /// OPPO, realme, `OnePlus`.
    Oppo,
    /// Samsung in China.
    SamsungChina,
    /// Windows 10 and later.
    Windows,
    /// Windows 7 and 8.
    OldWindows,
    /// Firefox, on any system.
    Firefox,
    /// Edge, on any system.
    Edge,
    /// `NetworkManager` as GNOME, Debian and Ubuntu ship it.
    NetworkManager,
    /// `NetworkManager` as Fedora and KDE ship it.
    Fedora,
    /// Amazon's readers.
    Kindle,
}

/// What an online answer looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Online {
    /// 204 without a body.
    NoContent,
    /// 200 with a body that starts so.
    Body(&'static str),
    /// 200 with this somewhere in the body.
    Holds(&'static str),
}

/// What a check got.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The status.
    pub status: u16,
    /// `Content-Length`, if it was sent.
    pub length: Option<u64>,
    /// The body, as far as it was read.
    pub body: &'a str,
}

/// What a system makes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The internet is there.
    Online,
    /// A portal: the sheet opens.
    Portal,
    /// Neither: no sheet, "no internet".
    Failure,
}

const APPLE: &str = "<HTML><HEAD><TITLE>Success</TITLE></HEAD><BODY>Success</BODY></HTML>";
const MOZILLA: &str = "<meta http-equiv=\"refresh\" content=\"0;url=https://support.mozilla.org/kb/captive-portal\"/>";
const NO_CONTENT: &str = "/generate_204";

/// Every check we know of.
pub const CHECKS: &[Check] = {
    use Online::{Body, Holds, NoContent};
    use System::{
        Android, AndroidChina, Apple, Edge, Fedora, Firefox, Huawei, Kindle, NetworkManager,
        OldWindows, Oppo, SamsungChina, Vivo, Windows, Xiaomi,
    };
    &[
        check(Apple, "captive.apple.com", "/hotspot-detect.html", Body(APPLE)),
        check(Apple, "www.apple.com", "/library/test/success.html", Body(APPLE)),
        check(Android, "connectivitycheck.gstatic.com", NO_CONTENT, NoContent),
        check(Android, "play.googleapis.com", NO_CONTENT, NoContent),
        check(Android, "clients3.google.com", NO_CONTENT, NoContent),
        check(Android, "connectivitycheck.android.com", NO_CONTENT, NoContent),
        check(AndroidChina, "connectivitycheck.gstatic.cn", NO_CONTENT, NoContent),
        check(AndroidChina, "www.googleapis.cn", NO_CONTENT, NoContent),
        check(Huawei, "connectivitycheck.platform.hicloud.com", NO_CONTENT, NoContent),
        check(Huawei, "connectivitycheck.platform.hihonorcloud.com", NO_CONTENT, NoContent),
        check(Xiaomi, "connect.rom.miui.com", NO_CONTENT, NoContent),
        check(Vivo, "wifi.vivo.com.cn", NO_CONTENT, NoContent),
        check(Oppo, "conn1.coloros.com", NO_CONTENT, NoContent),
        check(Oppo, "conn1.oppomobile.com", NO_CONTENT, NoContent),
        check(SamsungChina, "connectivity.samsung.com.cn", NO_CONTENT, NoContent),
        check(
            Windows,
            "www.msftconnecttest.com",
            "/connecttest.txt",
            Body("Microsoft Connect Test"),
        ),
        check(
            Windows,
            "ipv6.msftconnecttest.com",
            "/connecttest.txt",
            Body("Microsoft Connect Test"),
        ),
        check(OldWindows, "www.msftncsi.com", "/ncsi.txt", Body("Microsoft NCSI")),
        check(Firefox, "detectportal.firefox.com", "/canonical.html", Body(MOZILLA)),
        check(Firefox, "detectportal.firefox.com", "/success.txt?ipv4", Body("success\n")),
        check(Firefox, "detectportal.firefox.com", "/success.txt?ipv6", Body("success\n")),
        check(Edge, "edge-http.microsoft.com", "/captiveportal/generate_204", NoContent),
        check(
            NetworkManager,
            "nmcheck.gnome.org",
            "/check_network_status.txt",
            Body("NetworkManager is online"),
        ),
        check(NetworkManager, "network-test.debian.org", "/nm", Body("NetworkManager is online")),
        check(NetworkManager, "connectivity-check.ubuntu.com", "/", NoContent),
        check(Fedora, "fedoraproject.org", "/static/hotspot.txt", Body("OK")),
        check(Fedora, "networkcheck.kde.org", "/", Body("OK")),
        check(
            Kindle,
            "spectrum.s3.amazonaws.com",
            "/kindle-wifi/wifistub.html",
            Holds("81ce4465-7167-4dcb-835b-dcc9e44c112a"),
        ),
    ]
};

impl Check {
    /// The whole address.
    pub fn url(&self) -> String {
        format!("http://{}{}", self.host, self.path)
    }

    /// What the system makes of an answer, redirects not followed.
    pub fn judge(&self, answer: Answer) -> Verdict {
        if self.online.is(answer) {
            return Verdict::Online;
        }
        let portal = match self.system.rule() {
            Rule::Android => {
                // `Content-Length` as sent; without it, a single byte is enough.
                let short = answer.length.map_or(answer.body.is_empty(), |length| length <= 4);
                match answer.status {
                    200 => !short,
                    status => (201..400).contains(&status),
                }
            }
            Rule::Browser => (200..400).contains(&answer.status),
            Rule::Any => true,
        };
        if portal { Verdict::Portal } else { Verdict::Failure }
    }
}

impl Online {
    /// The body that the real server sends.
    pub const fn body(self) -> &'static str {
        match self {
            Self::NoContent => "",
            Self::Body(body) | Self::Holds(body) => body,
        }
    }

    fn is(self, answer: Answer) -> bool {
        match self {
            Self::NoContent => answer.status == 204,
            Self::Body(body) => answer.status == 200 && answer.body.starts_with(body),
            Self::Holds(mark) => answer.status == 200 && answer.body.contains(mark),
        }
    }
}

impl System {
    /// As people call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Apple => "Apple (iOS, macOS)",
            Self::Android => "Android",
            Self::AndroidChina => "Android, Chinese SIM",
            Self::Huawei => "Huawei, Honor",
            Self::Xiaomi => "Xiaomi",
            Self::Vivo => "vivo",
            Self::Oppo => "OPPO",
            Self::SamsungChina => "Samsung, China",
            Self::Windows => "Windows 10 and later",
            Self::OldWindows => "Windows 7 and 8",
            Self::Firefox => "Firefox",
            Self::Edge => "Edge",
            Self::NetworkManager => "NetworkManager (GNOME, Debian, Ubuntu)",
            Self::Fedora => "NetworkManager (Fedora, KDE)",
            Self::Kindle => "Kindle",
        }
    }

    const fn rule(self) -> Rule {
        match self {
            Self::Android
            | Self::AndroidChina
            | Self::Huawei
            | Self::Xiaomi
            | Self::Vivo
            | Self::Oppo
            | Self::SamsungChina => Rule::Android,
            Self::Firefox | Self::Edge => Rule::Browser,
            Self::Apple
            | Self::Windows
            | Self::OldWindows
            | Self::NetworkManager
            | Self::Fedora
            | Self::Kindle => Rule::Any,
        }
    }
}

/// Whether anybody's check asks this host.
pub fn is_check_host(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    CHECKS.iter().any(|check| check.host.eq_ignore_ascii_case(name))
}

/// What a wrong answer is to a system.
enum Rule {
    /// 2xx and 3xx are a portal, unless the 200 is all but empty; anything else, 511 (RFC 6585)
    /// included, is a failure.
    Android,
    /// 2xx and 3xx are a portal, anything else a failure.
    Browser,
    /// Whatever answers in the server's place is a portal.
    Any,
}

const fn check(system: System, host: &'static str, path: &'static str, online: Online) -> Check {
    Check { system, host, path, online }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(host: &str, status: u16, length: Option<u64>, body: &str) -> Vec<Verdict> {
        let checks = CHECKS.iter().filter(|check| check.host == host);
        checks.map(|check| check.judge(Answer { status, length, body })).collect()
    }

    #[test]
    fn the_real_answer_is_online_to_all_and_our_redirect_a_portal() {
        for check in CHECKS {
            let status = if check.online == Online::NoContent { 204 } else { 200 };
            let body = check.online.body();
            let real = Answer { status, length: Some(body.len() as u64), body };
            assert_eq!(check.judge(real), Verdict::Online, "{check:?}");
            let redirect = Answer { status: 302, length: Some(90), body: "<a href>Wi-Fi</a>" };
            assert_eq!(check.judge(redirect), Verdict::Portal, "{check:?}");
        }
    }

    #[test]
    fn android_takes_errors_and_empty_pages_for_a_dead_network() {
        let host = "connectivitycheck.gstatic.com";
        for (status, length, body) in [
            (511, Some(900), "portal"),
            (503, None, "busy"),
            (404, Some(9), "not found"),
            (200, Some(4), "abcd"),
            (200, Some(0), ""),
            (200, None, ""),
            (199, None, ""),
        ] {
            assert_eq!(judged(host, status, length, body), [Verdict::Failure], "{status}");
        }
        assert_eq!(judged(host, 200, Some(5), "abcde"), [Verdict::Portal]);
        assert_eq!(judged(host, 200, None, "a"), [Verdict::Portal]);
        assert_eq!(judged(host, 399, None, ""), [Verdict::Portal]);
    }

    #[test]
    fn others_compare_bodies() {
        assert_eq!(judged("captive.apple.com", 200, None, "<HTML>Welcome"), [Verdict::Portal]);
        assert_eq!(judged("www.msftncsi.com", 511, None, ""), [Verdict::Portal]);
        let firefox = judged("detectportal.firefox.com", 503, None, "");
        assert_eq!(firefox, [Verdict::Failure; 3]);
    }

    #[test]
    fn hosts_are_known_however_they_are_written() {
        assert!(is_check_host("Captive.Apple.com.") && is_check_host("wifi.vivo.com.cn"));
        assert!(!is_check_host("apple.com") && !is_check_host(""));
    }
}
