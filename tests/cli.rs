//! The command line as scripts see it: what it prints, where, and its exit codes.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests are tests

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

use maitred::clock::{Clock, Trust};
use maitred::domain::auth::follow::{Card, Token};
use maitred::domain::effect::Refusal;
use maitred::domain::names::Mac;
use tempfile::TempDir;

/// A configuration and a run folder of its own.
struct Store {
    dir: TempDir,
}

impl Store {
    fn new() -> Self {
        let store = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(store.path("run")).unwrap();
        let text = format!(
            "[store]\nid = \"s1\"\nname = \"Corner\"\ntime_zone = \"UTC\"\nrun_dir = {:?}\n\
             [[zone]]\nname = \"guest\"\ninterface = \"br0\"\n",
            store.path("run").display().to_string()
        );
        fs::write(store.path("maitred.toml"), text).unwrap();
        store
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        maitred().arg("--config").arg(self.path("maitred.toml")).args(arguments).output().unwrap()
    }

    /// Stands in for the daemon: answers one request, and returns it.
    fn answer(&self, answer: &'static str) -> thread::JoinHandle<String> {
        let socket = self.path("run/control.sock");
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(socket).unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            writeln!(stream, "{answer}").unwrap();
            line
        })
    }
}

fn maitred() -> Command {
    Command::new(env!("CARGO_BIN_EXE_maitred"))
}

