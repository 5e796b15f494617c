//! What the running daemon tells of itself, put together from its adapters.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tracing::warn;

use super::rules::Rules;
use crate::adapters::account::{self, Account};
use crate::adapters::capture::{Captures, Counts, Tally};
use crate::adapters::control::{self, Notes, Recorder, Services};
use crate::adapters::dns::{self, Forwarder};
use crate::adapters::firewall;
use crate::adapters::http::tls::Standing;
use crate::adapters::http::{self, staff};
use crate::adapters::inbox::Inbox;
use crate::adapters::sms::{self, SmsHandle};
use crate::adapters::store::Store;
use crate::adapters::store::report::{BUCKET_MINUTES, DayReport, Repeat};
use crate::adapters::sync::bundle::Bundles;
use crate::adapters::sync::{Nightly, Schedule, Settings};
use crate::adapters::uplink::Line;
use crate::clock::Clock;
use crate::config::{Config, KeyMaker};
use crate::domain::names::ZoneId;
use crate::wire::evidence::FrameError;

/// What the adapters count.
#[derive(Debug)]
pub(super) struct Counters {
    capture: Tally,
    inbox: Inbox,
    sms: Option<Arc<sms::Counters>>,
    dns: Arc<Forwarder>,
    pub(super) intercept: Arc<http::Counts>,
    pub(super) portal: Arc<http::Counts>,
    pub(super) staff: Arc<http::Counts>,
    pub(super) control: Arc<control::Counters>,
}

impl Counters {
    pub(super) fn new(
        captures: &Captures,
        inbox: &Inbox,
        sms: Option<&SmsHandle>,
        dns: Arc<Forwarder>,
    ) -> Self {
        Self {
            capture: captures.tally(),
            inbox: inbox.clone(),
            sms: sms.map(SmsHandle::counters),
            dns,
            intercept: Arc::default(),
            portal: Arc::default(),
            staff: Arc::default(),
            control: Arc::default(),
        }
    }

    /// How often guests and strangers were answered; wraps.
    pub(super) fn answered(&self) -> u32 {
        let [pages, redirects] =
            [&self.portal, &self.intercept].map(|counts| counts.served.load(Ordering::Relaxed));
        pages.wrapping_add(redirects)
    }
}

/// Today's figures, for the staff page. Without a trusted clock there is no today.
pub(super) fn today(
    config: &Config,
    clock: Clock,
    store: &Store,
) -> anyhow::Result<staff::DaySource> {
    let (store, time_zone) = (store.clone(), config.store.zone()?);
    let visitor_after = config.visit.visitor_after.0;
    Ok(Arc::new(move || {
        let (reader, time_zone) = (store.reader(), time_zone.clone());
        Box::pin(async move {
            let now = clock.now().wall.ok_or(staff::Unavailable)?;
            let read = move || reader.day_report(now, &time_zone, visitor_after);
            match tokio::task::spawn_blocking(read).await {
                Ok(Ok(report)) => Ok(report),
                Ok(Err(problem)) => {
                    warn!(%problem, "today's figures cannot be read");
                    Err(staff::Unavailable)
                }
                Err(problem) => {
                    warn!(%problem, "today's figures cannot be read");
                    Err(staff::Unavailable)
                }
            }
        })
    }))
}

/// What the control socket asks besides the domain: `stats`, `sync` and changes of the rules.
/// Starts the nightly run.
pub(super) fn control(
    config: &Config,
    clock: Clock,
    store: &Store,
    counters: &Arc<Counters>,
    rules: &Arc<Rules>,
    More { account, bundles, notes, record }: More,
) -> anyhow::Result<Services> {
    let today = today(config, clock, store)?;
    let zones: Vec<String> = config.zone.iter().map(|zone| zone.name.clone()).collect();
    let (names, counted, kept) = (zones.clone(), Arc::clone(counters), store.clone());
    let stats = control::service(move || {
        let report = today();
        let (names, counted, kept) = (names.clone(), Arc::clone(&counted), kept.clone());
        async move { Ok(figures(report.await.ok().as_ref(), &names, &counted, &kept)) }
    });
    let nightly = nightly(config, clock, store, bundles, &counters.inbox)?.map(Arc::new);
    let sync = control::service(move || {
        let (nightly, account) = (nightly.clone(), account.clone());
        async move { sync_now(nightly.as_deref(), account.as_ref()).await }
    });
    let kept = store.clone();
    let flush = control::service(move || {
        let kept = kept.clone();
        async move {
            let flushed = tokio::task::spawn_blocking(move || kept.flush()).await;
            flushed.map_err(|gone| gone.to_string())?.map_err(|problem| problem.to_string())?;
            Ok(Value::Null)
        }
    });
    let change = rules.changer();
    let counters = Arc::clone(&counters.control);
    Ok(Services { zones, notes, stats, sync, flush, change, record, counters })
}

/// What not every store has.
pub(super) struct More {
    pub(super) account: Option<Account>,
    pub(super) bundles: Option<Bundles>,
    pub(super) notes: Notes,
    pub(super) record: Recorder,
}

/// The thread that asks the account's backend, if the store has one.
pub(super) fn account(
    config: &Config,
    store: &Store,
    inbox: &Inbox,
) -> anyhow::Result<Option<Account>> {
    let settings = account::Settings::from_config(&config.follow, &config.store.id);
    let start = |settings| Account::start(settings, store.clone(), inbox.clone());
    Ok(settings.map(start).transpose()?)
}

