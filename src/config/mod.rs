//! TOML → a validated [`Config`]. Unknown keys, impossible values and contradictions are refused
//! with the line they stand on; secrets never print.

mod alarm;
mod brand;
mod check;
mod dns;
mod follow;
pub mod garden;
mod key;
mod load;
mod policy;
mod portal;
mod reload;
mod retention;
mod sms;
mod units;
mod voucher;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use crate::clock::Trust;
use crate::domain::names::Mac;

pub use alarm::Alarm;
pub use brand::{Brand, Colour, Offer, PICTURES_MAX, Words};
pub(crate) use check::display_name;
pub use dns::{Dns, Resolver};
pub use follow::{Follow, WechatWifi};
pub use garden::{Pass, Place};
pub use key::KeyMaker;
pub use load::{ConfigError, Problem};
pub use portal::{Portal, Return, Uplink};
pub use retention::Retention;
pub use sms::{Aliyun, Modem, ModemTool, Sms, Tencent, Twilio};
pub use units::{Amount, Length, Network, PublicKey, RouterPort, SealKey, Secret, TimeOfDay};
pub use voucher::Voucher;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Which store this is.
    pub store: Store,
    /// The guests' pages.
    #[serde(default)]
    pub portal: Portal,
    /// How they look and what the store says on them.
    #[serde(default)]
    pub brand: Brand,
    /// The guest networks, 1 to 32.
    #[serde(default)]
    pub zone: Vec<Zone>,
    /// The line to the internet.
    #[serde(default)]
    pub uplink: Uplink,
    /// DNS for guests who are not online.
    #[serde(default)]
    pub dns: Dns,
    /// One-time codes.
    #[serde(default)]
    pub code: Code,
    /// Who carries the messages, in the order they are tried; 8 at most.
    #[serde(default, deserialize_with = "sms::one_or_more")]
    pub sms: Vec<Sms>,
    /// Follows of the store's WeChat account.
    #[serde(default)]
    pub follow: Follow,
    /// The temporary pass to the app in which a guest follows; none if unset.
    pub pass: Option<Pass>,
    /// WeChat's retired Wi-Fi portal.
    pub wechat_wifi: Option<WechatWifi>,
    /// Codes on paper.
    #[serde(default)]
    pub voucher: Voucher,
    /// What a visit is.
    #[serde(default)]
    pub visit: Visit,
    /// How long the record is kept.
    #[serde(default)]
    pub retention: Retention,
    /// The page for staff.
    pub staff: Option<Staff>,
    /// The head office.
    pub hq: Option<Hq>,
    /// The kernel's table.
    #[serde(default)]
    pub firewall: Firewall,
    /// Devices with rules of their own.
    #[serde(default)]
    pub lists: Lists,
}

/// `[store]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// The store's id at HQ: letters, digits, `-`, `_`, `.`; 1 to 64.
    pub id: String,
    /// The store's name, as guests read it.
    pub name: String,
    /// An IANA name (`Asia/Shanghai`) or a POSIX rule (`CST-8`).
    pub time_zone: String,
    /// Who makes guest keys of phone numbers and account ids.
    #[serde(default)]
    pub key: KeyMaker,
    /// Folder of the database and the keys, mode 0700.
    #[serde(default = "defaults::state_dir")]
    pub state_dir: PathBuf,
    /// Folder of the control socket and the lock.
    #[serde(default = "defaults::run_dir")]
    pub run_dir: PathBuf,
    /// User to become after the start, who is given the folders of the database, the socket and the
    /// spool. Root, with three capabilities left, if unset.
    pub user: Option<String>,
    /// When to believe the wall clock.
    #[serde(default)]
    pub clock: Trust,
    /// A power cut loses at most this much of what no guest was shown.
    #[serde(default = "defaults::commit_every")]
    pub commit_every: Length,
}

