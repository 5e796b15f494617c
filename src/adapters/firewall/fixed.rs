//! The elements of the sets that only a new plan changes.

use super::garden::NAMES;
use super::pass::APP;
use super::ruleset::{ICMP6_TYPES_SET, ICMPV6_TYPES, Plan, ZONES};
use crate::config::Network;
use crate::wire::nft::element::Element;
use crate::wire::nft::keys;

/// For the batch that creates the table: each set with its elements.
pub fn fixed_elements(plan: &Plan) -> Vec<(String, Vec<Element>)> {
    let names = plan.zones.iter().map(|zone| Element::key(keys::ifname(&zone.interface)));
    let mut all = vec![
        (ZONES.to_owned(), names.collect()),
        (
            ICMP6_TYPES_SET.to_owned(),
            ICMPV6_TYPES.iter().map(|kind| Element::key(vec![*kind])).collect(),
        ),
    ];
    all.push((NAMES.to_owned(), vec![Element::key(plan.names.to_vec())]));
    for zone in &plan.zones {
        for v6 in [false, true] {
            let networks: Vec<_> =
                zone.garden.iter().filter(|network| network.address.is_ipv6() == v6).collect();
            let elements = disjoint(&networks);
            if !elements.is_empty() {
                all.push((zone.garden_set(v6), elements));
            }
        }
    }
    if let Some(app) = &plan.app {
        for (v6, set) in [false, true].into_iter().zip(APP) {
            let networks: Vec<_> = app.iter().filter(|one| one.address.is_ipv6() == v6).collect();
            let elements = disjoint(&networks);
            if !elements.is_empty() {
                all.push((set.to_owned(), elements));
            }
        }
    }
    all
}

/// The kernel refuses overlapping intervals: a network inside another one is left out.
fn disjoint(networks: &[&Network]) -> Vec<Element> {
    let inside = |network: &Network, other: &Network| {
        other.prefix < network.prefix
            && keys::prefix(network.address, other.prefix).0 == keys::address(other.address)
    };
    let mut kept: Vec<&Network> = networks
        .iter()
        .filter(|network| !networks.iter().any(|other| inside(network, other)))
        .copied()
        .collect();
    kept.sort_by_key(|network| (network.address, network.prefix));
    kept.dedup();
    kept.iter()
        .flat_map(|network| {
            let (start, end) = keys::prefix(network.address, network.prefix);
            Element::interval(start, end)
        })
        .collect()
}
