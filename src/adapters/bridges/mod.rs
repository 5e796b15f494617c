//! The guest networks' bridges: ports are kept apart where a zone isolates its guests, and a device
//! that is heard on another port than before is told of, or in two zones at once where those roam.
//! A guest network is a bridge, or a VLAN of one.
//!
//! One thread. The kernel says that something changed; what is, is read anew.

mod isolation;
mod route;
mod segments;
mod stations;
mod twins;

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd as _;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::{debug, info, warn};

pub use self::isolation::Gap;
use self::isolation::{Plan, needs_members, plan};
use self::route::News;
pub(super) use self::route::Route;
pub use self::segments::Bridge;
use self::segments::{Place, Segment, Segments};
use self::stations::{Heard, Stations};
use self::twins::Twins;
use super::inbox::Inbox;
use crate::clock;
use crate::domain::event::Event;
use crate::domain::names::{BootTime, Mac, ZoneId};
use crate::wire::route::{
    Entry, Kind, Link, Members, Reply, bound, entries, isolate, links, members,
};

/// Changes come in bursts; they are taken in together after this long.
const BURST: Duration = Duration::from_millis(20);
/// How often one looks for what was missed, if anything was.
const LOOK_EVERY_MS: u16 = 60_000;
/// Bridge entries are read anew after this long at the soonest, and after twenty times as long as
/// the last reading took.
const REREAD: (Duration, u32) = (Duration::from_secs(1), 20);
/// Devices that a bridge may learn of: random addresses must not fill the kernel's memory. All VLANs
/// of a bridge share them: while a flood lasts, frames to newcomers go to all ports of their VLAN.
const MOST_LEARNED: u32 = 32_768;
/// Between two lines in the log about devices that moved.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// Starts the thread. Needs `CAP_NET_ADMIN`. What it finds goes to the inbox as [`Event::Moved`]
/// and [`Event::Doubled`].
pub fn watch(bridges: Vec<Bridge>, inbox: Inbox) -> io::Result<()> {
    let news = News::open()?;
    let watcher = Watcher {
        bridges,
        segments: Segments::default(),
        isolated: BTreeSet::new(),
        gaps: BTreeSet::new(),
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

/// Where guests reach each other though their zones isolate them.
pub fn gaps(bridges: &[Bridge]) -> io::Result<BTreeSet<Gap>> {
    let mut route = Route::open()?;
    let all = read_links(&mut route)?;
    let segments = Segments::find(bridges, &all);
    Ok(read_plan(&segments, &all, &BTreeSet::new(), &mut route)?.gaps)
}

struct Watcher {
    bridges: Vec<Bridge>,
    /// What is found of them.
    segments: Segments,
    /// Ports that were isolated here.
    isolated: BTreeSet<u32>,
    /// Gaps in that, which the log was told of.
    gaps: BTreeSet<Gap>,
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
            Reply::Link(_) | Reply::Members(_) | Reply::LinksChanged => self.links_changed = true,
            Reply::Heard(entry) => self.hear(entry, now, moved),
            Reply::Forgotten(entry) => self.stations.forget(entry.into(), entry.port),
            _ => {}
        })?;
        // What found no room may find it now.
        self.lost |= !all || self.stations.crowded();
        Ok(())
    }

    fn hear(&mut self, entry: Entry, now: BootTime, moved: &mut BTreeSet<(ZoneId, Mac)>) {
        let mut zones = self.segments.of(entry.bridge, entry.vlan).peekable();
        if zones.peek().is_none() {
            return;
        }
        match self.stations.hear(entry.into(), entry.port, now) {
            Heard::Elsewhere => moved.extend(zones.map(|bridge| (bridge.zone, entry.mac))),
            Heard::New => {
                let roaming = |bridge, vlan| self.segments.roaming(bridge, vlan);
                let Some(here) = roaming(entry.bridge, entry.vlan) else { return };
                let mut all = self.stations.of(entry.mac);
                if all.any(|one| roaming(one.bridge, one.vlan).is_some_and(|zone| zone != here)) {
                    self.twins.suspect(entry.mac, now);
                }
            }
            Heard::Here => {}
        }
    }

    /// Finds the zones' bridges, bounds what those learn, and keeps apart the ports of those whose
    /// zones want it.
    fn look_at_links(&mut self) -> io::Result<()> {
        if !self.links_changed {
            return Ok(());
        }
        let mut route = Route::open()?;
        let all = read_links(&mut route)?;
        let found = Segments::find(&self.bridges, &all);
        let before = std::mem::replace(&mut self.segments, found);
        for segment in self.segments.0.iter().filter(|one| !before.0.contains(one)) {
            // Its devices were heard while nobody knew it.
            self.lost = true;
            if let Segment { bridge: Bridge { interface, .. }, place: Place::Unsorted(_) } = segment
            {
                info!(interface, "no VLAN filtering: who is heard in any VLAN is taken as its own");
            }
        }
        for Link { index, name: bridge, kind, .. } in &all {
            if matches!(kind, Kind::Bridge { learns_all: true, .. })
                && self.segments.has(*index)
                && !before.has(*index)
                && let Err(error) = route.change(bound(*index, MOST_LEARNED, 0))
            {
                warn!(bridge, %error, "the bridge learns without bounds");
            }
        }
        let segments = &self.segments;
        self.stations.keep(|one| segments.of(one.bridge, one.vlan).next().is_some());
        self.look_at_ports(&all, &mut route)?;
        self.links_changed = false;
        Ok(())
    }

    fn look_at_ports(&mut self, all: &[Link], route: &mut Route) -> io::Result<()> {
        let is_so = |link: &Link| link.port_of.is_some_and(|(_, isolated)| isolated);
        self.isolated.retain(|port| all.iter().any(|link| link.index == *port && is_so(link)));
        let Plan { changes, gaps } = read_plan(&self.segments, all, &self.isolated, route)?;
        for (index, port, apart) in changes {
            if let Err(error) = route.change(isolate(index, apart, 0)) {
                warn!(%error, port, apart, "cannot change how the bridge port is kept");
            } else if apart {
                info!(port, "keeping the bridge port from the others");
                self.isolated.insert(index);
            } else {
                info!(port, "no longer keeping the bridge port from the others");
                self.isolated.remove(&index);
            }
        }
        for gap in gaps.difference(&self.gaps) {
            warn!(%gap, "isolate: guests reach each other");
        }
        self.gaps = gaps;
        Ok(())
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
                && let Some(zone) = self.segments.roaming(entry.bridge, entry.vlan)
            {
                self.twins.see(zone, entry.mac, entry.age);
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

fn read_links(route: &mut Route) -> io::Result<Vec<Link>> {
    let mut all = Vec::new();
    route.dump(links(0), |reply| {
        if let Reply::Link(link) = reply {
            all.push(link);
        }
        true
    })?;
    Ok(all)
}

fn read_plan(
    segments: &Segments,
    all: &[Link],
    ours: &BTreeSet<u32>,
    route: &mut Route,
) -> io::Result<Plan> {
    let mut inside = Vec::<Members>::new();
    if needs_members(segments) {
        route.dump(members(0), |reply| {
            if let Reply::Members(members) = reply {
                inside.push(members);
            }
            true
        })?;
    }
    Ok(plan(segments, all, &inside, ours))
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
