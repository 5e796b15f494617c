//! One request to a provider, and what it means when there is no answer.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use ureq::http::Uri;

use super::SmsError;
use super::error::SendError;
use crate::adapters::client;

/// An answer is a few hundred bytes; more is not read.
const ANSWER_MAX: u64 = 64 * 1024;

/// Where a provider listens.
pub(super) struct Http {
    url: String,
    host: String,
    /// The system's certificates if `None`.
    pub(super) ca_file: Option<PathBuf>,
}

/// What it said.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// `Retry-After` in seconds (RFC 9110 section 10.2.3); a date is not understood.
    pub(super) retry_after: Option<Duration>,
    /// Null if it is not JSON.
    pub(super) body: Value,
}

impl Http {
    /// For `url`, whose certificate the system must be able to check.
    pub(super) fn new(url: &str) -> Result<Self, SmsError> {
        client::agent(url, None, Duration::ZERO)?;
        let uri = url.parse::<Uri>().ok();
        let host = uri.as_ref().and_then(|uri| uri.authority()).map_or("", |host| host.as_str());
        Ok(Self { url: url.to_owned(), host: host.to_owned(), ca_file: None })
    }

    /// The `Host` header.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Posts to the address with `path` at its end; any status is an answer.
    pub(super) fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
        timeout: Duration,
    ) -> Result<Answer, SendError> {
        // Made anew each time: between messages the certificates need not lie in memory.
        let agent = client::agent(&self.url, self.ca_file.as_deref(), timeout)
            .map_err(|error| SendError::Unreachable(error.to_string()))?;
        let mut request = agent.post(format!("{}{path}", self.url)).header("host", &self.host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = request.send(body).map_err(|error| no_answer(&error))?;
        let retry_after = response
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok()?.trim().parse().ok().map(Duration::from_secs));
        let body = response.body_mut().with_config().limit(ANSWER_MAX).read_to_vec();
        let body = body.map_err(|error| SendError::Unanswered(error.to_string()))?;
        Ok(Answer {
            status: response.status().as_u16(),
            retry_after,
            body: serde_json::from_slice(&body).unwrap_or(Value::Null),
        })
    }
}

/// Only what failed on the way there is known not to have been taken.
fn no_answer(error: &ureq::Error) -> SendError {
    use ureq::{Error, Timeout};
    let told = error.to_string();
    let unreachable = match error {
        // Before a word is said, rustls refuses a stranger so.
        Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            return SendError::Refused(told);
        }
        Error::Io(error) => matches!(
            error.kind(),
            io::ErrorKind::ConnectionRefused
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::NetworkDown
                | io::ErrorKind::AddrNotAvailable
        ),
        error => matches!(
            error,
            Error::HostNotFound
                | Error::ConnectionFailed
                | Error::Timeout(Timeout::Resolve | Timeout::Connect)
        ),
    };
    if unreachable { SendError::Unreachable(told) } else { SendError::Unanswered(told) }
}
