//! What a guest's browser asks for: one step after the other, kept here and not in the browser.

use std::time::Duration;

use super::Domain;
use super::auth::code::Pending;
use super::auth::pumping::Rate;
use super::auth::seal::Sealed;
use super::device::Key;
use super::effect::{Effect, EndReason, Message, Method, Record, Refusal, View};
use super::event::{Ask, Client, Consent, Language};
use super::names::{GuestKey, Mac, Now, OpenId, Phone, RequestId, SessionId};
use super::policy::Identity;
use super::session::{Opening, Waiter, reply};

/// Why a session ended is told for this long.
const TOLD_FOR: Duration = Duration::from_mins(10);

impl Domain {
    pub(super) fn portal(
        &mut self,
        request: RequestId,
        client: Client,
        ask: Ask,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let key = Key { zone: client.zone, mac: client.mac };
        self.sight(key, Some(client.address), None, now, effects);
        if let Some(view) = self.view(key, ask, request, now, effects) {
            effects.push(reply(request, view));
        }
    }

    /// The answer; `None` if the request waits for kernel and disk.
    fn view(
        &mut self,
        key: Key,
        ask: Ask,
        request: RequestId,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Option<View> {
        if self.policy.blocked_macs.contains(&key.mac) {
            return Some(View::Blocked);
        }
        let Some(device) = self.devices.get_mut(key) else {
            return Some(View::Phone { refusal: Some(Refusal::Failed) });
        };
        if let Some(session) = device.session {
            return self.granted(session, &ask, request, now, effects);
        }
        match ask {
            Ask::Show => self.show(key, request, now, effects),
            Ask::Return => self.come_back(key, request, now, effects),
            Ask::ChangeNumber if device.ended.take().is_some() => {
                self.show(key, request, now, effects)
            }
            Ask::ChangeNumber => {
                device.code = None;
                device.following = false;
                Some(View::Phone { refusal: None })
            }
            Ask::BeginFollow => self.begin_follow(key, request, now, effects),
            Ask::WechatWifi { openid } => {
                let proof = self.wechat_wifi(key, &openid, now, effects);
                self.enter(key, proof, Method::WechatWifi, request, now, effects)
            }
            Ask::RequestCode { phone, language, consent } => {
                let sent = self.request_code(key, phone, language, consent, now, effects);
                Some(self.step(key, sent.err(), now))
            }
            Ask::ResendCode { language } => Some(self.resend_code(key, language, now, effects)),
            Ask::SubmitCode { code } => {
                let proof = self.submit_code(key, &code, now, effects);
                self.enter(key, proof, Method::Sms, request, now, effects)
            }
            Ask::Follow { token, consent } => {
                let proof = self.follow(key, (&token, consent), now, effects);
                self.enter(key, proof, Method::Follow, request, now, effects)
            }
            Ask::UseVoucher { code, consent } => {
                self.use_voucher(key, (&code, &consent), request, now, effects)
            }
            Ask::Extend => self.extend_ended(key, request, now, effects),
            Ask::Look | Ask::Mine | Ask::Logout | Ask::EndOther { .. } => {
                Some(self.step(key, None, now))
            }
        }
    }

    /// Lets a remembered guest in, or shows the step.
    fn come_back(
        &mut self,
        key: Key,
        request: RequestId,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Option<View> {
        match self.guests.recent(key.mac, self.policy.remember_for, now) {
            Some(guest) => self.enter(key, Ok(guest), Method::Remembered, request, now, effects),
            None => Some(self.step(key, None, now)),
        }
    }

    /// With a pass to the app, where the store gives any.
    fn begin_follow(
        &mut self,
        key: Key,
        request: RequestId,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Option<View> {
        let device = self.devices.get_mut(key)?;
        device.code = None;
        device.following = true;
        device.ended = None;
        match self.policy.pass {
            Some(_) => self.pass(key, request, now, effects),
            None => Some(self.step(key, None, now)),
        }
    }

    /// The answer to a device that has a session.
    fn granted(
        &mut self,
        id: SessionId,
        ask: &Ask,
        request: RequestId,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Option<View> {
        let session = self.sessions.live.get(&id)?;
        let key = session.key();
        let trusted = session.identity == Identity::Trusted;
        if matches!(ask, Ask::Logout) && !trusted {
            self.end(id, EndReason::Logout, true, now, effects);
            if let Some(device) = self.devices.get_mut(key) {
                device.ended = None;
            }
            return Some(View::Ended { reason: EndReason::Logout, extend: false });
        }
        if session.online() {
            return match ask {
                Ask::Extend => self.extend(id, request, now, effects),
                Ask::EndOther { session: other } => {
                    self.end_other(id, *other, now, effects);
                    self.online(id, request, now, effects)
                }
                Ask::Mine
                    if let Identity::Guest(guest) = session.identity
                        && guest != GuestKey::NOBODY
                        && self.throttle.token(key.mac, now.boot).is_ok() =>
                {
                    Some(View::Mine { guest })
                }
                _ => self.online(id, request, now, effects),
            };
        }
        if matches!(ask, Ask::Look | Ask::Mine) {
            Some(self.step(key, None, now))
        } else {
            self.wait(id, request)
        }
    }

    /// The page of a device without a session; one that is remembered needs none, or one tap.
    fn show(
        &mut self,
        key: Key,
        request: RequestId,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Option<View> {
        let device = self.devices.get_mut(key)?;
        // Told until the guest goes on: a page may be asked for behind their back, and apps do. Who
        // comes back another day is greeted anew.
        device.ended = device.ended.filter(|(_, at)| now.boot - *at < TOLD_FOR);
        if let Some((reason, _)) = device.ended {
            let extend = device.spare.is_some();
            return Some(View::Ended { reason, extend });
        }
        match self.guests.recent(key.mac, self.policy.remember_for, now) {
            Some(_) if self.policy.return_by_tap => Some(View::Return),
            Some(guest) => self.enter(key, Ok(guest), Method::Remembered, request, now, effects),
            None => Some(self.step(key, None, now)),
        }
    }

    /// The page of the step that a device without a session is at.
    pub(super) fn step(&self, key: Key, refusal: Option<Refusal>, now: Now) -> View {
        let device = self.devices.get(key);
        if device.is_some_and(|device| device.following) {
            let pass = self.passes.until(key, now.boot).map(|until| until - now.boot);
            return View::Follow { pass, refusal };
        }
        match device.and_then(|device| device.code.as_ref()) {
            // No code will come to that number; ask for another.
            Some(code) if code.unsent == Some(Refusal::BadPhone) => {
                View::Phone { refusal: refusal.or(code.unsent) }
            }
            Some(code) => View::Code {
                mask: code.phone.mask(),
                digits: code.digits,
                resend_in: self.throttle.wait(key.mac, &self.policy.code, now.boot),
                refusal: refusal.or_else(|| code.trouble(now.boot)),
            },
            None => View::Phone { refusal },
        }
    }

    fn request_code(
        &mut self,
        key: Key,
        phone: Phone,
        language: Language,
        consent: Consent,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        if consent.terms.is_empty() {
            return Err(Refusal::NoConsent);
        }
        let policy = &self.policy.code;
        if !policy.countries.iter().any(|code| phone.digits().starts_with(code.as_str())) {
            return Err(Refusal::Country);
        }
        self.room(key)?;
        self.judge_codes(now, effects);
        let policy = &self.policy.code;
        if !self.pumping.allows(&policy.alarm, now.boot) {
            return Err(Refusal::TooMany);
        }
        let (number, prefix) = (self.secrets.phone_guest(&phone), self.secrets.prefix(&phone));
        self.throttle.message((key.zone, key.mac), number, prefix, policy, now.boot)?;
        let Key { zone, mac } = key;
        let counted = Record::MessageCounted { mac, number, prefix, zone, at: now.boot };
        effects.push(Effect::Store(counted));
        let message = self.next_message;
        self.next_message = message.wrapping_add(1);
        self.pumping.sent(message, now.boot);
        let for_whom = (key.mac, &phone, consent);
        let (mut pending, code) =
            Pending::new(for_whom, (message, now.boot), policy, &self.secrets, &mut self.rng);
        if let Some(hq) = self.policy.seal_key {
            pending.sealed = Sealed::phone(&phone, hq, &mut self.rng);
        }
        let device = self.devices.get_mut(key).ok_or(Refusal::Failed)?;
        device.code = Some(Box::new(pending));
        device.following = false;
        device.ended = None;
        effects.push(Effect::Sms(Message { mac: key.mac, message, phone, code, language }));
        Ok(())
    }

    /// Without a code on its way, nothing: the page asks for the number.
    fn resend_code(
        &mut self,
        key: Key,
        language: Language,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> View {
        let last = self.devices.get(key).and_then(|device| device.code.as_ref());
        let asked = last.map(|last| (last.phone.clone(), last.consent.clone()));
        let sent = asked
            .map(|(phone, consent)| self.request_code(key, phone, language, consent, now, effects));
        self.step(key, sent.and_then(Result::err), now)
    }

    fn submit_code(
        &mut self,
        key: Key,
        typed: &str,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Result<GuestKey, Refusal> {
        // A guest who does not fit in keeps the code.
        self.room(key)?;
        let device = self.devices.get_mut(key).ok_or(Refusal::Failed)?;
        let code = device.code.as_mut().ok_or(Refusal::CodeExpired)?;
        code.check(typed, key.mac, &self.secrets, now.boot)?;
        let code = device.code.take().ok_or(Refusal::CodeExpired)?;
        self.counters.codes_accepted += 1;
        let Pending { guest, phone, consent, sealed, message, .. } = *code;
        self.pumping.accepted(message);
        self.judge_codes(now, effects);
        let who = (guest, phone.mask(), sealed);
        Ok(self.verified(key, who, consent, Method::Sms, now, effects))
    }

    /// Takes WeChat's client at its word; nobody signs what it says.
    fn wechat_wifi(
        &mut self,
        key: Key,
        openid: &OpenId,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Result<GuestKey, Refusal> {
        self.room(key)?;
        self.throttle.token(key.mac, now.boot)?;
        let guest = self.secrets.openid_guest(openid);
        let mask = format!("*{:02x}", guest.0[15]);
        let hq = self.policy.seal_key;
        let sealed = hq.and_then(|hq| Sealed::openid(openid, hq, &mut self.rng));
        let who = (guest, mask, sealed);
        Ok(self.verified(key, who, Consent::default(), Method::WechatWifi, now, effects))
    }

    /// Looks at how many codes come back; the alarm is an event of the record.
    pub(super) fn judge_codes(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if let Some(Rate { sent, accepted }) = self.pumping.judge(&self.policy.code, now.boot) {
            let (begins, at) = (self.pumping.stands(), now.boot);
            effects.push(Effect::Store(Record::Alarm { begins, sent, accepted, at }));
        }
    }

    /// Opens a session for a guest, or says why not.
    fn enter(
        &mut self,
        key: Key,
        proof: Result<GuestKey, Refusal>,
        method: Method,
        request: RequestId,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Option<View> {
        let opened = proof.and_then(|guest| {
            self.room(key)?;
            let zone = self.policy.zone(key.zone).ok_or(Refusal::Failed)?;
            let guest_opening = Opening {
                identity: Identity::Guest(guest),
                method,
                limits: zone.limits,
                length: Some(zone.session_timeout),
                extended: 0,
                terms: "",
            };
            let trusted = self.policy.trusts(key.mac);
            let opening = if trusted { Opening::TRUSTED } else { guest_opening };
            self.open(key, opening, Some(Waiter::Portal(request)), now, effects)
        });
        opened.err().map(|refusal| self.step(key, Some(refusal), now))
    }

    pub(super) fn room(&self, key: Key) -> Result<(), Refusal> {
        let zone = self.policy.zone(key.zone).ok_or(Refusal::Failed)?;
        if self.full(zone, key) { Err(Refusal::Full) } else { Ok(()) }
    }

    /// How the sending of a code ended.
    pub(super) fn sms(&mut self, mac: Mac, message: u32, sent: Result<(), Refusal>) {
        let Err(refusal) = sent else {
            self.counters.codes_sent += 1;
            return;
        };
        self.pumping.unsent(message);
        for zone in self.zones() {
            let code = self.devices.get_mut(Key { zone, mac }).and_then(|d| d.code.as_mut());
            if let Some(code) = code.filter(|code| code.message == message) {
                code.unsent = Some(refusal);
                // A number that had its share would not get the next one either.
                if refusal != Refusal::TooMany {
                    self.throttle.excuse(mac);
                }
            }
        }
    }
}
