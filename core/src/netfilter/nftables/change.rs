//! Changes of a table. A list of them is one transaction of the kernel: all or nothing, in one instant.

use super::soundness::{asked_set, check, check_rule, check_verdict, statements, targets};
use super::{Chain, Elements, Hook, Rule, Set, SetKind, SetPurpose, Statement, Table, TableFamily};
use std::collections::BTreeSet;

/// One change of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The table is to be there; one that is there already stays as it is.
    AddTable,
    /// The table goes with all that is in it.
    DeleteTable,
    /// A chain is to be there.
    AddChain(Box<str>, Option<Hook>),
    /// A chain loses its rules.
    FlushChain(Box<str>),
    /// A chain without rules goes.
    DeleteChain(Box<str>),
    /// A rule is added behind those of a chain.
    AddRule(Box<str>, Rule),
    /// A set is to be there.
    AddSet(Box<str>, SetKind),
    /// Elements are added to a set, but no ranges. One that is there with the same verdict stays.
    AddElements(Box<str>, Elements),
    /// Ranges are added to a set of intervals. One that is there stays.
    AddRanges(Box<str>, Elements),
    /// A set loses its elements.
    FlushSet(Box<str>),
    /// Elements leave a set, but no ranges; each must be there.
    DeleteElements(Box<str>, Elements),
    /// Ranges leave a set of intervals; each must be there.
    DeleteRanges(Box<str>, Elements),
    /// A counter is to be there. One that is there keeps what it counted.
    AddCounter(Box<str>),
    /// A counter that no rule counts in goes.
    DeleteCounter(Box<str>),
    /// A set that no rule asks goes with its elements.
    DeleteSet(Box<str>),
}

impl Change {
    /// Adds elements to a set of this purpose.
    pub fn add(set: &str, purpose: SetPurpose, elements: Elements) -> Change {
        match purpose {
            SetPurpose::Intervals => Change::AddRanges(set.into(), elements),
            SetPurpose::Set | SetPurpose::VerdictMap | SetPurpose::Dynamic { .. } => {
                Change::AddElements(set.into(), elements)
            }
        }
    }

    /// Takes elements out of a set of this purpose.
    pub fn delete(set: &str, purpose: SetPurpose, elements: Elements) -> Change {
        match purpose {
            SetPurpose::Intervals => Change::DeleteRanges(set.into(), elements),
            SetPurpose::Set | SetPurpose::VerdictMap | SetPurpose::Dynamic { .. } => {
                Change::DeleteElements(set.into(), elements)
            }
        }
    }
}

/// One transaction on one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The family of the table.
    pub family: TableFamily,
    /// The table.
    pub table: Box<str>,
    /// What happens to it, in order.
    pub changes: Vec<Change>,
}

impl Batch {
    /// Puts a table into place of whatever has its name, in one instant.
    pub fn replacing(table: &Table) -> Batch {
        let mut batch = Batch::deleting(table.family, &table.name);
        batch.changes.push(Change::AddTable);
        batch.changes.extend(table.counters.iter().cloned().map(Change::AddCounter));
        let sets = table.sets.iter();
        batch.changes.extend(sets.map(|(name, set)| Change::AddSet(name.clone(), set.kind.clone())));
        let chains = table.chains.iter();
        batch.changes.extend(chains.map(|(name, chain)| Change::AddChain(name.clone(), chain.base)));
        for (name, chain) in &table.chains {
            let rules = chain.rules.iter().cloned();
            batch.changes.extend(rules.map(|rule| Change::AddRule(name.clone(), rule)));
        }
        for (name, set) in table.sets.iter().filter(|(_, set)| !set.elements.is_empty()) {
            batch.changes.push(Change::add(name, set.kind.purpose, set.elements.clone()));
        }
        batch
    }

