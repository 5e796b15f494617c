//! One session in the kernel: a few set elements that are added, replaced and removed together.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use super::forward::WITHIN;
use super::ruleset::{DOWN, GRANTED, Plan, QUOTA, TABLE, UP, UP_ALIKE};
use super::socket::{Netfilter, NetfilterError};
use crate::domain::effect::Grant;
use crate::domain::event::Usage;
use crate::domain::names::{Mac, Mark, SessionId, ZoneId};
use crate::domain::saved::Live;
use crate::wire::nft::batch::Batch;
use crate::wire::nft::element::{Data, Element, PER_MESSAGE};
use crate::wire::nft::expr::{Expr, LimitKind, Verdict};
use crate::wire::nft::keys;

/// Where a session stands for what its device sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In [`UP`]: no other session stands there under the last four bytes of its MAC.
    Sole,
    /// In [`UP_ALIKE`].
    Alike,
}

/// The mark on the session's connections.
fn mark_bits(plan: &Plan, mark: Mark, place: Place) -> u32 {
    let sole = if place == Place::Sole { plan.sole_bit() } else { 0 };
    number_bits(plan, mark) | sole
}

/// The part of the mark that is the session's number.
pub fn number_bits(plan: &Plan, mark: Mark) -> u32 {
    (u32::from(mark.0) << plan.mark_shift()) & plan.number_mask()
}

/// The session that stands in [`UP`] under the last four bytes of this MAC.
pub fn sole(kernel: &mut Netfilter, mac: Mac) -> Result<Option<SessionId>, NetfilterError> {
    let element = kernel.element(TABLE, UP, &keys::tail(mac.0))?;
    Ok(element.and_then(|element| session(&element)))
}

/// The elements of a session, with what it has used of its quotas carried over.
fn elements(plan: &Plan, grant: &Grant, place: Place) -> Vec<(&'static str, Element)> {
    let devices: Vec<_> =
        plan.interfaces(grant.zone).map(|name| keys::device(name, grant.mac.0)).collect();
    if devices.is_empty() {
        return Vec::new();
    }
    let mark = || keys::mark(mark_bits(plan, grant.mark, place));
    let timeout_ms =
        grant.left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1));
    let user = || keys::session_user_data(grant.session.0);
    let whose = |key: Vec<u8>| Element { user: user(), ..Element::key(key) };
    let limits = &grant.limits;
    let verdict = limits.quota.map_or(Verdict::Accept, |_| Verdict::Goto(WITHIN.into()));
    let way =
        |key, exprs| Element { data: Some(Data::Verdict(verdict.clone())), exprs, ..whose(key) };
    let upload = metered(limits.upload_rate, limits.upload_quota, grant.used_up);
    let download = metered(limits.download_rate, limits.download_quota, grant.used_down);
    let up = match place {
        Place::Sole => (UP, way(keys::tail(grant.mac.0), upload)),
        Place::Alike => (UP_ALIKE, Element { timeout_ms, ..way(station(plan, grant), upload) }),
    };
    let mut all = vec![up, (DOWN, Element { timeout_ms, ..way(mark(), download) })];
    if let Some(bytes) = limits.quota {
        let exprs = vec![quota(bytes, grant.used_up.saturating_add(grant.used_down))];
        let data = Some(Data::Verdict(Verdict::Accept));
        all.push((QUOTA, Element { data, exprs, ..Element::key(mark()) }));
    }
    for device in devices {
        let data = Some(Data::Value(mark()));
        all.push((GRANTED, Element { data, timeout_ms, ..whose(device) }));
    }
    all
}

/// Adds all sessions to a batch that makes the table.
pub fn add_all(batch: &mut Batch, plan: &Plan, grants: &[Grant]) {
    let mut tails = HashSet::new();
    let mut place = |grant: &Grant| {
        if tails.insert(keys::tail(grant.mac.0)) { Place::Sole } else { Place::Alike }
    };
    for some in grants.chunks(PER_MESSAGE) {
        let mut sets = BTreeMap::<_, Vec<_>>::new();
        for (set, element) in some.iter().flat_map(|grant| elements(plan, grant, place(grant))) {
            sets.entry(set).or_default().push(element);
        }
        for (set, elements) in sets {
            batch.add_elements(set, &elements);
        }
    }
}

/// Adds a session; the batch fails if a device or a mark has one.
pub fn add(batch: &mut Batch, plan: &Plan, grant: &Grant, place: Place) {
    for (set, element) in elements(plan, grant, place) {
        batch.add_elements(set, &[element]);
    }
}

