use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};

use super::*;
use crate::adapters::inbox::Inbox;
use crate::domain::effect::{Answer, ClientRow, Report, Status};
use crate::domain::event::{Command, Event};
use crate::domain::names::ZoneId;

const MAC: Mac = Mac([2, 0, 0x5e, 0x10, 0, 1]);

/// A socket in a folder of its own, with a domain behind it that knows a few answers.
struct House {
    run_dir: PathBuf,
    _dir: TempDir,
    _lock: Lock,
    counters: Arc<Counters>,
    server: JoinHandle<()>,
    shutdown: oneshot::Sender<()>,
}

impl House {
    fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = dir.path().join("run");
        let lock = Lock::take(&run_dir).unwrap();
        let listener = bind(&lock).unwrap();
        let (inbox, mut outlet) = Inbox::new();
        tokio::spawn(async move {
            while let Some(envelope) = outlet.recv().await {
                let Event::Control { command, .. } = envelope.event else { panic!() };
                if let Some(report) = report(&command) {
                    let _ = envelope.reply.unwrap().1.send(Answer::Control(report));
                }
            }
        });
        let counters = Arc::new(Counters::default());
        let services = Services {
            zones: vec!["guest".into(), "cafe".into()],
            notes: Box::new(|| vec![("line", "up".into())]),
            stats: service(async || Ok(json!({"capture": {"dropped": 7}}))),
            sync: service(async || Err("HQ cannot be reached".into())),
            flush: service(async || Err("the disk is full".into())),
            change: Box::new(|change| Box::pin(async move { Ok(json!(format!("{change:?}"))) })),
            record: Box::new(|ask| Box::pin(async move { Ok(json!(format!("{ask:?}"))) })),
            counters: Arc::clone(&counters),
        };
        let (shutdown, down) = oneshot::channel::<()>();
        let server = tokio::spawn(serve(listener, inbox, services, async {
            let _ = down.await;
        }));
        Self { run_dir, _dir: dir, _lock: lock, counters, server, shutdown }
    }

    async fn ask(&self, question: Ask) -> Result<Value, AskError> {
        let dir = self.run_dir.clone();
        spawn_blocking(move || ask(&dir, question, Duration::from_secs(10))).await.unwrap()
    }

    async fn say(&self, bytes: &[u8]) -> String {
        let mut stream = UnixStream::connect(socket_path(&self.run_dir)).await.unwrap();
        // The server may answer and close before it has read everything.
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    fn malformed(&self) -> u32 {
        self.counters.malformed.load(Ordering::Relaxed)
    }
}

fn report(command: &Command) -> Option<Report> {
    Some(match command {
        Command::Status => Report::Status(Status { online: 3, ..Status::default() }),
        Command::Clients => Report::Clients(vec![ClientRow {
            mac: MAC,
            zone: "guest".into(),
            addresses: vec!["10.0.0.7".parse().unwrap()],
            hostname: None,
            state: "online",
            guest: Some("*00".into()),
            seconds_left: Some(60),
            up: 1,
            down: 2,
            dwell: Some(5),
        }]),
        Command::Grant { mac: MAC, zone: Some(ZoneId(1)), length: Some(length), .. }
            if *length == Duration::from_mins(1) =>
        {
            Report::Done
        }
        Command::Grant { .. } => Report::Refused("not seen yet".into()),
        Command::Limit { limits, .. } if limits.quota == Some(9) => Report::Done,
        Command::Limit { .. } => Report::Refused("not online".into()),
        // Never answered: its reply is dropped with the envelope.
        Command::Revoke { .. } => return None,
        // Not asked for by this road.
        Command::Erase { .. } | Command::Rename(_) | Command::VouchersFromHq(_) => {
            Report::Refused("no".into())
        }
        Command::Vouchers => Report::Vouchers(Vec::new()),
        Command::MakeVouchers { .. } | Command::RevokeVouchers(_) => Report::Done,
    })
}

fn vouchers(zone: Option<&str>) -> Ask {
    let (zone, limits) = (zone.map(Into::into), Overrides::default());
    Ask::MakeVouchers { count: 1, uses: 1, seconds: 60, limits, expires: None, zone }
}

fn grant(zone: Option<&str>, seconds: Option<u64>) -> Ask {
    Ask::Grant { mac: MAC, zone: zone.map(Into::into), seconds, limits: Overrides::default() }
}

#[tokio::test]
async fn questions_are_answered() {
    let house = House::open();
    assert_eq!(house.ask(Ask::Status {}).await.unwrap()["online"], 3);
    assert_eq!(house.ask(Ask::Clients {}).await.unwrap()[0]["state"], "online");
    assert_eq!(house.ask(Ask::Stats {}).await.unwrap()["capture"]["dropped"], 7);
    assert_eq!(house.ask(grant(Some("cafe"), Some(60))).await.unwrap(), "done");
    let limits = Overrides { quota: Some(9), ..Overrides::default() };
    assert_eq!(house.ask(Ask::Limit { mac: MAC, limits }).await.unwrap(), "done");
    assert_eq!(house.ask(Ask::Reload {}).await.unwrap(), "Reload");
    let list = Ask::List { list: List::Blocked, mac: MAC, remove: true };
    let said = house.ask(list).await.unwrap();
    assert_eq!(said, format!("List(Blocked, {MAC:?}, true)"));
    assert_eq!(house.counters.answered.load(Ordering::Relaxed), 7);
    assert_eq!(house.malformed(), 0);
}

