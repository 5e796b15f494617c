//! One session in the kernel: a few set elements that are added, replaced and removed together.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use super::ruleset::{
    BY_MARK, BY_STATION, DOWN, DOWN_WITHIN, GRANTED, MARKS, Plan, QUOTA, TABLE, UP, UP_WITHIN,
};
use super::socket::{Netfilter, NetfilterError};
use crate::domain::effect::Grant;
use crate::domain::event::{Live, Usage};
use crate::domain::names::{Mac, Mark, SessionId, ZoneId};
use crate::wire::nft::batch::Batch;
use crate::wire::nft::element::Element;
use crate::wire::nft::expr::{Expr, LimitKind};
use crate::wire::nft::keys;

/// The mark on the session's connections.
pub fn mark_bits(plan: &Plan, mark: Mark) -> u32 {
    (u32::from(mark.0) << plan.mark_shift()) & plan.mark_mask
}

/// The elements of a session, with what it has used of its quotas carried over.
pub fn elements(plan: &Plan, grant: &Grant) -> Vec<(&'static str, Element)> {
    let places: Vec<_> =
        plan.interfaces(grant.zone).map(|name| keys::device(name, grant.mac.0)).collect();
    if places.is_empty() {
        return Vec::new();
    }
    let mark = || keys::mark(mark_bits(plan, grant.mark));
    let timeout_ms =
        grant.left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1));
    let live = |key: Vec<u8>| Element { timeout_ms, ..Element::key(key) };
    let user = keys::session_user_data(grant.session.0);
    let limits = &grant.limits;
    let (up, down) = if limits.quota.is_some() { (UP_WITHIN, DOWN_WITHIN) } else { (UP, DOWN) };
    let upload = metered(limits.upload_rate, limits.upload_quota, grant.used_up);
    let download = metered(limits.download_rate, limits.download_quota, grant.used_down);
    // The session's number stands here as well, so that counters are read without the devices.
    let mut all = vec![
        (up, Element { exprs: upload, user: user.clone(), ..live(station(plan, grant)) }),
        (down, Element { exprs: download, ..live(mark()) }),
    ];
    if let Some(bytes) = limits.quota {
        let exprs = vec![quota(bytes, grant.used_up.saturating_add(grant.used_down), true)];
        all.push((QUOTA, Element { exprs, ..live(mark()) }));
    }
    for device in places {
        all.push((MARKS, Element { data: Some(mark()), ..live(device.clone()) }));
        all.push((GRANTED, Element { user: user.clone(), ..live(device) }));
    }
    all
}

/// Adds a session to a batch; the batch fails if the device or the mark has one.
pub fn add(batch: &mut Batch, plan: &Plan, grant: &Grant) {
    for (set, element) in elements(plan, grant) {
        batch.add_elements(set, &[element]);
    }
}

/// Removes what the kernel still holds under a session's devices and mark, whatever its limits
/// were: a time-out may have taken any of it.
pub fn remove(batch: &mut Batch, plan: &Plan, grant: &Grant) {
    for name in plan.interfaces(grant.zone) {
        let device = Element::key(keys::device(name, grant.mac.0));
        for set in [GRANTED, MARKS] {
            batch.destroy_elements(set, std::slice::from_ref(&device));
        }
    }
    let station = Element::key(station(plan, grant));
    for set in BY_STATION {
        batch.destroy_elements(set, std::slice::from_ref(&station));
    }
    let mark = Element::key(keys::mark(mark_bits(plan, grant.mark)));
    for set in BY_MARK {
        batch.destroy_elements(set, std::slice::from_ref(&mark));
    }
}

/// What the kernel holds of all sessions; `None` if one stands in other zones than the plan says:
/// a zone that roams no more, or does now.
pub fn adoptable(kernel: &mut Netfilter, plan: &Plan) -> Result<Option<Vec<Live>>, NetfilterError> {
    let down = counters(kernel, [DOWN, DOWN_WITHIN])?;
    let meters: HashMap<_, _> = meters(kernel)?.into_iter().map(|m| (m.session, m)).collect();
    let mut all = BTreeMap::<SessionId, (Live, usize)>::new();
    for (session, mac, zone, left) in places(kernel, plan)? {
        let Some(meter) = meters.get(&session) else { continue };
        let live = || Live {
            session,
            zone,
            mac,
            mark: Mark(u16::try_from(meter.mark >> plan.mark_shift()).unwrap_or_default()),
            left,
            up: meter.up,
            down: down.get(&meter.mark).copied().unwrap_or_default(),
        };
        all.entry(session).or_insert_with(|| (live(), 0)).1 += 1;
    }
    let whole = |(live, places): &(Live, usize)| plan.interfaces(live.zone).count() == *places;
    Ok(all.values().all(whole).then(|| all.into_values().map(|(live, _)| live).collect()))
}

type Place = (SessionId, Mac, ZoneId, Option<Duration>);

