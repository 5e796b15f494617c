//! Vouchers: codes on paper, each good for so many uses. Made here, and kept only as keyed hashes;
//! or made by HQ, which has no key of the store's, and kept as salted ones.

mod codes;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::effect::Refusal;
use crate::domain::guest::Secrets;
use crate::domain::names::{WallTime, ZoneId};
use crate::domain::policy::Overrides;

pub use codes::{Hash, Salt, make_for_stores};
pub(in crate::domain) use codes::{hash, make};

/// Vouchers of a batch, at most.
pub const BATCH: u16 = 2_000;
/// Vouchers known at once, at most.
const MOST: usize = 20_000;
/// The number of a batch that HQ made has this bit; HQ's own number of it has not.
pub const HQ: u32 = 1 << 31;

/// A voucher: its batch, and its place in that, from 1. Printed as `3-17`, or as `hq3-17`.
// Packed: every session holds an identity, whose other kinds have no alignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(Rust, packed)]
pub struct VoucherId {
    /// Its batch.
    pub batch: u32,
    /// Its number on the sheet.
    pub number: u16,
}

impl fmt::Display for VoucherId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { batch, number } = *self;
        write!(f, "{}-{number}", name(batch))
    }
}

/// A batch as people call it: `3`, or `hq3`.
pub fn name(batch: u32) -> String {
    if batch < HQ { batch.to_string() } else { format!("hq{}", batch - HQ) }
}

/// One voucher, or all of a batch: `3-17`, `3`, `hq3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Which {
    /// The batch.
    pub batch: u32,
    /// The voucher; all if `None`.
    pub number: Option<u16>,
}

impl Which {
    /// Whether it is meant.
    pub fn means(self, id: VoucherId) -> bool {
        self.batch == id.batch && self.number.is_none_or(|number| number == id.number)
    }
}

impl FromStr for Which {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (batch, number) = match text.split_once('-') {
            Some((batch, number)) => (batch, Some(number)),
            None => (text, None),
        };
        let wrong = "a batch, such as 3 or hq3, or one of its vouchers, such as 3-17";
        let number = number.map(|number| number.parse().map_err(|_| wrong)).transpose()?;
        let (batch, bit) = batch.strip_prefix("hq").map_or((batch, 0), |batch| (batch, HQ));
        let batch = batch.parse::<u32>().ok().filter(|batch| *batch < HQ).ok_or(wrong)?;
        Ok(Self { batch: batch | bit, number })
    }
}

/// What a voucher is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worth {
    /// The one zone where it is good.
    pub zone: Option<ZoneId>,
    /// Uses, one device each.
    pub uses: u16,
    /// A use lasts this long.
    pub length: Duration,
    /// What differs from the zone's limits.
    pub limits: Overrides,
    /// Not good from then on; uses that have begun go on.
    pub expires: Option<WallTime>,
}

/// Vouchers that were made together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Its number.
    pub id: u32,
    /// Vouchers in it, 1 to [`BATCH`].
    pub count: u16,
    /// What each is good for.
    pub worth: Worth,
}

/// A batch that HQ made for its stores: they know no code of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FromHq {
    /// As it was made, but for its zone; its number has the bit [`HQ`].
    pub batch: Batch,
    /// The name of the one zone where it is good.
    pub zone: Option<String>,
    /// What its codes are hashed with.
    pub salt: Salt,
    /// Their hashes, by number.
    pub hashes: Vec<Hash>,
}

/// What is remembered of each batch that HQ ever sent, so that none comes twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// What its codes are hashed with.
    pub salt: Salt,
    /// See [`Worth::expires`].
    pub expires: Option<WallTime>,
}

/// A batch as read back from disk.
#[derive(Clone, Debug)]
pub struct SavedBatch {
    /// As it was made.
    pub batch: Batch,
    /// Uses of all its vouchers.
    pub used: u32,
    /// Those that are of use still: number, hash, uses left.
    pub vouchers: Vec<(u16, Hash, u16)>,
}

/// A batch and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::domain) struct Held {
    pub(in crate::domain) batch: Batch,
    /// Uses of all its vouchers so far.
    pub(in crate::domain) used: u32,
    pub(in crate::domain) revoked: bool,
}

/// All vouchers that may be used, and the batches they are of.
#[derive(Debug, Default)]
pub(in crate::domain) struct Vouchers {
    batches: BTreeMap<u32, Held>,
    by_hash: BTreeMap<Hash, VoucherId>,
    /// Uses left. One without any stays for a use that is given back.
    left: BTreeMap<VoucherId, u16>,
    last: u32,
    /// HQ's batches, those that are of no use any more too.
    from_hq: BTreeMap<u32, Known>,
}