fn out(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn failure(output: &Output) -> (i32, String) {
    assert!(output.stdout.is_empty(), "{output:?}");
    (output.status.code().unwrap(), String::from_utf8(output.stderr.clone()).unwrap())
}

#[test]
fn wrong_arguments_are_2() {
    for arguments in [&["dance"][..], &["grant"], &["grant", "02:00"], &["sync"]] {
        assert_eq!(failure(&Store::new().run(arguments)).0, 2, "{arguments:?}");
    }
    let length = Store::new().run(&["grant", "02:00:5e:10:00:01", "--for", "1 parsec"]);
    assert!(failure(&length).1.contains("is not a length of time"));
}

#[test]
fn without_a_daemon_it_is_3() {
    for arguments in [&["status"][..], &["clients", "--json"], &["revoke", "02:00:5e:10:00:01"]] {
        let (code, said) = failure(&Store::new().run(arguments));
        assert_eq!((code, said.as_str()), (3, "maitred: maitred is not running\n"));
    }
}

#[test]
fn its_version_is_the_packages() {
    let version = out(&maitred().arg("--version").output().unwrap());
    assert_eq!(version, format!("maitred {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn check_names_the_line() {
    let store = Store::new();
    assert!(out(&store.run(&["check"])).ends_with("maitred.toml is good\n"));
    let bad = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/invalid/no_clients.toml");
    let (code, said) = failure(&store.run(&["check", bad.to_str().unwrap()]));
    assert_eq!(code, 1);
    assert!(said.contains("no_clients.toml:10:15: zone.max_clients must be 1 to 16383"), "{said}");
    assert_eq!(failure(&store.run(&["check", "/nonexistent"])).0, 1);
}

#[test]
fn grant_asks_and_says_so() {
    let store = Store::new();
    let asked = store.answer(r#"{"ok": "done"}"#);
    let mut asking = vec!["grant", "02-00-5E-10-00-01", "--zone", "guest", "--for", "90m"];
    asking.extend(["--download-rate", "2MB"]);
    let said = out(&store.run(&asking));
    assert_eq!(said, "02:00:5e:10:00:01 is granted\n");
    let expected = concat!(
        r#"{"version":1,"ask":{"grant":{"mac":"02:00:5e:10:00:01","#,
        r#""zone":"guest","seconds":5400,"limits":{"upload_rate":null,"download_rate":2000000,"#,
        r#""upload_quota":null,"download_quota":null,"quota":null}}}}"#
    );
    assert_eq!(asked.join().unwrap().trim(), expected);
}

#[test]
fn a_refusal_is_1_with_its_reason() {
    let store = Store::new();
    let _asked = store.answer(r#"{"error": "not seen yet"}"#);
    let (code, said) = failure(&store.run(&["revoke", "02:00:5e:10:00:01"]));
    assert_eq!((code, said.as_str()), (1, "maitred: not seen yet\n"));
}

#[test]
fn clients_are_a_table_or_json() {
    const CLIENTS: &str = r#"{"ok": [{"mac": "02:00:5e:10:00:01", "zone": "guest",
        "addresses": ["10.0.0.7", "fd00::7"], "hostname": "\u001b[2J", "state": "online",
        "guest": "*00", "seconds_left": 3600, "up": 1200, "down": 3400000, "dwell": null}]}"#;
    let line: &'static str = CLIENTS.replace('\n', "").leak();
    let store = Store::new();
    let asked = store.answer(line);
    let table = "\
MAC                ZONE   STATE   GUEST  STAY  LEFT    UP      DOWN    ADDRESS      NAME
02:00:5e:10:00:01  guest  online  *00    -     1h 00m  1.2 kB  3.4 MB  10.0.0.7 +1  ?[2J
";
    assert_eq!(out(&store.run(&["clients"])), table);
    asked.join().unwrap();
    let asked = store.answer(line);
    let json: serde_json::Value =
        serde_json::from_str(&out(&store.run(&["clients", "--json"]))).unwrap();
    assert_eq!(json[0]["down"], 3_400_000);
    asked.join().unwrap();
}

#[test]
fn status_is_facts() {
    let store = Store::new();
    let asked = store.answer(r#"{"ok": {"online": 3, "sms": {"taken": 12}}}"#);
    assert_eq!(out(&store.run(&["status"])), "online     3\nsms.taken  12\n");
    asked.join().unwrap();
}

#[test]
fn a_password_is_read_from_a_pipe() {
    let mut child =
        maitred().arg("password").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"correct horse\n").unwrap();
    let hash = out(&child.wait_with_output().unwrap());
    assert!(hash.starts_with("$argon2id$"), "{hash}");
}

#[test]
fn a_key_is_made_once_and_kept_private() {
    let store = Store::new();
    let path = store.path("follow.key");
    let arguments = ["token", "--generate", path.to_str().unwrap()];
    let public = out(&store.run(&arguments));
    assert_eq!(public.trim().len(), 44);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let seed = fs::read(&path).unwrap();
    assert_eq!(failure(&store.run(&arguments)).0, 1);
    assert_eq!(fs::read(&path).unwrap(), seed, "never overwritten");
}

#[test]
fn a_minted_token_is_good_for_its_device_alone() {
    let store = Store::new();
    let key = store.path("follow.key");
    let key = key.to_str().unwrap();
    let public = out(&store.run(&["token", "--generate", key]));
    let public: [u8; 32] =
        data_encoding::BASE64.decode(public.trim().as_bytes()).unwrap().try_into().unwrap();
    let guest = "5e".repeat(16);
    let mac = "02:00:5e:10:00:01";
    let arguments =
        ["--key", key, "--store", "s1", "--zone", "guest", "--mac", mac, "--guest", &guest];
    let text = out(&store.run(&[&["token"], &arguments[..]].concat()));
    let now = Clock::new(Trust::Always).now().wall;
    let verify =
        |mac: Mac| Token::verify(text.trim(), &[public], Card::new("s1", "guest", mac), now);
    let token = verify(mac.parse().unwrap()).unwrap();
    assert_eq!((token.guest.to_string(), token.expires - token.issued), (guest.clone(), 300));
    assert_eq!(verify(Mac([2; 6])), Err(Refusal::TokenElsewhere));

    for wrong in [&["token"][..], &["token", "--key", key]] {
        assert_eq!(failure(&store.run(wrong)).0, 2, "{wrong:?}");
    }
    let long = [&["token"], &arguments[..], &["--lifetime", "2d"]].concat();
    assert_eq!(failure(&store.run(&long)).0, 1);
    fs::write(key, "not a key").unwrap();
    assert_eq!(failure(&store.run(&[&["token"], &arguments[..]].concat())).0, 1);
}