    /// Takes out what must be carried out in a transaction before this one: new sets of intervals, with their elements.
    ///
    /// A transaction brings its rules into force in one instant, but the kernel shows the elements of such a set only a moment later
    /// (`nft_set_commit_update`, linux/net/netfilter/nf_tables_api.c): meanwhile rules would find it empty.
    pub fn take_intervals(&mut self) -> Option<Batch> {
        let is_replaced = |name: &str| {
            let goes = |change: &Change| {
                matches!(change, Change::DeleteTable)
                    || matches!(change, Change::DeleteSet(gone) if **gone == *name)
            };
            self.changes.iter().any(goes)
        };
        let mut new = BTreeSet::new();
        for change in &self.changes {
            if let Change::AddSet(name, SetKind { purpose: SetPurpose::Intervals, .. }) = change
                && !is_replaced(name)
            {
                new.insert(name.clone());
            }
        }
        if new.is_empty() {
            return None;
        }
        let is_of_new = |change: &Change| matches!(change, Change::AddSet(name, _) | Change::AddRanges(name, _) if new.contains(name));
        let (mut ahead, rest): (Vec<_>, Vec<_>) = self.changes.drain(..).partition(is_of_new);
        if rest.contains(&Change::AddTable) {
            ahead.insert(0, Change::AddTable);
        }
        self.changes = rest;
        Some(Batch { family: self.family, table: self.table.clone(), changes: ahead })
    }

    /// Whether nothing changes but elements of sets and maps of family inet.
    pub fn is_of_elements(&self) -> bool {
        let of_elements =
            |change: &Change| matches!(change, Change::AddElements(..) | Change::DeleteElements(..));
        self.family == TableFamily::Inet && self.changes.iter().all(of_elements)
    }

    /// Takes a table away; none of its name is fine.
    pub fn deleting(family: TableFamily, name: &str) -> Batch {
        Batch { family, table: name.into(), changes: vec![Change::AddTable, Change::DeleteTable] }
    }
}

/// Why the kernel refuses a change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The table is not there.
    #[error("there is no table")]
    NoTable,
    /// A chain is not there.
    #[error("there is no chain {0}")]
    NoChain(Box<str>),
    /// A counter is not there.
    #[error("there is no counter {0}")]
    NoCounter(Box<str>),
    /// A set is not there.
    #[error("there is no set {0}")]
    NoSet(Box<str>),
    /// A chain, set or counter is still referred to.
    #[error("{0} is in use")]
    InUse(Box<str>),
    /// It is there with another kind or verdict.
    #[error("{0} is there already, and differs")]
    Differs(Box<str>),
    /// A rule or map leads to a base chain.
    #[error("{0} is a base chain")]
    Base(Box<str>),
    /// Chains lead from one to the next in a circle, or more often than the kernel allows.
    #[error("chains lead too deep, or in a circle, at {0}")]
    TooDeep(Box<str>),
    /// A rule is not one that the kernel takes, or asks a set otherwise than it is made for.
    #[error("a rule of {0} does not suit what it refers to")]
    Senseless(Box<str>),
    /// A key has the wrong length, or the wrong kind of value.
    #[error("an element does not fit {0}")]
    Unfit(Box<str>),
    /// A range has keys in common with another.
    #[error("a range overlaps another in {0}")]
    Overlap(Box<str>),
    /// An element to be deleted is not there.
    #[error("an element is not in {0}")]
    NoElement(Box<str>),
    /// A set is full.
    #[error("{0} is full")]
    Full(Box<str>),
}

impl Batch {
    /// Carries out the transaction on what the kernel holds of this table: all of it, or nothing.
    ///
    /// # Errors
    /// What the kernel would refuse.
    pub fn apply(&self, place: &mut Option<Table>) -> Result<(), Refused> {
        let mut after = place.clone();
        for change in &self.changes {
            self.apply_one(change, &mut after)?;
        }
        if let Some(table) = &after {
            check(table)?;
        }
        *place = after;
        Ok(())
    }

