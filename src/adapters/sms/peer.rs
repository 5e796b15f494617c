//! The other side, for tests: HTTP servers that check signatures from what came over the wire,
//! with arithmetic of their own, and answer as the providers do.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;

use ring::{digest, hmac};
use serde_json::{Value, json};

/// The time at all providers: 2026-11-22T02:27:29Z.
pub(super) const NOW: i64 = 1_795_314_449;

/// A request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// `POST /path?query`.
    pub(super) target: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: String,
}

/// Answers each connection's one request, and hands out what was asked. An empty answer hangs up.
pub(super) fn serve(
    mut answer: impl FnMut(&Seen) -> String + Send + 'static,
) -> (String, mpsc::Receiver<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, requests) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let seen = read(&mut stream);
            let answer = answer(&seen);
            // Told before it is answered, so that whoever has the answer finds it here.
            let _ = sender.send(seen);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (url, requests)
}

/// Reads one request from a connection.
pub(super) fn read(stream: &mut impl Read) -> Seen {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "cut off: {text}");
        text += std::str::from_utf8(&buffer[..count]).unwrap();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let (line, headers) = head.split_once("\r\n").unwrap();
        let headers: BTreeMap<String, String> = headers
            .lines()
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        if body.len() >= length {
            let target = line.strip_suffix(" HTTP/1.1").unwrap().to_owned();
            return Seen { target, body: body.to_owned(), headers };
        }
    }
}

pub(super) fn response(status: u16, headers: &str, body: &Value) -> String {
    let body = body.to_string();
    let length = body.len();
    format!(
        "HTTP/1.1 {status} x\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

/// What Alibaba Cloud says to a request of `testId`, if it would say `code` to a good one.
pub(super) fn aliyun(seen: &Seen, code: &str) -> String {
    let query = seen.target.strip_prefix("POST /?").unwrap();
    let (scheme, parts) = seen.headers["authorization"].split_once(' ').unwrap();
    let part = |name: &str| {
        parts.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('=')).unwrap()
    };
    let signed = part("SignedHeaders");
    for needed in ["host", "x-acs-action", "x-acs-date", "x-acs-signature-nonce", "x-acs-version"] {
        assert!(signed.split(';').any(|name| name == needed), "{needed} is not signed: {signed}");
    }
    let sum = sha256(&seen.body);
    let canonical =
        format!("POST\n/\n{}\n{}\n{signed}\n{sum}", resorted(query), lines(seen, signed));
    let text = format!("{scheme}\n{}", sha256(&canonical));
    let date: jiff::Timestamp = seen.headers["x-acs-date"].parse().unwrap();
    let code = if seen.headers["x-acs-content-sha256"] != sum
        || part("Signature") != hex(&mac(b"testSecret", &text))
        || (scheme, part("Credential")) != ("ACS3-HMAC-SHA256", "testId")
    {
        "SignatureDoesNotMatch"
    } else if (date.as_second() - NOW).abs() > 15 * 60 {
        "InvalidTimeStamp.Expired"
    } else {
        code
    };
    let status = if code.starts_with("is") || code == "OK" { 200 } else { 400 };
    response(status, "", &json!({"Code": code, "Message": "13800138000", "RequestId": "1"}))
}

/// What Tencent Cloud says to a request of `testId`, if it would say `code` to a good one.
pub(super) fn tencent(seen: &Seen, code: &str) -> String {
    let (scheme, parts) = seen.headers["authorization"].split_once(' ').unwrap();
    let part = |name: &str| {
        parts.split(", ").find_map(|part| part.strip_prefix(name)?.strip_prefix('=')).unwrap()
    };
    let signed = part("SignedHeaders");
    assert!(signed.starts_with("content-type;host"), "{signed}");
    let sum = sha256(&seen.body);
    // Tencent signs values in lower case.
    let lines = lines(seen, signed).to_ascii_lowercase();
    let canonical = format!("POST\n/\n\n{lines}\n{signed}\n{sum}");
    let time = &seen.headers["x-tc-timestamp"];
    let at: i64 = time.parse().unwrap();
    let date = jiff::Timestamp::from_second(at).unwrap().to_string()[..10].to_owned();
    let scope = format!("{date}/sms/tc3_request");
    let text = format!("{scheme}\n{time}\n{scope}\n{}", sha256(&canonical));
    let key = mac(&mac(&mac(b"TC3testSecret", &date), "sms"), "tc3_request");
    let whole = if part("Signature") != hex(&mac(&key, &text))
        || (scheme, part("Credential")) != ("TC3-HMAC-SHA256", &format!("testId/{scope}"))
    {
        Some("AuthFailure.SignatureFailure")
    } else if (at - NOW).abs() > 5 * 60 {
        Some("AuthFailure.SignatureExpire")
    } else {
        (code.starts_with("Request") || code.starts_with("Unauth")).then_some(code)
    };
    let said = match whole {
        Some(code) => json!({"Error": {"Code": code, "Message": "13800138000"}}),
        None => json!({"SendStatusSet": [{"Code": code, "PhoneNumber": "+8613800138000"}]}),
    };
    response(200, "", &json!({"Response": said}))
}

/// A form's or a query's values.
pub(super) fn values(pairs: &str) -> BTreeMap<String, String> {
    let pairs = pairs.split('&').map(|pair| pair.split_once('=').unwrap());
    pairs.map(|(name, value)| (decoded(name), decoded(value))).collect()
}

fn decoded(text: &str) -> String {
    assert!(!text.contains('+'), "a space is not a plus: {text}");
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).unwrap()
}

fn resorted(query: &str) -> String {
    let encoded = |text: &str| -> String {
        let byte = |byte: u8| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        };
        text.bytes().map(byte).collect()
    };
    let pairs = values(query);
    let pairs = pairs.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
    pairs.collect::<Vec<_>>().join("&")
}

fn lines(seen: &Seen, signed: &str) -> String {
    let line = |name| [name, ":", seen.headers[name].trim(), "\n"];
    signed.split(';').flat_map(line).collect()
}

fn sha256(text: &str) -> String {
    hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
