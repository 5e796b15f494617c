//! Vouchers, typed or scanned, and the guest's other devices. A voucher is spent by a form alone:
//! whatever looks at a link spends nothing.

use std::sync::Arc;

use askama::Template;
use axum::Form;
use axum::extract::rejection::FormRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use hyper::StatusCode;
use serde::Deserialize;

use super::catalogue::{Catalogue, fill};
use super::guard::{found, html};
use super::pages::{Frame, Typed};
use super::portal::{Guest, Site};
use crate::domain::effect::{OwnDevice, Refusal, View};
use crate::domain::event::{Ask, Consent};
use crate::domain::names::SessionId;

/// Characters of a scanned link that are shown again.
const SHOWN: usize = 40;

#[derive(Deserialize)]
pub(super) struct VoucherForm {
    code: String,
    terms: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct DeviceForm {
    session: u64,
}

/// A scanned voucher: a page with a button.
pub(super) async fn scanned(
    State(site): State<Arc<Site>>,
    guest: Guest,
    Path(code): Path<String>,
) -> Response {
    if !site.portal.vouchers {
        return found("/");
    }
    match site.ask(&guest, Ask::Look).await {
        None => site.busy(guest.choice),
        Some(View::Online { .. }) => found(&format!("/{}", guest.choice.query())),
        Some(view @ View::Blocked) => site.step(&guest, &view, Typed::default()),
        Some(_) => {
            let code: String = code.chars().take(SHOWN).collect();
            page(&site, &guest, None, Some(&code))
        }
    }
}

/// A voucher is to be used.
pub(super) async fn submitted(
    State(site): State<Arc<Site>>,
    guest: Guest,
    form: Result<Form<VoucherForm>, FormRejection>,
) -> Response {
    let Ok(Form(form)) = form else { return site.not_a_form(&guest) };
    if !site.portal.vouchers {
        return found("/");
    }
    let terms = form.terms.map(|_| site.brand().terms_version.clone()).unwrap_or_default();
    let consent = Consent { terms, marketing: false };
    match site.ask(&guest, Ask::UseVoucher { code: form.code, consent }).await {
        None => site.busy(guest.choice),
        Some(View::Online { .. }) => {
            Redirect::to(&format!("/{}", guest.choice.query())).into_response()
        }
        Some(
            View::Phone { refusal: Some(refusal) }
            | View::Code { refusal: Some(refusal), .. }
            | View::Follow { refusal: Some(refusal), .. },
        ) => page(&site, &guest, Some(refusal), None),
        Some(view) => site.step(&guest, &view, Typed::default()),
    }
}

/// Another device of the guest is to go offline.
pub(super) async fn end_other(
    State(site): State<Arc<Site>>,
    guest: Guest,
    form: Result<Form<DeviceForm>, FormRejection>,
) -> Response {
    let Ok(Form(form)) = form else { return site.not_a_form(&guest) };
    let ask = Ask::EndOther { session: SessionId(form.session) };
    site.act(&guest, ask, Typed::default()).await
}

/// A line of the guest's list of devices.
pub(super) struct OwnLine<'a> {
    pub(super) name: &'a str,
    pub(super) note: String,
    /// What ends it; the device that asks has its own button.
    pub(super) session: Option<u64>,
}

impl<'a> OwnLine<'a> {
    pub(super) fn of(device: &'a OwnDevice, text: &'a Catalogue) -> Self {
        let texts = &text.devices;
        let name = match (device.here, device.name.as_deref()) {
            (true, _) => &texts.here,
            (false, Some(name)) => name,
            (false, None) => &texts.unnamed,
        };
        let since = device.online_for.map(|length| {
            let length = text.length(length);
            fill(&texts.since, &[("length", &length)])
        });
        Self {
            name,
            note: since.unwrap_or_default(),
            session: (!device.here).then_some(device.session.0),
        }
    }
}

fn page(site: &Site, guest: &Guest, refusal: Option<Refusal>, scanned: Option<&str>) -> Response {
    let frame = site.frame(guest.choice, "/");
    let error = refusal.map(|refusal| frame.text.refusal(refusal));
    html(StatusCode::OK, VoucherPage { frame: &frame, error, scanned }.render())
}

#[derive(Template)]
#[template(path = "portal/voucher_page.html")]
struct VoucherPage<'a> {
    frame: &'a Frame<'a>,
    error: Option<String>,
    /// The code, if it was in the link.
    scanned: Option<&'a str>,
}
