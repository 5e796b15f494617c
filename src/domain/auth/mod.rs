//! How a guest proves an identity: a code by SMS, or a follow of the store's account.

pub(in crate::domain) mod code;
pub mod follow;
pub(super) mod pumping;
pub mod seal;
pub(in crate::domain) mod throttle;
