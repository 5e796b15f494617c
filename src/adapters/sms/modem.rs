//! The router's own modem, by a program run once a message: arguments and standard input, never a
//! shell. The only place that starts a program.
//!
//! Guests choose the number, which is digits by then, and nothing else of what is said here.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::error::SendError;
use super::letter::Letter;
use crate::clock;
use crate::config::{self, ModemTool};

const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// How often a running program is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Of what a program says.
const OUTPUT_MAX: usize = 4096;

/// The modem, as its program knows it.
#[derive(Debug)]
pub(super) struct Modem {
    settings: config::Modem,
}

/// What a program did.
struct Done {
    status: ExitStatus,
    output: String,
}

impl Modem {
    pub(super) const fn new(settings: config::Modem) -> Self {
        Self { settings }
    }

    /// Sends one message, once, within the modem's own time and `left`.
    pub(super) fn send(&self, letter: &Letter, left: Duration) -> Result<(), SendError> {
        let deadline = clock::boot() + left.min(self.settings.timeout.0);
        let run =
            |arguments: &[&str], input: &str| self.run(arguments, input, deadline - clock::boot());
        let device = self.settings.device.as_deref();
        match self.settings.tool {
            ModemTool::SmsTool => {
                let mut arguments = device.map_or(Vec::new(), |device| vec!["-d", device]);
                let text = latin(letter);
                // It makes every number an international one, and knows no `+`.
                arguments.extend(["--", "send", letter.digits(), &text]);
                let done = run(&arguments, "")?;
                // It ends well even if the modem refuses.
                said(&done, "sms sent")
            }
            ModemTool::Gammu => {
                let mut arguments = device.map_or(Vec::new(), |file| vec!["-c", file]);
                arguments.extend(["sendsms", "TEXT", &letter.to, "-autolen", "400"]);
                if !letter.text.is_ascii() {
                    arguments.push("-unicode");
                }
                said(&run(&arguments, &letter.text)?, "")
            }
            ModemTool::Mmcli => {
                let modem = device.unwrap_or("any");
                let create = create_argument(letter);
                let created = run(&["-m", modem, &create], "")?;
                said(&created, "")?;
                let path = created.output.split_whitespace().find(|word| word.contains("/SMS/"));
                let path = path.ok_or_else(|| SendError::refused("no-message-made"))?;
                let sent = run(&["-s", path, "--send"], "").and_then(|done| said(&done, ""));
                // The modem's memory is small; a message left in it does no other harm.
                let delete = format!("--messaging-delete-sms={path}");
                if run(&["-m", modem, &delete], "").is_err() {
                    tracing::debug!("a sent message stays in the modem's memory");
                }
                sent
            }
        }
    }

    fn run(&self, arguments: &[&str], input: &str, within: Duration) -> Result<Done, SendError> {
        let name = match self.settings.tool {
            ModemTool::SmsTool => "sms_tool",
            ModemTool::Gammu => "gammu",
            ModemTool::Mmcli => "mmcli",
        };
        let program = self.settings.program.as_deref().unwrap_or(name.as_ref());
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", PATH)
            // gammu reads its input by the locale.
            .env("LC_ALL", "C.UTF-8")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0);
        let mut child =
            command.spawn().map_err(|error| SendError::Unreachable(format!("{name}: {error}")))?;
        let said = feed_and_wait(&mut child, input, within);
        if said.is_err() {
            end(&mut child);
        }
        said.map_err(|error| SendError::Unanswered(format!("{name}: {error}")))
    }
}

fn feed_and_wait(child: &mut Child, input: &str, within: Duration) -> io::Result<Done> {
    if let Some(mut stdin) = child.stdin.take() {
        // A message fits in the pipe, so this does not wait. Who does not read it says so later.
        match stdin.write_all(input.as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
            _ => {}
        }
    }
    let deadline = clock::boot() + within;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if clock::boot() >= deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        thread::sleep(LOOK_EVERY);
    };
    let output = child.stdout.take().map_or(Ok(String::new()), |out| left_in(out.into()))?;
    Ok(Done { status, output })
}

/// What stands in the pipe. Its end need not come: a child of the child may hold it open.
fn left_in(pipe: OwnedFd) -> io::Result<String> {
    fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let (mut pipe, mut bytes, mut filled) = (File::from(pipe), vec![0; OUTPUT_MAX], 0);
    loop {
        match pipe.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(String::from_utf8_lossy(&bytes[..filled]).into_owned())
}

/// Ends a program and all that it started.
fn end(child: &mut Child) {
    let group = i32::try_from(child.id()).map(Pid::from_raw);
    let killed = group.is_ok_and(|group| killpg(group, Signal::SIGKILL).is_ok());
    if killed && let Err(error) = child.wait() {
        tracing::debug!(%error, "a modem's program was not waited for");
    }
}

fn said(done: &Done, word: &str) -> Result<(), SendError> {
    if done.status.success() && done.output.contains(word) {
        return Ok(());
    }
    Err(SendError::Refused(done.status.to_string()))
}

/// The text as the two alphabets that ASCII and GSM 03.38 share have it, or the code if that is
/// not enough.
fn latin(letter: &Letter) -> String {
    let shared = |c: &char| c.is_ascii_alphanumeric() || " !\"#%&'()*+,-./:;<=>?".contains(*c);
    if letter.text.is_ascii() {
        letter.text.chars().filter(shared).take(160).collect()
    } else {
        letter.code.clone()
    }
}

/// `mmcli` knows quotes and no way to write one inside them.
fn create_argument(letter: &Letter) -> String {
    let text = letter.text.replace('\'', "\u{2019}");
    format!("--messaging-create-sms=number='{}',text='{text}'", letter.to)
}

#[cfg(test)]
mod tests;
