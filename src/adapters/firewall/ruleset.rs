//! The table `inet maitred` as desired state: a [`Plan`] in, a [`Ruleset`] out.
//!
//! | chain | hook, priority | what it decides |
//! |---|---|---|
//! | `guest_nat` | nat prerouting −105 | first packets alone: forged ones and too many are dropped (see [`super::flows`]), HTTP and DNS of a device that is not granted come to us |
//! | `guest_input` | input −10 | guests reach DHCP, DNS, the portal and what `users_to_router` adds |
//! | `guest_forward` | forward −10 | uploads by MAC, downloads by mark, all else refused |
//!
//! A packet of a guest who is online costs one look-up, in [`UP`] or [`DOWN`]; a set is what costs
//! most here. All that can be decided once for a connection is decided by its first packet.
//!
//! A final `accept` here still passes through fw4's chains; `drop` and `reject` are final. Names
//! keep clear of nft's own words, which `nft list set` could not read.

use super::flows;
use super::parts::{
    Side, answer, bit, cmp, ct, destination_port, device, ethernet, goto, granted, guest, jump, l4,
    lookup, rule, sender, sender_tail, set,
};
use super::pass::{self, BLOCKED};
use crate::config::{Network, RouterPort};
use crate::domain::names::{Mac, ZoneId};
use crate::wire::nft::expr::{
    Base, CmpOp, CtKey, Expr, Icmpx, LimitKind, MetaKey, Reg, Reject, Verdict,
};
use crate::wire::nft::keys::{DEVICE_LEN, STATION_LEN, TAIL_LEN, datatype};
use crate::wire::nft::object::{Chain, Hook, Rule, SET_MAP, SET_TIMEOUT, Set, Table};
use crate::wire::nft::ruleset::Ruleset;

/// The table's name.
pub const TABLE: &str = "maitred";
/// Map of `ifname . ether_addr`, the devices that are online, to their sessions' marks. The user
/// data is the session's id.
pub const GRANTED: &str = "granted";
/// Map of the last four bytes of MACs to what happens to what comes from each session: it passes, or,
/// of sessions with a quota on both directions together, goes on to that. An element has the
/// session's rate limit, and its counter or, in the counter's place, the quota of this direction.
///
/// Keys of four bytes and no time-outs make its look-ups of the kernel's fastest kind. When time is
/// up, [`GRANTED`] and [`DOWN`] see to it: nothing new begins and no answer comes.
pub const UP: &str = "up";
/// Map of `ether_addr . mark` with the same for the sessions of devices whose last four bytes stand
/// in [`UP`] for another.
pub const UP_ALIKE: &str = "up_alike";
/// Map of marks with the same for what goes to each session.
pub const DOWN: &str = "down";
/// Map of marks to `accept`, until the quota on both directions together is spent.
pub const QUOTA: &str = "volume";
/// Set of the guest interfaces' names.
pub const ZONES: &str = "zones";
/// How often the kernel frees what has expired. Nobody sees an expired element, and we take away those
/// of sessions that end; each second, as it is by itself, the walk over three sets of 10,000 would
/// keep a processor from all else for milliseconds.
const TIDY_EVERY_MS: u32 = 30_000;
/// A set whose size is known is the kernel's faster kind.
const MOST_ZONES: u32 = 32;

const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
const ICMP: u8 = 1;
const IGMP: u8 = 2;
const ICMPV6: u8 = 58;
const PREROUTING: u32 = 0;
const INPUT: u32 = 1;
const FORWARD: u32 = 2;
/// `meta pkttype`: to this host alone.
const PACKET_HOST: u8 = 0;
/// Bits of `ct state`.
const CT_INVALID: u32 = 1;
const CT_RELATED: u32 = 4;
/// Echo request; MLD query, report, done; RS, NS, NA, MLDv2 report (RFC 4443, 2710, 4861, 3810).
pub(super) const ICMPV6_TYPES: [u8; 8] = [128, 130, 131, 132, 133, 135, 136, 143];
pub(super) const ICMP6_TYPES_SET: &str = "nd_and_mld";
const ICMP_ECHO_REQUEST: u8 = 8;
const DHCP_PORTS: [u16; 2] = [67, 547];
const DNS_PORT: u16 = 53;
/// What guests cause the router to say about ports that are closed to them, a second. The kernel
/// limits ICMP errors by itself; resets it does not.
const REFUSALS_A_SECOND: u64 = 20_000;

