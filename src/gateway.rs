//! The loop: one owner of the domain. Takes what the adapters put in the inbox, asks the domain
//! what to do, and hands each effect to the adapter that does it; it waits for none of them.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, info, warn};

use crate::adapters::firewall;
use crate::adapters::inbox::Envelope;
use crate::adapters::neighbours::Neighbours;
use crate::adapters::sms::SmsHandle;
use crate::adapters::store::Store;
use crate::clock::Clock;
use crate::config::OnStop;
use crate::domain::Domain;
use crate::domain::effect::{Answer, Effect, Firewall, Message, Record, Refusal};
use crate::domain::event::Event;
use crate::domain::names::RequestId;

/// How often an untrusted wall clock is looked at again.
const CLOCK_EVERY: Duration = Duration::from_secs(5);
/// How long a stop waits for the kernel's counters.
const USAGE_WITHIN: Duration = Duration::from_secs(1);
/// How long a stop waits for messages that are being sent.
const SMS_WITHIN: Duration = Duration::from_secs(3);
/// Envelopes taken at a time, so that a deadline is never far behind a flood.
const AT_ONCE: usize = 64;

/// The adapters that effects go to.
#[derive(Debug)]
pub struct Hands {
    /// The kernel's table.
    pub firewall: firewall::Handle,
    /// The database.
    pub store: Store,
    /// The messages; `None` if the store sends none.
    pub sms: Option<SmsHandle>,
    /// ARP and neighbour discovery; `None` while stopping.
    pub neighbours: Option<Neighbours>,
}

/// The loop's state.
#[derive(Debug)]
pub struct Gateway {
    domain: Domain,
    clock: Clock,
    outlet: mpsc::Receiver<Envelope>,
    hands: Hands,
    waiting: HashMap<RequestId, oneshot::Sender<Answer>>,
    effects: Vec<Effect>,
    /// Revokes, rebuilds and blocks that the firewall's queue had no room for.
    owed: Vec<Firewall>,
    clock_trusted: bool,
}

impl Gateway {
    /// A gateway around a domain that has been restored; `first` is what that asks to be done.
    pub fn new(
        domain: Domain,
        clock: Clock,
        outlet: mpsc::Receiver<Envelope>,
        hands: Hands,
        first: Vec<Effect>,
    ) -> Self {
        let mut gateway = Self {
            domain,
            clock,
            outlet,
            hands,
            waiting: HashMap::new(),
            effects: first,
            owed: Vec::new(),
            clock_trusted: false,
        };
        gateway.look_at_clock();
        gateway.perform();
        gateway
    }

