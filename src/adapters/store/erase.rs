//! Forgetting a guest: whatever is kept of them beyond what the law asks.

use super::StoreError;
use super::book::Book;
use super::guests::SEALED;
use crate::domain::auth::seal::Sealed;
use crate::domain::names::{BootTime, GuestKey};

impl Book {
    /// Forgets a guest, and tells HQ, with the sealed name: it may not have heard of the key.
    pub(super) fn erase(&mut self, guest: GuestKey, at: BootTime) -> Result<(), StoreError> {
        let sealed: Option<Vec<u8>> = self
            .connection
            .prepare_cached(SEALED)?
            .query_row([guest.0.as_slice()], |row| row.get(0))?;
        let sealed = sealed.map(Sealed);
        self.forget(guest)?;
        self.tell_erased(guest, sealed.as_ref(), at)
    }

    /// Forgets who a guest is: consents, visits, devices and sessions are nobody's from now on, and
    /// so is what HQ has not been sent. The access log, and the sealed name of whom it names, stay
    /// for their time; figures stay as counted.
    pub(super) fn forget(&mut self, guest: GuestKey) -> Result<(), StoreError> {
        for sql in [
            "DELETE FROM consent WHERE guest = ?1",
            "UPDATE visit SET guest = NULL, guest_nth = NULL WHERE guest = ?1",
            "UPDATE device SET guest = NULL, boot = NULL, verified_ms = NULL, verified = NULL
             WHERE guest = ?1",
            "UPDATE session SET guest = NULL WHERE guest = ?1",
            "DELETE FROM guest WHERE key = ?1",
            "DELETE FROM identity WHERE guest = ?1
                 AND NOT EXISTS (SELECT 1 FROM access_log WHERE guest = ?1)",
        ] {
            self.run(sql, [guest.0.as_slice()])?;
        }
        self.outbox.erase(&self.connection, guest)
    }
}
