//! The pages in the running daemon: their ports, and what serves them.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{error, warn};

use super::services::{self, Counters};
use crate::adapters::advertise::{self, Advertiser};
use crate::adapters::dnsmasq::Announcement;
use crate::adapters::http::api::Api;
use crate::adapters::http::{self, PortalAddress, intercept, portal, staff, tls};
use crate::adapters::inbox::Inbox;
use crate::adapters::neighbours::Links;
use crate::adapters::store::Store;
use crate::clock::Clock;
use crate::config::Config;

/// How the certificate stands, if there is one.
pub(super) type Certificate = Option<watch::Receiver<tls::Standing>>;

/// All pages, whose ports are bound: who comes before a page is served waits for it.
pub(super) struct Pages<'a> {
    tasks: JoinSet<()>,
    config: &'a Config,
    inbox: Inbox,
    counters: Arc<Counters>,
    links: watch::Receiver<Links>,
    closed: watch::Receiver<bool>,
    portal: http::ZoneListeners,
    secure: Option<(tls::Files, http::ZoneListeners)>,
    office: Option<http::StaffListener>,
}

impl<'a> Pages<'a> {
    /// Binds every port, and redirects whoever is not online from the moment when `open` is true.
    pub(super) fn bind(
        config: &'a Config,
        inbox: &Inbox,
        counters: &Arc<Counters>,
        links: &watch::Receiver<Links>,
        closed: &watch::Receiver<bool>,
        open: watch::Receiver<bool>,
    ) -> Result<Self, http::HttpError> {
        let bind = |port| http::bind_zones(&config.zone, port);
        let ports = &config.portal;
        let intercepted = bind(ports.intercept_port)?.follow(links);
        let portal = bind(ports.port)?.follow(links);
        let secure = match tls::Files::from_config(ports) {
            Some(files) => Some((files, bind(ports.tls_port)?)),
            None => None,
        };
        let staff = config.staff.as_ref();
        let office = staff.map(|staff| http::bind_staff(staff.listen)).transpose()?;
        let (inbox, counters, closed) = (inbox.clone(), Arc::clone(counters), closed.clone());
        let address = PortalAddress { name: ports.name.clone(), port: ports.port };
        let counts = Arc::clone(&counters.intercept);
        let redirect =
            intercept::run_intercept(intercepted, address, inbox.clone(), counts, closed.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(once(open, redirect));
        let links = links.clone();
        Ok(Self { tasks, config, inbox, counters, links, closed, portal, secure, office })
    }

    /// Serves the portal and the staff page; what serves comes back, with how the certificate stands.
    pub(super) fn serve(
        mut self,
        site: &portal::Portal,
        store: &Store,
    ) -> anyhow::Result<(JoinSet<()>, Certificate)> {
        let (config, clock) = (self.config, Clock::new(self.config.store.clock));
        let certificate = match self.secure.take() {
            Some((files, asked)) => Some(self.serve_secure(files, asked, site, clock)?),
            None => None,
        };
        let Self { mut tasks, inbox, counters, links, closed, portal: asked, .. } = self;
        if let Err(error) = advertise::forget_leftovers() {
            warn!(%error, "cannot look for addresses that a killed daemon has left");
        }
        if let Some((advertiser, standing)) =
            Advertiser::from_config(config).zip(certificate.clone())
        {
            tasks.spawn(advertiser.run(links, standing, closed.clone()));
        }
        let counts = Arc::clone(&counters.portal);
        let pages = portal::run_portal(asked, None, site.clone(), inbox, counts, closed.clone());
        tasks.spawn(served(pages));
        if let (Some(listener), Some(staff)) = (self.office, &config.staff) {
            let page = staff::Staff {
                store: config.store.name.clone(),
                password_hash: staff.password_hash.clone(),
                session: staff.session.0,
                time_zone: config.store.zone()?,
                visit: config.visit.clone(),
                clock,
                texts: Arc::clone(&site.texts),
                today: services::today(config, clock, store)?,
                certificate: certificate.clone(),
            };
            let counts = Arc::clone(&counters.staff);
            tasks.spawn(served(staff::run_staff(listener, page, counts, closed)));
        }
        Ok((tasks, certificate))
    }

    /// The pages over TLS, and the Captive Portal API. A bad certificate keeps nobody from the pages
    /// over HTTP.
    fn serve_secure(
        &mut self,
        files: tls::Files,
        asked: http::ZoneListeners,
        site: &portal::Portal,
        clock: Clock,
    ) -> anyhow::Result<watch::Receiver<tls::Standing>> {
        let keeper = tls::Keeper::new(files, Announcement::from_config(self.config), clock.now());
        let acceptor = keeper.acceptor().context("setting up TLS")?;
        let standing = keeper.standing();
        let site = portal::Portal { api: Api::from_config(&self.config.portal), ..site.clone() };
        let (inbox, counts) = (self.inbox.clone(), Arc::clone(&self.counters.portal));
        let closed = self.closed.clone();
        let pages = portal::run_portal(asked, Some(acceptor), site, inbox, counts, closed);
        self.tasks.spawn(served(pages));
        self.tasks.spawn(keeper.run(clock, self.closed.clone()));
        Ok(standing)
    }
}

/// Serves from the moment when `open` is true.
async fn once(
    mut open: watch::Receiver<bool>,
    page: impl Future<Output = Result<(), http::HttpError>>,
) {
    // An error means that the start has failed.
    if open.wait_for(|open| *open).await.is_ok() {
        served(page).await;
    }
}

async fn served(page: impl Future<Output = Result<(), http::HttpError>>) {
    if let Err(problem) = page.await {
        error!(%problem, "a page is not served");
    }
}
