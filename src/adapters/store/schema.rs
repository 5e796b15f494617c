//! Opening the database: its settings, its versions, and what to do with a damaged one.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::StoreError;

/// One step a version; a database of version n has taken the first n.
const MIGRATIONS: &[&str] = &[
    include_str!("schema.sql"),
    include_str!("messages.sql"),
    include_str!("vouchers.sql"),
    include_str!("privacy.sql"),
    include_str!("remembered.sql"),
    include_str!("alive.sql"),
];

/// Opens the database for writing, brought to the newest version. A damaged one is set aside and
/// a new one begun; one of a newer version is refused.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    match open_once(path) {
        Err(StoreError::Sql(error)) if is_damage(&error) => {
            set_aside(path)?;
            open_once(path)
        }
        // No room for the file that readers share, which `SQLite` calls an I/O error.
        Err(StoreError::Sql(error))
            if error.sqlite_error().is_some_and(|error| {
                error.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE
            }) =>
        {
            Err(StoreError::Files(io::ErrorKind::StorageFull.into()))
        }
        opened => opened,
    }
}

/// A connection that only reads. It is meant to live as long as one question.
pub(super) fn open_read_only(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.execute_batch(
        "PRAGMA query_only = ON; PRAGMA cache_size = -512; PRAGMA temp_store = MEMORY;",
    )?;
    Ok(connection)
}

/// The file itself is damaged, or is no database.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Moves a damaged database out of the way, under a name that is still free, and says so.
pub(super) fn set_aside(path: &Path) -> Result<(), StoreError> {
    let free = (1..1000).find(|number| !with_suffix(path, &format!(".damaged-{number}")).exists());
    let aside = with_suffix(path, &format!(".damaged-{}", free.unwrap_or(1000)));
    std::fs::rename(path, &aside).map_err(StoreError::Files)?;
    for suffix in ["-wal", "-shm"] {
        match std::fs::rename(with_suffix(path, suffix), with_suffix(&aside, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::Files(error));
            }
            _ => {}
        }
    }
    tracing::error!(aside = %aside.display(), "the database is damaged: set aside, begun anew");
    Ok(())
}

/// Makes the folder of the database, open to its owner alone.
pub(super) fn make_folder(path: &Path) -> io::Result<()> {
    let Some(folder) = path.parent() else { return Ok(()) };
    if folder.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn open_once(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    // SQLite gives its -wal and -shm files the mode of the database.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .map_err(StoreError::Files)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(48);
    // Small pages: most changes touch one row on a page of its own. A full sync is affordable
    // because the journal in front makes commits rare.
    connection.execute_batch(
        "PRAGMA page_size = 1024; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         PRAGMA cache_size = -768; PRAGMA temp_store = MEMORY;
         PRAGMA journal_size_limit = 2097152; PRAGMA wal_autocheckpoint = 2000;
         PRAGMA secure_delete = FAST;",
    )?;
    migrate(&mut connection, MIGRATIONS)?;
    Ok(connection)
}

/// Takes the steps that the database has not taken, each in a transaction of its own.
fn migrate(connection: &mut Connection, steps: &[&str]) -> Result<(), StoreError> {
    let newest = i64::try_from(steps.len()).unwrap_or(i64::MAX);
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if !(0..=newest).contains(&found) {
        return Err(StoreError::Newer { found, newest });
    }
    for (step, version) in steps.iter().zip(1..).skip_while(|(_, version)| *version <= found) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(connection: &Connection) -> i64 {
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    }

    #[test]
    fn a_step_that_fails_leaves_the_version_before_it() {
        let mut connection = Connection::open_in_memory().unwrap();
        let steps = ["CREATE TABLE a (x)", "CREATE TABLE b (x); INSERT INTO nowhere VALUES (1)"];
        assert!(migrate(&mut connection, &steps).is_err());
        assert_eq!(version(&connection), 1);
        let tables: i64 = connection
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .unwrap();
        assert_eq!(tables, 1, "nothing of the failed step stands");
        migrate(&mut connection, &["CREATE TABLE a (x)", "CREATE TABLE b (x)"]).unwrap();
        assert_eq!(version(&connection), 2);
    }

    #[test]
    fn sessions_of_version_5_keep_what_was_left() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, &MIGRATIONS[..5]).unwrap();
        // The first boot was alive at 7000 when it wrote of session 2; the last knew one without end.
        connection
            .execute_batch(
                "INSERT INTO boot VALUES (1, 'a', 50), (2, 'b', NULL), (3, 'c', NULL);
                 INSERT INTO usage (session, up, down, left_ms, boot, ends_ms, extended) VALUES
                     (1, 5, 6, 4000, 1, 9000, 0), (2, 7, 8, 1000, 1, 8000, 2),
                     (3, 0, 0, 600, 2, 900, 0), (4, 0, 0, NULL, 3, NULL, 0);",
            )
            .unwrap();
        migrate(&mut connection, MIGRATIONS).unwrap();
        let one = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
        assert_eq!(one("SELECT group_concat(alive_ms) FROM boot"), "7000,300,0");
        let left = "SELECT group_concat(session || ':' || coalesce(ends_ms - alive_ms, 'no end'))
                    FROM usage JOIN boot ON boot.id = usage.boot";
        assert_eq!(one(left), "1:2000,2:1000,3:600,4:no end");
        assert_eq!(one("SELECT group_concat(up + down + extended) FROM usage"), "11,17,0,0");
    }

    #[test]
    fn only_the_owner_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/store.db");
        make_folder(&path).unwrap();
        let connection = open(&path).unwrap();
        connection.execute_batch("INSERT INTO meta VALUES ('a', 1)").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        for suffix in ["", "-wal", "-shm"] {
            assert_eq!(mode(&with_suffix(&path, suffix)), 0o600, "{suffix}");
        }
    }
}
