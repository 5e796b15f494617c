//! Expressions to attributes.

use super::{
    attr::Attrs,
    expr::{Expr, Reg, Reject, Verdict},
};

pub(super) const EXPR_NAME: u16 = 1;
pub(super) const EXPR_DATA: u16 = 2;
pub(super) const DATA_VALUE: u16 = 1;
pub(super) const DATA_VERDICT: u16 = 2;
/// `NFT_FIB_RESULT_OIF`, and the flags saddr, iif and present.
pub(super) const FIB_OIF: u32 = 1;
pub(super) const FIB_WAY_BACK: u32 = 1 | 8 | 32;
/// `NFT_FIB_RESULT_OIFNAME`, and the flag daddr.
pub(super) const FIB_OIFNAME: u32 = 2;
pub(super) const FIB_WAY_OUT: u32 = 2;
const LIST_ELEM: u16 = 1;
const REG32_00: u32 = 8;
pub(super) const REG_VERDICT: u32 = 0;

impl Reg {
    pub(super) fn code(self) -> u32 {
        REG32_00 + u32::from(self.0)
    }
}

impl Verdict {
    pub(super) fn code(&self) -> i32 {
        match self {
            Self::Drop => 0,
            Self::Accept => 1,
            Self::Jump(_) => -3,
            Self::Goto(_) => -4,
            Self::Return => -5,
        }
    }

    pub(super) fn emit(&self, attrs: &mut Attrs) {
        attrs.nest(DATA_VERDICT, |v| {
            v.u32(1, self.code().cast_unsigned());
            if let Self::Jump(chain) | Self::Goto(chain) = self {
                v.name(2, chain);
            }
        });
    }
}

impl Expr {
    /// `NFTA_EXPR_NAME` and `NFTA_EXPR_DATA`, to be nested in a list element or on their own.
    pub fn emit(&self, attrs: &mut Attrs) {
        attrs.name(EXPR_NAME, self.name()).nest(EXPR_DATA, |data| self.emit_data(data));
    }

    pub fn emit_list(exprs: &[Expr], attrs: &mut Attrs) {
        for expr in exprs {
            attrs.nest(LIST_ELEM, |elem| expr.emit(elem));
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Meta { .. } | Self::MetaSet { .. } => "meta",
            Self::Ct { .. } | Self::CtSet { .. } => "ct",
            Self::Payload { .. } => "payload",
            Self::Cmp { .. } => "cmp",
            Self::Bitwise { .. } | Self::Or { .. } => "bitwise",
            Self::Lookup { .. } | Self::VerdictMap { .. } => "lookup",
            Self::WayBack { .. } | Self::WayOut { .. } => "fib",
            Self::Immediate { .. } | Self::Verdict(_) => "immediate",
            Self::Reject(_) => "reject",
            Self::Redirect { .. } => "redir",
            Self::Nat { .. } => "nat",
            Self::Masquerade => "masq",
            Self::Counter { .. } => "counter",
            Self::Limit { .. } => "limit",
            Self::Quota { .. } => "quota",
            Self::ConnLimit { .. } => "connlimit",
            Self::Dynset { .. } => "dynset",
            Self::Other { name, .. } => name,
        }
    }