/// Removes what the kernel still holds under a session's devices and mark, whatever its limits
/// were: a time-out may have taken any of it. From [`UP`] only if it stands there as `sole`.
pub fn remove(batch: &mut Batch, plan: &Plan, grant: &Grant, sole: Option<SessionId>) {
    for name in plan.interfaces(grant.zone) {
        let device = Element::key(keys::device(name, grant.mac.0));
        batch.destroy_elements(GRANTED, &[device]);
    }
    if sole == Some(grant.session) {
        batch.destroy_elements(UP, &[Element::key(keys::tail(grant.mac.0))]);
    }
    batch.destroy_elements(UP_ALIKE, &[Element::key(station(plan, grant))]);
    for place in [Place::Sole, Place::Alike] {
        let mark = Element::key(keys::mark(mark_bits(plan, grant.mark, place)));
        for set in [DOWN, QUOTA] {
            batch.destroy_elements(set, std::slice::from_ref(&mark));
        }
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

/// Removes from [`UP`] the sessions whose time ended while nobody ran.
pub fn sweep(kernel: &mut Netfilter, live: &[Live]) -> Result<(), NetfilterError> {
    let online: HashSet<_> = live.iter().map(|live| live.session).collect();
    let over = kernel.fold_elements(TABLE, UP, |found: &mut Vec<_>, element| {
        if session(&element).is_none_or(|session| !online.contains(&session)) {
            found.push(Element::key(element.key));
        }
    })?;
    if over.is_empty() {
        return Ok(());
    }
    let mut batch = kernel.batch(TABLE, None);
    for element in over {
        batch.destroy_elements(UP, &[element]);
    }
    kernel.commit(batch)
}

/// The session of an element of [`GRANTED`].
fn live(plan: &Plan, element: &Element) -> Option<Live> {
    let (interface, mac) = keys::parse_device(&element.key)?;
    let zone = plan.zones.iter().position(|zone| zone.interface == interface)?;
    let Some(Data::Value(mark)) = &element.data else { return None };
    let mark = (keys::parse_mark(mark)? & plan.number_mask()) >> plan.mark_shift();
    Some(Live {
        session: session(element)?,
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
            second.fold_elements(TABLE, DOWN, |found: &mut Vec<_>, element| {
                let of = session(&element).zip(keys::parse_mark(&element.key));
                found.extend(of.zip(bytes(&element)));
            })
        });
        let counted = |found: &mut HashMap<_, _>, element: Element| {
            found.extend(session(&element).zip(bytes(&element)));
        };
        let up = kernel.fold_elements(TABLE, UP, counted);
        let alike = kernel.fold_elements(TABLE, UP_ALIKE, counted);
        (up.and_then(|up| Ok(up.into_iter().chain(alike?))), down.join())
    });
    let up: HashMap<_, _> = up?.collect();
    let spent = kernel.fold_elements(TABLE, QUOTA, |found: &mut HashMap<_, _>, element| {
        found.extend(keys::parse_mark(&element.key).zip(spent(&element)));
    })?;
    let down = down.unwrap_or_else(|_| Ok(Vec::new()))?;
    let usage = down.into_iter().map(|((session, mark), down)| {
        let (up, quota) = (up.get(&session).copied(), spent.get(&mark).copied());
        let (up, down) = passed(up.unwrap_or_default(), down, quota);
        Usage { session, up, down, spent: quota.is_some() }
    });
    Ok(usage.collect())
}

/// The grant with what the kernel has counted so far, if that is more than the grant knows of.
pub fn with_usage(
    kernel: &mut Netfilter,
    plan: &Plan,
    grant: &Grant,
    place: Place,
) -> Result<Grant, NetfilterError> {
    let mark = keys::mark(mark_bits(plan, grant.mark, place));
    let mut element = |set, key: &[u8]| kernel.element(TABLE, set, key);
    let up = match place {
        Place::Sole => element(UP, &keys::tail(grant.mac.0)),
        Place::Alike => element(UP_ALIKE, &station(plan, grant)),
    };
    let up = up?.as_ref().and_then(bytes).unwrap_or_default();
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

fn session(element: &Element) -> Option<SessionId> {
    keys::parse_session(&element.user).map(SessionId)
}

/// The key of a session in [`UP_ALIKE`].
fn station(plan: &Plan, grant: &Grant) -> Vec<u8> {
    keys::station(grant.mac.0, mark_bits(plan, grant.mark, Place::Alike))
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
