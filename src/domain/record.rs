//! What is written down.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::auth::seal::Sealed;
use super::auth::voucher::{Batch, Hash, Salt, Which};
use super::effect::Grant;
use super::event::Consent;
use super::names::{BootTime, GuestKey, Mac, SessionId, VisitId, WallTime, ZoneId};
use super::policy::{Identity, Limits};
use super::reason::{EndReason, Method};

/// What a device may do only so often, and no oftener because the router was started anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attempt {
    /// It tried a voucher that was not good.
    WrongVoucher,
    /// It had a pass to the app's garden.
    Pass,
}

impl Attempt {
    /// It counts for this long.
    pub const fn counts_for(self) -> Duration {
        match self {
            Self::WrongVoucher => Duration::from_mins(10),
            Self::Pass => Duration::from_hours(24),
        }
    }
}

/// A row for the disk. Times are of this boot's clock; the store adds the boot's id, and wall
/// time once that is known.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// A device was seen for the first time or its name or address changed.
    Device {
        /// The device.
        mac: Mac,
        /// Where.
        zone: ZoneId,
        /// The name it gave.
        hostname: Option<String>,
        /// When.
        at: BootTime,
    },
    /// A guest proved an identity on a device.
    Verified {
        /// Who.
        guest: GuestKey,
        /// On which device.
        mac: Mac,
        /// What staff may see of the identity.
        mask: String,
        /// The identity, for HQ alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sealed: Option<Sealed>,
        /// What the guest agreed to.
        consent: Consent,
        /// How.
        method: Method,
        /// When.
        at: BootTime,
    },
    /// A session begins. Committed at once; answered by `Stored` or `StoreFailed`.
    SessionStarted {
        /// The grant as made.
        grant: Grant,
        /// Who.
        identity: Identity,
        /// How.
        method: Method,
        /// The device's address, for the access log.
        address: Option<IpAddr>,
        /// How often the guest had lengthened the one that it follows on.
        #[serde(default)]
        extended: u8,
        /// The version of the terms that whoever used a voucher agreed to; of others `Verified` has
        /// it.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        terms: String,
        /// When.
        at: BootTime,
    },
    /// A session's counters, as of now.
    SessionUsed {
        /// Whose.
        session: SessionId,
        /// Bytes up.
        up: u64,
        /// Bytes down.
        down: u64,
        /// Time left.
        left: Option<Duration>,
    },
    /// A session is over.
    SessionEnded {
        /// Which.
        session: SessionId,
        /// Why.
        reason: EndReason,
        /// Bytes up.
        up: u64,
        /// Bytes down.
        down: u64,
        /// When.
        at: BootTime,
    },
    /// A stay begins.
    VisitOpened {
        /// Its number.
        visit: VisitId,
        /// Where.
        zone: ZoneId,
        /// Which device.
        mac: Mac,
        /// Its guest, where known.
        guest: Option<GuestKey>,
        /// First evidence.
        at: BootTime,
    },
    /// A stay's guest became known.
    VisitGuest {
        /// Which.
        visit: VisitId,
        /// Who.
        guest: GuestKey,
    },
    /// A stay goes on: a checkpoint for the next start.
    VisitSeen {
        /// Which.
        visit: VisitId,
        /// Dwell so far.
        dwell: Duration,
        /// Last evidence.
        last: BootTime,
    },
    /// A stay is over.
    VisitClosed {
        /// Which.
        visit: VisitId,
        /// Last evidence − first evidence.
        dwell: Duration,
        /// Last evidence; the boot's start if that was in an earlier boot.
        last: BootTime,
    },
    /// A session goes on with other rights. Committed at once, with what came before.
    SessionChanged {
        /// Which.
        session: SessionId,
        /// Who, from now on.
        identity: Identity,
        /// What it may use in all.
        limits: Limits,
        /// How often the guest has lengthened it.
        #[serde(default)]
        extended: u8,
    },
    /// A message was caused, which counts towards the limits for a day.
    MessageCounted {
        /// By which device.
        mac: Mac,
        /// To which number.
        number: GuestKey,
        /// Among which range of numbers.
        prefix: GuestKey,
        /// In which zone.
        #[serde(default)]
        zone: ZoneId,
        /// When.
        at: BootTime,
    },
    /// A device did what it may do only so often.
    Attempted {
        /// What.
        attempt: Attempt,
        /// Which device.
        mac: Mac,
        /// When.
        at: BootTime,
    },
    /// Too few codes come back, or enough again.
    Alarm {
        /// It begins, or ends.
        begins: bool,
        /// Messages looked at.
        sent: u32,
        /// Those whose codes were accepted.
        accepted: u32,
        /// When.
        at: BootTime,
    },
    /// Vouchers were made.
    VouchersMade {
        /// What they are.
        batch: Batch,
        /// What their codes are hashed with, if HQ made them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        salt: Option<Salt>,
        /// Their hashes, by number.
        hashes: Vec<Hash>,
        /// When.
        at: BootTime,
    },
    /// Vouchers are worth nothing from now on.
    VouchersRevoked(Which),
    /// A follow token was used, and must never be good again.
    TokenUsed {
        /// Its one-time number.
        nonce: [u8; 16],
        /// When it would have expired.
        expires: WallTime,
    },
}
