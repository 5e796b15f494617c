//! The providers in their order: tries, fail-over, and what came of it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::SmsError;
use super::aliyun::Aliyun;
use super::error::SendError;
use super::letter::Letter;
use super::modem::Modem;
use super::spool::Spool;
use super::tencent::Tencent;
use super::twilio::Twilio;
use super::webhook::Webhook;
use crate::clock::{self, Clock};
use crate::config;
use crate::domain::names::{BootTime, WallTime};

const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Rather than wait longer for one provider, the next is asked.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A provider's time for one try, and its further tries, where the file does not set them.
const TIMEOUT: Duration = Duration::from_secs(5);
const RETRIES: u8 = 1;

/// A provider that failed so often in a row is asked last for a while, longer each time.
const FAILURES: u32 = 3;
const REST: (Duration, Duration) = (Duration::from_secs(30), Duration::from_mins(10));

/// What became of one provider's messages since the start.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Its name in the configuration.
    pub provider: &'static str,
    /// Messages it took.
    pub taken: u32,
    /// Messages it did not take, by reason.
    pub failed: BTreeMap<&'static str, u32>,
    /// Time that the messages it took needed, tries included: all together.
    pub total: Duration,
    /// The slowest of them.
    pub slowest: Duration,
    /// It failed so often in a row that the others are asked first for a while.
    pub resting: bool,
}

/// All providers.
pub(super) struct Route {
    providers: Vec<Provider>,
    clock: Clock,
}

struct Provider {
    sender: Sender,
    retries: u8,
    tally: Mutex<Tally>,
    breaker: Mutex<Breaker>,
}

/// How often a provider has failed in a row, and until when it is asked last.
#[derive(Default)]
struct Breaker {
    failures: u32,
    until: BootTime,
}

/// The modem and the spool do one thing at a time.
enum Sender {
    Spool(Mutex<Spool>),
    Webhook(Webhook),
    Aliyun(Aliyun),
    Tencent(Tencent),
    Twilio(Twilio),
    Modem(Mutex<Modem>),
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.tallies()).finish()
    }
}

impl Route {
    pub(super) fn new(list: &[config::Sms], clock: Clock) -> Result<Self, SmsError> {
        let provider = |sms: &config::Sms| {
            Ok(Provider {
                sender: Sender::new(sms, clock)?,
                retries: match sms {
                    config::Sms::Webhook { retries, .. } => *retries,
                    config::Sms::Spool { .. } | config::Sms::Modem(_) => 0,
                    _ => RETRIES,
                },
                breaker: Mutex::default(),
                tally: Mutex::new(Tally { provider: sms.provider(), ..Tally::default() }),
            })
        };
        Ok(Self { providers: list.iter().map(provider).collect::<Result<_, SmsError>>()?, clock })
    }

    /// Whether every provider does one thing at a time.
    pub(super) fn is_single_file(&self) -> bool {
        let single = |sender: &Sender| matches!(sender, Sender::Spool(_) | Sender::Modem(_));
        self.providers.iter().all(|provider| single(&provider.sender))
    }

    /// Asks one provider after the other until one takes the message, or the number is at fault.
    pub(super) fn send(
        &self,
        letter: &Letter,
        deadline: BootTime,
        stopping: &AtomicBool,
    ) -> Result<(), SendError> {
        let mut outcome = Err(SendError::Late);
        let now = clock::boot();
        let (resting, awake): (Vec<_>, Vec<_>) =
            self.providers.iter().partition(|provider| provider.breaker().until > now);
        for provider in awake.into_iter().chain(resting) {
            let before = clock::boot();
            if before >= deadline {
                break;
            }
            outcome = provider.send(letter, self.clock, deadline, stopping);
            provider.count(&outcome, clock::boot() - before);
            provider.breaker().note(outcome.as_ref().err(), clock::boot());
            match &outcome {
                Ok(()) => break,
                Err(error) if error.is_of_the_number() => break,
                Err(error) => {
                    let provider = provider.tally().provider;
                    tracing::warn!(provider, %error, "a provider did not take a code");
                }
            }
        }
        outcome
    }

    /// What became of each provider's messages.
    pub(super) fn tallies(&self) -> Vec<Tally> {
        self.providers.iter().map(Provider::tally).collect()
    }
}

