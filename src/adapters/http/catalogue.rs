//! The words: one catalogue a language, read once. Placeholders are `{name}`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::HttpError;
use crate::domain::effect::{EndReason, Refusal};
use crate::domain::event::Language;

/// Both catalogues.
#[derive(Debug)]
pub struct Catalogues {
    chinese: Catalogue,
    english: Catalogue,
}

impl Catalogues {
    /// Reads the catalogues that are built in.
    pub fn load() -> Result<Self, HttpError> {
        let read = |name, text| {
            toml::from_str(text)
                .map_err(|error| HttpError::Catalogue { name, error: Box::new(error) })
        };
        Ok(Self { chinese: read("zh-CN", CHINESE)?, english: read("en", ENGLISH)? })
    }

    /// The text of the message that carries a code.
    pub fn sms_text(&self, language: Language, store: &str, code: &str, minutes: u64) -> String {
        let minutes = minutes.to_string();
        let values = [("store", store), ("code", code), ("minutes", &minutes)];
        fill(&self.of(language).sms.text, &values)
    }

    pub(super) const fn of(&self, language: Language) -> &Catalogue {
        match language {
            Language::Chinese => &self.chinese,
            Language::English => &self.english,
        }
    }
}

const CHINESE: &str = include_str!("../../../templates/i18n/zh-CN.toml");
const ENGLISH: &str = include_str!("../../../templates/i18n/en.toml");

/// Makes a struct of texts, each of which a catalogue must have, and no others.
macro_rules! texts {
    ($name:ident: $($text:ident),* $(,)?) => {
        #[derive(Debug, Deserialize)]
        #[serde(try_from = "Section")]
        pub(super) struct $name { $(pub(super) $text: String),* }

        impl TryFrom<Section> for $name {
            type Error = String;

            fn try_from(mut section: Section) -> Result<Self, String> {
                let read = Self { $($text: section.take(stringify!($text))?),* };
                section.end().map(|()| read)
            }
        }
    };
}

/// A section of a catalogue as it is read: one way for all of them, where a derived one for each
/// would be a tenth of a megabyte.
#[derive(Deserialize)]
struct Section(BTreeMap<String, String>);

impl Section {
    fn take(&mut self, text: &str) -> Result<String, String> {
        self.0.remove(text).ok_or_else(|| format!("missing text {text}"))
    }

    fn end(self) -> Result<(), String> {
        self.0.into_keys().next().map_or(Ok(()), |text| Err(format!("unknown text {text}")))
    }
}

/// The words of one language.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Catalogue {
    /// As in `lang="…"`.
    pub(super) tag: String,
    pub(super) common: Common,
    pub(super) phone: PhoneTexts,
    pub(super) return_page: ReturnTexts,
    pub(super) code: CodeTexts,
    pub(super) follow: FollowTexts,
    pub(super) voucher: VoucherTexts,
    pub(super) devices: DeviceTexts,
    pub(super) sheet: SheetTexts,
    pub(super) online: OnlineTexts,
    pub(super) mine: MineTexts,
    pub(super) line: LineTexts,
    pub(super) ended: EndedTexts,
    pub(super) blocked: NoticeTexts,
    pub(super) busy: NoticeTexts,
    pub(super) foreign: NoticeTexts,
    pub(super) terms: Document,
    pub(super) privacy: Document,
    pub(super) refusal: RefusalTexts,
    pub(super) units: Units,
    pub(super) sms: SmsTexts,
    pub(super) staff: StaffTexts,
}

/// A page of prose.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    pub(super) title: String,
    pub(super) paragraphs: Vec<String>,
}

