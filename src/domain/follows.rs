//! A follow of the store's account, proved by a token of HQ's.

use super::Domain;
use super::auth::follow::{Card, Token};
use super::device::Key;
use super::effect::{Effect, Method, Record, Refusal};
use super::event::Consent;
use super::names::{GuestKey, Now};

impl Domain {
    /// Spends a token, if it is this device's and the terms are agreed to.
    pub(super) fn follow(
        &mut self,
        key: Key,
        (text, consent): (&str, Consent),
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Result<GuestKey, Refusal> {
        if consent.terms.is_empty() {
            return Err(Refusal::NoConsent);
        }
        self.room(key)?;
        self.throttle.token(key.mac, now.boot)?;
        let policy = &self.policy;
        let zone = policy.zone(key.zone).ok_or(Refusal::Failed)?;
        let card = Card::new(&policy.store_id, &zone.name, key.mac);
        let token = Token::verify(text, &policy.follow_keys, card, now.wall)?;
        if let Some(wall) = now.wall {
            self.tokens.purge(wall);
        }
        let (nonce, expires) = (token.nonce, token.expires());
        if !self.tokens.spend(nonce, expires) {
            return Err(Refusal::TokenUsed);
        }
        // Ahead of the session's row in the store's order: whoever is online has spent it.
        effects.push(Effect::Store(Record::TokenUsed { nonce, expires }));
        let mask = format!("*{:02x}", token.guest.0[15]);
        let who = (token.guest, mask, None);
        Ok(self.verified(key, who, consent, Method::Follow, now, effects))
    }
}
