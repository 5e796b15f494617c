//! The thread that listens to one interface.

use std::io::{self, PipeReader, PipeWriter, pipe};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pnet::datalink::{self, Channel, ChannelType, DataLinkReceiver, NetworkInterface};

use super::clients::Clients;
use super::pace::Pace;
use super::{CaptureError, Counters, Known, add, filter};
use crate::adapters::inbox::Inbox;
use crate::adapters::neighbours::Link;
use crate::adapters::packet::PacketSocket;
use crate::clock;
use crate::domain::names::ZoneId;
use crate::wire::evidence;

/// A thread that rests during a flood looks this often whether it shall stop.
const LOOK_UP: Duration = Duration::from_millis(250);
/// A capture thread parses small frames; this leaves room to spare.
const STACK: usize = 128 * 1024;

/// A thread that listens. Dropped: told to stop, but not waited for, because the loop never waits.
#[derive(Debug)]
pub(super) struct Listening {
    /// Closed, it stops the thread at once: to close its sockets takes the kernel 10 ms each.
    _stop: PipeWriter,
    sockets: [Arc<PacketSocket>; 2],
    thread: JoinHandle<()>,
}

impl Listening {
    /// Opens, filters and binds the sockets, and starts the thread that reads them.
    pub(super) fn start(
        link: &Link,
        zone: ZoneId,
        counters: &Arc<Counters>,
        (inbox, known): (Inbox, Known),
    ) -> Result<Self, CaptureError> {
        let (arp, arp_frames) = frames(link, libc::ETH_P_ARP)?;
        let (v6, v6_frames) = frames(link, libc::ETH_P_IPV6)?;
        let clients = Clients::open(&link.name).map_err(CaptureError::Open)?;
        let sources = [
            Source::Frames(arp.clone(), arp_frames),
            Source::Frames(v6.clone(), v6_frames),
            Source::Clients(clients),
        ];
        let (stopped, stop) = pipe().map_err(CaptureError::Open)?;
        let mut listener =
            Listener { counters: counters.clone(), zone, inbox, known, pace: Pace::default() };
        let interface = link.name.clone();
        let thread = thread::Builder::new()
            .name(format!("hear-{interface}"))
            .stack_size(STACK)
            .spawn(move || {
                if let Err(error) = listener.run(sources, &stopped) {
                    tracing::warn!(%interface, %error, "no longer listening");
                }
            })
            .map_err(CaptureError::Thread)?;
        Ok(Self { _stop: stop, sockets: [arp, v6], thread })
    }

    /// Whether it still listens to the interface with this index. One that was deleted and made
    /// again under the same index is another.
    pub(super) fn hears(&self, index: u32) -> bool {
        let bound = |socket: &Arc<PacketSocket>| socket.interface().ok().flatten();
        !self.thread.is_finished() && self.sockets.iter().all(|socket| bound(socket) == Some(index))
    }

    /// Frames that the kernel dropped since the last call.
    pub(super) fn dropped(&self) -> u32 {
        self.sockets.iter().map(|socket| socket.dropped().unwrap_or(0)).sum()
    }
}

/// A packet socket of one protocol, so that the packets of others are not held up by it, in the
/// hands of pnet, which binds it to the interface: from here on frames arrive.
fn frames(
    link: &Link,
    protocol: libc::c_int,
) -> Result<(Arc<PacketSocket>, Box<dyn DataLinkReceiver>), CaptureError> {
    let socket = PacketSocket::open().map_err(CaptureError::Open)?;
    socket.filter(&filter::FRAMES).map_err(CaptureError::Filter)?;
    let protocol = u16::try_from(protocol).map_err(io::Error::other).map_err(CaptureError::Bind)?;
    let interface = NetworkInterface {
        name: link.name.clone(),
        description: String::new(),
        index: link.index,
        mac: Some(link.mac.0.into()),
        ips: Vec::new(),
        flags: 0,
    };
    let config = datalink::Config {
        // The socket is made already, and gives whole frames; this only names what it is bound to.
        channel_type: ChannelType::Layer3(protocol),
        read_buffer_size: filter::DHCP_SNAP as usize,
        write_buffer_size: 0,
        read_timeout: Some(Duration::ZERO),
        promiscuous: false,
        // pnet closes its handle itself, also when it fails.
        socket_fd: Some(socket.duplicate().map_err(CaptureError::Open)?),
        ..datalink::Config::default()
    };
    match datalink::channel(&interface, config).map_err(CaptureError::Bind)? {
        Channel::Ethernet(_, frames) => Ok((Arc::new(socket), frames)),
        _ => Err(CaptureError::Bind(io::ErrorKind::Unsupported.into())),
    }
}

/// What a capture thread reads.
enum Source {
    Frames(Arc<PacketSocket>, Box<dyn DataLinkReceiver>),
    Clients(Clients),
}

impl Source {
    fn next(&mut self) -> io::Result<&[u8]> {
        match self {
            Self::Frames(_, frames) => frames.next(),
            Self::Clients(clients) => clients.next(),
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
        let Self::Frames(socket, _) = self else { return Err(CaptureError::Read(error)) };
        // pnet polls and does not tell which error it woke for.
        let pending = socket.take_error();
        if socket.interface().map_err(CaptureError::Read)?.is_none() {
            return Err(CaptureError::Vanished);
        }
        match pending.err().unwrap_or(error) {
            // The kernel listens again by itself once the interface is up.
            down if down.raw_os_error() == Some(libc::ENETDOWN) => Ok(()),
            error => Err(CaptureError::Read(error)),
        }
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Frames(socket, _) => socket.as_fd(),
            Self::Clients(clients) => clients.as_fd(),
        }
    }
}

/// Waits until there is something to read, and says from whom; or until the other end of `stopped`
/// is closed.
fn ready(
    [arp, v6, clients]: &[Source; 3],
    stopped: &PipeReader,
) -> Result<[bool; 4], CaptureError> {
    let mut waiting = [arp.as_fd(), v6.as_fd(), clients.as_fd(), stopped.as_fd()]
        .map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    match poll(&mut waiting, PollTimeout::NONE) {
        Ok(_) => Ok(waiting.map(|source| source.any().unwrap_or(true))),
        Err(nix::errno::Errno::EINTR) => Ok([false; 4]),
        Err(error) => Err(CaptureError::Read(error.into())),
    }
}

/// The body of a capture thread.
struct Listener {
    counters: Arc<Counters>,
    zone: ZoneId,
    inbox: Inbox,
    known: Known,
    pace: Pace,
}

impl Listener {
    fn run(&mut self, mut sources: [Source; 3], stopped: &PipeReader) -> Result<(), CaptureError> {
        loop {
            let [ready @ .., stop] = ready(&sources, stopped)?;
            if stop {
                return Ok(());
            }
            for (source, _) in sources.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
                match source.next() {
                    Ok(frame) => self.hear(frame),
                    Err(error) => source.excuse(error)?,
                }
            }
            if let Some(rest) = self.pace.rest(clock::boot()) {
                thread::sleep(rest.min(LOOK_UP));
            }
        }
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
}
