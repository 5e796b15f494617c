//! The only place that reads a clock: boot time always, wall time once it is trusted.

#![allow(clippy::disallowed_methods)]

use std::time::SystemTime;

use nix::time::{ClockId, clock_gettime};

use crate::domain::names::{BootTime, Now, WallTime};

/// When to believe the system's wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// Once the kernel says that NTP steers it (`adjtimex`): routers without a clock battery.
    #[default]
    Ntp,
    /// Always: machines with a clock battery.
    Always,
}

/// Reads the clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    trust: Trust,
}

impl Clock {
    /// A reader that believes wall time as `trust` says.
    pub const fn new(trust: Trust) -> Self {
        Self { trust }
    }

    /// The moment, for the domain.
    pub fn now(self) -> Now {
        Now { boot: boot(), wall: self.trusted().then(wall) }
    }

    fn trusted(self) -> bool {
        match self.trust {
            Trust::Always => true,
            Trust::Ntp => synchronised(),
        }
    }
}

/// The boot clock.
pub fn boot() -> BootTime {
    // CLOCK_BOOTTIME has been in every kernel since 2.6.39; it cannot fail.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(BootTime(0), |time| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
        let millis = u64::try_from(time.tv_nsec() / 1_000_000).unwrap_or(0);
        BootTime(seconds * 1000 + millis)
    })
}

/// This boot's id (`/proc/sys/kernel/random/boot_id`).
pub fn boot_id() -> std::io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

fn wall() -> WallTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    WallTime(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[allow(unsafe_code)]
fn synchronised() -> bool {
    // SAFETY: `modes` is 0, so the kernel only fills in the zeroed struct.
    let state = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        if libc::adjtimex(&raw mut timex) < 0 {
            return false;
        }
        timex.status
    };
    state & libc::STA_UNSYNC == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_clock_runs() {
        let first = boot();
        assert!(first.0 > 0 && boot() >= first);
        assert!(Clock::new(Trust::Always).now().wall.unwrap().0 > 1_700_000_000_000);
    }
}
