//! The way into the loop, for every adapter: bounded, so that a flood is dropped and counted at
//! the door instead of filling memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::{mpsc, oneshot};

use crate::domain::effect::Answer;
use crate::domain::event::Event;
use crate::domain::names::RequestId;

/// Events that may wait for the loop at once.
pub const CAPACITY: usize = 1024;

/// What lies in the inbox: an event, and who awaits its answer.
#[derive(Debug)]
pub struct Envelope {
    /// What happened.
    pub event: Event,
    /// Where the answer to the event's request goes.
    pub reply: Option<(RequestId, oneshot::Sender<Answer>)>,
}

/// A handle for putting events in; cheap to clone, usable from any thread.
#[derive(Clone, Debug)]
pub struct Inbox {
    sender: mpsc::Sender<Envelope>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    next_request: AtomicU32,
    dropped: AtomicU32,
}

/// The loop is too busy, or gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the gateway is too busy to answer")]
pub struct Busy;

impl Inbox {
    /// An inbox and its outlet, which the loop holds.
    pub fn new() -> (Self, mpsc::Receiver<Envelope>) {
        let (sender, receiver) = mpsc::channel(CAPACITY);
        (Self { sender, shared: Arc::default() }, receiver)
    }

    /// Puts in what may be lost (evidence); if the inbox is full it is dropped and counted.
    pub fn offer(&self, event: Event) {
        if self.sender.try_send(Envelope { event, reply: None }).is_err() {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Puts in what must not be lost (outcomes), from a thread that may wait for room. False if
    /// the loop is gone.
    pub fn tell(&self, event: Event) -> bool {
        self.sender.blocking_send(Envelope { event, reply: None }).is_ok()
    }

    /// Puts in what must not be lost (outcomes), from a task. False if the loop is gone.
    pub async fn send(&self, event: Event) -> bool {
        self.sender.send(Envelope { event, reply: None }).await.is_ok()
    }

    /// Asks and awaits the answer; a full inbox is an error at once.
    pub async fn ask(&self, event: impl FnOnce(RequestId) -> Event) -> Result<Answer, Busy> {
        let request = RequestId(self.shared.next_request.fetch_add(1, Ordering::Relaxed));
        let (reply, answer) = oneshot::channel();
        let envelope = Envelope { event: event(request), reply: Some((request, reply)) };
        self.sender.try_send(envelope).map_err(|_| Busy)?;
        answer.await.map_err(|_| Busy)
    }

    /// Asks and waits for the answer, from a thread that may wait; for room too.
    pub fn ask_and_wait(&self, event: impl FnOnce(RequestId) -> Event) -> Result<Answer, Busy> {
        let request = RequestId(self.shared.next_request.fetch_add(1, Ordering::Relaxed));
        let (reply, answer) = oneshot::channel();
        let envelope = Envelope { event: event(request), reply: Some((request, reply)) };
        self.sender.blocking_send(envelope).map_err(|_| Busy)?;
        answer.blocking_recv().map_err(|_| Busy)
    }

    /// Events dropped since the start because the inbox was full.
    pub fn dropped(&self) -> u32 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}
