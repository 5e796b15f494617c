//! The guests' portal: one page, the step that the asking device is at.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::FormRejection;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Extension, Form, Router};
use hyper::header::{HOST, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use hyper_util::service::TowerToHyperService;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::accept::{Counts, Limits, Peer, converse, count, serve};
use super::api::{self, Api};
use super::brand::{Brand, Brands, Picture};
use super::catalogue::Catalogues;
use super::guard::{FORM, Identified, found, html, sent_from_here};
use super::language::Choice;
use super::mine;
use super::pages::{self, Frame, Offers, Typed};
use super::vouchers;
use super::wechat::{Wechat, follow as account, wifi};
use super::{HttpError, PortalAddress, ZoneListeners};
use crate::adapters::guests::Guests;
use crate::adapters::inbox::Inbox;
use crate::adapters::uplink::Line;
use crate::domain::effect::{Answer, Refusal, View};
use crate::domain::event::{Ask, Client, Consent, Event};
use crate::domain::names::Phone;

const LIMITS: Limits = Limits {
    connections: 256,
    per_device: 16,
    head: Duration::from_secs(5),
    whole: Duration::from_secs(12),
};
/// The domain answers at once; only a grant waits for disk and kernel.
const ANSWER_WITHIN: Duration = Duration::from_secs(6);

/// What the portal says and where it is.
#[derive(Clone, Debug)]
pub struct Portal {
    /// How the pages look.
    pub brand: Brands,
    /// Whether the internet is there.
    pub line: watch::Receiver<Line>,
    /// Where guests find it.
    pub address: PortalAddress,
    /// The country code of numbers that are typed without one.
    pub country: String,
    /// The Captive Portal API, answered over TLS alone.
    pub api: Option<Api>,
    /// The ways that go through WeChat.
    pub wechat: Wechat,
    /// Vouchers are taken.
    pub vouchers: bool,
    /// The record, for the guests' own pages.
    pub guests: Option<Guests>,
    /// The words.
    pub texts: Arc<Catalogues>,
}

/// Serves the guests' pages on `listeners` until `stop` turns true; over TLS, with the API, if
/// there is an acceptor.
pub async fn run_portal(
    listeners: ZoneListeners,
    tls: Option<TlsAcceptor>,
    portal: Portal,
    inbox: Inbox,
    counts: Arc<Counts>,
    stop: watch::Receiver<bool>,
) -> Result<(), HttpError> {
    let router = TowerToHyperService::new(router(portal, inbox, Arc::clone(&counts)));
    serve(listeners.0, tls, LIMITS, counts, stop, None, move |peer| Identified {
        peer,
        router: router.clone(),
    })
    .await
}

/// Serves one connection as [`run_portal`] does each that it accepts: that of `client`, who
/// reached us at `local`.
pub async fn serve_portal(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    (client, local): (Client, IpAddr),
    portal: Portal,
    inbox: Inbox,
    counts: Arc<Counts>,
    stop: watch::Receiver<bool>,
) {
    let router = TowerToHyperService::new(router(portal, inbox, Arc::clone(&counts)));
    let device = Some((client.zone, client.mac));
    let peer = Peer { secure: false, address: client.address, local, device };
    converse(stream, LIMITS, &counts, stop, Identified { peer, router }).await;
}

pub(super) struct Site {
    pub(super) portal: Portal,
    inbox: Inbox,
    counts: Arc<Counts>,
}

fn router(portal: Portal, inbox: Inbox, counts: Arc<Counts>) -> Router {
    let site = Arc::new(Site { portal, inbox, counts });
    Router::new()
        .route("/", get(show))
        .route("/phone", post(phone).get(home))
        .route("/code", post(code).get(home))
        .route("/resend", post(resend).get(home))
        .route("/return", post(come_back).get(home))
        .route("/change", post(change).get(home))
        .route("/extend", post(extend).get(home))
        .route("/logout", post(logout).get(home))
        .route("/follow", post(account::begin).get(home))
        .route("/follow.svg", get(account::picture))
        .route("/f/{token}", get(account::linked).post(account::entered))
        .route("/v/{code}", get(vouchers::scanned))
        .route("/voucher", post(vouchers::submitted).get(home))
        .route("/device", post(vouchers::end_other).get(home))
        .route("/wx", get(wifi::leave))
        .route(wifi::CALLBACK, get(wifi::come_back))
        .route("/me", get(mine::show))
        .route("/me/data", get(mine::download))
        .route("/me/erase", post(mine::erase).get(home))
        .route("/terms", get(terms))
        .route("/privacy", get(privacy))
        .route("/logo", get(logo))
        .route("/hero", get(hero))
        .route(api::PATH, get(self::api))
        .fallback(home)
        .layer(DefaultBodyLimit::max(FORM))
        .layer(from_fn_with_state(Arc::clone(&site), guard))
        .with_state(site)
}

/// Lets through what is meant for us by name or address, and what no foreign page sent.
async fn guard(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().copied();
    let (local, secure) = (peer.map(|peer| peer.local), peer.is_some_and(|peer| peer.secure));
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let ours =
        host.zip(local).is_some_and(|(host, local)| site.portal.address.is_ours(host, local));
    let reading = matches!(*request.method(), Method::GET | Method::HEAD);
    let mut response = if ours && sent_from_here(request.method(), request.headers(), secure) {
        next.run(request).await
    } else if let (true, Some(local)) = (reading, local) {
        found(&site.portal.address.url(local))
    } else {
        let (mut parts, _) = request.into_parts();
        let Ok(choice) = Choice::from_request_parts(&mut parts, &()).await;
        html(StatusCode::FORBIDDEN, pages::foreign(&site.frame(choice, "/")))
    };
    site.brand().seal.apply(&mut response);
    response
}

/// A guest who asks: the device of the connection, and their language.
pub(super) struct Guest {
    pub(super) client: Client,
    pub(super) choice: Choice,
    /// What is offered besides a code.
    offers: Offers,
}

impl FromRequestParts<Arc<Site>> for Guest {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, site: &Arc<Site>) -> Result<Self, Response> {
        let Ok(choice) = Choice::from_request_parts(parts, site).await;
        let peer = parts.extensions.get::<Peer>();
        let client = peer.and_then(|peer| {
            let (zone, mac) = peer.device?;
            Some(Client { zone, mac, address: peer.address })
        });
        match client {
            Some(client) => {
                let offers = site.offers(&client, account::agent(&parts.headers));
                Ok(Self { client, choice, offers })
            }
            // The kernel kept no SYN, as in a flood: the next connection may fare better.
            None => Err(site.busy(choice)),
        }
    }
}

