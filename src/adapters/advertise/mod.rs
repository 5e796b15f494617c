//! The Captive Portal API's address in router advertisements (RFC 8910, option 37), which dnsmasq
//! cannot put into its own.
//!
//! A second advertisement goes out beside the router's, from an address of its own: hosts know
//! routers by the address that they send from (RFC 4861, 6.3.4), so that its Router Lifetime of 0
//! takes nobody's default route. What hosts take from whoever spoke last, the flags M and O, is to
//! be the same in both: the router is asked each time, by way of the loopback, where no guest can
//! answer in its name. No answer, nothing said; nor where the router names an API itself.

mod schedule;
mod socket;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use tokio::sync::watch;
use tracing::{debug, info, warn};

use self::schedule::Schedule;
use self::socket::{ANSWERS, QUESTIONS, Received, Socket};
use super::bridges::Route;
use super::http::api::Api;
use super::http::tls::Standing;
use super::neighbours::{Link, Links};
use crate::clock;
use crate::config::Config;
use crate::domain::names::{BootTime, Mac};
use crate::wire::nft::WireError;
use crate::wire::ra::{self, Message};
use crate::wire::route::{Address, Reply, add_address, addresses, remove_address};

/// Messages that are taken at a time.
const AT_ONCE: usize = 32;
/// Between one such time and the next, at random: who asks is answered after a random delay
/// (`MAX_RA_DELAY_TIME`), and who floods is heard no more often.
const REST_MS: std::ops::RangeInclusive<u64> = 20..=500;
/// Nothing is to be done for so long, unless something happens.
const IDLE: Duration = Duration::from_hours(1);

/// Names the API to the hosts of some interfaces.
#[derive(Debug)]
pub struct Advertiser {
    api: String,
    interfaces: Vec<String>,
}

impl Advertiser {
    /// Names `api` on these interfaces.
    pub fn new(api: String, interfaces: impl IntoIterator<Item = String>) -> Self {
        Self { api, interfaces: interfaces.into_iter().collect() }
    }

    /// What a configuration wants named: as for [`super::dnsmasq`]; `None` if nothing.
    pub fn from_config(config: &Config) -> Option<Self> {
        config.portal.dnsmasq_dir.as_ref()?;
        let api = Api::address(&config.portal)?;
        Some(Self::new(api, config.zone.iter().map(|zone| zone.interface.clone())))
    }

    /// Does so while the certificate stands well, until `stop`. Needs `CAP_NET_RAW` and
    /// `CAP_NET_ADMIN`; without them it says so and does nothing.
    pub async fn run(
        self,
        mut links: watch::Receiver<Links>,
        mut standing: watch::Receiver<Standing>,
        mut stop: watch::Receiver<bool>,
    ) {
        let stopped = async move {
            let _ = stop.wait_for(|stop| *stop).await;
        };
        tokio::pin!(stopped);
        let mut speaker = match Speaker::new(self.api) {
            Ok(speaker) => speaker,
            Err(error) => {
                warn!(%error, "the API is not named in router advertisements");
                return stopped.await;
            }
        };
        loop {
            let good = !matches!(*standing.borrow_and_update(), Standing::Bad(_));
            let known = links.borrow_and_update().clone();
            speaker.follow(&self.interfaces, &known, good);
            // Until any of it changes.
            tokio::select! {
                () = &mut stopped => break,
                () = changed(&mut links) => {}
                () = changed(&mut standing) => {}
                error = speaker.speak() => {
                    warn!(%error, "the API is named in no more router advertisements");
                    stopped.await;
                    break;
                }
            }
        }
        speaker.follow(&self.interfaces, &Links::new(), false);
    }
}

/// Takes away the addresses that a killed daemon has left, on whatever interface: it may have had
/// another MAC, or have been a zone. Needs `CAP_NET_ADMIN`.
pub fn forget_leftovers() -> io::Result<()> {
    let (mut route, mut left) = (Route::open()?, Vec::new());
    route.dump(addresses(0), |reply| {
        if let Reply::Address(Address { index, address: IpAddr::V6(address), length: 128 }) = reply
            && is_beside(address)
        {
            left.push((index, address));
        }
        true
    })?;
    for (interface, address) in left {
        info!(interface, "taking away an address that was left behind");
        route.change(remove_address(interface, address, 0))?;
    }
    Ok(())
}

/// Ends when there is news; never if there will be none.
async fn changed<T>(news: &mut watch::Receiver<T>) {
    if news.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

struct Speaker {
    /// Two, so that whoever floods the one drowns no answer in the other.
    hosts: Socket,
    router: Socket,
    api: String,
    /// By interface.
    desks: BTreeMap<String, Desk>,
}

/// Where one interface's hosts are spoken to.
#[derive(Debug)]
struct Desk {
    place: Place,
    /// Once the address is ready for use.
    schedule: Option<Schedule>,
}

/// An interface and two of its link-local addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    interface: u32,
    router: Ipv6Addr,
    /// The one beside the router's.
    address: Ipv6Addr,
}

impl Place {
    /// `None` while the interface has no address that hosts know the router by.
    fn on(link: &Link) -> Option<Self> {
        let address = beside(link.mac);
        let router = link.addresses.iter().find_map(|prefix| match prefix.address {
            IpAddr::V6(own) if own.is_unicast_link_local() && own != address => Some(own),
            _ => None,
        })?;
        Some(Self { interface: link.index, router, address })
    }
}

