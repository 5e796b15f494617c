//! A simulated WeChat: its API, as the account's backend asks it; its pushes, made by
//! wechatpy of `PyPI`; and the backend itself, `maitred hq`, as a real process in the internet.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::gateway::MAITRED;
use super::run::{Background, run, until};
use super::{Lab, Settings};

const API: &str = "203.0.113.80:8090";
const BACKEND: &str = "203.0.113.80:8470";
const TOKEN: &str = "labtoken";
const APP_ID: &str = "wx0123456789012345";
const AES_KEY: &str = "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C";
/// The bearer token of the lab's gateway.
const BEARER: &str = "gateway-token";

/// How a push travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In clear.
    Plain,
    /// Sealed.
    Safe,
}

/// What WeChat's API knows.
#[derive(Debug, Default)]
struct Api {
    /// Access tokens given out; the last is good.
    tokens: u32,
    revoked: bool,
    /// The account may have no parametric QR codes.
    unverified: bool,
    /// Scenes of the tickets given out.
    scenes: Vec<String>,
}

/// WeChat, the account and its backend.
#[derive(Debug)]
pub struct Wechat {
    netns: String,
    folder: PathBuf,
    mode: Mode,
    api: Arc<Mutex<Api>>,
    backend: Option<Background>,
    keys: AtomicU32,
}

/// What a push was answered.
#[derive(Debug)]
pub struct Answered {
    /// The HTTP status.
    pub status: u64,
    /// The text; `success` is none.
    pub text: String,
}

impl Answered {
    /// The token in the link.
    #[track_caller]
    pub fn link(&self) -> &str {
        let link = self.text.split_whitespace().find(|word| word.contains("/f/"));
        link.unwrap_or_else(|| panic!("no link in {self:?}"))
    }
}

impl Wechat {
    /// Opens in the lab's internet; the backend is started with [`Self::open_backend`].
    pub fn new(lab: &Lab, mode: Mode) -> Self {
        assert!(
            python().exists(),
            "wechatpy is missing: python3 -m venv target/tools/wechat && \
             target/tools/wechat/bin/pip install -r tests/wechat/requirements.txt"
        );
        let api = Arc::<Mutex<Api>>::default();
        let listener = lab.internet.netns.within(|| TcpListener::bind(API).unwrap());
        let shared = Arc::clone(&api);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(&stream, &shared));
            }
        });
        Self {
            netns: lab.internet.netns.name().to_owned(),
            folder: lab.folder().to_owned(),
            mode,
            api,
            backend: None,
            keys: AtomicU32::new(1),
        }
    }

    /// A new signing key: its file, and its public half.
    pub fn new_key(&self) -> (PathBuf, String) {
        let number = self.keys.fetch_add(1, Ordering::Relaxed);
        let file = self.folder.join(format!("follow-{number}.key"));
        let made = run(&[MAITRED, "token", "--generate", file.to_str().unwrap()], 15);
        (file, made.ok().trim().to_owned())
    }

    /// Starts the backend, anew if it runs, with this key.
    #[track_caller]
    pub fn open_backend(&mut self, key: &Path) {
        if let Some(mut running) = self.backend.take() {
            running.signal(Signal::SIGTERM);
            assert_eq!(running.wait(Duration::from_secs(5)), Some(0), "{}", running.output());
        }
        let aes = match self.mode {
            Mode::Safe => format!("aes_key = \"{AES_KEY}\""),
            Mode::Plain => String::new(),
        };
        let text = format!(
            "listen = \"{BACKEND}\"\nstate_dir = \"{0}/hq\"\nkey = \"{1}\"\n\n[wechat]\n\
             app_id = \"{APP_ID}\"\napp_secret = \"labsecret\"\ntoken = \"{TOKEN}\"\n{aes}\n\
             api = \"http://{API}\"\n\n[[store]]\nid = \"lab-1\"\n\
             portal = \"http://10.77.0.1:2050\"\ntoken = \"{BEARER}\"\n",
            self.folder.display(),
            key.display(),
        );
        let file = self.folder.join("hq.toml");
        std::fs::write(&file, text).unwrap();
        let log = self.folder.join("hq.log");
        let args = [MAITRED, "hq", file.to_str().unwrap()];
        let wrap = ["ip", "netns", "exec", &self.netns, "setpriv", "--pdeathsig", "KILL", "--"];
        let env = ["env", "RUST_LOG=debug"];
        let mut backend = Background::new(&[&wrap[..], &env, &args].concat(), &log);
        until(Duration::from_secs(10), "the account's backend to answer", || {
            assert!(backend.ended().is_none(), "{}", backend.output());
            let answered = self.push(&[], &["echo", "4375120948345356249"]);
            (answered.text == "4375120948345356249").then_some(())
        });
        self.backend = Some(backend);
    }

    /// Ends the backend.
    pub fn close_backend(&mut self) {
        self.backend = None;
    }

    /// A gateway's settings for the account, with these public keys.
    pub fn settings(keys: &[&str]) -> Settings {
        let keys: Vec<String> = keys.iter().map(|key| format!("\"{key}\"")).collect();
        Settings::new().with(
            "[follow]",
            &format!(
                "keys = [{}]\naccount = \"静安咖啡\"\nurl = \"http://{BACKEND}\"\n\
                 token = \"{BEARER}\"",
                keys.join(", ")
            ),
        )
    }

    /// WeChat pushes what somebody did (`scan SCENE`, `text WORDS`, …); `more` bends the push.
    #[track_caller]
    pub fn push(&self, more: &[&str], what: &[&str]) -> Answered {
        let sealed: &[&str] = match self.mode {
            Mode::Safe => &["--aes-key", AES_KEY],
            Mode::Plain => &[],
        };
        self.push_in_clear(&[sealed, more].concat(), what)
    }

    /// The same in clear, whatever the account's mode.
    #[track_caller]
    pub fn push_in_clear(&self, more: &[&str], what: &[&str]) -> Answered {
        let url = format!("http://{BACKEND}/wechat");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wechat/push.py");
        let python = python();
        let common = [
            "ip",
            "netns",
            "exec",
            &self.netns,
            python.to_str().unwrap(),
            script.to_str().unwrap(),
            "--url",
            &url,
            "--token",
            TOKEN,
            "--app-id",
            APP_ID,
        ];
        let output = run(&[&common[..], more, what].concat(), 20);
        if !output.success && output.stderr.contains("Connection refused") {
            return Answered { status: 0, text: String::new() };
        }
        let answer: Value = serde_json::from_str(&output.ok()).unwrap();
        Answered {
            status: answer["status"].as_u64().unwrap(),
            text: answer["text"].as_str().unwrap().to_owned(),
        }
    }

    /// Somebody's push.
    #[track_caller]
    pub fn by(&self, openid: &str, what: &[&str]) -> Answered {
        self.push(&["--openid", openid], what)
    }

    /// The text of the QR code in a picture, as a reader of its own sees it.
    #[track_caller]
    pub fn scan(picture: &Path) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wechat/read_qr.py");
        let python = python();
        let args = [python.to_str().unwrap(), script.to_str().unwrap(), picture.to_str().unwrap()];
        run(&args, 20).ok().trim().to_owned()
    }

    /// Scenes of the QR codes given out so far.
    pub fn scenes(&self) -> Vec<String> {
        self.api.lock().unwrap().scenes.clone()
    }

    /// Access tokens given out so far.
    pub fn access_tokens(&self) -> u32 {
        self.api.lock().unwrap().tokens
    }

    /// Access tokens given out so far are good no more.
    pub fn revoke_access(&self) {
        self.api.lock().unwrap().revoked = true;
    }

    /// The account may have no QR codes of its own (error 48001).
    pub fn be_unverified(&self) {
        self.api.lock().unwrap().unverified = true;
    }

    /// What the backend has printed.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.folder.join("hq.log")).unwrap()).into_owned()
    }
}

