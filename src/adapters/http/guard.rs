//! What every page's request and answer have in common: which foreign pages may not send a form
//! here, and the headers that keep an answer private and inert.

use std::convert::Infallible;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use data_encoding::BASE64;
use hyper::body::Incoming;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, LOCATION,
    ORIGIN, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::service::Service;
use hyper::{Method, Request, StatusCode};
use hyper_util::service::{TowerToHyperService, TowerToHyperServiceFuture};
use sha2::{Digest, Sha256};

use super::accept::Peer;

/// A form is a few hundred bytes.
pub(super) const FORM: usize = 4096;

/// Whether a request that changes something was sent by a page of ours. Browsers that say where a
/// form comes from (`Sec-Fetch-Site`, `Origin`) must say that it comes from here; others are
/// believed. `null` is some sandboxed or foreign page's.
pub(super) fn sent_from_here(method: &Method, headers: &HeaderMap, secure: bool) -> bool {
    if matches!(*method, Method::GET | Method::HEAD) {
        return true;
    }
    let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or(""));
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    let scheme = if secure { "https://" } else { "http://" };
    let origin_is_ours = text(ORIGIN.as_str())
        .is_none_or(|origin| origin.strip_prefix(scheme).is_some_and(|from| from == host));
    let site_is_ours =
        text("sec-fetch-site").is_none_or(|site| matches!(site, "same-origin" | "none"));
    origin_is_ours && site_is_ours
}

/// The headers of every answer.
#[derive(Clone, Debug)]
pub(super) struct Seal(HeaderValue);

impl Seal {
    /// Allows these style sheets, these scripts and what they ask of us, our own pictures and nothing
    /// else: no other script, no outside resource, no frame.
    pub(super) fn new(styles: [&str; 2], scripts: [&str; 2]) -> Self {
        let hash = |text: &str| format!("'sha256-{}'", BASE64.encode(&Sha256::digest(text)));
        let [styles, scripts] = [styles, scripts].map(|texts| texts.map(hash).join(" "));
        let policy = format!(
            "default-src 'none'; img-src 'self' data:; style-src {styles}; \
             script-src {scripts}; connect-src 'self'; form-action 'self'; \
             base-uri 'none'; frame-ancestors 'none'"
        );
        // Base64 is ASCII, so this is a header value; the fallback is stricter.
        let strict = HeaderValue::from_static("default-src 'none'");
        Self(HeaderValue::try_from(policy).unwrap_or(strict))
    }

    /// Puts them on.
    pub(super) fn apply(&self, response: &mut Response) {
        let headers = response.headers_mut();
        headers.insert(CONTENT_SECURITY_POLICY, self.0.clone());
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        // Not `no-referrer`: with that, browsers send `Origin: null` with our own forms.
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    }
}

/// A router that is told who asks.
pub(super) struct Identified {
    pub(super) peer: Peer,
    pub(super) router: TowerToHyperService<Router>,
}

impl Service<Request<Incoming>> for Identified {
    type Response = Response;
    type Error = Infallible;
    type Future = TowerToHyperServiceFuture<Router, Request<Incoming>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.peer);
        self.router.call(request)
    }
}

/// A page as an answer.
pub(super) fn html(status: StatusCode, page: askama::Result<String>) -> Response {
    let Ok(page) = page else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    let mut response = Response::new(Body::from(page));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// 302, which every browser and probe follows; the target is ours, never the request's.
pub(super) fn found(target: &str) -> Response {
    let Ok(target) = HeaderValue::from_str(target) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    (StatusCode::FOUND, [(LOCATION, target)]).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_forms_are_known_by_their_origin() {
        let sent = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            sent_from_here(&Method::POST, &headers, false)
        };
        let host = ("host", "192.0.2.1:2050");
        assert!(sent(&[host]));
        assert!(sent(&[host, ("origin", "http://192.0.2.1:2050")]));
        assert!(sent(&[host, ("sec-fetch-site", "same-origin")]));
        assert!(sent(&[host, ("sec-fetch-site", "none")]));
        assert!(!sent(&[host, ("origin", "http://evil.example")]));
        assert!(!sent(&[host, ("origin", "https://192.0.2.1:2050")]));
        assert!(!sent(&[host, ("origin", "http://192.0.2.1:2050.evil.example")]));
        assert!(!sent(&[host, ("origin", "null")]));
        assert!(!sent(&[("origin", "http://192.0.2.1:2050")]));
        assert!(!sent(&[host, ("sec-fetch-site", "cross-site")]));
        assert!(!sent(&[host, ("sec-fetch-site", "same-site")]));
    }
}
