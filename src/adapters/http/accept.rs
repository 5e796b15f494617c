//! From listener to answered request: who it is, whether there is room, how long it may take. One
//! request a connection, so that nobody holds a place while idle and a stop drains at once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream};
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::body::{Body, Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::listen::Listener;
use super::{HttpError, syn};
use crate::domain::names::{Mac, ZoneId};

/// A stop waits at most this long for requests that are being answered.
const DRAIN: Duration = Duration::from_secs(2);
/// Bytes that a request's head may take; hyper's least.
const BUFFER: usize = 8192;
/// Connections answered at once before the loop and others on this thread get their turn.
const IN_A_ROW: u32 = 16;

/// Who is at the other end of a connection, as its socket knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    /// Their address.
    pub(super) address: IpAddr,
    /// The address of ours that they reached.
    pub(super) local: IpAddr,
    /// They came over TLS.
    pub(super) secure: bool,
    /// The zone of the listener and the MAC of the SYN; `None` on the staff's listener and where
    /// the kernel kept no SYN.
    pub(super) device: Option<(ZoneId, Mac)>,
}

/// How much of us connections may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Connections at once.
    pub(super) connections: usize,
    /// Connections at once from one device.
    pub(super) per_device: u16,
    /// Time for a request's head to arrive.
    pub(super) head: Duration,
    /// Time for a whole connection.
    pub(super) whole: Duration,
}

/// What came to a listener since the start.
#[derive(Debug, Default)]
pub struct Counts {
    /// Connections served to their end.
    pub served: AtomicU32,
    /// Requests that were not HTTP/1 (RFC 9112), or whose form was none, or too large: answered
    /// 400 or 431.
    pub malformed: AtomicU32,
    /// Connections closed at once because there was no room.
    pub refused: AtomicU32,
    /// Connections that took too long.
    pub late: AtomicU32,
}

/// Answers a connection whose request is there already, without waiting; false if it left all to
/// be done as usual.
pub(super) type AtOnce = Arc<dyn Fn(&Peer, &TcpStream) -> bool + Send + Sync>;

/// Serves every listener until `stop` turns true and what is in flight is answered; over TLS if
/// there is an acceptor, and past `service` what can be answered at once.
pub(super) async fn serve<S, F, B>(
    listeners: Vec<Listener>,
    tls: Option<TlsAcceptor>,
    limits: Limits,
    counts: Arc<Counts>,
    stop: watch::Receiver<bool>,
    at_once: Option<AtOnce>,
    service: F,
) -> Result<(), HttpError>
where
    F: Fn(Peer) -> S + Clone + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let door = Arc::new(Door {
        tls,
        limits,
        counts,
        room: Arc::new(Semaphore::new(limits.connections)),
        devices: Mutex::default(),
        at_once,
    });
    let mut loops = JoinSet::new();
    for mut listener in listeners {
        listener.start(door.at_once.is_some()).map_err(HttpError::Serve)?;
        loops.spawn(accept(listener, Arc::clone(&door), stop.clone(), service.clone()));
    }
    while loops.join_next().await.is_some() {}
    let all = u32::try_from(limits.connections).unwrap_or(u32::MAX);
    // What is still unanswered after the time is dropped with the runtime.
    let _ = tokio::time::timeout(DRAIN, door.room.acquire_many(all)).await;
    Ok(())
}

struct Door {
    tls: Option<TlsAcceptor>,
    limits: Limits,
    counts: Arc<Counts>,
    room: Arc<Semaphore>,
    /// Open connections of each device; at most as many entries as there is room.
    devices: Mutex<HashMap<Source, u16>>,
    at_once: Option<AtOnce>,
}

/// What connections are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    Device(Mac),
    Network(IpAddr),
}

/// A connection's place; given back when dropped.
struct Place {
    door: Arc<Door>,
    source: Source,
    _room: OwnedSemaphorePermit,
}

impl Door {
    fn answers_at_once(&self, peer: &Peer, stream: &TcpStream) -> bool {
        self.at_once.as_ref().is_some_and(|at_once| at_once(peer, stream))
    }

