//! How a guest proves an identity: a code by SMS, a follow of the store's account; or
//! that they hold a voucher, which names nobody.

pub(in crate::domain) mod code;
pub mod follow;
pub(super) mod pumping;
pub mod seal;
pub mod signature;
pub(in crate::domain) mod throttle;
pub mod voucher;