impl Drop for Wechat {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- maitred hq said ---\n{}", self.log());
        }
    }
}

fn python() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("tools/wechat/bin/python")
}

fn serve(stream: &TcpStream, api: &Mutex<Api>) -> Option<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut lines = Vec::new();
        for line in reader.by_ref().lines().map_while(Result::ok) {
            if line.is_empty() {
                break;
            }
            lines.push(line.to_lowercase());
        }
        let length = lines.iter().find_map(|line| line.strip_prefix("content-length: "))?;
        let mut body = vec![0; length.parse().ok()?];
        reader.read_exact(&mut body).ok()?;
        let asked: Value = serde_json::from_slice(&body).ok()?;
        let answer = answer(lines.first()?, &asked, &mut api.lock().unwrap()).to_string();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            answer.len()
        );
        (&*stream).write_all((head + &answer).as_bytes()).ok()?;
    }
}

/// As developers.weixin.qq.com says.
fn answer(line: &str, asked: &Value, api: &mut Api) -> Value {
    let path = line.split(' ').nth(1).unwrap_or_default();
    if path == "/cgi-bin/stable_token" {
        if (&asked["appid"], &asked["secret"]) != (&json!(APP_ID), &json!("labsecret")) {
            return json!({ "errcode": 40125, "errmsg": "invalid appsecret" });
        }
        (api.tokens, api.revoked) = (api.tokens + 1, false);
        return json!({ "access_token": format!("access_{}", api.tokens), "expires_in": 7200 });
    }
    let good = format!("/cgi-bin/qrcode/create?access_token=access_{}", api.tokens);
    if path != good || api.revoked {
        return json!({ "errcode": 40001, "errmsg": "invalid credential" });
    }
    if api.unverified {
        return json!({ "errcode": 48001, "errmsg": "api unauthorized" });
    }
    let scene = asked["action_info"]["scene"]["scene_str"].as_str().unwrap_or_default();
    if asked["action_name"] != "QR_STR_SCENE" || !(1..=64).contains(&scene.len()) {
        return json!({ "errcode": 40053, "errmsg": "invalid action info" });
    }
    api.scenes.push(scene.to_owned());
    json!({
        "ticket": "gQH47joAAAA",
        "expire_seconds": asked["expire_seconds"],
        "url": format!("http://weixin.qq.com/q/{}", api.scenes.len()),
    })
}
