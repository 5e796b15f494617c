//! How a guest proves an identity: a code by SMS, or a follow of the store's account.

pub(in crate::domain) mod code;
pub mod follow;
pub(in crate::domain) mod throttle;
