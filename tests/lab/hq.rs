//! A head office: takes batches over HTTP and answers as its mood is.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crypto_box::SecretKey;
use data_encoding::BASE64;
use maitred::domain::Secrets;
use maitred::domain::names::{GuestKey, OpenId, Phone};
use serde_json::{Map, Value, json};

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
pub struct Hq {
    state: Arc<Mutex<State>>,
}

struct State {
    mood: Mood,
    taken: Vec<Delivery>,
    /// Opens what is sealed, where HQ makes the guest keys.
    opener: Option<SecretKey>,
}

impl Hq {
    /// Where it listens.
    pub const URL: &str = "http://203.0.113.80:8443/batches";

    /// Opens what is sealed to HQ.
    pub fn seal_key() -> SecretKey {
        SecretKey::from([77; 32])
    }

    /// The guest key that HQ makes of a phone number, of mainland China unless it says otherwise.
    pub fn key_of(phone: &str) -> GuestKey {
        SECRETS.phone_guest(&Phone::parse(phone, "86").unwrap())
    }

    /// Opens in the internet.
    pub fn open(internet: &Internet, mood: Mood) -> Self {
        let state = Arc::new(Mutex::new(State { mood, taken: Vec::new(), opener: None }));
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

    /// From now on, says in its answers who the guests behind pseudonyms are.
    pub fn name_guests(&self) {
        self.state.lock().unwrap().opener = Some(Self::seal_key());
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
    let guests = state.opener.as_ref().map(|opener| names(opener, &rows));
    if state.mood != Mood::Ill {
        state.taken.push(Delivery { headers, body, rows });
    }
    let answer = match state.mood {
        Mood::Well => {
            let body = match guests {
                Some(guests) => json!({ "watermark": last?, "guests": guests }),
                None => json!({ "watermark": last? }),
            };
            let body = body.to_string();
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

/// HQ's own keys.
const SECRETS: Secrets = Secrets { guest_key: [0x5a; 32], voucher_key: [0; 32] };

/// Who the guests of a batch are, and whom it wants forgotten; the last word counts.
fn names(opener: &SecretKey, rows: &[Value]) -> Map<String, Value> {
    let mut names = Map::new();
    for row in rows.iter().filter(|row| row["sealed"].is_string()) {
        let sealed = BASE64.decode(row["sealed"].as_str().unwrap().as_bytes()).unwrap();
        let text = String::from_utf8(opener.unseal(&sealed).unwrap()).unwrap();
        let key = match text.split_once(':').unwrap() {
            ("phone", number) => SECRETS.phone_guest(&Phone::parse(number, "").unwrap()),
            (_, id) => SECRETS.openid_guest(&OpenId::parse(id).unwrap()),
        };
        if row["type"] == "erased" {
            names.insert(key.to_string(), Value::Null);
        } else if row["guest"] != key.to_string() {
            names.insert(row["guest"].as_str().unwrap().to_owned(), key.to_string().into());
        }
    }
    names
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
