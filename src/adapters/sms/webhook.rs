//! An HTTP POST a message, retried while that may help and the code is still fresh.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use ureq::Agent;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use super::{Letter, SendError, SmsError};
use crate::clock;
use crate::domain::names::BootTime;

/// Where distributions keep their bundle of root certificates.
const BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/cert.pem", "/etc/pki/tls/certs/ca-bundle.crt"];
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The provider's address and what it wants to hear.
#[derive(Debug)]
pub(super) struct Webhook {
    agent: Agent,
    url: String,
    template: Value,
    authorization: Option<String>,
    timeout: Duration,
    retries: u8,
}

impl Webhook {
    /// `timeout` is for one try; `template` is JSON with placeholders in its texts.
    pub(super) fn new(
        url: String,
        template: &str,
        authorization: Option<String>,
        timeout: Duration,
        retries: u8,
    ) -> Result<Self, SmsError> {
        let template = serde_json::from_str(template).map_err(SmsError::Template)?;
        let roots = if url.starts_with("https:") { system_roots()? } else { Vec::new() };
        Ok(Self { agent: agent(&roots), url, template, authorization, timeout, retries })
    }

    /// Sends one message; returns once it is taken, refused, or `deadline` is near.
    pub(super) fn send(
        &self,
        letter: &Letter,
        deadline: BootTime,
        stopping: &AtomicBool,
    ) -> Result<(), SendError> {
        let body = fill(&self.template, letter).to_string();
        let mut pause = FIRST_PAUSE;
        for tries_left in (0..=self.retries).rev() {
            let left = deadline - clock::boot();
            if left.is_zero() {
                return Err(SendError::Late);
            }
            let error = match self.post(&body, left.min(self.timeout)) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let stop = tries_left == 0 || stopping.load(Ordering::Relaxed) || !may_pass(&error);
            if stop || clock::boot() + pause >= deadline {
                return Err(error);
            }
            tracing::debug!(%error, "a webhook try failed");
            thread::sleep(jitter(pause));
            pause *= 2;
        }
        Err(SendError::Late)
    }

    fn post(&self, body: &str, timeout: Duration) -> Result<(), SendError> {
        let mut request = self
            .agent
            .post(&self.url)
            .config()
            .timeout_global(Some(timeout))
            .build()
            .content_type("application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let status = request.send(body).map_err(Box::new)?.status();
        if status.is_success() { Ok(()) } else { Err(SendError::Status(status.as_u16())) }
    }
}

fn agent(roots: &[Certificate<'static>]) -> Agent {
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(roots))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .proxy(None)
        // A redirect would carry the number and the credentials elsewhere.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent("maitred")
        .build()
        .into()
}

fn system_roots() -> Result<Vec<Certificate<'static>>, SmsError> {
    let bundle = BUNDLES.iter().find_map(|path| std::fs::read(path).ok());
    let bundle = bundle.ok_or_else(|| SmsError::Roots(BUNDLES.join(", ")))?;
    let roots = parse_pem(&bundle).filter_map(|item| match item {
        Ok(PemItem::Certificate(root)) => Some(root),
        _ => None,
    });
    Ok(roots.collect())
}

/// Whether another try may do better. Once a request is out and unanswered it may have been taken,
/// and a second one would cost a second message.
fn may_pass(error: &SendError) -> bool {
    use ureq::{Error, Timeout};
    match error {
        SendError::Status(status) => *status == 429 || *status >= 500,
        SendError::Http(error) => match &**error {
            // rustls's refusals come as InvalidData.
            Error::Io(error) => error.kind() != std::io::ErrorKind::InvalidData,
            error => matches!(
                error,
                Error::HostNotFound
                    | Error::ConnectionFailed
                    | Error::Timeout(Timeout::Resolve | Timeout::Connect)
            ),
        },
        SendError::Spool(_) | SendError::Late => false,
    }
}

/// Between half of `pause` and all of it, so that many stores do not come back as one.
fn jitter(pause: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or(u32::MAX);
    pause / 2 + (pause / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// The template with its placeholders filled in. They are looked for in the parsed JSON's texts,
/// once, so that no value can add structure or be expanded again.
fn fill(template: &Value, letter: &Letter) -> Value {
    match template {
        Value::String(text) => Value::String(fill_text(text, letter)),
        Value::Array(items) => items.iter().map(|item| fill(item, letter)).collect(),
        Value::Object(members) => members
            .iter()
            .map(|(name, member)| (name.clone(), fill(member, letter)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}

fn fill_text(template: &str, letter: &Letter) -> String {
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(start) = rest.find('{') {
        filled.push_str(&rest[..start]);
        rest = &rest[start..];
        let (placeholder, value) = match () {
            () if rest.starts_with("{phone}") => ("{phone}", &*letter.to),
            () if rest.starts_with("{code}") => ("{code}", &*letter.code),
            () if rest.starts_with("{text}") => ("{text}", &*letter.text),
            () if rest.starts_with("{store}") => ("{store}", &*letter.store),
            () => ("{", "{"),
        };
        filled.push_str(value);
        rest = &rest[placeholder.len()..];
    }
    filled + rest
}

#[cfg(test)]
mod tests;
