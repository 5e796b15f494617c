//! What the daemon's control socket says of guests and of the access log.

use serde::Serialize;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use crate::adapters::control::{GuestAct, RecordAsk, Recorder, Who};
use crate::adapters::guests::Guests;
use crate::config::KeyMaker;
use crate::domain::Secrets;
use crate::domain::names::{GuestKey, Phone};

/// Guests of one mask that are listed.
const LISTED: usize = 20;

/// Answers from the record; numbers without a country code are of `country`. Where HQ makes the
/// guest keys no guest is found by a number.
pub(super) fn recorder(
    guests: Guests,
    (maker, secrets): (KeyMaker, Secrets),
    country: String,
) -> Recorder {
    let secrets = (maker == KeyMaker::Router).then_some(secrets);
    Box::new(move |ask| {
        let (guests, secrets, country) = (guests.clone(), secrets.clone(), country.clone());
        Box::pin(async move {
            match ask {
                RecordAsk::Guest { act, who: Who(who) } => {
                    let guest = match (who.parse(), Phone::parse(&who, &country), secrets) {
                        (Ok(key), ..) => key,
                        (_, Err(_), _) => {
                            return Err("neither a phone number nor a guest key".into());
                        }
                        (_, Ok(phone), Some(secrets)) => secrets.phone_guest(&phone),
                        (_, Ok(phone), None) => return Err(masked(&guests, phone.mask()).await?),
                    };
                    of_guest(&guests, act, guest).await
                }
                RecordAsk::AccessLog { from, to, after } => {
                    let reader = guests.store().reader();
                    let page = spawn_blocking(move || reader.access_log(from, to, after)).await;
                    value(&page.map_err(text)?.map_err(text)?)
                }
            }
        })
    })
}

/// What can be said of a number where HQ makes the guest keys.
async fn masked(guests: &Guests, mask: String) -> Result<String, String> {
    let known = guests.masked(mask.clone()).await.map_err(text)?;
    if known.is_empty() {
        return Ok(format!("no guest {mask} is kept here but, maybe, in the access log"));
    }
    let mut keys: Vec<String> = known.iter().take(LISTED).map(GuestKey::to_string).collect();
    if known.len() > LISTED {
        keys.push(format!("and {} more", known.len() - LISTED));
    }
    Ok(format!(
        "the head office makes the guest keys (store.key): run maitred sync --now, ask it for the \
         key of this number, and give that. Guests {mask} here: {}",
        keys.join(", ")
    ))
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
