//! The thread that asks the backend.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use ureq::Agent;

use super::{AccountError, HOUR, Order, REST, Settings, State, lock};
use crate::adapters::client;
use crate::adapters::inbox::Inbox;
use crate::adapters::store::Store;
use crate::adapters::sync::schedule::share;
use crate::clock;
use crate::domain::auth::follow::Card;
use crate::domain::effect::{Answer, Report};
use crate::domain::event::{Command, Event};
use crate::domain::names::{BootTime, GuestKey};

/// For one exchange; shorter than a browser waits.
const TIMEOUT: Duration = Duration::from_millis(3500);
/// A list of erasures is short.
const LONGEST_ANSWER: u64 = 64 << 10;
/// The first look at the erasures comes within this, by store.
const FIRST: Duration = Duration::from_mins(10);
/// A connection and its certificates are let go after this long.
const IDLE: Duration = Duration::from_mins(1);

pub(super) struct Worker {
    settings: Settings,
    store: Store,
    inbox: Inbox,
    state: Arc<Mutex<State>>,
    agent: Option<Agent>,
}

#[derive(Deserialize)]
struct Ticket {
    url: String,
    seconds: u64,
}

#[derive(Deserialize)]
struct Erasures {
    erasures: Vec<Erasure>,
}

#[derive(Deserialize)]
struct Erasure {
    id: i64,
    guest: GuestKey,
}

impl Worker {
    pub(super) fn new(
        settings: Settings,
        store: Store,
        inbox: Inbox,
        state: Arc<Mutex<State>>,
    ) -> Self {
        Self { settings, store, inbox, state, agent: None }
    }

    pub(super) fn work(mut self, orders: &Receiver<Order>) {
        let mut due = clock::boot() + share(FIRST, &self.settings.store_id);
        loop {
            let now = clock::boot();
            if now >= due {
                due = now + HOUR;
                if let Err(error) = self.forget() {
                    tracing::warn!(%error, "who is to be forgotten is not known");
                }
            }
            match orders.recv_timeout((due - now).min(IDLE)) {
                // Nobody may be left to hear it.
                Ok(Order::Ticket(card, reply)) => drop(reply.send(self.ticket(card))),
                Ok(Order::Forget(reply)) => drop(reply.send(self.forget())),
                Err(RecvTimeoutError::Timeout) => self.agent = None,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn ticket(&mut self, card: Card) -> Option<String> {
        let now = clock::boot();
        {
            // It may have come, or the backend have failed, while the order waited.
            let state = lock(&self.state);
            if let Some(known) = state.ticket(card, now) {
                return Some(known);
            }
            if now < state.rest {
                return None;
            }
        }
        match self.ask::<Ticket>("/ticket", &json!({ "card": card.code() })) {
            Ok(Ticket { url, seconds }) => {
                let until: BootTime = now + Duration::from_secs(seconds.min(86_400));
                lock(&self.state).keep(card, url.clone(), until, now);
                Some(url)
            }
            Err(error) => {
                tracing::warn!(%error, "no QR code for the account");
                lock(&self.state).rest = clock::boot() + REST;
                None
            }
        }
    }

    /// Forgets who is to be forgotten, and says so to the backend, until there is nobody left.
    fn forget(&mut self) -> Result<u32, AccountError> {
        let (mut done, mut count) = (Vec::new(), 0);
        loop {
            let Erasures { erasures } = self.ask("/erasures", &json!({ "done": done }))?;
            if erasures.is_empty() {
                return Ok(count);
            }
            done.clear();
            for Erasure { id, guest } in erasures {
                // First in memory, or the domain might name the guest to the disk again.
                let command = Command::Erase { guest };
                let event = |request| Event::Control { request, command };
                match self.inbox.ask_and_wait(event) {
                    Ok(Answer::Control(Report::Done)) => {}
                    _ => return Err(AccountError::Busy),
                }
                self.store.erase(guest)?;
                done.push(id);
                count += 1;
            }
            tracing::info!(count, "guests who follow no more are forgotten");
        }
    }

    fn ask<T: DeserializeOwned>(&mut self, path: &str, body: &Value) -> Result<T, AccountError> {
        let unreachable = |error| AccountError::Unreachable(Box::new(error));
        let Settings { store_id, url, token, ca_file } = &self.settings;
        let agent = match self.agent.take() {
            Some(agent) => agent,
            None => client::agent(url, ca_file.as_deref(), TIMEOUT)?,
        };
        let agent = self.agent.insert(agent);
        let request = agent
            .post(format!("{url}{path}"))
            .header("content-type", "application/json")
            .header("maitred-store", store_id)
            .header("authorization", format!("Bearer {}", token.reveal()));
        let mut answer = request.send(body.to_string().as_bytes()).map_err(unreachable)?;
        if answer.status() != 200 {
            return Err(AccountError::Refused(answer.status().as_u16()));
        }
        let body = answer.body_mut().with_config().limit(LONGEST_ANSWER);
        let bytes = body.read_to_vec().map_err(unreachable)?;
        serde_json::from_slice(&bytes).map_err(|_| AccountError::Malformed)
    }
}
