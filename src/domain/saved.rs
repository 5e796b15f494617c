//! What a start finds: the record of the last run, and whom the kernel lets in.

use std::time::Duration;

use super::auth::voucher::{Known, SavedBatch};
use super::effect::{Attempt, Grant};
use super::names::{BootTime, GuestKey, Mac, Mark, SessionId, VisitId, WallTime, ZoneId};
use super::policy::Identity;

/// What the disk and the kernel still know of the time before this start.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The next free session number.
    pub next_session: u64,
    /// The next free visit number.
    pub next_visit: u64,
    /// Sessions without an end.
    pub sessions: Vec<SavedSession>,
    /// Visits without an end.
    pub visits: Vec<SavedVisit>,
    /// Devices whose guest is known: who and when last verified.
    pub guests: Vec<SavedGuest>,
    /// One-time numbers of follow tokens already used, with their expiry.
    pub used_tokens: Vec<([u8; 16], WallTime)>,
    /// Devices, newest first, as far as they are worth remembering.
    pub devices: Vec<SavedDevice>,
    /// Messages that still count towards the limits, oldest first.
    pub messages: Vec<SavedMessage>,
    /// Wrong vouchers and passes that still count, oldest first.
    pub attempts: Vec<SavedAttempt>,
    /// Batches of vouchers that may be used.
    pub vouchers: Vec<SavedBatch>,
    /// The newest batch of the store's own that there ever was; zero if none.
    pub last_batch: u32,
    /// All batches that HQ ever sent.
    pub batches_from_hq: Vec<(u32, Known)>,
}

/// A session as the kernel still holds it at the start.
#[derive(Clone, Debug)]
pub struct Live {
    /// Its number.
    pub session: SessionId,
    /// Where.
    pub zone: ZoneId,
    /// Which device.
    pub mac: Mac,
    /// The number its connections carry.
    pub mark: Mark,
    /// Time left; `None` has no end.
    pub left: Option<Duration>,
}

/// A session as read back from disk.
#[derive(Clone, Debug)]
pub struct SavedSession {
    /// The row as it was granted, with the time that is left, and usage as of the last checkpoint.
    pub grant: Grant,
    /// Who.
    pub identity: Identity,
    /// When it started; `None` if that was before this boot.
    pub started: Option<BootTime>,
    /// How often the guest has lengthened it.
    pub extended: u8,
}

/// A visit as read back from disk.
#[derive(Clone, Debug)]
pub struct SavedVisit {
    /// Its number.
    pub visit: VisitId,
    /// Where.
    pub zone: ZoneId,
    /// Which device.
    pub mac: Mac,
    /// Dwell gathered in earlier boots.
    pub carried: Duration,
    /// First and last evidence of this boot; `None` if all of it was before.
    pub seen: Option<(BootTime, BootTime)>,
}

/// A device and its guest.
#[derive(Clone, Debug)]
pub struct SavedGuest {
    /// The device.
    pub mac: Mac,
    /// Its guest.
    pub guest: GuestKey,
    /// What staff may see of the identity.
    pub mask: String,
    /// When the guest last proved it.
    pub verified: Option<WallTime>,
}

/// A message that was caused before this start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavedMessage {
    /// By which device.
    pub mac: Mac,
    /// To which number.
    pub number: GuestKey,
    /// Among which range of numbers.
    pub prefix: GuestKey,
    /// In which zone, if there still is that zone.
    pub zone: Option<ZoneId>,
    /// How long ago; zero if no clock can tell, so that a power cut gives nobody a new allowance.
    pub age: Duration,
}

/// What a device did before this start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavedAttempt {
    /// What.
    pub attempt: Attempt,
    /// Which device.
    pub mac: Mac,
    /// How long ago; zero if no clock can tell.
    pub age: Duration,
}

/// A device as read back from disk.
#[derive(Clone, Debug)]
pub struct SavedDevice {
    /// The device.
    pub mac: Mac,
    /// Where it was last.
    pub zone: ZoneId,
    /// The name it gave.
    pub hostname: Option<String>,
}
