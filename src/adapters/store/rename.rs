//! What is kept under a pseudonym becomes the guest's, once HQ has said whose it is.

use rusqlite::{OptionalExtension, params};

use super::StoreError;
use super::book::Book;
use crate::domain::names::{GuestKey, Renamed};

/// What names guests, and what changes besides: who was here under several pseudonyms has all
/// visits counted, later ones behind earlier ones. Rows for HQ stay, as it knows who is meant.
const TABLES: [(&str, &str); 6] = [
    ("visit", "guest_nth = guest_nth + (SELECT base FROM renamed WHERE old = guest),"),
    ("session", ""),
    ("access_log", ""),
    ("consent", ""),
    ("device", ""),
    ("identity", ""),
];

impl Book {
    /// Gives guests other names, after those are forgotten who are nobody.
    pub(super) fn rename(&mut self, names: &Renamed) -> Result<(), StoreError> {
        let nobody = |(_, new): &(&GuestKey, &GuestKey)| **new == GuestKey::NOBODY;
        for (guest, _) in names.iter().filter(nobody) {
            self.forget(*guest)?;
        }
        self.connection.execute_batch(
            "CREATE TEMP TABLE IF NOT EXISTS renamed
                 (old BLOB PRIMARY KEY, new BLOB NOT NULL, base INTEGER NOT NULL) WITHOUT ROWID;
             DELETE FROM renamed;",
        )?;
        for (old, new) in names.iter().filter(|name| !nobody(name) && name.0 != name.1) {
            let base = self.merge(*old, *new)?;
            self.run(
                "INSERT INTO renamed (old, new, base) VALUES (?1, ?2, ?3)",
                params![old.0.as_slice(), new.0.as_slice(), base],
            )?;
        }
        // One walk of each table, however many names there are.
        for (table, besides) in TABLES {
            let sql = format!(
                "UPDATE OR IGNORE {table} SET {besides}
                     guest = (SELECT new FROM renamed WHERE old = guest)
                 WHERE guest IN (SELECT old FROM renamed)"
            );
            self.run(&sql, [])?;
        }
        // One sealed copy of a guest's identity is enough.
        self.run("DELETE FROM identity WHERE guest IN (SELECT old FROM renamed)", [])
    }

    /// Moves a guest's row into the other's; how many visits the other had before.
    fn merge(&self, old: GuestKey, new: GuestKey) -> Result<i64, StoreError> {
        let row = self
            .connection
            .prepare_cached("DELETE FROM guest WHERE key = ?1 RETURNING mask, visits, agreed")?
            .query_row([old.0.as_slice()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        let Some((mask, visits, agreed)): Option<(String, i64, Option<String>)> = row else {
            return Ok(0);
        };
        let all: i64 = self
            .connection
            .prepare_cached(
                "INSERT INTO guest (key, mask, visits, agreed) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (key) DO UPDATE SET visits = visits + excluded.visits,
                     mask = iif(excluded.mask = '', mask, excluded.mask),
                     agreed = coalesce(excluded.agreed, agreed)
                 RETURNING visits",
            )?
            .query_row(params![new.0.as_slice(), mask, visits, agreed], |row| row.get(0))?;
        Ok(all - visits)
    }
}
