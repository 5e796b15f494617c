//! What the world tells the domain. One closed enum: the whole list of what can happen.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::auth::voucher::{FromHq, Which, Worth};
use super::effect::Refusal;
use super::names::{GuestKey, Mac, OpenId, Phone, Renamed, RequestId, SessionId, ZoneId};
use super::policy::{Overrides, Policy};

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A deadline of [`super::Domain::next_timeout`] has passed.
    Tick,
    /// A device showed itself.
    Seen(Sighting),
    /// A device said that it leaves (DHCP release, disassociation).
    Left {
        /// Where.
        zone: ZoneId,
        /// Who.
        mac: Mac,
    },
    /// A guest's browser asks; the answer is a [`super::effect::Answer::Portal`].
    Portal {
        /// Whom to answer.
        request: RequestId,
        /// Who asks, by the MAC of the connection's own SYN.
        client: Client,
        /// What for.
        ask: Ask,
    },
    /// The control socket asks; the answer is a [`super::effect::Answer::Control`].
    Control {
        /// Whom to answer.
        request: RequestId,
        /// What for.
        command: Command,
    },
    /// The owner decided anew, with the same zones; the answer is a
    /// [`super::effect::Answer::Control`].
    Reload {
        /// Whom to answer.
        request: RequestId,
        /// The rules from now on.
        policy: Box<Policy>,
    },
    /// The kernel confirmed a grant.
    Granted(SessionId),
    /// The kernel refused a grant; nothing of it stands.
    GrantFailed(SessionId),
    /// The session's row is on disk.
    Stored(SessionId),
    /// The session's row could not be written.
    StoreFailed(SessionId),
    /// What the kernel counted, in answer to [`super::effect::Firewall::ReadUsage`]. A granted
    /// session that is missing here has left the kernel: its time or quota ran out. Never sent
    /// for a table that is lost or could not be read.
    Usage(Vec<Usage>),
    /// The kernel opened a pass, in answer to [`super::effect::Firewall::Pass`], or refused.
    Passed {
        /// Where.
        zone: ZoneId,
        /// For whom.
        mac: Mac,
        /// It stands.
        opened: bool,
    },
    /// How the sending of a code ended.
    Sms {
        /// The device that asked.
        mac: Mac,
        /// Which message, as numbered by the effect.
        message: u32,
        /// Whether a provider took it, or what the guest is to be told.
        sent: Result<(), Refusal>,
    },
    /// The daemon is about to stop: what is only in memory goes to disk.
    Stopping,
    /// Devices were heard on another port of their zone's bridge than before.
    Moved(Vec<(ZoneId, Mac)>),
    /// Devices are heard in two zones at once, both of which roam.
    Doubled(Vec<(Mac, [ZoneId; 2])>),
    /// Our table was deleted behind our back; the answer is a rebuild.
    TableLost,
}

/// One piece of evidence that a device is present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Where it was seen.
    pub zone: ZoneId,
    /// Which device.
    pub mac: Mac,
    /// Its address, if the evidence names one.
    pub address: Option<IpAddr>,
    /// The host name it gave in DHCP (option 12), already made printable.
    pub hostname: Option<String>,
    /// How it was seen.
    pub evidence: Evidence,
}

/// What shows a device present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Evidence {
    /// A DHCP request (RFC 2131).
    Dhcp,
    /// An ARP packet it sent (RFC 826).
    Arp,
    /// A neighbour or router solicitation or advertisement it sent (RFC 4861).
    Nd,
    /// An HTTP request it made to us.
    Http,
    /// Bytes it moved since the last look.
    Bytes,
    /// It is associated with the access point.
    Associated,
}

/// The device behind a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The zone whose interface the connection came in on.
    pub zone: ZoneId,
    /// Source MAC of the connection's own SYN.
    pub mac: Mac,
    /// Source address of the connection.
    pub address: IpAddr,
}

