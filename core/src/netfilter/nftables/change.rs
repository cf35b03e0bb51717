//! Changes of a table. A list of them is one transaction of the kernel, which applies all or none of them in one
//! instant.

use super::soundness::{asked_set, check, check_rule, check_verdict, statements, targets};
use super::{Chain, Elements, Hook, Rule, Set, SetKind, SetPurpose, Statement, Table, TableFamily};

/// One change of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Creates the table with this program as its owner, if the kernel supports owners of tables (NFT_TABLE_F_OWNER with
    /// NFT_TABLE_F_PERSIST). A table that this program owns stays as it is; one whose owner has ended gets this owner.
    AddTable,
    /// Deletes the table with everything in it, if it exists.
    DeleteTable,
    /// Creates a chain.
    AddChain(Box<str>, Option<Hook>),
    /// Deletes the rules of a chain.
    FlushChain(Box<str>),
    /// Deletes a chain without rules.
    DeleteChain(Box<str>),
    /// Appends a rule to a chain.
    AddRule(Box<str>, Rule),
    /// Creates a set.
    AddSet(Box<str>, SetKind),
    /// Adds elements, but no ranges, to a set. An existing element with the same verdict stays.
    AddElements(Box<str>, Elements),
    /// Adds ranges to a set of intervals. An existing range stays.
    AddRanges(Box<str>, Elements),
    /// Deletes the elements of a set.
    FlushSet(Box<str>),
    /// Deletes elements, but no ranges, from a set; each must exist.
    DeleteElements(Box<str>, Elements),
    /// Deletes ranges from a set of intervals; each must exist.
    DeleteRanges(Box<str>, Elements),
    /// Creates a counter. An existing one keeps its count.
    AddCounter(Box<str>),
    /// Deletes a counter that no rule refers to.
    DeleteCounter(Box<str>),
    /// Deletes a set that no rule refers to, with its elements.
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

    /// Deletes elements from a set of this purpose.
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
    /// Replaces any table of this name in one instant.
    pub fn replacing(table: &Table) -> Batch {
        let mut batch = Batch::creating(table);
        batch.changes.insert(0, Change::DeleteTable);
        batch
    }

    /// Makes a table where there is none, or one with sets of the same kinds and nothing else.
    pub fn creating(table: &Table) -> Batch {
        let mut batch = Batch::taking(table.family, &table.name);
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

    /// Whether it changes only elements of sets and maps of family inet.
    pub fn is_of_elements(&self) -> bool {
        let of_elements =
            |change: &Change| matches!(change, Change::AddElements(..) | Change::DeleteElements(..));
        self.family == TableFamily::Inet && self.changes.iter().all(of_elements)
    }

    /// Whether it changes what is in a table, and not only who its owner is.
    pub fn changes_content(&self) -> bool {
        self.changes.iter().any(|change| *change != Change::AddTable)
    }

    /// Deletes a table, if it exists.
    pub fn deleting(family: TableFamily, name: &str) -> Batch {
        Batch { family, table: name.into(), changes: vec![Change::DeleteTable] }
    }

    /// Makes the program the owner of a table.
    pub fn taking(family: TableFamily, name: &str) -> Batch {
        Batch { family, table: name.into(), changes: vec![Change::AddTable] }
    }
}

/// Why the kernel rejects a change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The table does not exist.
    #[error("there is no table")]
    NoTable,
    /// A chain does not exist.
    #[error("there is no chain {0}")]
    NoChain(Box<str>),
    /// A counter does not exist.
    #[error("there is no counter {0}")]
    NoCounter(Box<str>),
    /// A set does not exist.
    #[error("there is no set {0}")]
    NoSet(Box<str>),
    /// A chain, set or counter is still referred to.
    #[error("{0} is in use")]
    InUse(Box<str>),
    /// It exists with another kind or verdict.
    #[error("{0} is there already, and differs")]
    Differs(Box<str>),
    /// A rule or map refers to a base chain.
    #[error("{0} is a base chain")]
    Base(Box<str>),
    /// Chains jump in a loop, or more levels deep than the kernel allows.
    #[error("jumps nest too deep, or form a loop, at {0}")]
    TooDeep(Box<str>),
    /// The kernel does not accept a rule, or a rule uses a set in a way for which the set is not made.
    #[error("a rule of {0} does not match the type of the set or map that it refers to")]
    Senseless(Box<str>),
    /// A key has the wrong length, or the wrong kind of value.
    #[error("an element does not fit {0}")]
    Unfit(Box<str>),
    /// A range overlaps another one.
    #[error("a range overlaps another in {0}")]
    Overlap(Box<str>),
    /// An element to be deleted does not exist.
    #[error("an element is not in {0}")]
    NoElement(Box<str>),
    /// A set is full.
    #[error("{0} is full")]
    Full(Box<str>),
}

impl Batch {
    /// Applies the transaction to the kernel's state of this table: all of it, or nothing.
    ///
    /// # Errors
    /// The change that the kernel would reject.
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
        if *change == Change::DeleteTable {
            *place = None;
            return Ok(());
        }
        let table = place.as_mut().ok_or(Refused::NoTable)?;
        match change {
            Change::AddTable | Change::DeleteTable => {}
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
            Change::FlushSet(name) => set(table, name)?.elements = Elements::new(),
            Change::AddElements(name, elements) => {
                elements.verdicts().try_for_each(|verdict| check_verdict(table, verdict))?;
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
        if !set.elements.remove(key) {
            return Err(Refused::NoElement(name.into()));
        }
    }
    Ok(())
}

fn add(set: &mut Set, name: &str, elements: &Elements) -> Result<(), Refused> {
    let is_map = set.kind.purpose == SetPurpose::VerdictMap;
    for (key, verdict) in elements.iter() {
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
            None => set.elements.insert(key, verdict.cloned()),
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
    set.elements.insert(range, None);
    Ok(())
}