#[tokio::test]
async fn refusals_say_why() {
    let house = House::open();
    for (question, reason) in [
        (grant(None, None), "not seen yet"),
        (grant(Some("attic"), None), "no zone attic; there is guest, cafe"),
        (grant(None, Some(0)), "a grant lasts from 1 second to 366 days"),
        (grant(None, Some(u64::MAX)), "a grant lasts from 1 second to 366 days"),
        (
            Ask::Grant {
                mac: Mac([0xff; 6]),
                zone: None,
                seconds: None,
                limits: Overrides::default(),
            },
            "ff:ff:ff:ff:ff:ff is a group address, not a device's",
        ),
        (vouchers(Some("attic")), "no zone attic; there is guest, cafe"),
        // Codes that might be lost are not told.
        (vouchers(None), "the disk is full"),
        (Ask::RevokeVouchers("3".parse().unwrap()), "the disk is full"),
        (Ask::Sync {}, "HQ cannot be reached"),
        (Ask::Revoke { mac: MAC }, "the gateway is too busy to answer"),
    ] {
        match house.ask(question).await {
            Err(AskError::Refused(said)) => assert_eq!(said, reason),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn malformed_requests_are_refused_and_counted() {
    let house = House::open();
    let long =
        [b"{\"version\": 1, \"ask\": \"".as_slice(), &vec![b'x'; REQUEST_MAX], b"\"}\n"].concat();
    let cases: [(&[u8], &str); 8] = [
        (b"\n", "not a request"),
        (b"hello\n", "not a request"),
        (b"\xff\xfe\n", "not a request"),
        (b"{\"version\": 1, \"ask\": {\"reboot\": {}}}\n", "unknown variant"),
        (b"{\"version\": 1, \"ask\": {\"status\": {\"all\": true}}}\n", "unknown field"),
        (b"{\"version\": 2, \"ask\": {\"new\": {}}}\n", "speaks version 1, not 2"),
        (b"{\"version\": 1, \"ask\": {\"status\": {}}}", "with its newline"),
        (&long, "at most 65536 bytes"),
    ];
    for (place, (request, reason)) in cases.iter().enumerate() {
        let answer = house.say(request).await;
        // The kernel may take the answer back from a writer who had not finished.
        assert!(answer.contains(reason) || place == 7 && answer.is_empty(), "{answer}");
        assert_eq!(house.malformed() as usize, place + 1);
    }
    assert_eq!(house.ask(Ask::Status {}).await.unwrap()["online"], 3, "and goes on");
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_dropped() {
    let house = House::open();
    let mut silent = UnixStream::connect(socket_path(&house.run_dir)).await.unwrap();
    let mut nothing = Vec::new();
    assert_eq!(silent.read_to_end(&mut nothing).await.unwrap(), 0);
}

#[tokio::test]
async fn only_its_user_can_open_the_socket() {
    let house = House::open();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&socket_path(&house.run_dir)), 0o600);
    assert_eq!(mode(&house.run_dir), 0o700);
    assert_eq!(mode(&house.run_dir.join("maitred.lock")), 0o600);
}

#[tokio::test]
async fn shutdown_removes_the_socket() {
    let house = House::open();
    house.shutdown.send(()).unwrap();
    house.server.await.unwrap();
    let asked = ask(&house.run_dir, Ask::Status {}, Duration::from_secs(1));
    assert!(matches!(asked, Err(AskError::NotRunning)), "{asked:?}");
}

#[tokio::test]
async fn a_second_instance_refuses_to_start() {
    let dir = tempfile::tempdir().unwrap();
    let run_dir = dir.path().join("run");
    let first = Lock::take(&run_dir).unwrap();
    let stale = bind(&first).unwrap();
    match Lock::take(&run_dir) {
        Err(LockError::Held { pid }) => assert_eq!(pid, Some(std::process::id())),
        other => panic!("{other:?}"),
    }
    // As after a kill: the lock is gone, the socket's file is not.
    drop((first, stale));
    let asked = ask(&run_dir, Ask::Status {}, Duration::from_secs(1));
    assert!(matches!(asked, Err(AskError::NotRunning)), "{asked:?}");
    let second = Lock::take(&run_dir).unwrap();
    let _listener = bind(&second).unwrap();
    UnixStream::connect(socket_path(&run_dir)).await.unwrap();
}

#[test]
fn a_folder_that_others_write_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let refused = Lock::take(dir.path());
    assert!(matches!(refused, Err(LockError::Folder { .. })), "{refused:?}");
    let mode = std::fs::metadata(dir.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o777, "left as it was: it may be the whole system's /run");
}

proptest! {
    #[test]
    fn no_line_is_fatal(line in proptest::collection::vec(any::<u8>(), 0..256)) {
        let _ = server::read(&line);
    }

    #[test]
    fn requests_read_back(mac in any::<[u8; 6]>(), zone in any::<Option<String>>(), seconds: Option<u64>) {
        let limits = Overrides { quota: seconds, ..Overrides::default() };
        let ask = Ask::Grant { mac: Mac(mac), zone, seconds, limits };
        let request = Request { version: VERSION, ask: ask.clone() };
        let mut line = serde_json::to_vec(&request).unwrap();
        line.push(b'\n');
        prop_assert_eq!(server::read(&line), Ok(ask));
    }
}
