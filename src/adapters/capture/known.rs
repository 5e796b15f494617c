//! Whose address it is, by what devices say of themselves.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashlink::LruCache;

use crate::domain::event::{Event, Sighting};
use crate::domain::names::{Mac, ZoneId};

/// Addresses that are kept; those unheard for longest make room.
const MOST: usize = 16_384;

/// The devices behind addresses. Anybody can say that an address is his: good for sharing out, never
/// for granting.
#[derive(Clone, Debug)]
pub struct Known(Arc<Mutex<LruCache<(ZoneId, IpAddr), Mac>>>);

impl Known {
    /// The device that last called this address its own.
    pub fn device(&self, zone: ZoneId, address: IpAddr) -> Option<Mac> {
        self.map().get(&(zone, address)).copied()
    }

    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(LruCache::new(MOST))))
    }

    pub(super) fn note(&self, event: &Event) {
        if let Event::Seen(Sighting { zone, mac, address: Some(address), .. }) = event {
            self.map().insert((*zone, *address), *mac);
        }
    }

    fn map(&self) -> MutexGuard<'_, LruCache<(ZoneId, IpAddr), Mac>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::Evidence;

    #[test]
    fn addresses_lead_to_the_devices_that_said_so_last() {
        let known = Known::new();
        let say = |last: u8, address: &str| {
            known.note(&Event::Seen(Sighting {
                zone: ZoneId(0),
                mac: Mac([2, 0, 0, 0, 0, last]),
                address: Some(address.parse().unwrap()),
                hostname: None,
                evidence: Evidence::Arp,
            }));
        };
        say(1, "192.0.2.1");
        say(1, "2001:db8::1");
        say(2, "192.0.2.1");
        let device = |zone, address: &str| {
            known.device(ZoneId(zone), address.parse().unwrap()).map(|mac| mac.0[5])
        };
        assert_eq!([device(0, "192.0.2.1"), device(0, "2001:db8::1")], [Some(2), Some(1)]);
        assert_eq!([device(1, "192.0.2.1"), device(0, "192.0.2.9")], [None, None]);
        for number in 0..=u16::MAX {
            let [high, low] = number.to_be_bytes();
            say(3, &format!("10.0.{high}.{low}"));
        }
        assert_eq!(known.map().len(), MOST);
    }
}
