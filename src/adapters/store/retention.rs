//! Nothing is kept beyond its term.

use rusqlite::params;

use super::StoreError;
use super::book::{Book, DAY, int, millis};
use crate::config::{Length, Retention};
use crate::domain::names::BootTime;

type Term = fn(&Retention) -> Length;

/// Each term and what it deletes. `?1` is its border in wall time, `?2` this boot, whose rows may
/// yet learn the time. A row of another boot that nobody knows the time of goes with its younger
/// neighbours. The newest visit and session stay: numbers count on from them.
const TERMS: [(Term, &str); 6] = [
    (
        |terms| terms.visits,
        "DELETE FROM visit WHERE dwell IS NOT NULL AND id < (SELECT max(id) FROM visit)
             AND (started + dwell < ?1 OR started IS NULL AND boot <> ?2
                 AND id < (SELECT min(id) FROM visit WHERE started >= ?1))",
    ),
    (
        |terms| terms.sessions,
        "DELETE FROM session WHERE reason IS NOT NULL AND id < (SELECT max(id) FROM session)
             AND (coalesce(ended, started) < ?1 OR started IS NULL AND boot <> ?2
                 AND id < (SELECT min(id) FROM session WHERE started >= ?1))",
    ),
    (
        |terms| terms.devices,
        "DELETE FROM device WHERE heard < ?1 / 86400000 AND ?2 NOT NULL
             AND mac NOT IN (SELECT mac FROM visit WHERE dwell IS NULL)",
    ),
    (
        |terms| terms.consents,
        "DELETE FROM consent WHERE (at < ?1 OR at IS NULL AND boot <> ?2
                 AND id < (SELECT min(id) FROM consent WHERE at >= ?1))
             AND guest NOT IN (SELECT guest FROM device WHERE guest IS NOT NULL)",
    ),
    (
        |terms| terms.voucher_uses,
        "DELETE FROM voucher_use WHERE session NOT IN (SELECT session FROM usage)
             AND (at < ?1 OR at IS NULL AND boot <> ?2
                 AND session < (SELECT min(session) FROM voucher_use WHERE at >= ?1))",
    ),
    (
        |terms| terms.access_log,
        "DELETE FROM access_log WHERE at < ?1 OR at IS NULL AND boot <> ?2
             AND id < (SELECT min(id) FROM access_log WHERE at >= ?1)",
    ),
];

/// What goes once nothing refers to it any more.
const LOOSE: [&str; 2] = [
    "DELETE FROM guest WHERE key NOT IN (
         SELECT guest FROM device WHERE guest IS NOT NULL
         UNION SELECT guest FROM visit WHERE guest IS NOT NULL
         UNION SELECT guest FROM consent)",
    "DELETE FROM identity WHERE guest NOT IN (
         SELECT key FROM guest UNION SELECT guest FROM access_log WHERE guest IS NOT NULL)",
];

impl Book {
    /// Deletes what has been kept for its time, once a day. Without a trusted clock there is no
    /// telling, and nothing goes.
    pub(super) fn keep_terms(&mut self, now: BootTime) -> Result<(), StoreError> {
        let now = self.boot.wall(int(now.0));
        let Some(now) = now.filter(|now| now - self.purged >= DAY) else { return Ok(()) };
        // Heard of while nobody knew the time: its term begins now.
        self.run("UPDATE device SET heard = ?1 WHERE heard IS NULL", [now / DAY])?;
        for (term, delete) in TERMS {
            let border = now - millis(term(&self.retention).0);
            self.run(delete, params![border, self.boot.row])?;
        }
        for delete in LOOSE {
            self.run(delete, [])?;
        }
        self.purged = now;
        Ok(())
    }
}
