//! How the guests' pages look: name, colours, pictures and the store's own words, from the
//! configuration and on top of it from HQ. Everything is checked and made once, not at a request.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use hyper::body::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use super::guard::Seal;
use super::pages::{LIVE_SCRIPT, MORE_STYLE, SCRIPT, STAFF_STYLE, STYLE};
use crate::config::{Colour, Config, PICTURES_MAX, Words};
use crate::domain::event::Language;

/// The brand of the moment; HQ may send another.
pub type Brands = watch::Receiver<Arc<Brand>>;

/// Why a picture is not shown.
#[derive(Debug, thiserror::Error)]
pub enum BrandError {
    /// It cannot be read.
    #[error("{}: {error}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is no picture that a browser shows.
    #[error("brand.{0} is no PNG, JPEG, WebP, GIF or SVG")]
    Kind(&'static str),
    /// The page would be too large.
    #[error("brand.logo and brand.hero have {0} bytes together, more than {PICTURES_MAX}")]
    Size(usize),
}

/// What a brand is made of; pictures as bytes.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// At the top of the pages.
    pub name: String,
    /// Of buttons and links; the style sheet's own if `None`.
    pub colour: Option<Colour>,
    /// Beside the name.
    pub logo: Option<Vec<u8>>,
    /// Above the first step.
    pub hero: Option<Vec<u8>>,
    /// The version of terms and privacy notice.
    pub terms_version: String,
    /// The words in Chinese.
    pub chinese: Words,
    /// The words in English.
    pub english: Words,
}

/// A brand, ready to be shown.
#[derive(Debug)]
pub struct Brand {
    pub(super) name: String,
    pub(super) style: String,
    /// The style of all pages but the first.
    pub(super) more: String,
    pub(super) script: String,
    /// The script of pages that wait.
    pub(super) live: String,
    pub(super) seal: Seal,
    pub(super) logo: Option<Picture>,
    pub(super) hero: Option<Picture>,
    pub(super) terms_version: String,
    chinese: Words,
    english: Words,
}

/// A picture as it is served.
#[derive(Debug)]
pub(super) struct Picture {
    /// Where; another picture has another address, so that browsers may keep it.
    pub(super) path: String,
    kind: &'static str,
    bytes: Bytes,
}

impl Parts {
    /// What a configuration says. A picture that cannot be shown is left out, with its reason.
    pub fn from_config(config: &Config) -> (Self, Vec<BrandError>) {
        let brand = &config.brand;
        let mut problems = Vec::new();
        let mut read = |name, path: &Option<PathBuf>| {
            let picture = picture(name, path.as_deref()?);
            picture.map_err(|problem| problems.push(problem)).ok()
        };
        let mut parts = Self {
            name: brand.name.clone().unwrap_or_else(|| config.store.name.clone()),
            colour: brand.colour,
            logo: read("logo", &brand.logo),
            hero: read("hero", &brand.hero),
            terms_version: config.portal.terms_version.clone(),
            chinese: brand.chinese.clone(),
            english: brand.english.clone(),
        };
        let size = parts.pictures();
        if size > PICTURES_MAX {
            problems.push(BrandError::Size(size));
            (parts.logo, parts.hero) = (None, None);
        }
        (parts, problems)
    }

    /// Bytes of both pictures.
    pub fn pictures(&self) -> usize {
        [&self.logo, &self.hero].into_iter().flatten().map(Vec::len).sum()
    }
}

impl Brand {
    /// Makes it; a picture of no known kind is left out.
    pub fn new(parts: Parts) -> Self {
        Self::with_style(parts, MORE_STYLE.to_owned())
    }

    /// The staff's own, which is the same in every store, and a name.
    pub(super) fn of_staff(name: &str) -> Self {
        let parts = Parts { name: name.to_owned(), ..Parts::default() };
        Self::with_style(parts, [MORE_STYLE, STAFF_STYLE].concat())
    }

    fn with_style(parts: Parts, more: String) -> Self {
        let mut style = STYLE.to_owned();
        if let Some(colour) = parts.colour {
            let (light, dark) = (readable(colour, LIGHT), readable(colour, DARK));
            // Writing to a string cannot fail.
            let _ = write!(
                style,
                ":root{{--go:{light};--on-go:{}}}\n\
                 @media(prefers-color-scheme:dark){{:root{{--go:{dark};--on-go:{}}}}}\n",
                on(light),
                on(dark)
            );
        }
        let (script, live) = (bare(SCRIPT), bare(LIVE_SCRIPT));
        Self {
            name: parts.name,
            seal: Seal::new([&style, &more], [&script, &live]),
            style,
            more,
            script,
            live,
            logo: parts.logo.and_then(|bytes| Picture::new("logo", bytes)),
            hero: parts.hero.and_then(|bytes| Picture::new("hero", bytes)),
            terms_version: parts.terms_version,
            chinese: parts.chinese,
            english: parts.english,
        }
    }

    /// What the store says in a language.
    pub(super) const fn words(&self, language: Language) -> &Words {
        match language {
            Language::Chinese => &self.chinese,
            Language::English => &self.english,
        }
    }
}

impl Picture {
    fn new(name: &str, bytes: Vec<u8>) -> Option<Self> {
        let kind = kind(&bytes)?;
        let digest = data_encoding::HEXLOWER.encode(&Sha256::digest(&bytes)[..4]);
        Some(Self { path: format!("/{name}?{digest}"), kind, bytes: bytes.into() })
    }

