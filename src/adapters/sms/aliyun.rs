//! Alibaba Cloud's `SendSms`, version 2017-05-25.

use std::time::Duration;

use data_encoding::HEXLOWER;

use super::SmsError;
use super::error::SendError;
use super::http::{Answer, Http};
use super::letter::Letter;
use super::sign::{Request, date_and_time, hash, pairs};
use crate::config;
use crate::domain::names::WallTime;

/// What is counted by the day is not tried again with the same message.
const LATER: Duration = Duration::from_hours(1);

/// An account, and what it may send.
pub(super) struct Aliyun {
    pub(super) http: Http,
    settings: config::Aliyun,
}

impl Aliyun {
    pub(super) fn new(settings: config::Aliyun) -> Result<Self, SmsError> {
        Ok(Self { http: Http::new(&settings.endpoint)?, settings })
    }

    /// Sends one message, once.
    pub(super) fn send(
        &self,
        letter: &Letter,
        wall: WallTime,
        timeout: Duration,
    ) -> Result<(), SendError> {
        let settings = &self.settings;
        let params = settings.params.iter().map(|(name, text)| (name.clone(), letter.fill(text)));
        let params = params.collect::<serde_json::Value>().to_string();
        // Numbers of all countries are taken without their `+`.
        let query = pairs(&[
            ("PhoneNumbers", letter.digits()),
            ("SignName", &settings.sign_name),
            ("TemplateCode", &settings.template_code),
            ("TemplateParam", &params),
        ]);
        let (empty, date, nonce) = (hash(""), date_and_time(wall), nonce()?);
        let headers = [
            ("host", self.http.host()),
            ("x-acs-action", "SendSms"),
            ("x-acs-content-sha256", &empty),
            ("x-acs-date", &date),
            ("x-acs-signature-nonce", &nonce),
            ("x-acs-version", "2017-05-25"),
        ];
        let authorization = Request { query: &query, headers: &headers, body: "" }
            .acs3(&settings.access_key_id, settings.access_key_secret.reveal());
        // The client writes `host` itself.
        let mut sent = headers[1..].to_vec();
        sent.push(("authorization", &authorization));
        verdict(&self.http.post(&format!("/?{query}"), &sent, "", timeout)?)
    }
}

fn verdict(answer: &Answer) -> Result<(), SendError> {
    let Some(code) = answer.body["Code"].as_str() else {
        return Err(SendError::Unanswered(format!("status {}", answer.status)));
    };
    Err(match code {
        "OK" => return Ok(()),
        "isv.MOBILE_NUMBER_ILLEGAL" => SendError::BadNumber,
        // Counted for each number and signature.
        "isv.BUSINESS_LIMIT_CONTROL" => SendError::NumberLimit,
        "isv.DAY_LIMIT_CONTROL" | "isv.MONTH_LIMIT_CONTROL" => {
            SendError::RateLimited { retry_after: Some(LATER) }
        }
        code if code.starts_with("Throttling") => {
            SendError::RateLimited { retry_after: answer.retry_after }
        }
        "isv.AMOUNT_NOT_ENOUGH" | "isv.OUT_OF_SERVICE" | "isv.ACCOUNT_ABNORMAL" => {
            SendError::OutOfService
        }
        "InvalidTimeStamp.Expired" => SendError::ClockSkew,
        code => SendError::refused(code),
    })
}

/// Never the same twice, or the request is taken for a replay.
fn nonce() -> Result<String, SendError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| SendError::Refused(error.to_string()))?;
    Ok(HEXLOWER.encode(&bytes))
}
