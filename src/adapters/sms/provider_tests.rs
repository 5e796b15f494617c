use std::time::Duration;

use serde_json::{Value, json};

use super::aliyun::Aliyun;
use super::error::SendError;
use super::letter::Letter;
use super::peer::{self, NOW, Seen, response, serve, values};
use super::tencent::Tencent;
use super::twilio::Twilio;
use crate::config::{Config, Sms};
use crate::domain::names::WallTime;

const WALL: WallTime = WallTime(NOW * 1000);
const LONG: Duration = Duration::from_secs(10);

fn settings(sms: &str, endpoint: &str) -> Sms {
    let text = format!(
        "[store]\nid = \"s\"\nname = \"Corner\"\ntime_zone = \"UTC\"\n\
         [[zone]]\nname = \"guest\"\ninterface = \"br0\"\n[sms]\n{sms}\nendpoint = {endpoint:?}\n"
    );
    Config::parse(&text, "test").unwrap().sms.remove(0)
}

fn aliyun(endpoint: &str, secret: &str) -> Aliyun {
    let sms = format!(
        "provider = \"aliyun\"\naccess_key_id = \"testId\"\naccess_key_secret = {secret:?}\n\
         sign_name = \"玉石 & 商场\"\ntemplate_code = \"SMS_71390007\"\n\
         params = {{ code = \"{{code}}\", shop = \"{{store}}\" }}"
    );
    let Sms::Aliyun(settings) = settings(&sms, endpoint) else { panic!("{sms}") };
    Aliyun::new(settings).unwrap()
}

fn tencent(endpoint: &str, secret: &str) -> Tencent {
    let sms = format!(
        "provider = \"tencent\"\nsecret_id = \"testId\"\nsecret_key = {secret:?}\n\
         sdk_app_id = \"1400006666\"\nsign_name = \"玉石 & 商场\"\ntemplate_id = \"1110\"\n\
         params = [\"{{code}}\", \"{{minutes}}\"]"
    );
    let Sms::Tencent(settings) = settings(&sms, endpoint) else { panic!("{sms}") };
    Tencent::new(settings).unwrap()
}

fn twilio(endpoint: &str, from: &str) -> Twilio {
    let sms = format!(
        "provider = \"twilio\"\naccount_sid = \"AC123\"\nauth_token = \"token\"\nfrom = {from:?}"
    );
    let Sms::Twilio(settings) = settings(&sms, endpoint) else { panic!("{sms}") };
    Twilio::new(settings).unwrap()
}

fn name(sent: Result<(), SendError>) -> &'static str {
    match sent {
        Ok(()) => "taken",
        Err(error) => {
            assert!(!error.to_string().contains("138"), "the number is in {error}");
            error.name()
        }
    }
}

