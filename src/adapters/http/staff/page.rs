//! The staff page, from one day's report.

use std::time::Duration;

use askama::Template;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::adapters::http::catalogue::{Catalogue, fill};
use crate::adapters::http::pages::Frame;
use crate::adapters::http::tls::{Standing, date};
use crate::adapters::store::report::{BUCKET_MINUTES, DayReport, Repeat};
use crate::config::Visit;
use crate::domain::names::WallTime;

/// Devices listed; a mall has thousands, and nobody reads on.
const LISTED: usize = 200;

/// A day, and what is needed to read it.
pub(super) struct Day<'a> {
    pub(super) report: &'a DayReport,
    /// The time of the page, if the clock is trusted.
    pub(super) wall: Option<WallTime>,
    pub(super) time_zone: &'a TimeZone,
    pub(super) visit: &'a Visit,
    pub(super) certificate: Option<Standing>,
}

/// The page that asks for the password.
pub(super) fn login(frame: &Frame, error: Option<String>) -> askama::Result<String> {
    LoginPage { frame, error }.render()
}

/// The page of a record that cannot be read just now.
pub(super) fn unavailable(frame: &Frame) -> askama::Result<String> {
    UnavailablePage { frame }.render()
}

/// The page of the day.
pub(super) fn today(frame: &Frame, day: &Day) -> askama::Result<String> {
    let (text, report) = (frame.text, day.report);
    let share = |repeat: Repeat| {
        let (again, all) = (repeat.again.to_string(), repeat.all.to_string());
        fill(&text.staff.repeat_value, &[("again", &again), ("all", &all)])
    };
    let length = |length: Option<Duration>| {
        length.map_or_else(|| text.staff.none.clone(), |length| text.length(length))
    };
    let more = report.present.len().saturating_sub(LISTED);
    TodayPage {
        frame,
        updated: day
            .wall
            .map(|wall| fill(&text.staff.updated, &[("time", &time_of_day(wall, day.time_zone))])),
        now_here: report.present.len(),
        visits: report.visits,
        visitors: report.visitors,
        visitors_label: fill(
            &text.staff.visitors,
            &[("visitor_after", &text.length(day.visit.visitor_after.0))],
        ),
        median: length(report.median),
        mean: length(report.mean),
        present: present(text, day),
        more: (more > 0).then(|| fill(&text.staff.more, &[("count", &more.to_string())])),
        buckets: buckets(text, report),
        guests: share(report.guests),
        devices: share(report.devices),
        alarm: report.alarm,
        warning: day.certificate.as_ref().and_then(|standing| certificate(text, standing)),
        // A figure of zero needs no warning.
        randomised: report
            .randomised_percent
            .filter(|percent| *percent > 0)
            .map(|percent| fill(&text.staff.randomised, &[("percent", &percent.to_string())])),
        chart: Chart::new(text, report.by_hour),
        method: fill(
            &text.staff.method,
            &[
                ("leave_after", &text.length(day.visit.leave_after.0)),
                ("merge_gap", &text.length(day.visit.merge_gap.0)),
                ("visitor_after", &text.length(day.visit.visitor_after.0)),
            ],
        ),
    }
    .render()
}

/// What staff should tell whoever looks after the router.
fn certificate(text: &Catalogue, standing: &Standing) -> Option<String> {
    match standing {
        Standing::Good => None,
        Standing::Expires(at) => Some(fill(&text.staff.certificate_ends, &[("date", &date(*at))])),
        Standing::Bad(problem) => Some(fill(&text.staff.certificate_bad, &[("problem", problem)])),
    }
}

struct Row {
    name: Option<String>,
    mac: String,
    guest: Option<String>,
    since: Option<String>,
    dwell: String,
    visits: u32,
}

fn present(text: &Catalogue, day: &Day) -> Vec<Row> {
    let rows = day.report.present.iter().take(LISTED);
    rows.map(|present| Row {
        name: present.hostname.clone(),
        mac: present.mac.to_string(),
        guest: present.mask.clone(),
        since: present.since.map(|since| time_of_day(since, day.time_zone)),
        dwell: text.length(present.dwell),
        visits: present.visits,
    })
    .collect()
}

