//! Caps on new connections, so that no device fills conntrack: seen once, on the packet that
//! begins a connection, before it costs an entry.
//!
//! A device is paced first and counted then. The pace bounds what the count leaves out, connections
//! that are closed and still kept for a while, and keeps the kernel's lists of what it counts short:
//! those grow by what is refused, too, and are tidied a few entries at a time.

use super::parts::{destination_port, device, goto, granted, jump, l4, rule, set};
use super::ruleset::{Plan, UDP};
use crate::wire::nft::expr::{DynsetOp, Expr, LimitKind, Reg, Verdict};
use crate::wire::nft::keys::{DEVICE_LEN, datatype};
use crate::wire::nft::object::{Rule, SET_EVAL, SET_TIMEOUT, Set};

/// Set of `ifname . ether_addr` with each online device's pace of new connections.
pub const GUEST_PACE: &str = "guest_pace";
/// Set of `ifname . ether_addr` with each other device's pace of new connections.
pub const STRANGER_PACE: &str = "stranger_pace";
/// Set of `ifname . ether_addr` with each online device's connections.
pub const GUEST_FLOWS: &str = "guest_flows";
/// Set of `ifname . ether_addr` with each other device's connections.
pub const STRANGER_FLOWS: &str = "stranger_flows";

/// Set of `ifname . ether_addr` with each device's pace of DHCP messages.
pub const DHCP_PACE: &str = "dhcp_pace";

/// Devices that begin connections at about the same time: with forged MACs, anybody can be many.
const DEVICES: u32 = 32_768;
/// A device may begin all its connections at once, and then so many a second less.
const PACE_SHARE: u32 = 4;
const PACE_MEMORY_MS: u64 = 10_000;
/// DHCP messages of a device at once, and a minute: each may claim an address in another's name.
const DHCP: (u32, u64) = (20, 6);
const DHCP_MEMORY_MS: u64 = 600_000;
/// New connections a second of all the devices for which the sets have no room.
const CROWD: u32 = 500;

pub(super) fn sets() -> Vec<Set> {
    let of_devices = |name, flags| Set {
        size: Some(DEVICES),
        ..set(name, (datatype::IFNAME_ETHER, DEVICE_LEN), flags)
    };
    // A set of counted connections takes no time-out: its elements go with the last connection.
    vec![
        of_devices(GUEST_PACE, SET_EVAL | SET_TIMEOUT),
        of_devices(STRANGER_PACE, SET_EVAL | SET_TIMEOUT),
        of_devices(GUEST_FLOWS, SET_EVAL),
        of_devices(STRANGER_FLOWS, SET_EVAL),
        of_devices(DHCP_PACE, SET_EVAL | SET_TIMEOUT),
    ]
}

impl Plan {
    pub(super) fn cap_flows(&self) -> Vec<Rule> {
        let drop = || Expr::Verdict(Verdict::Drop);
        let over = |count| Expr::ConnLimit { count, over: true };
        let (online, before) = self.flows;
        vec![
            rule("first_packet", [], [jump("new_flow")]),
            rule("new_flow", [device()], [granted(), goto("guest_flow")]),
            rule(
                "new_flow",
                [device()],
                [count_in(STRANGER_PACE, Some(PACE_MEMORY_MS), pace(before)), drop()],
            ),
            rule("new_flow", [device()], [no_room(STRANGER_PACE), goto("crowd")]),
            rule("new_flow", [device()], [count_in(STRANGER_FLOWS, None, over(before)), drop()]),
            rule("new_flow", [device()], [no_room(STRANGER_FLOWS), goto("crowd")]),
            rule(
                "guest_flow",
                [device()],
                [count_in(GUEST_PACE, Some(PACE_MEMORY_MS), pace(online)), drop()],
            ),
            rule("guest_flow", [device()], [count_in(GUEST_FLOWS, None, over(online)), drop()]),
            rule("crowd", [], [limit(CROWD, CROWD), drop()]),
        ]
    }
}

/// Ends a DHCP message of a device that has sent too many. A station of an access point has one
/// MAC, whatever it writes into its messages; a device that is many costs the pool its addresses.
pub(super) fn cap_dhcp(chain: &str, port: u16) -> Rule {
    let (burst, rate) = DHCP;
    let over = Expr::Limit { kind: LimitKind::Packets, rate, per_secs: 60, burst, over: true };
    rule(
        chain,
        [l4(UDP), destination_port(port), device()],
        [count_in(DHCP_PACE, Some(DHCP_MEMORY_MS), over), Expr::Verdict(Verdict::Drop)],
    )
}

/// Matches if the device, put in the set if it is not there, is over its limit.
fn count_in(set: &str, timeout_ms: Option<u64>, limit: Expr) -> Expr {
    let (key, exprs) = (Reg::R0, vec![limit]);
    Expr::Dynset { op: DynsetOp::Update, set: set.into(), key, timeout_ms, exprs, inverted: false }
}

/// Matches if the device is not in the set, the set being full. Stands behind the rule that adds.
fn no_room(set: &str) -> Expr {
    Expr::Lookup { set: set.into(), sreg: Reg::R0, dreg: None, inverted: true }
}

fn pace(most: u32) -> Expr {
    limit((most / PACE_SHARE).max(1), most)
}

fn limit(rate: u32, burst: u32) -> Expr {
    let rate = u64::from(rate);
    Expr::Limit { kind: LimitKind::Packets, rate, per_secs: 1, burst, over: true }
}