/// `[[zone]]`, in openNDS's words.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Zone {
    /// The zone's name: letters, digits, `-`, `_`; 1 to 16.
    pub name: String,
    /// Its interface (a bridge or a VLAN of one, usually), at most 15 characters.
    pub interface: String,
    /// A grant ends after this long.
    #[serde(default = "defaults::session_timeout")]
    pub session_timeout: Length,
    /// A guest may lengthen a session this many times, by `session_timeout` each, on the page.
    #[serde(default)]
    pub extend: u8,
    /// A grant ends after this long without traffic.
    #[serde(default = "defaults::idle_timeout")]
    pub idle_timeout: Length,
    /// A device that never logs in is forgotten after this long.
    #[serde(default = "defaults::preauth_idle_timeout")]
    pub preauth_idle_timeout: Length,
    /// Bytes a second from a guest.
    pub upload_rate: Option<Amount>,
    /// Bytes a second to a guest.
    pub download_rate: Option<Amount>,
    /// Bytes from a guest in a session.
    pub upload_quota: Option<Amount>,
    /// Bytes to a guest in a session.
    pub download_quota: Option<Amount>,
    /// Bytes both ways in a session.
    pub quota: Option<Amount>,
    /// Devices online at once, 1 to 16,383.
    #[serde(default = "defaults::max_clients")]
    pub max_clients: usize,
    /// A device that is granted here is granted in every zone that roams, with one session.
    #[serde(default)]
    pub roam: bool,
    /// Guests do not reach each other: the ports of the zone's bridge, or of its VLAN, are kept
    /// apart, those that come later too. What radios of an access point do among their own stations is up to hostapd
    /// (`ap_isolate`).
    #[serde(default)]
    pub isolate: bool,
    /// What follows when a device that is online is heard on another port of the bridge: a guest
    /// who walks from one radio to the other, or somebody who took the guest's address. Also when it
    /// is heard in two zones at once that roam, and either says so.
    #[serde(default)]
    pub on_mac_move: OnMacMove,
    /// What anybody may reach: addresses and networks of IPv4 and IPv6, and names, with `*.` in
    /// front every name below one.
    #[serde(default)]
    pub walled_garden: Vec<Place>,
    /// Router ports open to guests besides DHCP, DNS and the portal: `tcp/80`, `udp/5353`.
    #[serde(default)]
    pub users_to_router: Vec<RouterPort>,
}

/// What a device's move to another port of the bridge leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnMacMove {
    /// It is logged and counted.
    #[default]
    Log,
    /// Its session ends as well; the guest logs in again.
    Cut,
}

/// `[code]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Code {
    /// Digits, 4 to 6.
    pub length: u8,
    /// A code is good for this long, 30 minutes at most.
    pub lifetime: Length,
    /// Wrong tries before a code is dead, 1 to 10.
    pub tries: u8,
    /// Between two messages to a device.
    pub resend_after: Length,
    /// Messages a device may cause in a day.
    pub per_device_day: u32,
    /// Messages a number may get in an hour.
    pub per_number_hour: u32,
    /// Messages a number may get in a day.
    pub per_number_day: u32,
    /// Messages that numbers with the same first digits (all but the last four) may get in a day.
    pub per_prefix_day: u32,
    /// Messages a zone may cause in a day.
    pub per_zone_day: u32,
    /// Messages the store may send in a day.
    pub per_store_day: u32,
    /// Country codes that messages may go to; the first is assumed.
    pub countries: Vec<String>,
    /// When too few codes come back.
    pub alarm: Alarm,
}

/// `[visit]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Visit {
    /// Without evidence for this long a visit is closed, at its last evidence.
    pub leave_after: Length,
    /// A gap shorter than this continues the same visit: at least `leave_after`, since a shorter
    /// gap goes unnoticed, or zero to merge nothing.
    pub merge_gap: Length,
    /// A visitor stays at least this long.
    pub visitor_after: Length,
}

/// `[staff]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Staff {
    /// Address and port of the page; never one that guests can reach, so not `0.0.0.0`.
    pub listen: SocketAddr,
    /// Argon2 hash of the password (PHC string), as `maitred password` prints it.
    pub password_hash: Secret,
    /// A login lasts this long.
    #[serde(default = "defaults::staff_session")]
    pub session: Length,
}