impl Provider {
    fn send(
        &self,
        letter: &Letter,
        clock: Clock,
        deadline: BootTime,
        stopping: &AtomicBool,
    ) -> Result<(), SendError> {
        let mut pause = FIRST_PAUSE;
        for tries_left in (0..=self.retries).rev() {
            let left = deadline - clock::boot();
            if left.is_zero() {
                break;
            }
            let Err(error) = self.sender.send(letter, clock.now().wall, left) else {
                return Ok(());
            };
            let Some(wanted) = error.may_pass() else { return Err(error) };
            let wait = pause.max(wanted);
            let stop = tries_left == 0 || stopping.load(Ordering::Relaxed);
            if stop || wait > LONGEST_PAUSE || clock::boot() + wait >= deadline {
                return Err(error);
            }
            tracing::debug!(%error, "a try failed");
            thread::sleep(wanted.max(jitter(pause)));
            pause *= 2;
        }
        Err(SendError::Late)
    }

    fn count(&self, outcome: &Result<(), SendError>, took: Duration) {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(()) => {
                tally.taken += 1;
                tally.total += took;
                tally.slowest = tally.slowest.max(took);
            }
            Err(error) => *tally.failed.entry(error.name()).or_default() += 1,
        }
    }

    fn tally(&self) -> Tally {
        let resting = self.breaker().until > clock::boot();
        Tally { resting, ..self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone() }
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Breaker {
    /// A number at fault says nothing of the provider.
    fn note(&mut self, error: Option<&SendError>, now: BootTime) {
        match error {
            Some(error) if error.is_of_the_number() => {}
            Some(_) => {
                self.failures = self.failures.saturating_add(1);
                if let Some(times) = self.failures.checked_sub(FAILURES) {
                    self.until = now + (REST.0 * 2u32.pow(times.min(6))).min(REST.1);
                }
            }
            None => *self = Self::default(),
        }
    }
}

impl Sender {
    fn new(sms: &config::Sms, clock: Clock) -> Result<Self, SmsError> {
        Ok(match sms {
            config::Sms::Spool { dir } => {
                let spool = Spool::open(dir, clock)
                    .map_err(|source| SmsError::Spool { path: dir.clone(), source })?;
                Self::Spool(Mutex::new(spool))
            }
            config::Sms::Webhook { url, body, authorization, timeout, .. } => {
                let authorization = authorization.as_ref().map(|secret| secret.reveal().to_owned());
                let webhook = Webhook::new(url.reveal(), body.reveal(), authorization, timeout.0)?;
                Self::Webhook(webhook)
            }
            config::Sms::Aliyun(settings) => Self::Aliyun(Aliyun::new(settings.clone())?),
            config::Sms::Tencent(settings) => Self::Tencent(Tencent::new(settings.clone())?),
            config::Sms::Twilio(settings) => Self::Twilio(Twilio::new(settings.clone())?),
            config::Sms::Modem(settings) => Self::Modem(Mutex::new(Modem::new(settings.clone()))),
        })
    }

    /// One try. Who signs with the time sends nothing while `wall` is not known.
    fn send(
        &self,
        letter: &Letter,
        wall: Option<WallTime>,
        left: Duration,
    ) -> Result<(), SendError> {
        let timeout = left.min(TIMEOUT);
        let wall = || wall.ok_or(SendError::Clock);
        match self {
            Self::Spool(spool) => {
                Ok(spool.lock().unwrap_or_else(PoisonError::into_inner).write(letter)?)
            }
            Self::Webhook(webhook) => webhook.send(letter, left),
            Self::Aliyun(aliyun) => aliyun.send(letter, wall()?, timeout),
            Self::Tencent(tencent) => tencent.send(letter, wall()?, timeout),
            Self::Twilio(twilio) => twilio.send(letter, timeout),
            Self::Modem(modem) => {
                modem.lock().unwrap_or_else(PoisonError::into_inner).send(letter, left)
            }
        }
    }
}

/// Between half of `pause` and all of it, so that many stores do not come back as one.
fn jitter(pause: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or(u32::MAX);
    pause / 2 + (pause / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests;
