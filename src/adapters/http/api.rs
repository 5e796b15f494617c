//! The Captive Portal API (RFC 8908): whether this device is captive, for systems that were told
//! of it by DHCP (RFC 8910).

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, VARY};
use serde::Serialize;

use super::guard::found;
use crate::config::Portal;
use crate::domain::effect::View;

/// The path of the API on the TLS port.
pub(super) const PATH: &str = "/api";
const KIND: &str = "application/captive+json";

/// What the API names; all of it over TLS.
#[derive(Clone, Debug)]
pub struct Api {
    pages: String,
    venue: Option<String>,
}

/// RFC 8908, section 5.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct State<'a> {
    captive: bool,
    user_portal_url: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    venue_info_url: Option<&'a str>,
    can_extend_session: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds_remaining: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_remaining: Option<u64>,
}

impl Api {
    /// The API of a portal that has a name and a certificate.
    pub fn from_config(portal: &Portal) -> Option<Self> {
        Some(Self { pages: origin(portal)?, venue: portal.venue_url.clone() })
    }

    /// The API's own address, as DHCP announces it. `None` without a name and a certificate.
    pub fn address(portal: &Portal) -> Option<String> {
        Some(origin(portal)?.trim_end_matches('/').to_owned() + PATH)
    }

    /// The answer to a device with this view.
    pub(super) fn answer(&self, view: &View) -> Response {
        let (captive, left, quota_left, extend) = match view {
            View::Online { left, quota_left, extend, .. } => (false, *left, *quota_left, *extend),
            _ => (true, None, None, false),
        };
        let state = State {
            captive,
            user_portal_url: &self.pages,
            venue_info_url: self.venue.as_deref(),
            can_extend_session: extend,
            seconds_remaining: left.map(|left| left.as_secs()),
            bytes_remaining: quota_left,
        };
        let body = serde_json::to_string(&state).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(KIND));
        varied(response)
    }

    /// The answer to a browser: the pages.
    pub(super) fn pages(&self) -> Response {
        varied(found(&self.pages).into_response())
    }
}

/// Whether a client asks for the API's own type by name (RFC 8908, section 4); a browser's
/// wildcards mean a page.
pub(super) fn is_asked_for(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let named = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case(KIND));
        let weight = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
        named && weight.is_none_or(|weight| weight.parse::<f32>().is_ok_and(|weight| weight > 0.0))
    })
}

fn origin(portal: &Portal) -> Option<String> {
    portal.certificate.as_ref()?;
    let name = portal.name.as_ref()?;
    Some(match portal.tls_port {
        443 => format!("https://{name}/"),
        port => format!("https://{name}:{port}/"),
    })
}

fn varied(mut response: Response) -> Response {
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    response
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt as _;
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::effect::EndReason;

    fn portal() -> Portal {
        toml::from_str(
            "name = \"wifi.example\"\ncertificate = \"/c\"\nvenue_url = \"https://store.example/\"",
        )
        .unwrap()
    }

    async fn said(view: &View) -> Value {
        let response = Api::from_config(&portal()).unwrap().answer(view);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/captive+json");
        assert_eq!(response.headers()[VARY], "Accept");
        serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
    }

    #[tokio::test]
    async fn time_and_bytes_are_told_only_to_who_is_online_and_limited() {
        let always = json!({
            "captive": true,
            "user-portal-url": "https://wifi.example:2053/",
            "venue-info-url": "https://store.example/",
            "can-extend-session": false,
        });
        for view in [
            View::Phone { refusal: None },
            View::Ended { reason: EndReason::Quota, extend: true },
            View::Blocked,
        ] {
            assert_eq!(said(&view).await, always);
        }
        let online = |left, quota_left| View::Online {
            left,
            used: (3, 4),
            quota_left,
            extend: left.is_some(),
            devices: Vec::new(),
        };
        let limited = said(&online(Some(Duration::from_millis(61_900)), Some(7))).await;
        assert_eq!(
            (&limited["captive"], &limited["can-extend-session"]),
            (&json!(false), &json!(true))
        );
        assert_eq!(
            (&limited["seconds-remaining"], &limited["bytes-remaining"]),
            (&json!(61), &json!(7))
        );
        let free = said(&online(None, None)).await;
        assert_eq!(free["can-extend-session"], false);
        assert!(free.get("seconds-remaining").is_none() && free.get("bytes-remaining").is_none());
    }

    #[test]
    fn addresses_are_tls_and_by_name() {
        assert_eq!(Api::address(&portal()).unwrap(), "https://wifi.example:2053/api");
        let usual = Portal { tls_port: 443, ..portal() };
        assert_eq!(Api::address(&usual).unwrap(), "https://wifi.example/api");
        assert!(Api::address(&Portal { certificate: None, ..portal() }).is_none());
        assert!(Api::from_config(&Portal { name: None, ..portal() }).is_none());
    }

    #[test]
    fn browsers_and_refusals_do_not_ask_for_it() {
        let asked = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(ACCEPT, value.parse().unwrap());
            }
            is_asked_for(&headers)
        };
        assert!(asked(&["application/captive+json"]));
        assert!(asked(&["text/html, Application/Captive+JSON;q=0.5"]));
        assert!(asked(&["text/html", "application/captive+json"]));
        assert!(!asked(&[]));
        assert!(!asked(&["*/*"]) && !asked(&["application/*"]) && !asked(&["application/json"]));
        assert!(!asked(&["application/captive+json;q=0"]));
        assert!(!asked(&["application/captive+json; q=nonsense"]));
    }
}
