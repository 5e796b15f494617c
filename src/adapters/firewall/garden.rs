//! What anybody may reach: the configured networks of a zone's garden, and the addresses that its
//! names led to, which the DNS forwarder adds for a while and which traffic renews.

use std::net::IpAddr;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::parts::{Side, answer, lookup, rule, set};
use super::ruleset::{Plan, ZonePlan};
use crate::config::{Config, garden as places};
use crate::wire::nft::batch::Batch;
use crate::wire::nft::element::Element;
use crate::wire::nft::expr::{CmpOp, DynsetOp, Expr, MetaKey, Reg, Verdict};
use crate::wire::nft::keys::{self, IFNAME_LEN, datatype};
use crate::wire::nft::object::{Rule, SET_EVAL, SET_INTERVAL, SET_TIMEOUT, Set};

/// Set of `ifname . ipv4_addr`: where a zone's garden names lead.
pub const LEARNED4: &str = "learned4";
/// Set of `ifname . ipv6_addr`: where a zone's garden names lead.
pub const LEARNED6: &str = "learned6";
/// An address stays open so long after the name was last asked for, or traffic last went there.
pub const LEARNED_FOR: Duration = Duration::from_mins(15);
/// Set of [`Plan::names`].
pub const NAMES: &str = "garden_names";
/// Addresses of a family, in all zones. More than the names of any garden lead to.
pub(super) const LEARNED_MOST: u32 = 16_384;

impl Plan {
    pub(super) fn garden_sets(&self) -> Vec<Set> {
        let mut sets = vec![set(NAMES, (datatype::MARK, 4), 0)];
        for zone in self.zones.iter().filter(|zone| !zone.garden.is_empty()) {
            sets.push(set(&zone.garden_set(false), (datatype::IPV4, 4), SET_INTERVAL));
            sets.push(set(&zone.garden_set(true), (datatype::IPV6, 16), SET_INTERVAL));
        }
        for (name, kind, len) in
            [(LEARNED4, datatype::IFNAME_IPV4, 4), (LEARNED6, datatype::IFNAME_IPV6, 16)]
        {
            sets.push(Set {
                size: Some(LEARNED_MOST),
                ..set(name, (kind, IFNAME_LEN + len), SET_TIMEOUT | SET_EVAL)
            });
        }
        sets
    }

    /// Traffic of a zone to or from its garden. Answers count only on connections that a guest
    /// began, which conntrack knows by their direction.
    pub(super) fn garden(&self, chain: &str, side: Side, then: &Verdict) -> Vec<Rule> {
        let (meta, direction) = match side {
            Side::Destination => (MetaKey::IifName, Vec::new()),
            Side::Source => (MetaKey::OifName, answer()),
        };
        let mut rules = Vec::new();
        for zone in self.zones.iter().filter(|zone| !zone.garden.is_empty()) {
            rules.extend([false, true].map(|v6| {
                rule(
                    chain,
                    [zone.matches(meta), direction.clone(), side.address(v6, Reg::R0)],
                    [lookup(&zone.garden_set(v6)), Expr::Verdict(then.clone())],
                )
            }));
        }
        for (v6, learned) in [(false, LEARNED4), (true, LEARNED6)] {
            // `ifname . address` in registers 0 to 7.
            let key = [side.address(v6, Reg::R4), vec![Expr::Meta { key: meta, dreg: Reg::R0 }]];
            let then = Expr::Verdict(then.clone());
            rules.push(rule(
                chain,
                [direction.clone(), key.concat()],
                [lookup(learned), renew(learned), then],
            ));
        }
        rules
    }
}

impl ZonePlan {
    /// The name of the set that holds the zone's garden.
    pub fn garden_set(&self, v6: bool) -> String {
        format!("garden{}_{}", if v6 { 6 } else { 4 }, self.name)
    }

    pub(super) fn matches(&self, meta: MetaKey) -> Vec<Expr> {
        let name = keys::ifname(&self.interface);
        vec![
            Expr::Meta { key: meta, dreg: Reg::R0 },
            Expr::Cmp { op: CmpOp::Eq, sreg: Reg::R0, data: name },
        ]
    }
}

/// What tells two configurations apart whose gardens have other names.
pub fn fingerprint(config: &Config) -> [u8; 4] {
    let mut hash = Sha256::new();
    let gardens = config.zone.iter().map(|zone| &zone.walled_garden);
    for garden in gardens.chain(config.pass.iter().map(|pass| &pass.garden)) {
        for name in places::names(garden) {
            hash.update(format!("{name} "));
        }
        hash.update("\n");
    }
    let [first, second, third, fourth, ..] = hash.finalize().0;
    [first, second, third, fourth]
}

/// Opens addresses to a zone, or renews them: adding alone would leave an old time-out (before
/// Linux 6.12).
pub fn learn(batch: &mut Batch, zone: &ZonePlan, addresses: &[IpAddr]) {
    for (v6, set) in [(false, LEARNED4), (true, LEARNED6)] {
        let place = |address| keys::place(&zone.interface, address);
        put(batch, set, (addresses, v6), place);
    }
}

/// Puts the addresses of a family in a set, for [`LEARNED_FOR`] from now.
pub(super) fn put(
    batch: &mut Batch,
    set: &str,
    (addresses, v6): (&[IpAddr], bool),
    key: impl Fn(IpAddr) -> Vec<u8>,
) {
    let family = addresses.iter().filter(|address| address.is_ipv6() == v6);
    let mut elements: Vec<Element> = family.map(|address| Element::key(key(*address))).collect();
    elements.sort_by(|a, b| a.key.cmp(&b.key));
    elements.dedup();
    batch.destroy_elements(set, &elements);
    for element in &mut elements {
        element.timeout_ms = u64::try_from(LEARNED_FOR.as_millis()).ok();
    }
    batch.add_elements(set, &elements);
}

/// Live traffic keeps its way open. Behind the lookup, since this would add what is not there.
pub(super) fn renew(set: &str) -> Expr {
    Expr::Dynset {
        op: DynsetOp::Update,
        set: set.into(),
        key: Reg::R0,
        timeout_ms: u64::try_from(LEARNED_FOR.as_millis()).ok(),
        exprs: Vec::new(),
        inverted: false,
    }
}
