//! The backend of the stores' WeChat account: hears what WeChat pushes, answers a follow or a code
//! with a link that opens one device, hands the gateways tickets for QR codes, and tells them whom
//! to forget.
//!
//! | path | who asks | what |
//! |---|---|---|
//! | `/wechat` | WeChat | GET checks that we are the account's backend; POST brings events |
//! | `/ticket` | a gateway | `{"card": code}` → `{"url": text of the QR code, "seconds": it is good for}` |
//! | `/erasures` | a gateway | `{"done": [ids]}` → `{"erasures": [{"id", "guest"}]}`, until there are none |
//!
//! Gateways name themselves by `Maitred-Store` and their bearer token. It speaks HTTP: put it behind
//! a reverse proxy with a certificate. An openid is kept only as a keyed hash.

mod api;
mod book;
mod config;
mod desk;
mod message;
mod seal;
mod server;

pub use api::ApiError;
pub use book::BookError;
pub use config::{Settings, SettingsError};
pub use server::{HqError, run};
