//! Requests to servers outside: one blocking HTTP client for worker threads.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ureq::Agent;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// The system's certificates (`OpenWrt`'s `ca-bundle`, Debian's `ca-certificates`).
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener};

    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::{ServerConfig, ServerConnection, StreamOwned};

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(5);

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls").join(name)
    }

    /// Answers every connection 200 `ok` over TLS, as `localhost`.
    fn secure_server() -> SocketAddr {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = vec![CertificateDer::from_pem_file(fixture("server.pem")).unwrap()];
        let key = PrivateKeyDer::from_pem_file(fixture("server.key")).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let (config, listener) = (Arc::new(config), TcpListener::bind("127.0.0.1:0").unwrap());
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let session = ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = StreamOwned::new(session, stream.unwrap());
                // A client that does not trust us hangs up in the handshake.
                if stream.read(&mut [0; 4096]).is_ok() {
                    let _ = stream.write_all(
                        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
                    );
                    stream.conn.send_close_notify();
                    let _ = stream.flush();
                }
            }
        });
        address
    }

    fn get(url: &str, ca: &str) -> Result<String, ureq::Error> {
        let agent = agent(url, Some(&fixture(ca)), TIMEOUT).unwrap();
        agent.get(url).call()?.body_mut().read_to_string()
    }

    #[test]
    fn only_the_named_authority_and_name_are_trusted() {
        let port = secure_server().port();
        assert_eq!(get(&format!("https://localhost:{port}/"), "ca.pem").unwrap(), "ok");
        assert_eq!(get(&format!("HTTPS://127.0.0.1:{port}/"), "ca.pem").unwrap(), "ok");
        let stranger = get(&format!("https://localhost:{port}/"), "other-ca.pem");
        assert!(stranger.is_err(), "{stranger:?}");
        let misnamed = get(&format!("https://127.0.0.2:{port}/"), "ca.pem");
        assert!(misnamed.is_err(), "{misnamed:?}");
    }

    #[test]
    fn certificates_are_read_only_when_needed() {
        let nowhere = Path::new("/nowhere/ca.pem");
        assert!(agent("http://127.0.0.1/", Some(nowhere), TIMEOUT).is_ok());
        let missing = agent("https://127.0.0.1/", Some(nowhere), TIMEOUT).err().unwrap();
        assert!(missing.to_string().contains("/nowhere/ca.pem"), "{missing}");
        let empty = agent("https://127.0.0.1/", Some(&fixture("server.key")), TIMEOUT);
        assert!(matches!(empty, Err(ClientError::NoRoots(_))));
    }
}
