//! What the daemon's control socket says of guests and of the access log.

use serde::Serialize;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use crate::adapters::control::{GuestAct, RecordAsk, Recorder};
use crate::adapters::guests::Guests;
use crate::domain::Secrets;
use crate::domain::names::{GuestKey, Phone};

/// Answers from the record; numbers without a country code are of `country`.
pub(super) fn recorder(guests: Guests, secrets: Secrets, country: String) -> Recorder {
    Box::new(move |ask| {
        let (guests, who) = (guests.clone(), identify(&ask, &secrets, &country));
        Box::pin(async move {
            match ask {
                RecordAsk::Guest { act, .. } => of_guest(&guests, act, who?).await,
                RecordAsk::AccessLog { from, to, after } => {
                    let reader = guests.store().reader();
                    let page = spawn_blocking(move || reader.access_log(from, to, after)).await;
                    value(&page.map_err(text)?.map_err(text)?)
                }
            }
        })
    })
}

fn identify(ask: &RecordAsk, secrets: &Secrets, country: &str) -> Result<GuestKey, String> {
    let RecordAsk::Guest { who, .. } = ask else { return Ok(GuestKey::NOBODY) };
    let phone = || Phone::parse(&who.0, country).map(|phone| secrets.phone_guest(&phone));
    who.0.parse().or_else(|_| phone()).map_err(|_| "neither a phone number nor a guest key".into())
}

async fn of_guest(guests: &Guests, act: GuestAct, guest: GuestKey) -> Result<Value, String> {
    let file = guests.file(guest).await.map_err(text)?;
    match act {
        _ if file.is_empty() => {
            Err("nothing is kept of this guest but, maybe, the access log".into())
        }
        GuestAct::Show => value(&file),
        GuestAct::Erase => {
            guests.erase(guest).await.map_err(text)?;
            tracing::info!("a guest is forgotten at the word of the control socket");
            Ok(json!({ "access_log": file.access_log }))
        }
    }
}

fn value(answer: &impl Serialize) -> Result<Value, String> {
    serde_json::to_value(answer).map_err(text)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
