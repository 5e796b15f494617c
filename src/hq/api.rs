//! What WeChat is asked: an access token, kept while it is good, and tickets of QR codes.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use ureq::Agent;

use super::config::Wechat;
use crate::adapters::client::{self, ClientError};
use crate::clock;
use crate::domain::auth::follow::Card;
use crate::domain::names::BootTime;

/// WeChat's answers are small.
const LONGEST_ANSWER: u64 = 16 << 10;
const TIMEOUT: Duration = Duration::from_secs(4);
/// A ticket is good for this long.
const TICKET: Duration = Duration::from_mins(30);
/// An access token is renewed this long before its end.
const MARGIN: Duration = Duration::from_mins(5);
/// WeChat says so of an access token that is good no more.
const BAD_TOKEN: [i64; 3] = [40_001, 40_014, 42_001];

/// Why there is no ticket.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// No connection, or one that broke or took too long.
    #[error("WeChat cannot be reached: {0}")]
    Unreachable(Box<ureq::Error>),
    /// WeChat refuses; 48001 is an account that may have no such QR codes.
    #[error("WeChat refuses: {code} {text}")]
    Refused {
        /// `errcode`.
        code: i64,
        /// `errmsg`.
        text: String,
    },
    /// The answer is none.
    #[error("WeChat's answer cannot be read")]
    Malformed,
    /// There is no client.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// A QR code for a card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    /// The text of the code.
    pub(super) url: String,
    /// It is good for this long.
    pub(super) good_for: Duration,
}

/// WeChat's API for one account; blocks.
pub(super) struct Api {
    agent: Agent,
    wechat: Wechat,
    access: Mutex<Option<(String, BootTime)>>,
}

#[derive(Deserialize)]
struct Reply {
    errcode: Option<i64>,
    errmsg: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
    url: Option<String>,
    expire_seconds: Option<u64>,
}

impl Api {
    pub(super) fn new(wechat: Wechat) -> Result<Self, ApiError> {
        let agent = client::agent(&wechat.api, wechat.ca_file.as_deref(), TIMEOUT)?;
        Ok(Self { agent, wechat, access: Mutex::new(None) })
    }

    /// A new ticket. An access token that WeChat has revoked is replaced once.
    pub(super) fn ticket(&self, card: Card) -> Result<Ticket, ApiError> {
        match self.ask_ticket(card) {
            Err(ApiError::Refused { code, .. }) if BAD_TOKEN.contains(&code) => {
                *self.access.lock().unwrap_or_else(PoisonError::into_inner) = None;
                self.ask_ticket(card)
            }
            answered => answered,
        }
    }

    fn ask_ticket(&self, card: Card) -> Result<Ticket, ApiError> {
        let token = self.access_token()?;
        let path = format!("/cgi-bin/qrcode/create?access_token={token}");
        let reply = self.post(
            &path,
            &json!({
                "expire_seconds": TICKET.as_secs(),
                "action_name": "QR_STR_SCENE",
                "action_info": { "scene": { "scene_str": card.code() } },
            }),
        )?;
        let (Some(url), Some(seconds)) = (reply.url, reply.expire_seconds) else {
            return Err(ApiError::Malformed);
        };
        Ok(Ticket { url, good_for: Duration::from_secs(seconds) })
    }

    /// The access token; asked for by one at a time. The stable kind: fetching one leaves those of
    /// the account's other servers good.
    fn access_token(&self) -> Result<String, ApiError> {
        let mut access = self.access.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::boot();
        if let Some((token, until)) = &*access
            && now < *until
        {
            return Ok(token.clone());
        }
        let reply = self.post(
            "/cgi-bin/stable_token",
            &json!({
                "grant_type": "client_credential",
                "appid": self.wechat.app_id,
                "secret": self.wechat.app_secret.reveal(),
            }),
        )?;
        let (Some(token), Some(seconds)) = (reply.access_token, reply.expires_in) else {
            return Err(ApiError::Malformed);
        };
        if !token.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
            return Err(ApiError::Malformed);
        }
        *access = Some((token.clone(), now + Duration::from_secs(seconds).saturating_sub(MARGIN)));
        Ok(token)
    }

    fn post(&self, path: &str, body: &serde_json::Value) -> Result<Reply, ApiError> {
        let unreachable = |error| ApiError::Unreachable(Box::new(error));
        let url = format!("{}{path}", self.wechat.api.trim_end_matches('/'));
        let request = self.agent.post(&url).header("content-type", "application/json");
        let mut answer = request.send(body.to_string().as_bytes()).map_err(unreachable)?;
        let body = answer.body_mut().with_config().limit(LONGEST_ANSWER);
        let bytes = body.read_to_vec().map_err(unreachable)?;
        let reply: Reply = serde_json::from_slice(&bytes).map_err(|_| ApiError::Malformed)?;
        match reply.errcode {
            None | Some(0) => Ok(reply),
            Some(code) => Err(ApiError::Refused { code, text: reply.errmsg.unwrap_or_default() }),
        }
    }
}
