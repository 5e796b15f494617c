use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, mpsc};
use std::thread;

use serde_json::json;

use super::*;
use crate::adapters::sms::peer::{response, serve};

const TEMPLATE: &str =
    r#"{"to": "{phone}", "params": ["{code}", 1], "text": "{text} @ {store}, {minutes}"}"#;
const LONG: Duration = Duration::from_secs(20);

fn webhook(url: &str, timeout: Duration) -> Webhook {
    Webhook::new(url, TEMPLATE, Some("Bearer abc".into()), timeout).unwrap()
}

#[test]
fn a_message_is_posted_as_the_template_says() {
    let (url, requests) = serve(|_| response(204, "", &json!(null)));
    webhook(&format!("{url}/send?key=1"), LONG).send(&Letter::example(), LONG).unwrap();
    let asked = requests.recv().unwrap();
    assert_eq!(asked.target, "POST /send?key=1");
    assert_eq!(asked.headers["authorization"], "Bearer abc");
    assert_eq!(asked.headers["content-type"], "application/json");
    assert_eq!(
        serde_json::from_str::<Value>(&asked.body).unwrap(),
        json!({
            "to": "+8613800138000",
            "params": ["482913", 1],
            "text": "[玉石 & \"商场\"] 验证码 482913 @ Bob's\", \"to\": \"{code}, 5",
        })
    );
}

#[test]
fn a_value_is_not_expanded_again() {
    let letter = Letter::example();
    assert_eq!(letter.fill("{{code}} {nothing} {"), "{482913} {nothing} {");
    assert_eq!(letter.fill("{store}"), letter.store);
}

#[test]
fn statuses_are_understood() {
    for (status, expected) in [
        (402, "out_of_service"),
        (429, "rate_limited"),
        (400, "refused"),
        // Not followed: it would carry the number and the credentials elsewhere.
        (307, "refused"),
        (500, "refused"),
    ] {
        let answer = response(status, "location: /elsewhere\r\n", &json!(null));
        let (url, requests) = serve(move |_| answer.clone());
        let sent = webhook(&url, LONG).send(&Letter::example(), LONG);
        assert_eq!(sent.unwrap_err().name(), expected, "{status}");
        assert_eq!(requests.try_iter().count(), 1);
    }
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
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let (sender, requests) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let server = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut tls = rustls::StreamOwned::new(server, stream.unwrap());
            let mut buffer = [0; 4096];
            let read = tls.read(&mut buffer).is_ok();
            let _ = tls.write_all(response(200, "", &json!(null)).as_bytes());
            let _ = sender.send(read);
        }
    });
    let mut webhook = webhook(&url, LONG);
    let sent = webhook.send(&Letter::example(), LONG);
    assert!(matches!(sent, Err(SendError::Refused(_))), "{sent:?}");
    assert_eq!(requests.recv(), Ok(false), "nothing was told to a stranger");
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, own.cert.pem()).unwrap();
    webhook.http.ca_file = Some(ca_file);
    webhook.send(&Letter::example(), LONG).unwrap();
    assert_eq!(requests.recv(), Ok(true));
}
