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

use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::link::{
    InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData, LinkAttribute, LinkInfo,
    LinkMessage,
};
use netlink_packet_route::neighbour::NeighbourMessage;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::{debug, info, warn};

use self::route::{News, Route};
use self::stations::{Heard, Stations};
use super::inbox::Inbox;
use crate::clock;
use crate::config::Zone;
use crate::domain::event::Event;
use crate::domain::names::{BootTime, Mac, ZoneId};

/// Changes come in bursts; they are taken in together after this long.
const BURST: Duration = Duration::from_millis(20);
/// How often one looks for what was missed, if anything was.
const LOOK_EVERY_MS: u16 = 60_000;
/// Bridge entries are read anew after this long at the soonest, and after twenty times as long as
/// the last reading took.
const REREAD: (Duration, u32) = (Duration::from_secs(1), 20);
/// Devices that a bridge may learn of.
const MOST_LEARNED: u32 = 32_768;
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
        no_bridges: BTreeSet::new(),
        stations: Stations::default(),
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
            if !self.tell(moved) {
                return;
            }
            if let Err(error) = wait(&news, self.links_changed || self.lost) {
                return warn!(%error, "cannot follow the bridges");
            }
        }
    }

    fn take_in(&mut self, news: &mut News, moved: &mut BTreeSet<(ZoneId, Mac)>) -> io::Result<()> {
        let now = clock::boot();
        let all = news.drain(|message| match message {
            Message::NewLink(_) | Message::DelLink(_) => self.links_changed = true,
            Message::NewNeighbour(message) => self.hear(&message, now, moved),
            Message::DelNeighbour(message) => {
                if let Some((station, port)) = stations::station(&message) {
                    self.stations.forget(station, port);
                }
            }
            _ => {}
        })?;
        // What found no room may find it now.
        self.lost |= !all || self.stations.crowded();
        Ok(())
    }

    fn hear(
        &mut self,
        message: &NeighbourMessage,
        now: BootTime,
        moved: &mut BTreeSet<(ZoneId, Mac)>,
    ) {
        let Some((station, port)) = stations::station(message) else { return };
        let Some(bridge) = self.found.get(&station.bridge) else { return };
        if self.stations.hear(station, port, now) == Heard::Elsewhere {
            moved.insert((bridge.zone, station.mac));
        }
    }

    /// Finds the bridges, bounds what they learn, and isolates the ports of those whose zones want
    /// it.
    fn look_at_links(&mut self) -> io::Result<()> {
        if !self.links_changed {
            return Ok(());
        }
        let (mut links, mut route) = (Vec::new(), Route::open()?);
        route.dump(Message::GetLink(LinkMessage::default()), |message| {
            if let Message::NewLink(link) = message {
                links.push(link);
            }
            true
        })?;
        self.links_changed = false;
        let before = std::mem::take(&mut self.found);
        for link in &links {
            let bridge = name(link)
                .and_then(|name| self.bridges.iter().find(|bridge| bridge.interface == name));
            let Some(bridge) = bridge else { continue };
            let (index, interface) = (link.header.index, &bridge.interface);
            if !is_bridge(link) {
                if bridge.isolate && self.no_bridges.insert(bridge.zone) {
                    warn!(interface, "isolate: not a bridge, its guests reach each other");
                }
                continue;
            }
            if !before.contains_key(&index) {
                // Its devices were heard while nobody knew it.
                self.lost = true;
                if learns_all(link)
                    && let Err(error) = bound(&mut route, index)
                {
                    warn!(interface, %error, "the bridge learns without bounds");
                }
            }
            self.found.insert(index, bridge.clone());
        }
        self.stations.keep_bridges(|index| self.found.contains_key(&index));
        for link in &links {
            self.look_at_port(link, &mut route);
        }
        Ok(())
    }

    fn look_at_port(&self, link: &LinkMessage, route: &mut Route) {
        let isolate = port_of(link)
            .and_then(|(index, isolated)| Some((self.found.get(&index)?, isolated)))
            .is_some_and(|(bridge, isolated)| bridge.isolate && !isolated);
        if !isolate {
            return;
        }
        let port = name(link).unwrap_or_default();
        let wanted = rtnetlink::LinkBridgePort::new(link.header.index).isolated(true).build();
        match route.change(Message::NewLink(wanted)) {
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
        let read = Route::open()?.dump(stations::all(), |message| {
            if let Message::NewNeighbour(message) = message {
                self.hear(&message, start, moved);
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
fn wait(news: &News, again: bool) -> nix::Result<()> {
    let patience = if again { 1000 } else { LOOK_EVERY_MS };
    let mut waiting = [PollFd::new(news.as_fd(), PollFlags::POLLIN)];
    match poll(&mut waiting, PollTimeout::from(patience)) {
        Ok(_) | Err(nix::Error::EINTR) => std::thread::sleep(BURST),
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Random addresses must not fill the kernel's memory.
fn bound(route: &mut Route, bridge: u32) -> io::Result<()> {
    let most = InfoData::Bridge(vec![InfoBridge::FdbMaxLearned(MOST_LEARNED)]);
    let mut wanted = LinkMessage::default();
    wanted.header.index = bridge;
    wanted.attributes =
        vec![LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge), LinkInfo::Data(most)])];
    route.change(Message::NewLink(wanted))
}

fn name(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })
}

fn infos(link: &LinkMessage) -> impl Iterator<Item = &LinkInfo> {
    let infos = link.attributes.iter().filter_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => Some(infos),
        _ => None,
    });
    infos.flatten()
}

fn is_bridge(link: &LinkMessage) -> bool {
    infos(link).any(|info| matches!(info, LinkInfo::Kind(InfoKind::Bridge)))
}

/// Whether nobody has set a bound; a kernel before 6.7 has none to set.
fn learns_all(link: &LinkMessage) -> bool {
    let unbounded = InfoBridge::FdbMaxLearned(0);
    infos(link).any(
        |info| matches!(info, LinkInfo::Data(InfoData::Bridge(all)) if all.contains(&unbounded)),
    )
}

/// The number of the bridge that a link is a port of, and whether the port is isolated.
fn port_of(link: &LinkMessage) -> Option<(u32, bool)> {
    let bridge = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Controller(index) => Some(*index),
        _ => None,
    })?;
    let port = infos(link).find_map(|info| match info {
        LinkInfo::PortData(InfoPortData::BridgePort(port)) => Some(port),
        _ => None,
    })?;
    Some((bridge, port.contains(&InfoBridgePort::Isolated(true))))
}