    fn apply_one(&self, change: &Change, place: &mut Option<Table>) -> Result<(), Refused> {
        if *change == Change::AddTable {
            place.get_or_insert_with(|| Table::new(self.family, &self.table));
            return Ok(());
        }
        let table = place.as_mut().ok_or(Refused::NoTable)?;
        match change {
            Change::AddTable => {}
            Change::DeleteTable => *place = None,
            Change::AddChain(name, base) => {
                let fresh = Chain { base: *base, rules: Vec::new() };
                if table.chains.entry(name.clone()).or_insert(fresh).base != *base {
                    return Err(Refused::Differs(name.clone()));
                }
            }
            Change::FlushChain(name) => chain(table, name)?.rules.clear(),
            Change::DeleteChain(name) => {
                if !chain(table, name)?.rules.is_empty() || targets(table).contains(&**name) {
                    return Err(Refused::InUse(name.clone()));
                }
                table.chains.remove(name);
            }
            Change::AddRule(name, rule) => {
                chain(table, name)?;
                check_rule(table, name, rule)?;
                chain(table, name)?.rules.push(rule.clone());
            }
            Change::AddSet(name, kind) => {
                let fresh = Set { kind: kind.clone(), elements: Elements::new() };
                if table.sets.entry(name.clone()).or_insert(fresh).kind != *kind {
                    return Err(Refused::Differs(name.clone()));
                }
            }
            Change::AddCounter(name) => drop(table.counters.insert(name.clone())),
            Change::DeleteCounter(name) => {
                let counts_in =
                    |statement: &Statement| matches!(statement, Statement::CountIn(own) if own == name);
                if !table.counters.contains(name) {
                    return Err(Refused::NoCounter(name.clone()));
                }
                if statements(table).any(counts_in) {
                    return Err(Refused::InUse(name.clone()));
                }
                table.counters.remove(name);
            }
            Change::DeleteSet(name) => {
                set(table, name)?;
                if statements(table).filter_map(asked_set).any(|(set, _)| *set == **name) {
                    return Err(Refused::InUse(name.clone()));
                }
                table.sets.remove(name);
            }
            Change::FlushSet(name) => set(table, name)?.elements.clear(),
            Change::AddElements(name, elements) => {
                elements.values().flatten().try_for_each(|verdict| check_verdict(table, verdict))?;
                add(unranged(table, name)?, name, elements)?;
            }
            Change::AddRanges(name, elements) => add(ranged(table, name)?, name, elements)?,
            Change::DeleteElements(name, elements) => delete(unranged(table, name)?, name, elements)?,
            Change::DeleteRanges(name, elements) => delete(ranged(table, name)?, name, elements)?,
        }
        Ok(())
    }
}

fn chain<'a>(table: &'a mut Table, name: &str) -> Result<&'a mut Chain, Refused> {
    table.chains.get_mut(name).ok_or_else(|| Refused::NoChain(name.into()))
}

fn set<'a>(table: &'a mut Table, name: &str) -> Result<&'a mut Set, Refused> {
    table.sets.get_mut(name).ok_or_else(|| Refused::NoSet(name.into()))
}

/// A set of intervals.
fn ranged<'a>(table: &'a mut Table, name: &str) -> Result<&'a mut Set, Refused> {
    let set = set(table, name)?;
    let fits = set.kind.purpose == SetPurpose::Intervals;
    if fits { Ok(set) } else { Err(Refused::Unfit(name.into())) }
}

/// Any other set.
fn unranged<'a>(table: &'a mut Table, name: &str) -> Result<&'a mut Set, Refused> {
    let set = set(table, name)?;
    let fits = set.kind.purpose != SetPurpose::Intervals;
    if fits { Ok(set) } else { Err(Refused::Unfit(name.into())) }
}

fn delete(set: &mut Set, name: &str, elements: &Elements) -> Result<(), Refused> {
    for key in elements.keys() {
        set.elements.remove(key).ok_or_else(|| Refused::NoElement(name.into()))?;
    }
    Ok(())
}

fn add(set: &mut Set, name: &str, elements: &Elements) -> Result<(), Refused> {
    let is_map = set.kind.purpose == SetPurpose::VerdictMap;
    for (key, verdict) in elements {
        if key.len() as u32 != set.kind.element_length() || verdict.is_some() != is_map {
            return Err(Refused::Unfit(name.into()));
        }
        match set.elements.get(key) {
            Some(there) if there == verdict => {}
            Some(_) => return Err(Refused::Differs(name.into())),
            None if set.kind.size != 0 && set.elements.len() as u32 >= set.kind.size => {
                return Err(Refused::Full(name.into()));
            }
            None if set.kind.purpose == SetPurpose::Intervals => add_range(set, name, key)?,
            None => drop(set.elements.insert(key.clone(), verdict.clone())),
        }
    }
    Ok(())
}

fn add_range(set: &mut Set, name: &str, range: &[u8]) -> Result<(), Refused> {
    let (first, last) = range.split_at(range.len() / 2);
    if first > last {
        return Err(Refused::Unfit(name.into()));
    }
    if set.last_range_from(last).is_some_and(|[_, reaches]| reaches >= first) {
        return Err(Refused::Overlap(name.into()));
    }
    set.elements.insert(range.into(), None);
    Ok(())
}
