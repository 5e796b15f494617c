//! One session in the kernel: a few set elements that are added, replaced and removed together.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::ruleset::{
    BY_MARK, DOWN, DOWN_WITHIN, GRANTED, MARKS, Plan, QUOTA, QUOTA_DOWN, QUOTA_UP, TABLE, UP,
    UP_WITHIN,
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
    let bounded = |quota: Option<u64>| limits.quota.or(quota).is_some();
    let up = if bounded(limits.upload_quota) { UP_WITHIN } else { UP };
    let down = if bounded(limits.download_quota) { DOWN_WITHIN } else { DOWN };
    let mut all = vec![
        (up, Element { exprs: metered(limits.upload_rate, grant.used_up), ..live(mark()) }),
        (down, Element { exprs: metered(limits.download_rate, grant.used_down), ..live(mark()) }),
    ];
    let quotas = [
        (QUOTA, limits.quota, grant.used_up.saturating_add(grant.used_down)),
        (QUOTA_UP, limits.upload_quota, grant.used_up),
        (QUOTA_DOWN, limits.download_quota, grant.used_down),
    ];
    for (set, bytes, consumed) in quotas {
        if let Some(bytes) = bytes {
            // The kernel refuses a quota that is more than spent.
            let consumed = consumed.min(bytes);
            let exprs = vec![Expr::Quota { bytes, consumed, over: true }];
            all.push((set, Element { exprs, ..live(mark()) }));
        }
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
    let mark = Element::key(keys::mark(mark_bits(plan, grant.mark)));
    for set in BY_MARK {
        batch.destroy_elements(set, std::slice::from_ref(&mark));
    }
}

/// What the kernel holds of all sessions.
pub fn live(kernel: &mut Netfilter, plan: &Plan) -> Result<Vec<Live>, NetfilterError> {
    let mut all = places(kernel, plan)?;
    all.sort_by_key(|live| live.session);
    all.dedup_by_key(|live| live.session);
    Ok(all)
}

/// The same, unless a session stands in other zones than the plan says: a zone that roams no more,
/// or does now.
pub fn adoptable(kernel: &mut Netfilter, plan: &Plan) -> Result<Option<Vec<Live>>, NetfilterError> {
    let mut counts = HashMap::<_, usize>::new();
    for place in places(kernel, plan)? {
        *counts.entry(place.session).or_default() += 1;
    }
    let live = live(kernel, plan)?;
    let whole =
        |live: &Live| counts.get(&live.session) == Some(&plan.interfaces(live.zone).count());
    Ok(live.iter().all(whole).then_some(live))
}

/// Each zone's part of each session, joined by device and mark.
fn places(kernel: &mut Netfilter, plan: &Plan) -> Result<Vec<Live>, NetfilterError> {
    let marks: HashMap<_, _> = kernel
        .elements(TABLE, MARKS)?
        .into_iter()
        .filter_map(|element| Some((element.key, keys::parse_mark(&element.data?)?)))
        .collect();
    let (up, down) = (counters(kernel, [UP, UP_WITHIN])?, counters(kernel, [DOWN, DOWN_WITHIN])?);
    let mut all = Vec::new();
    for element in kernel.elements(TABLE, GRANTED)? {
        let found = keys::parse_session(&element.user).zip(keys::parse_device(&element.key));
        let Some(((session, (interface, mac)), bits)) = found.zip(marks.get(&element.key)) else {
            continue;
        };
        let place = plan.zones.iter().position(|zone| zone.interface == interface);
        let Some(zone) = place.and_then(|place| u8::try_from(place).ok()) else { continue };
        all.push(Live {
            session: SessionId(session),
            zone: ZoneId(zone),
            mac: Mac(mac),
            mark: Mark(u16::try_from(bits >> plan.mark_shift()).unwrap_or_default()),
            left: element.expires_ms.map(Duration::from_millis),
            up: up.get(bits).copied().unwrap_or_default(),
            down: down.get(bits).copied().unwrap_or_default(),
        });
    }
    Ok(all)
}

/// Every session's counters.
pub fn usage(kernel: &mut Netfilter, plan: &Plan) -> Result<Vec<Usage>, NetfilterError> {
    let live = live(kernel, plan)?;
    let spent = spent(kernel)?;
    let usage = live.into_iter().map(|live| Usage {
        session: live.session,
        up: live.up,
        down: live.down,
        spent: spent.contains(&mark_bits(plan, live.mark)),
    });
    Ok(usage.collect())
}

/// The grant with what the kernel has counted so far, if that is more than the grant knows of.
pub fn with_usage(
    kernel: &mut Netfilter,
    plan: &Plan,
    grant: &Grant,
) -> Result<Grant, NetfilterError> {
    let key = keys::mark(mark_bits(plan, grant.mark));
    let mut counted = |sets: [&str; 2]| {
        let mut most = 0;
        for set in sets {
            let element = kernel.element(TABLE, set, &key)?;
            most = element.as_ref().and_then(bytes).unwrap_or(0).max(most);
        }
        Ok::<_, NetfilterError>(most)
    };
    let (up, down) = (counted([UP, UP_WITHIN])?, counted([DOWN, DOWN_WITHIN])?);
    Ok(Grant {
        used_up: grant.used_up.max(up),
        used_down: grant.used_down.max(down),
        ..grant.clone()
    })
}

/// The marks whose quota is reached. The counters do not show that: the packet that reaches it is
/// refused and not counted, and may have had 64 kB.
fn spent(kernel: &mut Netfilter) -> Result<HashSet<u32>, NetfilterError> {
    let mut found = HashSet::new();
    for set in [QUOTA, QUOTA_UP, QUOTA_DOWN] {
        let held = kernel.elements(TABLE, set)?;
        let reached = |element: &&Element| element.exprs.iter().any(is_reached);
        found.extend(held.iter().filter(reached).filter_map(|e| keys::parse_mark(&e.key)));
    }
    Ok(found)
}

fn is_reached(expr: &Expr) -> bool {
    matches!(expr, Expr::Quota { bytes, consumed, .. } if consumed >= bytes)
}

fn counters(kernel: &mut Netfilter, sets: [&str; 2]) -> Result<HashMap<u32, u64>, NetfilterError> {
    let mut found = HashMap::new();
    for set in sets {
        let held = kernel.elements(TABLE, set)?;
        found.extend(held.iter().filter_map(|e| Some((keys::parse_mark(&e.key)?, bytes(e)?))));
    }
    Ok(found)
}

fn bytes(element: &Element) -> Option<u64> {
    element.exprs.iter().find_map(|expr| match expr {
        Expr::Counter { bytes, .. } => Some(*bytes),
        _ => None,
    })
}

/// The limit stands first: what it stops is not counted.
fn metered(rate: Option<u64>, bytes: u64) -> Vec<Expr> {
    let limit = rate.map(|rate| Expr::Limit {
        kind: LimitKind::Bytes,
        rate,
        per_secs: 1,
        // The kernel's bucket holds a second of the rate and this on top.
        burst: 0,
        over: false,
    });
    limit.into_iter().chain([Expr::Counter { packets: 0, bytes }]).collect()
}
