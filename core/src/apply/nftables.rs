//! Keeps one table of nf_tables equal to the rendered one: what the kernel holds of it, and the changes of one
//! transaction.

use crate::netfilter::nftables::{
    Batch, Chain, Change, ElementEdit, Elements, Rule, Set, SetEdit, SetKind, SetPurpose, Table, TableEdit,
    TableFamily,
};
use std::collections::{BTreeMap, BTreeSet};

/// What the kernel holds of a table after all transactions returned so far. For sets without verdicts, only the number
/// of their elements is kept.
#[derive(Clone, Debug)]
pub struct TableApplier {
    family: TableFamily,
    name: Box<str>,
    chains: BTreeMap<Box<str>, Chain>,
    /// The maps with their elements.
    maps: BTreeMap<Box<str>, Elements>,
    /// Every set and map with the number of its elements.
    sets: BTreeMap<Box<str>, (SetKind, usize)>,
    counters: BTreeSet<Box<str>>,
}

impl TableApplier {
    /// Starts from a table as the kernel has it; `None` if it does not exist, or cannot stay. Returns what makes it equal
    /// to `desired`.
    pub fn adopt(desired: Table, actual: Option<&Table>) -> (TableApplier, Correction) {
        let desired = match actual {
            None => desired,
            Some(actual) => match TableEdit::between(actual, desired) {
                Err(desired) => desired,
                Ok(edit) => {
                    let mut applier = TableApplier::of(actual);
                    let batch = applier.edit(edit);
                    return (applier, Correction::Edit(batch));
                }
            },
        };
        (TableApplier::of(&desired), Correction::Replace(desired))
    }

    fn of(table: &Table) -> TableApplier {
        let maps = table.sets.iter().filter(|(_, set)| set.kind.purpose == SetPurpose::VerdictMap);
        let sets = table.sets.iter();
        TableApplier {
            family: table.family,
            name: table.name.clone(),
            chains: table.chains.clone(),
            maps: maps.map(|(name, set)| (name.clone(), set.elements.clone())).collect(),
            sets: sets.map(|(name, set)| (name.clone(), (set.kind.clone(), set.elements.len()))).collect(),
            counters: table.counters.clone(),
        }
    }

    /// The transaction that carries out an edit; `None` if it changes nothing.
    ///
    /// The kernel checks each change in order, so an object is added before the first reference to it, and deleted
    /// after the last.
    pub fn edit(&mut self, edit: TableEdit) -> Option<Batch> {
        let mut order = Order::default();
        for (name, chain) in edit.chains {
            self.edit_chain(name, chain, &mut order);
        }
        for (name, set) in edit.sets {
            self.edit_set(name, set, &mut order);
        }
        for (name, is_wanted) in edit.counters {
            if is_wanted && self.counters.insert(name.clone()) {
                order.come.push(Change::AddCounter(name));
            } else if !is_wanted && self.counters.remove(&name) {
                order.objects_gone.push(Change::DeleteCounter(name));
            }
        }
        let changes = order.changes();
        let batch = Batch { family: self.family, table: self.name.clone(), changes };
        (!batch.changes.is_empty()).then_some(batch)
    }

    fn edit_chain(&mut self, name: Box<str>, chain: Option<Chain>, order: &mut Order) {
        match (self.chains.get(&name), chain) {
            (there, Some(chain)) if there == Some(&chain) => {}
            (there, Some(chain)) => {
                match there {
                    Some(_) => order.flushed.push(Change::FlushChain(name.clone())),
                    None => order.come.push(Change::AddChain(name.clone(), chain.base)),
                }
                let rules = chain.rules.iter().cloned();
                order.rules.extend(rules.map(|rule| Change::AddRule(name.clone(), rule)));
                self.chains.insert(name, chain);
            }
            (Some(_), None) => {
                order.flushed.push(Change::FlushChain(name.clone()));
                order.chains_gone.push(Change::DeleteChain(name.clone()));
                self.chains.remove(&name);
            }
            (None, None) => {}
        }
    }

    fn edit_set(&mut self, name: Box<str>, edit: SetEdit, order: &mut Order) {
        match edit {
            SetEdit::Whole(Set { kind, elements }) => {
                if self.sets.contains_key(&name) {
                    order.objects_gone.push(Change::DeleteSet(name.clone()));
                }
                order.come.push(Change::AddSet(name.clone(), kind.clone()));
                self.sets.insert(name.clone(), (kind.clone(), elements.len()));
                if kind.purpose == SetPurpose::VerdictMap {
                    self.maps.insert(name.clone(), elements.clone());
                }
                if !elements.is_empty() {
                    order.elements.push(Change::add(&name, kind.purpose, elements));
                }
            }
            SetEdit::Elements(edits) => self.edit_elements(name, edits, order),
            SetEdit::Remove => {
                if self.sets.remove(&name).is_some() {
                    order.objects_gone.push(Change::DeleteSet(name.clone()));
                }
                self.maps.remove(&name);
            }
        }
    }

