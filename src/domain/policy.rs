//! What the store's owner decided, as plain data: limits, time-outs, lists. Built by `config`.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::auth::voucher::VoucherId;
use super::names::{GuestKey, Mac, ZoneId};

/// Everything the domain is told by the configuration. Zones are indexed by [`ZoneId`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The store's id at HQ.
    pub store_id: String,
    /// The guest networks; at least one, at most 32.
    pub zones: Vec<ZonePolicy>,
    /// How codes are made and how often they may be asked for.
    pub code: CodePolicy,
    /// Public halves of the keys that sign follow tokens; two during a rotation.
    pub follow_keys: Vec<[u8; 32]>,
    /// HQ's public key (X25519), to which identities are sealed; nothing is if `None`.
    pub seal_key: Option<[u8; 32]>,
    /// The pass for the app in which a guest follows the store's account, if there is one.
    pub pass: Option<PassPolicy>,
    /// When a visit ends and what counts as one.
    pub visit: VisitPolicy,
    /// Always online, never counted as visitors: store devices, staff phones.
    pub trusted_macs: BTreeSet<Mac>,
    /// Never online.
    pub blocked_macs: BTreeSet<Mac>,
    /// Online as soon as they are seen, with their zone's limits, and counted as visitors: those
    /// that HQ knows.
    pub preemptive_macs: BTreeSet<Mac>,
    /// A device whose guest verified within this time gets back online without a code; zero: never.
    pub remember_for: Duration,
    /// Such a device is asked for one tap first.
    pub return_by_tap: bool,
    /// Devices that a guest may have online at once, 1 or more.
    pub max_devices: usize,
    /// Vouchers are taken.
    pub vouchers: bool,
}

/// One guest network's rules, in openNDS's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZonePolicy {
    /// The zone's name, as rows on disk carry it.
    pub name: String,
    /// A grant ends after this long.
    pub session_timeout: Duration,
    /// A guest may lengthen a session this many times, by `session_timeout` each.
    pub extend: u8,
    /// A grant ends after this long without traffic.
    pub idle_timeout: Duration,
    /// A device that never logs in is forgotten after this long without evidence.
    pub preauth_idle_timeout: Duration,
    /// What a session may use unless it is given other limits.
    pub limits: Limits,
    /// Granted devices at once; further ones are told that the store is full.
    pub max_clients: usize,
    /// A device that is granted here is granted in every zone that roams.
    pub roam: bool,
    /// A session ends when its device is heard on another port of the bridge, or in two zones at
    /// once.
    pub cut_on_move: bool,
}

/// What one session may use. `None` is no limit, and left out of the record: every session has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Bytes a second from the guest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload_rate: Option<u64>,
    /// Bytes a second to the guest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub download_rate: Option<u64>,
    /// Bytes from the guest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload_quota: Option<u64>,
    /// Bytes to the guest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub download_quota: Option<u64>,
    /// Bytes both ways together, IPv4 and IPv6 as one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<u64>,
}

/// Changes to a session's [`Limits`]: `None` leaves one as it is, zero lifts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Overrides {
    /// See [`Limits::upload_rate`].
    pub upload_rate: Option<u64>,
    /// See [`Limits::download_rate`].
    pub download_rate: Option<u64>,
    /// See [`Limits::upload_quota`].
    pub upload_quota: Option<u64>,
    /// See [`Limits::download_quota`].
    pub download_quota: Option<u64>,
    /// See [`Limits::quota`].
    pub quota: Option<u64>,
}

impl Limits {
    /// No limit at all.
    pub const NONE: Self = Self {
        upload_rate: None,
        download_rate: None,
        upload_quota: None,
        download_quota: None,
        quota: None,
    };

    /// These limits with some changed.
    #[must_use]
    pub fn with(self, changes: &Overrides) -> Self {
        let pick = |old: Option<u64>, new: Option<u64>| match new {
            None => old,
            Some(0) => None,
            Some(limit) => Some(limit),
        };
        Self {
            upload_rate: pick(self.upload_rate, changes.upload_rate),
            download_rate: pick(self.download_rate, changes.download_rate),
            upload_quota: pick(self.upload_quota, changes.upload_quota),
            download_quota: pick(self.download_quota, changes.download_quota),
            quota: pick(self.quota, changes.quota),
        }
    }
}

