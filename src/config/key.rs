//! Who can tell a guest's number.

use serde::Deserialize;

/// Who makes guest keys of phone numbers and account ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyMaker {
    /// This router, with a key in `state_dir`.
    #[default]
    Router,
    /// The head office (`[hq]`), which opens the sealed copies; guests have pseudonyms until it
    /// answers. The router has no key then that a thief could try all numbers with.
    Hq,
}