impl Vouchers {
    /// Takes up the batches of the last run; `last` is the newest batch of the store's own that
    /// there ever was.
    pub(in crate::domain) fn restore(
        &mut self,
        last: u32,
        saved: Vec<SavedBatch>,
        from_hq: Vec<(u32, Known)>,
    ) {
        self.last = last;
        self.from_hq.extend(from_hq);
        for SavedBatch { batch, used, vouchers } in saved {
            self.batches.insert(batch.id, Held { batch, used, revoked: false });
            for (number, hash, left) in vouchers {
                let id = VoucherId { batch: batch.id, number };
                self.by_hash.insert(hash, id);
                self.left.insert(id, left);
            }
        }
    }

    /// Takes in a new batch of the store's own.
    pub(in crate::domain) fn add(
        &mut self,
        worth: Worth,
        hashes: &[Hash],
        now: Option<WallTime>,
    ) -> Result<Batch, &'static str> {
        let count = u16::try_from(hashes.len()).unwrap_or(u16::MAX);
        let batch = Batch { id: self.last + 1, count, worth };
        self.take(batch, hashes, now)?;
        self.last = batch.id;
        Ok(batch)
    }

    /// Takes in a batch of HQ's. False if it is known, whatever became of it, or over.
    pub(in crate::domain) fn add_from_hq(
        &mut self,
        batch: Batch,
        (salt, hashes): (Salt, &[Hash]),
        now: Option<WallTime>,
    ) -> Result<bool, &'static str> {
        let (id, expires) = (batch.id, batch.worth.expires);
        match self.from_hq.get(&id) {
            Some(known) if known.salt != salt => return Err("its number was another's"),
            Some(_) => return Ok(false),
            None if over(expires, now) => return Ok(false),
            None => {}
        }
        self.take(batch, hashes, now)?;
        self.from_hq.insert(id, Known { salt, expires });
        Ok(true)
    }

    /// HQ's batches that are not over, as far as that can be told.
    pub(in crate::domain) fn of_hq(&self, now: Option<WallTime>) -> impl Iterator<Item = u32> {
        let lasts = move |end| now.is_some_and(|now| now < end);
        let good = self.from_hq.iter().filter(move |(_, known)| known.expires.is_none_or(lasts));
        good.map(|(id, _)| *id)
    }

    fn take(
        &mut self,
        batch: Batch,
        hashes: &[Hash],
        now: Option<WallTime>,
    ) -> Result<(), &'static str> {
        let Batch { count, worth, .. } = batch;
        if !(1..=BATCH).contains(&count) || worth.uses == 0 || worth.length.is_zero() {
            return Err("a batch has 1 to 2000 vouchers, each with uses and minutes");
        }
        if over(worth.expires, now) {
            return Err("the batch would be over already");
        }
        self.sweep(now);
        if self.left.len() + hashes.len() > MOST {
            return Err("there are 20000 vouchers at most: revoke batches that nobody needs");
        }
        self.batches.insert(batch.id, Held { batch, used: 0, revoked: false });
        for (hash, number) in hashes.iter().zip(1..) {
            let id = VoucherId { batch: batch.id, number };
            self.by_hash.insert(*hash, id);
            self.left.insert(id, worth.uses);
        }
        Ok(())
    }

    /// The hash under which a code may be known, as people type it. `None` if it is none.
    pub(in crate::domain) fn hash(&self, secrets: &Secrets, typed: &str) -> Option<Hash> {
        let Some(digits) = codes::of_hq(typed) else { return hash(secrets, typed) };
        let salts = self.batches.keys().filter_map(|batch| Some(self.from_hq.get(batch)?.salt));
        salts.map(|salt| codes::salted(&salt, &digits)).find(|hash| self.by_hash.contains_key(hash))
    }

    /// The voucher behind a hash, if it is good here and now. One refusal for all others: it must
    /// not tell which codes there were.
    pub(in crate::domain) fn find(
        &self,
        hash: Option<Hash>,
        here: impl Fn(ZoneId) -> bool,
        now: Option<WallTime>,
    ) -> Result<(VoucherId, Worth), Refusal> {
        let found = hash.and_then(|hash| self.by_hash.get(&hash)).and_then(|id| {
            let worth = self.batches.get(&{ id.batch })?.batch.worth;
            let left = self.left.get(id).is_some_and(|left| *left > 0);
            let in_time = worth.expires.is_none_or(|end| now.is_some_and(|now| now < end));
            (left && in_time && worth.zone.is_none_or(here)).then_some((*id, worth))
        });
        found.ok_or_else(|| {
            let timed = self.batches.values().any(|held| held.batch.worth.expires.is_some());
            if now.is_none() && timed { Refusal::ClockUntrusted } else { Refusal::BadVoucher }
        })
    }

    /// Takes a use of a voucher that [`Self::find`] found.
    pub(in crate::domain) fn spend(&mut self, id: VoucherId) {
        if let Some(left) = self.left.get_mut(&id) {
            *left = left.saturating_sub(1);
        }
        if let Some(held) = self.batches.get_mut(&{ id.batch }) {
            held.used = held.used.saturating_add(1);
        }
    }

    /// Gives a use back that came to nothing.
    pub(in crate::domain) fn give_back(&mut self, id: VoucherId) {
        if let Some(left) = self.left.get_mut(&id) {
            *left = left.saturating_add(1);
        }
        if let Some(held) = self.batches.get_mut(&{ id.batch }) {
            held.used = held.used.saturating_sub(1);
        }
    }

    /// Makes vouchers worth nothing. False if there are none.
    pub(in crate::domain) fn revoke(&mut self, which: Which) -> bool {
        let before = self.left.len();
        self.left.retain(|id, _| !which.means(*id));
        self.forget_hashes();
        let held = self.batches.get_mut(&which.batch).filter(|_| which.number.is_none());
        let fresh = held.is_some_and(|held| !std::mem::replace(&mut held.revoked, true));
        fresh || self.left.len() < before
    }

    /// All batches, oldest first.
    pub(in crate::domain) fn batches(&self) -> impl Iterator<Item = &Held> {
        self.batches.values()
    }

    /// Forgets what is used up or over.
    fn sweep(&mut self, now: Option<WallTime>) {
        let batches = &self.batches;
        let end = |id: &VoucherId| batches.get(&{ id.batch })?.batch.worth.expires;
        self.left.retain(|id, left| *left > 0 && !over(end(id), now));
        self.forget_hashes();
        let left = &self.left;
        let all = |batch| VoucherId { batch, number: 0 }..=VoucherId { batch, number: u16::MAX };
        self.batches.retain(|batch, _| left.range(all(*batch)).next().is_some());
    }

    fn forget_hashes(&mut self) {
        let left = &self.left;
        self.by_hash.retain(|_, id| left.contains_key(id));
    }
}