/// One-time codes and their limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodePolicy {
    /// Digits, 4 to 6.
    pub length: u8,
    /// A code is good for this long.
    pub lifetime: Duration,
    /// Wrong tries before a code is dead.
    pub tries: u8,
    /// A device waits this long before it may ask again.
    pub resend_after: Duration,
    /// Messages a device, a number, a range of numbers (all but the last four digits), a zone
    /// and the store may cause in a day; a number also per hour.
    pub per_device_day: u32,
    /// See [`Self::per_device_day`].
    pub per_number_hour: u32,
    /// See [`Self::per_device_day`].
    pub per_number_day: u32,
    /// See [`Self::per_device_day`].
    pub per_prefix_day: u32,
    /// See [`Self::per_device_day`].
    pub per_zone_day: u32,
    /// See [`Self::per_device_day`].
    pub per_store_day: u32,
    /// Country codes that messages may go to; the first is assumed for a number without one.
    pub countries: Vec<String>,
    /// When too few codes come back.
    pub alarm: AlarmPolicy,
}

/// The alarm for messages whose codes nobody types in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlarmPolicy {
    /// Messages of this time are looked at.
    pub window: Duration,
    /// With fewer there is no alarm.
    pub at_least: u32,
    /// Below this share of accepted codes, 0 to 100, there is.
    pub percent: u8,
    /// What follows.
    pub then: OnAlarm,
}

impl AlarmPolicy {
    /// Never.
    pub const QUIET: Self =
        Self { window: Duration::ZERO, at_least: u32::MAX, percent: 0, then: OnAlarm::Tell };
}

/// What becomes of messages while the alarm stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnAlarm {
    /// They go out.
    Tell,
    /// One a minute goes out.
    #[default]
    Slow,
    /// None goes out.
    Pause,
}

/// Passes to the app's garden.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassPolicy {
    /// A pass ends after this long.
    pub length: Duration,
    /// Passes that a device may have in a day, and all devices together.
    pub per_device_day: u32,
    /// See [`Self::per_device_day`].
    pub per_store_day: u32,
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
    /// A device on the preemptive list.
    Preemptive,
    /// A clerk or engineer, by `maitred grant`.
    Staff,
    /// Whoever holds a voucher.
    Voucher(VoucherId),
}

impl Identity {
    /// Whether this is a visitor, whose session ends when they leave or fall silent.
    pub const fn is_visitor(&self) -> bool {
        matches!(self, Self::Guest(_) | Self::Preemptive)
    }
}

impl Policy {
    /// Whether a grant in one zone opens the other: they are the same, or both roam.
    pub fn joined(&self, one: ZoneId, other: ZoneId) -> bool {
        let roams = |zone| self.zone(zone).is_some_and(|zone| zone.roam);
        one == other || (roams(one) && roams(other))
    }

    /// Whether the lists leave a session to a device. One that is trusted now holds another kind.
    pub fn allows(&self, mac: Mac, identity: Identity) -> bool {
        let listed = match identity {
            Identity::Preemptive => self.preemptive_macs.contains(&mac),
            _ => true,
        };
        let trusted = identity == Identity::Trusted;
        listed && !self.blocked_macs.contains(&mac) && self.trusts(mac) == trusted
    }

    /// Whether a device is always online; the blocked list comes first.
    pub fn trusts(&self, mac: Mac) -> bool {
        self.trusted_macs.contains(&mac) && !self.blocked_macs.contains(&mac)
    }

    /// Whether a device is online as soon as it is seen, as a visitor.
    pub fn expects(&self, mac: Mac) -> bool {
        self.preemptive_macs.contains(&mac)
            && !self.trusted_macs.contains(&mac)
            && !self.blocked_macs.contains(&mac)
    }

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
