//! How sessions begin, and why they end.

use serde::{Deserialize, Serialize};

/// How a guest came to be online.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// A code by SMS.
    Sms,
    /// A follow of the store's account.
    Follow,
    /// The name of an account, at the word of WeChat's client.
    WechatWifi,
    /// A voucher.
    Voucher,
    /// Known from an earlier verification.
    Remembered,
    /// `maitred grant`.
    Staff,
    /// The trusted list.
    Trusted,
    /// The preemptive list.
    Preemptive,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// `session_timeout`.
    SessionTimeout,
    /// `idle_timeout`.
    IdleTimeout,
    /// A quota was used up.
    Quota,
    /// The guest logged out.
    Logout,
    /// `maitred revoke`.
    Revoked,
    /// The device was heard on another port of its bridge, or in two zones at once, where
    /// `on_mac_move` is `cut`.
    Moved,
    /// A newer device of the same guest took its place (`max_devices`).
    Replaced,
    /// The device left the network.
    Left,
    /// The disk or the kernel refused it.
    Failed,
}

impl EndReason {
    /// Whether the device must prove anew who its guest is, instead of being let in by itself. On
    /// disk at once: no power cut brings such a session back.
    pub const fn for_good(self) -> bool {
        matches!(self, Self::Quota | Self::Logout | Self::Revoked | Self::Moved)
    }

    /// The word on disk and on the wire; the same as its serde name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SessionTimeout => "session_timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::Quota => "quota",
            Self::Logout => "logout",
            Self::Revoked => "revoked",
            Self::Moved => "moved",
            Self::Replaced => "replaced",
            Self::Left => "left",
            Self::Failed => "failed",
        }
    }
}

impl Method {
    /// The word on disk and on the wire; the same as its serde name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sms => "sms",
            Self::Follow => "follow",
            Self::WechatWifi => "wechat_wifi",
            Self::Voucher => "voucher",
            Self::Remembered => "remembered",
            Self::Staff => "staff",
            Self::Trusted => "trusted",
            Self::Preemptive => "preemptive",
        }
    }
}