texts! { Common: wifi, other_language, steps, step_phone, step_code, step_online, back, version }
texts! { PhoneTexts: title, label, hint, agree, terms, and, privacy, marketing, submit, rules }
texts! { ReturnTexts: title, text, submit }
texts! { CodeTexts:
    title, sent, label, auto, submit, nothing, again_in, again_now, again, change, over,
}
texts! { FollowTexts:
    instead, begin, title, pass, find, send, code, open, qr, waiting,
    app, again, wifi, linked, change,
}
texts! { VoucherTexts: have, title, label, hint, text, submit, instead }
texts! { DeviceTexts: title, here, unnamed, since, end }
texts! { SheetTexts: title, type_it, worth, uses, expires }
texts! { OnlineTexts: title, text, left, no_end, up, down, quota_left, extend, offers, logout }
texts! { MineTexts:
    link, title, text, number, visits, sessions, devices, terms, marketing, yes, no, download, erase,
    sure, erased_title, erased_text,
}
texts! { LineTexts: down, title, again }
texts! { EndedTexts:
    title, again, session_timeout, idle_timeout, quota, logout, revoked, moved, replaced, left,
    failed,
}
texts! { NoticeTexts: title, text }
texts! { RefusalTexts:
    bad_phone, country, too_soon, too_many, not_sent, wrong_code, code_expired, code_dead,
    bad_token, token_expired, token_used, token_elsewhere, clock_untrusted, full, failed,
    no_consent, no_pass, bad_voucher, too_many_guesses,
}
texts! { Units: whole_hours, hours, minutes, seconds }
texts! { SmsTexts: text }
texts! { StaffTexts:
    title, password, login, logout, wrong, wait, updated, unavailable, now_here, nobody, more,
    visits, visitors, median, mean, none, buckets, under, between, over, repeat,
    repeat_guests, repeat_devices, repeat_value, randomised, by_hour, chart,
    chart_description, hour, device, guest, since, dwell, visit_count, as_table, method,
    certificate_ends, certificate_bad, alarm,
}

impl Catalogue {
    /// What a guest is told about a request that was not met.
    pub(super) fn refusal(&self, refusal: Refusal) -> String {
        let texts = &self.refusal;
        let text = match refusal {
            Refusal::TooSoon { wait } => {
                return fill(&texts.too_soon, &[("wait", &self.length(wait))]);
            }
            Refusal::WrongCode { left } => {
                return fill(&texts.wrong_code, &[("left", &left.to_string())]);
            }
            Refusal::BadPhone => &texts.bad_phone,
            Refusal::Country => &texts.country,
            Refusal::TooMany => &texts.too_many,
            Refusal::NotSent => &texts.not_sent,
            Refusal::CodeExpired => &texts.code_expired,
            Refusal::CodeDead => &texts.code_dead,
            Refusal::BadToken => &texts.bad_token,
            Refusal::TokenExpired => &texts.token_expired,
            Refusal::TokenUsed => &texts.token_used,
            Refusal::TokenElsewhere => &texts.token_elsewhere,
            Refusal::ClockUntrusted => &texts.clock_untrusted,
            Refusal::Full => &texts.full,
            Refusal::Failed => &texts.failed,
            Refusal::NoConsent => &texts.no_consent,
            Refusal::NoPass => &texts.no_pass,
            Refusal::BadVoucher => &texts.bad_voucher,
            Refusal::TooManyGuesses => &texts.too_many_guesses,
        };
        text.clone()
    }

    /// Why a session is over.
    pub(super) fn end(&self, reason: EndReason) -> &str {
        match reason {
            EndReason::SessionTimeout => &self.ended.session_timeout,
            EndReason::IdleTimeout => &self.ended.idle_timeout,
            EndReason::Quota => &self.ended.quota,
            EndReason::Logout => &self.ended.logout,
            EndReason::Revoked => &self.ended.revoked,
            EndReason::Moved => &self.ended.moved,
            EndReason::Replaced => &self.ended.replaced,
            EndReason::Left => &self.ended.left,
            EndReason::Failed => &self.ended.failed,
        }
    }

    /// A length of time as people say it: hours and minutes, minutes, or seconds rounded up.
    pub(super) fn length(&self, length: Duration) -> String {
        let seconds = whole_seconds(length);
        let (hours, minutes) = (seconds / 3600, seconds % 3600 / 60);
        if hours > 0 && minutes == 0 {
            fill(&self.units.whole_hours, &[("hours", &hours.to_string())])
        } else if hours > 0 {
            let values = [("hours", &*hours.to_string()), ("minutes", &minutes.to_string())];
            fill(&self.units.hours, &values)
        } else if minutes > 0 {
            fill(&self.units.minutes, &[("minutes", &minutes.to_string())])
        } else {
            fill(&self.units.seconds, &[("seconds", &seconds.to_string())])
        }
    }
}