    fn emit_data(&self, a: &mut Attrs) {
        match self {
            Self::Meta { key, dreg } => a.u32(1, dreg.code()).u32(2, key.code()),
            Self::MetaSet { key, sreg } => a.u32(2, key.code()).u32(3, sreg.code()),
            Self::Ct { key, dreg } => a.u32(1, dreg.code()).u32(2, key.code()),
            Self::CtSet { key, sreg } => a.u32(2, key.code()).u32(4, sreg.code()),
            Self::Payload { base, offset, len, dreg } => {
                a.u32(1, dreg.code()).u32(2, base.code()).u32(3, *offset).u32(4, *len)
            }
            Self::Cmp { op, sreg, data } => value(a.u32(1, sreg.code()).u32(2, op.code()), 3, data),
            Self::WayBack { dreg } => a.u32(1, dreg.code()).u32(2, FIB_OIF).u32(3, FIB_WAY_BACK),
            Self::WayOut { dreg } => a.u32(1, dreg.code()).u32(2, FIB_OIFNAME).u32(3, FIB_WAY_OUT),
            Self::Immediate { dreg, data } => value(a.u32(1, dreg.code()), 2, data),
            Self::Verdict(verdict) => a.u32(1, REG_VERDICT).nest(2, |data| verdict.emit(data)),
            Self::Bitwise { sreg, dreg, mask, xor } => {
                let len = u32::try_from(mask.len()).unwrap_or(u32::MAX);
                a.u32(1, sreg.code()).u32(2, dreg.code()).u32(3, len);
                value(value(a, 4, mask), 5, xor)
            }
            Self::Or { sreg, sreg2, dreg, len } => a
                .u32(1, sreg.code())
                .u32(2, dreg.code())
                .u32(3, *len)
                .u32(6, super::expr_parse::BITWISE_OR)
                .u32(8, sreg2.code()),
            Self::Lookup { set, sreg, dreg, inverted } => {
                opt_reg(a.name(1, set).u32(2, sreg.code()), 3, *dreg);
                flag(a, 5, *inverted)
            }
            Self::VerdictMap { map, sreg } => {
                a.name(1, map).u32(2, sreg.code()).u32(3, REG_VERDICT)
            }
            other => other.emit_statement(a),
        };
    }

    fn emit_statement<'a>(&self, a: &'a mut Attrs) -> &'a mut Attrs {
        match self {
            Self::Reject(Reject::TcpReset) => a.u32(1, 1).u8(2, 0),
            Self::Reject(Reject::Icmpx(code)) => {
                a.u32(1, 2).u8(2, u8::try_from(code.code()).unwrap_or(0))
            }
            Self::Redirect { port } => opt_reg(a, 1, *port),
            Self::Nat { kind, family, addr, port } => {
                a.u32(1, kind.code()).u32(2, u32::from(*family));
                opt_reg(opt_reg(a, 3, *addr), 5, *port)
            }
            Self::Counter { packets, bytes } => a.u64(1, *bytes).u64(2, *packets),
            Self::Limit { kind, rate, per_secs, burst, over } => {
                a.u64(1, *rate).u64(2, *per_secs).u32(3, *burst).u32(4, kind.code());
                a.u32(5, u32::from(*over))
            }
            Self::Quota { bytes, consumed, over } => {
                a.u64(1, *bytes).u32(2, u32::from(*over)).u64(4, *consumed)
            }
            Self::ConnLimit { count, over } => a.u32(1, *count).u32(2, u32::from(*over)),
            Self::Dynset { op, set, key, timeout_ms, exprs, inverted } => {
                a.name(1, set).u32(3, op.code()).u32(4, key.code());
                if let Some(ms) = timeout_ms {
                    a.u64(6, *ms);
                }
                match exprs.as_slice() {
                    [] => {}
                    [one] => {
                        a.nest(7, |elem| one.emit(elem));
                    }
                    many => {
                        a.nest(10, |list| Self::emit_list(many, list));
                    }
                }
                a.u32(9, u32::from(*inverted) | u32::from(!exprs.is_empty()) << 1)
            }
            _ => a,
        }
    }
}

fn value<'a>(attrs: &'a mut Attrs, kind: u16, data: &[u8]) -> &'a mut Attrs {
    attrs.nest(kind, |inner| {
        inner.bytes(DATA_VALUE, data);
    })
}

fn opt_reg(attrs: &mut Attrs, kind: u16, reg: Option<Reg>) -> &mut Attrs {
    match reg {
        Some(reg) => attrs.u32(kind, reg.code()),
        None => attrs,
    }
}

fn flag(attrs: &mut Attrs, kind: u16, on: bool) -> &mut Attrs {
    if on { attrs.u32(kind, 1) } else { attrs }
}
