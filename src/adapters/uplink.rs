//! Whether the internet is there: the route and its carrier every few seconds, at no cost; a
//! phone's own connectivity check now and then, as a line may be dead behind a good carrier.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{info, warn};

use super::client::{self, ClientError};
use super::memory;
use crate::domain::probe::{Answer, CHECKS, Check, System, Verdict};

/// How often route and carrier are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often the checks are made while the line is up, and while it is not, in looks.
const CHECK_WHILE_UP: u32 = 60;
const CHECK_WHILE_DOWN: u32 = 5;
/// Checks that fail in a row before the line is called down: one may be lost.
const FAILURES: u32 = 2;
/// Time for one check.
const PATIENCE: Duration = Duration::from_secs(4);
/// As much of an answer as a check looks at.
const BODY: u64 = 4096;
const ROUTES: [&str; 2] = ["/proc/net/route", "/proc/net/ipv6_route"];

/// A route that only refuses (`RTF_REJECT`).
const REJECT: u32 = 0x0200;

/// The line to the internet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Line {
    /// It works, or nothing says otherwise yet.
    #[default]
    Up,
    /// Guests cannot get through, however they are granted.
    Down,
}

/// What a look at the internet found.
#[derive(Debug)]
pub enum Internet {
    /// It answers as itself.
    There,
    /// Something else answers in the place of this address.
    Captive(String),
    /// Nothing answers; the last address asked, and why.
    Silent(String, UplinkError),
}

/// Why a check got no answer.
#[derive(Debug, thiserror::Error)]
pub enum UplinkError {
    /// There is no client.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// No name, no connection, no answer.
    #[error(transparent)]
    Http(Box<ureq::Error>),
}

/// Keeps `line` true until `stop` turns true: by route and carrier, and by checks if `check`.
pub async fn follow(line: watch::Sender<Line>, check: bool, mut stop: watch::Receiver<bool>) {
    let mut failures = 0;
    // The first check comes when the start is over.
    let mut until_check = CHECK_WHILE_DOWN;
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = memory::beat(LOOK_EVERY) => {}
        }
        let down = *line.borrow() == Line::Down;
        if !has_default_route() {
            set(&line, Line::Down);
            // Asked again as soon as there is a route.
            (failures, until_check) = (FAILURES, 1);
            continue;
        }
        if !check {
            set(&line, Line::Up);
            continue;
        }
        until_check = until_check.saturating_sub(1);
        if until_check > 0 {
            continue;
        }
        let Ok(found) = tokio::task::spawn_blocking(look).await else { return };
        failures = if matches!(found, Internet::There) { 0 } else { failures + 1 };
        until_check = match failures {
            0 => CHECK_WHILE_UP,
            _ if down => CHECK_WHILE_DOWN,
            _ => 1,
        };
        if failures == 0 {
            set(&line, Line::Up);
        } else if failures >= FAILURES {
            set(&line, Line::Down);
        }
    }
}

/// Asks as a few well-known systems do; one that gets its own answer is enough. Blocks.
pub fn look() -> Internet {
    let known = [System::AndroidChina, System::Apple, System::Windows];
    let checks =
        known.iter().filter_map(|system| CHECKS.iter().find(|check| check.system == *system));
    let mut silent = Internet::There;
    for check in checks {
        match ask(check) {
            Ok(Verdict::Online) => return Internet::There,
            Ok(Verdict::Portal | Verdict::Failure) => return Internet::Captive(check.url()),
            Err(problem) => silent = Internet::Silent(check.url(), problem),
        }
    }
    silent
}

fn ask(check: &Check) -> Result<Verdict, UplinkError> {
    let url = check.url();
    let reply = client::agent(&url, None, PATIENCE)?.get(&url).call();
    let mut reply = reply.map_err(|error| UplinkError::Http(Box::new(error)))?;
    let length = reply.headers().get("content-length");
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    let status = reply.status().as_u16();
    let body = reply.body_mut().with_config().limit(BODY).read_to_string().unwrap_or_default();
    Ok(check.judge(Answer { status, length, body: &body }))
}

fn set(line: &watch::Sender<Line>, now: Line) {
    let changed = line.send_if_modified(|line| std::mem::replace(line, now) != now);
    match now {
        _ if !changed => {}
        Line::Up => info!("the line to the internet is up"),
        Line::Down => warn!("the line to the internet is down: the pages say so"),
    }
}

/// Whether a default route of either family leaves by an interface with a carrier. True also where
/// the kernel does not tell.
pub fn has_default_route() -> bool {
    let routes = ROUTES.map(|file| fs::read_to_string(file).ok());
    if routes.iter().all(Option::is_none) {
        return true;
    }
    let [v4, v6] = routes.map(Option::unwrap_or_default);
    default_routes(&v4, &v6).any(|interface| {
        let carrier = Path::new("/sys/class/net").join(interface).join("carrier");
        match fs::read_to_string(carrier) {
            Ok(carrier) => carrier.trim() == "1",
            // A sysfs of another network namespace: the route knows the interface, it does not.
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    })
}

/// The interfaces of default routes in the kernel's tables (`proc(5)`). `/proc/net/route` has the
/// destination second, the flags fourth and the mask eighth; `/proc/net/ipv6_route` the
/// destination first, its length second, then at the end the flags and the interface.
fn default_routes<'a>(v4: &'a str, v6: &'a str) -> impl Iterator<Item = &'a str> {
    let v4 = v4.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let zero = |place: usize| words.get(place) == Some(&"00000000");
        let leads = zero(1) && zero(7) && words.get(3).is_some_and(|flags| !rejects(flags));
        words.first().copied().filter(|_| leads)
    });
    let v6 = v6.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [destination, "00", .., flags, interface] = words[..] else { return None };
        let all = destination.bytes().all(|digit| digit == b'0');
        (all && interface != "lo" && !rejects(flags)).then_some(interface)
    });
    v4.chain(v6)
}

fn rejects(flags: &str) -> bool {
    u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & REJECT != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_routes_are_read_from_the_kernels_tables() {
        let v4 = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                  wan\t00000000\t016433C6\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                  *\t00000000\t00000000\t0200\t0\t0\t0\t00000000\t0\t0\t0\n\
                  br-guest\t00004D0A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        let zeroes = "0".repeat(32);
        let v6 = format!(
            "{zeroes} 00 {zeroes} 00 20010db8010000000000000000000001 00000400 00000001 00000000 00000003    pppoe\n\
             {zeroes} 00 {zeroes} 00 {zeroes} ffffffff 00000001 00000000 00200200       lo\n\
             20010db8007700000000000000000000 40 {zeroes} 00 {zeroes} 00000100 00000001 00000000 00000001 br-guest\n"
        );
        assert_eq!(default_routes(v4, &v6).collect::<Vec<_>>(), ["wan", "pppoe"]);
        assert_eq!(default_routes("Iface\n", "").count(), 0);
    }
}
