//! From a file to a [`Config`], or to everything that is wrong with it and where.

use std::fmt;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Config, KeyMaker, Place, Sms, check, garden};
use crate::domain::garden::Pattern;
use crate::domain::probe::CHECKS;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file says something impossible; a line each, in the file's order.
    #[error("{}", .0.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<Problem>),
}

/// One thing wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, as it was named.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What is wrong and what is wanted.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.text)
    }
}

impl Config {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Reads and checks a text; `name` stands for the file in what is said about it.
    pub fn parse(text: &str, name: &str) -> Result<Self, ConfigError> {
        let mut findings = Findings::new(text, name);
        let document = match DeTable::parse(text) {
            Ok(document) => document,
            Err(error) => {
                findings.add(error.span(), error.message().to_owned());
                return Err(findings.into_error());
            }
        };
        // The tree is read twice: once into the types, once for the places of what they contradict.
        let config = match Self::deserialize(toml::Deserializer::from(document.clone())) {
            Ok(config) => config,
            Err(error) => {
                findings.add_typed(&document, &error);
                return Err(findings.into_error());
            }
        };
        for (path, text) in check::contradictions(&config) {
            findings.add(Some(place(&document, &path)), text);
        }
        if findings.problems.is_empty() { Ok(config) } else { Err(findings.into_error()) }
    }

    /// What is allowed but unwise; `path` is the file this was read from.
    pub fn warnings(&self, path: &Path) -> Vec<String> {
        let mut warnings = Vec::new();
        let open = std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o007 != 0);
        if open && self.holds_secrets() {
            warnings.push(format!("{0} holds secrets; chmod 600 {0}", path.display()));
        }
        let ways = [
            !self.sms.is_empty(),
            !self.follow.keys.is_empty(),
            self.wechat_wifi.is_some(),
            self.voucher.enabled,
        ];
        if !ways.contains(&true) {
            warnings.push("neither [sms] nor follow.keys: no guest can get online".into());
        }
        warnings.extend(self.checks_in_gardens());
        if self.follow.account.is_some() && self.portal.name.is_none() {
            let unwise = "follow.account without portal.name: WeChat warns of links to addresses";
            warnings.push(unwise.into());
        }
        if self.follow.url.as_ref().is_some_and(|url| url.starts_with("http:")) {
            warnings.push("follow.url is http: the token travels in clear".into());
        }
        let names = self.hq.as_ref().filter(|_| self.store.key == KeyMaker::Hq);
        if names.is_some_and(|hq| hq.url.starts_with("http:")) {
            warnings.push("hq.url is http: whoever is on the way can mix up guests".into());
        }
        for (key, address) in self.sms.iter().filter_map(Sms::address) {
            if address.starts_with("http:") {
                warnings.push(format!("sms.{key} is http: numbers and codes travel in clear"));
            }
        }
        warnings
    }

    /// Names of gardens that phones ask whether they are online, a sentence each.
    pub fn checks_in_gardens(&self) -> Vec<String> {
        let zones = self.zone.iter().map(|zone| {
            (format!("the garden of zone {}", zone.name), zone.walled_garden.as_slice())
        });
        let pass = self.pass.iter().map(|pass| ("pass.garden".into(), pass.garden.as_slice()));
        let found = |(garden, places): (String, &[Place])| {
            let checked = |name: &&Pattern| CHECKS.iter().any(|check| name.covers(check.host));
            let held = garden::names(places).find(checked)?;
            Some(format!("{garden} holds {held}: phones ask it whether they are online"))
        };
        zones.chain(pass).filter_map(found).collect()
    }

    fn holds_secrets(&self) -> bool {
        self.staff.is_some()
            || self.sms.iter().any(Sms::holds_secrets)
            || self.hq.as_ref().is_some_and(|hq| hq.token.is_some())
            || self.follow.token.is_some()
            || self.wechat_wifi.is_some()
    }
}

struct Findings<'t> {
    text: &'t str,
    file: &'t str,
    problems: Vec<Problem>,
}

