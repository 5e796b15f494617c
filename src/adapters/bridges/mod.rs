//! The guest networks' bridges: ports are kept apart where a zone isolates its guests, and a device
//! that is heard on another port than before is told of, or in two zones at once where those roam.
//!
//! One thread. The kernel says that something changed; what is, is read anew.

mod route;
mod stations;
mod twins;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsFd as _;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::{debug, info, warn};

use self::route::News;
pub(super) use self::route::Route;
use self::stations::{Heard, Stations};
use self::twins::Twins;
use super::inbox::Inbox;
use crate::clock;
use crate::config::Zone;
use crate::domain::event::Event;
use crate::domain::names::{BootTime, Mac, ZoneId};
use crate::wire::route::{Entry, Link, Reply, bound, entries, isolate, links};

/// Changes come in bursts; they are taken in together after this long.
const BURST: Duration = Duration::from_millis(20);
/// How often one looks for what was missed, if anything was.
const LOOK_EVERY_MS: u16 = 60_000;
/// Bridge entries are read anew after this long at the soonest, and after twenty times as long as
/// the last reading took.
const REREAD: (Duration, u32) = (Duration::from_secs(1), 20);
/// Devices that a bridge may learn of: random addresses must not fill the kernel's memory.
const MOST_LEARNED: u32 = 32_768;
/// Between two lines in the log about devices that moved.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// A zone's interface, as far as it is a bridge.
#[derive(Clone, Debug)]
pub struct Bridge {
    zone: ZoneId,
    interface: String,
    isolate: bool,
    roam: bool,
}

impl Bridge {
    /// The interfaces of all zones, in the zones' order.
    pub fn of_zones(zones: &[Zone]) -> Vec<Self> {
        let bridge = |(zone, config): (u8, &Zone)| Self {
            zone: ZoneId(zone),
            interface: config.interface.clone(),
            isolate: config.isolate,
            roam: config.roam,
        };
        (0..).zip(zones).map(bridge).collect()
    }
}

