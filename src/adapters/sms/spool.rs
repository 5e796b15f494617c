//! A file a message in a folder: for a modem daemon to fetch, and for tests.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;

use super::letter::Letter;
use crate::clock::Clock;

/// If nobody fetches them, the oldest messages go.
const FILES_MAX: usize = 1000;
/// So that names sort by age.
const NAME_DIGITS: usize = 10;

/// The folder. Files are named `0000000001.json` and so on, and appear complete.
#[derive(Debug)]
pub(super) struct Spool {
    dir: PathBuf,
    clock: Clock,
    next: AtomicU32,
}

impl Spool {
    /// Makes the folder (mode 0700) if it is missing and goes on after the last number in it.
    pub(super) fn open(dir: &Path, clock: Clock) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let last = numbers(dir)?.last().copied().unwrap_or(0);
        Ok(Self { dir: dir.to_owned(), clock, next: AtomicU32::new(last.wrapping_add(1)) })
    }

    /// Writes one message; when this returns, it has reached the disk.
    pub(super) fn write(&self, letter: &Letter) -> io::Result<()> {
        let waiting = numbers(&self.dir)?;
        let surplus = (waiting.len() + 1).saturating_sub(FILES_MAX);
        for number in &waiting[..surplus] {
            match fs::remove_file(self.file(*number)) {
                // Fetched just now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        let body = json!({
            "to": letter.to,
            "text": letter.text,
            "code": letter.code,
            "store": letter.store,
            "at": self.clock.now().wall.map(|at| at.0),
        });
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let draft = self.dir.join(".draft");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(body.to_string().as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, self.file(number))?;
        File::open(&self.dir)?.sync_all()
    }

    fn file(&self, number: u32) -> PathBuf {
        self.dir.join(format!("{number:0NAME_DIGITS$}.json"))
    }
}

/// The messages in the folder, oldest first.
fn numbers(dir: &Path) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_suffix(".json"));
        numbers.extend(
            digits.filter(|digits| digits.len() == NAME_DIGITS).and_then(|d| d.parse::<u32>().ok()),
        );
    }
    numbers.sort_unstable();
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::clock::Trust;

    fn letter(code: &str) -> Letter {
        Letter {
            to: "+8613800138000".into(),
            code: code.into(),
            text: format!("验证码 {code}"),
            store: "\"一号\"店".into(),
            minutes: "5".into(),
        }
    }

    #[test]
    fn a_message_is_one_private_file() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(&dir.path().join("new"), Clock::new(Trust::Always)).unwrap();
        spool.write(&letter("123456")).unwrap();
        let path = dir.path().join("new/0000000001.json");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let body: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(body["to"], "+8613800138000");
        assert_eq!(body["code"], "123456");
        assert_eq!(body["text"], "验证码 123456");
        assert_eq!(body["store"], "\"一号\"店");
        assert!(body["at"].as_i64().unwrap() > 1_700_000_000_000);
        assert_eq!(fs::read_dir(dir.path().join("new")).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn numbers_go_on_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(".draft"), "cut off").unwrap();
        fs::write(dir.path().join("notes.json"), "not ours").unwrap();
        for _ in 0..2 {
            let spool = Spool::open(dir.path(), Clock::new(Trust::Ntp)).unwrap();
            spool.write(&letter("1")).unwrap();
        }
        assert_eq!(numbers(dir.path()).unwrap(), [1, 2]);
    }

    #[test]
    fn the_oldest_go_when_nobody_fetches() {
        let dir = tempfile::tempdir().unwrap();
        for number in 1..=FILES_MAX + 5 {
            fs::write(dir.path().join(format!("{number:010}.json")), "{}").unwrap();
        }
        let spool = Spool::open(dir.path(), Clock::new(Trust::Ntp)).unwrap();
        spool.write(&letter("1")).unwrap();
        let left = numbers(dir.path()).unwrap();
        assert_eq!(left.len(), FILES_MAX);
        assert_eq!((left[0], left[FILES_MAX - 1]), (7, 1006));
    }

    #[test]
    fn a_folder_that_vanished_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("gone");
        let spool = Spool::open(&gone, Clock::new(Trust::Ntp)).unwrap();
        fs::remove_dir(&gone).unwrap();
        assert!(spool.write(&letter("1")).is_err());
    }
}