    /// The picture as an answer.
    pub(super) fn answer(&self) -> Response {
        let mut response = Response::new(Body::from(self.bytes.clone()));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, max-age=86400"));
        response
    }
}

/// The media type of what browsers show, by its first bytes.
pub fn kind(bytes: &[u8]) -> Option<&'static str> {
    let starts = |mark: &[u8]| bytes.starts_with(mark);
    match () {
        () if starts(b"\x89PNG\r\n\x1a\n") => Some("image/png"),
        () if starts(b"\xff\xd8\xff") => Some("image/jpeg"),
        () if starts(b"GIF8") => Some("image/gif"),
        () if starts(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") => Some("image/webp"),
        () if starts(b"<svg") || starts(b"<?xml") => Some("image/svg+xml"),
        () => None,
    }
}

fn picture(name: &'static str, path: &Path) -> Result<Vec<u8>, BrandError> {
    let file = |error| BrandError::File { path: path.to_owned(), error };
    let size = std::fs::metadata(path).map_err(file)?.len();
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if size > PICTURES_MAX {
        return Err(BrandError::Size(size));
    }
    let bytes = std::fs::read(path).map_err(file)?;
    kind(&bytes).is_some().then_some(bytes).ok_or(BrandError::Kind(name))
}

/// A script without indentation and comments, which only its readers here need.
fn bare(script: &str) -> String {
    let lines = script.lines().map(str::trim_start);
    let kept: Vec<&str> =
        lines.filter(|line| !line.is_empty() && !line.starts_with("//")).collect();
    kept.join("\n")
}

/// The grounds that links stand on, as in the style sheet: the page in the light, the card in the
/// dark, which are the harder of the two.
const LIGHT: Colour = Colour([0xf4, 0xf1, 0xea]);
const DARK: Colour = Colour([0x1f, 0x26, 0x23]);
/// WCAG 2.2, success criterion 1.4.6: phones are read in the sun.
const CONTRAST: f64 = 7.0;

/// The colour, moved away from the ground until text in it can be read there.
fn readable(colour: Colour, ground: Colour) -> Colour {
    let towards = if luminance(ground) > 0.5 { 0.0 } else { 255.0 };
    let steps = (0..=20).map(|step| mix(colour, towards, f64::from(step) / 20.0));
    let mut readable = steps.filter(|colour| contrast(*colour, ground) >= CONTRAST);
    readable.next().unwrap_or(if towards == 0.0 { Colour([0; 3]) } else { Colour([255; 3]) })
}

/// White or nearly black, whichever is easier to read on a colour.
fn on(colour: Colour) -> Colour {
    let (white, black) = (Colour([255; 3]), Colour([0x0c, 0x14, 0x11]));
    if contrast(white, colour) >= contrast(black, colour) { white } else { black }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 255")]
fn mix(Colour(from): Colour, towards: f64, share: f64) -> Colour {
    Colour(from.map(|part| (f64::from(part) * (1.0 - share) + towards * share).round() as u8))
}

/// WCAG 2.2, "contrast ratio".
fn contrast(one: Colour, other: Colour) -> f64 {
    let (one, other) = (luminance(one), luminance(other));
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

/// WCAG 2.2, "relative luminance".
fn luminance(Colour(parts): Colour) -> f64 {
    let [red, green, blue] = parts.map(|part| {
        let part = f64::from(part) / 255.0;
        if part <= 0.040_45 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
    });
    0.0722f64.mul_add(blue, 0.2126f64.mul_add(red, 0.7152 * green))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_colour_can_be_read_in_the_light_and_in_the_dark() {
        for red in (0..=255).step_by(51) {
            for green in (0..=255).step_by(51) {
                for blue in (0..=255).step_by(51) {
                    let colour = Colour([red, green, blue]);
                    for ground in [LIGHT, DARK] {
                        let shown = readable(colour, ground);
                        assert!(contrast(shown, ground) >= CONTRAST, "{colour} on {ground}");
                        assert!(contrast(on(shown), shown) >= CONTRAST, "text on {shown}");
                    }
                }
            }
        }
        let fine = Colour([0x0a, 0x5a, 0x43]);
        assert_eq!(readable(fine, LIGHT), fine);
        assert!((contrast(Colour([0; 3]), Colour([255; 3])) - 21.0).abs() < 1e-9);
    }

    #[test]
    fn pictures_are_known_by_their_bytes_and_kept_small() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let small = [b"\x89PNG\r\n\x1a\n".as_slice(), &[0; 9_000]].concat();
        let config = |logo: &Path, hero: &Path| {
            let text = format!(
                "[store]\nid = \"s\"\nname = \"S\"\ntime_zone = \"CST-8\"\n[[zone]]\nname = \"g\"\n\
                 interface = \"lo\"\n[brand]\nlogo = {logo:?}\nhero = {hero:?}\n"
            );
            Config::parse(&text, "test").unwrap()
        };
        let (good, text) = (write("a.png", &small), write("b.png", b"hello"));
        let (parts, problems) = Parts::from_config(&config(&good, &text));
        assert!(parts.logo.is_some() && parts.hero.is_none() && parts.name == "S");
        assert_eq!(problems[0].to_string(), "brand.hero is no PNG, JPEG, WebP, GIF or SVG");
        let (parts, problems) = Parts::from_config(&config(&good, &good));
        assert!(parts.logo.is_none() && problems[0].to_string().contains("18016 bytes together"));
        let (_, problems) = Parts::from_config(&config(&good, &folder.path().join("none")));
        assert!(problems[0].to_string().contains("none"), "{problems:?}");
    }
}