/// To HQ what it has not got, and from the account's backend whom to forget.
async fn sync_now(nightly: Option<&Nightly>, account: Option<&Account>) -> Result<Value, String> {
    if nightly.is_none() && account.is_none() {
        return Err("there is neither [hq] nor follow.url to talk to".into());
    }
    let mut done = Map::new();
    if let Some(nightly) = nightly {
        let summary = nightly.now().await.map_err(|problem| problem.to_string())?;
        if let Ok(Value::Object(summary)) = serde_json::to_value(summary) {
            done.extend(summary);
        }
    }
    if let Some(account) = account {
        let forgotten = account.forget().await.map_err(|problem| problem.to_string())?;
        done.insert("forgotten".into(), forgotten.into());
    }
    Ok(done.into())
}

/// What `status` says of the line, the certificate, the providers of messages, and the flow tables
/// by which packets may go past the limits.
pub(super) fn notes(
    line: watch::Receiver<Line>,
    certificate: Option<watch::Receiver<Standing>>,
    counters: Arc<Counters>,
) -> Notes {
    Box::new(move || {
        let up = *line.borrow() == Line::Up;
        let mut notes = vec![("line", if up { "up" } else { "down" }.into())];
        let said = certificate.as_ref().map(|now| now.borrow().to_string().into());
        notes.extend(said.map(|said| ("certificate", said)));
        notes.extend(counters.sms.as_deref().map(|sms| ("sms", messages(sms))));
        let offload = firewall::flow_tables().unwrap_or_default();
        notes.extend((!offload.is_empty()).then(|| ("flow_offload", offload.join(", ").into())));
        notes
    })
}

fn nightly(
    config: &Config,
    clock: Clock,
    store: &Store,
    bundles: Option<Bundles>,
    inbox: &Inbox,
) -> anyhow::Result<Option<Nightly>> {
    let Some(hq) = &config.hq else { return Ok(None) };
    let schedule = Schedule { at: hq.at, jitter: hq.jitter.0, tz: config.store.zone()? };
    let guests = (config.store.key == KeyMaker::Hq).then(|| inbox.clone());
    let settings = Settings::new(hq, &config.store.id, guests);
    Ok(Some(Nightly::start(store.clone(), settings, bundles, schedule, clock)?))
}

fn figures(
    report: Option<&DayReport>,
    zones: &[String],
    counters: &Counters,
    store: &Store,
) -> Value {
    let written = store.counts();
    json!({
        "today": report.map(day),
        "capture": capture(zones, &counters.capture),
        "inbox": { "dropped": counters.inbox.dropped() },
        "intercept": listener(&counters.intercept),
        "portal": listener(&counters.portal),
        "staff": listener(&counters.staff),
        "dns": names(counters.dns.counts()),
        "control": {
            "answered": count(&counters.control.answered),
            "malformed": count(&counters.control.malformed),
            "strangers": count(&counters.control.strangers),
        },
        "sms": counters.sms.as_deref().map(messages),
        "store": {
            "groups": written.groups,
            "settled": written.settled,
            "failures": written.failures,
            "lost": written.lost,
        },
    })
}

fn day(report: &DayReport) -> Value {
    let seconds = |length: Option<Duration>| length.map(|length| length.as_secs());
    json!({
        "present": report.present.len(),
        "visits": report.visits,
        "visitors": report.visitors,
        "median_seconds": seconds(report.median),
        "mean_seconds": seconds(report.mean),
        "bucket_minutes": BUCKET_MINUTES,
        "buckets": report.buckets,
        "guests": repeat(report.guests),
        "devices": repeat(report.devices),
        "randomised_percent": report.randomised_percent,
        "by_hour": report.by_hour,
    })
}

fn repeat(repeat: Repeat) -> Value {
    json!({ "all": repeat.all, "again": repeat.again })
}

/// What was heard in each zone.
fn capture(zones: &[String], tally: &Tally) -> Value {
    let zone = |(ZoneId(zone), heard): (ZoneId, Counts)| {
        let refused = FrameError::ALL.map(|kind| (kind.as_str(), heard.refused[kind.place()]));
        let name = zones.get(usize::from(zone))?.clone();
        let heard = json!({
            "frames": heard.frames,
            "refused": BTreeMap::from(refused),
            "paced": heard.paced,
            "lost": heard.lost,
        });
        Some((name, heard))
    };
    tally.counts().filter_map(zone).collect::<Map<_, _>>().into()
}

fn messages(counters: &sms::Counters) -> Value {
    let millis = |length: Duration| u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    let provider = |tally: sms::Tally| {
        let mean = tally.total.checked_div(tally.taken);
        json!({
            "provider": tally.provider,
            "taken": tally.taken,
            "failed": tally.failed,
            "mean_ms": mean.map(millis),
            "resting": tally.resting,
            "slowest_ms": mean.map(|_| millis(tally.slowest)),
        })
    };
    json!({
        "taken": count(&counters.taken),
        "failed": count(&counters.failed),
        "refused": count(&counters.refused),
        "providers": counters.tallies().into_iter().map(provider).collect::<Vec<_>>(),
    })
}

fn names(counts: dns::Counts) -> Value {
    json!({
        "questions": counts.questions,
        "malformed": counts.malformed,
        "forwarded": counts.forwarded,
        "joined": counts.joined,
        "cached": counts.cached,
        "refused": counts.refused,
        "over_budget": counts.over_budget,
        "overloaded": counts.overloaded,
        "unanswered": counts.unanswered,
        "mismatched": counts.mismatched,
        "placeholders": counts.placeholders,
        "not_learned": counts.not_learned,
    })
}

fn listener(counts: &http::Counts) -> Value {
    json!({
        "served": count(&counts.served),
        "malformed": count(&counts.malformed),
        "refused": count(&counts.refused),
        "late": count(&counts.late),
    })
}

fn count(counter: &AtomicU32) -> u32 {
    counter.load(Ordering::Relaxed)
}
