//! Attributes to expressions.

use super::{
    WireError,
    attr::{Fields, list},
    expr::{
        Base, CmpOp, CtKey, DynsetOp, Expr, Icmpx, LimitKind, MetaKey, NatKind, Reg, Reject,
        Verdict,
    },
    expr_emit::{
        DATA_VALUE, DATA_VERDICT, EXPR_DATA, EXPR_NAME, FIB_OIF, FIB_OIFNAME, FIB_WAY_BACK,
        FIB_WAY_OUT, REG_VERDICT,
    },
};

/// `NFT_BITWISE_OR`
pub(super) const BITWISE_OR: u32 = 4;
const BITWISE_BOOL: u32 = 0;

type Parsed = Result<Expr, WireError>;

impl Expr {
    /// From the attributes that [`Expr::emit`] writes.
    pub fn parse(buf: &[u8]) -> Parsed {
        let outer = Fields::parse(buf)?;
        let name = outer.name(EXPR_NAME)?;
        let data = outer.get(EXPR_DATA).unwrap_or_default();
        let f = Fields::parse(data)?;
        match name.as_str() {
            "meta" if f.get(3).is_some() => {
                Ok(Self::MetaSet { key: code(&f, 2, MetaKey::from_code)?, sreg: reg(&f, 3)? })
            }
            "meta" => Ok(Self::Meta { key: code(&f, 2, MetaKey::from_code)?, dreg: reg(&f, 1)? }),
            "ct" if f.get(4).is_some() => {
                Ok(Self::CtSet { key: code(&f, 2, CtKey::from_code)?, sreg: reg(&f, 4)? })
            }
            "ct" => Ok(Self::Ct { key: code(&f, 2, CtKey::from_code)?, dreg: reg(&f, 1)? }),
            "payload" => payload(&f),
            "cmp" => Ok(Self::Cmp {
                op: code(&f, 2, CmpOp::from_code)?,
                sreg: reg(&f, 1)?,
                data: value(&f, 3)?,
            }),
            "bitwise" => bitwise(&f),
            "lookup" => lookup(&f),
            "fib" if f.u32(2)? == FIB_OIF && f.u32(3)? == FIB_WAY_BACK => {
                Ok(Self::WayBack { dreg: reg(&f, 1)? })
            }
            "fib" if f.u32(2)? == FIB_OIFNAME && f.u32(3)? == FIB_WAY_OUT => {
                Ok(Self::WayOut { dreg: reg(&f, 1)? })
            }
            "immediate" => immediate(&f),
            _ => statement(&name, &f, data),
        }
    }

    /// From the list that [`Expr::emit_list`] writes.
    pub fn parse_list(buf: &[u8]) -> Result<Vec<Self>, WireError> {
        list(buf).map(|item| item.and_then(|(_, elem)| Self::parse(elem))).collect()
    }
}

fn statement(name: &str, f: &Fields<'_>, data: &[u8]) -> Parsed {
    match name {
        "reject" => reject(f),
        "redir" => Ok(Expr::Redirect { port: opt_reg(f, 1)? }),
        "nat" => Ok(Expr::Nat {
            kind: code(f, 1, NatKind::from_code)?,
            family: u8::try_from(f.u32(2)?).map_err(|_| WireError::Length(2))?,
            addr: opt_reg(f, 3)?,
            port: opt_reg(f, 5)?,
        }),
        "masq" => Ok(Expr::Masquerade),
        "counter" => Ok(Expr::Counter { bytes: f.u64(1)?, packets: f.u64(2)? }),
        "limit" => Ok(Expr::Limit {
            rate: f.u64(1)?,
            per_secs: f.u64(2)?,
            burst: f.u32_or(3, 0)?,
            kind: code(f, 4, LimitKind::from_code)?,
            over: f.u32_or(5, 0)? & 1 != 0,
        }),
        "quota" => Ok(Expr::Quota {
            bytes: f.u64(1)?,
            over: f.u32_or(2, 0)? & 1 != 0,
            consumed: f.opt_u64(4)?.unwrap_or(0),
        }),
        "connlimit" => Ok(Expr::ConnLimit { count: f.u32(1)?, over: f.u32_or(2, 0)? & 1 != 0 }),
        "dynset" => dynset(f),
        _ => Ok(Expr::Other { name: name.to_owned(), data: data.to_vec() }),
    }
}

