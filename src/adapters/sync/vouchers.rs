//! Batches of vouchers in a bundle. HQ makes them and prints their codes; a store gets hashes.

use std::collections::BTreeSet;
use std::time::Duration;

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

use crate::domain::auth::voucher::{BATCH, Batch, FromHq, HQ, Hash, Salt, Worth};
use crate::domain::names::WallTime;
use crate::domain::policy::Overrides;

/// Batches in a bundle, at most: a code is hashed with the salt of each.
pub const BATCHES: usize = 64;
/// A use lasts a year at most.
const LONGEST: u32 = 366 * 24 * 60 * 60;

/// A batch as a bundle has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundled {
    /// HQ's number of it, 1 to 2^31 − 1, of no other batch ever.
    pub batch: u32,
    /// The name of the one zone where it is good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Uses of each voucher, in each store.
    pub uses: u16,
    /// A use lasts this long, in seconds.
    pub seconds: u32,
    /// What differs from the zone's limits.
    #[serde(default)]
    pub limits: Overrides,
    /// Not good from then on, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<WallTime>,
    /// What the codes are hashed with, 16 bytes in base64.
    pub salt: String,
    /// The codes' hashes, 16 bytes each in base64.
    pub hashes: String,
}

impl Bundled {
    /// Puts in the salt and the hashes.
    #[must_use]
    pub fn with(self, salt: Salt, hashes: &[Hash]) -> Self {
        Self { salt: BASE64.encode(&salt), hashes: BASE64.encode(hashes.as_flattened()), ..self }
    }

    fn salt(&self) -> Option<Salt> {
        BASE64.decode(self.salt.as_bytes()).ok()?.try_into().ok()
    }

    fn hashes(&self) -> Option<Vec<Hash>> {
        let bytes = BASE64.decode(self.hashes.as_bytes()).ok()?;
        let (hashes, rest) = bytes.as_chunks();
        (rest.is_empty() && (1..=usize::from(BATCH)).contains(&hashes.len()))
            .then(|| hashes.to_vec())
    }

    /// As the domain takes it; `None` if it has a [`problem`].
    pub(super) fn read(&self) -> Option<FromHq> {
        let (salt, hashes) = (self.salt()?, self.hashes()?);
        let worth = Worth {
            zone: None,
            uses: self.uses,
            length: Duration::from_secs(self.seconds.into()),
            limits: self.limits,
            expires: self.expires,
        };
        let batch = Batch { id: self.batch | HQ, count: u16::try_from(hashes.len()).ok()?, worth };
        Some(FromHq { batch, zone: self.zone.clone(), salt, hashes })
    }
}

/// What is wrong with the batches of a bundle.
pub(super) fn problem(batches: &[Bundled]) -> Option<&'static str> {
    if batches.len() > BATCHES {
        return Some("vouchers: 64 batches at most");
    }
    let mut numbers = BTreeSet::new();
    batches.iter().find_map(|batch| {
        if !(1..HQ).contains(&batch.batch) || !numbers.insert(batch.batch) {
            Some("vouchers: each batch has a number of its own, from 1")
        } else if batch.uses == 0 || !(1..=LONGEST).contains(&batch.seconds) {
            Some("vouchers: uses and seconds, a year at most")
        } else if batch.salt().is_none() || batch.hashes().is_none() {
            Some("vouchers: salt and 1 to 2000 hashes, 16 bytes each in base64")
        } else {
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(number: u32) -> Bundled {
        let blank = Bundled {
            batch: number,
            zone: None,
            uses: 1,
            seconds: 60,
            limits: Overrides::default(),
            expires: None,
            salt: String::new(),
            hashes: String::new(),
        };
        blank.with([7; 16], &[[1; 16], [2; 16]])
    }

    #[test]
    fn a_batch_is_read_as_it_was_written() {
        let wanted = Bundled { expires: Some(WallTime(5)), zone: Some("hall".into()), ..batch(3) };
        let json = serde_json::to_string(&wanted).unwrap();
        let read: Bundled = serde_json::from_str(&json).unwrap();
        assert_eq!(read, wanted, "{json}");
        assert_eq!(problem(&[read]), None);
        let FromHq { batch, zone, salt, hashes } = wanted.read().unwrap();
        assert_eq!((batch.id, batch.count, zone.as_deref()), (HQ | 3, 2, Some("hall")));
        assert_eq!((salt, hashes), ([7; 16], vec![[1; 16], [2; 16]]));
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        assert_eq!(problem(&[batch(1), batch(2)]), None);
        let many: Vec<Bundled> = (1..=65).map(batch).collect();
        let full = batch(1).with([0; 16], &vec![[0; 16]; 2001]);
        for (wrong, said) in [
            (many, "64"),
            (vec![batch(1), batch(1)], "own"),
            (vec![batch(0)], "own"),
            (vec![batch(HQ)], "own"),
            (vec![Bundled { uses: 0, ..batch(1) }], "uses"),
            (vec![Bundled { seconds: LONGEST + 1, ..batch(1) }], "year"),
            (vec![Bundled { salt: "AA==".into(), ..batch(1) }], "salt"),
            (vec![Bundled { hashes: "AA==".into(), ..batch(1) }], "salt"),
            (vec![Bundled { hashes: String::new(), ..batch(1) }], "salt"),
            (vec![full], "2000"),
        ] {
            assert!(problem(&wrong).is_some_and(|problem| problem.contains(said)), "{said}");
        }
    }
}
