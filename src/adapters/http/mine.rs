//! The guest's own page: what is kept of the guest of this very session, to look at, to take away
//! and to have forgotten. Nobody names a guest here: the domain knows whose session it is.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::{CONTENT_DISPOSITION, CONTENT_TYPE};

use super::guard::{found, html};
use super::pages::{self, Frame};
use super::portal::{Guest, Site};
use crate::adapters::store::GuestFile;
use crate::domain::effect::View;
use crate::domain::event::Ask;
use crate::domain::names::GuestKey;

/// What is kept, on a page.
pub(super) async fn show(State(site): State<Arc<Site>>, guest: Guest) -> Response {
    match file(&site, &guest).await {
        Ok(file) => {
            let frame = site.frame(guest.choice, "/me");
            html(StatusCode::OK, MinePage::new(&frame, &file).render())
        }
        Err(response) => response,
    }
}

/// What is kept, as a file.
pub(super) async fn download(State(site): State<Arc<Site>>, guest: Guest) -> Response {
    let file = match file(&site, &guest).await {
        Ok(file) => file,
        Err(response) => return response,
    };
    let Ok(text) = serde_json::to_string_pretty(&file) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let kind = (CONTENT_TYPE, "application/json");
    let name = (CONTENT_DISPOSITION, "attachment; filename=\"my-data.json\"");
    ([kind, name], text).into_response()
}

/// Forgets the guest; the device stays online.
pub(super) async fn erase(State(site): State<Arc<Site>>, guest: Guest) -> Response {
    let key = match who(&site, &guest).await {
        Ok(key) => key,
        Err(response) => return response,
    };
    let Some(guests) = &site.portal.guests else { return found("/") };
    match guests.erase(key).await {
        Ok(()) => {
            tracing::info!("a guest is forgotten at their own word");
            html(StatusCode::OK, pages::forgotten(&site.frame(guest.choice, "/")))
        }
        Err(problem) => {
            tracing::warn!(%problem, "a guest cannot be forgotten just now");
            site.busy(guest.choice)
        }
    }
}

/// The guest of the session of the asking device; without one the way leads to the first page.
async fn who(site: &Site, guest: &Guest) -> Result<GuestKey, Response> {
    match site.ask(guest, Ask::Mine).await {
        Some(View::Mine { guest }) => Ok(guest),
        Some(_) => Err(found(&format!("/{}", guest.choice.query()))),
        None => Err(site.busy(guest.choice)),
    }
}

async fn file(site: &Site, guest: &Guest) -> Result<GuestFile, Response> {
    let key = who(site, guest).await?;
    let Some(guests) = &site.portal.guests else { return Err(found("/")) };
    guests.file(key).await.map_err(|problem| {
        tracing::warn!(%problem, "what is kept of a guest cannot be read");
        site.busy(guest.choice)
    })
}

#[derive(Template)]
#[template(path = "portal/mine.html")]
struct MinePage<'a> {
    frame: &'a Frame<'a>,
    number: &'a str,
    visits: usize,
    sessions: usize,
    devices: usize,
    terms: &'a str,
    marketing: bool,
}

impl<'a> MinePage<'a> {
    fn new(frame: &'a Frame<'a>, file: &'a GuestFile) -> Self {
        let last = file.consents.last();
        Self {
            frame,
            number: file.mask.as_deref().unwrap_or(""),
            visits: file.visits.len(),
            sessions: file.sessions.len(),
            devices: file.devices.len(),
            terms: last.map_or("", |consent| &consent.terms),
            marketing: last.is_some_and(|consent| consent.marketing),
        }
    }
}