struct Bucket {
    label: String,
    count: u32,
    percent: u64,
}

fn buckets(text: &Catalogue, report: &DayReport) -> Vec<Bucket> {
    let all: u64 = report.buckets.iter().copied().map(u64::from).sum();
    let bound = |place: usize| {
        BUCKET_MINUTES.get(place).map(|minutes| short(text, Duration::from_secs(minutes * 60)))
    };
    let rows = report.buckets.iter().enumerate();
    rows.map(|(place, &count)| Bucket {
        label: match (place.checked_sub(1).and_then(bound), bound(place)) {
            (Some(from), Some(to)) => fill(&text.staff.between, &[("from", &from), ("to", &to)]),
            (None, Some(to)) => fill(&text.staff.under, &[("to", &to)]),
            (from, None) => fill(&text.staff.over, &[("from", &from.unwrap_or_default())]),
        },
        count,
        percent: (u64::from(count) * 100).checked_div(all).unwrap_or(0),
    })
    .collect()
}

/// A bound in its largest whole unit.
fn short(text: &Catalogue, length: Duration) -> String {
    match length.as_secs() / 60 {
        minutes if minutes % 60 == 0 => {
            fill(&text.units.whole_hours, &[("hours", &(minutes / 60).to_string())])
        }
        minutes => fill(&text.units.minutes, &[("minutes", &minutes.to_string())]),
    }
}

fn time_of_day(at: WallTime, zone: &TimeZone) -> String {
    Timestamp::from_millisecond(at.0).map_or_else(
        |_| String::new(),
        |at| at.to_zoned(zone.clone()).strftime("%H:%M").to_string(),
    )
}

/// The bars of a day, in a drawing of 480 by 150.
struct Chart {
    bars: Vec<Bar>,
    description: String,
}

struct Bar {
    hour: usize,
    count: u32,
    x: usize,
    y: u32,
    height: u32,
}

impl Chart {
    /// Height of the highest bar, and the place of the base line.
    const HEIGHT: u32 = 110;
    const BASE: u32 = 126;

    fn new(text: &Catalogue, by_hour: [u32; 24]) -> Self {
        let most = by_hour.iter().copied().max().unwrap_or(0);
        let busiest = by_hour.iter().position(|count| *count == most).unwrap_or(0);
        let bars = by_hour.iter().enumerate().map(|(hour, &count)| {
            let scaled = u64::from(count) * u64::from(Self::HEIGHT);
            let height = scaled.div_ceil(u64::from(most.max(1)));
            let height = u32::try_from(height).unwrap_or(Self::HEIGHT);
            Bar { hour, count, x: hour * 20 + 3, y: Self::BASE - height, height }
        });
        let values = [("hour", &*busiest.to_string()), ("most", &most.to_string())];
        Self { bars: bars.collect(), description: fill(&text.staff.chart_description, &values) }
    }
}

#[derive(Template)]
#[template(path = "staff/login.html")]
struct LoginPage<'a> {
    frame: &'a Frame<'a>,
    error: Option<String>,
}

#[derive(Template)]
#[template(path = "staff/unavailable.html")]
struct UnavailablePage<'a> {
    frame: &'a Frame<'a>,
}

#[derive(Template)]
#[template(path = "staff/today.html")]
struct TodayPage<'a> {
    frame: &'a Frame<'a>,
    updated: Option<String>,
    /// Messages may be pumped.
    alarm: bool,
    now_here: usize,
    visits: u32,
    visitors: u32,
    visitors_label: String,
    median: String,
    mean: String,
    present: Vec<Row>,
    more: Option<String>,
    buckets: Vec<Bucket>,
    guests: String,
    devices: String,
    randomised: Option<String>,
    warning: Option<String>,
    chart: Chart,
    method: String,
}
