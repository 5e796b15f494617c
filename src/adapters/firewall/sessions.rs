//! One session in the kernel: a few set elements that are added, replaced and removed together.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::forward::WITHIN;
use super::ruleset::{DOWN, GRANTED, Plan, QUOTA, TABLE, UP};
use super::socket::{Netfilter, NetfilterError};
use crate::domain::effect::Grant;
use crate::domain::event::Usage;
use crate::domain::names::{Mac, Mark, SessionId, ZoneId};
use crate::domain::saved::Live;
use crate::wire::nft::batch::Batch;
use crate::wire::nft::element::{Data, Element, PER_MESSAGE};
use crate::wire::nft::expr::{Expr, LimitKind, Verdict};
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
    let verdict = limits.quota.map_or(Verdict::Accept, |_| Verdict::Goto(WITHIN.into()));
    let way = |key| Element { data: Some(Data::Verdict(verdict.clone())), ..live(key) };
    let upload = metered(limits.upload_rate, limits.upload_quota, grant.used_up);
    let download = metered(limits.download_rate, limits.download_quota, grant.used_down);
    // The session's number stands here as well, so that counters are read without the devices.
    let mut all = vec![
        (UP, Element { exprs: upload, user: user.clone(), ..way(station(plan, grant)) }),
        (DOWN, Element { exprs: download, ..way(mark()) }),
    ];
    if let Some(bytes) = limits.quota {
        let exprs = vec![quota(bytes, grant.used_up.saturating_add(grant.used_down))];
        let data = Some(Data::Verdict(Verdict::Accept));
        all.push((QUOTA, Element { data, exprs, ..Element::key(mark()) }));
    }
    for device in places {
        let data = Some(Data::Value(mark()));
        all.push((GRANTED, Element { data, user: user.clone(), ..live(device) }));
    }
    all
}

/// Adds sessions to a batch, a message for each set and some of them; the batch fails if a device
/// or a mark has one.
pub fn add(batch: &mut Batch, plan: &Plan, grants: &[Grant]) {
    for some in grants.chunks(PER_MESSAGE) {
        let mut sets = BTreeMap::<_, Vec<_>>::new();
        for (set, element) in some.iter().flat_map(|grant| elements(plan, grant)) {
            sets.entry(set).or_default().push(element);
        }
        for (set, elements) in sets {
            batch.add_elements(set, &elements);
        }
    }
}

/// Removes what the kernel still holds under a session's devices and mark, whatever its limits
/// were: a time-out may have taken any of it.
pub fn remove(batch: &mut Batch, plan: &Plan, grant: &Grant) {
    for name in plan.interfaces(grant.zone) {
        let device = Element::key(keys::device(name, grant.mac.0));
        batch.destroy_elements(GRANTED, &[device]);
    }
    batch.destroy_elements(UP, &[Element::key(station(plan, grant))]);
    let mark = Element::key(keys::mark(mark_bits(plan, grant.mark)));
    for set in [DOWN, QUOTA] {
        batch.destroy_elements(set, std::slice::from_ref(&mark));
    }
}

/// Whom the kernel lets in; `None` if a session stands in other zones than the plan says: a zone
/// that roams no more, or does now.
pub fn adoptable(kernel: &mut Netfilter, plan: &Plan) -> Result<Option<Vec<Live>>, NetfilterError> {
    let all =
        kernel.fold_elements(TABLE, GRANTED, |all: &mut BTreeMap<_, (Live, usize)>, found| {
            if let Some(live) = live(plan, &found) {
                all.entry(live.session).or_insert((live, 0)).1 += 1;
            }
        })?;
    let whole = |(live, places): &(Live, usize)| plan.interfaces(live.zone).count() == *places;
    Ok(all.values().all(whole).then(|| all.into_values().map(|(live, _)| live).collect()))
}

