//! The devices of the house, in bounded memory: random addresses cost a stranger nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::auth::code::Pending;
use super::effect::EndReason;
use super::names::{BootTime, GuestKey, Mac, Renamed, SessionId, ZoneId};
use super::policy::Identity;
use super::queue::Queue;
use super::visit::Visit;

/// Devices without a session that are known at once.
pub(super) const STRANGERS: usize = 20_000;
/// Addresses kept of a device: one of IPv4, a few of IPv6.
const ADDRESSES: usize = 8;
/// Characters kept of a host name: one label (RFC 1035, section 2.3.4).
const HOSTNAME: usize = 63;

/// A device is one address in one zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) zone: ZoneId,
    pub(super) mac: Mac,
}

/// What is known of a device.
#[derive(Debug, Default)]
pub(super) struct Device {
    pub(super) hostname: Option<Box<str>>,
    /// Most recently used last.
    pub(super) addresses: Vec<IpAddr>,
    /// Last evidence, or the end of its last session.
    pub(super) last: BootTime,
    /// First evidence that no visit holds yet.
    pub(super) waiting: Option<BootTime>,
    /// Whether the disk knows it as it is.
    pub(super) recorded: bool,
    /// The code on its way, if the guest is at that step.
    pub(super) code: Option<Box<Pending>>,
    /// The guest is at the step of following the account.
    pub(super) following: bool,
    pub(super) session: Option<SessionId>,
    /// Why and when the last session ended, until the guest has read it and goes on.
    pub(super) ended: Option<(EndReason, BootTime)>,
    /// Whose session it was and how often they had lengthened it, if they may once more.
    pub(super) spare: Option<(Identity, u8)>,
    pub(super) visit: Option<Visit>,
    /// No grant of our own accord before this.
    pub(super) retry: BootTime,
}

impl Device {
    /// A session begins, and every step towards it is over. The address used last comes back.
    pub(super) fn begin(&mut self, session: SessionId) -> Option<IpAddr> {
        self.session = Some(session);
        self.code = None;
        self.following = false;
        self.ended = None;
        self.spare = None;
        self.addresses.last().copied()
    }

    /// Remembers an address; the one unused for longest makes room.
    pub(super) fn learn_address(&mut self, address: IpAddr) {
        if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
            return;
        }
        if self.addresses.last() == Some(&address) {
            return;
        }
        self.addresses.retain(|known| *known != address);
        if self.addresses.len() == ADDRESSES {
            self.addresses.remove(0);
        }
        // Exactly: thousands of devices have one or two.
        self.addresses.reserve_exact(1);
        self.addresses.push(address);
    }

    /// Takes a name; the disk is told if it is a new one.
    pub(super) fn rename(&mut self, name: &str) {
        let name: String = name.chars().take(HOSTNAME).collect();
        if !name.is_empty() && self.hostname.as_deref() != Some(&name) {
            self.hostname = Some(name.into());
            self.recorded = false;
        }
    }
}

/// All devices.
#[derive(Debug, Default)]
pub(super) struct Devices {
    // Boxed: half of a tree's slots are empty.
    map: BTreeMap<Key, Box<Device>>,
    /// Those without a session, by last evidence.
    strangers: Queue<Key>,
}

