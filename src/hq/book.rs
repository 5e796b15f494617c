//! What the backend keeps: pushes for as long as they could come again, who has been given a link
//! to which store, and whom the gateways are to forget.

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::domain::names::{GuestKey, WallTime};

/// What went wrong with the database.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// `SQLite` refused.
    #[error("database: {0}")]
    Sql(#[from] rusqlite::Error),
    /// The file system refused.
    #[error("database files: {0}")]
    Files(#[from] std::io::Error),
}

/// Guests in one list of erasures.
const ERASURES: u32 = 100;

/// The database.
#[derive(Debug)]
pub(super) struct Book(Connection);

/// What is known of a push.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing.
    No,
    /// Its nonce came with other words.
    Forged,
    /// It came at `at`, and was answered with this text.
    Answered { at: WallTime, text: Option<String> },
}

impl Book {
    /// Opens or creates it.
    pub(super) fn open(state_dir: &Path) -> Result<Self, BookError> {
        DirBuilder::new().recursive(true).mode(0o700).create(state_dir)?;
        let path = state_dir.join("hq.db");
        let connection = Connection::open(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             CREATE TABLE IF NOT EXISTS push (
                 stamp INTEGER NOT NULL, -- seconds, WeChat's
                 nonce TEXT NOT NULL,
                 digest BLOB NOT NULL,
                 message BLOB NOT NULL,
                 text TEXT,              -- what was answered; NULL is nothing
                 at INTEGER NOT NULL,    -- milliseconds, ours
                 PRIMARY KEY (stamp, nonce)
             ) WITHOUT ROWID;
             CREATE INDEX IF NOT EXISTS push_message ON push (message);
             CREATE TABLE IF NOT EXISTS visitor (
                 guest BLOB NOT NULL, store TEXT NOT NULL, PRIMARY KEY (guest, store)
             ) WITHOUT ROWID;
             CREATE TABLE IF NOT EXISTS erasure (
                 id INTEGER PRIMARY KEY AUTOINCREMENT, store TEXT NOT NULL, guest BLOB NOT NULL
             );
             CREATE INDEX IF NOT EXISTS erasure_store ON erasure (store);",
        )?;
        Ok(Self(connection))
    }

    /// Looks a push up by its nonce.
    pub(super) fn pushed(
        &self,
        (stamp, nonce): (i64, &str),
        digest: &[u8; 32],
    ) -> Result<Known, BookError> {
        let row = self
            .0
            .prepare_cached("SELECT digest, text, at FROM push WHERE stamp = ?1 AND nonce = ?2")?
            .query_row(params![stamp, nonce], |row| {
                Ok((row.get::<_, [u8; 32]>(0)?, row.get(1)?, WallTime(row.get(2)?)))
            })
            .optional()?;
        Ok(match row {
            None => Known::No,
            Some((same, text, at)) if same == *digest => Known::Answered { at, text },
            Some(_) => Known::Forged,
        })
    }

    /// Looks a push up by what it brought.
    pub(super) fn answered(&self, message: &[u8; 32]) -> Result<Known, BookError> {
        let row = self
            .0
            .prepare_cached("SELECT text, at FROM push WHERE message = ?1 ORDER BY at LIMIT 1")?
            .query_row([message], |row| Ok((row.get(0)?, WallTime(row.get(1)?))))
            .optional()?;
        Ok(row.map_or(Known::No, |(text, at)| Known::Answered { at, text }))
    }

    /// Notes a push and its answer, and forgets those that came before `horizon`.
    pub(super) fn note(
        &self,
        (stamp, nonce): (i64, &str),
        (digest, message): (&[u8; 32], &[u8; 32]),
        text: Option<&str>,
        now: WallTime,
        horizon: WallTime,
    ) -> Result<(), BookError> {
        self.0.prepare_cached("DELETE FROM push WHERE at < ?1")?.execute([horizon.0])?;
        self.0
            .prepare_cached(
                "INSERT OR IGNORE INTO push (stamp, nonce, digest, message, text, at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![stamp, nonce, digest, message, text, now.0])?;
        Ok(())
    }

    /// A guest was given a link to a store.
    pub(super) fn visits(&self, guest: GuestKey, store: &str) -> Result<(), BookError> {
        self.0
            .prepare_cached("INSERT OR IGNORE INTO visitor (guest, store) VALUES (?1, ?2)")?
            .execute(params![guest.0, store])?;
        Ok(())
    }

    /// A guest is to be forgotten wherever they were.
    pub(super) fn forget(&mut self, guest: GuestKey) -> Result<(), BookError> {
        let all = self.0.transaction()?;
        all.execute(
            "INSERT INTO erasure (store, guest) SELECT store, guest FROM visitor WHERE guest = ?1",
            [guest.0],
        )?;
        all.execute("DELETE FROM visitor WHERE guest = ?1", [guest.0])?;
        all.commit()?;
        Ok(())
    }

    /// The guests that a store has to forget, without those that it is done with.
    pub(super) fn erasures(
        &self,
        store: &str,
        done: &[i64],
    ) -> Result<Vec<(i64, GuestKey)>, BookError> {
        let mut delete =
            self.0.prepare_cached("DELETE FROM erasure WHERE id = ?1 AND store = ?2")?;
        for id in done {
            delete.execute(params![id, store])?;
        }
        let mut select = self.0.prepare_cached(
            "SELECT id, guest FROM erasure WHERE store = ?1 ORDER BY id LIMIT ?2",
        )?;
        let rows = select
            .query_map(params![store, ERASURES], |row| Ok((row.get(0)?, GuestKey(row.get(1)?))))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
