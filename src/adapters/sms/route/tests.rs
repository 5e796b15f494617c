use std::net::TcpListener;
use std::sync::mpsc;

use serde_json::{Value, json};

use super::*;
use crate::adapters::sms::peer::{Seen, response, serve};
use crate::clock::Trust;
use crate::config::Config;

const LONG: Duration = Duration::from_secs(60);

fn route(list: &str) -> Route {
    let text = format!(
        "[store]\nid = \"s\"\nname = \"Corner\"\ntime_zone = \"UTC\"\n\
         [[zone]]\nname = \"guest\"\ninterface = \"br0\"\n{list}"
    );
    Route::new(&Config::parse(&text, "test").unwrap().sms, Clock::new(Trust::Always)).unwrap()
}

fn webhook(url: &str, retries: u8) -> String {
    format!(
        "[[sms]]\nprovider = \"webhook\"\nurl = {url:?}\nbody = '[\"{{phone}}{{code}}\"]'\n\
         timeout = \"500ms\"\nretries = {retries}\n"
    )
}

fn twilio(url: &str) -> String {
    format!(
        "[[sms]]\nprovider = \"twilio\"\naccount_sid = \"AC1\"\nauth_token = \"t\"\n\
         from = \"Shop\"\nendpoint = {url:?}\n"
    )
}

fn aliyun(url: &str) -> String {
    format!(
        "[[sms]]\nprovider = \"aliyun\"\naccess_key_id = \"testId\"\naccess_key_secret = \"t\"\n\
         sign_name = \"s\"\ntemplate_code = \"SMS_1\"\nendpoint = {url:?}\n"
    )
}

/// Answers with these statuses, one a request, the last for good; 0 hangs up.
fn statuses(statuses: &'static [u16]) -> (String, mpsc::Receiver<Seen>) {
    let mut left = statuses.iter();
    let last = *statuses.last().unwrap();
    serve(move |_| match *left.next().unwrap_or(&last) {
        0 => String::new(),
        status => response(status, "", &Value::Null),
    })
}

fn send(route: &Route, within: Duration) -> Result<(), SendError> {
    route.send(&Letter::example(), clock::boot() + within, &AtomicBool::new(false))
}

/// Nobody listens here: the port was just given back.
fn nowhere() -> String {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    format!("http://127.0.0.1:{port}")
}

#[test]
fn failures_that_may_pass_are_tried_again() {
    for answers in [&[500, 200], &[429, 200]] {
        let (url, requests) = statuses(answers);
        send(&route(&webhook(&url, 1)), LONG).unwrap();
        assert_eq!(requests.recv().unwrap(), requests.recv().unwrap());
    }
}

#[test]
fn tries_are_counted() {
    let (url, requests) = statuses(&[500, 429, 200]);
    let sent = send(&route(&webhook(&url, 1)), LONG);
    assert!(matches!(sent, Err(SendError::RateLimited { .. })), "{sent:?}");
    assert_eq!(requests.try_iter().count(), 2);
}

#[test]
fn a_refusal_is_final() {
    let (url, requests) = statuses(&[400, 200]);
    let sent = send(&route(&webhook(&url, 3)), LONG);
    assert!(matches!(sent, Err(SendError::Status(400))), "{sent:?}");
    assert_eq!(requests.try_iter().count(), 1);
}

#[test]
fn who_may_have_taken_a_message_is_not_asked_again() {
    let (url, requests) = statuses(&[0, 200]);
    let sent = send(&route(&webhook(&url, 3)), LONG);
    assert!(matches!(sent, Err(SendError::Unanswered(_))), "{sent:?}");
    assert_eq!(requests.try_iter().count(), 1);

    // A silent one costs one time-out and no second message; the next provider is asked.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_url = format!("http://{}", silent.local_addr().unwrap());
    let (url, requests) = statuses(&[200]);
    let before = clock::boot();
    let route = route(&(webhook(&silent_url, 3) + &webhook(&url, 3)));
    send(&route, LONG).unwrap();
    assert!(clock::boot() - before < Duration::from_secs(5));
    silent.set_nonblocking(true).unwrap();
    assert!(silent.accept().is_ok() && silent.accept().is_err(), "one connection");
    assert_eq!(requests.try_iter().count(), 1);
    let tallies = route.tallies();
    assert_eq!(tallies[0].failed, BTreeMap::from([("unanswered", 1)]));
    assert_eq!((tallies[1].taken, tallies[1].failed.len()), (1, 0));
    assert!(tallies[1].slowest < Duration::from_millis(500));
}

