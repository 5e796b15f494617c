//! maitred greets a store's guests: the gateway daemon on the store's router.
//!
//! # Layout
//!
//! | module | what lives there | may use |
//! |---|---|---|
//! | [`domain`] | what maitred knows and decides: events in, effects out | nothing of ours |
//! | [`wire`] | bytes ↔ types: DHCP, ARP and ND, DNS, netlink | `domain` |
//! | [`clock`] | the only reader of clocks | `domain` |
//! | [`config`] | TOML → a validated configuration | `domain`, `clock` |
//! | [`adapters`] | the outside: sockets, threads, files | all above |
//! | [`gateway`] | the loop: one owner of the domain | all above |
//! | `hq` | the backend of the stores' WeChat account, on a server (feature `hq`) | all but `gateway` |
//! | [`cli`] | one file a verb | all above |

pub mod adapters;
pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod gateway;
#[cfg(feature = "hq")]
pub mod hq;
pub mod wire;