/// What varies between stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The guest networks.
    pub zones: Vec<ZonePlan>,
    /// Bits of the connection mark that are ours.
    pub mark_mask: u32,
    /// TCP ports of the pages.
    pub portal_ports: Vec<u16>,
    /// TCP port that intercepted requests are redirected to.
    pub intercept_port: u16,
    /// Addresses that a pass opens; `None` without passes.
    pub app: Option<Vec<Network>>,
    /// Fingerprint of the gardens' names: other names need another table, since addresses that the
    /// old ones led to may be in it.
    pub names: [u8; 4],
    /// Port of the DNS forwarder, UDP and TCP.
    pub dns_port: u16,
    /// Connections that a device may hold once it is online, and before.
    pub flows: (u32, u32),
    /// Whether others' flow tables, past which limits do not reach, are put up with.
    pub allow_flow_offload: bool,
    /// Table flags: who owns it and whether it outlives us.
    pub flags: u32,
    /// The table does not know yet, or no more, who is online. It has a set on top then, so that a
    /// start takes it for another's and builds its own.
    pub closed: bool,
}

/// One guest network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZonePlan {
    /// The zone's name, part of its sets' names.
    pub name: String,
    /// Its interface.
    pub interface: String,
    /// Whether its sessions are good in every zone that roams.
    pub roam: bool,
    /// Addresses that anybody may reach.
    pub garden: Vec<Network>,
    /// Router ports open to its online guests.
    pub router_ports: Vec<RouterPort>,
}

impl Plan {
    /// The interfaces on which a session of this zone is good: the zone's own, or, if it roams,
    /// those of all zones that do.
    pub fn interfaces(&self, zone: ZoneId) -> impl Iterator<Item = &str> {
        let own = self.zones.get(usize::from(zone.0));
        let good = move |one: &&ZonePlan| {
            own.is_some_and(|own| own.interface == one.interface || (own.roam && one.roam))
        };
        self.zones.iter().filter(good).map(|zone| zone.interface.as_str())
    }

    /// How far a session's number is shifted into the mark.
    pub const fn mark_shift(&self) -> u32 {
        self.mark_mask.trailing_zeros()
    }

    /// The most sessions that marks can tell apart: the two highest bits stand for
    /// [`Self::pass_mark`] and [`Self::sole_bit`].
    pub const fn most_sessions(&self) -> u32 {
        (self.sole_bit() - 1) >> self.mark_shift()
    }

    /// The mark of the connections of a device with a pass. A few devices may share one: what answers
    /// one's is let through for as long as another's pass lasts, from the app alone.
    pub fn pass_mark(&self, mac: Mac) -> u32 {
        let [_, _, tail @ ..] = mac.0;
        u32::from_ne_bytes(tail) & self.number_mask() | self.pass_bit()
    }

    /// Set in the mark of a session that stands in [`UP`], under no more than a part of its MAC.
    pub const fn sole_bit(&self) -> u32 {
        self.pass_bit() >> 1
    }

    /// The bits of the mark that hold a session's number.
    pub const fn number_mask(&self) -> u32 {
        self.mark_mask ^ self.pass_bit() ^ self.sole_bit()
    }

    pub(super) const fn pass_bit(&self) -> u32 {
        1 << self.mark_mask.ilog2()
    }

    /// All of the table but the elements that come and go.
    pub fn ruleset(&self) -> Ruleset {
        Ruleset {
            table: Table { name: TABLE.into(), flags: self.flags, owner: None },
            sets: self.sets(),
            chains: chains(if self.app.is_some() { &pass::CHAINS } else { &[] }),
            rules: self.rules(),
        }
    }

