//! What a guest may ask of the record: all that is kept of them, and to be forgotten.

use tokio::task::spawn_blocking;

use super::inbox::Inbox;
use super::store::{GuestFile, Store, StoreError};
use crate::domain::effect::{Answer, Report};
use crate::domain::event::{Command, Event};
use crate::domain::names::GuestKey;

/// Why the record did not answer.
#[derive(Debug, thiserror::Error)]
pub enum GuestsError {
    /// The record cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The gateway is too busy, or stops.
    #[error("the gateway is too busy")]
    Busy,
}

/// A handle to the record and to the domain; cheap to clone.
#[derive(Clone, Debug)]
pub struct Guests {
    store: Store,
    inbox: Inbox,
}

impl Guests {
    /// A handle.
    pub const fn new(store: Store, inbox: Inbox) -> Self {
        Self { store, inbox }
    }

    /// All that is kept of a guest.
    pub async fn file(&self, guest: GuestKey) -> Result<GuestFile, GuestsError> {
        let reader = self.store.reader();
        Ok(spawn_blocking(move || reader.guest(guest)).await.map_err(|_| GuestsError::Busy)??)
    }

    /// The guests whom staff see by a mask.
    pub async fn masked(&self, mask: String) -> Result<Vec<GuestKey>, GuestsError> {
        let reader = self.store.reader();
        Ok(spawn_blocking(move || reader.masked(&mask)).await.map_err(|_| GuestsError::Busy)??)
    }

    /// Forgets a guest, but for the access log; done once it is durable.
    pub async fn erase(&self, guest: GuestKey) -> Result<(), GuestsError> {
        // First in memory, or the domain might name the guest to the disk again.
        let command = Command::Erase { guest };
        match self.inbox.ask(|request| Event::Control { request, command }).await {
            Ok(Answer::Control(Report::Done)) => {}
            _ => return Err(GuestsError::Busy),
        }
        let store = self.store.clone();
        Ok(spawn_blocking(move || store.erase(guest)).await.map_err(|_| GuestsError::Busy)??)
    }

    /// The record itself.
    pub const fn store(&self) -> &Store {
        &self.store
    }
}