/// Where each session's device is let in, and for how long.
fn places(kernel: &mut Netfilter, plan: &Plan) -> Result<Vec<Place>, NetfilterError> {
    kernel.fold_elements(TABLE, GRANTED, |found: &mut Vec<_>, element| {
        let session = keys::parse_session(&element.user);
        let Some((session, (interface, mac))) = session.zip(keys::parse_device(&element.key))
        else {
            return;
        };
        let zone = plan.zones.iter().position(|zone| zone.interface == interface);
        if let Some(zone) = zone.and_then(|place| u8::try_from(place).ok()) {
            let left = element.expires_ms.map(Duration::from_millis);
            found.push((SessionId(session), Mac(mac), ZoneId(zone), left));
        }
    })
}

/// Every session's counters.
pub fn usage(kernel: &mut Netfilter) -> Result<Vec<Usage>, NetfilterError> {
    let down = counters(kernel, [DOWN, DOWN_WITHIN])?;
    let meters = meters(kernel)?.into_iter();
    let down = |mark| down.get(&mark).copied().unwrap_or_default();
    let spent = spent(kernel)?;
    let usage = meters.map(|meter| Usage {
        session: meter.session,
        up: meter.up,
        down: down(meter.mark),
        spent: spent.contains(&meter.mark),
    });
    Ok(usage.collect())
}

/// A session's upload counter.
struct Meter {
    session: SessionId,
    mark: u32,
    up: u64,
}

fn meters(kernel: &mut Netfilter) -> Result<Vec<Meter>, NetfilterError> {
    let mut all = Vec::new();
    for set in BY_STATION {
        all.append(&mut kernel.fold_elements(TABLE, set, |found: &mut Vec<_>, element| {
            let session = keys::parse_session(&element.user);
            if let Some((session, mark)) = session.zip(keys::parse_station(&element.key)) {
                let up = bytes(&element).unwrap_or_default();
                found.push(Meter { session: SessionId(session), mark, up });
            }
        })?);
    }
    Ok(all)
}

/// The grant with what the kernel has counted so far, if that is more than the grant knows of.
pub fn with_usage(
    kernel: &mut Netfilter,
    plan: &Plan,
    grant: &Grant,
) -> Result<Grant, NetfilterError> {
    let mut counted = |sets: [&str; 2], key: &[u8]| {
        let mut most = 0;
        for set in sets {
            let element = kernel.element(TABLE, set, key)?;
            most = element.as_ref().and_then(bytes).unwrap_or(0).max(most);
        }
        Ok::<_, NetfilterError>(most)
    };
    let up = counted(BY_STATION, &station(plan, grant))?;
    let down = counted([DOWN, DOWN_WITHIN], &keys::mark(mark_bits(plan, grant.mark)))?;
    Ok(Grant {
        used_up: grant.used_up.max(up),
        used_down: grant.used_down.max(down),
        ..grant.clone()
    })
}

/// The marks whose quota of both directions is reached. The counters do not show that: the packet
/// that reaches it is refused and not counted, and may have had 64 kB.
fn spent(kernel: &mut Netfilter) -> Result<HashSet<u32>, NetfilterError> {
    let marks = kernel.fold_elements(TABLE, QUOTA, |found: &mut Vec<_>, element| {
        let reached =
            |expr: &Expr| matches!(expr, Expr::Quota { bytes, consumed, .. } if consumed >= bytes);
        if element.exprs.iter().any(reached) {
            found.extend(keys::parse_mark(&element.key));
        }
    })?;
    Ok(marks.into_iter().collect())
}

fn counters(kernel: &mut Netfilter, sets: [&str; 2]) -> Result<HashMap<u32, u64>, NetfilterError> {
    let mut all = HashMap::new();
    for set in sets {
        all.extend(kernel.fold_elements(TABLE, set, |found: &mut Vec<_>, e| {
            found.extend(keys::parse_mark(&e.key).zip(bytes(&e)));
        })?);
    }
    Ok(all)
}

fn bytes(element: &Element) -> Option<u64> {
    element.exprs.iter().find_map(|expr| match expr {
        Expr::Counter { bytes, .. } => Some(*bytes),
        // What a spent quota refuses is added to it, too.
        Expr::Quota { bytes, consumed, .. } => Some(*consumed.min(bytes)),
        _ => None,
    })
}

fn station(plan: &Plan, grant: &Grant) -> Vec<u8> {
    keys::station(grant.mac.0, mark_bits(plan, grant.mark))
}

/// A rate and a counter; a quota counts by itself, and an element holds no more than two. The limit
/// stands first: what it stops is not counted.
fn metered(rate: Option<u64>, most: Option<u64>, used: u64) -> Vec<Expr> {
    let limit = rate.map(|rate| Expr::Limit {
        kind: LimitKind::Bytes,
        rate,
        per_secs: 1,
        // The kernel's bucket holds a second of the rate and this on top.
        burst: 0,
        over: false,
    });
    let counter = Expr::Counter { packets: 0, bytes: used };
    limit.into_iter().chain([most.map_or(counter, |most| quota(most, used, false))]).collect()
}

/// The kernel refuses a quota that is more than spent.
fn quota(bytes: u64, used: u64, over: bool) -> Expr {
    Expr::Quota { bytes, consumed: used.min(bytes), over }
}