impl<'t> Findings<'t> {
    fn new(text: &'t str, file: &'t str) -> Self {
        Self { text, file, problems: Vec::new() }
    }

    fn add(&mut self, span: Option<Range<usize>>, text: String) {
        let before = span.and_then(|span| self.text.get(..span.start)).unwrap_or("");
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        self.problems.push(Problem {
            file: self.file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            text,
        });
    }

    /// Adds serde's error in our words. For tagged tables serde forgets the place of an unknown
    /// key; it is found again by its name.
    fn add_typed(&mut self, document: &Spanned<DeTable<'_>>, error: &toml::de::Error) {
        let message = error.message();
        let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
        let (span, text) = match quoted.split_first() {
            Some((key, known)) if message.starts_with("unknown field") => {
                let span =
                    error.span().map(|span| key_within(document, &span, key).unwrap_or(span));
                (span, unknown_key(key, known))
            }
            Some((key, _)) if message.starts_with("missing field") => {
                (error.span(), format!("{key} is missing"))
            }
            _ => (error.span(), plain(message)),
        };
        self.add(span, text);
    }

    fn into_error(mut self) -> ConfigError {
        self.problems.sort_by_key(|problem| (problem.line, problem.column));
        ConfigError::Invalid(self.problems)
    }
}

/// The libraries' words for what a value should be, in words for whoever writes the file.
fn plain(message: &str) -> String {
    const WORDS: [(&str, &str); 5] = [
        ("expected u8", "expected a whole number from 0 to 255"),
        ("expected u16", "expected a whole number from 0 to 65535"),
        ("expected u32", "expected a whole number from 0 to 4294967295"),
        ("expected usize", "expected a whole number"),
        ("invalid socket address syntax", "not an address and port, such as \"192.168.1.1:8443\""),
    ];
    WORDS.iter().fold(message.to_owned(), |text, (theirs, ours)| match text.strip_suffix(theirs) {
        Some(before) => format!("{before}{ours}"),
        None => text,
    })
}

fn unknown_key(key: &str, known: &[&str]) -> String {
    let nearest = known.iter().map(|name| (distance(key, name), name)).min();
    match nearest {
        Some((away, name)) if away < key.len() && away <= 2.max(key.len() / 3) => {
            format!("unknown key {key}; did you mean {name}?")
        }
        _ => format!("unknown key {key}; known here: {}", known.join(", ")),
    }
}

/// Levenshtein's distance, in characters.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, r) in right.iter().enumerate() {
            let changed = diagonal + usize::from(l != *r);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}

/// The place of `path` (`zone.1.interface`), or of as much of it as the file has. A number is
/// passed over where a list of one stands as a table.
fn place(document: &Spanned<DeTable<'_>>, path: &str) -> Range<usize> {
    let mut span = document.span();
    let mut table = Some(document.get_ref());
    let mut array = None;
    for step in path.split('.') {
        let next: Option<&Spanned<DeValue<'_>>> = match (table, array) {
            (Some(_), _) if step.parse::<usize>().is_ok() => continue,
            (Some(table), _) => table.get(step),
            (_, Some(array)) => step.parse::<usize>().ok().and_then(|at| <[_]>::get(array, at)),
            _ => None,
        };
        let Some(value) = next else { break };
        span = value.span();
        table = value.get_ref().as_table();
        array = value.get_ref().as_array().map(|array| &**array);
    }
    span
}

fn key_within(
    document: &Spanned<DeTable<'_>>,
    span: &Range<usize>,
    key: &str,
) -> Option<Range<usize>> {
    let values = || document.get_ref().values();
    let lists = values().filter_map(|value| value.get_ref().as_array());
    values()
        .chain(lists.flat_map(|list| list.iter()))
        .filter(|value| value.span() == *span)
        .filter_map(|value| value.get_ref().as_table())
        .flat_map(|table| table.keys())
        .find(|name| name.get_ref() == key)
        .map(Spanned::span)
}
