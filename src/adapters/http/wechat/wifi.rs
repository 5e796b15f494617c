//! WeChat's Wi-Fi portal, which Tencent has retired, for stores where something still runs it: the
//! page sends the phone there with a signature made here, and WeChat's client on the phone comes
//! back with the guest's openid.
//!
//! Nobody signs that openid: whoever is on the guest network can claim any. What holds is that the
//! request comes from a device that this gateway sent there within ten minutes.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::extract::rejection::FormRejection;
use axum::response::Response;
use axum::{Extension, Form};
use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper::StatusCode;
use md5::{Digest as _, Md5};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use crate::adapters::http::accept::Peer;
use crate::adapters::http::guard::{found, html};
use crate::adapters::http::pages::{self, Typed};
use crate::adapters::http::portal::{Guest, Site};
use crate::clock::{self, Clock};
use crate::config::WechatWifi;
use crate::domain::effect::{Refusal, View};
use crate::domain::event::{Ask, Client};
use crate::domain::names::{BootTime, OpenId};

/// What WeChat's client calls.
pub(in crate::adapters::http) const CALLBACK: &str = "/wx/auth";
/// A phone is back within this.
const ROUND_TRIP: Duration = Duration::from_mins(10);

/// The portal's settings.
#[derive(Clone, Debug)]
pub struct WifiPortal {
    settings: WechatWifi,
    /// Makes the word that comes back; a new one at every start.
    key: [u8; 32],
    clock: Clock,
}

/// What a phone says to connect, in the order in which it is signed.
struct Request<'a> {
    app_id: &'a str,
    extend: &'a str,
    timestamp: &'a str,
    shop_id: &'a str,
    auth_url: &'a str,
    mac: &'a str,
    ssid: &'a str,
}

impl Request<'_> {
    /// MD5 of the parts and the key, as hexadecimal digits.
    fn sign(&self, secret_key: &str) -> String {
        let Self { app_id, extend, timestamp, shop_id, auth_url, mac, ssid } = *self;
        let parts = [app_id, extend, timestamp, shop_id, auth_url, mac, ssid, secret_key];
        HEXLOWER.encode(&Md5::digest(parts.concat()))
    }

    fn url(&self, operator: &str, secret_key: &str) -> String {
        let sign = self.sign(secret_key);
        let fields = [
            ("appId", self.app_id),
            ("extend", self.extend),
            ("timestamp", self.timestamp),
            ("sign", &sign),
            ("shopId", self.shop_id),
            ("authUrl", self.auth_url),
            ("mac", self.mac),
            ("ssid", self.ssid),
        ];
        let pairs: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)))
            .collect();
        format!("{operator}?{}", pairs.join("&"))
    }
}

impl WifiPortal {
    /// The portal of a store; `key` is random.
    pub fn new(settings: WechatWifi, key: [u8; 32], clock: Clock) -> Self {
        Self { settings, key, clock }
    }

    /// Where the phone goes; `None` while the clock is not trusted.
    fn way_out(&self, client: &Client, portal: &str) -> Option<String> {
        let timestamp = self.clock.now().wall?.0.to_string();
        let settings = &self.settings;
        let request = Request {
            app_id: &settings.app_id,
            extend: &self.word(client, clock::boot()),
            timestamp: &timestamp,
            shop_id: &settings.shop_id,
            auth_url: &format!("{}{CALLBACK}", portal.trim_end_matches('/')),
            mac: &client.mac.to_string().to_lowercase(),
            ssid: &settings.ssid,
        };
        Some(request.url(&settings.operator, settings.secret_key.reveal()))
    }

    /// A word for a device at a time: seconds of the boot clock, and HMAC-SHA256 of them and it.
    fn word(&self, client: &Client, at: BootTime) -> String {
        let seconds = u32::try_from(at.0 / 1000).unwrap_or(u32::MAX).to_be_bytes();
        let mut block = [0; 64];
        block[..32].copy_from_slice(&self.key);
        let mut hmac = Hmac::<Sha256>::new(&block.into());
        hmac.update(&seconds);
        hmac.update(&[client.zone.0]);
        hmac.update(&client.mac.0);
        let tag: [u8; 32] = hmac.finalize().into_bytes().into();
        HEXLOWER.encode(&[&seconds, &tag[..12]].concat())
    }

    /// Whether this is a word that the device was given a short while ago.
    fn knows(&self, word: &str, client: &Client, now: BootTime) -> bool {
        let seconds = word.get(..8).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let Some(at) = seconds.map(|seconds| BootTime(u64::from(seconds) * 1000)) else {
            return false;
        };
        let ours: bool = self.word(client, at).as_bytes().ct_eq(word.as_bytes()).into();
        ours && at <= now && now - at < ROUND_TRIP
    }
}

