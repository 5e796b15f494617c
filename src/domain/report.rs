//! What the domain tells the control socket.

use std::net::IpAddr;

use serde::Serialize;

use super::effect::Code;
use super::names::{Mac, WallTime};
use super::policy::Overrides;

/// What the control socket gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// To `status`.
    Status(Status),
    /// To `clients`.
    Clients(Vec<ClientRow>),
    /// To `voucher new`: the batch's number and its codes, in order.
    Made(u32, Vec<Code>),
    /// To `voucher list`.
    Vouchers(Vec<BatchRow>),
    /// A change was made.
    Done,
    /// A change could not be made.
    Refused(String),
}

/// The state of the house, in counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Devices known.
    pub devices: usize,
    /// Granted now.
    pub online: usize,
    /// Visits open now.
    pub visits: usize,
    /// Codes sent since the start.
    pub codes_sent: u32,
    /// Codes accepted since the start.
    pub codes_accepted: u32,
    /// Whether too few codes come back: somebody may pump messages.
    pub alarm: bool,
    /// Whether wall time is trusted.
    pub clock_trusted: bool,
    /// Times the table was rebuilt since the start.
    pub rebuilds: u32,
    /// Times a device that is online was heard on another port of its bridge, or found to be in two
    /// zones at once, since the start.
    pub moves: u32,
}

/// One device, for `clients`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClientRow {
    /// The device.
    pub mac: Mac,
    /// The zone's name.
    pub zone: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The name it gave.
    pub hostname: Option<String>,
    /// `new`, `code`, `pass`, `online`, `trusted` or `blocked`.
    pub state: &'static str,
    /// The guest's mask, where known.
    pub guest: Option<String>,
    /// Seconds left of the session, or of the pass.
    pub seconds_left: Option<u64>,
    /// Bytes up.
    pub up: u64,
    /// Bytes down.
    pub down: u64,
    /// Seconds of the visit so far.
    pub dwell: Option<u64>,
}

/// One batch of vouchers, for `voucher list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BatchRow {
    /// Its number.
    pub batch: u32,
    /// HQ made it: the number is HQ's.
    pub hq: bool,
    /// Vouchers in it.
    pub count: u16,
    /// Uses of each.
    pub uses: u16,
    /// Seconds of a use.
    pub seconds: u64,
    /// What differs from the zone's limits.
    pub limits: Overrides,
    /// The zone's name, if they are good in one alone.
    pub zone: Option<String>,
    /// When they end to be good.
    pub expires: Option<WallTime>,
    /// Uses of all of them so far.
    pub used: u32,
    /// Revoked as a whole, since the start.
    pub revoked: bool,
}
