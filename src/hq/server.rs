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
use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, X_CONTENT_TYPE_OPTIONS};
use ring::signature::Ed25519KeyPair;
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
    key: Ed25519KeyPair,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), HqError> {
    let (keys, made) = keys::load_or_make(&settings.state_dir)?;
    let book = Book::open(&settings.state_dir)?;
    let office = Arc::new(Office {
        api: Api::new(settings.wechat.clone())?,
        asking: Semaphore::new(ASKING),
        desk: Mutex::new(Desk::new(&settings, key, keys.secrets(), book)),
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::adapters::client;
    use crate::domain::Secrets;
    use crate::domain::names::Mac;

    /// A backend whose WeChat is nobody; where it listens.
    async fn open(folder: &Path) -> String {
        let text = "listen = \"127.0.0.1:1\"\nstate_dir = \"/s\"\nkey = \"/k\"\n[wechat]\n\
            app_id = \"wx1\"\napp_secret = \"s\"\ntoken = \"t\"\napi = \"http://127.0.0.1:9\"\n\
            [[store]]\nid = \"s1\"\nportal = \"http://one\"\ntoken = \"one\"\n\
            tickets_per_day = 2\n\
            [[store]]\nid = \"s2\"\nportal = \"http://two\"\ntoken = \"two\"\n";
        let settings: Settings = toml::from_str(text).unwrap();
        let key = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let secrets = Secrets { guest_key: [5; 32], voucher_key: [0; 32] };
        let desk = Desk::new(&settings, key, secrets, Book::open(folder).unwrap());
        let office = Arc::new(Office {
            api: Api::new(settings.wechat).unwrap(),
            asking: Semaphore::new(ASKING),
            desk: Mutex::new(desk),
            tickets: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router(office)).await.unwrap() });
        url
    }

    /// Posts as a gateway; the status and the answer.
    async fn post_as(url: &str, path: &str, who: (&str, &str), body: String) -> (u16, String) {
        let (url, path) = (url.to_owned(), path.to_owned());
        let (store, token) = (who.0.to_owned(), who.1.to_owned());
        let ask = move || {
            let agent = client::agent(&url, None, Duration::from_secs(5)).unwrap();
            let request = agent
                .post(format!("{url}{path}"))
                .header("maitred-store", store)
                .header("authorization", token);
            let mut answer = request.send(body.as_bytes()).unwrap();
            (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
        };
        tokio::task::spawn_blocking(ask).await.unwrap()
    }

    fn card(store: &str) -> String {
        let code = Card::new(store, "guest", Mac([2; 6])).code();
        json!({ "card": code }).to_string()
    }

    #[tokio::test]
    async fn a_gateway_gets_what_is_its_stores() {
        let folder = tempfile::tempdir().unwrap();
        let url = open(folder.path()).await;
        let one = ("s1", "Bearer one");
        for (path, who, body, expected) in [
            ("/ticket", ("s1", "Bearer two"), card("s1"), 401),
            ("/ticket", ("s1", "one"), card("s1"), 401),
            ("/ticket", ("", ""), card("s1"), 401),
            ("/ticket", one, card("s2"), 403),
            ("/ticket", one, "{}".into(), 400),
            ("/ticket", one, json!({ "card": "hello" }).to_string(), 400),
            ("/ticket", one, "x".repeat(LONGEST + 1), 413),
            // WeChat is nobody; the third is one too many, whatever WeChat says.
            ("/ticket", one, card("s1"), 502),
            ("/ticket", one, card("s1"), 502),
            ("/ticket", one, card("s1"), 429),
            ("/ticket", ("s2", "Bearer two"), card("s2"), 502),
            ("/erasures", ("s1", "Bearer two"), json!({ "done": [] }).to_string(), 401),
            ("/erasures", one, "[]".into(), 400),
            ("/wechat", one, "<xml/>".into(), 403),
            ("/", one, String::new(), 404),
        ] {
            let (status, said) = post_as(&url, path, who, body).await;
            assert_eq!(
                (status, status == 404 || said.len() < 60),
                (expected, true),
                "{path} {said}"
            );
        }
        let none = post_as(&url, "/erasures", one, json!({ "done": [1] }).to_string()).await;
        assert_eq!(none, (200, "{\"erasures\":[]}".to_owned()));
    }
}
