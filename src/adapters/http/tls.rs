//! The portal's certificate: read from files, shown while it can be read, read again when it
//! changes, and examined as a guest's phone would.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError as Fault, RootCertStore, ServerConfig};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

use crate::adapters::client::SYSTEM_ROOTS;
use crate::adapters::dnsmasq::Announcement;
use crate::adapters::memory;
use crate::clock::Clock;
use crate::config::Portal;
use crate::domain::names::{BootTime, Now, WallTime};

/// An expiry is warned of this long ahead.
pub const WARNED_AHEAD: Duration = Duration::from_hours(21 * 24);
/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often an unchanged certificate is examined again: time passes, roots change.
const EXAMINE_EVERY: Duration = Duration::from_hours(1);

/// Why a certificate is not good.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file could not be read, or holds nothing of the kind.
    #[error("{}: {error}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        error: pem::Error,
    },
    /// The key is of no kind that we know, or not the certificate's.
    #[error("the key does not fit the certificate: {0}")]
    Key(rustls::Error),
    /// Guests' devices would refuse it.
    #[error("{0}")]
    Refused(rustls::Error),
    /// Nobody knows what time it is.
    #[error("the clock is not known to be right yet")]
    NoClock,
}

/// Where the certificate is and what it should be good for.
#[derive(Clone, Debug)]
pub struct Files {
    name: String,
    certificate: PathBuf,
    key: PathBuf,
    roots: PathBuf,
}

/// When a certificate was found good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Good {
    /// When it expires, if that is less than [`WARNED_AHEAD`] away.
    pub expires: Option<WallTime>,
}

impl Files {
    /// The files of a portal that has a name and a certificate.
    pub fn from_config(portal: &Portal) -> Option<Self> {
        Some(Self {
            name: portal.name.clone()?,
            certificate: portal.certificate.clone()?,
            key: portal.key.clone()?,
            roots: portal.roots.clone().unwrap_or_else(|| SYSTEM_ROOTS.into()),
        })
    }

    /// Reads certificate and key, and checks that they belong together.
    pub fn load(&self) -> Result<CertifiedKey, CertificateError> {
        let chain = certificates(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|error| CertificateError::File { path: self.key.clone(), error })?;
        CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(CertificateError::Key)
    }

    /// Whether a device that believes the roots takes this chain for the portal's name at `wall`.
    pub fn examine(
        &self,
        chain: &[CertificateDer<'_>],
        wall: Option<WallTime>,
    ) -> Result<Good, CertificateError> {
        let now = wall.ok_or(CertificateError::NoClock)?;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates(&self.roots)?);
        let provider = Arc::new(ring::default_provider());
        let refused = |error: &dyn fmt::Display| {
            CertificateError::Refused(rustls::Error::General(error.to_string()))
        };
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| refused(&error))?;
        let name = ServerName::try_from(self.name.as_str()).map_err(|error| refused(&error))?;
        let (first, rest) = chain.split_first().ok_or_else(|| refused(&"no certificate"))?;
        let at = |time| verifier.verify_server_cert(first, rest, &name, &[], time);
        let now = Duration::from_millis(u64::try_from(now.0).unwrap_or(0));
        at(UnixTime::since_unix_epoch(now)).map_err(CertificateError::Refused)?;
        let expires = match at(UnixTime::since_unix_epoch(now + WARNED_AHEAD)) {
            Err(rustls::Error::InvalidCertificate(Fault::ExpiredContext { not_after, .. })) => {
                i64::try_from(not_after.as_secs()).ok().map(|seconds| WallTime(seconds * 1000))
            }
            _ => None,
        };
        Ok(Good { expires })
    }
}

/// How the certificate stands, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// Phones believe it, and will for a while.
    #[default]
    Good,
    /// Phones believe it until then, less than [`WARNED_AHEAD`] away.
    Expires(WallTime),
    /// Phones do not believe it, and why.
    Bad(String),
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good => f.write_str("good"),
            Self::Expires(at) => write!(f, "expires on {}", date(*at)),
            Self::Bad(problem) => f.write_str(problem),
        }
    }
}

