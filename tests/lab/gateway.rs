//! The real daemon in the router's namespace, its command line, its outbox of messages, its
//! database.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::STAFF_V4;
use super::netns::Netns;
use super::run::{Background, Output, run, until};

pub(super) const MAITRED: &str = env!("CARGO_BIN_EXE_maitred");
/// The staff password.
pub const PASSWORD: &str = "correct horse battery";

/// The configuration file, by section. Starts as a small store's; tests replace sections.
#[derive(Debug, Clone)]
pub struct Settings(BTreeMap<String, String>);

impl Settings {
    /// A store with one zone on `br-guest`.
    pub fn new() -> Self {
        Self(BTreeMap::new())
            .with("[[zone]]", "name = \"guest\"\ninterface = \"br-guest\"")
            // Or the router's own requests were seen among the guests'.
            .with("[uplink]", "check = false")
            .with("[code]", "resend_after = \"1s\"")
            .with("[visit]", "leave_after = \"2s\"\nmerge_gap = \"3s\"")
    }

    /// The same with `body` as the section under `header`, which is written with its brackets; under
    /// `[store]` it takes the place of `clock = "always"`.
    #[must_use]
    pub fn with(mut self, header: &str, body: &str) -> Self {
        self.0.insert(header.to_owned(), body.to_owned());
        self
    }

    fn write(&self, folder: &Path) -> PathBuf {
        let spool = format!("provider = \"spool\"\ndir = \"{}/spool\"", folder.display());
        let mut text = format!(
            "[store]\nid = \"lab-1\"\nname = \"Lab\"\ntime_zone = \"CST-8\"\n\
             state_dir = \"{0}/state\"\nrun_dir = \"{0}/run\"\n\
             commit_every = \"200ms\"\n{2}\n\n\
             [sms]\n{3}\n\n\
             [staff]\nlisten = \"{STAFF_V4}:8080\"\npassword_hash = \"{1}\"\n",
            folder.display(),
            password_hash(folder),
            self.0.get("[store]").map_or("clock = \"always\"", String::as_str),
            self.0.get("[sms]").unwrap_or(&spool),
        );
        let more = |header: &str| !["[store]", "[sms]"].contains(&header);
        for (header, body) in self.0.iter().filter(|(header, _)| more(header)) {
            write!(text, "\n{header}\n{body}\n").unwrap();
        }
        let file = folder.join("maitred.toml");
        fs::write(&file, text).unwrap();
        fs::create_dir_all(folder.join("spool")).unwrap();
        file
    }
}

/// The running daemon. Dropping it kills it and checks what it said and wrote.
#[derive(Debug)]
pub struct Gateway {
    router: String,
    folder: PathBuf,
    config: PathBuf,
    process: RefCell<Option<Background>>,
    starts: Cell<u32>,
    read: RefCell<BTreeSet<PathBuf>>,
    secrets: RefCell<BTreeSet<String>>,
}

impl Gateway {
    pub(super) fn start(router: &Netns, folder: &Path, settings: &Settings) -> Self {
        let gateway = Self {
            router: router.name().to_owned(),
            folder: folder.to_owned(),
            config: settings.write(folder),
            process: RefCell::default(),
            starts: Cell::new(0),
            read: RefCell::default(),
            secrets: RefCell::default(),
        };
        gateway.run();
        gateway
    }

    /// Starts it (again) and waits until it answers.
    #[track_caller]
    pub fn run(&self) {
        self.launch(&[]);
        self.ready();
    }

    /// The same, while somebody else writes to its database: only once `meanwhile` is over can it
    /// read the record.
    #[track_caller]
    pub fn run_without_record(&self, meanwhile: impl FnOnce()) {
        let record = rusqlite::Connection::open(self.folder.join("state/maitred.db")).unwrap();
        record.execute_batch("BEGIN IMMEDIATE").unwrap();
        self.launch(&[]);
        meanwhile();
        record.execute_batch("ROLLBACK").unwrap();
        self.ready();
    }

    /// The same, but that it is killed before it can.
    #[track_caller]
    pub fn kill_without_record(&self, meanwhile: impl FnOnce()) {
        let record = rusqlite::Connection::open(self.folder.join("state/maitred.db")).unwrap();
        record.execute_batch("BEGIN IMMEDIATE").unwrap();
        self.launch(&[]);
        meanwhile();
        self.kill9();
        record.execute_batch("ROLLBACK").unwrap();
    }

    /// Starts it as after a reboot: with another boot id. Its clock and the kernel are the same.
    #[track_caller]
    pub fn reboot(&self) {
        let id = self.folder.join("boot_id");
        fs::write(&id, "0b007000-0000-4000-8000-000000000002\n").unwrap();
        // `ip netns exec` has given it a mount namespace of its own.
        let script = "mount --bind \"$0\" /proc/sys/kernel/random/boot_id && exec \"$@\"";
        self.launch(&["sh", "-c", script, id.to_str().unwrap()]);
        self.ready();
    }

    fn launch(&self, wrap: &[&str]) {
        self.starts.set(self.starts.get() + 1);
        let log = self.folder.join(format!("maitred-{}.log", self.starts.get()));
        let config = self.config.to_str().unwrap();
        let netns = ["ip", "netns", "exec", &self.router, "setpriv", "--pdeathsig", "KILL", "--"];
        let env = ["env", "RUST_LOG=debug", MAITRED, "run", "--config", config];
        *self.process.borrow_mut() =
            Some(Background::new(&[&netns[..], wrap, &env].concat(), &log));
    }

    #[track_caller]
    fn ready(&self) {
        until(Duration::from_secs(10), "maitred to answer", || {
            if let Some(status) = self.process.borrow_mut().as_mut().unwrap().ended() {
                panic!("maitred ended with {status:?}\n{}", self.log());
            }
            self.command(&["status", "--json"]).success.then_some(())
        });
    }