#[test]
fn alibaba_cloud_accepts_what_we_sign() {
    let (url, requests) = serve(|seen| peer::aliyun(seen, "OK"));
    let aliyun = aliyun(&url, "testSecret");
    for _ in 0..2 {
        aliyun.send(&Letter::example(), WALL, LONG).unwrap();
    }
    let asked: Vec<Seen> = requests.try_iter().collect();
    let query = values(asked[0].target.strip_prefix("POST /?").unwrap());
    assert_eq!(query["PhoneNumbers"], "8613800138000");
    assert_eq!(query["SignName"], "玉石 & 商场");
    assert_eq!(query["TemplateCode"], "SMS_71390007");
    let params: Value = serde_json::from_str(&query["TemplateParam"]).unwrap();
    assert_eq!(params, json!({"code": "482913", "shop": r#"Bob's", "to": "{code}"#}));
    assert_eq!(asked[0].headers["x-acs-action"], "SendSms");
    assert_eq!(asked[0].headers["x-acs-version"], "2017-05-25");
    let nonce = |seen: &Seen| seen.headers["x-acs-signature-nonce"].clone();
    assert_ne!(nonce(&asked[0]), nonce(&asked[1]));
}

#[test]
fn alibaba_clouds_refusals_are_understood() {
    for (code, expected) in [
        ("OK", "taken"),
        ("isv.MOBILE_NUMBER_ILLEGAL", "bad_number"),
        ("isv.BUSINESS_LIMIT_CONTROL", "number_limit"),
        ("isv.DAY_LIMIT_CONTROL", "rate_limited"),
        ("Throttling.User", "rate_limited"),
        ("isv.OUT_OF_SERVICE", "out_of_service"),
        ("isv.AMOUNT_NOT_ENOUGH", "out_of_service"),
        ("isv.SMS_TEMPLATE_ILLEGAL", "refused"),
    ] {
        let (url, _requests) = serve(move |seen| peer::aliyun(seen, code));
        let aliyun = aliyun(&url, "testSecret");
        assert_eq!(name(aliyun.send(&Letter::example(), WALL, LONG)), expected, "{code}");
    }
    let (url, _requests) = serve(|seen| peer::aliyun(seen, "OK"));
    let sent = aliyun(&url, "anotherSecret").send(&Letter::example(), WALL, LONG);
    assert!(matches!(&sent, Err(SendError::Refused(code)) if code == "SignatureDoesNotMatch"));
    let late = WallTime(WALL.0 + 16 * 60 * 1000);
    let sent = aliyun(&url, "testSecret").send(&Letter::example(), late, LONG);
    assert!(matches!(sent, Err(SendError::ClockSkew)), "{sent:?}");
}

#[test]
fn tencent_cloud_accepts_what_we_sign() {
    let (url, requests) = serve(|seen| peer::tencent(seen, "Ok"));
    tencent(&url, "testSecret").send(&Letter::example(), WALL, LONG).unwrap();
    let asked = requests.recv().unwrap();
    assert_eq!(asked.target, "POST /");
    assert_eq!(asked.headers["x-tc-action"], "SendSms");
    assert_eq!(asked.headers["x-tc-version"], "2021-01-11");
    assert_eq!(asked.headers["x-tc-region"], "ap-guangzhou");
    assert_eq!(
        serde_json::from_str::<Value>(&asked.body).unwrap(),
        json!({
            "PhoneNumberSet": ["+8613800138000"],
            "SmsSdkAppId": "1400006666",
            "TemplateId": "1110",
            "SignName": "玉石 & 商场",
            "TemplateParamSet": ["482913", "5"],
        })
    );
}

#[test]
fn tencent_clouds_refusals_are_understood() {
    for (code, expected) in [
        ("Ok", "taken"),
        ("InvalidParameterValue.IncorrectPhoneNumber", "bad_number"),
        ("LimitExceeded.DeliveryFrequencyLimit", "number_limit"),
        ("LimitExceeded.PhoneNumberDailyLimit", "number_limit"),
        ("LimitExceeded.AppDailyLimit", "rate_limited"),
        ("RequestLimitExceeded", "rate_limited"),
        ("FailedOperation.InsufficientBalanceInSmsPackage", "out_of_service"),
        ("UnauthorizedOperation.ServiceSuspendDueToArrears", "out_of_service"),
        ("FailedOperation.TemplateIncorrectOrUnapproved", "refused"),
    ] {
        let (url, _requests) = serve(move |seen| peer::tencent(seen, code));
        let tencent = tencent(&url, "testSecret");
        assert_eq!(name(tencent.send(&Letter::example(), WALL, LONG)), expected, "{code}");
    }
    let (url, _requests) = serve(|seen| peer::tencent(seen, "Ok"));
    let sent = tencent(&url, "anotherSecret").send(&Letter::example(), WALL, LONG);
    assert!(
        matches!(&sent, Err(SendError::Refused(code)) if code == "AuthFailure.SignatureFailure")
    );
    let early = WallTime(WALL.0 - 6 * 60 * 1000);
    let sent = tencent(&url, "testSecret").send(&Letter::example(), early, LONG);
    assert!(matches!(sent, Err(SendError::ClockSkew)), "{sent:?}");
}

#[test]
fn twilio_gets_a_form() {
    let created = |_: &Seen| response(201, "", &json!({"sid": "SM1", "status": "queued"}));
    for (from, key) in [("+15005550006", "From"), ("MG9752274e9e519418", "MessagingServiceSid")] {
        let (url, requests) = serve(created);
        twilio(&url, from).send(&Letter::example(), LONG).unwrap();
        let asked = requests.recv().unwrap();
        assert_eq!(asked.target, "POST /2010-04-01/Accounts/AC123/Messages.json");
        // "AC123:token"
        assert_eq!(asked.headers["authorization"], "Basic QUMxMjM6dG9rZW4=");
        assert_eq!(asked.headers["content-type"], "application/x-www-form-urlencoded");
        let form = values(&asked.body);
        assert_eq!(form["To"], "+8613800138000");
        assert_eq!(form[key], from);
        assert_eq!(form["Body"], Letter::example().text);
        assert_eq!(form.len(), 3);
    }
}

#[test]
fn twilios_refusals_are_understood() {
    for (status, body, expected) in [
        (201, json!({"sid": "SM1"}), "taken"),
        (400, json!({"code": 21_211, "message": "+8613800138000"}), "bad_number"),
        (400, json!({"code": 21_614}), "bad_number"),
        (429, json!({"code": 20_429}), "rate_limited"),
        (429, Value::Null, "rate_limited"),
        (403, json!({"code": 20_005}), "out_of_service"),
        (401, json!({"code": 20_003}), "refused"),
        (404, Value::Null, "refused"),
        (502, Value::Null, "unanswered"),
    ] {
        let answer = response(status, "Retry-After: 7\r\n", &body);
        let (url, _requests) = serve(move |_| answer.clone());
        let sent = twilio(&url, "Shop").send(&Letter::example(), LONG);
        if let Err(SendError::RateLimited { retry_after }) = &sent {
            assert_eq!(*retry_after, Some(Duration::from_secs(7)));
        }
        assert_eq!(name(sent), expected, "{status} {body}");
    }
}

#[test]
fn an_answer_that_makes_no_sense_may_hide_a_message_taken() {
    for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\noops", "SSH-2.0-what\r\n"] {
        let (url, _requests) = serve(move |_| answer.to_owned());
        let sent = aliyun(&url, "testSecret").send(&Letter::example(), WALL, LONG);
        assert!(matches!(sent, Err(SendError::Unanswered(_))), "{answer:?}: {sent:?}");
        let sent = tencent(&url, "testSecret").send(&Letter::example(), WALL, LONG);
        assert!(matches!(sent, Err(SendError::Unanswered(_))), "{answer:?}: {sent:?}");
    }
}

#[test]
fn an_endless_answer_is_not_read_to_its_end() {
    let (url, _requests) = serve(|_| {
        format!("HTTP/1.1 200 OK\r\ncontent-length: 900000\r\n\r\n\"{}\"", "x".repeat(899_998))
    });
    let sent = twilio(&url, "Shop").send(&Letter::example(), LONG);
    assert!(matches!(sent, Err(SendError::Unanswered(_))), "{sent:?}");
}
