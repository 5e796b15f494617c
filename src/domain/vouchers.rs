//! Vouchers: made and revoked by staff, used by whoever holds them.

use super::Domain;
use super::auth::voucher::{self, Batch, FromHq, HQ, Hash, Held, VoucherId, Which, Worth};
use super::device::Key;
use super::effect::{
    Attempt, BatchRow, Code, Effect, EndReason, Method, Record, Refusal, Report, View,
};
use super::event::Consent;
use super::names::{Now, RequestId, SessionId};
use super::policy::Identity;
use super::session::{Opening, Session, Waiter};

impl Domain {
    /// Takes a use of a voucher for a device, and opens. The use lies on disk with the session, as
    /// one row, before the guest is told.
    pub(super) fn use_voucher(
        &mut self,
        key: Key,
        (code, consent): (&str, &Consent),
        request: RequestId,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Option<View> {
        let opened = self.voucher(key, code, consent, now, effects).and_then(|(id, opening)| {
            self.open(key, opening, Some(Waiter::Portal(request)), now, effects)?;
            self.vouchers.spend(id);
            Ok(())
        });
        opened.err().map(|refusal| self.step(key, Some(refusal), now))
    }

    fn voucher<'a>(
        &mut self,
        key: Key,
        code: &str,
        consent: &'a Consent,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Result<(VoucherId, Opening<'a>), Refusal> {
        if consent.terms.is_empty() {
            return Err(Refusal::NoConsent);
        }
        self.room(key)?;
        self.throttle.may_guess(key.mac, now.boot)?;
        let hash = self.vouchers.hash(&self.secrets, code);
        let here = |zone| self.policy.joined(zone, key.zone);
        let found = self.vouchers.find(hash.filter(|_| self.policy.vouchers), here, now.wall);
        let (id, worth) = found.inspect_err(|_| {
            self.throttle.guessed_wrong(key.mac, now.boot);
            let (attempt, mac, at) = (Attempt::WrongVoucher, key.mac, now.boot);
            effects.push(Effect::Store(Record::Attempted { attempt, mac, at }));
        })?;
        let zone = self.policy.zone(key.zone).ok_or(Refusal::Failed)?;
        let opening = Opening {
            identity: Identity::Voucher(id),
            method: Method::Voucher,
            limits: zone.limits.with(&worth.limits),
            length: Some(worth.length),
            extended: 0,
            terms: &consent.terms,
        };
        Ok((id, opening))
    }

    /// Gives back the use that a session took, if nothing came of it. The store does the same.
    pub(super) fn unspend(&mut self, session: &Session, reason: EndReason) {
        if let (Identity::Voucher(id), EndReason::Failed) = (session.identity, reason) {
            self.vouchers.give_back(id);
        }
    }

    pub(super) fn make_vouchers(
        &mut self,
        count: u16,
        worth: Worth,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Report {
        if worth.zone.is_some_and(|zone| self.policy.zone(zone).is_none()) {
            return Report::Refused("there is no such zone".into());
        }
        let count = count.min(voucher::BATCH + 1);
        let codes: Vec<Code> = (0..count).map(|_| voucher::make(&mut self.rng)).collect();
        let hashes: Vec<Hash> =
            codes.iter().filter_map(|code| voucher::hash(&self.secrets, &code.0)).collect();
        match self.vouchers.add(worth, &hashes, now.wall) {
            Ok(batch) => {
                let at = now.boot;
                let made = Record::VouchersMade { batch, salt: None, hashes, at };
                effects.push(Effect::Store(made));
                Report::Made(batch.id, codes)
            }
            Err(reason) => Report::Refused(reason.into()),
        }
    }

    /// Takes HQ's word: these are all the batches of its own that are good. What it leaves out is
    /// revoked, unless it is over; what is known stays as it is, with the uses that are spent.
    pub(super) fn vouchers_from_hq(
        &mut self,
        batches: &[FromHq],
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Report {
        let named = |id| batches.iter().any(|from| from.batch.id == id);
        let left_out = self.vouchers.of_hq(now.wall).filter(|id| !named(*id));
        for batch in left_out.collect::<Vec<u32>>() {
            // One that was revoked before has nothing to lose.
            self.revoke_vouchers(Which { batch, number: None }, now, effects);
        }
        let mut refused = None;
        for FromHq { mut batch, zone, salt, hashes } in batches.iter().cloned() {
            batch.worth.zone = match zone.map(|name| self.policy.zone_named(&name)) {
                // Good in a zone that the store has not, or has not yet.
                Some(None) => continue,
                Some(here) => here,
                None => None,
            };
            match self.vouchers.add_from_hq(batch, (salt, &hashes), now.wall) {
                Ok(false) => {}
                Ok(true) => {
                    let (salt, at) = (Some(salt), now.boot);
                    effects.push(Effect::Store(Record::VouchersMade { batch, salt, hashes, at }));
                }
                Err(reason) => refused = Some((batch.id, reason)),
            }
        }
        refused.map_or(Report::Done, |(id, reason)| {
            Report::Refused(format!("{}: {reason}", voucher::name(id)))
        })
    }

    pub(super) fn list_vouchers(&self) -> Report {
        let row = |held: &Held| {
            let Held { batch: Batch { id, count, worth }, used, revoked } = *held;
            let zone = worth.zone.and_then(|zone| self.policy.zone(zone));
            BatchRow {
                batch: id & !HQ,
                hq: id >= HQ,
                count,
                uses: worth.uses,
                seconds: worth.length.as_secs(),
                limits: worth.limits,
                zone: zone.map(|zone| zone.name.clone()),
                expires: worth.expires,
                used,
                revoked,
            }
        };
        Report::Vouchers(self.vouchers.batches().map(row).collect())
    }

    pub(super) fn revoke_vouchers(
        &mut self,
        which: Which,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Report {
        let by_it = |session: &Session| matches!(session.identity, Identity::Voucher(id) if which.means(id));
        let sessions = self.sessions.live.iter().filter(|(_, session)| by_it(session));
        let sessions: Vec<SessionId> = sessions.map(|(id, _)| *id).collect();
        if !self.vouchers.revoke(which) && sessions.is_empty() {
            return Report::Refused("there is no such voucher".into());
        }
        effects.push(Effect::Store(Record::VouchersRevoked(which)));
        for id in sessions {
            self.end(id, EndReason::Revoked, true, now, effects);
        }
        Report::Done
    }
}
