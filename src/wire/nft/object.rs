//! Tables, chains, rules and sets.

use super::{
    WireError,
    attr::{Attrs, Fields, list},
    expr::Expr,
    keys::datatype,
};

pub const TABLE_OWNER: u32 = 0x2;
pub const TABLE_PERSIST: u32 = 0x4;

pub const SET_INTERVAL: u32 = 0x4;
pub const SET_MAP: u32 = 0x8;
pub const SET_TIMEOUT: u32 = 0x10;
/// The packet path may add elements.
pub const SET_EVAL: u32 = 0x20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub name: String,
    pub flags: u32,
    /// Port id of the owning socket; only ever read.
    pub owner: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    pub kind: String,
    pub hook: u32,
    pub priority: i32,
    pub drop_by_default: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    pub name: String,
    pub hook: Option<Hook>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub chain: String,
    pub exprs: Vec<Expr>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    pub name: String,
    pub flags: u32,
    pub key_type: u32,
    pub key_len: u32,
    /// Type and length of what a map maps to.
    pub data: Option<(u32, u32)>,
    /// The most elements it may hold.
    pub size: Option<u32>,
    pub timeout_ms: Option<u64>,
    /// How often the kernel walks the set and frees what has expired, each second if not given.
    pub gc_interval_ms: Option<u32>,
    /// Kinds of expression that every element has.
    pub exprs: Vec<Expr>,
}

/// A flow table: packets on its devices may go round every chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowTable {
    pub table: String,
    pub name: String,
    pub devices: Vec<String>,
}

impl FlowTable {
    pub fn parse(buf: &[u8]) -> Result<Self, WireError> {
        let f = Fields::parse(buf)?;
        let hook = f.get(3).map(Fields::parse).transpose()?;
        let names = hook.as_ref().and_then(|hook| hook.get(3)).unwrap_or_default();
        let device = |item: Result<(u16, &[u8]), WireError>| {
            let (_, name) = item?;
            let name = name.strip_suffix(&[0]).unwrap_or(name);
            Ok(String::from_utf8_lossy(name).into_owned())
        };
        let devices = list(names).map(device).collect::<Result<_, WireError>>()?;
        Ok(Self { table: f.name(1)?, name: f.name(2)?, devices })
    }
}

impl Table {
    pub fn emit(&self, a: &mut Attrs) {
        a.name(1, &self.name).u32(2, self.flags);
    }

    pub fn parse(buf: &[u8]) -> Result<Self, WireError> {
        let f = Fields::parse(buf)?;
        let owner = f.get(7).map(|_| f.u32(7)).transpose()?;
        Ok(Self { name: f.name(1)?, flags: f.u32_or(2, 0)?, owner })
    }
}

impl Chain {
    pub fn emit(&self, table: &str, a: &mut Attrs) {
        a.name(1, table).name(3, &self.name);
        if let Some(hook) = &self.hook {
            a.nest(4, |h| {
                h.u32(1, hook.hook).u32(2, hook.priority.cast_unsigned());
            });
            a.u32(5, u32::from(!hook.drop_by_default)).name(7, &hook.kind);
        }
    }

    pub fn parse(buf: &[u8]) -> Result<(String, Self), WireError> {
        let f = Fields::parse(buf)?;
        let hook = match f.get(4) {
            None => None,
            Some(hook) => {
                let h = Fields::parse(hook)?;
                Some(Hook {
                    kind: f.name(7)?,
                    hook: h.u32(1)?,
                    priority: h.u32(2)?.cast_signed(),
                    drop_by_default: f.u32_or(5, 1)? == 0,
                })
            }
        };
        Ok((f.name(1)?, Self { name: f.name(3)?, hook }))
    }
}

impl Rule {
    pub fn emit(&self, table: &str, a: &mut Attrs) {
        a.name(1, table).name(2, &self.chain);
        a.nest(4, |list| Expr::emit_list(&self.exprs, list));
    }

    pub fn parse(buf: &[u8]) -> Result<(String, Self), WireError> {
        let f = Fields::parse(buf)?;
        let exprs = f.get(4).map(Expr::parse_list).transpose()?.unwrap_or_default();
        Ok((f.name(1)?, Self { chain: f.name(2)?, exprs }))
    }

    pub fn shape(&self) -> Self {
        Self { chain: self.chain.clone(), exprs: self.exprs.iter().map(Expr::shape).collect() }
    }
}

impl Set {
    pub fn emit(&self, table: &str, id: u32, a: &mut Attrs) {
        a.name(1, table).name(2, &self.name).u32(3, self.flags);
        a.u32(4, self.key_type).u32(5, self.key_len).u32(10, id);
        if let Some((kind, len)) = self.data {
            a.u32(6, kind).u32(7, len);
        }
        if let Some(size) = self.size {
            a.nest(9, |desc| {
                desc.u32(1, size);
            });
        }
        if let Some(ms) = self.timeout_ms {
            a.u64(11, ms);
        }
        if let Some(ms) = self.gc_interval_ms {
            a.u32(12, ms);
        }
        a.bytes(13, &self.byte_orders());
        match self.exprs.as_slice() {
            [] => {}
            [one] => {
                a.nest(17, |expr| one.emit(expr));
            }
            many => {
                a.nest(18, |list| Expr::emit_list(many, list));
            }
        }
    }

    pub fn parse(buf: &[u8]) -> Result<(String, Self), WireError> {
        let f = Fields::parse(buf)?;
        let data = match f.get(7) {
            None => None,
            // As long as the kernel's own structure, which differs between machines.
            Some(_) if f.u32(6)? == datatype::VERDICT => Some((datatype::VERDICT, 0)),
            Some(_) => Some((f.u32(6)?, f.u32(7)?)),
        };
        let size = match f.get(9) {
            Some(desc) => Some(Fields::parse(desc)?.u32_or(1, 0)?).filter(|size| *size != 0),
            None => None,
        };
        let exprs = match (f.get(17), f.get(18)) {
            (_, Some(many)) => Expr::parse_list(many)?,
            (Some(one), None) => vec![Expr::parse(one)?],
            (None, None) => Vec::new(),
        };
        let set = Self {
            name: f.name(2)?,
            flags: f.u32_or(3, 0)?,
            key_type: f.u32_or(4, 0)?,
            key_len: f.u32(5)?,
            data,
            size,
            timeout_ms: f.opt_u64(11)?,
            gc_interval_ms: f.get(12).map(|_| f.u32(12)).transpose()?.filter(|ms| *ms != 0),
            exprs,
        };
        Ok((f.name(1)?, set))
    }

    /// nft's own records of which byte orders key and data have: `nft list` misprints without.
    fn byte_orders(&self) -> Vec<u8> {
        const HOST: u32 = 1;
        const BIG: u32 = 2;
        let order = |kind| match kind {
            datatype::IFNAME | datatype::MARK => HOST,
            _ => BIG,
        };
        let data = self.data.map(|(kind, _)| kind).filter(|kind| *kind != datatype::VERDICT);
        let types = [Some(self.key_type), data];
        let record = |(number, kind): (u8, u32)| {
            [number, 4].into_iter().chain(order(kind).to_ne_bytes()).collect::<Vec<u8>>()
        };
        (0u8..).zip(types).filter_map(|(n, kind)| Some((n, kind?))).flat_map(record).collect()
    }

    /// As the kernel reports it: expressions with their consumption, reduced to what was asked.
    pub fn shape(&self) -> Self {
        Self { exprs: self.exprs.iter().map(Expr::shape).collect(), ..self.clone() }
    }
}
