//! What the kernel should hold, as data, and how to compare it with what it holds.

use super::{
    batch::Batch,
    object::{Chain, Rule, Set, TABLE_OWNER, Table},
};

/// A table with all but its elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    pub table: Table,
    pub sets: Vec<Set>,
    pub chains: Vec<Chain>,
    pub rules: Vec<Rule>,
}

impl Ruleset {
    /// Replace whatever stood there. An `add` before the delete would not do: the kernel refuses
    /// to make a plain table an owned one.
    pub fn replace(&self, batch: &mut Batch) {
        batch.destroy_table();
        self.create(batch);
    }

    pub fn create(&self, batch: &mut Batch) {
        batch.add_table(&self.table);
        for set in &self.sets {
            batch.add_set(set);
        }
        for chain in &self.chains {
            batch.add_chain(chain);
        }
        for rule in &self.rules {
            batch.add_rule(rule);
        }
    }

    /// Where the kernel's state differs from this one; empty if it does not. The order of rules
    /// counts within a chain, that of sets and chains does not.
    pub fn differences(&self, kernel: &Ruleset) -> Vec<String> {
        let mut found = Vec::new();
        // The owner's flag goes when its process ends; the table stays.
        if (self.table.flags ^ kernel.table.flags) & !TABLE_OWNER != 0 {
            found.push(format!("table flags {:#x}", kernel.table.flags));
        }
        compare(&mut found, "set", &self.sets, &kernel.sets, |s| &s.name, Set::shape);
        compare(&mut found, "chain", &self.chains, &kernel.chains, |c| &c.name, Chain::clone);
        for chain in &self.chains {
            let of = |rules: &[Rule]| -> Vec<Rule> {
                rules.iter().filter(|r| r.chain == chain.name).map(Rule::shape).collect()
            };
            let (want, have) = (of(&self.rules), of(&kernel.rules));
            if want != have {
                let at = want.iter().zip(&have).take_while(|(a, b)| a == b).count();
                found.push(format!("rule {at} of chain {}", chain.name));
            }
        }
        found
    }
}

fn compare<T: PartialEq>(
    found: &mut Vec<String>,
    what: &str,
    want: &[T],
    have: &[T],
    name: fn(&T) -> &String,
    shape: fn(&T) -> T,
) {
    for one in want {
        match have.iter().find(|other| name(other) == name(one)) {
            None => found.push(format!("{what} {} is missing", name(one))),
            Some(other) if shape(other) != shape(one) => {
                found.push(format!("{what} {} differs", name(one)));
            }
            Some(_) => {}
        }
    }
    let extra = have.iter().filter(|other| want.iter().all(|one| name(one) != name(other)));
    found.extend(extra.map(|other| format!("{what} {} is foreign", name(other))));
}
