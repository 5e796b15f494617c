//! Commands under a time limit, and processes that end with their owner.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use maitred::clock;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What a command said.
#[derive(Debug)]
pub struct Output {
    /// It ended with status 0.
    pub success: bool,
    /// Its status; 124 when the time limit ended it.
    pub status: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    what: String,
}

impl Output {
    /// The standard output of a command that succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(
            self.success,
            "{} ended with {}\n{}{}",
            self.what, self.status, self.stdout, self.stderr
        );
        self.stdout
    }
}

/// Runs a command to its end, `limit` seconds at most.
pub fn run(args: &[&str], limit: u32) -> Output {
    feed(args, "", limit)
}

/// The same; the command reads `input`, which fits into a pipe.
pub fn feed(args: &[&str], input: &str, limit: u32) -> Output {
    let mut child = Command::new("timeout")
        .args(["--foreground", "--kill-after=1", &limit.to_string()])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("timeout(1) runs");
    // Whoever reads nothing is not fed.
    let _ = child.stdin.take().map(|mut pipe| pipe.write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("timeout(1) ends");
    Output {
        success: output.status.success(),
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        what: args.join(" "),
    }
}

/// Asks every 5 ms until there is an answer; fails the test after `limit`.
#[track_caller]
pub fn until<T>(limit: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = clock::boot().0;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        let waited = Duration::from_millis(clock::boot().0 - start);
        assert!(waited < limit, "waited {} ms for {what}", waited.as_millis());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A process that runs beside the test and is killed with it. What it prints goes to a file.
#[derive(Debug)]
pub struct Background {
    child: Child,
    log: PathBuf,
}

impl Background {
    /// Starts it; its output is appended to `log`.
    pub fn new(args: &[&str], log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).unwrap();
        let child = Command::new(args[0])
            .args(&args[1..])
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", args[0]));
        Self { child, log: log.to_owned() }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// How it ended; `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end, `limit` at most; its status, or `None` if a signal ended it.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> Option<i32> {
        let what = format!("the end of process {}", self.child.id());
        until(limit, &what, || self.ended()).code()
    }

    /// What it has printed so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