    fn enter(self: &Arc<Self>, peer: &Peer) -> Option<Place> {
        let room = Arc::clone(&self.room).try_acquire_owned().ok()?;
        let source = match peer.device {
            Some((_, mac)) => Source::Device(mac),
            None => Source::Network(network(peer.address)),
        };
        let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        let open = devices.entry(source).or_default();
        if *open >= self.limits.per_device {
            return None;
        }
        *open += 1;
        Some(Place { door: Arc::clone(self), source, _room: room })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut devices = self.door.devices.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut open) = devices.entry(self.source) {
            *open.get_mut() -= 1;
            if *open.get() == 0 {
                open.remove();
            }
        }
    }
}

/// A neighbour has a whole /64 of addresses to come from.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
    }
}

async fn accept<S, F, B>(
    mut listener: Listener,
    door: Arc<Door>,
    mut stop: watch::Receiver<bool>,
    service: F,
) where
    F: Fn(Peer) -> S,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let zone = listener.zone;
    let stopped = stop.clone();
    let mut stopping = pin!(stop.wait_for(|stop| *stop));
    let mut in_a_row = 0;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = &mut stopping => return,
        };
        let identified =
            accepted.and_then(|(stream, from)| Ok((identify(&stream, from, zone, &door)?, stream)));
        match identified {
            Ok((peer, stream)) if door.answers_at_once(&peer, &stream) => {
                count(&door.counts.served);
                in_a_row += 1;
                if in_a_row == IN_A_ROW {
                    in_a_row = 0;
                    tokio::task::yield_now().await;
                }
            }
            Ok((peer, stream)) => match door.enter(&peer) {
                Some(place) => {
                    tokio::spawn(answer(stream, place, stopped.clone(), service(peer)));
                }
                None => count(&door.counts.refused),
            },
            // The guest was gone before we looked.
            Err(error) if gone(&error) => {}
            // Out of descriptors or memory: others must finish first.
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn identify(
    stream: &TcpStream,
    from: SocketAddr,
    zone: Option<ZoneId>,
    door: &Door,
) -> io::Result<Peer> {
    Ok(Peer {
        secure: door.tls.is_some(),
        address: from.ip().to_canonical(),
        local: stream.local_addr()?.ip().to_canonical(),
        device: zone.and_then(|zone| Some((zone, syn::station(stream)?))),
    })
}

fn gone(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, NotConnected};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | NotConnected)
}

async fn answer<S, B>(stream: TcpStream, place: Place, stop: watch::Receiver<bool>, service: S)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let Door { tls, limits, counts, .. } = &*place.door;
    let converted =
        stream.set_nonblocking(true).and_then(|()| tokio::net::TcpStream::from_std(stream));
    let stream = match converted {
        Ok(stream) => stream,
        Err(error) => return tracing::warn!(%error, "cannot serve a connection"),
    };
    let Some(acceptor) = tls else {
        return converse(stream, *limits, counts, stop, service).await;
    };
    match tokio::time::timeout(limits.head, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => converse(stream, *limits, counts, stop, service).await,
        // A client that does not trust us, or no TLS at all.
        Ok(Err(_)) => count(&counts.malformed),
        Err(_) => count(&counts.late),
    }
}

/// One connection, from its first byte to its last.
pub(super) async fn converse<IO, S, B>(
    stream: IO,
    limits: Limits,
    counts: &Counts,
    mut stop: watch::Receiver<bool>,
    service: S,
) where
    IO: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(BUFFER)
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        // A router's clock may be wrong, and a server without a clock sends no date (RFC 9110).
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let served = tokio::time::timeout(limits.whole, async {
        tokio::select! {
            served = connection.as_mut() => return served,
            _ = stop.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    });
    match served.await {
        Ok(Ok(())) => count(&counts.served),
        Ok(Err(error)) if error.is_parse() => count(&counts.malformed),
        Ok(Err(error)) if error.is_timeout() => count(&counts.late),
        // The guest left in the middle.
        Ok(Err(_)) => {}
        Err(_) => count(&counts.late),
    }
}

pub(super) fn count(what: &AtomicU32) {
    what.fetch_add(1, Ordering::Relaxed);
}