    fn sets(&self) -> Vec<Set> {
        let device = (datatype::IFNAME_ETHER, DEVICE_LEN);
        let mark = (datatype::MARK, 4);
        let sized = |set: Set| Set { size: Some(self.most_sessions()), ..set };
        let roaming = self.zones.iter().filter(|zone| zone.roam).count();
        let places = u32::try_from(roaming.max(1)).unwrap_or(1);
        let in_each = |set: Set| Set { size: Some(self.most_sessions() * places), ..set };
        let tail = (datatype::ETHER, TAIL_LEN);
        let station = (datatype::ETHER_MARK, STATION_LEN);
        let mut sets = vec![
            Set { size: Some(MOST_ZONES), ..set(ZONES, (datatype::IFNAME, 16), 0) },
            in_each(Set {
                data: Some((datatype::MARK, 4)),
                gc_interval_ms: Some(TIDY_EVERY_MS),
                ..set(GRANTED, device, SET_MAP | SET_TIMEOUT)
            }),
        ];
        let verdicts = |name, key, flags| Set {
            data: Some((datatype::VERDICT, 0)),
            gc_interval_ms: (flags & SET_TIMEOUT != 0).then_some(TIDY_EVERY_MS),
            ..sized(set(name, key, SET_MAP | flags))
        };
        sets.extend([
            verdicts(UP, tail, 0),
            verdicts(UP_ALIKE, station, SET_TIMEOUT),
            verdicts(DOWN, mark, SET_TIMEOUT),
            verdicts(QUOTA, mark, 0),
        ]);
        sets.extend(self.garden_sets());
        sets.extend(self.pass_sets());
        sets.extend(flows::sets());
        sets.push(set(ICMP6_TYPES_SET, (datatype::ICMPV6_TYPE, 1), 0));
        sets.extend(self.closed.then(|| set("closed", mark, 0)));
        sets
    }

    fn rules(&self) -> Vec<Rule> {
        let mut rules =
            vec![rule("guest_nat", [guest(MetaKey::IifName), ethernet()], [jump("first_packet")])];
        rules.extend(astray());
        rules.extend(self.cap_flows());
        rules.extend(self.redirect());
        rules.extend(self.router());
        rules.extend(self.forward());
        rules.extend(self.app());
        rules.extend(deny());
        rules
    }

    /// New connections of devices that are not granted: HTTP to the intercept listener, DNS to
    /// the forwarder, whatever address they were sent to. What a grant leaves of them ends with
    /// the next packet: HTTP is reset, and for DNS see [`super::Redirections`].
    fn redirect(&self) -> Vec<Rule> {
        let chain = "newcomer";
        let mut rules = vec![
            rule("first_packet", [], [goto(chain)]),
            rule(chain, [device()], [granted(), Expr::Verdict(Verdict::Return)]),
        ];
        rules.push(rule(chain, [ethernet(), sender()], [lookup(BLOCKED), goto("redirected")]));
        rules.extend(self.garden(chain, Side::Destination, &Verdict::Return));
        rules.extend(self.with_pass(chain, jump("app_direct")));
        rules.push(rule(chain, [], [goto("redirected")]));
        let chain = "redirected";
        for (l4proto, asked, ours) in [
            (TCP, 80, self.intercept_port),
            (UDP, DNS_PORT, self.dns_port),
            (TCP, DNS_PORT, self.dns_port),
        ] {
            let data = ours.to_be_bytes().to_vec();
            rules.push(rule(
                chain,
                [l4(l4proto), destination_port(asked)],
                [Expr::Immediate { dreg: Reg::R0, data }, Expr::Redirect { port: Some(Reg::R0) }],
            ));
        }
        rules
    }

    /// Loads what [`Self::pass_mark`] computes.
    pub(super) fn sender_pass_mark(&self) -> Vec<Expr> {
        let mark = Expr::Bitwise {
            sreg: Reg::R0,
            dreg: Reg::R0,
            mask: self.number_mask().to_ne_bytes().to_vec(),
            xor: self.pass_bit().to_ne_bytes().to_vec(),
        };
        vec![sender_tail(), mark]
    }

