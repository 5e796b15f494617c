//! The expressions of rules and set elements.

/// A 32-bit register, 0 to 15. Sixteen-byte values start at a multiple of four.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reg(pub u8);

impl Reg {
    pub const R0: Reg = Reg(0);
    pub const R4: Reg = Reg(4);
    pub const R8: Reg = Reg(8);
}

macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $value:expr,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($variant,)+ }
        impl $name {
            pub fn code(self) -> u32 {
                match self { $(Self::$variant => $value,)+ }
            }
            pub fn from_code(code: u32) -> Option<Self> {
                match code { $(v if v == $value => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

codes!(MetaKey {
    Protocol = 1, Mark = 3, IifName = 6, OifName = 7, IifType = 8, NfProto = 15, L4Proto = 16,
    PktType = 19,
});
codes!(CtKey { State = 0, Direction = 1, Status = 2, Mark = 3, });
codes!(Base { Link = 0, Network = 1, Transport = 2, });
codes!(CmpOp { Eq = 0, Neq = 1, Lt = 2, Lte = 3, Gt = 4, Gte = 5, });
codes!(LimitKind { Packets = 0, Bytes = 1, });
codes!(NatKind { Snat = 0, Dnat = 1, });
codes!(DynsetOp { Add = 0, Update = 1, Delete = 2, });
codes!(
    /// Codes of `reject with icmpx`.
    Icmpx { NoRoute = 0, PortUnreachable = 1, HostUnreachable = 2, AdminProhibited = 3, }
);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Drop,
    Accept,
    Return,
    Jump(String),
    Goto(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reject {
    TcpReset,
    Icmpx(Icmpx),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expr {
    Meta {
        key: MetaKey,
        dreg: Reg,
    },
    MetaSet {
        key: MetaKey,
        sreg: Reg,
    },
    Ct {
        key: CtKey,
        dreg: Reg,
    },
    CtSet {
        key: CtKey,
        sreg: Reg,
    },
    Payload {
        base: Base,
        offset: u32,
        len: u32,
        dreg: Reg,
    },
    Cmp {
        op: CmpOp,
        sreg: Reg,
        data: Vec<u8>,
    },
    /// `dreg = (sreg & mask) ^ xor`
    Bitwise {
        sreg: Reg,
        dreg: Reg,
        mask: Vec<u8>,
        xor: Vec<u8>,
    },
    /// `dreg = sreg | sreg2` (kernel 6.13 and later)
    Or {
        sreg: Reg,
        sreg2: Reg,
        dreg: Reg,
        len: u32,
    },
    Lookup {
        set: String,
        sreg: Reg,
        dreg: Option<Reg>,
        inverted: bool,
    },
    /// Does what the map says for the key, if it has it.
    VerdictMap {
        map: String,
        sreg: Reg,
    },
    /// `fib saddr . iif oif exists`: one byte, 1 if the way back to the packet's source leads out
    /// of the interface that it came in on.
    WayBack {
        dreg: Reg,
    },
    /// `fib daddr oifname`: the interface that leads to the packet's destination; empty if it is
    /// this host, or nowhere.
    WayOut {
        dreg: Reg,
    },
    Immediate {
        dreg: Reg,
        data: Vec<u8>,
    },
    Verdict(Verdict),
    Reject(Reject),
    Redirect {
        port: Option<Reg>,
    },
    Nat {
        kind: NatKind,
        family: u8,
        addr: Option<Reg>,
        port: Option<Reg>,
    },
    Masquerade,
    Counter {
        packets: u64,
        bytes: u64,
    },
    /// Matches up to `rate` a `per_secs` (`over`: beyond it).
    Limit {
        kind: LimitKind,
        rate: u64,
        per_secs: u64,
        burst: u32,
        over: bool,
    },
    /// Matches until `bytes` are consumed (`over`: once they are).
    Quota {
        bytes: u64,
        consumed: u64,
        over: bool,
    },
    /// Matches up to `count` connections (`over`: beyond it).
    ConnLimit {
        count: u32,
        over: bool,
    },
    Dynset {
        op: DynsetOp,
        set: String,
        key: Reg,
        timeout_ms: Option<u64>,
        exprs: Vec<Expr>,
        inverted: bool,
    },
    /// Anything this program never writes; kept so that a comparison sees it.
    Other {
        name: String,
        data: Vec<u8>,
    },
}

impl Expr {
    /// The same expression with what traffic changes set to zero: equal shapes mean that the
    /// kernel holds what was asked for.
    pub fn shape(&self) -> Expr {
        match self {
            Self::Counter { .. } => Self::Counter { packets: 0, bytes: 0 },
            Self::Quota { bytes, over, .. } => {
                Self::Quota { bytes: *bytes, consumed: 0, over: *over }
            }
            other => other.clone(),
        }
    }
}
