//! The guests' interfaces as the kernel has them, and questions to the devices on them.

mod links;
mod solicit;

pub use links::{Link, Links, LinksError, Prefix, watch};
pub use solicit::{SolicitError, Solicitor};