/// Seconds, rounded up.
pub(super) fn whole_seconds(length: Duration) -> u64 {
    length.as_secs() + u64::from(length.subsec_nanos() > 0)
}

/// What stands before and after a placeholder.
pub(super) fn around<'a>(text: &'a str, name: &str) -> (&'a str, &'a str) {
    text.split_once(&format!("{{{name}}}")).unwrap_or((text, ""))
}

/// An amount of bytes in the unit that suits it, powers of ten.
pub(super) fn amount(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..1_000_000 => (1_000, "kB"),
        1_000_000..1_000_000_000 => (1_000_000, "MB"),
        _ => (1_000_000_000, "GB"),
    };
    let tenths = u128::from(bytes) * 10 / unit;
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

/// Puts values in a text's placeholders; a value is never searched for placeholders itself.
pub(super) fn fill(text: &str, values: &[(&str, &str)]) -> String {
    let mut filled = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, after)) = after.split_once('}') else { break };
        filled.push_str(before);
        let value = values.iter().find(|(known, _)| *known == name);
        filled.push_str(value.map_or("", |(_, value)| value));
        rest = after;
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// Every text of a catalogue by its path, with the placeholders in it.
    fn placeholders(text: &str) -> BTreeMap<String, BTreeSet<String>> {
        fn walk(path: &str, value: &toml::Value, found: &mut BTreeMap<String, BTreeSet<String>>) {
            match value {
                toml::Value::Table(table) => {
                    for (key, value) in table {
                        walk(&format!("{path}.{key}"), value, found);
                    }
                }
                toml::Value::Array(values) => {
                    for (place, value) in values.iter().enumerate() {
                        walk(&format!("{path}.{place}"), value, found);
                    }
                }
                value => {
                    let text = value.as_str().unwrap();
                    assert!(!text.trim().is_empty(), "{path} is empty");
                    let names = text.split('{').skip(1).map(|part| part.split_once('}').unwrap().0);
                    found.insert(path.into(), names.map(str::to_owned).collect());
                }
            }
        }
        let mut found = BTreeMap::new();
        walk("", &text.parse::<toml::Table>().unwrap().into(), &mut found);
        found
    }

    #[test]
    fn both_catalogues_say_the_same() {
        Catalogues::load().unwrap();
        assert_eq!(placeholders(CHINESE), placeholders(ENGLISH));
    }

    #[test]
    fn a_catalogue_with_a_strange_or_missing_key_is_refused() {
        assert!(toml::from_str::<Catalogue>(&format!("strange = \"x\"\n{ENGLISH}")).is_err());
        assert!(toml::from_str::<Catalogue>(&ENGLISH.replacen("tag =", "gat =", 1)).is_err());
    }

    #[test]
    fn values_are_not_searched_for_placeholders() {
        let filled = fill("{a}{b}-{c}", &[("a", "{b}"), ("b", "2")]);
        assert_eq!(filled, "{b}2-");
        assert_eq!(fill("open { brace", &[]), "open { brace");
    }

    #[test]
    fn messages_carry_the_code_in_both_languages() {
        let texts = Catalogues::load().unwrap();
        for language in [Language::Chinese, Language::English] {
            let text = texts.sms_text(language, "Jade {code} Mall", "482913", 5);
            assert!(text.contains("482913") && text.contains("Jade {code} Mall"), "{text}");
            assert!(text.contains('5') && text.chars().count() <= 70, "one message: {text}");
        }
    }

    #[test]
    fn lengths_and_amounts_read_well() {
        let texts = Catalogues::load().unwrap();
        let english = texts.of(Language::English);
        assert_eq!(english.length(Duration::from_secs(4 * 3600 - 1)), "3 h 59 min");
        assert_eq!(english.length(Duration::from_secs(2 * 3600)), "2 h");
        assert_eq!(english.length(Duration::from_millis(58_001)), "59 s");
        assert_eq!(english.length(Duration::from_mins(1)), "1 min");
        assert_eq!(amount(0), "0.0 kB");
        assert_eq!(amount(12_345_678), "12.3 MB");
        assert_eq!(amount(u64::MAX), "18446744073.7 GB");
    }
}
