//! Requests to servers outside: one blocking HTTP client for worker threads.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ureq::Agent;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// The system's certificates (OpenWrt's `ca-bundle`, Debian's `ca-certificates`).
pub const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The certificates cannot be read.
    #[error("certificates in {path}: {error}")]
    Roots {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file holds no certificate.
    #[error("no certificate in {0}")]
    NoRoots(PathBuf),
}

/// A client for one server. A whole exchange takes at most `timeout`; redirects are not followed,
/// no proxy is asked, and every status is an answer, not an error.
///
/// Certificates are read only for an `https` URL, from `ca_file` or [`SYSTEM_ROOTS`]: the parsed
/// bundle takes a few hundred kilobytes, so drop the agent when the work is done.
pub fn agent(url: &str, ca_file: Option<&Path>, timeout: Duration) -> Result<Agent, ClientError> {
    let mut config = Agent::config_builder()
        .timeout_global(Some(timeout))
        .max_redirects(0)
        .http_status_as_error(false)
        .proxy(None)
        .max_idle_connections(1)
        .user_agent(concat!("maitred/", env!("CARGO_PKG_VERSION")));
    if url.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:")) {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = read_roots(ca_file.unwrap_or_else(|| Path::new(SYSTEM_ROOTS)))?;
        config = config.tls_config(
            TlsConfig::builder()
                .unversioned_rustls_crypto_provider(provider)
                .root_certs(RootCerts::Specific(Arc::new(roots)))
                .build(),
        );
    }
    Ok(config.build().new_agent())
}

fn read_roots(path: &Path) -> Result<Vec<Certificate<'static>>, ClientError> {
    let pem =
        std::fs::read(path).map_err(|error| ClientError::Roots { path: path.to_owned(), error })?;
    let roots: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if roots.is_empty() { Err(ClientError::NoRoots(path.to_owned())) } else { Ok(roots) }
}
