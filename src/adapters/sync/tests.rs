//! Against an HQ that is down, slow, wrong or forgetful.

mod names;

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use flate2::read::GzDecoder;

use super::*;
use crate::adapters::store::tests::{Bench, Plan, closed, opened};
use crate::clock::{Clock, Trust};
use crate::config::TimeOfDay;

/// How HQ answers one request.
#[derive(Clone, Copy)]
enum Reply {
    /// Stores the rows and says up to where it has them.
    Take,
    /// Stores the rows, and the line breaks before the answer.
    TakeAndBreak,
    /// Breaks without reading to the end.
    Break,
    /// Never answers.
    Sleep,
    Status(u16),
    Body(&'static str),
    /// An answer without an end.
    Flood,
    /// This watermark, whatever was sent.
    Watermark(i64),
}

/// One request as HQ saw it.
#[derive(Clone, Debug, PartialEq)]
struct Request {
    head: Vec<String>,
    body: Vec<u8>,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    fn seqs(&self) -> Vec<i64> {
        let mut text = String::new();
        GzDecoder::new(self.body.as_slice()).read_to_string(&mut text).unwrap();
        let seq = |line| serde_json::from_str::<serde_json::Value>(line).unwrap()["seq"].as_i64();
        text.lines().map(|line| seq(line).unwrap()).collect()
    }
}

/// A head office on loopback; follows its script, then takes everything.
struct Office {
    url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Office {
    fn open(script: impl Into<VecDeque<Reply>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self::at(listener, script)
    }

    fn at(listener: TcpListener, script: impl Into<VecDeque<Reply>>) -> Self {
        let url = format!("http://{}/record", listener.local_addr().unwrap());
        let requests = Arc::<Mutex<Vec<Request>>>::default();
        let (mut script, seen) = (script.into(), Arc::clone(&requests));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let reply = script.pop_front().unwrap_or(Reply::Take);
                serve(stream.unwrap(), reply, &seen);
            }
        });
        Self { url, requests }
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, reply: Reply, seen: &Mutex<Vec<Request>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        head.push(line.trim().to_owned());
    }
    if matches!(reply, Reply::Break) {
        return;
    }
    let mut request = Request { head, body: Vec::new() };
    let length: usize = request.header("content-length").unwrap().parse().unwrap();
    request.body.resize(length, 0);
    reader.read_exact(&mut request.body).unwrap();
    let last: i64 = request.header("maitred-last").unwrap().parse().unwrap();
    seen.lock().unwrap().push(request);
    let mut say = |status: u16, body: &str| {
        let head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: ");
        let _ = write!(stream, "{head}{}\r\n\r\n{body}", body.len());
    };
    match reply {
        Reply::Take => say(200, &format!("{{\"watermark\": {last}}}")),
        Reply::Watermark(number) => say(200, &format!("{{\"watermark\": {number}}}")),
        Reply::Status(status) => say(status, "{\"watermark\": 999999}"),
        Reply::Body(body) => say(200, body),
        Reply::Flood => say(200, &format!("{{\"watermark\": 1{}}}", " ".repeat(5000))),
        Reply::Sleep => std::thread::sleep(Duration::from_millis(3000)),
        Reply::TakeAndBreak | Reply::Break => {}
    }
}

fn settings(url: &str) -> Settings {
    Settings {
        store_id: "store-7".into(),
        url: url.into(),
        token: Some("s3cret".into()),
        batch: 4,
        ca_file: None,
        timeout: Duration::from_millis(1500),
        tries: 3,
        first_wait: Duration::from_millis(20),
        guests: None,
    }
}

/// A store with ten rows for HQ.
fn ten_rows(folder: &tempfile::TempDir) -> Bench {
    let bench = Plan::new(folder.path()).open();
    bench.put((1..=10).flat_map(|n| [opened(n, n, None, n), closed(n, 5, n + 5)]));
    bench
}

fn outbox(bench: &Bench) -> u64 {
    bench.store.reader().size().unwrap().outbox
}

fn sync(bench: &Bench, settings: &Settings) -> Result<Summary, SyncError> {
    run(&bench.store, settings, &mut |pause| {
        std::thread::sleep(pause);
        true
    })
}

