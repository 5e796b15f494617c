//! The thread that listens to one interface.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use pnet::datalink::{self, Channel, DataLinkReceiver, NetworkInterface};

use super::pace::Pace;
use super::{CaptureError, Counters, Known, add, filter};
use crate::adapters::inbox::Inbox;
use crate::adapters::neighbours::Link;
use crate::adapters::packet::PacketSocket;
use crate::clock;
use crate::domain::names::ZoneId;
use crate::wire::evidence;

/// A thread looks this often whether it shall stop.
const LOOK_UP: Duration = Duration::from_millis(250);
/// A capture thread parses small frames; this leaves room to spare.
const STACK: usize = 128 * 1024;

/// A thread that listens. Dropped: told to stop, but not waited for, because the loop never waits.
#[derive(Debug)]
pub(super) struct Listening {
    stop: Arc<AtomicBool>,
    socket: Arc<PacketSocket>,
    thread: JoinHandle<()>,
}

impl Listening {
    /// Opens, filters and binds a socket, and starts the thread that reads it.
    pub(super) fn start(
        link: &Link,
        zone: ZoneId,
        counters: &Arc<Counters>,
        (inbox, known): (Inbox, Known),
    ) -> Result<Self, CaptureError> {
        let socket = Arc::new(PacketSocket::open().map_err(CaptureError::Open)?);
        socket.filter(&filter::PROGRAM).map_err(CaptureError::Filter)?;
        let frames = bind(&socket, link)?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut listener = Listener {
            socket: socket.clone(),
            stop: stop.clone(),
            counters: counters.clone(),
            zone,
            inbox,
            known,
            pace: Pace::default(),
        };
        let interface = link.name.clone();
        let thread = thread::Builder::new()
            .name(format!("hear-{interface}"))
            .stack_size(STACK)
            .spawn(move || {
                if let Err(error) = listener.run(frames) {
                    tracing::warn!(%interface, %error, "no longer listening");
                }
            })
            .map_err(CaptureError::Thread)?;
        Ok(Self { stop, socket, thread })
    }

    /// Whether it still listens to the interface with this index. One that was deleted and made
    /// again under the same index is another.
    pub(super) fn hears(&self, index: u32) -> bool {
        !self.thread.is_finished()
            && self.socket.interface().is_ok_and(|bound| bound == Some(index))
    }

    /// Frames that the kernel dropped since the last call.
    pub(super) fn dropped(&self) -> u32 {
        self.socket.dropped().unwrap_or(0)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Hands the socket to pnet, which binds it to the interface: from here on frames arrive.
fn bind(socket: &PacketSocket, link: &Link) -> Result<Box<dyn DataLinkReceiver>, CaptureError> {
    let interface = NetworkInterface {
        name: link.name.clone(),
        description: String::new(),
        index: link.index,
        mac: Some(link.mac.0.into()),
        ips: Vec::new(),
        flags: 0,
    };
    let config = datalink::Config {
        read_buffer_size: filter::DHCP_SNAP as usize,
        write_buffer_size: 0,
        read_timeout: Some(LOOK_UP),
        promiscuous: false,
        // pnet closes its handle itself, also when it fails.
        socket_fd: Some(socket.duplicate().map_err(CaptureError::Open)?),
        ..datalink::Config::default()
    };
    match datalink::channel(&interface, config).map_err(CaptureError::Bind)? {
        Channel::Ethernet(_, frames) => Ok(frames),
        _ => Err(CaptureError::Bind(io::ErrorKind::Unsupported.into())),
    }
}

/// The body of a capture thread.
struct Listener {
    socket: Arc<PacketSocket>,
    stop: Arc<AtomicBool>,
    counters: Arc<Counters>,
    zone: ZoneId,
    inbox: Inbox,
    known: Known,
    pace: Pace,
}

impl Listener {
    fn run(&mut self, mut frames: Box<dyn DataLinkReceiver>) -> Result<(), CaptureError> {
        while !self.stop.load(Ordering::Relaxed) {
            match frames.next() {
                Ok(frame) => self.hear(frame),
                Err(error) => self.excuse(error)?,
            }
            if let Some(rest) = self.pace.rest(clock::boot()) {
                thread::sleep(rest.min(LOOK_UP));
            }
        }
        Ok(())
    }

    fn hear(&mut self, frame: &[u8]) {
        add(&self.counters.frames, 1);
        self.pace.frame(clock::boot());
        match evidence::parse(frame) {
            Ok(heard) if self.pace.admit(heard.mac) => {
                let event = heard.into_event(self.zone);
                self.known.note(&event);
                self.inbox.offer(event);
            }
            Ok(_) => add(&self.counters.paced, 1),
            Err(error) => add(&self.counters.refused[error.place()], 1),
        }
    }

    /// Tells what passes (nothing to read, the interface down for a while) from what is final.
    fn excuse(&self, error: io::Error) -> Result<(), CaptureError> {
        match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock => {
                return Ok(());
            }
            _ => {}
        }
        // pnet polls and does not tell which error it woke for.
        let pending = self.socket.take_error();
        if self.socket.interface().map_err(CaptureError::Read)?.is_none() {
            return Err(CaptureError::Vanished);
        }
        match pending.err().unwrap_or(error) {
            // The kernel listens again by itself once the interface is up.
            down if down.raw_os_error() == Some(libc::ENETDOWN) => Ok(()),
            error => Err(CaptureError::Read(error)),
        }
    }
}
