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
    InfoBridgePort, InfoKind, InfoPortData, LinkAttribute, LinkInfo, LinkMessage,
};
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
            if links_changed {
                let looked = self.look_at_links();
                links_changed = looked.is_err();
                if let Err(error) = looked {
                    warn!(%error, "cannot look after the bridges' ports");
                }
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
            if !self.tell(moved) {
                return;
            }
            if let Err(error) = wait(&news, lost || links_changed) {
                return warn!(%error, "cannot follow the bridges");
            }
            let mut moved = BTreeSet::new();
            let now = clock::boot();
            let heard = news.drain(|message| match message {
                Message::NewLink(_) | Message::DelLink(_) => links_changed = true,
                Message::NewNeighbour(message) => self.hear(&message, now, &mut moved),
                Message::DelNeighbour(message) => {
                    if let Some((station, port)) = stations::station(&message) {
                        self.stations.forget(station, port);
                    }
                }
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

    fn hear(
        &mut self,
        message: &netlink_packet_route::neighbour::NeighbourMessage,
        now: BootTime,
        moved: &mut BTreeSet<(ZoneId, Mac)>,
    ) {
        let Some((station, port)) = stations::station(message) else { return };
        let Some(bridge) = self.found.get(&station.bridge) else { return };
        if self.stations.hear(station, port, now) == Heard::Elsewhere {
            moved.insert((bridge.zone, station.mac));
        }
    }

    /// Finds the bridges, and isolates the ports of those whose zones want it.
    fn look_at_links(&mut self) -> io::Result<()> {
        let (mut links, mut route) = (Vec::new(), Route::open()?);
        route.dump(Message::GetLink(LinkMessage::default()), |message| {
            if let Message::NewLink(link) = message {
                links.push(link);
            }
            true
        })?;
        self.found.clear();
        for link in &links {
            let bridge = name(link)
                .and_then(|name| self.bridges.iter().find(|bridge| bridge.interface == name));
            let Some(bridge) = bridge else { continue };
            if is_bridge(link) {
                self.found.insert(link.header.index, bridge.clone());
            } else if bridge.isolate && self.no_bridges.insert(bridge.zone) {
                let interface = &bridge.interface;
                warn!(interface, "isolate: not a bridge, its guests reach each other");
            }
        }
        self.stations.keep_bridges(|index| self.found.contains_key(&index));
        for link in links {
            let isolate = port_of(&link)
                .and_then(|(index, isolated)| Some((self.found.get(&index)?, isolated)))
                .is_some_and(|(bridge, isolated)| bridge.isolate && !isolated);
            if !isolate {
                continue;
            }
            let port = name(&link).unwrap_or_default();
            let wanted = rtnetlink::LinkBridgePort::new(link.header.index).isolated(true).build();
            match route.change(Message::NewLink(wanted)) {
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
        Route::open()?.dump(stations::all(), |message| {
            if let Message::NewNeighbour(message) = message {
                self.hear(&message, now, moved);
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
fn wait(news: &News, again: bool) -> nix::Result<()> {
    let patience = if again { 1000 } else { LOOK_EVERY_MS };
    let mut waiting = [PollFd::new(news.as_fd(), PollFlags::POLLIN)];
    match poll(&mut waiting, PollTimeout::from(patience)) {
        Ok(_) | Err(nix::Error::EINTR) => std::thread::sleep(BURST),
        Err(error) => return Err(error),
    }
    Ok(())
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
