//! An HTTP POST a message, with a body of the store's own making.

use std::time::Duration;

use serde_json::Value;

use super::SmsError;
use super::error::SendError;
use super::http::Http;
use super::letter::Letter;

/// The provider's address and what it wants to hear.
pub(super) struct Webhook {
    pub(super) http: Http,
    template: Value,
    authorization: Option<String>,
    timeout: Duration,
}

impl Webhook {
    /// `timeout` is for one try; `template` is JSON with placeholders in its texts.
    pub(super) fn new(
        url: &str,
        template: &str,
        authorization: Option<String>,
        timeout: Duration,
    ) -> Result<Self, SmsError> {
        let template = serde_json::from_str(template).map_err(SmsError::Template)?;
        Ok(Self { http: Http::new(url)?, template, authorization, timeout })
    }

    /// Sends one message, once, within its own time and `left`.
    pub(super) fn send(&self, letter: &Letter, left: Duration) -> Result<(), SendError> {
        let body = fill(&self.template, letter).to_string();
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(self.authorization.as_deref().map(|value| ("authorization", value)));
        let answer = self.http.post("", &headers, &body, left.min(self.timeout))?;
        match answer.status {
            200..300 => Ok(()),
            402 => Err(SendError::OutOfService),
            429 => Err(SendError::RateLimited { retry_after: answer.retry_after }),
            status => Err(SendError::Status(status)),
        }
    }
}

/// The template with its placeholders filled in. They are looked for in the parsed JSON's texts,
/// so that no value can add structure.
fn fill(template: &Value, letter: &Letter) -> Value {
    match template {
        Value::String(text) => Value::String(letter.fill(text)),
        Value::Array(items) => items.iter().map(|item| fill(item, letter)).collect(),
        Value::Object(members) => members
            .iter()
            .map(|(name, member)| (name.clone(), fill(member, letter)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests;