/// `[hq]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hq {
    /// `https://` (or `http://` inside a private network): the batches' endpoint.
    pub url: String,
    /// Bearer token.
    pub token: Option<Secret>,
    /// Time of day of the nightly run, in the store's time zone.
    #[serde(default = "defaults::hq_at")]
    pub at: TimeOfDay,
    /// Spread over this long, by store id.
    #[serde(default = "defaults::hq_jitter")]
    pub jitter: Length,
    /// Rows in a batch.
    #[serde(default = "defaults::hq_batch")]
    pub batch: u32,
    /// Certificates that HQ's may be signed by; the system's bundle if unset.
    pub ca_file: Option<PathBuf>,
    /// Where the signed bundle for the stores is fetched after the batches.
    pub bundle_url: Option<String>,
    /// Ed25519 public key (base64) that the bundle is signed with.
    pub bundle_key: Option<PublicKey>,
    /// X25519 public key (base64) to which phone numbers and openids are sealed for HQ.
    pub seal_key: Option<SealKey>,
}

/// `[firewall]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Firewall {
    /// Bits of the connection mark that are ours: one run of 16 ones.
    pub mark_mask: u32,
    /// What a stop leaves behind.
    pub on_stop: OnStop,
    /// Connections that a device may hold once it is online, 10 to 65,535; it may begin a quarter
    /// of that a second.
    pub flows_per_device: u32,
    /// The same before that: to the portal, DNS and the garden.
    pub flows_per_stranger: u32,
    /// Start although packets of a guest network may go round the table by a flow table: limits
    /// are not enforced on those.
    pub allow_flow_offload: bool,
}

/// What a stop leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnStop {
    /// The table as it is: guests who are online stay online.
    #[default]
    Keep,
    /// No table: everybody is online.
    Open,
    /// The table without guests: nobody is online.
    Closed,
}

/// `[lists]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lists {
    /// Always online, never counted as visitors.
    pub trusted_macs: BTreeSet<Mac>,
    /// Never online.
    pub blocked_macs: BTreeSet<Mac>,
    /// Online as soon as they are seen, with their zone's limits, and counted as visitors.
    pub preemptive_macs: BTreeSet<Mac>,
}

impl Default for Code {
    fn default() -> Self {
        Self {
            length: 6,
            lifetime: Length::minutes(5),
            tries: 5,
            resend_after: Length::minutes(1),
            per_device_day: 10,
            per_number_hour: 5,
            per_number_day: 10,
            per_prefix_day: 50,
            per_zone_day: 1000,
            per_store_day: 1000,
            countries: vec!["86".into()],
            alarm: Alarm::default(),
        }
    }
}

impl Default for Visit {
    fn default() -> Self {
        Self {
            leave_after: Length::minutes(5),
            merge_gap: Length::minutes(15),
            visitor_after: Length::minutes(5),
        }
    }
}

impl Default for Firewall {
    fn default() -> Self {
        Self {
            mark_mask: 0xffff_0000,
            on_stop: OnStop::Keep,
            flows_per_device: 1000,
            flows_per_stranger: 200,
            allow_flow_offload: false,
        }
    }
}

mod defaults {
    use super::{Length, PathBuf, TimeOfDay};

    pub(super) fn state_dir() -> PathBuf {
        "/etc/maitred/state".into()
    }
    pub(super) fn run_dir() -> PathBuf {
        "/var/run/maitred".into()
    }
    pub(super) const fn commit_every() -> Length {
        Length::seconds(5)
    }
    pub(super) const fn session_timeout() -> Length {
        Length::minutes(240)
    }
    pub(super) const fn idle_timeout() -> Length {
        Length::minutes(30)
    }
    pub(super) const fn preauth_idle_timeout() -> Length {
        Length::minutes(30)
    }
    pub(super) const fn max_clients() -> usize {
        10_000
    }
    pub(super) const fn staff_session() -> Length {
        Length::minutes(12 * 60)
    }
    pub(super) const fn hq_at() -> TimeOfDay {
        TimeOfDay { hour: 3, minute: 30 }
    }
    pub(super) const fn hq_jitter() -> Length {
        Length::minutes(60)
    }
    pub(super) const fn hq_batch() -> u32 {
        1000
    }
}