/// Starts the thread. Needs `CAP_NET_ADMIN`. What it finds goes to the inbox as [`Event::Moved`]
/// and [`Event::Doubled`].
pub fn watch(bridges: Vec<Bridge>, inbox: Inbox) -> io::Result<()> {
    let news = News::open()?;
    let watcher = Watcher {
        bridges,
        found: BTreeMap::new(),
        no_bridges: BTreeSet::new(),
        stations: Stations::default(),
        twins: Twins::default(),
        // News come from here on; what was before is read.
        links_changed: true,
        lost: true,
        reread_at: BootTime(0),
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
    /// Zones to isolate whose interfaces are no bridges.
    no_bridges: BTreeSet<ZoneId>,
    stations: Stations,
    twins: Twins,
    /// Links are to be looked at, and all entries to be read.
    links_changed: bool,
    lost: bool,
    reread_at: BootTime,
    inbox: Inbox,
    /// Moves that the log was not told of yet.
    unsaid: usize,
    say_at: BootTime,
}

impl Watcher {
    fn run(mut self, mut news: News) {
        loop {
            let mut moved = BTreeSet::new();
            if let Err(error) = self.take_in(&mut news, &mut moved) {
                return warn!(%error, "cannot follow the bridges");
            }
            if let Err(error) = self.look_at_links() {
                warn!(%error, "cannot look after the bridges' ports");
            }
            if let Err(error) = self.reread(&mut moved) {
                warn!(%error, "cannot read where the bridges' devices are");
            }
            let doubled = self.look_for_twins().unwrap_or_else(|error| {
                warn!(%error, "cannot read where the bridges' devices are");
                Vec::new()
            });
            if !self.tell(moved) || !self.tell_of_twins(doubled) {
                return;
            }
            if let Err(error) = wait(&news, self.patience()) {
                return warn!(%error, "cannot follow the bridges");
            }
        }
    }

    fn take_in(&mut self, news: &mut News, moved: &mut BTreeSet<(ZoneId, Mac)>) -> io::Result<()> {
        let now = clock::boot();
        let all = news.drain(|reply| match reply {
            Reply::Link(_) | Reply::LinkGone => self.links_changed = true,
            Reply::Heard(entry) => self.hear(entry, now, moved),
            Reply::Forgotten(entry) => self.stations.forget(entry.into(), entry.port),
            _ => {}
        })?;
        // What found no room may find it now.
        self.lost |= !all || self.stations.crowded();
        Ok(())
    }

    fn hear(&mut self, entry: Entry, now: BootTime, moved: &mut BTreeSet<(ZoneId, Mac)>) {
        let Some(bridge) = self.found.get(&entry.bridge) else { return };
        match self.stations.hear(entry.into(), entry.port, now) {
            Heard::Elsewhere => {
                moved.insert((bridge.zone, entry.mac));
            }
            Heard::New if bridge.roam => {
                let mut others = self.found.iter().filter(|(_, other)| other.roam);
                let twice = |(index, _): (&u32, _)| {
                    *index != entry.bridge && self.stations.is_on(*index, entry.into())
                };
                if others.any(twice) {
                    self.twins.suspect(entry.mac, now);
                }
            }
            Heard::Here | Heard::New => {}
        }
    }

    /// Finds the bridges, bounds what they learn, and isolates the ports of those whose zones want
    /// it.
    fn look_at_links(&mut self) -> io::Result<()> {
        if !self.links_changed {
            return Ok(());
        }
        let (mut all, mut route) = (Vec::<Link>::new(), Route::open()?);
        route.dump(links(0), |reply| {
            if let Reply::Link(link) = reply {
                all.push(link);
            }
            true
        })?;
        self.links_changed = false;
        let before = std::mem::take(&mut self.found);
        for Link { index, name: interface, is_bridge, learns_all, .. } in &all {
            let bridge = self.bridges.iter().find(|bridge| bridge.interface == *interface);
            let Some(bridge) = bridge else { continue };
            if !is_bridge {
                if bridge.isolate && self.no_bridges.insert(bridge.zone) {
                    warn!(interface, "isolate: not a bridge, its guests reach each other");
                }
                continue;
            }
            if !before.contains_key(index) {
                // Its devices were heard while nobody knew it.
                self.lost = true;
                if *learns_all && let Err(error) = route.change(bound(*index, MOST_LEARNED, 0)) {
                    warn!(interface, %error, "the bridge learns without bounds");
                }
            }
            self.found.insert(*index, bridge.clone());
        }
        self.stations.keep_bridges(|index| self.found.contains_key(&index));
        for link in &all {
            self.look_at_port(link, &mut route);
        }
        Ok(())
    }

    fn look_at_port(&self, link: &Link, route: &mut Route) {
        let isolated = link
            .port_of
            .and_then(|(index, isolated)| Some((self.found.get(&index)?, isolated)))
            .is_none_or(|(bridge, isolated)| isolated || !bridge.isolate);
        if isolated {
            return;
        }
        let port = &link.name;
        match route.change(isolate(link.index, 0)) {
            Ok(()) => info!(port, "keeping the bridge port from the others"),
            Err(error) => warn!(%error, port, "cannot isolate the bridge port"),
        }
    }

    /// Reads where all devices are: at the start, of a new bridge, and after news were lost.
    fn reread(&mut self, moved: &mut BTreeSet<(ZoneId, Mac)>) -> io::Result<()> {
        let start = clock::boot();
        if !self.lost || start < self.reread_at {
            return Ok(());
        }
        let mut left = stations::MOST_READ;
        self.stations.doubt();
        let read = Route::open()?.dump(entries(0), |reply| {
            if let Reply::Heard(entry) = reply {
                self.hear(entry, start, moved);
            }
            left -= 1;
            left > 0
        });
        let end = clock::boot();
        self.reread_at = end + REREAD.0.max((end - start) * REREAD.1);
        read?;
        if left > 0 {
            self.stations.drop_doubtful();
        }
        self.lost = false;
        Ok(())
    }

    /// Reads how young the entries are of devices that have several.
    fn look_for_twins(&mut self) -> io::Result<Vec<(Mac, [ZoneId; 2])>> {
        let now = clock::boot();
        if self.twins.due().is_none_or(|due| now < due) {
            return Ok(Vec::new());
        }
        let (mut left, mut route) = (stations::MOST_READ, Route::open()?);
        let read = route.dump(entries(0), |reply| {
            if let Reply::Heard(entry) = reply
                && let Some(bridge) = self.found.get(&entry.bridge).filter(|bridge| bridge.roam)
            {
                self.twins.see(bridge.zone, entry.mac, entry.age);
            }
            left -= 1;
            left > 0
        });
        let twins = self.twins.judge(now);
        read.map(|()| twins)
    }

    /// How long to wait for news, in milliseconds.
    fn patience(&self) -> u16 {
        if self.links_changed || self.lost {
            return 1000;
        }
        let look = self.twins.due().map(|due| (due - clock::boot()).as_millis());
        look.and_then(|look| u16::try_from(look).ok()).unwrap_or(LOOK_EVERY_MS).min(LOOK_EVERY_MS)
    }

    /// False if the loop is gone.
    fn tell_of_twins(&self, doubled: Vec<(Mac, [ZoneId; 2])>) -> bool {
        if doubled.is_empty() {
            return true;
        }
        for (mac, [ZoneId(one), ZoneId(other)]) in &doubled {
            debug!(%mac, one, other, "heard in two zones at once");
        }
        info!(devices = doubled.len(), "heard in two zones at once: two stations have one address");
        self.inbox.tell(Event::Doubled(doubled))
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
fn wait(news: &News, patience: u16) -> nix::Result<()> {
    let mut waiting = [PollFd::new(news.as_fd(), PollFlags::POLLIN)];
    match poll(&mut waiting, PollTimeout::from(patience)) {
        Ok(_) | Err(nix::Error::EINTR) => std::thread::sleep(BURST),
        Err(error) => return Err(error),
    }
    Ok(())
}
