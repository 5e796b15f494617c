//! One atomic transaction: everything between a begin and an end is applied, or nothing.

use netlink_packet_netfilter::NetfilterProtoFamily;

use super::{
    WireError,
    attr::Attrs,
    element::{self, Element, PER_MESSAGE},
    message::{NLM_F_ACK, nfgen, request},
    object::{Chain, Rule, Set, Table},
};

pub const SUBSYS_NFTABLES: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const BATCH_GENID: u16 = 1;

const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;

/// Message types of nf_tables.
pub mod kind {
    pub const NEWTABLE: u8 = 0;
    pub const GETTABLE: u8 = 1;
    pub const DELTABLE: u8 = 2;
    pub const NEWCHAIN: u8 = 3;
    pub const GETCHAIN: u8 = 4;
    pub const NEWRULE: u8 = 6;
    pub const GETRULE: u8 = 7;
    pub const NEWSET: u8 = 9;
    pub const GETSET: u8 = 10;
    pub const NEWSETELEM: u8 = 12;
    pub const GETSETELEM: u8 = 13;
    pub const DELSETELEM: u8 = 14;
    pub const GETFLOWTABLE: u8 = 23;
    pub const DESTROYTABLE: u8 = 26;
    pub const DESTROYSETELEM: u8 = 30;
    pub const NEWGEN: u8 = 15;
    pub const GETGEN: u8 = 16;
}

pub const fn message_type(kind: u8) -> u16 {
    SUBSYS_NFTABLES << 8 | kind as u16
}

/// A transaction under construction, for one table of family inet.
#[derive(Debug)]
pub struct Batch {
    table: String,
    buf: Vec<u8>,
    first_seq: u32,
    /// Where the last message begins, to ask for its acknowledgement.
    last: Option<usize>,
    seq: u32,
    error: Option<WireError>,
}

/// A finished transaction.
#[derive(Debug)]
pub struct Transaction {
    pub bytes: Vec<u8>,
    /// The number of its begin.
    pub first_seq: u32,
    /// The number whose acknowledgement means that all was committed.
    pub last_seq: u32,
}

impl Batch {
    /// `generation`: refuse (ERESTART) if the ruleset is no longer of this generation. Every
    /// change by anyone, in any table of the namespace, raises it.
    pub fn new(table: &str, first_seq: u32, generation: Option<u32>) -> Self {
        let mut batch = Self {
            table: table.to_owned(),
            buf: Vec::new(),
            first_seq,
            last: None,
            seq: first_seq,
            error: None,
        };
        let mut attrs = Attrs::new();
        if let Some(id) = generation {
            attrs.u32(BATCH_GENID, id);
        }
        batch.control(BATCH_BEGIN, attrs);
        batch
    }

    pub fn add_table(&mut self, table: &Table) -> &mut Self {
        self.object(kind::NEWTABLE, NLM_F_CREATE, |a| table.emit(a))
    }

    pub fn delete_table(&mut self) -> &mut Self {
        let name = self.table.clone();
        self.object(kind::DELTABLE, 0, |a| {
            a.name(1, &name);
        })
    }

    /// As [`Batch::delete_table`], but no table is no error. Kernels before 6.3 need
    /// [`Transaction::for_older_kernel`].
    pub fn destroy_table(&mut self) -> &mut Self {
        let name = self.table.clone();
        self.object(kind::DESTROYTABLE, 0, |a| {
            a.name(1, &name);
        })
    }

    pub fn add_chain(&mut self, chain: &Chain) -> &mut Self {
        let table = self.table.clone();
        self.object(kind::NEWCHAIN, NLM_F_CREATE, |a| chain.emit(&table, a))
    }

    pub fn add_rule(&mut self, rule: &Rule) -> &mut Self {
        let table = self.table.clone();
        self.object(kind::NEWRULE, NLM_F_CREATE | NLM_F_APPEND, |a| rule.emit(&table, a))
    }

    /// The set's transaction id only has to be unique within the batch.
    pub fn add_set(&mut self, set: &Set) -> &mut Self {
        let (table, id) = (self.table.clone(), self.seq);
        self.object(kind::NEWSET, NLM_F_CREATE | NLM_F_EXCL, |a| set.emit(&table, id, a))
    }

    /// Adding a key that is there fails the batch.
    pub fn add_elements(&mut self, set: &str, elements: &[Element]) -> &mut Self {
        self.elements(kind::NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL, set, elements)
    }

    /// Adding a key that is there changes nothing.
    pub fn ensure_elements(&mut self, set: &str, elements: &[Element]) -> &mut Self {
        self.elements(kind::NEWSETELEM, NLM_F_CREATE, set, elements)
    }

    /// As [`Batch::delete_elements`], but a key that is not there does no harm: one that just timed
    /// out is not there, though a dump showed it a moment ago. Kernels before 6.3 need
    /// [`Transaction::for_older_kernel`], and a message for each key.
    pub fn destroy_elements(&mut self, set: &str, elements: &[Element]) -> &mut Self {
        for element in elements.chunks(1) {
            self.elements(kind::DESTROYSETELEM, 0, set, element);
        }
        self
    }

    /// Deleting a key that is not there fails the batch.
    pub fn delete_elements(&mut self, set: &str, elements: &[Element]) -> &mut Self {
        self.elements(kind::DELSETELEM, 0, set, elements)
    }

    pub fn flush_set(&mut self, set: &str) -> &mut Self {
        let table = self.table.clone();
        self.object(kind::DELSETELEM, 0, |a| element::emit(&table, set, &[], a))
    }

    pub fn finish(mut self) -> Result<Transaction, WireError> {
        let last_seq = self.seq.wrapping_sub(1);
        if let Some(at) = self.last {
            // Offset 6 of the netlink header: flags, in the host's order.
            let flags = u16::from_ne_bytes([self.buf[at + 6], self.buf[at + 7]]) | NLM_F_ACK;
            self.buf[at + 6..at + 8].copy_from_slice(&flags.to_ne_bytes());
        }
        self.control(BATCH_END, Attrs::new());
        match self.error {
            Some(error) => Err(error),
            None => Ok(Transaction { bytes: self.buf, first_seq: self.first_seq, last_seq }),
        }
    }

    fn elements(&mut self, kind: u8, flags: u16, set: &str, elements: &[Element]) -> &mut Self {
        let table = self.table.clone();
        for chunk in elements.chunks(PER_MESSAGE) {
            self.object(kind, flags, |a| element::emit(&table, set, chunk, a));
        }
        self
    }

    fn object(&mut self, kind: u8, flags: u16, fill: impl FnOnce(&mut Attrs)) -> &mut Self {
        let mut attrs = Attrs::new();
        fill(&mut attrs);
        self.last = Some(self.buf.len());
        self.push(message_type(kind), flags, NetfilterProtoFamily::Inet, 0, attrs);
        self
    }

    fn control(&mut self, kind: u16, attrs: Attrs) {
        self.push(kind, 0, NetfilterProtoFamily::Unspec, SUBSYS_NFTABLES, attrs);
    }

    fn push(
        &mut self,
        kind: u16,
        flags: u16,
        family: NetfilterProtoFamily,
        res: u16,
        attrs: Attrs,
    ) {
        match request(kind, flags, self.seq, &nfgen(family, 0, res), attrs) {
            Ok(bytes) => self.buf.extend_from_slice(&bytes),
            Err(error) => self.error = self.error.take().or(Some(error)),
        }
        self.seq = self.seq.wrapping_add(1);
    }
}
