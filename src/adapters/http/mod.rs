//! The pages: the redirect that catches a guest's first request, the guests' portal, and the page
//! for staff. Who asks is known from the connection's own SYN, never from what a request says.

mod accept;
pub mod api;
pub mod brand;
pub mod catalogue;
mod guard;
pub mod intercept;
mod language;
mod listen;
mod mine;
mod pages;
pub mod portal;
pub mod sheet;
pub mod staff;
pub mod syn;
pub mod tls;
mod vouchers;
pub mod wechat;

use std::io;
use std::net::{IpAddr, SocketAddr};

pub use accept::Counts;
pub use listen::{StaffListener, ZoneListeners, bind_staff, bind_zones};

/// What keeps the pages from being served.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// A zone's port could not be taken.
    #[error("cannot listen on port {port} of {interface}: {error}")]
    Zone {
        /// The zone's interface.
        interface: String,
        /// The port.
        port: u16,
        /// Why.
        error: io::Error,
    },
    /// The staff page's address could not be taken.
    #[error("cannot listen on {address} for the staff page: {error}")]
    Staff {
        /// `staff.listen`.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// A bound socket could not be handed to the runtime.
    #[error("cannot serve a listener: {0}")]
    Serve(io::Error),
    /// A catalogue of texts is not what it should be.
    #[error("the catalogue {name} cannot be read: {error}")]
    Catalogue {
        /// Which.
        name: &'static str,
        /// What is wrong in it.
        error: Box<toml::de::Error>,
    },
    /// `staff.password_hash` is not an argon2 hash that this machine can afford to check.
    #[error("staff.password_hash is not an argon2 hash of at most 64 MiB and 10 passes")]
    PasswordHash,
}

/// Where guests find the portal.
#[derive(Clone, Debug)]
pub struct PortalAddress {
    /// The portal's own name, if the network's DNS answers it.
    pub name: Option<String>,
    /// The port of its pages.
    pub port: u16,
}

impl PortalAddress {
    /// The portal's URL for somebody who reached us at `local`, with the final slash.
    pub fn url(&self, local: IpAddr) -> String {
        let host = match (&self.name, local) {
            (Some(name), _) => name.clone(),
            (None, IpAddr::V4(v4)) => v4.to_string(),
            (None, IpAddr::V6(v6)) => format!("[{v6}]"),
        };
        match self.port {
            80 => format!("http://{host}/"),
            port => format!("http://{host}:{port}/"),
        }
    }

    /// Whether a `Host` header (RFC 9110, 7.2) names us, as reached at `local`. A page of another
    /// name that was made to resolve to our address does not.
    fn is_ours(&self, host: &str, local: IpAddr) -> bool {
        let bare = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((v6, _)) => v6,
            None => host.split_once(':').map_or(host, |(bare, _)| bare),
        };
        self.name.as_ref().is_some_and(|name| name.eq_ignore_ascii_case(bare))
            || bare.parse::<IpAddr>().is_ok_and(|address| address == local)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_portal_is_named_by_name_or_by_address() {
        let named = PortalAddress { name: Some("wifi.store".into()), port: 80 };
        let bare = PortalAddress { name: None, port: 2050 };
        let (v4, v6): (IpAddr, IpAddr) =
            ("192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
        assert_eq!(named.url(v4), "http://wifi.store/");
        assert_eq!(bare.url(v4), "http://192.0.2.1:2050/");
        assert_eq!(bare.url(v6), "http://[2001:db8::1]:2050/");
        assert!(named.is_ours("WIFI.store:80", v4) && named.is_ours("192.0.2.1", v4));
        assert!(bare.is_ours("[2001:db8::1]:2050", v6));
        for stranger in ["evil.example", "192.0.2.2", "", "[", "wifi.store.evil.example", "::1"] {
            assert!(!named.is_ours(stranger, v4), "{stranger}");
        }
    }
}
