//! Following the store's account: its name, a QR code for this device, a code to send to it
//! instead, the page that waits for the link, and the link's own page. What goes by the link is
//! spent by a form alone, which asks for consent: whatever looks at a link spends nothing.

use std::sync::Arc;

use askama::Template;
use axum::Form;
use axum::body::Body;
use axum::extract::rejection::FormRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use qrcode::{Color, EcLevel, QrCode};
use serde::Deserialize;

use crate::adapters::account::Account;
use crate::adapters::http::guard::{found, html};
use crate::adapters::http::pages::{Frame, Typed};
use crate::adapters::http::portal::{Guest, Site};
use crate::domain::auth::follow::Card;
use crate::domain::effect::{Refusal, View};
use crate::domain::event::{Ask, Client, Consent};

/// Modules of white around a QR code (ISO/IEC 18004).
const QUIET: usize = 4;

/// The store's account.
#[derive(Clone, Debug)]
pub struct Follow {
    /// Its name.
    pub account: String,
    /// The store's id, which cards carry.
    pub store_id: String,
    /// The zones' names, by [`crate::domain::names::ZoneId`].
    pub zones: Vec<String>,
    /// Its backend; without one there is a code to send, and no QR code.
    pub backend: Option<Account>,
}

/// What the pages show of an account.
#[derive(Clone, Debug)]
pub(in crate::adapters::http) struct Offer {
    pub(in crate::adapters::http) account: String,
    /// The card's code, in groups of four.
    pub(in crate::adapters::http) code: String,
    /// There is a QR code, as far as is known.
    pub(in crate::adapters::http) qr: bool,
    /// The browser can open WeChat.
    pub(in crate::adapters::http) app: bool,
}

impl Follow {
    /// What is offered to a device, whose browser calls itself so.
    pub(in crate::adapters::http) fn offer(&self, client: &Client, agent: &str) -> Option<Offer> {
        let code = self.card(client)?.code();
        let groups: Vec<&str> = (0..4).filter_map(|at| code.get(at * 4..at * 4 + 4)).collect();
        Some(Offer {
            account: self.account.clone(),
            code: groups.join("-"),
            qr: self.backend.as_ref().is_some_and(Account::has_tickets),
            app: opens_apps(agent),
        })
    }

    fn card(&self, client: &Client) -> Option<Card> {
        let zone = self.zones.get(usize::from(client.zone.0))?;
        Some(Card::new(&self.store_id, zone, client.mac))
    }
}

/// Whether a link to an app leads there. A phone's own sign-in window does not follow it: Android's
/// says `wv`, and Apple's leaves out `Safari`.
fn opens_apps(agent: &str) -> bool {
    let phone = agent.contains("Android") || agent.contains("iPhone");
    phone && agent.contains("Safari") && !agent.contains("; wv)")
}

/// What a request's browser calls itself.
pub(in crate::adapters::http) fn agent(headers: &HeaderMap) -> &str {
    headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or("")
}

/// The guest goes to WeChat.
pub(in crate::adapters::http) async fn begin(
    State(site): State<Arc<Site>>,
    guest: Guest,
) -> Response {
    if site.portal.wechat.follow.is_none() {
        return found("/");
    }
    site.act(&guest, Ask::BeginFollow, Typed::default()).await
}

#[derive(Deserialize)]
pub(in crate::adapters::http) struct EnterForm {
    terms: Option<String>,
}

/// The account's link: a page with a button.
pub(in crate::adapters::http) async fn linked(
    State(site): State<Arc<Site>>,
    guest: Guest,
    Path(token): Path<String>,
) -> Response {
    match site.ask(&guest, Ask::Look).await {
        None => site.busy(guest.choice),
        Some(View::Online { .. }) => found(&format!("/{}", guest.choice.query())),
        Some(view @ View::Blocked) => site.step(&guest, &view, Typed::default()),
        Some(_) => link_page(&site, &guest, &token, None),
    }
}

/// The link is to be used.
pub(in crate::adapters::http) async fn entered(
    State(site): State<Arc<Site>>,
    guest: Guest,
    Path(token): Path<String>,
    form: Result<Form<EnterForm>, FormRejection>,
) -> Response {
    let Ok(Form(form)) = form else { return site.not_a_form(&guest) };
    if form.terms.is_none() {
        return link_page(&site, &guest, &token, Some(Refusal::NoConsent));
    }
    let consent = Consent { terms: site.brand().terms_version.clone(), marketing: false };
    site.act(&guest, Ask::Follow { token, consent }, Typed::default()).await
}

