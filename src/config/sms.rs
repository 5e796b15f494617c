//! `[[sms]]`: who carries the codes, in the order they are tried. One may be written as `[sms]`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Length, Secret};

/// One provider.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, tag = "provider", rename_all = "snake_case")]
pub enum Sms {
    /// A file a message in a folder: for a modem daemon, or for tests.
    Spool {
        /// The folder.
        dir: PathBuf,
    },
    /// An HTTP POST a message.
    Webhook {
        /// `http://` or `https://`; a secret, because providers put keys in it.
        url: Secret,
        /// The JSON body. In its texts `{phone}` (`+` and digits), `{code}`, `{text}`, `{store}`
        /// and `{minutes}` are filled in.
        body: Secret,
        /// `Authorization` header.
        authorization: Option<Secret>,
        /// Time for one try, 60 seconds at most.
        #[serde(default = "webhook_timeout")]
        timeout: Length,
        /// Further tries after a failure that may pass, 5 at most. All tries of all providers
        /// together take at most half of `code.lifetime`.
        #[serde(default = "webhook_retries")]
        retries: u8,
    },
    /// Alibaba Cloud.
    Aliyun(Aliyun),
    /// Tencent Cloud.
    Tencent(Tencent),
    /// Twilio.
    Twilio(Twilio),
    /// A modem of the router's own.
    Modem(Modem),
}

/// `provider = "aliyun"`: `SendSms` of 2017-05-25.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Aliyun {
    /// `AccessKey` ID.
    pub access_key_id: String,
    /// `AccessKey` secret.
    pub access_key_secret: Secret,
    /// The approved signature (签名).
    pub sign_name: String,
    /// The approved template.
    pub template_code: String,
    /// The template's variables; values as `webhook`'s texts.
    #[serde(default = "aliyun_params")]
    pub params: BTreeMap<String, String>,
    /// Where to ask.
    #[serde(default = "aliyun_endpoint")]
    pub endpoint: String,
}

/// `provider = "tencent"`: `SendSms` of 2021-01-11.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tencent {
    /// `SecretId`.
    pub secret_id: String,
    /// `SecretKey`.
    pub secret_key: Secret,
    /// The application that messages are counted under.
    pub sdk_app_id: String,
    /// The approved signature (签名).
    pub sign_name: String,
    /// The approved template.
    pub template_id: String,
    /// The template's variables in order; as `webhook`'s texts. Tencent takes at most 6 digits
    /// for each of a code's.
    #[serde(default = "tencent_params")]
    pub params: Vec<String>,
    /// Region.
    #[serde(default = "tencent_region")]
    pub region: String,
    /// Where to ask.
    #[serde(default = "tencent_endpoint")]
    pub endpoint: String,
}

/// `provider = "twilio"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Twilio {
    /// Account SID (`AC…`).
    pub account_sid: String,
    /// Auth token.
    pub auth_token: Secret,
    /// A number of ours (`+…`), a sender's name, or a messaging service (`MG…`).
    pub from: String,
    /// Where to ask.
    #[serde(default = "twilio_endpoint")]
    pub endpoint: String,
}

/// `provider = "modem"`: a program that speaks to it, run once a message.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Modem {
    /// Which.
    pub tool: ModemTool,
    /// `sms_tool`: the TTY. `gammu`: its configuration file. `mmcli`: the modem's index.
    pub device: Option<String>,
    /// Where the program is, if it is not in `/usr/sbin`, `/usr/bin`, `/sbin` or `/bin`.
    pub program: Option<PathBuf>,
    /// Then the program is ended, 60 seconds at most.
    #[serde(default = "modem_timeout")]
    pub timeout: Length,
}

/// A program that sends messages by a modem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModemTool {
    /// `OpenWrt`'s `sms-tool`: Latin letters and digits only; a text in another script is sent as
    /// the bare code.
    SmsTool,
    /// `gammu`.
    Gammu,
    /// `ModemManager`'s.
    Mmcli,
}

impl Sms {
    /// The word in the file.
    pub const fn provider(&self) -> &'static str {
        match self {
            Self::Spool { .. } => "spool",
            Self::Webhook { .. } => "webhook",
            Self::Aliyun(_) => "aliyun",
            Self::Tencent(_) => "tencent",
            Self::Twilio(_) => "twilio",
            Self::Modem(_) => "modem",
        }
    }

    /// Whether its keys must be kept from others.
    pub(super) const fn holds_secrets(&self) -> bool {
        !matches!(self, Self::Spool { .. } | Self::Modem(_))
    }

    /// Where messages go, if they go by HTTP.
    pub(super) fn address(&self) -> Option<(&'static str, &str)> {
        match self {
            Self::Spool { .. } | Self::Modem(_) => None,
            Self::Webhook { url, .. } => Some(("url", url.reveal())),
            Self::Aliyun(Aliyun { endpoint, .. })
            | Self::Tencent(Tencent { endpoint, .. })
            | Self::Twilio(Twilio { endpoint, .. }) => Some(("endpoint", endpoint)),
        }
    }
}

/// Reads `[sms]` as a list of one.
pub(super) fn one_or_more<'de, D: Deserializer<'de>>(tables: D) -> Result<Vec<Sms>, D::Error> {
    tables.deserialize_any(OneOrMore)
}

struct OneOrMore;

impl<'de> Visitor<'de> for OneOrMore {
    type Value = Vec<Sms>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table [sms] or tables [[sms]]")
    }

    fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Self::Value, A::Error> {
        Table.visit_map(table).map(|sms| vec![sms])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut tables: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(sms) = tables.next_element_seed(Table)? {
            all.push(sms);
        }
        Ok(all)
    }
}

/// One table of them: read by a visitor so that an error in it is given the table's place.
struct Table;

impl<'de> DeserializeSeed<'de> for Table {
    type Value = Sms;

    fn deserialize<D: Deserializer<'de>>(self, table: D) -> Result<Sms, D::Error> {
        table.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Table {
    type Value = Sms;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table")
    }

    fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Sms, A::Error> {
        Sms::deserialize(MapAccessDeserializer::new(table))
    }
}

const fn webhook_timeout() -> Length {
    Length::seconds(5)
}
const fn webhook_retries() -> u8 {
    2
}
const fn modem_timeout() -> Length {
    Length::seconds(30)
}
fn aliyun_params() -> BTreeMap<String, String> {
    BTreeMap::from([("code".into(), "{code}".into())])
}
fn aliyun_endpoint() -> String {
    "https://dysmsapi.aliyuncs.com".into()
}
fn tencent_params() -> Vec<String> {
    vec!["{code}".into()]
}
fn tencent_region() -> String {
    "ap-guangzhou".into()
}
fn tencent_endpoint() -> String {
    "https://sms.tencentcloudapi.com".into()
}
fn twilio_endpoint() -> String {
    "https://api.twilio.com".into()
}
