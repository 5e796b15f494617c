//! Nonsense at every door: refused, counted, and nobody else notices.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use maitred::adapters::packet::PacketSocket;
use maitred::wire::evidence::FrameError;
use nix::net::if_::if_nametoindex;
use serde_json::Value;

use crate::frames::samples;
use crate::lab::{Dhcp, Guest, Lab, ROUTER_V4, Settings, WEB_V4, until};

/// Frames that a packet socket's filter lets up and that say nothing.
const FRAMES: [(&str, FrameError); 13] = [
    ("dhcp-cut", FrameError::Dhcp),
    ("dhcp-options-cut", FrameError::Dhcp),
    ("dhcp-long-hlen", FrameError::Dhcp),
    ("dhcp-no-cookie", FrameError::Dhcp),
    ("dhcp-empty-type", FrameError::Dhcp),
    ("dhcp-relayed", FrameError::Relayed),
    ("dhcp-impossible-address", FrameError::Address),
    ("arp-spoofed", FrameError::Spoofed),
    ("arp-long", FrameError::Headers),
    ("arp-reverse", FrameError::Arp),
    ("arp-multicast-sender", FrameError::Address),
    ("nd-wrong-sum", FrameError::Nd),
    ("nd-option-zero", FrameError::Nd),
];

/// What is not HTTP/1.
const REQUESTS: [&[u8]; 6] = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\0\0\0\0\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /\xff\xfe HTTP/1.1\r\nHost: \xff\r\n: \r\n\r\n",
    b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
    b"POST /phone HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde",
];

/// Bodies that are no phone form.
const FORMS: [&str; 5] = ["", "terms=yes", "phone=1&phone=2", "%%%=%%%", "\0\u{1}\u{2}"];

#[test]
fn nonsense_is_refused_and_counted_and_hurts_nobody() {
    let mut lab = Lab::new(3);
    let gateway = lab.maitred(&Settings::new());
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    lab.guests[0].log_in(&gateway);
    let before = gateway.json(&["stats"]);
    let stranger = &lab.guests[2];

    send_frames(stranger);
    until(Duration::from_secs(5), "the frames to be counted", || {
        let after = gateway.json(&["stats"]);
        FrameError::ALL
            .into_iter()
            .all(|kind| {
                let sent = FRAMES.iter().filter(|(_, of)| *of == kind).count() as u64;
                let path = format!("/capture/guest/refused/{}", kind.as_str());
                grown(&before, &after, &path) >= sent
            })
            .then_some(())
    });

    let requests = break_http(stranger);
    let forms = break_forms(stranger);
    let lines = break_control(&lab);

    let after = gateway.json(&["stats"]);
    assert_eq!(grown(&before, &after, "/intercept/malformed"), requests, "{after}");
    assert_eq!(grown(&before, &after, "/portal/malformed"), requests + forms, "{after}");
    assert_eq!(grown(&before, &after, "/control/malformed"), lines, "{after}");
    for nothing in ["/inbox/dropped", "/capture/guest/lost", "/sms/taken", "/store/lost"] {
        assert_eq!(grown(&before, &after, nothing), 0, "{nothing} in {after}");
    }
    assert_eq!(gateway.json(&["status"])["online"], 1);
    assert!(lab.guests[0].online(), "who was online still is");
    assert!(!lab.guests[2].online());
    lab.guests[1].log_in(&gateway);
    assert!(lab.guests[1].online());
    // Also the stranger, once they come to their senses.
    lab.guests[2].log_in(&gateway);
    assert!(lab.guests[2].online());
}

fn send_frames(guest: &Guest) {
    let samples = samples();
    guest.netns.within(|| {
        let (wire, eth0) = (PacketSocket::open().unwrap(), if_nametoindex("eth0").unwrap());
        for (name, _) in FRAMES {
            let frame = &samples.iter().find(|(given, _)| *given == name).unwrap().1;
            wire.send(eth0, frame).unwrap();
        }
    });
}

/// Says what is not HTTP to the intercept and to the portal; how often to each.
fn break_http(guest: &Guest) -> u64 {
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(20_000));
    let requests: Vec<&[u8]> = REQUESTS.iter().copied().chain([long.as_bytes()]).collect();
    for request in &requests {
        for (address, port) in [(WEB_V4, 80), (ROUTER_V4, 2050)] {
            let reply = talk(guest, address, port, request);
            // Who hangs up in the middle of a long request may lose the answer on the way.
            assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 4"), "{reply}");
        }
    }
    requests.len() as u64
}

/// Sends the portal what are no forms, and forms with nonsense in them; how many were none.
fn break_forms(guest: &Guest) -> u64 {
    let send = |path, form: &str| talk(guest, ROUTER_V4, 2050, post(path, form).as_bytes());
    let large = format!("phone={}", "1".repeat(5_000));
    let forms: Vec<&str> = FORMS.into_iter().chain([&*large]).collect();
    for form in &forms {
        let reply = send("/phone", form);
        assert!(reply.starts_with("HTTP/1.1 400 "), "{form:.20}: {reply}");
        assert!(reply.contains("<html"), "a page, not a bare error: {reply}");
    }
    for phone in ["", "none", "0", "%2B86", "1234567890123456789", "%F0%9F%98%80"] {
        let reply = send("/phone", &format!("phone={phone}&terms=yes"));
        assert!(reply.starts_with("HTTP/1.1 200 ") && reply.contains("/phone"), "{reply}");
    }
    for code in ["", "none", "999999999999"] {
        let reply = send("/code", &format!("code={code}"));
        assert!(
            reply.starts_with("HTTP/1.1 200 ") || reply.starts_with("HTTP/1.1 303 "),
            "{reply}"
        );
    }
    forms.len() as u64
}

/// Says nonsense to the control socket; how often.
fn break_control(lab: &Lab) -> u64 {
    let lines = [&b"\n"[..], b"hello\n", b"\xff\xfe\n", b"{}", b"{\"version\":9,\"ask\":{}}\n"];
    for line in lines {
        let mut stream = UnixStream::connect(lab.folder().join("run/control.sock")).unwrap();
        stream.write_all(line).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("{\"error\":"), "{answer}");
    }
    lines.len() as u64
}

/// Says something to a port and reads until the other side hangs up.
fn talk(guest: &Guest, address: &str, port: u16, words: &[u8]) -> String {
    let mut stream = guest.connect(address, port).0.unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
    // The daemon may hang up while we still talk.
    let _ = stream.write_all(words);
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply);
    String::from_utf8_lossy(&reply).into_owned()
}

fn post(path: &str, form: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: {ROUTER_V4}:2050\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    )
}

fn grown(before: &Value, after: &Value, path: &str) -> u64 {
    let count = |stats: &Value| {
        let count = stats.pointer(path).and_then(Value::as_u64);
        count.unwrap_or_else(|| panic!("no {path} in {stats:#}"))
    };
    count(after) - count(before)
}
