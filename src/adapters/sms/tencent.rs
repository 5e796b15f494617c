//! Tencent Cloud's `SendSms`, version 2021-01-11.

use std::time::Duration;

use serde_json::json;

use super::SmsError;
use super::error::SendError;
use super::http::{Answer, Http};
use super::letter::Letter;
use super::sign::{Request, seconds};
use crate::config;
use crate::domain::names::WallTime;

const JSON: &str = "application/json; charset=utf-8";
/// What is counted by the day is not tried again with the same message.
const LATER: Duration = Duration::from_hours(1);

/// An account, and what it may send.
pub(super) struct Tencent {
    pub(super) http: Http,
    settings: config::Tencent,
}

impl Tencent {
    pub(super) fn new(settings: config::Tencent) -> Result<Self, SmsError> {
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
        let params: Vec<_> = settings.params.iter().map(|text| letter.fill(text)).collect();
        let body = json!({
            "PhoneNumberSet": [letter.to],
            "SmsSdkAppId": settings.sdk_app_id,
            "TemplateId": settings.template_id,
            "SignName": settings.sign_name,
            "TemplateParamSet": params,
        });
        let (body, at) = (body.to_string(), seconds(wall).to_string());
        let headers =
            [("content-type", JSON), ("host", self.http.host()), ("x-tc-action", "sendsms")];
        let authorization = Request { query: "", headers: &headers, body: &body }.tc3(
            &settings.secret_id,
            settings.secret_key.reveal(),
            "sms",
            wall,
        );
        let sent = [
            ("content-type", JSON),
            // Signed in lower case, sent as the action is written.
            ("x-tc-action", "SendSms"),
            ("x-tc-version", "2021-01-11"),
            ("x-tc-region", &settings.region),
            ("x-tc-timestamp", &at),
            ("authorization", &authorization),
        ];
        verdict(&self.http.post("/", &sent, &body, timeout)?)
    }
}

fn verdict(answer: &Answer) -> Result<(), SendError> {
    let response = &answer.body["Response"];
    let code = response["Error"]["Code"].as_str();
    let Some(code) = code.or_else(|| response["SendStatusSet"][0]["Code"].as_str()) else {
        return Err(SendError::Unanswered(format!("status {}", answer.status)));
    };
    Err(match code {
        "Ok" => return Ok(()),
        "InvalidParameterValue.IncorrectPhoneNumber"
        | "FailedOperation.PhoneNumberParseFail"
        | "FailedOperation.PhoneNumberInBlacklist" => SendError::BadNumber,
        "LimitExceeded.DeliveryFrequencyLimit"
        | "LimitExceeded.PhoneNumberThirtySecondLimit"
        | "LimitExceeded.PhoneNumberOneHourLimit"
        | "LimitExceeded.PhoneNumberDailyLimit"
        | "LimitExceeded.PhoneNumberSameContentDailyLimit" => SendError::NumberLimit,
        code if code.starts_with("RequestLimitExceeded") => {
            SendError::RateLimited { retry_after: answer.retry_after }
        }
        code if code.starts_with("LimitExceeded") => {
            SendError::RateLimited { retry_after: Some(LATER) }
        }
        "FailedOperation.InsufficientBalanceInSmsPackage"
        | "UnauthorizedOperation.ServiceSuspendDueToArrears" => SendError::OutOfService,
        "AuthFailure.SignatureExpire" => SendError::ClockSkew,
        code => SendError::refused(code),
    })
}
