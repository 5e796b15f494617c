//! The temporary pass: a short opening to the app's own garden, so that a guest can follow the
//! store's account there. Never more than that, and not often.

use std::collections::BTreeMap;

use super::Domain;
use super::device::Key;
use super::effect::{Attempt, Effect, Firewall, Pass, Record, Refusal, View};
use super::names::{BootTime, Now, RequestId};
use super::session::reply;

/// Requests that may wait for one pass.
const WAITING: usize = 8;

/// The passes that are open, or about to be.
#[derive(Debug, Default)]
pub(super) struct Passes(BTreeMap<Key, Opened>);

#[derive(Debug)]
struct Opened {
    until: BootTime,
    in_kernel: bool,
    waiting: Vec<RequestId>,
}

impl Passes {
    /// When a device's pass ends, if the kernel has one.
    pub(super) fn until(&self, key: Key, now: BootTime) -> Option<BootTime> {
        let pass = self.0.get(&key).filter(|pass| pass.in_kernel && pass.until > now)?;
        Some(pass.until)
    }

    /// What the kernel should hold.
    pub(super) fn open(&self, now: BootTime) -> impl Iterator<Item = Pass> + '_ {
        let live = self.0.iter().filter(move |(_, pass)| pass.until > now);
        live.map(move |(key, pass)| Pass { zone: key.zone, mac: key.mac, left: pass.until - now })
    }
}

impl Domain {
    /// Opens the app's garden to a device; `None` if the answer waits for the kernel.
    pub(super) fn pass(
        &mut self,
        key: Key,
        request: RequestId,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Option<View> {
        self.passes.0.retain(|_, pass| pass.until > now.boot);
        if let Some(pass) = self.passes.0.get_mut(&key) {
            if pass.in_kernel {
                return Some(self.step(key, None, now));
            }
            if pass.waiting.len() >= WAITING {
                return Some(self.step(key, Some(Refusal::Failed), now));
            }
            pass.waiting.push(request);
            return None;
        }
        match self.allow_pass(key, now.boot) {
            Ok(pass) => {
                let until = now.boot + pass.left;
                let opened = Opened { until, in_kernel: false, waiting: vec![request] };
                self.passes.0.insert(key, opened);
                effects.push(Effect::Firewall(Firewall::Pass(pass)));
                let (attempt, mac, at) = (Attempt::Pass, key.mac, now.boot);
                effects.push(Effect::Store(Record::Attempted { attempt, mac, at }));
                None
            }
            Err(refusal) => Some(self.step(key, Some(refusal), now)),
        }
    }

    /// Whether the store's rules give a device another pass; counts it.
    fn allow_pass(&mut self, key: Key, now: BootTime) -> Result<Pass, Refusal> {
        let rules = self.policy.pass.as_ref().ok_or(Refusal::Failed)?;
        self.throttle.pass(key.mac, rules, now)?;
        Ok(Pass { zone: key.zone, mac: key.mac, left: rules.length })
    }

    /// The kernel opened a pass, or refused.
    pub(super) fn passed(&mut self, key: Key, opened: bool, now: Now, effects: &mut Vec<Effect>) {
        let Some(pass) = self.passes.0.get_mut(&key) else { return };
        pass.in_kernel = opened;
        let waiting = std::mem::take(&mut pass.waiting);
        if !opened {
            self.passes.0.remove(&key);
        }
        for request in waiting {
            let refusal = (!opened).then_some(Refusal::Failed);
            effects.push(reply(request, self.step(key, refusal, now)));
        }
    }
}
