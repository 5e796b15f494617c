//! The redirect: whatever a guest who is not online asks of whatever host, the answer is the way
//! to the portal. 302 is what every phone's probe takes for a portal; 511 is not (RFC 6585, 6).

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::ready;
use std::net::{IpAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, LOCATION};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use nix::sys::socket::{MsgFlags, recv, send};
use tokio::sync::watch;

use super::accept::{AtOnce, Counts, Limits, Peer, serve};
use super::{HttpError, PortalAddress, ZoneListeners, pages};
use crate::adapters::inbox::Inbox;
use crate::clock;
use crate::domain::event::{Event, Evidence, Sighting};
use crate::domain::names::{BootTime, Mac, ZoneId};

const LIMITS: Limits = Limits {
    connections: 1024,
    per_device: 256,
    head: Duration::from_secs(5),
    whole: Duration::from_secs(6),
};
/// A device's requests are evidence at most this often.
const SEEN_EVERY: Duration = Duration::from_secs(5);
/// Devices whose last evidence is remembered.
const SEEN_AT_ONCE: usize = 4096;
/// Addresses of ours whose redirect is kept; a router has a few in each zone.
const REDIRECTS: usize = 64;

/// A request whose head is longer is not answered at once.
const HEAD: usize = 2048;
const HEADERS: usize = 32;

/// Redirects every request on `listeners` to the portal until `stop` turns true. What most devices
/// send, a GET in one piece, is answered as soon as it is there; hyper takes care of all else.
pub async fn run_intercept(
    listeners: ZoneListeners,
    portal: PortalAddress,
    inbox: Inbox,
    counts: Arc<Counts>,
    stop: watch::Receiver<bool>,
) -> Result<(), HttpError> {
    let intercept =
        Arc::new(Intercept { portal, inbox, redirects: Mutex::default(), seen: Mutex::default() });
    let direct = Arc::clone(&intercept);
    let at_once: AtOnce = Arc::new(move |peer, stream| direct.answer_at_once(peer, stream));
    serve(listeners.0, None, LIMITS, counts, stop, Some(at_once), move |peer| {
        let intercept = Arc::clone(&intercept);
        service_fn(move |_: Request<Incoming>| ready(Ok::<_, Infallible>(intercept.answer(&peer))))
    })
    .await
}

struct Intercept {
    portal: PortalAddress,
    inbox: Inbox,
    redirects: Mutex<HashMap<IpAddr, Redirect>>,
    seen: Mutex<Seen>,
}

/// The answer to all who reached one address of ours.
#[derive(Clone)]
struct Redirect {
    location: HeaderValue,
    body: Bytes,
    /// All of it as bytes, and how many of them are the head.
    whole: Bytes,
    head: usize,
}

impl Intercept {
    fn answer(&self, peer: &Peer) -> Response<Full<Bytes>> {
        if let Some((zone, mac)) = peer.device {
            self.witness(zone, mac, peer.address);
        }
        let Some(Redirect { location, body, .. }) = self.redirect(peer.local) else {
            let mut failure = Response::new(Full::default());
            *failure.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            return failure;
        };
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = StatusCode::FOUND;
        let headers = response.headers_mut();
        headers.insert(LOCATION, location);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        response
    }

    /// Answers a [`usual`] request that has arrived; false if there is none, and nothing was done.
    fn answer_at_once(&self, peer: &Peer, stream: &TcpStream) -> bool {
        let mut request = [0; HEAD];
        let socket = stream.as_raw_fd();
        let glance = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        let arrived = recv(socket, &mut request, glance).unwrap_or(0);
        let Some(with_body) = usual(&request[..arrived]) else { return false };
        let Some(redirect) = self.redirect(peer.local) else { return false };
        if let Some((zone, mac)) = peer.device {
            self.witness(zone, mac, peer.address);
        }
        // Closed with a request unread, the kernel would reset the connection, and with it the
        // answer. The end goes in the same packet.
        let _ = recv(socket, &mut request, MsgFlags::MSG_DONTWAIT);
        let answer = if with_body { &redirect.whole } else { &redirect.whole[..redirect.head] };
        let more_to_come = MsgFlags::from_bits_retain(libc::MSG_MORE);
        let _ =
            send(socket, answer, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL | more_to_come);
        true
    }

    /// `None` only if the portal's name cannot stand in a header, which the configuration refuses.
    fn redirect(&self, local: IpAddr) -> Option<Redirect> {
        let mut redirects = self.redirects.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(redirect) = redirects.get(&local) {
            return Some(redirect.clone());
        }
        let url = self.portal.url(local);
        let redirect = Redirect::to(&url)?;
        if redirects.len() >= REDIRECTS {
            redirects.clear();
        }
        redirects.insert(local, redirect.clone());
        Some(redirect)
    }

    fn witness(&self, zone: ZoneId, mac: Mac, address: IpAddr) {
        let due = self.seen.lock().unwrap_or_else(PoisonError::into_inner).due(mac, clock::boot());
        if due {
            self.inbox.offer(Event::Seen(Sighting {
                zone,
                mac,
                address: Some(address),
                hostname: None,
                evidence: Evidence::Http,
            }));
        }
    }
}

impl Redirect {
    fn to(url: &str) -> Option<Self> {
        let location = HeaderValue::from_str(url).ok()?;
        let body = pages::redirect(url).ok()?;
        let head = format!(
            "HTTP/1.1 302 Found\r\nlocation: {url}\r\ncache-control: no-store\r\n\
             content-type: text/html; charset=utf-8\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n",
            body.len()
        );
        Some(Self { location, head: head.len(), whole: (head + &body).into(), body: body.into() })
    }
}

/// Whether this is one whole GET or HEAD (RFC 9110, 9.3) with nothing behind its head; whether its
/// answer has a body.
fn usual(bytes: &[u8]) -> Option<bool> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let Ok(httparse::Status::Complete(length)) = request.parse(bytes) else { return None };
    let unusual = ["content-length", "transfer-encoding", "expect", "upgrade"];
    let mut names = request.headers.iter().map(|header| header.name);
    if length != bytes.len() || names.any(|n| unusual.iter().any(|u| u.eq_ignore_ascii_case(n))) {
        return None;
    }
    match request.method? {
        "GET" => Some(true),
        "HEAD" => Some(false),
        _ => None,
    }
}

/// Which devices were reported lately.
#[derive(Default)]
struct Seen(HashMap<Mac, BootTime>);

impl Seen {
    fn due(&mut self, mac: Mac, now: BootTime) -> bool {
        let fresh = |at: &BootTime| now - *at < SEEN_EVERY;
        if self.0.get(&mac).is_some_and(fresh) {
            return false;
        }
        if self.0.len() >= SEEN_AT_ONCE {
            self.0.retain(|_, at| fresh(at));
            // A flood of made-up addresses: evidence may be lost, memory may not.
            if self.0.len() >= SEEN_AT_ONCE {
                return false;
            }
        }
        self.0.insert(mac, now);
        true
    }
}

#[cfg(test)]
#[path = "intercept_tests.rs"]
mod tests;
