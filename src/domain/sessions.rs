//! All live sessions, and the numbers that their connections carry.

use std::collections::{BTreeMap, BTreeSet};

use super::names::{BootTime, GuestKey, Mark, Renamed, SessionId};
use super::policy::Identity;
use super::session::Session;

/// All live sessions.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    // Boxed: numbers only grow, which leaves half of a tree's slots empty.
    pub(super) live: BTreeMap<SessionId, Box<Session>>,
    marks: BTreeSet<Mark>,
    /// Whose they are, oldest first: the beginnings of guests' keys. Whole ones take twice the memory.
    of_guests: BTreeSet<(u32, SessionId)>,
    last_mark: u16,
    pub(super) next: u64,
    /// Counter readings asked for and answered.
    pub(super) asked: u32,
    pub(super) answered: u32,
    /// When the last reading came.
    pub(super) read: BootTime,
}

impl Sessions {
    /// None yet; numbers count from 1.
    pub(super) fn new() -> Self {
        Self { next: 1, ..Self::default() }
    }

    pub(super) fn insert(&mut self, session: Session) {
        self.marks.insert(session.grant.mark);
        if let Some(guest) = session.guest() {
            self.of_guests.insert((beginning(guest), session.grant.session));
        }
        self.live.insert(session.grant.session, Box::new(session));
    }

    pub(super) fn remove(&mut self, id: SessionId) -> Option<Session> {
        let session = *self.live.remove(&id)?;
        self.marks.remove(&session.grant.mark);
        if let Some(guest) = session.guest() {
            self.of_guests.remove(&(beginning(guest), id));
        }
        Some(session)
    }

    /// The guest whose session it is.
    pub(super) fn guest_of(&self, id: SessionId) -> Option<GuestKey> {
        self.live.get(&id)?.guest()
    }

    /// A guest's sessions, oldest first.
    pub(super) fn of_guest(&self, guest: GuestKey) -> impl Iterator<Item = SessionId> {
        let beginning = beginning(guest);
        let all = (beginning, SessionId(0))..=(beginning, SessionId(u64::MAX));
        let ids = self.of_guests.range(all).map(|(_, id)| *id);
        ids.filter(move |id| self.guest_of(*id) == Some(guest))
    }

    /// Gives guests other names.
    pub(super) fn rename_guests(&mut self, names: &Renamed) {
        let other = |session: &Session| names.get(&session.guest()?).copied();
        let live = self.live.iter();
        let theirs: Vec<_> = live.filter_map(|(id, live)| Some((*id, other(live)?))).collect();
        for (id, other) in theirs {
            self.give_to(id, Identity::Guest(other));
        }
    }

    /// It is somebody else's from now on.
    pub(super) fn give_to(&mut self, id: SessionId, identity: Identity) {
        let Some(session) = self.live.get_mut(&id) else { return };
        let before = session.guest();
        session.identity = identity;
        let after = session.guest();
        if let Some(guest) = before {
            self.of_guests.remove(&(beginning(guest), id));
        }
        if let Some(guest) = after {
            self.of_guests.insert((beginning(guest), id));
        }
    }

    /// A free mark, the one unused for longest; `None` if all are taken.
    pub(super) fn free_mark(&mut self) -> Option<Mark> {
        if self.marks.len() >= usize::from(Mark::MOST) {
            return None;
        }
        loop {
            self.last_mark = self.last_mark % Mark::MOST + 1;
            if !self.marks.contains(&Mark(self.last_mark)) {
                return Some(Mark(self.last_mark));
            }
        }
    }

    pub(super) fn is_free(&self, mark: Mark) -> bool {
        (1..=Mark::MOST).contains(&mark.0) && !self.marks.contains(&mark)
    }
}

/// The first bytes of a key, which is a hash.
fn beginning(guest: GuestKey) -> u32 {
    guest.0.first_chunk().copied().map_or(0, u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_unique_and_not_soon_used_again() {
        let mut sessions = Sessions::default();
        for expected in 1..=Mark::MOST {
            let mark = sessions.free_mark().unwrap();
            assert_eq!(mark.0, expected);
            sessions.marks.insert(mark);
        }
        assert_eq!(sessions.free_mark(), None);
        sessions.marks.remove(&Mark(7));
        assert!(
            sessions.is_free(Mark(7))
                && [8, 0, Mark::MOST + 1].iter().all(|mark| !sessions.is_free(Mark(*mark)))
        );
        assert_eq!(sessions.free_mark(), Some(Mark(7)));
    }
}