fn payload(f: &Fields<'_>) -> Parsed {
    Ok(Expr::Payload {
        base: code(f, 2, Base::from_code)?,
        offset: f.u32(3)?,
        len: f.u32(4)?,
        dreg: reg(f, 1)?,
    })
}

fn bitwise(f: &Fields<'_>) -> Parsed {
    let (sreg, dreg) = (reg(f, 1)?, reg(f, 2)?);
    match f.u32_or(6, BITWISE_BOOL)? {
        BITWISE_BOOL => Ok(Expr::Bitwise { sreg, dreg, mask: value(f, 4)?, xor: value(f, 5)? }),
        BITWISE_OR => Ok(Expr::Or { sreg, sreg2: reg(f, 8)?, dreg, len: f.u32(3)? }),
        op => Err(WireError::Unknown(6, op)),
    }
}

fn lookup(f: &Fields<'_>) -> Parsed {
    if f.get(3).is_some() && f.u32(3)? == REG_VERDICT {
        return Ok(Expr::VerdictMap { map: f.name(1)?, sreg: reg(f, 2)? });
    }
    Ok(Expr::Lookup {
        set: f.name(1)?,
        sreg: reg(f, 2)?,
        dreg: opt_reg(f, 3)?,
        inverted: f.u32_or(5, 0)? & 1 != 0,
    })
}

fn immediate(f: &Fields<'_>) -> Parsed {
    let data = f.nested(2)?;
    match data.get(DATA_VALUE) {
        Some(value) => Ok(Expr::Immediate { dreg: reg(f, 1)?, data: value.to_vec() }),
        None => Ok(Expr::Verdict(Verdict::parse(&data)?)),
    }
}

impl Verdict {
    pub(super) fn parse(data: &Fields<'_>) -> Result<Self, WireError> {
        let v = data.nested(DATA_VERDICT)?;
        let code = v.u32(1)?;
        match code.cast_signed() {
            0 => Ok(Self::Drop),
            1 => Ok(Self::Accept),
            -3 => Ok(Self::Jump(v.name(2)?)),
            -4 => Ok(Self::Goto(v.name(2)?)),
            -5 => Ok(Self::Return),
            _ => Err(WireError::Unknown(1, code)),
        }
    }
}

fn reject(f: &Fields<'_>) -> Parsed {
    Ok(Expr::Reject(match f.u32(1)? {
        1 => Reject::TcpReset,
        2 => {
            let icmpx = f.u8(2)?.into();
            Reject::Icmpx(Icmpx::from_code(icmpx).ok_or(WireError::Unknown(2, icmpx))?)
        }
        other => return Err(WireError::Unknown(1, other)),
    }))
}

fn dynset(f: &Fields<'_>) -> Parsed {
    let exprs = match (f.get(7), f.get(10)) {
        (_, Some(many)) => Expr::parse_list(many)?,
        (Some(one), None) => vec![Expr::parse(one)?],
        (None, None) => Vec::new(),
    };
    Ok(Expr::Dynset {
        op: code(f, 3, DynsetOp::from_code)?,
        set: f.name(1)?,
        key: reg(f, 4)?,
        timeout_ms: f.opt_u64(6)?.filter(|ms| *ms != 0),
        exprs,
        inverted: f.u32_or(9, 0)? & 1 != 0,
    })
}

fn code<T>(f: &Fields<'_>, kind: u16, from: fn(u32) -> Option<T>) -> Result<T, WireError> {
    let code = f.u32(kind)?;
    from(code).ok_or(WireError::Unknown(kind, code))
}

/// The kernel names registers 0, 4, 8 and 12 by their old 16-byte numbers 1 to 4.
fn reg(f: &Fields<'_>, kind: u16) -> Result<Reg, WireError> {
    let code = f.u32(kind)?;
    match u8::try_from(code) {
        Ok(old @ 1..=4) => Ok(Reg((old - 1) * 4)),
        Ok(new @ 8..=23) => Ok(Reg(new - 8)),
        _ => Err(WireError::Unknown(kind, code)),
    }
}

fn opt_reg(f: &Fields<'_>, kind: u16) -> Result<Option<Reg>, WireError> {
    f.get(kind).map(|_| reg(f, kind)).transpose()
}

fn value(f: &Fields<'_>, kind: u16) -> Result<Vec<u8>, WireError> {
    Ok(f.nested(kind)?.need(DATA_VALUE)?.to_vec())
}
