use std::net::TcpListener;
use std::path::Path;

use tokio::sync::mpsc;

use super::*;
use crate::adapters::inbox::Envelope;
use crate::domain::effect::Code;
use crate::domain::names::{Mac, Phone};

const MAC: Mac = Mac([2, 0, 0x5e, 0x10, 0, 1]);

fn config(sms: &str) -> Config {
    let text = format!(
        "[store]\nid = \"s\"\nname = \"Corner\"\ntime_zone = \"UTC\"\n\
         [[zone]]\nname = \"guest\"\ninterface = \"br0\"\n[sms]\n{sms}"
    );
    Config::parse(&text, "test").unwrap()
}

fn spool(dir: &Path) -> Config {
    config(&format!("provider = \"spool\"\ndir = {:?}\n", dir.display().to_string()))
}

fn begin(config: &Config) -> (SmsHandle, mpsc::Receiver<Envelope>) {
    let (inbox, outlet) = Inbox::new();
    let text = |language: Language, store: &str, code: &str, minutes: u64| {
        format!("{language:?} {store} {code} {minutes}")
    };
    (start(config, &inbox, text).unwrap().unwrap(), outlet)
}

fn message(message: u32) -> Message {
    Message {
        mac: MAC,
        message,
        phone: Phone::parse("13800138000", "86").unwrap(),
        code: Code("123456".into()),
        language: Language::English,
    }
}

fn outcome_of(event: &Event) -> (u32, Result<(), Refusal>) {
    let Event::Sms { mac: MAC, message, sent } = event else { panic!("{event:?}") };
    (*message, *sent)
}

#[test]
fn a_taken_message_is_told_to_the_loop() {
    let dir = tempfile::tempdir().unwrap();
    let (handle, mut outlet) = begin(&spool(dir.path()));
    assert!(handle.send(message(7)).is_none());
    assert_eq!(outcome_of(&outlet.blocking_recv().unwrap().event), (7, Ok(())));
    let written = std::fs::read_to_string(dir.path().join("0000000001.json")).unwrap();
    assert!(written.contains(r#""text":"English Corner 123456 5""#), "{written}");
    assert_eq!(handle.counters().taken.load(Ordering::Relaxed), 1);
    assert!(handle.stop(Duration::from_secs(5)));
}

#[test]
fn a_failure_is_told_to_the_loop() {
    let dir = tempfile::tempdir().unwrap();
    let gone = dir.path().join("gone");
    let (handle, mut outlet) = begin(&spool(&gone));
    std::fs::remove_dir(&gone).unwrap();
    assert!(handle.send(message(8)).is_none());
    assert_eq!(outcome_of(&outlet.blocking_recv().unwrap().event), (8, Err(Refusal::NotSent)));
    assert_eq!(handle.counters().failed.load(Ordering::Relaxed), 1);
}

#[test]
fn what_is_queued_goes_out_before_the_stop() {
    let dir = tempfile::tempdir().unwrap();
    let (handle, mut outlet) = begin(&spool(dir.path()));
    for number in 0..20 {
        assert!(handle.send(message(number)).is_none());
    }
    assert!(handle.stop(Duration::from_secs(10)));
    for number in 0..20 {
        assert_eq!(outcome_of(&outlet.blocking_recv().unwrap().event), (number, Ok(())));
    }
    assert!(outlet.blocking_recv().is_none(), "the workers are gone");
}

#[test]
fn a_full_queue_refuses_at_once_and_a_stop_waits_no_longer_than_told() {
    // Accepts connections (the kernel does) and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let (handle, mut outlet) = begin(&config(&format!(
        "provider = \"webhook\"\nurl = \"http://{}\"\nbody = '[\"{{phone}}{{code}}\"]'\n\
         timeout = \"30s\"\n",
        silent.local_addr().unwrap()
    )));
    let sent = u32::try_from(QUEUE + WORKERS + 1).unwrap();
    let refused: Vec<_> = (0..sent).filter_map(|number| handle.send(message(number))).collect();
    assert!(!refused.is_empty());
    assert_eq!(handle.counters().refused.load(Ordering::Relaxed) as usize, refused.len());
    for event in refused {
        assert_eq!(outcome_of(&event).1, Err(Refusal::NotSent));
    }
    assert!(outlet.try_recv().is_err());
    let before = clock::boot();
    assert!(!handle.stop(Duration::from_millis(200)));
    assert!(clock::boot() - before < Duration::from_secs(5));
}

#[test]
fn without_sms_there_is_no_sender() {
    let text = "[store]\nid = \"s\"\nname = \"Corner\"\ntime_zone = \"UTC\"\n\
                [[zone]]\nname = \"guest\"\ninterface = \"br0\"\n";
    let (inbox, _outlet) = Inbox::new();
    let config = Config::parse(text, "test").unwrap();
    let none = start(&config, &inbox, |_: Language, _: &str, _: &str, _: u64| String::new());
    assert!(none.unwrap().is_none());
}
