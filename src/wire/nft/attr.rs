//! Netlink attributes: a writer that nests, and a reader indexed by kind.

use netlink_packet_core::{NLA_F_NESTED, NLA_TYPE_MASK};

use super::WireError;

/// Length and kind.
const HEADER: usize = 4;

/// Attributes under construction. A value too long for netlink is remembered and refused by
/// [`Attrs::finish`], so that callers can chain.
#[derive(Debug, Default, Clone)]
pub struct Attrs {
    buf: Vec<u8>,
    too_long: Option<u16>,
}

impl Attrs {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let at = self.open(kind);
        self.buf.extend_from_slice(value);
        self.close(kind, at)
    }

    /// A NUL-terminated name.
    pub fn name(&mut self, kind: u16, value: &str) -> &mut Self {
        let at = self.open(kind);
        self.buf.extend_from_slice(value.as_bytes());
        self.buf.push(0);
        self.close(kind, at)
    }

    pub fn u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.bytes(kind, &[value])
    }

    /// nf_tables and conntrack numbers are big-endian on every machine.
    pub fn u16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub fn u64(&mut self, kind: u16, value: u64) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let at = self.open(kind | NLA_F_NESTED);
        fill(self);
        self.close(kind, at)
    }

    pub fn len(&self) -> usize {
        self.buf.len()
    }

    pub fn is_empty(&self) -> bool {
        self.buf.is_empty()
    }

    pub fn finish(self) -> Result<Vec<u8>, WireError> {
        match self.too_long {
            Some(kind) => Err(WireError::TooLong(kind)),
            None => Ok(self.buf),
        }
    }

    fn open(&mut self, kind: u16) -> usize {
        let at = self.buf.len();
        self.buf.extend_from_slice(&[0, 0]);
        self.buf.extend_from_slice(&kind.to_ne_bytes());
        at
    }

    fn close(&mut self, kind: u16, at: usize) -> &mut Self {
        match u16::try_from(self.buf.len() - at) {
            Ok(len) => self.buf[at..at + 2].copy_from_slice(&len.to_ne_bytes()),
            Err(_) => self.too_long = Some(kind),
        }
        self.buf.resize(self.buf.len().next_multiple_of(4), 0);
        self
    }
}

/// The highest attribute kind that is kept; newer kernels may send more, which are ignored.
const KINDS: usize = 32;

/// One level of attributes, by kind; of a repeated kind the last one.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a>([Option<&'a [u8]>; KINDS]);

impl<'a> Fields<'a> {
    pub fn parse(buf: &'a [u8]) -> Result<Self, WireError> {
        let mut fields = [None; KINDS];
        for item in list(buf) {
            let (kind, value) = item?;
            if let Some(slot) = fields.get_mut(usize::from(kind)) {
                *slot = Some(value);
            }
        }
        Ok(Self(fields))
    }

    pub fn get(&self, kind: u16) -> Option<&'a [u8]> {
        self.0.get(usize::from(kind)).copied().flatten()
    }

    pub fn need(&self, kind: u16) -> Result<&'a [u8], WireError> {
        self.get(kind).ok_or(WireError::Missing(kind))
    }

    pub fn nested(&self, kind: u16) -> Result<Fields<'a>, WireError> {
        Fields::parse(self.need(kind)?)
    }

    pub fn u8(&self, kind: u16) -> Result<u8, WireError> {
        self.array(kind).map(|[byte]| byte)
    }

    pub fn u32(&self, kind: u16) -> Result<u32, WireError> {
        self.array(kind).map(u32::from_be_bytes)
    }

    pub fn u64(&self, kind: u16) -> Result<u64, WireError> {
        self.array(kind).map(u64::from_be_bytes)
    }

    pub fn u32_or(&self, kind: u16, other: u32) -> Result<u32, WireError> {
        self.get(kind).map_or(Ok(other), |_| self.u32(kind))
    }

    pub fn opt_u64(&self, kind: u16) -> Result<Option<u64>, WireError> {
        self.get(kind).map(|_| self.u64(kind)).transpose()
    }

    pub fn name(&self, kind: u16) -> Result<String, WireError> {
        let bytes = self.need(kind)?;
        let text = bytes.strip_suffix(&[0]).unwrap_or(bytes);
        std::str::from_utf8(text).map(str::to_owned).map_err(|_| WireError::Name(kind))
    }

    fn array<const N: usize>(&self, kind: u16) -> Result<[u8; N], WireError> {
        self.need(kind)?.try_into().map_err(|_| WireError::Length(kind))
    }
}

/// The attributes of one level in their order. A malformed one ends the iteration.
pub fn list(mut buf: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8]), WireError>> {
    std::iter::from_fn(move || {
        if buf.is_empty() {
            return None;
        }
        let item = split(buf);
        buf = item.map_or(&[], |(_, _, rest)| rest);
        Some(item.map(|(kind, value, _)| (kind, value)).ok_or(WireError::Malformed))
    })
}

/// The first attribute's kind and value, and what lies behind it. Of the last one the padding may
/// be missing.
fn split(buf: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let [len_0, len_1, kind_0, kind_1] = *buf.first_chunk()?;
    let len = usize::from(u16::from_ne_bytes([len_0, len_1]));
    let kind = u16::from_ne_bytes([kind_0, kind_1]) & NLA_TYPE_MASK;
    let rest = buf.get(len.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, buf.get(HEADER..len)?, rest))
}
