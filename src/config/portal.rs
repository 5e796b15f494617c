//! `[portal]`: where the guests' pages are and what they know of themselves.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::Length;

/// `[portal]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Portal {
    /// TCP port of the pages, on every zone's interface; neither 0 nor one of DNS or DHCP.
    pub port: u16,
    /// TCP port that intercepted requests are redirected to; not `port`.
    pub intercept_port: u16,
    /// The portal's own name, if the network's DNS answers it with our address.
    pub name: Option<String>,
    /// Version of the terms that guests agree to.
    pub terms_version: String,
    /// A device whose guest verified within this time needs no code.
    pub remember_for: Length,
    /// How such a device gets back online.
    pub r#return: Return,
    /// Certificate chain (PEM) for `name`; with it the pages and the Captive Portal API
    /// (RFC 8908) are served over TLS too. Read again when it changes.
    pub certificate: Option<PathBuf>,
    /// The certificate's private key (PEM).
    pub key: Option<PathBuf>,
    /// TCP port of TLS. Not 443 by default: a router's own web page listens there.
    pub tls_port: u16,
    /// Certificates that guests trust; the system's bundle if unset.
    pub roots: Option<PathBuf>,
    /// Folder that dnsmasq reads options from (`dhcp-optsdir`): the API is announced by DHCP from
    /// there while the certificate is good. `store.user` must be able to write in it.
    pub dnsmasq_dir: Option<PathBuf>,
    /// The store's own page, as the API names it to systems; `https://`.
    pub venue_url: Option<String>,
}

/// How a remembered guest gets back online.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Return {
    /// By opening the page.
    #[default]
    Silent,
    /// By one tap on it.
    Tap,
}

impl Default for Portal {
    fn default() -> Self {
        Self {
            port: 2050,
            intercept_port: 2051,
            name: None,
            terms_version: "1".into(),
            remember_for: Length(Duration::ZERO),
            r#return: Return::Silent,
            certificate: None,
            key: None,
            tls_port: 2053,
            roots: None,
            dnsmasq_dir: None,
            venue_url: None,
        }
    }
}

/// `[uplink]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Uplink {
    /// Find out whether the line is dead behind a good carrier, as phones do: three well-known
    /// systems' connectivity checks, one of them every two minutes while it is up.
    pub check: bool,
}

impl Default for Uplink {
    fn default() -> Self {
        Self { check: true }
    }
}