/// The certificate that connections are shown; none until one could be read.
#[derive(Debug, Default)]
struct Shown(RwLock<Option<Arc<CertifiedKey>>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Keeps the certificate shown, and what is announced of it, true.
#[derive(Debug)]
pub struct Keeper {
    files: Files,
    announcement: Option<Announcement>,
    shown: Arc<Shown>,
    stamps: [Option<SystemTime>; 2],
    examined: Option<(BootTime, bool)>,
    standing: watch::Sender<Standing>,
    said: bool,
}

impl Keeper {
    /// Keeps these files; looks at them once before it returns.
    pub fn new(files: Files, announcement: Option<Announcement>, now: Now) -> Self {
        let mut keeper = Self {
            files,
            announcement,
            shown: Arc::default(),
            stamps: [None; 2],
            examined: None,
            standing: watch::Sender::default(),
            said: false,
        };
        keeper.look(now);
        keeper
    }

    /// How the certificate stands, from now on.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// What takes TLS connections with the certificate of the moment.
    pub fn acceptor(&self) -> Result<TlsAcceptor, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&self.shown) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A guest asks twice at most: memory for resumption is better spent elsewhere.
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// Looks at the files again and again until `stop` turns true.
    pub async fn run(mut self, clock: Clock, mut stop: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = memory::beat(LOOK_EVERY) => {}
            }
            let now = clock.now();
            if !self.is_due(now) {
                continue;
            }
            let looked = tokio::task::spawn_blocking(move || {
                self.look(now);
                self
            });
            match looked.await {
                Ok(keeper) => self = keeper,
                Err(_) => return,
            }
        }
    }

    fn is_due(&self, now: Now) -> bool {
        let old = self.examined.is_none_or(|(at, trusted)| {
            now.boot - at >= EXAMINE_EVERY || trusted != now.wall.is_some()
        });
        old || self.stamps != stamps(&self.files)
    }

    fn look(&mut self, now: Now) {
        self.stamps = stamps(&self.files);
        self.examined = Some((now.boot, now.wall.is_some()));
        let found = self.files.load().and_then(|key| {
            let good = self.files.examine(&key.cert, now.wall);
            *self.shown.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(key));
            good
        });
        let standing = match &found {
            Ok(Good { expires: None }) => Standing::Good,
            Ok(Good { expires: Some(at) }) => Standing::Expires(*at),
            Err(problem) => Standing::Bad(problem.to_string()),
        };
        if let Some(announcement) = &self.announcement
            && let Err(problem) = announcement.keep(found.is_ok())
        {
            warn!(%problem, "the API's announcement cannot be changed");
        }
        if self.said && *self.standing.borrow() == standing {
            return;
        }
        if standing == Standing::Good {
            info!("the portal's certificate is good");
        } else {
            warn!(problem = %standing, announced = found.is_ok(), "the portal's certificate");
        }
        self.said = true;
        self.standing.send_replace(standing);
    }
}

/// A day, as `2026-07-01`.
pub fn date(at: WallTime) -> String {
    let stamp = jiff::Timestamp::from_millisecond(at.0).unwrap_or_default();
    stamp.strftime("%Y-%m-%d").to_string()
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let failed = |error| CertificateError::File { path: path.to_owned(), error };
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(failed)?.collect();
    let found = found.map_err(failed)?;
    if found.is_empty() { Err(failed(pem::Error::NoItemsFound)) } else { Ok(found) }
}

fn stamps(files: &Files) -> [Option<SystemTime>; 2] {
    let stamp = |path: &Path| std::fs::metadata(path).and_then(|file| file.modified()).ok();
    [stamp(&files.certificate), stamp(&files.key)]
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
