//! The guest networks' bridges: ports are kept apart where a zone isolates its guests, and a device
//! that is heard on another port than before is told of.
//!
//! One thread. The kernel says that something changed; what is, is read anew.

mod route;
mod stations;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsFd as _;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::{debug, info, warn};

use self::route::{News, Route};
use self::stations::{Heard, Stations};
use super::inbox::Inbox;
use crate::clock;
use crate::config::Zone;
use crate::domain::event::Event;
use crate::domain::names::{BootTime, Mac, ZoneId};
use crate::wire::route::{Entry, Link, Reply, entries, isolate, links};

/// Changes come in bursts; they are taken in together after this long.
const BURST: Duration = Duration::from_millis(20);
/// How often one looks for what was missed, if anything was.
const LOOK_EVERY_MS: u16 = 60_000;
/// Bridge entries are read anew after this long at the soonest, and after twenty times as long as
/// the last reading took.
const REREAD: (Duration, u32) = (Duration::from_secs(1), 20);
/// Between two lines in the log about devices that moved.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// A zone's interface, as far as it is a bridge.
#[derive(Clone, Debug)]
pub struct Bridge {
    zone: ZoneId,
    interface: String,
    isolate: bool,
}

impl Bridge {
    /// The interfaces of all zones, in the zones' order.
    pub fn of_zones(zones: &[Zone]) -> Vec<Self> {
        let bridge = |(zone, config): (u8, &Zone)| Self {
            zone: ZoneId(zone),
            interface: config.interface.clone(),
            isolate: config.isolate,
        };
        (0..).zip(zones).map(bridge).collect()
    }
}

/// Starts the thread. Needs `CAP_NET_ADMIN`. What it finds goes to the inbox as [`Event::Moved`].
pub fn watch(bridges: Vec<Bridge>, inbox: Inbox) -> io::Result<()> {
    let news = News::open()?;
    let watcher = Watcher {
        bridges,
        found: BTreeMap::new(),
        stations: Stations::default(),
        inbox,
        unsaid: 0,
        say_at: BootTime(0),
    };
    std::thread::Builder::new()
        .name("bridges".into())
        .stack_size(256 << 10)
        .spawn(move || watcher.run(news))?;
    Ok(())
}

struct Watcher {
    bridges: Vec<Bridge>,
    /// The bridges that exist, by the kernel's number.
    found: BTreeMap<u32, Bridge>,
    stations: Stations,
    inbox: Inbox,
    /// Moves that the log was not told of yet.
    unsaid: usize,
    say_at: BootTime,
}

impl Watcher {
    fn run(mut self, mut news: News) {
        // Subscribed before the first reading: nothing in between is lost.
        let (mut links_changed, mut lost) = (true, true);
        let mut reread_at = BootTime(0);
        loop {
            let mut moved = BTreeSet::new();
            if std::mem::take(&mut links_changed)
                && let Err(error) = self.look_at_links()
            {
                warn!(%error, "cannot look after the bridges' ports");
            }
            let start = clock::boot();
            if lost && start >= reread_at {
                match self.reread(&mut moved) {
                    Ok(()) => lost = false,
                    Err(error) => warn!(%error, "cannot read where the bridges' devices are"),
                }
                let end = clock::boot();
                reread_at = end + REREAD.0.max((end - start) * REREAD.1);
            }
            if !self.tell(moved) || wait(&news, lost).is_err() {
                return;
            }
            let mut moved = BTreeSet::new();
            let now = clock::boot();
            let heard = news.drain(|reply| match reply {
                Reply::Link(_) | Reply::LinkGone => links_changed = true,
                Reply::Heard(entry) => self.hear(entry, now, &mut moved),
                Reply::Forgotten(entry) => self.stations.forget(entry.into(), entry.port),
                _ => {}
            });
            match heard {
                Ok(all) => lost |= !all,
                Err(error) => return warn!(%error, "cannot follow the bridges"),
            }
            // What found no room may find it now.
            lost |= self.stations.crowded();
            if !self.tell(moved) {
                return;
            }
        }
    }

    fn hear(&mut self, entry: Entry, now: BootTime, moved: &mut BTreeSet<(ZoneId, Mac)>) {
        let Some(bridge) = self.found.get(&entry.bridge) else { return };
        if self.stations.hear(entry.into(), entry.port, now) == Heard::Elsewhere {
            moved.insert((bridge.zone, entry.mac));
        }
    }

    /// Finds the bridges, and isolates the ports of those whose zones want it.
    fn look_at_links(&mut self) -> io::Result<()> {
        let (mut all, mut route) = (Vec::<Link>::new(), Route::open()?);
        route.dump(links(0), |reply| {
            if let Reply::Link(link) = reply {
                all.push(link);
            }
            true
        })?;
        let before = std::mem::take(&mut self.found);
        for link in &all {
            let bridge = self.bridges.iter().find(|bridge| bridge.interface == link.name);
            let Some(bridge) = bridge else { continue };
            if link.is_bridge {
                self.found.insert(link.index, bridge.clone());
            } else if bridge.isolate && before.is_empty() {
                let interface = &bridge.interface;
                warn!(interface, "isolate: not a bridge, its guests reach each other");
            }
        }
        self.stations.keep_bridges(|index| self.found.contains_key(&index));
        for Link { index, name: port, port_of, .. } in all {
            let isolated = port_of
                .and_then(|(index, isolated)| Some((self.found.get(&index)?, isolated)))
                .is_none_or(|(bridge, isolated)| isolated || !bridge.isolate);
            if isolated {
                continue;
            }
            match route.change(isolate(index, 0)) {
                Ok(()) => info!(port, "keeping the bridge port from the others"),
                Err(error) => warn!(%error, port, "cannot isolate the bridge port"),
            }
        }
        Ok(())
    }

    /// Reads where all devices are: at the start, and after news were lost.
    fn reread(&mut self, moved: &mut BTreeSet<(ZoneId, Mac)>) -> io::Result<()> {
        let (now, mut left) = (clock::boot(), stations::MOST_READ);
        self.stations.doubt();
        Route::open()?.dump(entries(0), |reply| {
            if let Reply::Heard(entry) = reply {
                self.hear(entry, now, moved);
            }
            left -= 1;
            left > 0
        })?;
        if left > 0 {
            self.stations.drop_doubtful();
        }
        Ok(())
    }

    /// False if the loop is gone.
    fn tell(&mut self, moved: BTreeSet<(ZoneId, Mac)>) -> bool {
        if moved.is_empty() {
            return true;
        }
        for (ZoneId(zone), mac) in &moved {
            debug!(zone, %mac, "heard on another port of its bridge");
        }
        self.unsaid += moved.len();
        let now = clock::boot();
        if now >= self.say_at {
            info!(devices = self.unsaid, "heard on another port of their bridge than before");
            (self.unsaid, self.say_at) = (0, now + SAY_EVERY);
        }
        self.inbox.tell(Event::Moved(moved.into_iter().collect()))
    }
}

/// Waits for news, and then for the rest of the burst.
fn wait(news: &News, lost: bool) -> nix::Result<()> {
    let patience = if lost { 1000 } else { LOOK_EVERY_MS };
    let mut waiting = [PollFd::new(news.as_fd(), PollFlags::POLLIN)];
    match poll(&mut waiting, PollTimeout::from(patience)) {
        Ok(_) | Err(nix::Error::EINTR) => std::thread::sleep(BURST),
        Err(error) => return Err(error),
    }
    Ok(())
}
