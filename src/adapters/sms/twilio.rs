//! Twilio's Messages resource, version 2010-04-01.

use std::time::Duration;

use data_encoding::BASE64;

use super::SmsError;
use super::error::SendError;
use super::http::{Answer, Http};
use super::letter::Letter;
use super::sign::pairs;
use crate::config;

/// An account, and whom it sends as.
pub(super) struct Twilio {
    pub(super) http: Http,
    settings: config::Twilio,
}

impl Twilio {
    pub(super) fn new(settings: config::Twilio) -> Result<Self, SmsError> {
        Ok(Self { http: Http::new(&settings.endpoint)?, settings })
    }

    /// Sends one message, once.
    pub(super) fn send(&self, letter: &Letter, timeout: Duration) -> Result<(), SendError> {
        let config::Twilio { account_sid, auth_token, from, .. } = &self.settings;
        let sender = if from.starts_with("MG") { "MessagingServiceSid" } else { "From" };
        let body = pairs(&[("To", &letter.to), (sender, from), ("Body", &letter.text)]);
        let credentials = format!("{account_sid}:{}", auth_token.reveal());
        let authorization = format!("Basic {}", BASE64.encode(credentials.as_bytes()));
        let headers = [
            ("content-type", "application/x-www-form-urlencoded"),
            ("authorization", &*authorization),
        ];
        let path = format!("/2010-04-01/Accounts/{account_sid}/Messages.json");
        verdict(&self.http.post(&path, &headers, &body, timeout)?)
    }
}

fn verdict(answer: &Answer) -> Result<(), SendError> {
    let code = answer.body["code"].as_u64();
    Err(match (answer.status, code) {
        (200..300, _) => return Ok(()),
        // Not a number; not a mobile's; its owner wants none of ours.
        (_, Some(21_211 | 21_614 | 21_610)) => SendError::BadNumber,
        (429, _) | (_, Some(20_429 | 21_611)) => {
            SendError::RateLimited { retry_after: answer.retry_after }
        }
        (_, Some(20_005 | 30_002)) => SendError::OutOfService,
        (_, Some(code)) => SendError::Refused(code.to_string()),
        (400..500, None) => SendError::Refused(format!("status {}", answer.status)),
        (status, None) => SendError::Unanswered(format!("status {status}")),
    })
}
