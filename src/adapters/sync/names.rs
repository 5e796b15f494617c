//! Whom HQ names in its answers.

use std::collections::BTreeMap;

use super::SyncError;
use crate::adapters::inbox::{Busy, Inbox};
use crate::adapters::store::Store;
use crate::domain::effect::{Answer, Report};
use crate::domain::event::{Command, Event};
use crate::domain::names::{GuestKey, Renamed};

/// Tells the domain, then the disk; done once that is durable.
pub(super) fn learn(
    guests: BTreeMap<GuestKey, Option<GuestKey>>,
    inbox: &Inbox,
    store: &Store,
) -> Result<(), SyncError> {
    let of_somebody = guests.into_iter().filter(|(old, _)| *old != GuestKey::NOBODY);
    let names: Renamed =
        of_somebody.map(|(old, new)| (old, new.unwrap_or(GuestKey::NOBODY))).collect();
    if names.is_empty() {
        return Ok(());
    }
    // First in memory, or the domain might name a pseudonym to the disk again.
    let command = Command::Rename(names.clone());
    match inbox.ask_and_wait(|request| Event::Control { request, command })? {
        Answer::Control(Report::Done) => Ok(store.rename(names)?),
        _ => Err(Busy.into()),
    }
}
