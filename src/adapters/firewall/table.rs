//! Reading the kernel's state back.

use netlink_packet_netfilter::NetfilterProtoFamily::{Inet, Unspec};

use super::socket::{Netfilter, NetfilterError};
use crate::wire::nft::{
    attr::Attrs,
    batch::{kind, message_type},
    element::{self, Element},
    object::{Chain, FlowTable, Rule, Set, Table},
    ruleset::Ruleset,
};

impl Netfilter {
    /// `None`: there is no such table.
    pub fn table(&mut self, name: &str) -> Result<Option<Table>, NetfilterError> {
        let mut attrs = Attrs::new();
        attrs.name(1, name);
        let mut found = None;
        let got = self.get(message_type(kind::GETTABLE), Inet, attrs, |item| {
            found = Some(Table::parse(item)?);
            Ok(())
        });
        match got {
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(None),
            other => other.map(|()| found),
        }
    }

    /// Everything but elements. The dumps do not filter chains by table, so this does.
    pub fn ruleset(&mut self, name: &str) -> Result<Option<Ruleset>, NetfilterError> {
        let Some(table) = self.table(name)? else { return Ok(None) };
        let mut attrs = Attrs::new();
        attrs.name(1, name);
        let chains =
            self.dump(message_type(kind::GETCHAIN), Inet, &attrs, |found: &mut Vec<_>, item| {
                let (table, chain) = Chain::parse(item)?;
                found.extend((table == name).then_some(chain));
                Ok(())
            })?;
        let sets =
            self.dump(message_type(kind::GETSET), Inet, &attrs, |found: &mut Vec<_>, item| {
                let (table, set) = Set::parse(item)?;
                found.extend((table == name).then_some(set));
                Ok(())
            })?;
        let rules =
            self.dump(message_type(kind::GETRULE), Inet, &attrs, |found: &mut Vec<_>, item| {
                let (table, rule) = Rule::parse(item)?;
                found.extend((table == name).then_some(rule));
                Ok(())
            })?;
        Ok(Some(Ruleset { table, sets, chains, rules }))
    }

    /// The flow tables that have devices, of all tables and families.
    pub fn flow_tables(&mut self) -> Result<Vec<FlowTable>, NetfilterError> {
        let kind = message_type(kind::GETFLOWTABLE);
        self.dump(kind, Unspec, &Attrs::new(), |found: &mut Vec<_>, item| {
            found.extend(Some(FlowTable::parse(item)?).filter(|table| !table.devices.is_empty()));
            Ok(())
        })
    }

    pub fn elements(&mut self, table: &str, set: &str) -> Result<Vec<Element>, NetfilterError> {
        self.fold_elements(table, set, Vec::push)
    }

    /// The same, keeping of each element only what `take` does.
    pub fn fold_elements<T: Default>(
        &mut self,
        table: &str,
        set: &str,
        mut take: impl FnMut(&mut T, Element),
    ) -> Result<T, NetfilterError> {
        let mut attrs = Attrs::new();
        element::emit(table, set, &[], &mut attrs);
        self.dump(message_type(kind::GETSETELEM), Inet, &attrs, |found: &mut T, item| {
            element::parse(item, |one| take(found, one))
        })
    }

    /// One element with its counters; `None`: there is none.
    pub fn element(
        &mut self,
        table: &str,
        set: &str,
        key: &[u8],
    ) -> Result<Option<Element>, NetfilterError> {
        let mut attrs = Attrs::new();
        element::emit(table, set, &[Element::key(key.to_vec())], &mut attrs);
        let mut found = None;
        let got = self.get(message_type(kind::GETSETELEM), Inet, attrs, |item| {
            element::parse(item, |one| found = Some(one))
        });
        match got {
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(None),
            other => other.map(|()| found),
        }
    }
}
