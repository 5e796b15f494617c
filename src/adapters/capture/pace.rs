//! How often a device, and an interface, is listened to: a flood from one guest must neither
//! crowd out the others nor keep a router's only core busy.

use std::collections::HashMap;
use std::time::Duration;

use crate::domain::names::{BootTime, Mac};

/// Frames of one device that are passed on in a second. One that joins sends about ten.
pub(super) const DEVICE: u8 = 16;
/// Frames of one interface that are read in a second. 200 phones that join at once send 2,000.
pub(super) const INTERFACE: u32 = 4_000;

const SECOND: Duration = Duration::from_secs(1);

/// What was heard in the current second.
#[derive(Debug, Default)]
pub(super) struct Pace {
    began: BootTime,
    frames: u32,
    devices: HashMap<Mac, u8>,
}

impl Pace {
    /// Counts a frame, in a new second if the last is over.
    pub(super) fn frame(&mut self, now: BootTime) {
        if now - self.began >= SECOND {
            self.began = now;
            self.frames = 0;
            self.devices.clear();
        }
        self.frames += 1;
    }

    /// Whether this device may be heard once more in this second.
    pub(super) fn admit(&mut self, mac: Mac) -> bool {
        let heard = self.devices.entry(mac).or_default();
        *heard = heard.saturating_add(1);
        *heard <= DEVICE
    }

    /// How long not to listen, once the interface has had its frames for this second.
    pub(super) fn rest(&self, now: BootTime) -> Option<Duration> {
        let left = SECOND.saturating_sub(now - self.began);
        (self.frames >= INTERFACE && !left.is_zero()).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_from_one_device_leaves_room_for_the_others() {
        let mut pace = Pace::default();
        let (loud, quiet) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
        let mut admitted = 0;
        for _ in 0..1000 {
            pace.frame(BootTime(5_000));
            admitted += u32::from(pace.admit(loud));
        }
        assert_eq!(admitted, u32::from(DEVICE));
        pace.frame(BootTime(5_999));
        assert!(pace.admit(quiet) && !pace.admit(loud));
        pace.frame(BootTime(6_000));
        assert!(pace.admit(loud), "a new second");
    }

    #[test]
    fn a_flood_of_made_up_devices_is_bounded() {
        let mut pace = Pace::default();
        for number in 0..INTERFACE {
            assert_eq!(pace.rest(BootTime(2_300)), None);
            pace.frame(BootTime(2_000));
            let [_, b, c, d] = number.to_be_bytes();
            assert!(pace.admit(Mac([2, 0, 0, b, c, d])));
        }
        assert_eq!(pace.rest(BootTime(2_300)), Some(Duration::from_millis(700)));
        assert_eq!(pace.rest(BootTime(3_000)), None);
        assert_eq!(pace.devices.len(), INTERFACE as usize);
        pace.frame(BootTime(3_000));
        assert!(pace.devices.is_empty() && pace.rest(BootTime(3_000)).is_none());
    }
}