#[test]
fn the_next_is_asked_unless_the_number_is_at_fault() {
    let said = |status, code: u32| {
        let answer = response(status, "", &json!({"code": code}));
        serve(move |_| answer.clone())
    };
    for (status, code, name) in
        [(403, 20_005, "out_of_service"), (401, 20_003, "refused"), (429, 20_429, "rate_limited")]
    {
        let ((first, _asked), (second, requests)) = (said(status, code), statuses(&[200]));
        let route = route(&(twilio(&first) + &webhook(&second, 0)));
        send(&route, LONG).unwrap();
        assert_eq!(requests.try_iter().count(), 1, "{name}");
        assert_eq!(route.tallies()[0].failed.keys().collect::<Vec<_>>(), [&name]);
    }
    let ((first, _asked), (second, requests)) = (said(400, 21_211), statuses(&[200]));
    let sent = send(&route(&(twilio(&first) + &webhook(&second, 0))), LONG);
    assert!(matches!(sent, Err(SendError::BadNumber)), "{sent:?}");
    assert_eq!(requests.try_iter().count(), 0);

    let busy = json!({"Code": "isv.BUSINESS_LIMIT_CONTROL"});
    let (first, _asked) = serve(move |_| response(200, "", &busy));
    let sent = send(&route(&(aliyun(&first) + &webhook(&second, 0))), LONG);
    assert!(matches!(sent, Err(SendError::NumberLimit)), "{sent:?}");
    assert_eq!(requests.try_iter().count(), 0);

    send(&route(&(webhook(&nowhere(), 0) + &webhook(&second, 0))), LONG).unwrap();
}

#[test]
fn the_last_refusal_counts_if_nobody_takes_it() {
    let ((first, _one), (second, _two)) = (statuses(&[402]), statuses(&[400]));
    let sent = send(&route(&(webhook(&first, 0) + &webhook(&second, 0))), LONG);
    assert!(matches!(sent, Err(SendError::Status(400))), "{sent:?}");
}

#[test]
fn a_provider_is_left_alone_as_long_as_it_asks() {
    let mut busy = 1;
    let (url, requests) = serve(move |_| {
        busy -= 1;
        if busy < 0 {
            response(201, "", &Value::Null)
        } else {
            response(429, "Retry-After: 1\r\n", &Value::Null)
        }
    });
    let before = clock::boot();
    send(&route(&twilio(&url)), LONG).unwrap();
    assert!(clock::boot() - before >= Duration::from_secs(1));
    assert_eq!(requests.try_iter().count(), 2);

    // Too long to wait for: the guest hears it, or the next provider is asked.
    let (url, requests) = serve(|_| response(429, "Retry-After: 60\r\n", &Value::Null));
    let before = clock::boot();
    assert!(send(&route(&twilio(&url)), LONG).is_err());
    assert!(clock::boot() - before < Duration::from_secs(1));
    assert_eq!(requests.try_iter().count(), 1);
}

#[test]
fn nothing_is_signed_by_a_clock_that_may_be_wrong() {
    let (url, requests) = statuses(&[200]);
    let tencent = format!(
        "[[sms]]\nprovider = \"tencent\"\nsecret_id = \"i\"\nsecret_key = \"k\"\n\
         sdk_app_id = \"1\"\nsign_name = \"s\"\ntemplate_id = \"1\"\nendpoint = {url:?}\n"
    );
    let route = route(&(aliyun(&url) + &tencent + &twilio(&url)));
    let sent: Vec<_> = route
        .providers
        .iter()
        .map(|provider| provider.sender.send(&Letter::example(), None, LONG))
        .collect();
    assert!(matches!(sent[..], [Err(SendError::Clock), Err(SendError::Clock), Ok(())]), "{sent:?}");
    assert_eq!(requests.try_iter().count(), 1);
}

#[test]
fn nothing_is_tried_past_the_deadline() {
    let route = route(&webhook(&nowhere(), 5));
    let before = clock::boot();
    let refused = send(&route, Duration::from_secs(1));
    assert!(matches!(refused, Err(SendError::Unreachable(_))), "{refused:?}");
    assert!(clock::boot() - before < Duration::from_secs(2));
    assert!(matches!(send(&route, Duration::ZERO), Err(SendError::Late)));
}

#[test]
fn a_stop_ends_the_tries() {
    let (url, requests) = statuses(&[500]);
    let stopping = AtomicBool::new(true);
    let sent = route(&webhook(&url, 5)).send(&Letter::example(), clock::boot() + LONG, &stopping);
    assert!(sent.is_err());
    assert_eq!(requests.try_iter().count(), 1);
}

#[test]
fn a_provider_that_fails_and_fails_is_asked_last_for_a_while() {
    let (ill, asked_ill) = statuses(&[400]);
    let (well, asked_well) = statuses(&[200]);
    let route = route(&(webhook(&ill, 0) + &webhook(&well, 0)));
    for _ in 0..5 {
        send(&route, LONG).unwrap();
    }
    assert_eq!(asked_ill.try_iter().count(), 3);
    assert_eq!(asked_well.try_iter().count(), 5);
    let resting: Vec<bool> = route.tallies().iter().map(|tally| tally.resting).collect();
    assert_eq!(resting, [true, false]);
}

#[test]
fn a_breaker_rests_longer_each_time_and_one_success_mends_it() {
    let mut breaker = Breaker::default();
    let minute = |minute: u64| BootTime(minute * 60_000);
    breaker.note(Some(&SendError::Late), minute(0));
    breaker.note(Some(&SendError::Late), minute(0));
    assert_eq!(breaker.until, minute(0));
    breaker.note(Some(&SendError::Late), minute(0));
    assert_eq!(breaker.until, BootTime(30_000));
    breaker.note(Some(&SendError::Late), minute(1));
    assert_eq!(breaker.until, minute(2));
    for _ in 0..40 {
        breaker.note(Some(&SendError::Late), minute(100));
    }
    assert_eq!(breaker.until, minute(110));
    breaker.note(None, minute(101));
    assert_eq!((breaker.failures, breaker.until), (0, BootTime(0)));
}
