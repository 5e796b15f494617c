//! What the domain wants done. It never does any of it, and sees only outcomes, as events.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::event::Language;
use super::names::{GuestKey, Mac, Mark, Phone, RequestId, SessionId, ZoneId};
use super::policy::Limits;

pub use super::reason::{EndReason, Method};
pub use super::record::{Attempt, Record};
pub use super::report::{BatchRow, ClientRow, Report, Status};

/// Something to be done.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Change the kernel's table.
    Firewall(Firewall),
    /// Write to disk, in the order of the effects.
    Store(Record),
    /// Send a one-time code.
    Sms(Message),
    /// Answer a question.
    Reply {
        /// Whose question.
        request: RequestId,
        /// The answer.
        answer: Answer,
    },
    /// Ask a silent device whether it is there (unicast ARP or neighbour solicitation).
    Solicit {
        /// Where.
        zone: ZoneId,
        /// Whom.
        mac: Mac,
        /// Its last known addresses.
        addresses: Vec<IpAddr>,
    },
}

/// What the firewall is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Firewall {
    /// Open for a device; answered by `Granted` or `GrantFailed`.
    Grant(Grant),
    /// Change what stands for a session, keeping what it has used; cuts nothing. Answered as
    /// `Grant` is.
    Replace(Grant),
    /// Close for a device and cut its connections.
    Revoke(Grant),
    /// Replace the whole table by one that holds exactly these grants.
    Rebuild(Vec<Grant>),
    /// Read every session's counters; answered by `Usage`.
    ReadUsage,
    /// Open the app's garden to a device for a while; answered by `Passed`.
    Pass(Pass),
    /// Keep these devices, and no others, out of every garden.
    Block(BTreeSet<Mac>),
}

/// One device's way to the app's garden, and to nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    /// The zone it is good in.
    pub zone: ZoneId,
    /// The device.
    pub mac: Mac,
    /// Time left.
    pub left: Duration,
}

/// One device's opening in the firewall: all that the kernel needs to know of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The session.
    pub session: SessionId,
    /// The zone it is good in.
    pub zone: ZoneId,
    /// The device.
    pub mac: Mac,
    /// The number its connections carry.
    pub mark: Mark,
    /// Time left; `None` has no end.
    pub left: Option<Duration>,
    /// What it may use in all.
    pub limits: Limits,
    /// Bytes it has used of that, up.
    pub used_up: u64,
    /// Bytes it has used of that, down.
    pub used_down: u64,
}

/// A one-time code on its way.
#[derive(Clone, Debug)]
pub struct Message {
    /// The device that asked.
    pub mac: Mac,
    /// Which message of the domain's count.
    pub message: u32,
    /// Where to.
    pub phone: Phone,
    /// The digits.
    pub code: Code,
    /// The catalogue of the text.
    pub language: Language,
}

/// A code in clear; does not print itself.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Code(pub String);

impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Code(..)")
    }
}

/// An answer to a question.
#[derive(Clone, Debug)]
pub enum Answer {
    /// To a guest's browser.
    Portal(View),
    /// To the control socket.
    Control(Report),
}

/// The step a device is at: one page each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum View {
    /// Ask for a phone number.
    Phone {
        /// What was wrong with the last try.
        refusal: Option<Refusal>,
    },
    /// Known from an earlier verification: one tap, and online.
    Return,
    /// Ask for the code.
    Code {
        /// Where it went, masked.
        mask: String,
        /// How many digits it has.
        digits: u8,
        /// Until another may be asked for.
        resend_in: Duration,
        /// What was wrong with the last try.
        refusal: Option<Refusal>,
    },
    /// Wait for a follow of the store's account.
    Follow {
        /// What is left of the temporary pass.
        pass: Option<Duration>,
        /// What was wrong with the last link, or kept the pass shut.
        refusal: Option<Refusal>,
    },
    /// Online.
    Online {
        /// Time left; `None` has no end.
        left: Option<Duration>,
        /// Bytes up and down so far.
        used: (u64, u64),
        /// Bytes left of the quota, if there is one.
        quota_left: Option<u64>,
        /// Whether the guest may lengthen the session.
        extend: bool,
        /// The guest's devices that are online, oldest first, if there are others than this one.
        devices: Vec<OwnDevice>,
    },
    /// A session is over, and why.
    Ended {
        /// Why.
        reason: EndReason,
        /// Whether the guest may lengthen it even now.
        extend: bool,
    },
    /// Online, as this guest: whom the data on the page is of.
    Mine {
        /// Who.
        guest: GuestKey,
    },
    /// On the blocked list.
    Blocked,
}

/// A device of the guest who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnDevice {
    /// Its session.
    pub session: SessionId,
    /// The name it gave.
    pub name: Option<String>,
    /// How long it has been online, if that began since the boot.
    pub online_for: Option<Duration>,
    /// It is the one that asks.
    pub here: bool,
}

/// Why a guest's request was not met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not a phone number.
    BadPhone,
    /// A country that the store sends no codes to.
    Country,
    /// Asked again too soon.
    TooSoon {
        /// Try again after.
        wait: Duration,
    },
    /// A limit of messages is reached.
    TooMany,
    /// No provider took the message.
    NotSent,
    /// Not the code.
    WrongCode {
        /// Tries left.
        left: u8,
    },
    /// The code's lifetime is over, or there is none.
    CodeExpired,
    /// Too many wrong tries; a new code is needed.
    CodeDead,
    /// Not a token, or not signed by a key that we hold.
    BadToken,
    /// The token's time is over.
    TokenExpired,
    /// The token was used before.
    TokenUsed,
    /// The token was made for another device or store.
    TokenElsewhere,
    /// The wall clock is not known to be right, and the token needs it.
    ClockUntrusted,
    /// `max_clients` devices are online.
    Full,
    /// The session could not be opened just now.
    Failed,
    /// The terms were not agreed to.
    NoConsent,
    /// The device, or the store, had its passes of the day.
    NoPass,
    /// No voucher that is good here and now.
    BadVoucher,
    /// Too many wrong vouchers, from the device or in the store.
    TooManyGuesses,
}
