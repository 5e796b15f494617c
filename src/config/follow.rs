//! `[follow]` and `[wechat_wifi]`: online by way of the store's WeChat account.

use std::path::PathBuf;

use serde::Deserialize;

use super::{PublicKey, Secret};

/// `[follow]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Follow {
    /// Ed25519 public keys (base64), two at most, for rotation.
    pub keys: Vec<PublicKey>,
    /// The account's name, as guests find it in WeChat; with it the first page offers to follow.
    pub account: Option<String>,
    /// The account's backend (`maitred hq`), for QR codes and erasures: `https://`, or `http://`
    /// inside a private network.
    pub url: Option<String>,
    /// Bearer token.
    pub token: Option<Secret>,
    /// Certificates that the backend's may be signed by; the system's bundle if unset.
    pub ca_file: Option<PathBuf>,
}

/// `[wechat_wifi]`: the page signs for WeChat's client, and takes it at its word who the guest is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WechatWifi {
    /// The account's `AppID`.
    pub app_id: String,
    /// The store's number at WeChat.
    pub shop_id: String,
    /// The key that signs.
    pub secret_key: Secret,
    /// The name of the wireless network.
    pub ssid: String,
    /// Where a phone's request to connect goes.
    #[serde(default = "operator")]
    pub operator: String,
}

fn operator() -> String {
    "https://wifi.weixin.qq.com/operator/callWechatBrowser.xhtml".into()
}