/// The session of an element of [`GRANTED`].
fn live(plan: &Plan, element: &Element) -> Option<Live> {
    let (interface, mac) = keys::parse_device(&element.key)?;
    let zone = plan.zones.iter().position(|zone| zone.interface == interface)?;
    let Some(Data::Value(mark)) = &element.data else { return None };
    let mark = keys::parse_mark(mark)? >> plan.mark_shift();
    Some(Live {
        session: SessionId(keys::parse_session(&element.user)?),
        zone: ZoneId(u8::try_from(zone).ok()?),
        mac: Mac(mac),
        mark: Mark(u16::try_from(mark).ok()?),
        left: element.expires_ms.map(Duration::from_millis),
    })
}

/// Every session's counters. Both directions are read at once, since a stop waits for them.
pub fn usage(kernel: &mut Netfilter) -> Result<Vec<Usage>, NetfilterError> {
    let mut second = Netfilter::open()?;
    let (up, down) = std::thread::scope(|scope| {
        let down = scope.spawn(|| {
            second.fold_elements(TABLE, DOWN, |found: &mut HashMap<_, _>, element| {
                found.extend(keys::parse_mark(&element.key).zip(bytes(&element)));
            })
        });
        let up = kernel.fold_elements(TABLE, UP, |found: &mut Vec<_>, element| {
            let session = keys::parse_session(&element.user);
            if let Some((session, mark)) = session.zip(keys::parse_station(&element.key)) {
                found.push((session, mark, bytes(&element).unwrap_or_default()));
            }
        });
        (up, down.join())
    });
    let down = down.unwrap_or_else(|_| Ok(HashMap::new()))?;
    let spent = kernel.fold_elements(TABLE, QUOTA, |found: &mut HashMap<_, _>, element| {
        found.extend(keys::parse_mark(&element.key).zip(spent(&element)));
    })?;
    let usage = up?.into_iter().map(|(session, mark, up)| {
        let (down, quota) = (down.get(&mark).copied(), spent.get(&mark).copied());
        let (up, down) = passed(up, down.unwrap_or_default(), quota);
        Usage { session: SessionId(session), up, down, spent: quota.is_some() }
    });
    Ok(usage.collect())
}

/// The grant with what the kernel has counted so far, if that is more than the grant knows of.
pub fn with_usage(
    kernel: &mut Netfilter,
    plan: &Plan,
    grant: &Grant,
) -> Result<Grant, NetfilterError> {
    let mark = keys::mark(mark_bits(plan, grant.mark));
    let mut element = |set, key: &[u8]| kernel.element(TABLE, set, key);
    let up = element(UP, &station(plan, grant))?.as_ref().and_then(bytes).unwrap_or_default();
    let down = element(DOWN, &mark)?.as_ref().and_then(bytes).unwrap_or_default();
    let (up, down) = passed(up, down, element(QUOTA, &mark)?.as_ref().and_then(spent));
    Ok(Grant {
        used_up: grant.used_up.max(up),
        used_down: grant.used_down.max(down),
        ..grant.clone()
    })
}

/// The quota of both directions, if it is reached. The counters alone do not show that: the packet
/// that reaches it may have had 64 kB.
fn spent(element: &Element) -> Option<u64> {
    element.exprs.iter().find_map(|expr| match expr {
        Expr::Quota { bytes, consumed, .. } => Some(*bytes).filter(|bytes| consumed >= bytes),
        _ => None,
    })
}

/// Of what was counted up and down, what passed: the counters stand before the quota of both
/// directions, and what that refuses is most likely of the direction that has used more of it.
fn passed(up: u64, down: u64, quota: Option<u64>) -> (u64, u64) {
    let refused = quota.map_or(0, |quota| (up + down).saturating_sub(quota));
    let (less, more) = (up.min(down), up.max(down));
    let (less, more) =
        (less.saturating_sub(refused.saturating_sub(more)), more.saturating_sub(refused));
    if up > down { (more, less) } else { (less, more) }
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
    limit.into_iter().chain([most.map_or(counter, |most| quota(most, used))]).collect()
}

/// The kernel refuses a quota that is more than spent.
fn quota(bytes: u64, used: u64) -> Expr {
    Expr::Quota { bytes, consumed: used.min(bytes), over: false }
}