    /// What guests may reach on the router itself, online or not.
    fn router(&self) -> Vec<Rule> {
        let accept = || [Expr::Verdict(Verdict::Accept)];
        let icmp_type = Expr::Payload { base: Base::Transport, offset: 0, len: 1, dreg: Reg::R0 };
        let chain = "router";
        let mut rules = vec![
            rule("guest_input", [guest(MetaKey::IifName)], [goto(chain)]),
            rule(chain, [answer()], accept()),
            not_tracked(chain),
            rule(chain, [ct(CtKey::State, bit(CT_RELATED))], accept()),
            // A browser keeps connections for what it may ask next: after a login it is to ask on another.
            rule(
                chain,
                [l4(TCP), destination_port(self.intercept_port), ethernet(), device()],
                [granted(), Expr::Reject(Reject::TcpReset)],
            ),
            rule(
                chain,
                [l4(ICMPV6), vec![icmp_type.clone()]],
                [lookup(ICMP6_TYPES_SET), Expr::Verdict(Verdict::Accept)],
            ),
            rule(chain, [l4(ICMP), vec![icmp_type, cmp(CmpOp::Eq, [ICMP_ECHO_REQUEST])]], accept()),
            rule(chain, [l4(IGMP)], accept()),
        ];
        let dns = [DNS_PORT, self.dns_port];
        let tcp = dns.iter().chain(&self.portal_ports).chain([&self.intercept_port]);
        let udp = DHCP_PORTS.into_iter().chain(dns).map(|port| (UDP, port));
        rules.extend(DHCP_PORTS.map(|port| flows::cap_dhcp(chain, port)));
        for (l4proto, port) in udp.chain(tcp.map(|port| (TCP, *port))) {
            rules.push(rule(chain, [l4(l4proto), destination_port(port)], accept()));
        }
        for zone in &self.zones {
            rules.extend(zone.router_ports.iter().map(|open| {
                let l4proto = if open.udp { UDP } else { TCP };
                rule(
                    chain,
                    [
                        zone.matches(MetaKey::IifName),
                        l4(l4proto),
                        destination_port(open.port),
                        device(),
                    ],
                    [granted(), Expr::Verdict(Verdict::Accept)],
                )
            }));
        }
        rules.push(rule(chain, [], [goto("deny")]));
        rules
    }
}

/// A guest's packet whose source lives elsewhere ends here (RFC 2827): our very answer to it, a
/// refusal or an echo, would carry what the guest wrote to any host of the internet. So does one
/// that would go on to a guest network: guests are no servers.
fn astray() -> [Rule; 2] {
    let drop = || Expr::Verdict(Verdict::Drop);
    [
        rule(
            "first_packet",
            [vec![Expr::WayBack { dreg: Reg::R0 }, cmp(CmpOp::Eq, [0])]],
            [drop()],
        ),
        rule(
            "first_packet",
            [
                vec![
                    Expr::Meta { key: MetaKey::PktType, dreg: Reg::R0 },
                    cmp(CmpOp::Eq, [PACKET_HOST]),
                ],
                vec![Expr::WayOut { dreg: Reg::R0 }],
            ],
            [lookup(ZONES), drop()],
        ),
    ]
}

/// What conntrack takes for no packet of any connection never met [`astray`]: it gets no answer.
fn not_tracked(chain: &str) -> Rule {
    rule(chain, [ct(CtKey::State, bit(CT_INVALID))], [Expr::Verdict(Verdict::Drop)])
}

fn deny() -> [Rule; 4] {
    let limit = Expr::Limit {
        kind: LimitKind::Packets,
        rate: REFUSALS_A_SECOND,
        per_secs: 1,
        burst: 1000,
        over: true,
    };
    [
        not_tracked("deny"),
        rule("deny", [], [limit, Expr::Verdict(Verdict::Drop)]),
        rule("deny", [l4(TCP)], [Expr::Reject(Reject::TcpReset)]),
        rule("deny", [], [Expr::Reject(Reject::Icmpx(Icmpx::AdminProhibited))]),
    ]
}

fn chains(more: &[&'static str]) -> Vec<Chain> {
    let base = |name: &str, kind: &str, hook, priority| Chain {
        name: name.into(),
        hook: Some(Hook { kind: kind.into(), hook, priority, drop_by_default: false }),
    };
    let mut chains = vec![
        base("guest_nat", "nat", PREROUTING, -105),
        base("guest_input", "filter", INPUT, -10),
        base("guest_forward", "filter", FORWARD, -10),
    ];
    let plain = [
        "first_packet",
        "new_flow",
        "guest_flow",
        "crowd",
        "newcomer",
        "redirected",
        "router",
        "within",
        "shared_mark",
        "upload",
        "begin",
        "begin_beside",
        "download",
        "deny",
    ];
    chains.extend(plain.iter().chain(more).map(|name| Chain { name: (*name).into(), hook: None }));
    chains
}