#[derive(Deserialize)]
struct PhoneForm {
    phone: String,
    terms: Option<String>,
    marketing: Option<String>,
}

#[derive(Deserialize)]
struct CodeForm {
    code: String,
}

async fn show(State(site): State<Arc<Site>>, guest: Guest) -> Response {
    match site.ask(&guest, Ask::Show).await {
        Some(view) => site.step(&guest, &view, Typed::default()),
        None => site.busy(guest.choice),
    }
}

async fn phone(
    State(site): State<Arc<Site>>,
    guest: Guest,
    form: Result<Form<PhoneForm>, FormRejection>,
) -> Response {
    let Ok(Form(form)) = form else { return site.not_a_form(&guest) };
    let typed = Typed { phone: &form.phone, agreed: form.terms.is_some() };
    let refuse = |refusal| site.step(&guest, &View::Phone { refusal: Some(refusal) }, typed);
    let Ok(phone) = Phone::parse(&form.phone, &site.portal.country) else {
        return refuse(Refusal::BadPhone);
    };
    if form.terms.is_none() {
        return refuse(Refusal::NoConsent);
    }
    let consent =
        Consent { terms: site.brand().terms_version.clone(), marketing: form.marketing.is_some() };
    let ask = Ask::RequestCode { phone, language: guest.choice.language, consent };
    site.act(&guest, ask, typed).await
}

async fn code(
    State(site): State<Arc<Site>>,
    guest: Guest,
    form: Result<Form<CodeForm>, FormRejection>,
) -> Response {
    let Ok(Form(form)) = form else { return site.not_a_form(&guest) };
    site.act(&guest, Ask::SubmitCode { code: digits(&form.code) }, Typed::default()).await
}

async fn resend(State(site): State<Arc<Site>>, guest: Guest) -> Response {
    let ask = Ask::ResendCode { language: guest.choice.language };
    site.act(&guest, ask, Typed::default()).await
}

async fn come_back(State(site): State<Arc<Site>>, guest: Guest) -> Response {
    site.act(&guest, Ask::Return, Typed::default()).await
}

async fn change(State(site): State<Arc<Site>>, guest: Guest) -> Response {
    site.act(&guest, Ask::ChangeNumber, Typed::default()).await
}

async fn extend(State(site): State<Arc<Site>>, guest: Guest) -> Response {
    site.act(&guest, Ask::Extend, Typed::default()).await
}