/// Whether a time has come, as far as is known.
fn over(end: Option<WallTime>, now: Option<WallTime>) -> bool {
    end.zip(now).is_some_and(|(end, now)| end <= now)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRETS: Secrets = Secrets { guest_key: [2; 32], voucher_key: [3; 32] };
    const WORTH: Worth = Worth {
        zone: None,
        uses: 2,
        length: Duration::from_mins(60),
        limits: Overrides {
            upload_rate: None,
            download_rate: None,
            upload_quota: None,
            download_quota: None,
            quota: None,
        },
        expires: None,
    };
    const NOW: Option<WallTime> = Some(WallTime(1000));

    fn everywhere(_: ZoneId) -> bool {
        true
    }

    #[test]
    fn uses_are_counted_given_back_and_revoked() {
        let mut vouchers = Vouchers::default();
        let batch = vouchers.add(WORTH, &[[1; 16], [2; 16]], NOW).unwrap();
        let find = |vouchers: &Vouchers, hash| vouchers.find(Some([hash; 16]), everywhere, NOW);
        let (id, worth) = find(&vouchers, 1).unwrap();
        assert_eq!((id.to_string().as_str(), worth), ("1-1", WORTH));
        vouchers.spend(id);
        vouchers.spend(id);
        assert_eq!(find(&vouchers, 1), Err(Refusal::BadVoucher));
        vouchers.give_back(id);
        assert!(find(&vouchers, 1).is_ok());
        let held = Held { batch, used: 1, revoked: false };
        assert!(vouchers.batches().eq([&held]));
        assert!(vouchers.revoke("1-1".parse().unwrap()));
        assert!(!vouchers.revoke("1-1".parse().unwrap()));
        vouchers.give_back(id);
        assert_eq!(find(&vouchers, 1), Err(Refusal::BadVoucher), "a revoked one stays revoked");
        assert!(find(&vouchers, 2).is_ok());
        assert!(vouchers.revoke("1".parse().unwrap()) && !vouchers.revoke("1".parse().unwrap()));
        assert_eq!(find(&vouchers, 2), find(&vouchers, 3));
        assert!(!vouchers.revoke("7".parse().unwrap()));
        assert!(["", "x", "1-", "1-x", "-1"].iter().all(|text| text.parse::<Which>().is_err()));
    }

    #[test]
    fn hqs_codes_are_longer_and_each_batch_has_a_salt_of_its_own() {
        let (codes, salt, hashes) = make_for_stores(3, [5; 32]);
        let (_, other_salt, _) = make_for_stores(1, [6; 32]);
        let batch = Batch { id: HQ | 3, count: 3, worth: WORTH };
        let mut vouchers = Vouchers::default();
        let send =
            |vouchers: &mut Vouchers, salt| vouchers.add_from_hq(batch, (salt, &hashes), NOW);
        assert_eq!(send(&mut vouchers, salt), Ok(true));
        assert_eq!(codes[0].0.len(), 19, "{}", codes[0].0);
        assert_ne!(codes::salted(&other_salt, &codes::of_hq(&codes[1].0).unwrap()), hashes[1]);
        let find = |vouchers: &Vouchers, typed: &str| {
            vouchers.find(vouchers.hash(&SECRETS, typed), everywhere, NOW)
        };
        let (id, worth) = find(&vouchers, &codes[1].0.to_lowercase().replace('-', " ")).unwrap();
        assert_eq!((id.to_string().as_str(), worth), ("hq3-2", WORTH));
        assert_eq!("hq3-2".parse::<Which>().unwrap(), Which { batch: HQ | 3, number: Some(2) });
        assert!(
            ["hq", "hq-2", "hq2147483648", "2147483651"]
                .iter()
                .all(|t| t.parse::<Which>().is_err())
        );
        // Sent again it is the same one: spent, used up, revoked or over, it does not come back.
        vouchers.spend(id);
        assert_eq!(send(&mut vouchers, salt), Ok(false));
        assert!(vouchers.batches().all(|held| held.used == 1));
        for (number, uses) in [(1, 2), (2, 1), (3, 2)] {
            (0..uses).for_each(|_| vouchers.spend(VoucherId { batch: HQ | 3, number }));
        }
        vouchers.add(WORTH, &[[1; 16]], NOW).unwrap();
        assert_eq!(vouchers.batches().count(), 1, "used up, and swept away");
        assert_eq!(send(&mut vouchers, salt), Ok(false));
        assert_eq!(find(&vouchers, &codes[0].0), Err(Refusal::BadVoucher));
        assert!(send(&mut vouchers, other_salt).is_err(), "a number stands for one batch");
        assert_eq!(vouchers.add(WORTH, &[[2; 16]], NOW).unwrap().id, 2, "numbers are apart");
    }

    #[test]
    fn a_voucher_has_its_time_and_place() {
        let mut vouchers = Vouchers::default();
        vouchers.add(WORTH, &[[1; 16]], NOW).unwrap();
        let unknown = |vouchers: &Vouchers, now| vouchers.find(Some([9; 16]), everywhere, now);
        assert_eq!(unknown(&vouchers, None), Err(Refusal::BadVoucher));
        let timed = Worth { zone: Some(ZoneId(1)), expires: Some(WallTime(2000)), ..WORTH };
        vouchers.add(timed, &[[2; 16]], NOW).unwrap();
        let find = |place: u8, now| vouchers.find(Some([2; 16]), |zone| zone == ZoneId(place), now);
        assert!(find(1, Some(WallTime(1999))).is_ok());
        assert_eq!(find(0, NOW), Err(Refusal::BadVoucher));
        assert_eq!(find(1, Some(WallTime(2000))), Err(Refusal::BadVoucher));
        // Without a clock a code that is none looks like one that may be over.
        assert_eq!(find(1, None), Err(Refusal::ClockUntrusted));
        assert_eq!(unknown(&vouchers, None), Err(Refusal::ClockUntrusted));
        assert!(vouchers.find(Some([1; 16]), everywhere, None).is_ok());
    }

    #[test]
    fn there_is_an_end_to_them() {
        let mut vouchers = Vouchers::default();
        let hashes = |batch: u8| -> Vec<Hash> {
            let hash = |number: u16| {
                let [high, low] = number.to_be_bytes();
                [batch, high, low, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
            };
            (0..BATCH).map(hash).collect()
        };
        let soon = Worth { expires: Some(WallTime(2000)), ..WORTH };
        assert!(vouchers.add(soon, &hashes(0), NOW).is_ok());
        for batch in 1..10 {
            assert!(vouchers.add(WORTH, &hashes(batch), NOW).is_ok());
        }
        assert!(vouchers.add(WORTH, &hashes(10), NOW).is_err());
        assert!(vouchers.add(WORTH, &hashes(10), Some(WallTime(2000))).is_ok());
        assert_eq!(vouchers.batches().count(), 10, "what is over makes room");
        assert_eq!(vouchers.by_hash.len(), MOST);
        assert!(vouchers.add(Worth { uses: 0, ..WORTH }, &[[1; 16]], NOW).is_err());
        assert!(vouchers.add(WORTH, &[], NOW).is_err());
    }
}