    /// Ends it as procd does, and waits.
    #[track_caller]
    pub fn term(&self) {
        let mut process = self.process.borrow_mut().take().expect("it runs");
        process.signal(Signal::SIGTERM);
        assert_eq!(process.wait(Duration::from_secs(10)), Some(0), "{}", self.log());
    }

    /// Ends it as a power cut does.
    pub fn kill9(&self) {
        let mut process = self.process.borrow_mut().take().expect("it runs");
        process.signal(Signal::SIGKILL);
        process.wait(Duration::from_secs(5));
    }

    /// Writes another configuration; it is read at the next reload or start.
    pub fn configure(&self, settings: &Settings) {
        settings.write(&self.folder);
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.borrow().as_ref().expect("it runs").signal(signal);
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.borrow().as_ref().expect("it runs").pid()
    }

    /// `maitred VERB … --config FILE` in the router.
    pub fn command(&self, args: &[&str]) -> Output {
        let config = ["--config", self.config.to_str().unwrap()];
        run(&[&["ip", "netns", "exec", &self.router, MAITRED], args, &config].concat(), 15)
    }

    /// The same with `--json`, read.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let text = self.command(&[args, &["--json"]].concat()).ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error} in {text}"))
    }

    /// `maitred` alone, without a configuration or a namespace.
    pub fn tool(args: &[&str]) -> Output {
        run(&[&[MAITRED], args].concat(), 15)
    }

    /// The code of the next message to a number; waits for it.
    #[track_caller]
    pub fn code_for(&self, phone: &str) -> String {
        let message = until(Duration::from_secs(5), "a message", || self.next_message(phone));
        let code = message["code"].as_str().expect("a code").to_owned();
        assert!(message["text"].as_str().unwrap().contains(&code), "{message}");
        self.secret(&code);
        code
    }

    /// The next message to a number, if there is one.
    pub fn next_message(&self, phone: &str) -> Option<Value> {
        let mut files: Vec<PathBuf> =
            fs::read_dir(self.spool()).unwrap().flatten().map(|e| e.path()).collect();
        files.sort();
        files.into_iter().filter(|file| file.extension().is_some_and(|e| e == "json")).find_map(
            |file| {
                if self.read.borrow().contains(&file) {
                    return None;
                }
                let message: Value = serde_json::from_str(&fs::read_to_string(&file).ok()?).ok()?;
                let to = message["to"].as_str()?.ends_with(phone);
                to.then(|| self.read.borrow_mut().insert(file)).map(|_| message)
            },
        )
    }

    /// The folder that messages go to.
    pub fn spool(&self) -> PathBuf {
        self.folder.join("spool")
    }

    /// Reads its database, once what it has been told lies there.
    #[track_caller]
    pub fn database<T>(
        &self,
        read: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T>,
    ) -> T {
        // Without a daemon the database is as the last one left it.
        let _ = self.command(&["stats"]);
        let state = fs::read_dir(self.folder.join("state")).unwrap().flatten();
        let file = state
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|extension| extension == "db"))
            .expect("a database");
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let connection = rusqlite::Connection::open_with_flags(file, flags).unwrap();
        connection.busy_timeout(Duration::from_secs(2)).unwrap();
        read(&connection).unwrap()
    }

    /// Text that must never be in a log: a number, a code.
    pub fn secret(&self, text: &str) {
        self.secrets.borrow_mut().insert(text.to_owned());
    }

    /// All that it has printed, in all its lives.
    pub fn log(&self) -> String {
        let read = |start| fs::read(self.folder.join(format!("maitred-{start}.log")));
        let logs = (1..=self.starts.get()).filter_map(|start| read(start).ok());
        logs.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect()
    }

    fn check(&self) {
        let log = self.log();
        assert!(!log.contains("panicked"), "{log}");
        for secret in self.secrets.borrow().iter() {
            let line = log.lines().find(|line| mentions(line, secret));
            assert!(line.is_none(), "the log has a number or code: {line:?}");
        }
        for entry in fs::read_dir(self.folder.join("state")).into_iter().flatten().flatten() {
            let bytes = fs::read(entry.path()).unwrap_or_default();
            for phone in self.secrets.borrow().iter().filter(|secret| secret.len() > 8) {
                let found = bytes.windows(phone.len()).any(|window| window == phone.as_bytes());
                assert!(!found, "{} holds a number in clear", entry.path().display());
            }
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        *self.process.borrow_mut() = None;
        if std::thread::panicking() {
            eprintln!("--- maitred said ---\n{}", self.log());
        } else {
            self.check();
        }
    }
}

/// Whether a line has these digits as a number of their own; fractions of seconds are none.
fn mentions(line: &str, digits: &str) -> bool {
    line.match_indices(digits).any(|(start, found)| {
        let before = line[..start].chars().next_back();
        let after = line[start + found.len()..].chars().next();
        let part = |c: char| c.is_ascii_digit();
        !before.is_some_and(|c| part(c) || c == '.') && !after.is_some_and(part)
    })
}

/// The staff password's hash, made by the real command and kept for the lab's life.
fn password_hash(folder: &Path) -> String {
    let kept = folder.join("password");
    if let Ok(hash) = fs::read_to_string(&kept) {
        return hash;
    }
    let typed = folder.join("typed");
    fs::write(&typed, format!("{PASSWORD}\n")).unwrap();
    let output =
        Command::new(MAITRED).arg("password").stdin(fs::File::open(&typed).unwrap()).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let hash = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    fs::write(&kept, &hash).unwrap();
    hash
}
