//! From a question's bytes to its answer's: joins the policy to the resolvers and the kernel.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::policy::{Counts, Flight, Payer, Policy, Verdict};
use super::seats::{Seat, Seats};
use super::{Hooks, Settings, upstream};
use crate::clock;
use crate::domain::names::ZoneId;
use crate::wire::dns::{Code, Kind, Name, Question, Reply};

/// Questions on their way to resolvers at once.
const MOST_FLIGHTS: usize = 256;
/// Guests' questions that wait at once.
const MOST_WAITING: usize = 2048;
/// One device's among them: who asks his own slow server must not shut the others out.
const MOST_OF_ONE: usize = 48;
/// Time for the kernel to open garden addresses.
const LEARN: Duration = Duration::from_secs(1);

/// The forwarder: one for all zones, so that they share its cache.
#[derive(Debug)]
pub struct Forwarder {
    settings: watch::Receiver<Arc<Settings>>,
    hooks: Hooks,
    seats: Seats<Payer>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    policy: Policy,
    flights: HashMap<(Name, Kind), Landing>,
}

/// Where a flight's end is awaited: nothing yet, or what the resolvers said.
type Landing = watch::Receiver<Option<Option<Reply>>>;

/// What to do with a question for now.
#[derive(Debug)]
pub(super) enum Step {
    /// Send this.
    Send(Vec<u8>),
    /// Await [`Forwarder::finish`].
    Wait(Waiting),
    /// Say nothing.
    Nothing,
}

/// A question that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    zone: ZoneId,
    question: Question,
    what: What,
    seat: Seat<Payer>,
}

#[derive(Debug)]
enum What {
    Learn(Reply),
    Flight(Landing),
}

impl Forwarder {
    /// A forwarder that obeys the newest settings.
    pub fn new(settings: watch::Receiver<Arc<Settings>>, hooks: Hooks) -> Arc<Self> {
        let state = State { policy: Policy::new(), flights: HashMap::new() };
        let seats = Seats::new(MOST_WAITING, MOST_OF_ONE);
        Arc::new(Self { settings, hooks, seats, state: Mutex::new(state) })
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        self.state().policy.counts
    }

    /// Takes in a message from an address of a zone.
    pub(super) fn begin(self: &Arc<Self>, zone: ZoneId, peer: IpAddr, bytes: &[u8]) -> Step {
        let Ok(question) = Question::parse(bytes) else {
            let mut state = self.state();
            state.policy.counts.malformed = state.policy.counts.malformed.wrapping_add(1);
            return Step::Nothing;
        };
        let payer = match (self.hooks.device)(zone, peer) {
            Some(mac) => Payer::Device(zone, mac),
            None => Payer::Address(zone, peer),
        };
        let settings = self.settings();
        let seat = self.seats.take(payer);
        let mut state = self.state();
        let key = (question.name.clone(), question.kind);
        let flight = match (&seat, state.flights.contains_key(&key)) {
            (Some(_), true) => Flight::UnderWay,
            (Some(_), false) if state.flights.len() < MOST_FLIGHTS => Flight::Clear,
            // Without a seat he may wait neither for another's flight nor for one of his own.
            _ => Flight::Full,
        };
        let verdict =
            state.policy.decide(&settings, (zone, payer), &question, flight, clock::boot());
        let what = match verdict {
            Verdict::Reply(reply) => return Step::Send(question.answer(&reply)),
            Verdict::Drop => return Step::Nothing,
            Verdict::Probe(reply) => {
                self.take_off(&mut state, key, settings);
                return Step::Send(question.answer(&reply));
            }
            Verdict::Learn(reply) => What::Learn(reply),
            Verdict::Forward => What::Flight(self.take_off(&mut state, key, settings)),
            Verdict::Join => match state.flights.get(&key) {
                Some(landing) => What::Flight(landing.clone()),
                None => return Step::Nothing,
            },
        };
        seat.map_or(Step::Nothing, |seat| Step::Wait(Waiting { zone, question, what, seat }))
    }

    /// The answer to a question that waits, once it may be sent.
    pub(super) async fn finish(&self, waiting: Waiting) -> Option<Vec<u8>> {
        let Waiting { zone, question, what, seat: _seat } = waiting;
        let verdict = match what {
            What::Learn(reply) => Verdict::Learn(reply),
            What::Flight(mut landing) => {
                let landed = landing.wait_for(Option::is_some).await.ok();
                let answer = landed.and_then(|landed| landed.clone().flatten());
                let settings = self.settings();
                match answer {
                    Some(reply) => Policy::with_answer(&settings, zone, &question.name, reply),
                    None => self.state().policy.without_answer(
                        &settings,
                        zone,
                        &question,
                        clock::boot(),
                    ),
                }
            }
        };
        match verdict {
            Verdict::Learn(reply) => {
                Some(question.answer(&self.learned((zone, &question.name), reply).await))
            }
            Verdict::Reply(reply) => Some(question.answer(&reply)),
            _ => None,
        }
    }

    /// A datagram from `guest` to our address `ours` is answered, or will not be.
    pub(super) fn done(&self, zone: ZoneId, guest: SocketAddr, ours: IpAddr) {
        let Some(mac) = (self.hooks.device)(zone, guest.ip()) else { return };
        // What is still awaited finds its way back by the same flow.
        if self.seats.has_none(Payer::Device(zone, mac)) {
            (self.hooks.asked)(zone, mac, guest, ours);
        }
    }

    /// The reply, once its addresses are open; SERVFAIL if they could not be opened.
    async fn learned(&self, (zone, name): (ZoneId, &Name), reply: Reply) -> Reply {
        // The settings may have changed since, and the name be in no garden any more.
        if let Some(garden) = self.settings().garden(zone, name) {
            let learning = (self.hooks.learn)(garden, reply.addresses.clone());
            if let Ok(Ok(())) = timeout(LEARN, learning).await {
                return reply;
            }
        }
        let mut state = self.state();
        state.policy.counts.not_learned = state.policy.counts.not_learned.wrapping_add(1);
        Reply::empty(Code::Failed)
    }

    /// Starts asking the resolvers, whether or not those who wait go on waiting.
    fn take_off(
        self: &Arc<Self>,
        state: &mut State,
        key: (Name, Kind),
        settings: Arc<Settings>,
    ) -> Landing {
        let (land, landing) = watch::channel(None);
        state.flights.insert(key.clone(), landing.clone());
        let forwarder = Arc::clone(self);
        tokio::spawn(async move {
            let (name, family) = &key;
            let asked = upstream::ask(&settings.upstreams, name, *family).await;
            let mut state = forwarder.state();
            state.policy.counts.mismatched =
                state.policy.counts.mismatched.wrapping_add(asked.mismatched);
            let reply =
                state.policy.settle(&settings, (name, *family), asked.answer, clock::boot());
            state.flights.remove(&key);
            let _ = land.send(Some(reply));
        });
        landing
    }

    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.borrow())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