    /// Runs until `shutdown`, then leaves everything on disk and the firewall as `on_stop` says.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>, on_stop: OnStop) {
        let mut clock_check = tokio::time::interval(CLOCK_EVERY);
        let mut taken = Vec::with_capacity(AT_ONCE);
        loop {
            let pause = self.until_deadline();
            tokio::select! {
                biased;
                _ = shutdown.wait_for(|stop| *stop) => break,
                _ = clock_check.tick(), if !self.clock_trusted => self.look_at_clock(),
                () = tokio::time::sleep(pause) => self.handle(Event::Tick),
                _ = self.outlet.recv_many(&mut taken, AT_ONCE) => {
                    for envelope in taken.drain(..) {
                        self.take(envelope);
                    }
                }
            }
        }
        self.stop(on_stop).await;
    }

    fn take(&mut self, envelope: Envelope) {
        if let Some((request, reply)) = envelope.reply {
            self.waiting.insert(request, reply);
        }
        self.handle(envelope.event);
    }

    fn handle(&mut self, event: Event) {
        for effect in std::mem::take(&mut self.owed) {
            self.effects.push(Effect::Firewall(effect));
        }
        self.domain.handle(event, self.clock.now(), &mut self.effects);
        self.perform();
    }

    /// Hands on the effects, the firewall's first, which guests wait for; an adapter that takes no
    /// more is an outcome the domain is told at once, which may lead to further effects.
    fn perform(&mut self) {
        while !self.effects.is_empty() {
            self.effects.sort_by_key(|effect| !matches!(effect, Effect::Firewall(_)));
            for effect in std::mem::take(&mut self.effects) {
                if let Some(refusal) = self.hand_on(effect) {
                    self.domain.handle(refusal, self.clock.now(), &mut self.effects);
                }
            }
        }
    }

    fn hand_on(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Firewall(effect) => {
                self.hands.firewall.submit(effect).err().and_then(|effect| self.refused(effect))
            }
            Effect::Store(record) => self.store(record),
            Effect::Sms(message) => match &self.hands.sms {
                Some(sms) => sms.send(message),
                None => Some(unsent(&message)),
            },
            Effect::Reply { request, answer } => {
                // A browser that has gone away is no fault of ours.
                self.waiting.remove(&request).map(|reply| reply.send(answer));
                None
            }
            Effect::Solicit { zone, mac, addresses } => {
                if let Some(neighbours) = &self.hands.neighbours {
                    neighbours.solicit(zone, mac, &addresses);
                }
                None
            }
        }
    }

    fn store(&self, record: Record) -> Option<Event> {
        if let Record::Alarm { begins, sent, accepted, .. } = record {
            warn!(begins, sent, accepted, "few codes come back: messages may be pumped");
        }
        let answered = match &record {
            Record::SessionStarted { grant, .. } => Some(grant.session),
            _ => None,
        };
        self.hands.store.submit(record).err().and_then(|full| {
            error!(%full, "a record is lost");
            answered.map(Event::StoreFailed)
        })
    }

    fn refused(&mut self, effect: Firewall) -> Option<Event> {
        error!("the firewall's queue is full");
        match effect {
            Firewall::Grant(grant) | Firewall::Replace(grant) => {
                Some(Event::GrantFailed(grant.session))
            }
            Firewall::Pass(pass) => {
                Some(Event::Passed { zone: pass.zone, mac: pass.mac, opened: false })
            }
            Firewall::Revoke(_) | Firewall::Rebuild(_) | Firewall::Block(_) => {
                self.owed.push(effect);
                None
            }
            Firewall::ReadUsage => None,
        }
    }

    fn until_deadline(&self) -> Duration {
        match self.domain.next_timeout() {
            Some(deadline) => deadline - self.clock.now().boot,
            None => Duration::from_secs(3600),
        }
    }

    fn look_at_clock(&mut self) {
        let now = self.clock.now();
        if let Some(wall) = now.wall
            && !self.clock_trusted
        {
            info!("the wall clock is trusted");
            self.clock_trusted = true;
            let offset = wall.0.saturating_sub_unsigned(now.boot.0);
            if self.hands.store.clock_trusted(offset).is_err() {
                self.clock_trusted = false;
            }
        }
    }

    async fn stop(mut self, on_stop: OnStop) {
        // Closing a packet socket takes the kernel 10 ms: meanwhile the counters are read.
        let neighbours = self.hands.neighbours.take();
        tokio::task::spawn_blocking(move || drop(neighbours));
        // The last counters go to disk as well, should the kernel forget them.
        let asked = self.hands.firewall.submit(Firewall::ReadUsage).is_ok();
        let mut counted = false;
        while asked && !counted {
            let next = tokio::time::timeout(USAGE_WITHIN, self.outlet.recv()).await;
            let Ok(Some(envelope)) = next else { break };
            counted = matches!(envelope.event, Event::Usage(_));
            self.take(envelope);
        }
        self.outlet.close();
        while let Some(envelope) = self.outlet.recv().await {
            self.take(envelope);
        }
        self.hands.store.closing();
        self.handle(Event::Stopping);
        let Hands { firewall, store, sms, .. } = self.hands;
        // The process ends: to take thousands of guests apart first would only hold it up.
        std::mem::forget(self.domain);
        let closing = tokio::task::spawn_blocking(move || {
            if let Some(sms) = sms
                && !sms.stop(SMS_WITHIN)
            {
                warn!("messages were still under way");
            }
            firewall.stop(on_stop);
            store.close();
        });
        match closing.await {
            Ok(()) => info!("stopped"),
            Err(problem) => error!(%problem, "stopping"),
        }
    }
}

fn unsent(message: &Message) -> Event {
    Event::Sms { mac: message.mac, message: message.message, sent: Err(Refusal::NotSent) }
}