fn link_page(site: &Site, guest: &Guest, token: &str, refusal: Option<Refusal>) -> Response {
    // It stands in the page's form.
    if !token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        return found("/");
    }
    let frame = site.frame(guest.choice, "/");
    let error = refusal.map(|refusal| frame.text.refusal(refusal));
    html(StatusCode::OK, LinkPage { frame: &frame, error, token }.render())
}

#[derive(Template)]
#[template(path = "portal/link.html")]
struct LinkPage<'a> {
    frame: &'a Frame<'a>,
    error: Option<String>,
    token: &'a str,
}

/// The QR code of the asking device: an empty picture if none is to be had.
pub(in crate::adapters::http) async fn picture(
    State(site): State<Arc<Site>>,
    guest: Guest,
) -> Response {
    let follow = site.portal.wechat.follow.as_ref();
    let text =
        match follow.and_then(|follow| follow.backend.as_ref().zip(follow.card(&guest.client))) {
            Some((backend, card)) => backend.ticket(card).await,
            None => None,
        };
    let picture = text.and_then(|text| draw(&text)).unwrap_or_else(|| EMPTY.to_owned());
    let mut response = Response::new(Body::from(picture));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("image/svg+xml"));
    response
}

const EMPTY: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 1 1\"/>";

/// A text as a QR code.
pub(in crate::adapters::http) fn draw(text: &str) -> Option<String> {
    let code = QrCode::with_error_correction_level(text, EcLevel::M).ok()?;
    let width = code.width();
    let colors = code.to_colors();
    let runs: Vec<Run> =
        colors.chunks(width).enumerate().flat_map(|(row, modules)| runs(row, modules)).collect();
    Picture { width: width + 2 * QUIET, runs: &runs }.render().ok()
}

/// Dark modules side by side.
struct Run {
    x: usize,
    y: usize,
    length: usize,
}

fn runs(row: usize, modules: &[Color]) -> impl Iterator<Item = Run> {
    let dark = |color: &Color| *color == Color::Dark;
    let mut start = QUIET;
    modules
        .chunk_by(move |one, next| dark(one) == dark(next))
        .map(move |chunk| {
            let run = Run { x: start, y: row + QUIET, length: chunk.len() };
            start += chunk.len();
            (run, chunk)
        })
        .filter(move |(_, chunk)| chunk.first().is_some_and(dark))
        .map(|(run, _)| run)
}

#[derive(Template)]
#[template(path = "portal/qr.svg")]
struct Picture<'a> {
    width: usize,
    runs: &'a [Run],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_drawn_module_by_module() {
        let text = "http://weixin.qq.com/q/02abcDEF_ghIJ10000g03k";
        let svg = draw(text).unwrap();
        assert!(svg.len() < 6000, "{} bytes", svg.len());
        let code = QrCode::with_error_correction_level(text, EcLevel::M).unwrap();
        let mut drawn = vec![Color::Light; code.width() * code.width()];
        let path = svg.split(" d=\"").nth(1).unwrap().split('"').next().unwrap();
        for run in path.split('M').skip(1) {
            let numbers: Vec<usize> =
                run.split([' ', 'h', 'v', 'z', '-']).filter_map(|n| n.parse().ok()).collect();
            for x in numbers[0]..numbers[0] + numbers[2] {
                drawn[(numbers[1] - QUIET) * code.width() + x - QUIET] = Color::Dark;
            }
        }
        assert!(drawn == code.to_colors());
    }

    #[test]
    fn a_sign_in_window_gets_no_link_to_an_app() {
        let ios = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 \
                   (KHTML, like Gecko)";
        assert!(!opens_apps(&format!("{ios} Mobile/15E148")));
        assert!(opens_apps(&format!("{ios} Version/18.0 Mobile/15E148 Safari/604.1")));
        let android = "Chrome/120.0 Mobile Safari/537.36";
        assert!(opens_apps(&format!("Mozilla/5.0 (Linux; Android 14; K) {android}")));
        assert!(!opens_apps(&format!("Mozilla/5.0 (Linux; Android 14; K; wv) {android}")));
        assert!(!opens_apps("Mozilla/5.0 (Windows NT 10.0) Chrome/120.0 Safari/537.36"));
        assert!(!opens_apps(""));
    }
}