async fn logout(State(site): State<Arc<Site>>, guest: Guest) -> Response {
    site.act(&guest, Ask::Logout, Typed::default()).await
}

async fn terms(State(site): State<Arc<Site>>, choice: Choice) -> Response {
    html(StatusCode::OK, pages::terms(&site.frame(choice, "/terms")))
}

async fn privacy(State(site): State<Arc<Site>>, choice: Choice) -> Response {
    html(StatusCode::OK, pages::privacy(&site.frame(choice, "/privacy")))
}

async fn logo(State(site): State<Arc<Site>>) -> Response {
    site.brand().logo.as_ref().map_or_else(nothing, Picture::answer)
}

async fn hero(State(site): State<Arc<Site>>) -> Response {
    site.brand().hero.as_ref().map_or_else(nothing, Picture::answer)
}

fn nothing() -> Response {
    StatusCode::NOT_FOUND.into_response()
}

async fn api(
    State(site): State<Arc<Site>>,
    guest: Guest,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Response {
    let Some(api) = site.portal.api.as_ref().filter(|_| peer.secure) else { return found("/") };
    if !api::is_asked_for(&headers) {
        return api.pages();
    }
    match site.ask(&guest, Ask::Look).await {
        Some(view) => api.answer(&view),
        None => site.busy(guest.choice),
    }
}

async fn home() -> Response {
    found("/")
}

impl Site {
    /// Does what the guest asks. Success is a redirect, so that the new step is reached by a full
    /// navigation and reloading it repeats nothing. A refusal is answered directly, which is as
    /// full a navigation: the domain keeps the step, but not what was wrong with the last try.
    pub(super) async fn act(&self, guest: &Guest, ask: Ask, typed: Typed<'_>) -> Response {
        match self.ask(guest, ask).await {
            None => self.busy(guest.choice),
            Some(
                View::Phone { refusal: None }
                | View::Code { refusal: None, .. }
                | View::Follow { refusal: None, .. }
                | View::Online { .. },
            ) => Redirect::to(&format!("/{}", guest.choice.query())).into_response(),
            Some(view) => self.step(guest, &view, typed),
        }
    }

    pub(super) async fn ask(&self, guest: &Guest, ask: Ask) -> Option<View> {
        let client = guest.client;
        let answer = self.inbox.ask(|request| Event::Portal { request, client, ask });
        match tokio::time::timeout(ANSWER_WITHIN, answer).await {
            Ok(Ok(Answer::Portal(view))) => Some(view),
            _ => None,
        }
    }

    /// What a device is offered besides a code.
    fn offers(&self, client: &Client, agent: &str) -> Offers {
        let Wechat { follow, wifi } = &self.portal.wechat;
        Offers {
            follow: follow.as_ref().and_then(|follow| follow.offer(client, agent)),
            wifi: wifi.is_some(),
            voucher: self.portal.vouchers,
        }
    }

    pub(super) fn frame(&self, choice: Choice, here: &'static str) -> Frame<'_> {
        let down = *self.portal.line.borrow() == Line::Down;
        Frame { down, ..Frame::new(&self.portal.texts, self.brand(), choice, here) }
    }

    pub(super) fn brand(&self) -> Arc<Brand> {
        Arc::clone(&self.portal.brand.borrow())
    }

    pub(super) fn step(&self, guest: &Guest, view: &View, typed: Typed) -> Response {
        let frame = self.frame(guest.choice, "/");
        html(StatusCode::OK, pages::step(&frame, view, typed, &guest.offers))
    }

    pub(super) fn not_a_form(&self, guest: &Guest) -> Response {
        count(&self.counts.malformed);
        html(StatusCode::BAD_REQUEST, pages::foreign(&self.frame(guest.choice, "/")))
    }

    pub(super) fn busy(&self, choice: Choice) -> Response {
        let page = pages::busy(&self.frame(choice, "/"));
        let mut response = html(StatusCode::SERVICE_UNAVAILABLE, page);
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("3"));
        response
    }
}

/// A code as typed, with full-width digits made plain and spaces dropped; longer ones than any
/// code are cut, and are as wrong as before.
fn digits(typed: &str) -> String {
    let plain = |c: char| match c {
        '\u{ff10}'..='\u{ff19}' => char::from_digit(c as u32 - 0xff10, 10),
        _ => Some(c),
    };
    typed.chars().filter(|c| !c.is_whitespace()).filter_map(plain).take(8).collect()
}

#[cfg(test)]
#[path = "portal_tests.rs"]
mod tests;
