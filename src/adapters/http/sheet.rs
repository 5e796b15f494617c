//! The printable sheet of a batch of vouchers.

use std::time::Duration;

use askama::Template;

use super::catalogue::{Catalogue, Catalogues, fill};
use super::wechat::follow::draw;
use crate::domain::event::Language;

/// A batch as it is printed.
#[derive(Debug)]
pub struct Sheet<'a> {
    /// The store's name.
    pub store: &'a str,
    /// The portal's address, with the final slash; without one there are no QR codes.
    pub portal: Option<&'a str>,
    /// The batch, as it is called.
    pub batch: &'a str,
    /// The codes, by number.
    pub codes: &'a [String],
    /// A use lasts this long.
    pub length: Duration,
    /// Uses of each.
    pub uses: u16,
    /// The last day.
    pub expires: Option<String>,
}

impl Sheet<'_> {
    /// The sheet as a page that needs nothing else.
    pub fn render(&self, texts: &Catalogues, language: Language) -> askama::Result<String> {
        let text = texts.of(language);
        let mut worth = vec![fill(&text.sheet.worth, &[("length", &text.length(self.length))])];
        if self.uses > 1 {
            worth.push(fill(&text.sheet.uses, &[("uses", &self.uses.to_string())]));
        }
        let end = self.expires.as_ref();
        worth.extend(end.map(|date| fill(&text.sheet.expires, &[("date", date)])));
        let vouchers = self.codes.iter().zip(1..).map(|(code, number)| Printed {
            name: format!("{}-{number}", self.batch),
            code,
            picture: self.portal.and_then(|portal| draw(&format!("{portal}v/{code}"))),
        });
        let worth = worth.join(" · ");
        SheetPage { text, store: self.store, worth, vouchers: vouchers.collect() }.render()
    }
}

struct Printed<'a> {
    name: String,
    code: &'a str,
    /// SVG.
    picture: Option<String>,
}

#[derive(Template)]
#[template(path = "sheet.html")]
struct SheetPage<'a> {
    text: &'a Catalogue,
    store: &'a str,
    worth: String,
    vouchers: Vec<Printed<'a>>,
}
