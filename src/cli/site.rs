//! The guests' pages as they are served over HTTP, and what lies behind them.

use std::sync::Arc;

use tokio::sync::watch;
use tracing::warn;

use crate::adapters::account::{self, Account};
use crate::adapters::http::brand::Parts;
use crate::adapters::http::catalogue::Catalogues;
use crate::adapters::http::wechat::{Follow, Wechat, WifiPortal};
use crate::adapters::http::{PortalAddress, portal};
use crate::adapters::inbox::Inbox;
use crate::adapters::keys;
use crate::adapters::store::Store;
use crate::adapters::sync::bundle::Bundles;
use crate::adapters::uplink::Line;
use crate::clock::Clock;
use crate::config::Config;

/// The portal and its sources.
pub(super) struct Site {
    pub(super) portal: portal::Portal,
    /// What changes its looks.
    pub(super) bundles: Option<Bundles>,
    /// What it says of the line.
    pub(super) uplink: watch::Sender<Line>,
    /// Who asks the account's backend, if the store has one.
    pub(super) account: Option<Account>,
}

impl Site {
    /// As configured; starts the thread that asks the account's backend.
    pub(super) fn open(
        config: &Config,
        texts: &Arc<Catalogues>,
        store: &Store,
        inbox: &Inbox,
    ) -> anyhow::Result<Self> {
        let (base, problems) = Parts::from_config(config);
        for problem in problems {
            warn!(%problem, "a picture is left out");
        }
        let (bundles, brand) = Bundles::open(config, base);
        let (uplink, line) = watch::channel(Line::default());
        let backend = account::Settings::from_config(&config.follow, &config.store.id);
        let start = |backend| Account::start(backend, store.clone(), inbox.clone());
        let account = backend.map(start).transpose()?;
        let portal = portal::Portal {
            brand,
            line,
            address: PortalAddress { name: config.portal.name.clone(), port: config.portal.port },
            country: config.code.countries.first().cloned().unwrap_or_default(),
            wechat: wechat(config, account.clone())?,
            api: None,
            texts: Arc::clone(texts),
        };
        Ok(Self { portal, bundles, uplink, account })
    }
}

fn wechat(config: &Config, backend: Option<Account>) -> anyhow::Result<Wechat> {
    let follow = config.follow.account.clone().map(|account| Follow {
        account,
        store_id: config.store.id.clone(),
        zones: config.zone.iter().map(|zone| zone.name.clone()).collect(),
        backend,
    });
    let wifi = match config.wechat_wifi.clone() {
        Some(wifi) => Some(WifiPortal::new(wifi, keys::random()?, Clock::new(config.store.clock))),
        None => None,
    };
    Ok(Wechat { follow, wifi })
}
