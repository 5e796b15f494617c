//! The command line's end of the control socket.

use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::{Ask, Request, Response, VERSION, socket_path};

/// Ten thousand clients take some 3 MB.
const RESPONSE_MAX: u64 = 32 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error("maitred is not running")]
    NotRunning,
    /// The daemon took too long.
    #[error("maitred did not answer in time")]
    Silent,
    /// The socket failed.
    #[error("the control socket: {0}")]
    Socket(io::Error),
    /// The answer was none.
    #[error("the daemon's answer makes no sense: {0}")]
    Nonsense(serde_json::Error),
    /// The daemon said no, and why.
    #[error("{0}")]
    Refused(String),
}

/// Asks the daemon of `run_dir` and waits for the answer, each step at most `patience` long.
pub fn ask(run_dir: &Path, ask: Ask, patience: Duration) -> Result<Value, AskError> {
    let mut stream =
        UnixStream::connect(socket_path(run_dir)).map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => AskError::NotRunning,
            _ => AskError::Socket(error),
        })?;
    let line = converse(&mut stream, ask, patience).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => AskError::Silent,
        _ => AskError::Socket(error),
    })?;
    match serde_json::from_slice(&line).map_err(AskError::Nonsense)? {
        Response::Ok(value) => Ok(value),
        Response::Error(reason) => Err(AskError::Refused(reason)),
    }
}

fn converse(stream: &mut UnixStream, ask: Ask, patience: Duration) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let mut request = serde_json::to_vec(&Request { version: VERSION, ask })?;
    request.push(b'\n');
    stream.write_all(&request)?;
    let mut line = Vec::new();
    BufReader::new(stream.take(RESPONSE_MAX)).read_until(b'\n', &mut line)?;
    Ok(line)
}
