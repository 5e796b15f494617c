//! What the running daemon goes by: its configuration, read again when asked, and the lists that
//! the command line keeps beside it.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Mutex;
use tracing::{info, warn};

use crate::adapters::control::{Change, Changer, List};
use crate::adapters::inbox::Inbox;
use crate::adapters::lists;
use crate::config::{Config, Lists};
use crate::domain::effect::{Answer, Report};
use crate::domain::event::Event;
use crate::domain::names::Mac;
use crate::domain::policy::Policy;

/// Changes the rules, one change at a time.
pub(super) struct Rules {
    path: PathBuf,
    inbox: Inbox,
    state: Mutex<State>,
}

/// What holds now.
#[derive(Clone)]
pub(super) struct State {
    config: Config,
    /// On top of the configuration's.
    lists: Lists,
}

impl State {
    /// The configuration's rules and the lists of its state folder.
    pub(super) fn load(config: &Config) -> Result<Self, lists::ListsError> {
        let lists = lists::read(&config.store.state_dir)?;
        Ok(Self { config: config.clone(), lists })
    }

    /// All of it as the domain takes it.
    pub(super) fn policy(&self) -> Policy {
        let mut policy = self.config.policy();
        policy.trusted_macs.extend(&self.lists.trusted_macs);
        policy.blocked_macs.extend(&self.lists.blocked_macs);
        policy.preemptive_macs.extend(&self.lists.preemptive_macs);
        policy
    }
}

impl Rules {
    /// Rules that came from the file at `path` and are changed by events in `inbox`.
    pub(super) fn new(path: PathBuf, inbox: Inbox, state: State) -> Self {
        Self { path, inbox, state: Mutex::new(state) }
    }

    /// For the control socket.
    pub(super) fn changer(self: &Arc<Self>) -> Changer {
        let rules = Arc::clone(self);
        Box::new(move |change| {
            let rules = Arc::clone(&rules);
            Box::pin(async move {
                match change {
                    Change::Reload => rules.reload().await,
                    Change::List(list, mac, remove) => rules.list(list, mac, remove).await,
                }
            })
        })
    }

    /// Reads the file again. One that cannot be used changes nothing. The answer names what waits
    /// for a restart.
    pub(super) async fn reload(&self) -> Result<Value, String> {
        let mut state = self.state.lock().await;
        let path = self.path.clone();
        let loaded = blocking(move || Config::load(&path)).await.inspect_err(|error| {
            warn!(%error, "the configuration cannot be used: the old one stays");
        })?;
        let mut next = state.clone();
        let waits = next.config.take_over(loaded);
        self.tell(&next).await?;
        *state = next;
        info!(?waits, "read the configuration again");
        Ok(json!({ "needs_restart": waits }))
    }

    /// Puts a device on a list or takes it off, on disk first.
    async fn list(&self, list: List, mac: Mac, remove: bool) -> Result<Value, String> {
        if !mac.is_station() {
            return Err(format!("{mac} is a group address, not a device's"));
        }
        let mut state = self.state.lock().await;
        let mut next = state.clone();
        edit(&state.config.lists, &mut next.lists, (list, mac, remove))?;
        let (folder, lists) = (next.config.store.state_dir.clone(), next.lists.clone());
        blocking(move || lists::write(&folder, &lists)).await?;
        self.tell(&next).await?;
        *state = next;
        Ok(json!("done"))
    }

    async fn tell(&self, state: &State) -> Result<(), String> {
        let policy = Box::new(state.policy());
        match self.inbox.ask(|request| Event::Reload { request, policy }).await {
            Ok(Answer::Control(Report::Done)) => Ok(()),
            Ok(Answer::Control(Report::Refused(reason))) => Err(reason),
            Ok(_) => Err("the gateway gave another question's answer".into()),
            Err(busy) => Err(busy.to_string()),
        }
    }
}

/// Changes the kept lists; `fixed` are the configuration's, which only its owner changes.
fn edit(
    fixed: &Lists,
    kept: &mut Lists,
    (list, mac, remove): (List, Mac, bool),
) -> Result<(), String> {
    let (wanted, other) = match list {
        List::Trusted => {
            (("trusted_macs", &fixed.trusted_macs), ("blocked_macs", &fixed.blocked_macs))
        }
        List::Blocked => {
            (("blocked_macs", &fixed.blocked_macs), ("trusted_macs", &fixed.trusted_macs))
        }
    };
    let refused = [(remove, wanted), (!remove, other)];
    if let Some((_, (name, _))) =
        refused.iter().find(|(not, (_, macs))| *not && macs.contains(&mac))
    {
        return Err(format!("{mac} is in the configuration's {name}: change it there, and reload"));
    }
    let (wanted, other) = match list {
        List::Trusted => (&mut kept.trusted_macs, &mut kept.blocked_macs),
        List::Blocked => (&mut kept.blocked_macs, &mut kept.trusted_macs),
    };
    if remove {
        return if wanted.remove(&mac) { Ok(()) } else { Err(format!("{mac} is not on the list")) };
    }
    wanted.insert(mac);
    other.remove(&mac);
    Ok(())
}

async fn blocking<T: Send + 'static, E: ToString + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, String> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}
