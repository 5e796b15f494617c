//! The control socket: `maitred status` and its like ask the running daemon here. One request, one
//! answer, a line of JSON each, then the connection ends.

mod client;
mod lock;
mod server;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::auth::voucher::Which;
use crate::domain::names::{Mac, WallTime};
use crate::domain::policy::Overrides;

pub use client::{AskError, ask};
pub use lock::{Lock, LockError};
pub use server::{
    Changer, Counters, Notes, Pending, Recorder, Service, Services, bind, read, serve, service,
};

/// The protocol's version; a daemon and a client of different versions refuse each other.
pub const VERSION: u8 = 1;

/// A request's line may be this long, in bytes.
pub const REQUEST_MAX: usize = 64 * 1024;

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// [`VERSION`].
    pub version: u8,
    /// What for.
    pub ask: Ask,
}

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// Counts and states.
    Status {},
    /// Every device known.
    Clients {},
    /// Open the firewall for a device.
    Grant {
        /// The device.
        mac: Mac,
        /// The zone's name; the device's last known zone if unset.
        #[serde(default)]
        zone: Option<String>,
        /// How long; the zone's `session_timeout` if unset.
        #[serde(default)]
        seconds: Option<u64>,
        /// What differs from the zone's limits, or from the session's.
        #[serde(default)]
        limits: Overrides,
    },
    /// Change the limits of a device's sessions.
    Limit {
        /// The device.
        mac: Mac,
        /// What changes.
        limits: Overrides,
    },
    /// Put a device on a list, or take it off.
    List {
        /// Which.
        list: List,
        /// The device.
        mac: Mac,
        /// Off, not on.
        #[serde(default)]
        remove: bool,
    },
    /// Read the configuration again.
    Reload {},
    /// Close the firewall for a device.
    Revoke {
        /// The device.
        mac: Mac,
    },
    /// The adapters' counters.
    Stats {},
    /// What is kept of a guest.
    Guest {
        /// What to do.
        act: GuestAct,
        /// Of whom.
        who: Who,
    },
    /// A part of the access log.
    AccessLog {
        /// Wall milliseconds of its begin.
        from: i64,
        /// Of its end.
        to: i64,
        /// The last row that is known already.
        after: i64,
    },
    /// Run the sync with HQ now, and say how it ended.
    Sync {},
    /// Make a batch of vouchers; the answer is the only place where their codes are.
    MakeVouchers {
        /// How many.
        count: u16,
        /// Uses of each.
        uses: u16,
        /// A use lasts this long.
        seconds: u32,
        /// What differs from the zone's limits.
        #[serde(default)]
        limits: Overrides,
        /// Not good from then on.
        #[serde(default)]
        expires: Option<WallTime>,
        /// The name of the one zone where they are good.
        #[serde(default)]
        zone: Option<String>,
    },
    /// Every batch of vouchers that is of use.
    Vouchers {},
    /// Make vouchers worth nothing.
    RevokeVouchers(Which),
}

/// What is asked about a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuestAct {
    /// All that is kept.
    Show,
    /// Forget them.
    Erase,
}

/// A phone number or a guest key, as typed; does not print itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Who(pub String);

impl std::fmt::Debug for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Who(..)")
    }
}

/// A question about the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordAsk {
    /// See [`Ask::Guest`].
    Guest {
        /// What to do.
        act: GuestAct,
        /// Of whom.
        who: Who,
    },
    /// See [`Ask::AccessLog`].
    AccessLog {
        /// Wall milliseconds of its begin.
        from: i64,
        /// Of its end.
        to: i64,
        /// The last row that is known already.
        after: i64,
    },
}

/// The lists that can be changed while the daemon runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum List {
    /// Always online, never counted as visitors.
    Trusted,
    /// Never online.
    Blocked,
}

/// What changes the rules that the daemon goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// See [`Ask::Reload`].
    Reload,
    /// See [`Ask::List`].
    List(List, Mac, bool),
}

/// What the daemon answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Response {
    /// The answer; its shape depends on what was asked.
    Ok(Value),
    /// Why not.
    Error(String),
}

/// Where the socket is.
pub fn socket_path(run_dir: &Path) -> PathBuf {
    run_dir.join("control.sock")
}

#[cfg(test)]
mod tests;
