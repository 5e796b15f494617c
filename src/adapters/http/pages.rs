//! The guests' pages: a step of the domain, in words.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;

use super::brand::Brand;
use super::catalogue::{Catalogue, Catalogues, Document, amount, around, fill, whole_seconds};
use super::language::{Choice, query};
use super::vouchers::OwnLine;
use super::wechat::follow::Offer;
use crate::config::Words;
use crate::domain::effect::{Refusal, View};
use crate::domain::event::Language;

/// The style sheet of all pages, and all that the first one needs: it is the page that a phone waits
/// for.
pub(super) const STYLE: &str = include_str!("../../../templates/style.css");
/// What other pages have besides.
pub(super) const MORE_STYLE: &str = include_str!("../../../templates/more.css");
/// What the staff's pages have besides.
pub(super) const STAFF_STYLE: &str = include_str!("../../../templates/staff/style.css");
/// The script of all pages; each works without.
pub(super) const SCRIPT: &str = include_str!("../../../templates/page.js");
/// The script of pages that wait for something.
pub(super) const LIVE_SCRIPT: &str = include_str!("../../../templates/live.js");

/// What surrounds every page: language, store, links.
pub(super) struct Frame<'a> {
    pub(super) text: &'a Catalogue,
    pub(super) brand: Arc<Brand>,
    /// The line to the internet is down.
    pub(super) down: bool,
    pub(super) language: Language,
    /// What keeps the chosen language in this page's links.
    pub(super) query: &'static str,
    /// The path that the language switch leads to.
    pub(super) here: &'static str,
    pub(super) other_query: &'static str,
    pub(super) other_tag: &'a str,
}

impl<'a> Frame<'a> {
    pub(super) fn new(
        texts: &'a Catalogues,
        brand: Arc<Brand>,
        choice: Choice,
        here: &'static str,
    ) -> Self {
        let other = match choice.language {
            Language::Chinese => Language::English,
            Language::English => Language::Chinese,
        };
        Self {
            text: texts.of(choice.language),
            brand,
            down: false,
            language: choice.language,
            query: choice.query(),
            here,
            other_query: query(other),
            other_tag: &texts.of(other).tag,
        }
    }

    /// What the store says in this page's language.
    pub(super) fn words(&self) -> &Words {
        self.brand.words(self.language)
    }
}

/// What a guest typed, to be shown again beside a refusal.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Typed<'a> {
    pub(super) phone: &'a str,
    pub(super) agreed: bool,
}

/// What the first page offers besides a code.
#[derive(Clone, Debug, Default)]
pub(super) struct Offers {
    pub(super) follow: Option<Offer>,
    /// WeChat's Wi-Fi portal.
    pub(super) wifi: bool,
    pub(super) voucher: bool,
}

/// The page of a step.
pub(super) fn step(
    frame: &Frame,
    view: &View,
    typed: Typed,
    offers: &Offers,
) -> askama::Result<String> {
    let text = frame.text;
    match view {
        View::Phone { refusal } => phone(frame, *refusal, typed, offers),
        View::Follow { pass, refusal } => match &offers.follow {
            Some(offer) => FollowPage {
                frame,
                error: refusal.map(|refusal| text.refusal(refusal)),
                title: fill(&text.follow.title, &[("account", &offer.account)]),
                find: fill(&text.follow.find, &[("account", &offer.account)]),
                pass: pass.map(|left| Countdown::new(&text.follow.pass, "left", left, text)),
                offer,
            }
            .render(),
            None => phone(frame, *refusal, typed, offers),
        },
        View::Return => ReturnPage { frame }.render(),
        View::Code { mask, digits, resend_in, refusal } => CodePage {
            frame,
            error: refusal.map(|refusal| text.refusal(refusal)),
            over: matches!(refusal, Some(Refusal::CodeDead | Refusal::CodeExpired)),
            sent: fill(&text.code.sent, &[("mask", mask.trim_start_matches('*'))]),
            digits: *digits,
            wait: (!resend_in.is_zero())
                .then(|| Countdown::new(&text.code.again_in, "wait", *resend_in, text)),
        }
        .render(),
        View::Online { left, used: (up, down), quota_left, extend, devices } => OnlinePage {
            frame,
            left: left.map(|left| Left::new(left, text)),
            up: amount(*up),
            down: amount(*down),
            quota_left: quota_left.map(amount),
            extend: *extend,
            devices: devices.iter().map(|device| OwnLine::of(device, text)).collect(),
        }
        .render(),
        View::Ended { reason, extend } => NoticePage {
            frame,
            title: &text.ended.title,
            text: text.end(*reason),
            way: if *extend { Way::Extend } else { Way::Connect },
        }
        .render(),
        // Asked for by the guest's own page alone, which makes another of it.
        View::Mine { .. } => notice(frame, &text.online.title, &text.online.text, Way::Home),
        View::Blocked => notice(frame, &text.blocked.title, &text.blocked.text, Way::Nowhere),
    }
}

/// Time left, which a script counts down.
struct Left {
    seconds: u64,
    said: String,
}

