//! The backend's server.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Query as FromQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use data_encoding::HEXLOWER;
use ed25519_dalek::SigningKey;
use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, X_CONTENT_TYPE_OPTIONS};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::api::{Api, ApiError};
use super::book::{Book, BookError};
use super::config::{Settings, Store};
use super::desk::{Desk, DeskError, Query};
use crate::adapters::keys::{self, KeysError};
use crate::clock::{self, Clock, Trust};
use crate::domain::Secrets;
use crate::domain::auth::follow::{self, Card};
use crate::domain::names::{BootTime, GuestKey, WallTime};

/// WeChat's pushes are a few kilobytes.
const LONGEST: usize = 64 << 10;
/// Of the threads that wait, of which there are twice as many.
const ASKING: usize = 4;
const DAY: Duration = Duration::from_hours(24);

/// What keeps the backend from running.
#[derive(Debug, thiserror::Error)]
pub enum HqError {
    /// The database.
    #[error(transparent)]
    Book(#[from] BookError),
    /// The key that hashes openids.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The client of WeChat's API.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The address.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// `listen`.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// The server ended.
    #[error("cannot serve: {0}")]
    Serve(std::io::Error),
}

/// Serves until `stop` is ready; `key` signs the tokens.
pub async fn run(
    settings: Settings,
    key: SigningKey,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), HqError> {
    let (keys, made) = keys::load_or_make(&settings.state_dir)?;
    let book = Book::open(&settings.state_dir)?;
    let secrets = Secrets { guest_key: keys.guest };
    let office = Arc::new(Office {
        api: Api::new(settings.wechat.clone())?,
        asking: Semaphore::new(ASKING),
        desk: Mutex::new(Desk::new(&settings, key, secrets, book)),
        tickets: Mutex::default(),
    });
    let address = settings.listen;
    let listener =
        TcpListener::bind(address).await.map_err(|error| HqError::Listen { address, error })?;
    let (stores, safe) = (settings.stores.len(), settings.wechat.aes_key.is_some());
    tracing::info!(%address, stores, safe, keys_made = made, "open");
    axum::serve(listener, router(office)).with_graceful_shutdown(stop).await.map_err(HqError::Serve)
}

struct Office {
    api: Api,
    /// Questions to WeChat at once: pushes must find a free thread meanwhile.
    asking: Semaphore,
    desk: Mutex<Desk>,
    /// Tickets that each store has had since the time beside.
    tickets: Mutex<HashMap<String, (u32, BootTime)>>,
}

fn router(office: Arc<Office>) -> Router {
    Router::new()
        .route("/wechat", get(echo).post(push))
        .route("/ticket", post(ticket))
        .route("/erasures", post(erasures))
        .layer(DefaultBodyLimit::max(LONGEST))
        .with_state(office)
}

async fn echo(State(office): State<Arc<Office>>, FromQuery(query): FromQuery<Query>) -> Response {
    blocking(move || said(office.desk().echo(&query, now()), "text/plain; charset=utf-8")).await
}

async fn push(
    State(office): State<Arc<Office>>,
    FromQuery(query): FromQuery<Query>,
    body: Bytes,
) -> Response {
    blocking(move || {
        let Ok(body) = std::str::from_utf8(&body) else {
            return StatusCode::BAD_REQUEST.into_response();
        };
        said(office.desk().push(&query, body, now()), "text/xml; charset=utf-8")
    })
    .await
}

#[derive(Deserialize)]
struct TicketFor {
    card: String,
}

async fn ticket(State(office): State<Arc<Office>>, headers: HeaderMap, body: Bytes) -> Response {
    let asked = Arc::clone(&office);
    let Ok(_turn) = asked.asking.try_acquire() else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    blocking(move || {
        let Some(store) = office.gateway(&headers) else {
            return StatusCode::UNAUTHORIZED.into_response();
        };
        let asked: Option<TicketFor> = serde_json::from_slice(&body).ok();
        let Some(card) = asked.and_then(|asked| Card::read(&asked.card)) else {
            return StatusCode::BAD_REQUEST.into_response();
        };
        if card.store != follow::store(&store.id) {
            return StatusCode::FORBIDDEN.into_response();
        }
        if !office.may_have_ticket(&store, clock::boot()) {
            return StatusCode::TOO_MANY_REQUESTS.into_response();
        }
        match office.api.ticket(card) {
            Ok(ticket) => json(&json!({ "url": ticket.url, "seconds": ticket.good_for.as_secs() })),
            Err(error) => {
                tracing::warn!(store = store.id, %error, "no ticket");
                StatusCode::BAD_GATEWAY.into_response()
            }
        }
    })
    .await
}

#[derive(Deserialize)]
struct Done {
    done: Vec<i64>,
}

async fn erasures(State(office): State<Arc<Office>>, headers: HeaderMap, body: Bytes) -> Response {
    blocking(move || {
        let Some(store) = office.gateway(&headers) else {
            return StatusCode::UNAUTHORIZED.into_response();
        };
        let Ok(Done { done }) = serde_json::from_slice(&body) else {
            return StatusCode::BAD_REQUEST.into_response();
        };
        match office.desk().erasures(&store.id, &done) {
            Ok(rows) => {
                let row = |(id, guest): (i64, GuestKey)| {
                    json!({ "id": id, "guest": HEXLOWER.encode(&guest.0) })
                };
                let rows: Vec<Value> = rows.into_iter().map(row).collect();
                json(&json!({ "erasures": rows }))
            }
            Err(error) => {
                tracing::error!(%error, "erasures cannot be read");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    })
    .await
}

impl Office {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store that a gateway shows itself to be of.
    fn gateway(&self, headers: &HeaderMap) -> Option<Store> {
        let id = headers.get("maitred-store")?.to_str().ok()?;
        let token = headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")?;
        self.desk().store(id, token).cloned()
    }

    fn may_have_ticket(&self, store: &Store, now: BootTime) -> bool {
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, since) = tickets.entry(store.id.clone()).or_insert((0, now));
        if now - *since >= DAY {
            (*count, *since) = (0, now);
        }
        *count += u32::from(*count <= store.tickets_per_day);
        *count <= store.tickets_per_day
    }
}

/// What the desk says to WeChat. Why it says nothing is for the log alone.
fn said(answer: Result<String, DeskError>, kind: &'static str) -> Response {
    match answer {
        Ok(text) => {
            ([(CONTENT_TYPE, kind), (X_CONTENT_TYPE_OPTIONS, "nosniff")], text).into_response()
        }
        Err(error @ (DeskError::Book(_) | DeskError::Random(_) | DeskError::Text(_))) => {
            tracing::error!(%error, "a push is not answered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
        Err(error) => {
            tracing::warn!(%error, "a push is refused");
            StatusCode::FORBIDDEN.into_response()
        }
    }
}

fn json(value: &Value) -> Response {
    ([(CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

async fn blocking(work: impl FnOnce() -> Response + Send + 'static) -> Response {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

/// A server's clock is kept right by its system.
fn now() -> WallTime {
    Clock::new(Trust::Always).now().wall.unwrap_or(WallTime(0))
}
