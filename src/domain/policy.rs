//! What the store's owner decided, as plain data: limits, time-outs, lists. Built by `config`.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::names::{GuestKey, Mac, ZoneId};

/// Everything the domain is told by the configuration. Zones are indexed by [`ZoneId`].
#[derive(Clone, Debug)]
pub struct Policy {
    /// The store's id at HQ.
    pub store_id: String,
    /// The guest networks; at least one, at most 32.
    pub zones: Vec<ZonePolicy>,
    /// How codes are made and how often they may be asked for.
    pub code: CodePolicy,
    /// Public halves of the keys that sign follow tokens; two during a rotation.
    pub follow_keys: Vec<[u8; 32]>,
    /// When a visit ends and what counts as one.
    pub visit: VisitPolicy,
    /// Always online, never counted as visitors: store devices, staff phones.
    pub trusted_macs: BTreeSet<Mac>,
    /// Never online.
    pub blocked_macs: BTreeSet<Mac>,
    /// A device whose guest verified within this time gets back online without a code; zero: never.
    pub remember_for: Duration,
    /// Such a device is asked for one tap first.
    pub return_by_tap: bool,
}

/// One guest network's rules, in openNDS's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZonePolicy {
    /// The zone's name, as rows on disk carry it.
    pub name: String,
    /// A grant ends after this long.
    pub session_timeout: Duration,
    /// A grant ends after this long without traffic.
    pub idle_timeout: Duration,
    /// A device that never logs in is forgotten after this long without evidence.
    pub preauth_idle_timeout: Duration,
    /// What a session may use unless it is given other limits.
    pub limits: Limits,
    /// Granted devices at once; further ones are told that the store is full.
    pub max_clients: usize,
}

/// What one session may use. `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes a second from the guest.
    pub upload_rate: Option<u64>,
    /// Bytes a second to the guest.
    pub download_rate: Option<u64>,
    /// Bytes from the guest.
    pub upload_quota: Option<u64>,
    /// Bytes to the guest.
    pub download_quota: Option<u64>,
    /// Bytes both ways together, IPv4 and IPv6 as one.
    pub quota: Option<u64>,
}

/// One-time codes and their limits.
#[derive(Clone, Debug)]
pub struct CodePolicy {
    /// Digits, 4 to 6.
    pub length: u8,
    /// A code is good for this long.
    pub lifetime: Duration,
    /// Wrong tries before a code is dead.
    pub tries: u8,
    /// A device waits this long before it may ask again.
    pub resend_after: Duration,
    /// Messages a device, a number, a range of numbers (all but the last four digits) and the
    /// store may cause in a day; a number also per hour.
    pub per_device_day: u32,
    /// See [`Self::per_device_day`].
    pub per_number_hour: u32,
    /// See [`Self::per_device_day`].
    pub per_number_day: u32,
    /// See [`Self::per_device_day`].
    pub per_prefix_day: u32,
    /// See [`Self::per_device_day`].
    pub per_store_day: u32,
    /// Country codes that messages may go to; the first is assumed for a number without one.
    pub countries: Vec<String>,
}

/// Visits: what counts as presence, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VisitPolicy {
    /// Without evidence for this long a visit is closed, at its last evidence.
    pub leave_after: Duration,
    /// A gap shorter than this continues the same visit.
    pub merge_gap: Duration,
}

/// What was granted and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Identity {
    /// A guest who proved a phone number or an account.
    Guest(GuestKey),
    /// A device on the trusted list.
    Trusted,
    /// A clerk or engineer, by `maitred grant`.
    Staff,
}

impl Policy {
    /// The rules of one zone. `None` if the configuration no longer has it.
    pub fn zone(&self, zone: ZoneId) -> Option<&ZonePolicy> {
        self.zones.get(usize::from(zone.0))
    }

    /// Finds a zone by the name that rows on disk carry.
    pub fn zone_named(&self, name: &str) -> Option<ZoneId> {
        let place = self.zones.iter().position(|zone| zone.name == name)?;
        u8::try_from(place).ok().map(ZoneId)
    }
}
