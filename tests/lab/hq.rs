//! A head office: takes batches over HTTP and answers as its mood is.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::Internet;

/// How HQ answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Takes the batch and acknowledges it.
    Well,
    /// 503, takes nothing.
    Ill,
    /// Takes the batch, then hangs up without a word.
    Mute,
}

/// One request that HQ got.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Headers by lower-case name.
    pub headers: BTreeMap<String, String>,
    /// The body as it came.
    pub body: Vec<u8>,
    /// The body's lines.
    pub rows: Vec<Value>,
}

/// HQ's server.
#[derive(Debug)]
pub struct Hq {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    mood: Mood,
    taken: Vec<Delivery>,
}

impl Hq {
    /// Where it listens.
    pub const URL: &str = "http://203.0.113.80:8443/batches";

    /// Opens in the internet.
    pub fn open(internet: &Internet, mood: Mood) -> Self {
        let state = Arc::new(Mutex::new(State { mood, taken: Vec::new() }));
        let listener = internet.netns.within(|| TcpListener::bind("203.0.113.80:8443").unwrap());
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(&stream, &shared));
            }
        });
        Self { state }
    }

    /// Changes how it answers.
    pub fn feel(&self, mood: Mood) {
        self.state.lock().unwrap().mood = mood;
    }

    /// The batches it took, in order.
    pub fn taken(&self) -> Vec<Delivery> {
        self.state.lock().unwrap().taken.clone()
    }
}

fn serve(stream: &TcpStream, state: &Mutex<State>) -> Option<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let mut reader = BufReader::new(stream);
    let lines: Vec<String> =
        reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let headers: BTreeMap<String, String> = lines
        .iter()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let body = body(&mut reader, &headers)?;
    let plain = if headers.get("content-encoding").is_some_and(|coding| coding == "gzip") {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut plain).ok()?;
        plain
    } else {
        body.clone()
    };
    let rows: Vec<Value> =
        plain.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    let mut state = state.lock().unwrap();
    let last = rows.iter().filter_map(|row| row["seq"].as_u64()).max();
    if state.mood != Mood::Ill {
        state.taken.push(Delivery { headers, body, rows });
    }
    let answer = match state.mood {
        Mood::Well => {
            let body = format!("{{\"watermark\":{}}}", last?);
            format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            )
        }
        Mood::Ill => {
            "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                .to_owned()
        }
        Mood::Mute => return None,
    };
    (&*stream).write_all(answer.as_bytes()).ok()
}

fn body(reader: &mut impl BufRead, headers: &BTreeMap<String, String>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    if let Some(length) = headers.get("content-length") {
        body.resize(length.parse().ok()?, 0);
        reader.read_exact(&mut body).ok()?;
        return Some(body);
    }
    loop {
        let mut size = String::new();
        reader.read_line(&mut size).ok()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        let start = body.len();
        body.resize(start + size, 0);
        reader.read_exact(&mut body[start..]).ok()?;
        reader.read_line(&mut String::new()).ok()?;
        if size == 0 {
            return Some(body);
        }
    }
}
