//! New rules while the house is open. Sessions go on with the limits they were given.

use super::Domain;
use super::device::Key;
use super::effect::{Effect, EndReason, Firewall, Report};
use super::names::{Now, RequestId};
use super::policy::{Identity, Limits, Policy};
use super::session::report;

impl Domain {
    /// Goes by `policy` from now on: who is blocked now is put offline, who is trusted now is
    /// online without limits, time-outs of sessions and limits of zones hold for new sessions.
    /// The kernel's table has the zones in it, so they must be the same.
    pub(super) fn reload(
        &mut self,
        request: RequestId,
        policy: Policy,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let same = |policy: &Policy| -> Vec<_> {
            policy.zones.iter().map(|zone| (zone.name.clone(), zone.roam)).collect()
        };
        if same(&policy) != same(&self.policy) {
            let refusal = Report::Refused("other zones need a restart".into());
            return effects.push(report(request, refusal));
        }
        if policy.blocked_macs != self.policy.blocked_macs {
            effects.push(Effect::Firewall(Firewall::Block(policy.blocked_macs.clone())));
        }
        self.policy = policy;
        let keys: Vec<Key> = self.devices.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.apply_lists(key, now, effects);
            self.arm_device(key);
        }
        effects.push(report(request, Report::Done));
    }

    fn apply_lists(&mut self, key: Key, now: Now, effects: &mut Vec<Effect>) {
        if self.policy.trusted_macs.contains(&key.mac) {
            self.close_visit(key, effects);
        }
        let session = self.devices.get(key).and_then(|device| device.session);
        let Some((id, session)) = session.and_then(|id| Some((id, self.sessions.live.get(&id)?)))
        else {
            return self.let_listed_in(key, now, effects);
        };
        if self.policy.allows(key.mac, session.identity) {
            return;
        }
        if self.policy.trusts(key.mac) {
            return self.rewrite(id, Identity::Trusted, Limits::default(), None, now, effects);
        }
        self.end(id, EndReason::Revoked, true, now, effects);
        if let Some(device) = self.devices.get_mut(key) {
            device.retry = now.boot;
        }
        self.let_listed_in(key, now, effects);
    }
}
