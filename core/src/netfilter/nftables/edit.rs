//! The changes of a table, in no order.

use super::{Chain, Elements, Set, SetPurpose, Table, Verdict};
use std::collections::BTreeMap;

/// The changes of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableEdit {
    /// Chains with their whole new content; `None` removes one.
    pub chains: BTreeMap<Box<str>, Option<Chain>>,
    /// Sets and maps.
    pub sets: BTreeMap<Box<str>, SetEdit>,
    /// Counters that are to exist (`true`) or not.
    pub counters: BTreeMap<Box<str>, bool>,
}

/// The change of a set or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetEdit {
    /// It is to exist with this content.
    Whole(Set),
    /// These keys are to exist, in a map with these verdicts, or not.
    Elements(BTreeMap<Box<[u8]>, ElementEdit>),
    /// It is to be removed.
    Remove,
}

/// The change of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ElementEdit {
    /// It is to exist; in a map with a verdict.
    There(Option<Verdict>),
    /// It is to be removed.
    Gone,
}

impl TableEdit {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        *self == TableEdit::default()
    }

    /// The edit that changes one table to another.
    ///
    /// # Errors
    /// The new table, if only a replacement can do that, because a chain has another hook or a set is of another kind.
    pub fn between(old: &Table, new: Table) -> Result<TableEdit, Table> {
        if !can_become(old, &new) {
            return Err(new);
        }
        let mut edit = TableEdit::default();
        let gone = old.chains.keys().filter(|name| !new.chains.contains_key(*name));
        edit.chains.extend(gone.map(|name| (name.clone(), None)));
        let gone = old.sets.keys().filter(|name| !new.sets.contains_key(*name));
        edit.sets.extend(gone.map(|name| (name.clone(), SetEdit::Remove)));
        let counters = old.counters.symmetric_difference(&new.counters);
        edit.counters = counters.map(|name| (name.clone(), new.counters.contains(name))).collect();
        let chains = new.chains.into_iter().filter(|(name, chain)| old.chains.get(name) != Some(chain));
        edit.chains.extend(chains.map(|(name, chain)| (name, Some(chain))));
        for (name, set) in new.sets {
            let Some(there) = old.sets.get(&name) else {
                edit.sets.insert(name, SetEdit::Whole(set));
                continue;
            };
            let elements = elements_between(&there.elements, &set.elements);
            if !elements.is_empty() && !matches!(set.kind.purpose, SetPurpose::Dynamic { .. }) {
                edit.sets.insert(name, SetEdit::Elements(elements));
            }
        }
        Ok(edit)
    }
}

/// Whether all chains that both tables have are entered in the same way, and all sets that both have are of the same
/// kind.
fn can_become(old: &Table, new: &Table) -> bool {
    let has_its_hook = new.chains.iter().all(|(name, chain)| {
        let there = old.chains.get(name);
        there.is_none_or(|there| there.base == chain.base)
    });
    let has_its_kind = new.sets.iter().all(|(name, set)| {
        let there = old.sets.get(name);
        there.is_none_or(|there| there.kind == set.kind)
    });
    has_its_hook && has_its_kind
}

fn elements_between(old: &Elements, new: &Elements) -> BTreeMap<Box<[u8]>, ElementEdit> {
    let come = new.iter().filter(|(key, verdict)| old.get(key) != Some(*verdict));
    let come = come.map(|(key, verdict)| (key.into(), ElementEdit::There(verdict.cloned())));
    let gone = old.keys().filter(|key| !new.contains(key));
    come.chain(gone.map(|key| (key.into(), ElementEdit::Gone))).collect()
}
