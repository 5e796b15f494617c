//! Every file of `config/valid` is accepted; every file of `config/invalid` is refused with
//! exactly the lines of its leading comment.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests are tests

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use maitred::config::{Config, ConfigError, Sms};
use maitred::domain::names::ZoneId;
use proptest::prelude::*;

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config").join(folder);
    let mut files: Vec<_> =
        fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

fn all() -> Config {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/valid/all.toml");
    Config::load(&path).unwrap()
}

#[test]
fn valid_files_are_accepted() {
    for path in files("valid") {
        if let Err(error) = Config::load(&path) {
            panic!("{error}");
        }
    }
}

#[test]
fn invalid_files_are_refused_for_the_reason_they_name() {
    let mut wrong = String::new();
    for path in files("invalid") {
        let text = fs::read_to_string(&path).unwrap();
        let expected: Vec<&str> = text.lines().map_while(|line| line.strip_prefix("# ")).collect();
        let said = match Config::parse(&text, &name(&path)) {
            Err(error @ ConfigError::Invalid(_)) => error.to_string(),
            other => format!("{other:?}"),
        };
        if said != expected.join("\n") {
            wrong.extend(["--- ", &name(&path), "\n", &said, "\n"]);
        }
    }
    assert!(wrong.is_empty(), "these said something else:\n{wrong}");
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load(Path::new("/nonexistent/maitred.toml")).unwrap_err();
    assert!(error.to_string().starts_with("/nonexistent/maitred.toml: "), "{error}");
}

#[test]
fn secrets_never_print() {
    let printed = format!("{:?}", all());
    for secret in ["argon2", "abc", "sms.example.com", "{phone}"] {
        assert!(!printed.contains(secret), "{secret} in {printed}");
    }
}

#[test]
fn providers_stay_in_their_order_and_one_needs_no_list() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/valid/providers.toml");
    let config = Config::load(&path).unwrap();
    let order: Vec<_> = config.sms.iter().map(Sms::provider).collect();
    let modems = ["modem"; 3];
    assert_eq!(order[..4], ["aliyun", "tencent", "twilio", "webhook"]);
    assert_eq!((&order[4..7], order[7]), (&modems[..], "spool"));
    let printed = format!("{config:?}");
    assert!(!printed.contains("hidden"), "{printed}");
    assert_eq!(all().sms.len(), 1);
}

#[test]
fn the_domain_gets_what_the_file_says() {
    let policy = all().policy();
    assert_eq!(policy.store_id, "cn-sh.0042");
    assert_eq!(policy.zone_named("cafe_2"), Some(ZoneId(1)));
    let zone = policy.zone(ZoneId(0)).unwrap();
    assert_eq!(zone.session_timeout, Duration::from_secs(16_200));
    assert_eq!(zone.preauth_idle_timeout, Duration::from_secs(90));
    assert_eq!(zone.limits.upload_rate, Some(500_000));
    assert_eq!(zone.limits.download_rate, Some(2_000_000));
    assert_eq!(zone.limits.upload_quota, Some(1_000_000_000));
    assert_eq!(zone.limits.download_quota, Some(1 << 30));
    assert_eq!(zone.limits.quota, Some(2_000_000_000));
    assert_eq!(zone.max_clients, 200);
    let code = &policy.code;
    assert_eq!((code.length, code.tries, code.lifetime.as_secs()), (4, 3, 600));
    assert_eq!((code.per_device_day, code.per_number_hour, code.per_number_day), (5, 3, 6));
    assert_eq!((code.per_prefix_day, code.per_store_day), (100, 2000));
    assert_eq!(code.resend_after, Duration::from_secs(90));
    assert_eq!(code.countries, ["86", "852", "1"]);
    assert_eq!(policy.follow_keys.len(), 1);
    assert_eq!(policy.visit.leave_after, Duration::from_secs(300));
    assert_eq!(policy.visit.merge_gap, Duration::from_secs(900));
    assert_eq!((policy.trusted_macs.len(), policy.blocked_macs.len()), (2, 1));
    assert_eq!(policy.remember_for, Duration::from_secs(30 * 86_400));
    assert!(policy.return_by_tap);
}

#[test]
fn what_is_unwise_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("maitred.toml");
    let config = all();
    for (mode, expected) in [(0o600, 0), (0o640, 0), (0o644, 1)] {
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(config.warnings(&path).len(), expected, "{mode:o}");
    }
    let mut mixed_up = config;
    mixed_up.hq.as_mut().unwrap().url = "http://hq.example.com/".into();
    let said = mixed_up.warnings(&path);
    assert!(said.iter().any(|said| said.starts_with("hq.url is http")), "{said:?}");
    let least = files("valid").into_iter().find(|path| name(path) == "least.toml").unwrap();
    let warnings = Config::load(&least).unwrap().warnings(&least);
    assert_eq!(warnings, ["neither [sms] nor follow.keys: no guest can get online"]);
}

proptest! {
    #[test]
    fn no_text_is_fatal(text in any::<String>()) {
        let _ = Config::parse(&text, "any");
    }

    #[test]
    fn no_file_bent_out_of_shape_is_fatal(at in 0..2000_usize, with in "[\\PC\n]{0,12}") {
        let text = fs::read_to_string(&files("valid")[0]).unwrap();
        let at = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap();
        let mut bent = text.clone();
        bent.insert_str(at, &with);
        let _ = Config::parse(&bent, "bent");
        let _ = Config::parse(&text[..at], "cut");
    }
}
