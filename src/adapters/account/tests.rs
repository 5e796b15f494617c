//! The gateway's end, against a backend that answers as it is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;

use serde_json::{Value, json};

use super::*;
use crate::adapters::inbox::Envelope;
use crate::adapters::store::tests::Plan;
use crate::domain::effect::{Answer, Report};
use crate::domain::event::{Command, Event};
use crate::domain::names::{GuestKey, Mac};

/// What the backend was asked: head and body.
type Asked = Arc<Mutex<Vec<(String, Value)>>>;

/// A backend that gives these answers, one a connection, then hangs up on everybody.
fn backend(answers: Vec<(u16, Value)>) -> (String, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Asked::default();
    let noted = Arc::clone(&asked);
    std::thread::spawn(move || {
        let mut answers = answers.into_iter();
        for stream in listener.incoming().flatten() {
            let Some((status, answer)) = answers.next() else { continue };
            let mut reader = BufReader::new(&stream);
            let lines: Vec<String> = reader
                .by_ref()
                .lines()
                .map_while(Result::ok)
                .take_while(|line| !line.is_empty())
                .collect();
            let head = lines.join("\n").to_lowercase();
            let length = head.split("content-length: ").nth(1).unwrap();
            let mut body = vec![0; length.lines().next().unwrap().parse().unwrap()];
            reader.read_exact(&mut body).unwrap();
            noted.lock().unwrap().push((head, serde_json::from_slice(&body).unwrap()));
            let answer = answer.to_string();
            let text = format!(
                "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}",
                answer.len()
            );
            let _ = (&stream).write_all(text.as_bytes());
        }
    });
    (url, asked)
}

fn card(last: u8) -> Card {
    Card::new("s1", "guest", Mac([2, 0, 0, 0, 0, last]))
}

/// An account whose loop says yes to everything, and what the loop was told.
fn account(url: String, folder: &tempfile::TempDir) -> (Account, Arc<Mutex<Vec<GuestKey>>>) {
    let (inbox, mut outlet) = Inbox::new();
    let erased = Arc::<Mutex<Vec<GuestKey>>>::default();
    let told = Arc::clone(&erased);
    std::thread::spawn(move || {
        while let Some(Envelope { event, reply }) = outlet.blocking_recv() {
            let Event::Control { command: Command::Erase { guest }, .. } = event else {
                panic!("{event:?}")
            };
            told.lock().unwrap().push(guest);
            reply.unwrap().1.send(Answer::Control(Report::Done)).unwrap();
        }
    });
    let settings =
        Settings { store_id: "s1".into(), url, token: Secret::from("t0ken"), ca_file: None };
    let bench = Plan::new(folder.path()).open();
    (Account::start(settings, bench.store.clone(), inbox).unwrap(), erased)
}

#[tokio::test]
async fn a_ticket_is_asked_for_once() {
    let folder = tempfile::tempdir().unwrap();
    let (url, asked) = backend(vec![(200, json!({ "url": "http://q/1", "seconds": 1800 }))]);
    let (account, _) = account(url, &folder);
    assert!(account.has_tickets());
    assert_eq!(account.ticket(card(1)).await.as_deref(), Some("http://q/1"));
    assert_eq!(account.ticket(card(1)).await.as_deref(), Some("http://q/1"));
    let asked = asked.lock().unwrap();
    let [(head, body)] = &asked[..] else { panic!("{asked:?}") };
    assert!(head.starts_with("post /ticket "), "{head}");
    assert!(head.contains("maitred-store: s1") && head.contains("authorization: bearer t0ken"));
    assert_eq!(*body, json!({ "card": card(1).code() }));
}

#[tokio::test]
async fn a_backend_that_fails_is_left_alone_for_a_while() {
    let folder = tempfile::tempdir().unwrap();
    let (url, asked) = backend(vec![(502, json!(null))]);
    let (account, _) = account(url, &folder);
    assert_eq!(account.ticket(card(1)).await, None);
    assert!(!account.has_tickets());
    assert_eq!(account.ticket(card(2)).await, None);
    assert_eq!(asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn guests_are_forgotten_and_the_backend_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let guest = GuestKey([7; 16]);
    let list = json!({ "erasures": [{ "id": 3, "guest": guest.to_string() }] });
    let (url, asked) = backend(vec![(200, list), (200, json!({ "erasures": [] }))]);
    let (account, erased) = account(url, &folder);
    assert_eq!(account.forget().await.unwrap(), 1);
    assert_eq!(*erased.lock().unwrap(), [guest]);
    let bodies: Vec<Value> = asked.lock().unwrap().iter().map(|(_, body)| body.clone()).collect();
    assert_eq!(bodies, [json!({ "done": [] }), json!({ "done": [3] })]);
    let gone = account.forget().await;
    assert!(matches!(gone, Err(AccountError::Unreachable(_))), "{gone:?}");
}

#[test]
fn a_flood_of_devices_does_not_spend_the_accounts_tickets() {
    let start = BootTime(1_000_000);
    let mut state = State { tickets: HashMap::new(), asked: (0, start), rest: start };
    let allowed = (0..5000).filter(|_| state.may_ask(start)).count();
    assert_eq!(allowed, TICKETS);
    assert!(!state.may_ask(start + Duration::from_mins(59)));
    assert!(state.may_ask(start + HOUR));
    for number in 0..=u8::MAX {
        for zone in ["a", "b", "c"] {
            let card = Card::new("s1", zone, Mac([2, 0, 0, 0, 0, number]));
            state.keep(card, "http://q".into(), start + HOUR, start);
        }
    }
    assert_eq!(state.tickets.len(), TICKETS);
    let late = start + HOUR;
    state.keep(card(1), "http://new".into(), late + HOUR, late);
    assert_eq!(state.tickets.len(), 1, "what is too old to be shown makes room");
    assert_eq!(state.ticket(card(1), late).as_deref(), Some("http://new"));
    assert_eq!(state.ticket(card(1), late + HOUR), None);
}