/// What a guest's browser asks for.
#[derive(Clone, Debug)]
pub enum Ask {
    /// The page of the step this device is at.
    Show,
    /// Whether this device is online, changing nothing: `View::Online`, or any other.
    Look,
    /// Send a code to this number.
    RequestCode {
        /// Where to.
        phone: Phone,
        /// The catalogue of the message: `zh-CN` or `en`.
        language: Language,
        /// What the guest agreed to.
        consent: Consent,
    },
    /// Send another code to the number that the last one went to.
    ResendCode {
        /// The catalogue of the message.
        language: Language,
    },
    /// Get back online without a code, as a guest whom we remember.
    Return,
    /// Go back to the number, or on from a session that is over.
    ChangeNumber,
    /// Check a code.
    SubmitCode {
        /// As typed.
        code: String,
    },
    /// Follow the store's account: stay at that step (`View::Follow`) until the token comes, with
    /// the app's garden open for a while where the store gives passes.
    BeginFollow,
    /// An account's name, at the word of WeChat's client (the retired Wi-Fi portal).
    WechatWifi {
        /// Who follows, as the client says.
        openid: OpenId,
    },
    /// Check a follow token (`/f/<token>`).
    Follow {
        /// As in the path.
        token: String,
        /// What the guest agreed to.
        consent: Consent,
    },
    /// Use a voucher.
    UseVoucher {
        /// As typed, or as in the path.
        code: String,
        /// What the guest agreed to.
        consent: Consent,
    },
    /// End the session of another device of the same guest.
    EndOther {
        /// That device's session.
        session: SessionId,
    },
    /// Who the guest of this device's session is: `View::Mine`, or the page of the step.
    Mine,
    /// Lengthen this device's session, or the one that has just run out.
    Extend,
    /// End this device's session.
    Logout,
}

/// The languages of the catalogues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Language {
    /// Simplified Chinese.
    #[default]
    Chinese,
    /// English.
    English,
}

/// What a guest agreed to; the two are asked apart and the second may be refused (PIPL Art. 16).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consent {
    /// Version of the Wi-Fi terms agreed to.
    pub terms: String,
    /// Agreed to marketing.
    pub marketing: bool,
}

/// What the control socket can ask of the domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Counts and states.
    Status,
    /// Every device known.
    Clients,
    /// Open the firewall for a device, `length` or the zone's `session_timeout` long, or give its
    /// session this much time and other limits.
    Grant {
        /// The device.
        mac: Mac,
        /// Where; its last known zone if `None`.
        zone: Option<ZoneId>,
        /// How long.
        length: Option<Duration>,
        /// What differs from the zone's limits, or from the session's.
        limits: Overrides,
    },
    /// Change the limits of a device's sessions; what they have used stays used.
    Limit {
        /// The device.
        mac: Mac,
        /// What changes.
        limits: Overrides,
    },
    /// Close the firewall for a device.
    Revoke {
        /// The device.
        mac: Mac,
    },
    /// Make vouchers; the answer has their codes, which nobody keeps.
    MakeVouchers {
        /// How many.
        count: u16,
        /// What each is good for.
        worth: Worth,
    },
    /// Every batch of HQ's that is good.
    VouchersFromHq(Vec<FromHq>),
    /// Every batch of vouchers that is of use.
    Vouchers,
    /// Make vouchers worth nothing, and end the sessions that they opened.
    RevokeVouchers(Which),
    /// Forget who a guest is; their devices stay online as nobody's.
    Erase {
        /// Whom.
        guest: GuestKey,
    },
    /// HQ says who is behind pseudonyms, or whom to forget.
    Rename(Renamed),
}

/// One session's counters: all that it has used, what its grant carried over included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Usage {
    /// Whose.
    pub session: SessionId,
    /// Bytes from the guest.
    pub up: u64,
    /// Bytes to the guest.
    pub down: u64,
    /// A quota is reached: the kernel lets nothing through any more.
    pub spent: bool,
}
