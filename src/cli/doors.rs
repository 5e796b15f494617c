//! What a start opens once the table stands: ports, sockets, and what serves behind them. All of it
//! may fail, and none of it decides who is online.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::warn;

use super::names::Names;
use super::pages::Pages;
use super::record::recorder;
use super::rules::Rules;
use super::services::{self, Counters};
use crate::adapters::account::Account;
use crate::adapters::bridges::{self, Bridge};
use crate::adapters::capture::Captures;
use crate::adapters::control::{self, Lock};
use crate::adapters::guests::Guests;
use crate::adapters::http::brand::Parts;
use crate::adapters::http::catalogue::Catalogues;
use crate::adapters::http::{PortalAddress, portal, wechat};
use crate::adapters::inbox::Inbox;
use crate::adapters::neighbours::{self, Links, Neighbours};
use crate::adapters::sms::{self, SmsHandle};
use crate::adapters::store::Store;
use crate::adapters::sync::bundle::Bundles;
use crate::adapters::uplink::{self, Line};
use crate::adapters::{firewall, keys, memory};
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::Secrets;
use crate::domain::names::ZoneId;

/// Every port and socket. Whoever is not online is redirected as soon as [`Doors::open`] is told to;
/// who comes before a page is served waits for it.
pub(super) struct Doors<'a> {
    interfaces: Vec<String>,
    texts: Arc<Catalogues>,
    sms: Option<SmsHandle>,
    neighbours: Option<Neighbours>,
    captures: Captures,
    links: watch::Sender<Links>,
    names: Names,
    counters: Arc<Counters>,
    pages: Pages<'a>,
}

impl<'a> Doors<'a> {
    /// Opens them all; strangers are redirected from the moment when `open` is true.
    pub(super) fn open(
        config: &'a Config,
        inbox: &Inbox,
        table: &firewall::Handle,
        closed: &watch::Receiver<bool>,
        open: watch::Receiver<bool>,
    ) -> anyhow::Result<Self> {
        firewall::refuse_flow_offload(config.firewall.allow_flow_offload)?;
        let interfaces: Vec<String> =
            config.zone.iter().map(|zone| zone.interface.clone()).collect();
        let texts = Arc::new(Catalogues::load()?);
        let words = Arc::clone(&texts);
        let sms = sms::start(config, inbox, move |language, store, code, minutes| {
            words.sms_text(language, store, code, minutes)
        })?;
        let (links, known) = watch::channel(Links::new());
        let captures = Captures::new((0..).map(ZoneId).zip(interfaces.clone()), inbox.clone());
        let names = Names::open(config, table, captures.known(), &known)?;
        let counters = Arc::new(Counters::new(&captures, inbox, sms.as_ref(), names.forwarder()));
        let pages = Pages::bind(config, inbox, &counters, &known, closed, open)?;
        let neighbours = Some(Neighbours::new(interfaces.clone(), known)?);
        Ok(Self { interfaces, texts, sms, neighbours, captures, links, names, counters, pages })
    }

    /// What the gateway does its work with; once.
    pub(super) fn hands(&mut self) -> (Option<SmsHandle>, Option<Neighbours>) {
        (self.sms.take(), self.neighbours.take())
    }
}

/// What all that is served has in common.
pub(super) struct House<'a> {
    pub(super) config: &'a Config,
    pub(super) lock: &'a Lock,
    pub(super) clock: Clock,
    pub(super) store: &'a Store,
    pub(super) rules: &'a Arc<Rules>,
    pub(super) closed: &'a watch::Receiver<bool>,
}

impl House<'_> {
    /// Serves behind the doors; ends with the last of what serves.
    pub(super) fn serve(
        &self,
        doors: Doors<'_>,
        inbox: Inbox,
        secrets: Secrets,
    ) -> anyhow::Result<JoinSet<()>> {
        let Self { config, lock, clock, store, rules, closed } = *self;
        bridges::watch(Bridge::of_zones(&config.zone), inbox.clone())
            .context("watching bridges")?;
        let account = services::account(config, store, &inbox)?;
        let guests = Guests::new(store.clone(), inbox.clone());
        let Doors { texts, names, counters, interfaces, captures, links, pages, .. } = doors;
        let (site, bundles, uplink) =
            site(config, &inbox, guests.clone(), &texts, account.as_ref())?;
        let (mut pages, certificate) = pages.serve(&site, store)?;
        pages.spawn(names.run(closed.clone()));
        let notes = services::notes(site.line, certificate, Arc::clone(&counters));
        let record = recorder(guests, (config.store.key, secrets), site.country);
        let more = services::More { account, bundles, notes, record };
        let services = services::control(config, clock, store, &counters, rules, more)?;
        let asked = control::serve(control::bind(lock)?, inbox, services, until(closed.clone()));
        pages.spawn(asked);
        tokio::spawn(uplink::follow(uplink, config.uplink.check, closed.clone()));
        let stop = closed.clone();
        tokio::spawn(neighbours::keep_listening(interfaces, captures, links, stop));
        tokio::spawn(memory::keep_small(move || counters.answered()));
        Ok(pages)
    }
}

async fn until(mut closed: watch::Receiver<bool>) {
    let _ = closed.wait_for(|closed| *closed).await;
}

/// The guests' pages as they are served over HTTP, and the ways online that they offer; what changes
/// their looks, and what they say of the line.
fn site(
    config: &Config,
    inbox: &Inbox,
    guests: Guests,
    texts: &Arc<Catalogues>,
    account: Option<&Account>,
) -> anyhow::Result<(portal::Portal, Option<Bundles>, watch::Sender<Line>)> {
    let (base, problems) = Parts::from_config(config);
    for problem in problems {
        warn!(%problem, "a picture is left out");
    }
    let (bundles, brand) = Bundles::open(config, base, inbox);
    let (uplink, line) = watch::channel(Line::default());
    let site = portal::Portal {
        brand,
        line,
        address: PortalAddress { name: config.portal.name.clone(), port: config.portal.port },
        country: config.code.countries.first().cloned().unwrap_or_default(),
        wechat: ways_by_wechat(config, account)?,
        vouchers: config.voucher.enabled,
        api: None,
        guests: Some(guests),
        texts: Arc::clone(texts),
    };
    Ok((site, bundles, uplink))
}

fn ways_by_wechat(config: &Config, account: Option<&Account>) -> anyhow::Result<wechat::Wechat> {
    let follow = config.follow.account.clone().map(|name| wechat::Follow {
        account: name,
        store_id: config.store.id.clone(),
        zones: config.zone.iter().map(|zone| zone.name.clone()).collect(),
        backend: account.cloned(),
    });
    let wifi = match config.wechat_wifi.clone() {
        Some(wifi) => {
            let clock = Clock::new(config.store.clock);
            Some(wechat::WifiPortal::new(wifi, keys::random()?, clock))
        }
        None => None,
    };
    Ok(wechat::Wechat { follow, wifi })
}