    fn edit_elements(&mut self, name: Box<str>, edits: BTreeMap<Box<[u8]>, ElementEdit>, order: &mut Order) {
        let Some((kind, count)) = self.sets.get_mut(&name) else { return };
        let (mut come, mut go) = (Elements::new(), Elements::new());
        for (key, edit) in edits {
            let there = self.maps.get(&name).and_then(|map| map.get(&key)).map(|verdict| verdict.cloned());
            match edit {
                ElementEdit::There(verdict) if there.as_ref() == Some(&verdict) => {}
                ElementEdit::There(verdict) => {
                    // A different verdict for the same key is a different element.
                    if let Some(old) = there {
                        go.insert(&key, old);
                    }
                    come.insert(&key, verdict);
                }
                ElementEdit::Gone if kind.purpose == SetPurpose::VerdictMap => {
                    if let Some(old) = there {
                        go.insert(&key, old);
                    }
                }
                ElementEdit::Gone => go.insert(&key, None),
            }
        }
        *count = (*count + come.len()).saturating_sub(go.len());
        if let Some(map) = self.maps.get_mut(&name) {
            for key in go.keys() {
                map.remove(key);
            }
            map.extend(come.iter().map(|(key, verdict)| (key, verdict.cloned())));
        }
        if !go.is_empty() {
            order.elements_gone.push(Change::delete(&name, kind.purpose, go));
        }
        if !come.is_empty() {
            order.elements.push(Change::add(&name, kind.purpose, come));
        }
    }

    /// The rules of each chain.
    pub fn chains(&self) -> impl Iterator<Item = &[Rule]> {
        self.chains.values().map(|chain| chain.rules.as_slice())
    }

    /// The kinds of the sets and maps, each with the number of its elements.
    pub fn sets(&self) -> impl Iterator<Item = (&SetKind, usize)> {
        self.sets.values().map(|(kind, count)| (kind, *count))
    }
}

/// What makes a table in the kernel equal to what it is to be.
#[derive(Clone, Debug)]
pub enum Correction {
    /// This transaction, if anything differs.
    Edit(Option<Batch>),
    /// This table in its place.
    Replace(Table),
}

/// The transactions that put a table into the place of another of its name, while at every instant one of them is in force and whole.
/// `beside` is carried out in the transaction that brings the new one into force.
///
/// A set of ranges must be filled in a transaction before the rules that ask it ([`Batch::take_intervals`]), and a name has room for
/// one table. So the new table is in force under the name `meanwhile`, which must be free, until its own is filled.
///
/// One table is never exchanged for another in one transaction: of two base chains of one priority, the kernel calls the newer first
/// (`nf_hook_entries_grow`), and each looks up on its own which rules are in force (`nft_do_chain`). For a packet between the two at
/// that instant, the new one would still be empty and the old one empty already.
pub fn replacement(table: &Table, meanwhile: &str, beside: Vec<Batch>) -> Vec<Vec<Batch>> {
    let mut create = Batch::creating(table);
    let ahead = create.take_intervals();
    let renamed = |batch: &Batch| Batch { table: meanwhile.into(), ..batch.clone() };
    let delete = |name| vec![Batch::deleting(table.family, name)];
    let mut transactions = Vec::new();
    transactions.extend(ahead.as_ref().map(|ahead| vec![renamed(ahead)]));
    transactions.extend([[vec![renamed(&create)], beside].concat(), delete(&table.name)]);
    transactions.extend(ahead.map(|ahead| vec![ahead]));
    transactions.extend([vec![create], delete(meanwhile)]);
    transactions
}

/// Changes in an order that the kernel accepts.
#[derive(Debug, Default)]
struct Order {
    flushed: Vec<Change>,
    elements_gone: Vec<Change>,
    objects_gone: Vec<Change>,
    /// Deleted after the maps that refer to them.
    chains_gone: Vec<Change>,
    come: Vec<Change>,
    rules: Vec<Change>,
    elements: Vec<Change>,
}

impl Order {
    fn changes(self) -> Vec<Change> {
        let Order { flushed, elements_gone, objects_gone, chains_gone, come, rules, elements } = self;
        let all = [flushed, elements_gone, objects_gone, chains_gone, come, rules, elements];
        all.into_iter().flatten().collect()
    }
}