impl Devices {
    pub(super) fn get(&self, key: Key) -> Option<&Device> {
        self.map.get(&key).map(Box::as_ref)
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut Device> {
        self.map.get_mut(&key).map(Box::as_mut)
    }

    /// The device, made if it is new.
    pub(super) fn entry(&mut self, key: Key) -> &mut Device {
        self.map.entry(key).or_default()
    }

    /// Gives guests other names.
    pub(super) fn rename_guests(&mut self, names: &Renamed) {
        for device in self.map.values_mut() {
            if let Some(visit) = &mut device.visit
                && let Some(other) = visit.guest.and_then(|guest| names.get(&guest))
            {
                visit.guest = Some(*other).filter(|other| *other != GuestKey::NOBODY);
            }
            if let Some((Identity::Guest(guest), _)) = &mut device.spare
                && let Some(other) = names.get(guest)
            {
                *guest = *other;
            }
        }
    }

    pub(super) fn remove(&mut self, key: Key) {
        self.map.remove(&key);
        self.strangers.set(key, None);
    }

    /// Takes a device to another place, where none is known by that key.
    pub(super) fn rename(&mut self, from: Key, to: Key) {
        if let Some(device) = self.map.remove(&from) {
            self.strangers.set(from, None);
            self.map.insert(to, device);
        }
    }

    /// Sorts the device in again after its session or its last evidence changed.
    pub(super) fn refile(&mut self, key: Key) {
        let stranger = self.get(key).filter(|device| device.session.is_none());
        let last = stranger.map(|device| device.last);
        self.strangers.set(key, last);
    }

    /// The stranger to forget before a new one is let in.
    pub(super) fn crowded(&self) -> Option<Key> {
        let (_, oldest) = self.strangers.first()?;
        (self.strangers.len() >= STRANGERS).then_some(oldest)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, &Device)> {
        self.map.iter().map(|(key, device)| (*key, device.as_ref()))
    }

    pub(super) fn len(&self) -> usize {
        self.map.len()
    }
}

/// How fast strangers may cause rows on disk: flash wears, and random addresses are free. Those
/// above the rate wait for their turn, in memory.
#[derive(Debug)]
pub(super) struct Turnstile {
    free: u32,
    refilled: BootTime,
}

impl Turnstile {
    /// Strangers who may come at once.
    pub(super) const BURST: u32 = 1000;
    const EVERY: Duration = Duration::from_millis(200);

    /// A full one.
    pub(super) const fn new() -> Self {
        Self { free: Self::BURST, refilled: BootTime(0) }
    }

    /// Lets one through if there is a turn left.
    pub(super) fn pass(&mut self, now: BootTime) -> bool {
        let turns = (now - self.refilled).as_millis() / Self::EVERY.as_millis();
        let turns = u32::try_from(turns).unwrap_or(u32::MAX);
        if turns >= Self::BURST {
            *self = Self { free: Self::BURST, refilled: now };
        } else {
            self.free = Self::BURST.min(self.free + turns);
            self.refilled = self.refilled + Self::EVERY * turns;
        }
        let pass = self.free > 0;
        self.free = self.free.saturating_sub(1);
        pass
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_keeps_its_newest_addresses_and_a_short_name() {
        let mut device = Device { recorded: true, ..Device::default() };
        for last in 0..20 {
            device.learn_address(IpAddr::from([10, 0, 0, last]));
            device.learn_address(IpAddr::from([10, 0, 0, 1]));
        }
        device.learn_address(IpAddr::from([0, 0, 0, 0]));
        device.learn_address(IpAddr::from([224, 0, 0, 1]));
        assert_eq!(device.addresses.len(), ADDRESSES);
        assert_eq!(device.addresses.last(), Some(&IpAddr::from([10, 0, 0, 1])));
        assert!(device.addresses.contains(&IpAddr::from([10, 0, 0, 19])));
        device.rename("");
        assert!(device.recorded && device.hostname.is_none());
        device.rename(&"名".repeat(100));
        assert!(!device.recorded);
        assert_eq!(device.hostname.unwrap().chars().count(), HOSTNAME);
    }

    #[test]
    fn a_flood_passes_at_the_rate() {
        let mut turnstile = Turnstile::new();
        let start = BootTime(1_000_000);
        let passed = (0..5000).filter(|_| turnstile.pass(start)).count();
        assert_eq!(passed, Turnstile::BURST as usize);
        assert!(!turnstile.pass(BootTime(1_000_199)));
        assert!(turnstile.pass(BootTime(1_000_200)));
        assert!(!turnstile.pass(BootTime(1_000_399)));
        assert!(turnstile.pass(BootTime(1_000_400)));
    }
}
