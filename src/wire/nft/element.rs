//! Set elements.

use super::{
    WireError,
    attr::{Attrs, Fields, list},
    expr::{Expr, Verdict},
};

const LIST_ELEM: u16 = 1;
const INTERVAL_END: u32 = 1;

/// Elements that fit one message: its list must stay under 65,535 bytes, an element with two
/// expressions takes about 330.
pub const PER_MESSAGE: usize = 150;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Element {
    pub key: Vec<u8>,
    /// What a map maps it to.
    pub data: Option<Data>,
    /// The first key behind an interval.
    pub interval_end: bool,
    pub timeout_ms: Option<u64>,
    /// Left until the time-out; may be set on adding, to take up a life begun earlier.
    pub expires_ms: Option<u64>,
    pub user: Vec<u8>,
    pub exprs: Vec<Expr>,
}

/// What a map maps a key to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    Value(Vec<u8>),
    Verdict(Verdict),
}

impl Data {
    fn emit(&self, a: &mut Attrs) {
        match self {
            Self::Value(value) => {
                a.bytes(1, value);
            }
            Self::Verdict(verdict) => verdict.emit(a),
        }
    }

    fn parse(f: &Fields<'_>) -> Result<Self, WireError> {
        match f.get(1) {
            Some(value) => Ok(Self::Value(value.to_vec())),
            None => Ok(Self::Verdict(Verdict::parse(f)?)),
        }
    }
}

impl Element {
    pub fn key(key: Vec<u8>) -> Self {
        Self { key, ..Self::default() }
    }

    /// The two elements of an address prefix.
    pub fn interval(start: Vec<u8>, end: Option<Vec<u8>>) -> impl Iterator<Item = Self> {
        let end = end.map(|key| Self { key, interval_end: true, ..Self::default() });
        std::iter::once(Self::key(start)).chain(end)
    }

    fn emit(&self, a: &mut Attrs) {
        a.nest(1, |key| {
            key.bytes(1, &self.key);
        });
        if let Some(data) = &self.data {
            a.nest(2, |inner| data.emit(inner));
        }
        if self.interval_end {
            a.u32(3, INTERVAL_END);
        }
        if let Some(ms) = self.timeout_ms {
            a.u64(4, ms);
        }
        if let Some(ms) = self.expires_ms {
            a.u64(5, ms);
        }
        if !self.user.is_empty() {
            a.bytes(6, &self.user);
        }
        match self.exprs.as_slice() {
            [] => {}
            [one] => {
                a.nest(7, |expr| one.emit(expr));
            }
            many => {
                a.nest(11, |list| Expr::emit_list(many, list));
            }
        }
    }

    fn parse(buf: &[u8]) -> Result<Self, WireError> {
        let f = Fields::parse(buf)?;
        let exprs = match (f.get(7), f.get(11)) {
            (_, Some(many)) => Expr::parse_list(many)?,
            (Some(one), None) => vec![Expr::parse(one)?],
            (None, None) => Vec::new(),
        };
        Ok(Self {
            key: f.nested(1)?.need(1)?.to_vec(),
            data: f.get(2).map(|_| Data::parse(&f.nested(2)?)).transpose()?,
            interval_end: f.u32_or(3, 0)? & INTERVAL_END != 0,
            timeout_ms: f.opt_u64(4)?,
            expires_ms: f.opt_u64(5)?,
            user: f.get(6).unwrap_or_default().to_vec(),
            exprs,
        })
    }
}

/// The body of a message about elements of one set.
pub fn emit(table: &str, set: &str, elements: &[Element], a: &mut Attrs) {
    a.name(1, table).name(2, set);
    if !elements.is_empty() {
        a.nest(3, |list| {
            for element in elements {
                list.nest(LIST_ELEM, |one| element.emit(one));
            }
        });
    }
}

/// The elements of one message of a dump.
pub fn parse(buf: &[u8], mut each: impl FnMut(Element)) -> Result<(), WireError> {
    let f = Fields::parse(buf)?;
    for item in list(f.get(3).unwrap_or_default()) {
        each(Element::parse(item?.1)?);
    }
    Ok(())
}
