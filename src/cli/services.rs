//! What the running daemon tells of itself, put together from its adapters.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tracing::warn;

use super::rules::Rules;
use crate::adapters::control::{self, Services};
use crate::adapters::http::{Counts, staff};
use crate::adapters::store::Store;
use crate::adapters::store::report::{BUCKET_MINUTES, DayReport, Repeat};
use crate::adapters::sync::{Nightly, Schedule, Settings};
use crate::clock::Clock;
use crate::config::Config;

/// What came to each listener.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) intercept: Arc<Counts>,
    pub(super) portal: Arc<Counts>,
    pub(super) staff: Arc<Counts>,
    pub(super) control: Arc<control::Counters>,
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
) -> anyhow::Result<Services> {
    let today = today(config, clock, store)?;
    let (counted, kept) = (Arc::clone(counters), store.clone());
    let stats = control::service(move || {
        let (report, counted, kept) = (today(), Arc::clone(&counted), kept.clone());
        async move { Ok(figures(report.await.ok().as_ref(), &counted, &kept)) }
    });
    let nightly = nightly(config, clock, store)?.map(Arc::new);
    let sync = control::service(move || {
        let nightly = nightly.clone();
        async move {
            let Some(nightly) = nightly else { return Err("there is no [hq] to send to".into()) };
            let summary = nightly.now().await.map_err(|problem| problem.to_string())?;
            serde_json::to_value(summary).map_err(|problem| problem.to_string())
        }
    });
    Ok(Services {
        zones: config.zone.iter().map(|zone| zone.name.clone()).collect(),
        stats,
        sync,
        change: rules.changer(),
        counters: Arc::clone(&counters.control),
    })
}

fn nightly(config: &Config, clock: Clock, store: &Store) -> anyhow::Result<Option<Nightly>> {
    let Some(hq) = &config.hq else { return Ok(None) };
    let schedule = Schedule { at: hq.at, jitter: hq.jitter.0, tz: config.store.zone()? };
    let settings = Settings::new(hq, &config.store.id);
    Ok(Some(Nightly::start(store.clone(), settings, schedule, clock)?))
}

fn figures(report: Option<&DayReport>, counters: &Counters, store: &Store) -> Value {
    let written = store.counts();
    json!({
        "today": report.map(day),
        "intercept": listener(&counters.intercept),
        "portal": listener(&counters.portal),
        "staff": listener(&counters.staff),
        "control": {
            "answered": count(&counters.control.answered),
            "malformed": count(&counters.control.malformed),
            "strangers": count(&counters.control.strangers),
        },
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

fn listener(counts: &Counts) -> Value {
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