#[test]
fn everything_arrives_once_and_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let bench = ten_rows(&folder);
    let hq = Office::open([]);
    let summary = sync(&bench, &settings(&hq.url)).unwrap();
    assert_eq!(summary, Summary { batches: 3, rows: 10, watermark: Some(10), bundle: None });
    let requests = hq.requests();
    let seqs: Vec<_> = requests.iter().flat_map(Request::seqs).collect();
    assert_eq!(seqs, (1..=10).collect::<Vec<_>>());
    let first = &requests[0];
    assert_eq!(first.head[0], "POST /record HTTP/1.1");
    for (name, value) in [
        ("authorization", "Bearer s3cret"),
        ("content-encoding", "gzip"),
        ("maitred-store", "store-7"),
        ("maitred-first", "1"),
        ("maitred-last", "4"),
    ] {
        assert_eq!(first.header(name), Some(value));
    }
    assert_eq!(outbox(&bench), 0);
    assert_eq!(sync(&bench, &settings(&hq.url)).unwrap(), Summary::default(), "nothing to do");
    // Numbers go on where they were, also after a restart with an empty outbox.
    bench.close();
    let bench = Plan::new(folder.path()).open();
    bench.put([opened(11, 1, None, 1), closed(11, 1, 2)]);
    sync(&bench, &settings(&hq.url)).unwrap();
    let last = hq.requests().pop().unwrap();
    assert_eq!(
        (last.seqs(), last.header("maitred-stream")),
        (vec![11], first.header("maitred-stream"))
    );
    bench.close();
}

#[test]
fn down_then_up_then_answering_twice_gets_the_same_batch() {
    let folder = tempfile::tempdir().unwrap();
    let bench = ten_rows(&folder);
    // A port that nobody listens on.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/record", listener.local_addr().unwrap());
    let address = listener.local_addr().unwrap();
    drop(listener);
    let refused = sync(&bench, &settings(&url));
    assert!(matches!(refused, Err(SyncError::Unreachable(_))), "{refused:?}");
    assert_eq!(outbox(&bench), 10);
    // More rows come, and the store restarts, before HQ is up; its answer to the first batch is
    // lost, so it gets that one twice.
    bench.put([opened(11, 1, None, 1), closed(11, 1, 2)]);
    bench.close();
    let bench = Plan::new(folder.path()).open();
    let hq = Office::at(TcpListener::bind(address).unwrap(), [Reply::TakeAndBreak]);
    let summary = sync(&bench, &settings(&hq.url)).unwrap();
    assert_eq!((summary.rows, summary.watermark), (11, Some(11)));
    let requests = hq.requests();
    assert_eq!(requests[0].seqs(), [1, 2, 3, 4], "as it was cut for the first run");
    assert_eq!(requests[0], requests[1], "byte for byte");
    assert_eq!(requests.len(), 4);
    bench.close();
}

#[test]
fn a_run_cut_in_the_middle_resumes_where_it_stood() {
    let folder = tempfile::tempdir().unwrap();
    let bench = ten_rows(&folder);
    let hq = Office::open([Reply::Take, Reply::Break, Reply::Break, Reply::Break]);
    assert!(matches!(sync(&bench, &settings(&hq.url)), Err(SyncError::Unreachable(_))));
    assert_eq!(outbox(&bench), 6);
    let summary = sync(&bench, &settings(&hq.url)).unwrap();
    assert_eq!(summary, Summary { batches: 2, rows: 6, watermark: Some(10), bundle: None });
    let seqs: Vec<_> = hq.requests().iter().flat_map(Request::seqs).collect();
    assert_eq!(seqs, (1..=10).collect::<Vec<_>>());
    bench.close();
}

#[test]
fn a_watermark_inside_the_batch_keeps_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let bench = ten_rows(&folder);
    let hq = Office::open([Reply::Watermark(2)]);
    assert_eq!(sync(&bench, &settings(&hq.url)).unwrap().rows, 10);
    assert_eq!(hq.requests()[1].seqs(), [3, 4]);
    bench.close();
}