impl Left {
    fn new(left: Duration, text: &Catalogue) -> Self {
        Self { seconds: whole_seconds(left), said: text.length(left) }
    }
}

/// A sentence with the time left in it.
struct Countdown<'a> {
    before: &'a str,
    left: Left,
    after: &'a str,
}

impl<'a> Countdown<'a> {
    fn new(sentence: &'a str, place: &str, left: Duration, text: &Catalogue) -> Self {
        let (before, after) = around(sentence, place);
        Self { before, left: Left::new(left, text), after }
    }
}

/// The page that asks for a number.
pub(super) fn phone(
    frame: &Frame,
    refusal: Option<Refusal>,
    typed: Typed,
    offers: &Offers,
) -> askama::Result<String> {
    let account = offers.follow.as_ref().map(|offer| offer.account.as_str());
    PhonePage {
        frame,
        offers,
        instead: account.map(|account| fill(&frame.text.follow.instead, &[("account", account)])),
        error: refusal.map(|refusal| frame.text.refusal(refusal)),
        typed: typed.phone,
        agreed: typed.agreed,
    }
    .render()
}

/// The Wi-Fi terms: the store's own, or ours.
pub(super) fn terms(frame: &Frame) -> askama::Result<String> {
    document(frame, &frame.text.terms, &frame.words().terms)
}

/// The privacy notice: the store's own, or ours.
pub(super) fn privacy(frame: &Frame) -> askama::Result<String> {
    document(frame, &frame.text.privacy, &frame.words().privacy)
}

fn document(frame: &Frame, ours: &Document, own: &[String]) -> askama::Result<String> {
    let version = [("version", frame.brand.terms_version.as_str())];
    DocumentPage {
        frame,
        title: &ours.title,
        paragraphs: if own.is_empty() { &ours.paragraphs } else { own },
        version: fill(&frame.text.common.version, &version),
    }
    .render()
}

/// The page of a gateway that has no answer just now.
pub(super) fn busy(frame: &Frame) -> askama::Result<String> {
    notice(frame, &frame.text.busy.title, &frame.text.busy.text, Way::Retry)
}

/// The page of a form that was not ours, or not a form.
pub(super) fn foreign(frame: &Frame) -> askama::Result<String> {
    notice(frame, &frame.text.foreign.title, &frame.text.foreign.text, Way::Home)
}

/// The page of a guest who was forgotten.
pub(super) fn forgotten(frame: &Frame) -> askama::Result<String> {
    notice(frame, &frame.text.mine.erased_title, &frame.text.mine.erased_text, Way::Home)
}

/// The link in a redirect to `url`, for whoever does not follow redirects.
pub(super) fn redirect(url: &str) -> askama::Result<String> {
    RedirectPage { url }.render()
}

fn notice(frame: &Frame, title: &str, text: &str, way: Way) -> askama::Result<String> {
    NoticePage { frame, title, text, way }.render()
}

/// Where a notice leads.
enum Way {
    Nowhere,
    /// To the page of the step.
    Home,
    /// There too, by itself in a while.
    Retry,
    /// To another session.
    Connect,
    /// To more time.
    Extend,
}

#[derive(Template)]
#[template(path = "portal/phone.html")]
struct PhonePage<'a> {
    frame: &'a Frame<'a>,
    error: Option<String>,
    typed: &'a str,
    agreed: bool,
    offers: &'a Offers,
    /// The sentence that offers to follow.
    instead: Option<String>,
}

#[derive(Template)]
#[template(path = "portal/wait.html")]
struct FollowPage<'a> {
    frame: &'a Frame<'a>,
    error: Option<String>,
    title: String,
    find: String,
    /// How long the pass stays open.
    pass: Option<Countdown<'a>>,
    offer: &'a Offer,
}

#[derive(Template)]
#[template(path = "portal/return.html")]
struct ReturnPage<'a> {
    frame: &'a Frame<'a>,
}

#[derive(Template)]
#[template(path = "portal/code.html")]
struct CodePage<'a> {
    frame: &'a Frame<'a>,
    error: Option<String>,
    /// The code is good no more.
    over: bool,
    sent: String,
    digits: u8,
    /// Until another may be asked for.
    wait: Option<Countdown<'a>>,
}

#[derive(Template)]
#[template(path = "portal/online.html")]
struct OnlinePage<'a> {
    frame: &'a Frame<'a>,
    left: Option<Left>,
    up: String,
    down: String,
    quota_left: Option<String>,
    extend: bool,
    devices: Vec<OwnLine<'a>>,
}

#[derive(Template)]
#[template(path = "portal/notice.html")]
struct NoticePage<'a> {
    frame: &'a Frame<'a>,
    title: &'a str,
    text: &'a str,
    way: Way,
}

#[derive(Template)]
#[template(path = "portal/document.html")]
struct DocumentPage<'a> {
    frame: &'a Frame<'a>,
    title: &'a str,
    paragraphs: &'a [String],
    version: String,
}

#[derive(Template)]
#[template(path = "portal/redirect.html")]
struct RedirectPage<'a> {
    url: &'a str,
}
