//! Passes to the app's garden, and the blocked devices, to whom no garden is open.
//!
//! A pass is two elements that time out together: the device, for what it sends, and the mark of
//! its connections, for what comes back, which carries no MAC. Once the device is online, the next that
//! it sends on such a connection puts the session's own mark in the place of this one.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::garden::{LEARNED_MOST, put, renew};
use super::parts::{Side, answer, bit, ct, device, ethernet, goto, granted, lookup, rule, set};
use super::ruleset::Plan;
use crate::domain::effect::Pass;
use crate::domain::names::Mac;
use crate::wire::nft::batch::Batch;
use crate::wire::nft::element::Element;
use crate::wire::nft::expr::{CtKey, Expr, Reg, Verdict};
use crate::wire::nft::keys::{self, DEVICE_LEN, datatype};
use crate::wire::nft::object::{Rule, SET_EVAL, SET_INTERVAL, SET_TIMEOUT, Set};

/// Set of `ether_addr`: the blocked devices, in all zones.
pub const BLOCKED: &str = "blocked";
/// Set of `ifname . ether_addr`: the devices with a pass.
pub const PASS: &str = "pass";
/// Set of the marks of their connections.
pub const PASS_MARKS: &str = "pass_marks";
/// The app's networks, by family.
pub const APP: [&str; 2] = ["app4", "app6"];
/// Where the app's names lead, by family.
pub const APP_LEARNED: [&str; 2] = ["app_learned4", "app_learned6"];
/// The chains of [`Plan::app`].
pub(super) const CHAINS: [&str; 4] = ["app_direct", "app_up", "app_mark", "app_down"];

const FAMILIES: [(bool, (u32, usize)); 2] =
    [(false, (datatype::IPV4, 4)), (true, (datatype::IPV6, 16))];

impl Plan {
    pub(super) fn pass_sets(&self) -> Vec<Set> {
        let mut sets = vec![set(BLOCKED, (datatype::ETHER, 6), 0)];
        if self.app.is_none() {
            return sets;
        }
        sets.push(set(PASS, (datatype::IFNAME_ETHER, DEVICE_LEN), SET_TIMEOUT));
        sets.push(set(PASS_MARKS, (datatype::MARK, 4), SET_TIMEOUT));
        for (v6, key) in FAMILIES {
            sets.push(set(APP[usize::from(v6)], key, SET_INTERVAL));
            sets.push(Set {
                size: Some(LEARNED_MOST),
                ..set(APP_LEARNED[usize::from(v6)], key, SET_TIMEOUT | SET_EVAL)
            });
        }
        sets
    }

    /// Does `then` for what devices with a pass send.
    pub(super) fn with_pass(&self, chain: &str, then: Expr) -> Option<Rule> {
        self.app.as_ref()?;
        Some(rule(chain, [ethernet(), device()], [lookup(PASS), then]))
    }

    /// Answers on the connections of a pass.
    pub(super) fn app_answers(&self, chain: &str) -> Option<Rule> {
        self.app.as_ref()?;
        Some(rule(chain, [answer(), self.session()], [lookup(PASS_MARKS), goto("app_down")]))
    }

    /// Takes the mark of a pass off a connection whose device is online.
    pub(super) fn after_pass(&self, chain: &str) -> Option<Rule> {
        self.app.as_ref()?;
        let (mask, xor) = ((!self.mark_mask).to_ne_bytes().to_vec(), vec![0; 4]);
        Some(rule(
            chain,
            [ct(CtKey::Mark, bit(self.pass_bit())), ethernet(), device()],
            [
                granted(),
                Expr::Ct { key: CtKey::Mark, dreg: Reg::R0 },
                Expr::Bitwise { sreg: Reg::R0, dreg: Reg::R0, mask, xor },
                Expr::CtSet { key: CtKey::Mark, sreg: Reg::R0 },
            ],
        ))
    }

    /// The chains that only the traffic of a pass comes to.
    pub(super) fn app(&self) -> Vec<Rule> {
        if self.app.is_none() {
            return Vec::new();
        }
        let accept = || Expr::Verdict(Verdict::Accept);
        let mut rules = in_app("app_direct", Side::Destination, &accept());
        rules.extend(in_app("app_up", Side::Destination, &goto("app_mark")));
        rules.push(rule("app_up", [], [goto("deny")]));
        rules.push(rule(
            "app_mark",
            [self.sender_pass_mark()],
            [Expr::CtSet { key: CtKey::Mark, sreg: Reg::R0 }],
        ));
        rules.extend(in_app("app_down", Side::Source, &accept()));
        rules.push(rule("app_down", [], [Expr::Verdict(Verdict::Drop)]));
        rules
    }
}

/// Does `then` for packets to or from the app's garden.
fn in_app(chain: &str, side: Side, then: &Expr) -> Vec<Rule> {
    let of_family = |(v6, _)| {
        let (networks, learned) = (APP[usize::from(v6)], APP_LEARNED[usize::from(v6)]);
        let address = || [side.address(v6, Reg::R0)];
        [
            rule(chain, address(), [lookup(networks), then.clone()]),
            rule(chain, address(), [lookup(learned), renew(learned), then.clone()]),
        ]
    };
    FAMILIES.into_iter().flat_map(of_family).collect()
}

/// Opens, or renews, a pass. False where there are none.
pub fn open(batch: &mut Batch, plan: &Plan, pass: &Pass) -> bool {
    let zone = plan.zones.get(usize::from(pass.zone.0));
    let Some(zone) = zone.filter(|_| plan.app.is_some()) else { return false };
    let timeout_ms = Some(u64::try_from(pass.left.as_millis()).unwrap_or(u64::MAX).max(1));
    for (set, key) in [
        (PASS, keys::device(&zone.interface, pass.mac.0)),
        (PASS_MARKS, keys::mark(plan.pass_mark(pass.mac))),
    ] {
        let element = Element { timeout_ms, ..Element::key(key) };
        batch.destroy_elements(set, std::slice::from_ref(&element));
        batch.add_elements(set, &[element]);
    }
    true
}

/// Blocks these devices and no others.
pub fn block(batch: &mut Batch, devices: &BTreeSet<Mac>) {
    let elements: Vec<_> = devices.iter().map(|mac| Element::key(mac.0.to_vec())).collect();
    batch.flush_set(BLOCKED);
    batch.add_elements(BLOCKED, &elements);
}

/// Opens addresses of the app's names to devices with a pass, or renews them.
pub fn learn(batch: &mut Batch, addresses: &[IpAddr]) {
    for (v6, set) in [false, true].into_iter().zip(APP_LEARNED) {
        put(batch, set, (addresses, v6), keys::address);
    }
}
