//! What a provider's settings must be.

use super::{Found, MINUTE, WEB_ADDRESS, absolute, header, name, web_address};
use crate::config::{Config, Sms};

pub(super) fn check(config: &Config, found: &mut Found) {
    found.unless(config.sms.len() <= 8, "sms", "may stand at most 8 times");
    for (place, sms) in config.sms.iter().enumerate() {
        provider(sms, &|key: &str| format!("sms.{place}.{key}"), found);
    }
}

fn provider(sms: &Sms, at: &dyn Fn(&str) -> String, found: &mut Found) {
    if let Some((key, address)) = sms.address() {
        found.unless(web_address(address), &at(key), WEB_ADDRESS);
    }
    match sms {
        Sms::Spool { dir } => absolute(dir, &at("dir"), found),
        Sms::Webhook { body, authorization, timeout, retries, .. } => {
            let json = serde_json::from_str::<serde_json::Value>(body.reveal()).is_ok();
            found.unless(json, &at("body"), "must be JSON");
            let has = |part| body.reveal().contains(part);
            found.unless(
                has("{phone}") && (has("{code}") || has("{text}")),
                &at("body"),
                "must have {phone}, and {code} or {text}, in its texts",
            );
            header(authorization.as_ref(), &at("authorization"), found);
            found.length(&at("timeout"), *timeout, MINUTE, "must be above 0, 1m at most");
            found.unless(*retries <= 5, &at("retries"), "must be at most 5");
        }
        Sms::Aliyun(aliyun) => {
            words(&[("access_key_id", &aliyun.access_key_id)], at, found);
            path_of(&aliyun.endpoint, at, found);
            params(aliyun.params.values(), at, found);
        }
        Sms::Tencent(tencent) => {
            words(&[("secret_id", &tencent.secret_id), ("region", &tencent.region)], at, found);
            path_of(&tencent.endpoint, at, found);
            params(tencent.params.iter(), at, found);
        }
        Sms::Twilio(twilio) => {
            words(&[("account_sid", &twilio.account_sid)], at, found);
            path_of(&twilio.endpoint, at, found);
            header(Some(&twilio.auth_token), &at("auth_token"), found);
            found.unless(!twilio.from.is_empty(), &at("from"), "must not be empty");
        }
        Sms::Modem(modem) => {
            // It becomes an argument, and must not be taken for an option.
            let good = modem.device.as_ref().is_none_or(|device| {
                !device.starts_with('-') && !device.is_empty() && !device.contains('\0')
            });
            found.unless(good, &at("device"), "must not be empty or start with '-'");
            if let Some(program) = &modem.program {
                absolute(program, &at("program"), found);
            }
            found.length(&at("timeout"), modem.timeout, MINUTE, "must be above 0, 1m at most");
        }
    }
}

/// What goes into headers and paths as it is.
fn words(keys: &[(&str, &str)], at: &dyn Fn(&str) -> String, found: &mut Found) {
    for (key, word) in keys {
        let should = "must be 1 to 64 letters, digits, '-', '_' or '.'";
        found.unless(name(word, 64, "-_."), &at(key), should);
    }
}

/// A signature covers the path, so it is ours to choose.
fn path_of(endpoint: &str, at: &dyn Fn(&str) -> String, found: &mut Found) {
    let host = endpoint.split_once("://").map_or("", |(_, rest)| rest);
    let bare = !host.contains(['/', '?', '#']);
    found.unless(bare, &at("endpoint"), "must end with the host or its port");
}

fn params<'a>(
    mut params: impl Iterator<Item = &'a String>,
    at: &dyn Fn(&str) -> String,
    found: &mut Found,
) {
    let has = params.any(|param| param.contains("{code}"));
    found.unless(has, &at("params"), "must have {code} in one of its texts");
}
