//! The page for staff, behind a password: who is in the store, and how the day goes.

mod login;
mod page;

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::rejection::FormRejection;
use axum::extract::{DefaultBodyLimit, Extension, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Router};
use hyper::StatusCode;
use hyper::header::{COOKIE, HeaderMap, HeaderValue, RETRY_AFTER, SET_COOKIE};
use hyper_util::service::TowerToHyperService;
use serde::Deserialize;
use tokio::sync::{Semaphore, watch};

use self::login::{Attempts, Password, Sessions};
use self::page::Day;
use super::accept::{Counts, Limits, Peer, count, serve};
use super::brand::Brand;
use super::catalogue::{Catalogues, fill};
use super::guard::{FORM, Identified, found, html, sent_from_here};
use super::language::Choice;
use super::pages::Frame;
use super::tls::Standing;
use super::{HttpError, StaffListener};
use crate::adapters::store::report::DayReport;
use crate::clock::{self, Clock};
use crate::config::{Secret, Visit};

const LIMITS: Limits = Limits {
    connections: 32,
    per_device: 16,
    head: Duration::from_secs(5),
    whole: Duration::from_secs(20),
};

/// Reads today's report from the record.
pub type DaySource = Arc<
    dyn Fn() -> Pin<Box<dyn Future<Output = Result<DayReport, Unavailable>> + Send>> + Send + Sync,
>;

/// The record cannot be read just now; the reader has said why in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the record cannot be read")]
pub struct Unavailable;

/// What the staff page shows, and to whom.
pub struct Staff {
    /// The store's name.
    pub store: String,
    /// Argon2 hash of the password (PHC string).
    pub password_hash: Secret,
    /// A login lasts this long.
    pub session: Duration,
    /// The store's time zone.
    pub time_zone: jiff::tz::TimeZone,
    /// The thresholds that are printed beside the figures.
    pub visit: Visit,
    /// For the time of the page.
    pub clock: Clock,
    /// The words.
    pub texts: Arc<Catalogues>,
    /// The figures.
    pub today: DaySource,
    /// How the portal's certificate stands, if there is one.
    pub certificate: Option<watch::Receiver<Standing>>,
}

/// Serves the staff page on `listener` until `stop` turns true.
pub async fn run_staff(
    listener: StaffListener,
    staff: Staff,
    counts: Arc<Counts>,
    stop: watch::Receiver<bool>,
) -> Result<(), HttpError> {
    let router = TowerToHyperService::new(router(staff, Arc::clone(&counts))?);
    serve(vec![listener.0], None, LIMITS, counts, stop, None, move |peer| Identified {
        peer,
        router: router.clone(),
    })
    .await
}

struct Office {
    staff: Staff,
    counts: Arc<Counts>,
    password: Password,
    /// One check at a time: each takes the memory that the hash asks for.
    checking: Semaphore,
    attempts: Mutex<Attempts>,
    sessions: Mutex<Sessions>,
    brand: Arc<Brand>,
}

fn router(staff: Staff, counts: Arc<Counts>) -> Result<Router, HttpError> {
    let brand = Arc::new(Brand::of_staff(&staff.store));
    let office = Arc::new(Office {
        password: Password::new(staff.password_hash.reveal())?,
        staff,
        counts,
        checking: Semaphore::new(1),
        attempts: Mutex::default(),
        sessions: Mutex::default(),
        brand,
    });
    Ok(Router::new()
        .route("/staff", get(today))
        .route("/staff/login", post(login).get(home))
        .route("/staff/logout", post(logout).get(home))
        .fallback(home)
        .layer(DefaultBodyLimit::max(FORM))
        .layer(from_fn_with_state(Arc::clone(&office), guard))
        .with_state(office))
}

async fn guard(State(office): State<Arc<Office>>, request: Request, next: Next) -> Response {
    let mut response = if sent_from_here(request.method(), request.headers(), false) {
        next.run(request).await
    } else {
        StatusCode::FORBIDDEN.into_response()
    };
    office.brand.seal.apply(&mut response);
    response
}

async fn home() -> Response {
    found("/staff")
}

