//! The ways online that go through WeChat.

pub(super) mod follow;
pub(super) mod wifi;

pub use follow::Follow;
pub use wifi::WifiPortal;

/// What a store offers of them.
#[derive(Clone, Debug, Default)]
pub struct Wechat {
    /// Following the store's account.
    pub follow: Option<Follow>,
    /// WeChat's retired Wi-Fi portal.
    pub wifi: Option<WifiPortal>,
}