#[test]
fn a_wrong_answer_deletes_nothing() {
    let answers = [
        Reply::Watermark(5),
        Reply::Watermark(0),
        Reply::Watermark(-1),
        Reply::Watermark(i64::MAX),
        Reply::Body(""),
        Reply::Body("thanks"),
        Reply::Body("{\"watermark\": \"4\"}"),
        Reply::Body("{\"watermark\": 4.5}"),
        Reply::Body("{\"watermark\": 1e30}"),
        Reply::Body("{\"watermark\": 4, \"guests\": {\"1\": \"2\"}}"),
        Reply::Flood,
    ];
    for (place, answer) in answers.into_iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let bench = ten_rows(&folder);
        let hq = Office::open([answer]);
        let refused = sync(&bench, &settings(&hq.url));
        assert!(
            matches!(refused, Err(SyncError::Watermark { first: 1, last: 4 })),
            "{place}: {refused:?}"
        );
        assert_eq!(hq.requests().len(), 1, "not asked again in this run");
        assert_eq!(outbox(&bench), 10);
        bench.close();
    }
}

#[test]
fn statuses_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let bench = ten_rows(&folder);
    for status in [201, 302, 400, 401, 403, 413] {
        let hq = Office::open([Reply::Status(status)]);
        let refused = sync(&bench, &settings(&hq.url));
        assert!(matches!(refused, Err(SyncError::Refused(s)) if s == status), "{refused:?}");
        assert_eq!(hq.requests().len(), 1, "{status} does not pass by itself");
    }
    let hq = Office::open([Reply::Status(503), Reply::Status(503), Reply::Status(503)]);
    assert!(matches!(sync(&bench, &settings(&hq.url)), Err(SyncError::Unable(503))));
    assert_eq!((hq.requests().len(), outbox(&bench)), (3, 10));
    let hq = Office::open([Reply::Status(503), Reply::Status(429)]);
    assert_eq!(sync(&bench, &settings(&hq.url)).unwrap().rows, 10, "passed");
    bench.close();
}

#[test]
fn a_silent_hq_times_out_and_a_stop_ends_the_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let bench = ten_rows(&folder);
    let hq = Office::open([Reply::Sleep]);
    let stopped = run(&bench.store, &settings(&hq.url), &mut |_| false);
    assert!(matches!(stopped, Err(SyncError::Stopped)), "{stopped:?}");
    assert_eq!(outbox(&bench), 10);
    bench.close();
}

#[test]
fn pauses_double_within_their_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let bench = ten_rows(&folder);
    let hq = Office::open([Reply::Status(500); 5]);
    let mut pauses = Vec::new();
    let settings = Settings { tries: 5, ..settings(&hq.url) };
    let failed = run(&bench.store, &settings, &mut |pause| {
        pauses.push(pause.as_millis());
        true
    });
    assert!(matches!(failed, Err(SyncError::Unable(500))));
    assert_eq!(pauses.len(), 4);
    for (pause, most) in pauses.iter().zip([20, 40, 80, 160]) {
        assert!((most / 2..=most).contains(pause), "{pauses:?}");
    }
    bench.close();
}

#[tokio::test]
async fn the_thread_runs_on_demand_and_remembers_it() {
    let folder = tempfile::tempdir().unwrap();
    let bench = ten_rows(&folder);
    let hq = Office::open([]);
    let schedule = Schedule {
        at: TimeOfDay { hour: 3, minute: 30 },
        jitter: Duration::from_hours(1),
        tz: jiff::tz::TimeZone::UTC,
    };
    let clock = Clock::new(Trust::Always);
    let nightly =
        Nightly::start(bench.store.clone(), settings(&hq.url), None, schedule, clock).unwrap();
    let before = clock.now().wall;
    assert_eq!(nightly.now().await.unwrap().rows, 10);
    let (one, two) = tokio::join!(nightly.now(), nightly.now());
    assert!(one.is_ok());
    assert!(matches!(two, Ok(_) | Err(SyncError::Stopped)));
    let last = bench.store.last_sync().unwrap();
    assert!(last >= before && last <= clock.now().wall);
    drop(nightly);
    bench.close();
}

#[test]
fn settings_print_no_token() {
    assert!(!format!("{:?}", settings("http://hq")).contains("s3cret"));
}