async fn today(State(office): State<Arc<Office>>, choice: Choice, headers: HeaderMap) -> Response {
    let frame = office.frame(choice);
    if !office.knows(&headers) {
        return html(StatusCode::OK, page::login(&frame, None));
    }
    match (office.staff.today)().await {
        Ok(report) => {
            let wall = office.staff.clock.now().wall;
            let day = Day {
                report: &report,
                wall,
                time_zone: &office.staff.time_zone,
                visit: &office.staff.visit,
                certificate: office.staff.certificate.as_ref().map(|now| now.borrow().clone()),
            };
            html(StatusCode::OK, page::today(&frame, &day))
        }
        Err(Unavailable) => html(StatusCode::SERVICE_UNAVAILABLE, page::unavailable(&frame)),
    }
}

#[derive(Deserialize)]
struct LoginForm {
    password: Secret,
}

async fn login(
    State(office): State<Arc<Office>>,
    choice: Choice,
    Extension(peer): Extension<Peer>,
    form: Result<Form<LoginForm>, FormRejection>,
) -> Response {
    let frame = office.frame(choice);
    let Ok(Form(form)) = form else {
        count(&office.counts.malformed);
        return StatusCode::BAD_REQUEST.into_response();
    };
    let entered = lock(&office.attempts).enter(peer.address, clock::boot());
    if let Err(wait) = entered {
        let error = fill(&frame.text.staff.wait, &[("wait", &frame.text.length(wait))]);
        let page = page::login(&frame, Some(error));
        let mut response = html(StatusCode::TOO_MANY_REQUESTS, page);
        response.headers_mut().insert(RETRY_AFTER, (wait.as_secs() + 1).into());
        return response;
    }
    if !office.check(form.password).await {
        tracing::warn!(peer = %peer.address, "wrong staff password");
        let error = frame.text.staff.wrong.clone();
        return html(StatusCode::FORBIDDEN, page::login(&frame, Some(error)));
    }
    lock(&office.attempts).succeed(peer.address);
    let session = office.staff.session;
    let cookie = lock(&office.sessions).open(clock::boot() + session).map(|token| {
        let age = session.as_secs();
        HeaderValue::try_from(format!("{}; Max-Age={age}", cookie(&token)))
    });
    let Some(Ok(cookie)) = cookie else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
    tracing::info!(peer = %peer.address, "staff logged in");
    let mut response = back(choice);
    response.headers_mut().insert(SET_COOKIE, cookie);
    response
}

async fn logout(State(office): State<Arc<Office>>, choice: Choice, headers: HeaderMap) -> Response {
    for token in tokens(&headers) {
        lock(&office.sessions).close(token);
    }
    let mut response = back(choice);
    if let Ok(cookie) = HeaderValue::try_from(format!("{}; Max-Age=0", cookie(""))) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}

impl Office {
    fn frame(&self, choice: Choice) -> Frame<'_> {
        Frame::new(&self.staff.texts, Arc::clone(&self.brand), choice, "/staff")
    }

    fn knows(&self, headers: &HeaderMap) -> bool {
        let now = clock::boot();
        tokens(headers).any(|token| lock(&self.sessions).holds(token, now))
    }

    async fn check(&self, typed: Secret) -> bool {
        let Ok(_turn) = self.checking.acquire().await else { return false };
        let password = self.password.clone();
        tokio::task::spawn_blocking(move || password.is(&typed)).await.unwrap_or(false)
    }
}

fn back(choice: Choice) -> Response {
    Redirect::to(&format!("/staff{}", choice.query())).into_response()
}

const COOKIE_NAME: &str = "maitred_staff";

fn cookie(token: &str) -> String {
    format!("{COOKIE_NAME}={token}; Path=/staff; HttpOnly; SameSite=Strict")
}

/// The session tokens that a request carries (RFC 6265, 5.4); more than a few are nobody's.
fn tokens(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let pairs = values.flat_map(|value| value.split(';'));
    pairs.filter_map(|pair| pair.trim().strip_prefix(COOKIE_NAME)?.strip_prefix('=')).take(4)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