impl Speaker {
    fn new(api: String) -> io::Result<Self> {
        let (hosts, router) = (Socket::open(&QUESTIONS)?, Socket::open(&ANSWERS)?);
        Ok(Self { hosts, router, api, desks: BTreeMap::new() })
    }

    /// Has a desk on each of these interfaces that is up, if the API is to be named.
    fn follow(&mut self, interfaces: &[String], links: &Links, named: bool) {
        for name in interfaces {
            let link = links.get(name).filter(|link| named && link.up);
            let place = link.and_then(Place::on);
            if let Some(desk) = self.desks.get(name)
                && Some(desk.place) != place
            {
                let Place { interface, address, .. } = desk.place;
                // It may be gone with the interface.
                let removed = change(remove_address(interface, address, 0));
                info!(interface = name, ?removed, "naming the API in advertisements no more");
                self.desks.remove(name);
            }
            let (Some(link), Some(place)) = (link, place) else { continue };
            let desk = self.desks.entry(name.clone()).or_insert_with(|| {
                info!(interface = name, "naming the API in router advertisements");
                Desk { place, schedule: None }
            });
            if has(link, place.address) {
                desk.schedule.get_or_insert_with(|| Schedule::new(clock::boot()));
                continue;
            }
            desk.schedule = None;
            // It is there already while the kernel makes sure that nobody else has it.
            if let Err(error) = change(add_address(place.interface, place.address, 0))
                && error.raw_os_error() != Some(libc::EEXIST)
            {
                warn!(interface = name, %error, "no address to name the API from");
            }
        }
    }

    /// Asks and tells until a socket fails.
    async fn speak(&mut self) -> io::Error {
        let mut rest_until = BootTime(0);
        loop {
            let now = clock::boot();
            let resting = now < rest_until;
            if !resting {
                self.ask_routers(now);
            }
            let wake = if resting { rest_until } else { self.due().unwrap_or(now + IDLE) };
            let heard = tokio::select! {
                () = tokio::time::sleep(wake - now) => continue,
                answers = self.router.receive(AT_ONCE) => answers,
                questions = self.hosts.receive(AT_ONCE), if !resting => {
                    rest_until = now + Duration::from_millis(rand::random_range(REST_MS));
                    questions
                }
            };
            match heard {
                Ok(messages) => messages.iter().for_each(|message| self.hear(message)),
                Err(error) => return error,
            }
        }
    }

    fn due(&self) -> Option<BootTime> {
        let schedules = self.desks.values().filter_map(|desk| desk.schedule.as_ref());
        schedules.map(Schedule::due).min()
    }

    fn ask_routers(&mut self, now: BootTime) {
        for Desk { place, schedule } in self.desks.values_mut() {
            let Some(schedule) = schedule.as_mut().filter(|schedule| schedule.due() <= now) else {
                continue;
            };
            schedule.ask(now, rand::random());
            let Place { interface, router, .. } = *place;
            if let Err(error) = self.router.send(interface, None, router, &ra::SOLICITATION) {
                debug!(%error, "cannot ask the router");
            }
        }
    }

    fn hear(&mut self, Received { interface, from, message }: &Received) {
        let desk = self.desks.values_mut().find(|desk| desk.place.interface == *interface);
        let Some(Desk { place, schedule: Some(schedule) }) = desk else { return };
        match ra::parse(message, *from) {
            // Hosts ask from their address of the link, if they have one yet.
            Ok(Message::Solicitation) if from.is_unicast_link_local() || from.is_unspecified() => {
                schedule.solicited(*from);
            }
            // Not our own, if a guest asks in the name of one of our addresses.
            Ok(Message::Advertisement(router)) if *from != place.address => {
                let told = schedule.answered(clock::boot());
                let Some(message) = ra::beside(router, &self.api) else { return };
                for host in told.into_iter().filter(|_| !router.names_api) {
                    let sent = self.hosts.send(*interface, Some(place.address), host, &message);
                    debug!(%host, ?sent, "named the API");
                }
            }
            _ => {}
        }
    }
}

/// A second link-local address, the same after each start, and no other station's: made of the MAC,
/// as the first one is, with another filling (RFC 4291, appendix A, has ff:fe there).
fn beside(mac: Mac) -> Ipv6Addr {
    let mut octets = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0x0089, 0x1000, 0).octets();
    octets[8..11].copy_from_slice(&mac.0[..3]);
    octets[13..].copy_from_slice(&mac.0[3..]);
    octets.into()
}

/// Whether an address is one that [`beside`] makes.
fn is_beside(address: Ipv6Addr) -> bool {
    let octets = address.octets();
    let mut mac = Mac([0; 6]);
    mac.0[..3].copy_from_slice(&octets[8..11]);
    mac.0[3..].copy_from_slice(&octets[13..]);
    beside(mac) == address
}

fn has(link: &Link, address: Ipv6Addr) -> bool {
    link.addresses.iter().any(|prefix| prefix.address == address)
}

/// The kernel carries it out inside the call.
fn change(order: Result<Vec<u8>, WireError>) -> io::Result<()> {
    Route::open()?.change(order)
}
