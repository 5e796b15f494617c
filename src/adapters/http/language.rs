//! Which catalogue a browser reads: the switch in the link, or else its own preferences.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use hyper::header::ACCEPT_LANGUAGE;
use hyper::http::request::Parts;

use crate::domain::event::Language;

/// The language of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    /// Which.
    pub(super) language: Language,
    /// Whether the link said so; then the page's own links must go on saying so. A cookie would
    /// not do: a phone's portal sheet forgets them when it closes.
    chosen: bool,
}

impl Choice {
    /// `?lang=…` if the guest chose a language, else nothing.
    pub(super) const fn query(self) -> &'static str {
        if self.chosen { query(self.language) } else { "" }
    }
}

/// The query that chooses a language.
pub(super) const fn query(language: Language) -> &'static str {
    match language {
        Language::Chinese => "?lang=zh-CN",
        Language::English => "?lang=en",
    }
}

impl<S: Sync> FromRequestParts<S> for Choice {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let asked = parts.uri.query().into_iter().flat_map(|query| query.split('&'));
        let named = asked.filter_map(|pair| pair.strip_prefix("lang=")).find_map(named);
        if let Some(language) = named {
            return Ok(Self { language, chosen: true });
        }
        let header = parts.headers.get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
        Ok(Self { language: preferred(header.unwrap_or("")), chosen: false })
    }
}

/// The language that `Accept-Language` (RFC 9110, 12.5.4) likes best of ours; Chinese if neither.
fn preferred(header: &str) -> Language {
    let mut best = (Language::default(), 0);
    for part in header.split(',').take(32) {
        let mut fields = part.split(';');
        let Some(language) = fields.next().and_then(|range| named(range.trim())) else { continue };
        let weight =
            fields.find_map(|field| field.trim().strip_prefix(['q', 'Q'])?.strip_prefix('='));
        let weight = weight.map_or(Some(1000), thousandths).unwrap_or(0);
        if weight > best.1 {
            best = (language, weight);
        }
    }
    best.0
}

/// A language tag (RFC 5646) or range of ours: any Chinese, any English.
fn named(tag: &str) -> Option<Language> {
    let primary = tag.split('-').next().unwrap_or(tag);
    if primary.eq_ignore_ascii_case("zh") {
        Some(Language::Chinese)
    } else if primary.eq_ignore_ascii_case("en") {
        Some(Language::English)
    } else {
        None
    }
}

/// A weight (RFC 9110, 12.4.2): 0 to 1 with at most three decimals.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let decimals: u16 = format!("{decimals:0<3}").parse().ok()?;
    match whole {
        "0" => Some(decimals),
        "1" if decimals == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_liked_language_wins() {
        use Language::{Chinese, English};
        for (header, language) in [
            ("", Chinese),
            ("*", Chinese),
            ("ja", Chinese),
            ("en", English),
            ("en-GB,en;q=0.9", English),
            ("zh-CN,zh;q=0.9,en;q=0.8", Chinese),
            ("zh-TW;q=0.3, EN-us;q=0.7", English),
            ("en;q=0, zh;q=0.1", Chinese),
            ("en;q=0.5,zh;q=0.5", English),
            ("en;q=2, zh;q=0.001", Chinese),
            ("en;q=, zh", Chinese),
            ("fr, de;Q=0.9, en;Q=0.1", English),
            ("english", Chinese),
            (";;;,,,q=1", Chinese),
        ] {
            assert_eq!(preferred(header), language, "{header}");
        }
    }

    #[tokio::test]
    async fn the_link_outweighs_the_browser() {
        let ask = async |uri: &str| {
            let request = hyper::Request::get(uri).header(ACCEPT_LANGUAGE, "zh").body(()).unwrap();
            Choice::from_request_parts(&mut request.into_parts().0, &()).await.unwrap()
        };
        let english = ask("/?a=b&lang=en").await;
        assert_eq!((english.language, english.query()), (Language::English, "?lang=en"));
        let neither = ask("/?lang=xx&lang").await;
        assert_eq!((neither.language, neither.query()), (Language::Chinese, ""));
    }
}