/// Sends the phone to WeChat.
pub(in crate::adapters::http) async fn leave(
    State(site): State<Arc<Site>>,
    guest: Guest,
    Extension(peer): Extension<Peer>,
) -> Response {
    let Some(wifi) = &site.portal.wechat.wifi else { return found("/") };
    let Some(url) = wifi.way_out(&guest.client, &site.portal.address.url(peer.local)) else {
        let view = View::Phone { refusal: Some(Refusal::ClockUntrusted) };
        return site.step(&guest, &view, Typed::default());
    };
    found(&url)
}

#[derive(Deserialize)]
pub(in crate::adapters::http) struct Callback {
    extend: String,
    #[serde(rename = "openId")]
    openid: String,
}

/// Hears WeChat's client, which takes 200 for yes.
pub(in crate::adapters::http) async fn come_back(
    State(site): State<Arc<Site>>,
    guest: Guest,
    query: Result<Form<Callback>, FormRejection>,
) -> Response {
    let Some(wifi) = &site.portal.wechat.wifi else { return found("/") };
    let known = query
        .ok()
        .filter(|Form(callback)| wifi.knows(&callback.extend, &guest.client, clock::boot()));
    let Some(openid) = known.and_then(|Form(callback)| OpenId::parse(&callback.openid)) else {
        let frame = site.frame(guest.choice, "/");
        return html(StatusCode::FORBIDDEN, pages::foreign(&frame));
    };
    match site.ask(&guest, Ask::WechatWifi { openid }).await {
        Some(view) => {
            let mut page = site.step(&guest, &view, Typed::default());
            if !matches!(view, View::Online { .. }) {
                *page.status_mut() = StatusCode::FORBIDDEN;
            }
            page
        }
        None => site.busy(guest.choice),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Trust;
    use crate::domain::names::{Mac, ZoneId};

    const REQUEST: Request = Request {
        app_id: "wx1",
        extend: "ext",
        timestamp: "1700000000000",
        shop_id: "7",
        auth_url: "http://10.77.0.1:2050/wx/auth",
        mac: "02:00:00:00:00:01",
        ssid: "Cafe",
    };

    fn client(last: u8) -> Client {
        let mac = Mac([2, 0, 0, 0, 0, last]);
        Client { zone: ZoneId(0), mac, address: "10.77.0.9".parse().unwrap() }
    }

    fn portal() -> WifiPortal {
        let settings = WechatWifi {
            app_id: "wx1".into(),
            shop_id: "7".into(),
            secret_key: "hush".into(),
            ssid: "Cafe".into(),
            operator: "https://operator.example/connect".into(),
        };
        WifiPortal::new(settings, [3; 32], Clock::new(Trust::Always))
    }

    #[test]
    fn the_signature_is_md5_of_all_parts_in_their_order() {
        // By md5sum of the parts.
        assert_eq!(REQUEST.sign("hush"), "7b1446c770cd910215815b68e1565f05");
        let url = REQUEST.url("https://operator.example/connect", "hush");
        assert!(url.starts_with("https://operator.example/connect?appId=wx1&extend=ext&"), "{url}");
        assert!(url.contains("&sign=7b1446c770cd910215815b68e1565f05&shopId=7&"), "{url}");
        assert!(url.contains("&authUrl=http%3A%2F%2F10%2E77%2E0%2E1%3A2050%2Fwx%2Fauth&"), "{url}");
        assert!(!url.contains("hush"));
    }

    #[test]
    fn a_word_is_good_for_its_device_and_ten_minutes() {
        let portal = portal();
        let (then, word) = (BootTime(5_000), portal.word(&client(1), BootTime(5_000)));
        let after = |seconds| then + Duration::from_secs(seconds);
        assert!(portal.knows(&word, &client(1), then));
        assert!(portal.knows(&word, &client(1), after(599)));
        assert!(!portal.knows(&word, &client(1), after(600)));
        assert!(!portal.knows(&word, &client(1), BootTime(4_000)), "from the future");
        assert!(!portal.knows(&word, &client(2), then), "another device's");
        let other = Client { zone: ZoneId(1), ..client(1) };
        assert!(!portal.knows(&word, &other, then), "another zone's");
        for forged in ["", "0000000", "00000005", "ffffffffffffffff", "é0000000", &word[..31]] {
            assert!(!portal.knows(forged, &client(1), then), "{forged}");
        }
        let restarted = WifiPortal { key: [4; 32], ..portal };
        assert!(!restarted.knows(&word, &client(1), then), "an earlier start's");
    }
}
