//! Listens on the guests' interfaces: DHCP, ARP and neighbour discovery become events.
//!
//! One thread an interface, on sockets that forwarded IPv4 packets do not meet. What comes up is
//! untrusted: each frame is parsed once, by [`crate::wire::evidence`], and each device may be heard
//! only so often.

mod clients;
mod filter;
mod known;
mod listen;
mod pace;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

pub use self::known::Known;
use self::listen::Listening;
use super::inbox::Inbox;
use super::neighbours::{Link, Links};
use crate::domain::names::ZoneId;
use crate::wire::evidence::FrameError;

/// Why an interface is not, or no longer, listened to.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// No packet socket (`CAP_NET_RAW`?).
    #[error("cannot open a packet socket: {0}")]
    Open(#[source] io::Error),
    /// The kernel refused the filter.
    #[error("cannot attach the packet filter: {0}")]
    Filter(#[source] io::Error),
    /// The interface cannot be listened to.
    #[error("cannot listen on the interface: {0}")]
    Bind(#[source] io::Error),
    /// No thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
    /// The interface is gone.
    #[error("the interface is gone")]
    Vanished,
    /// Reading failed.
    #[error("cannot read from the interface: {0}")]
    Read(#[source] io::Error),
}

/// What was heard on one interface since the start. Counters wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames that came up.
    pub frames: u32,
    /// Frames that said nothing, by [`FrameError::place`].
    pub refused: [u32; FrameError::ALL.len()],
    /// Frames of devices that had been heard often enough.
    pub paced: u32,
    /// Frames that the kernel dropped because they came too fast.
    pub lost: u32,
}

/// The ears of all zones.
#[derive(Debug)]
pub struct Captures {
    ears: Vec<Ear>,
    inbox: Inbox,
    known: Known,
}

impl Captures {
    /// Ears for these zones and their interfaces; deaf until [`Self::follow`].
    pub fn new(zones: impl IntoIterator<Item = (ZoneId, String)>, inbox: Inbox) -> Self {
        let ear =
            |(zone, interface)| Ear { zone, interface, counters: Arc::default(), listening: None };
        Self { ears: zones.into_iter().map(ear).collect(), inbox, known: Known::new() }
    }

    /// The devices behind the addresses that are heard.
    pub fn known(&self) -> Known {
        self.known.clone()
    }

    /// Listens on those interfaces that are there and up, and ends what listened to one that is
    /// gone or whose thread has ended. To be called with each change of `links`, and now and then.
    /// Never waits. Returns what could not be started; the next call tries again.
    pub fn follow(&mut self, links: &Links) -> Vec<(ZoneId, CaptureError)> {
        let mut failed = Vec::new();
        for ear in &mut self.ears {
            let link = links.get(&ear.interface).filter(|link| link.up);
            if let Err(error) = ear.follow(link, &self.inbox, &self.known) {
                failed.push((ear.zone, error));
            }
        }
        failed
    }

    /// What is heard, for whoever reports it.
    pub fn tally(&self) -> Tally {
        Tally(self.ears.iter().map(|ear| (ear.zone, Arc::clone(&ear.counters))).collect())
    }
}

/// What was heard so far, by zone. What the kernel dropped is added with each
/// [`Captures::follow`].
#[derive(Clone, Debug)]
pub struct Tally(Vec<(ZoneId, Arc<Counters>)>);

impl Tally {
    /// The counts of now.
    pub fn counts(&self) -> impl Iterator<Item = (ZoneId, Counts)> + '_ {
        self.0.iter().map(|(zone, counters)| (*zone, counters.read()))
    }
}

/// One zone's ear.
#[derive(Debug)]
struct Ear {
    zone: ZoneId,
    interface: String,
    counters: Arc<Counters>,
    listening: Option<Listening>,
}

impl Ear {
    fn follow(
        &mut self,
        link: Option<&Link>,
        inbox: &Inbox,
        known: &Known,
    ) -> Result<(), CaptureError> {
        if let Some(listening) = &self.listening {
            add(&self.counters.lost, listening.dropped());
        }
        if let Some(link) = link
            && self.listening.as_ref().is_some_and(|listening| listening.hears(link.index))
        {
            return Ok(());
        }
        self.listening = None;
        let Some(link) = link else { return Ok(()) };
        self.listening = Some(Listening::start(
            link,
            self.zone,
            &self.counters,
            (inbox.clone(), known.clone()),
        )?);
        tracing::info!(interface = %link.name, "listening for guests");
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Counters {
    frames: AtomicU32,
    refused: [AtomicU32; FrameError::ALL.len()],
    paced: AtomicU32,
    lost: AtomicU32,
}

impl Counters {
    fn read(&self) -> Counts {
        let read = |counter: &AtomicU32| counter.load(Ordering::Relaxed);
        Counts {
            frames: read(&self.frames),
            refused: self.refused.each_ref().map(read),
            paced: read(&self.paced),
            lost: read(&self.lost),
        }
    }
}

fn add(counter: &AtomicU32, more: u32) {
    counter.fetch_add(more, Ordering::Relaxed);
}
