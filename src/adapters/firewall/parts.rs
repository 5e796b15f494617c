//! What rules are put together from. Register 0 holds what is compared or looked up.

use super::ruleset::{GRANTED, ZONES};
use crate::wire::nft::expr::{Base, CmpOp, CtKey, Expr, MetaKey, Reg, Verdict};
use crate::wire::nft::object::{Rule, Set};

const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
const ARPHRD_ETHER: u16 = 1;
/// `ct direction original`
pub(super) const CT_ORIGINAL: u8 = 0;
/// `ct direction reply`
const CT_REPLY: u8 = 1;

/// The side of a packet that an address is looked at on.
#[derive(Clone, Copy)]
pub(super) enum Side {
    Destination,
    Source,
}

impl Side {
    /// Loads the address of this side of the packet, if it is of that family.
    pub(super) fn address(self, v6: bool, dreg: Reg) -> Vec<Expr> {
        let (proto, offset, len) = match (self, v6) {
            (Self::Source, false) => (NFPROTO_IPV4, 12, 4),
            (Self::Destination, false) => (NFPROTO_IPV4, 16, 4),
            (Self::Source, true) => (NFPROTO_IPV6, 8, 16),
            (Self::Destination, true) => (NFPROTO_IPV6, 24, 16),
        };
        vec![
            Expr::Meta { key: MetaKey::NfProto, dreg: Reg::R0 },
            cmp(CmpOp::Eq, [proto]),
            Expr::Payload { base: Base::Network, offset, len, dreg },
        ]
    }
}

pub(super) fn set(name: &str, (key_type, key_len): (u32, usize), flags: u32) -> Set {
    Set {
        name: name.into(),
        flags,
        key_type,
        key_len: u32::try_from(key_len).unwrap_or(u32::MAX),
        data: None,
        size: None,
        timeout_ms: None,
        gc_interval_ms: None,
        exprs: Vec::new(),
    }
}

pub(super) fn rule<const A: usize, const B: usize>(
    chain: &str,
    matches: [Vec<Expr>; A],
    then: [Expr; B],
) -> Rule {
    let exprs = matches.into_iter().flatten().chain(then).collect();
    Rule { chain: chain.into(), exprs }
}

/// The packet came from (or goes to) a guest network.
pub(super) fn guest(dir: MetaKey) -> Vec<Expr> {
    vec![Expr::Meta { key: dir, dreg: Reg::R0 }, lookup(ZONES)]
}

pub(super) fn ethernet() -> Vec<Expr> {
    vec![
        Expr::Meta { key: MetaKey::IifType, dreg: Reg::R0 },
        cmp(CmpOp::Eq, ARPHRD_ETHER.to_ne_bytes()),
    ]
}

/// `iifname . ether saddr` in registers 0 to 5.
pub(super) fn device() -> Vec<Expr> {
    vec![
        Expr::Meta { key: MetaKey::IifName, dreg: Reg::R0 },
        Expr::Payload { base: Base::Link, offset: 6, len: 6, dreg: Reg::R4 },
    ]
}

/// `ether saddr` in registers 0 and 1.
pub(super) fn sender() -> Vec<Expr> {
    vec![Expr::Payload { base: Base::Link, offset: 6, len: 6, dreg: Reg::R0 }]
}

/// The last four bytes of `ether saddr`.
pub(super) fn sender_tail() -> Expr {
    Expr::Payload { base: Base::Link, offset: 8, len: 4, dreg: Reg::R0 }
}

pub(super) fn l4(protocol: u8) -> Vec<Expr> {
    vec![Expr::Meta { key: MetaKey::L4Proto, dreg: Reg::R0 }, cmp(CmpOp::Eq, [protocol])]
}

pub(super) fn destination_port(port: u16) -> Vec<Expr> {
    vec![
        Expr::Payload { base: Base::Transport, offset: 2, len: 2, dreg: Reg::R0 },
        cmp(CmpOp::Eq, port.to_be_bytes()),
    ]
}

pub(super) fn ct(key: CtKey, test: Vec<Expr>) -> Vec<Expr> {
    std::iter::once(Expr::Ct { key, dreg: Reg::R0 }).chain(test).collect()
}

/// The packet answers one that went the other way, on a connection begun there.
pub(super) fn answer() -> Vec<Expr> {
    ct(CtKey::Direction, vec![cmp(CmpOp::Eq, [CT_REPLY])])
}

pub(super) fn eq(value: u32) -> Vec<Expr> {
    vec![cmp(CmpOp::Eq, value.to_ne_bytes())]
}

pub(super) fn bit(bits: u32) -> Vec<Expr> {
    vec![mask(bits), cmp(CmpOp::Neq, 0u32.to_ne_bytes())]
}

pub(super) fn mask(mask: u32) -> Expr {
    mask_in(Reg::R0, mask)
}

pub(super) fn mask_in(reg: Reg, mask: u32) -> Expr {
    let (mask, xor) = (mask.to_ne_bytes().to_vec(), vec![0; 4]);
    Expr::Bitwise { sreg: reg, dreg: reg, mask, xor }
}

pub(super) fn cmp<const N: usize>(op: CmpOp, data: [u8; N]) -> Expr {
    Expr::Cmp { op, sreg: Reg::R0, data: data.to_vec() }
}

pub(super) fn lookup(set: &str) -> Expr {
    Expr::Lookup { set: set.into(), sreg: Reg::R0, dreg: None, inverted: false }
}

/// Where [`granted`] leaves the session's mark.
pub(super) const GRANTED_MARK: Reg = Reg::R8;

/// The device, as [`device`] loads it, is online.
pub(super) fn granted() -> Expr {
    let dreg = Some(GRANTED_MARK);
    Expr::Lookup { set: GRANTED.into(), sreg: Reg::R0, dreg, inverted: false }
}

pub(super) fn jump(chain: &str) -> Expr {
    Expr::Verdict(Verdict::Jump(chain.into()))
}

pub(super) fn goto(chain: &str) -> Expr {
    Expr::Verdict(Verdict::Goto(chain.into()))
}
