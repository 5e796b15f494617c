use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::json;

use super::*;

const TEMPLATE: &str = r#"{"to": "{phone}", "params": ["{code}", 1], "text": "{text} @ {store}"}"#;
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const BUSY: &str =
    "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const BROKEN: &str =
    "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const BAD: &str = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

fn letter() -> Letter {
    Letter {
        to: "+8613800138000".into(),
        code: "123456".into(),
        text: "验证码 123456".into(),
        store: r#"Bob's", "to": "{code}"#.into(),
    }
}

/// Answers the connections one after another, and hands out what was asked of it.
fn provider(answers: &'static [&str]) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/send", listener.local_addr().unwrap());
    let (sender, requests) = mpsc::channel();
    thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            sender.send(read_request(&mut stream)).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    (url, requests)
}

fn read_request(stream: &mut TcpStream) -> String {
    let mut request = String::new();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).unwrap();
        request += std::str::from_utf8(&buffer[..count]).unwrap();
        if let Some((head, body)) = request.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("content-length").then(|| value.parse().unwrap())
            });
            if body.len() >= length.unwrap_or(0) {
                return request;
            }
        }
        assert!(count > 0, "cut off: {request}");
    }
}

fn webhook(url: &str, timeout: Duration, retries: u8) -> Webhook {
    Webhook::new(url.into(), TEMPLATE, Some("Bearer abc".into()), timeout, retries).unwrap()
}

fn send(webhook: &Webhook, within: Duration) -> Result<(), SendError> {
    webhook.send(&letter(), clock::boot() + within, &AtomicBool::new(false))
}

const LONG: Duration = Duration::from_secs(20);

#[test]
fn a_message_is_posted_as_the_template_says() {
    let (url, requests) = provider(&[OK]);
    send(&webhook(&url, LONG, 0), LONG).unwrap();
    let request = requests.recv().unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /send HTTP/1.1"), "{head}");
    assert!(head.contains("authorization: Bearer abc"), "{head}");
    assert!(head.contains("content-type: application/json"), "{head}");
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["to"], "+8613800138000");
    assert_eq!(body["params"], json!(["123456", 1]));
}

#[test]
fn a_value_adds_no_structure_and_is_not_expanded_again() {
    let filled = fill(&serde_json::from_str(TEMPLATE).unwrap(), &letter());
    assert_eq!(filled["text"], r#"验证码 123456 @ Bob's", "to": "{code}"#);
    assert_eq!(filled["to"], "+8613800138000");
    assert_eq!(filled.as_object().unwrap().len(), 3);
    assert_eq!(fill_text("{{code}} {nothing} {", &letter()), "{123456} {nothing} {");
}

#[test]
fn failures_that_may_pass_are_tried_again() {
    for answers in [&[BROKEN, OK], &[BUSY, OK], &["", OK]] {
        let (url, requests) = provider(answers);
        send(&webhook(&url, LONG, 1), LONG).unwrap();
        assert_eq!(requests.recv().unwrap(), requests.recv().unwrap());
    }
}

#[test]
fn tries_are_counted() {
    let (url, requests) = provider(&[BROKEN, BUSY, OK]);
    let sent = send(&webhook(&url, LONG, 1), LONG);
    assert!(matches!(sent, Err(SendError::Status(429))), "{sent:?}");
    assert_eq!(requests.try_iter().count(), 2);
}

#[test]
fn a_refusal_is_final() {
    let (url, requests) = provider(&[BAD, OK]);
    let sent = send(&webhook(&url, LONG, 3), LONG);
    assert!(matches!(sent, Err(SendError::Status(400))), "{sent:?}");
    assert_eq!(requests.try_iter().count(), 1);
}

#[test]
fn a_redirect_is_not_followed() {
    let (url, requests) = provider(&[
        "HTTP/1.1 307 Temporary Redirect\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\
         connection: close\r\n\r\n",
        OK,
    ]);
    let sent = send(&webhook(&url, LONG, 3), LONG);
    assert!(matches!(sent, Err(SendError::Status(307))), "{sent:?}");
    assert_eq!(requests.try_iter().count(), 1);
}

#[test]
fn a_silent_provider_costs_one_timeout_and_no_second_message() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let before = clock::boot();
    let sent = send(&webhook(&url, Duration::from_millis(300), 3), LONG);
    assert!(
        matches!(&sent, Err(SendError::Http(error)) if matches!(**error, ureq::Error::Timeout(_)))
    );
    assert!(clock::boot() - before < Duration::from_secs(5));
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_ok() && listener.accept().is_err(), "one connection");
}

#[test]
fn nothing_is_tried_past_the_deadline() {
    // Nobody listens here: the port was just given back.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let webhook = webhook(&format!("http://127.0.0.1:{port}"), LONG, 5);
    let before = clock::boot();
    let refused = send(&webhook, Duration::from_secs(1));
    assert!(matches!(refused, Err(SendError::Http(_))), "{refused:?}");
    assert!(clock::boot() - before < Duration::from_secs(2));
    assert!(matches!(send(&webhook, Duration::ZERO), Err(SendError::Late)));
}

#[test]
fn an_unknown_certificate_is_refused() {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
    let (sender, requests) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let server = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut tls = rustls::StreamOwned::new(server, stream.unwrap());
            let mut buffer = [0; 4096];
            let read = tls.read(&mut buffer).is_ok();
            let _ = tls.write_all(OK.as_bytes());
            let _ = sender.send(read);
        }
    });
    let mut webhook = webhook(&url, LONG, 2);
    assert!(matches!(send(&webhook, LONG), Err(SendError::Http(_))));
    assert_eq!(requests.recv(), Ok(false), "nothing was told to a stranger");
    assert!(requests.try_recv().is_err(), "nor tried again");
    webhook.agent = agent(&[Certificate::from_der(own.cert.der()).to_owned()]);
    send(&webhook, LONG).unwrap();
    assert_eq!(requests.recv(), Ok(true));
}
