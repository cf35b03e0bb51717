//! How much the sets of ipset hold, counted without reading them.

use crate::apply::Step;
use crate::collections::HashIndex;
use crate::net::Family;
use crate::netfilter::ipset::Set;
use crate::netfilter::{Ruleset, SetName};
use std::collections::BTreeMap;

/// How many sets there are, and how many elements each holds.
#[derive(Clone, Debug, Default)]
pub(super) struct SetCounts {
    sets: HashIndex<(SetName, Family, usize)>,
    /// By family: the number of sets, and the number of all their elements.
    totals: BTreeMap<Family, (usize, usize)>,
}

impl SetCounts {
    /// Counts the sets of a whole ruleset.
    pub(super) fn of(ruleset: &Ruleset) -> SetCounts {
        let mut elements = SetCounts::default();
        ruleset.sets.iter().for_each(|(name, desired)| elements.set(name, &desired.set));
        elements
    }

    /// Updates the counts by a step.
    pub(super) fn follow(&mut self, step: &Step) {
        match step {
            Step::CreateSet(name, set) | Step::ReplaceSet(name, set) => self.set(name, set),
            Step::AddElements(name, _, _, elements) => self.change(name, |count| count + elements.len()),
            Step::RemoveElements(name, _, _, elements) => {
                self.change(name, |count| count.saturating_sub(elements.len()));
            }
            Step::DestroySet(name) => self.forget(name),
            Step::Restore(..) | Step::RemoveNftTable(_) | Step::Transact(_) => {}
        }
    }

    fn set(&mut self, name: &SetName, set: &Set) {
        self.forget(name);
        let (family, count) = (set.kind.family, set.elements.len());
        let (sets, elements) = self.totals.entry(family).or_default();
        (*sets, *elements) = (*sets + 1, *elements + count);
        self.sets.insert(name, (name.clone(), family, count));
    }

    fn forget(&mut self, name: &SetName) {
        let Some((_, family, count)) = self.sets.remove(name, |(own, ..)| own == name) else { return };
        let (sets, elements) = self.totals.entry(family).or_default();
        (*sets, *elements) = (*sets - 1, *elements - count);
    }

    fn change(&mut self, name: &SetName, count: impl Fn(usize) -> usize) {
        let Some((_, family, own)) = self.sets.get_mut(name, |(own, ..)| own == name) else { return };
        let before = std::mem::replace(own, count(*own));
        let (_, elements) = self.totals.entry(*family).or_default();
        *elements = *elements - before + *own;
    }

    /// The number of sets of a family, and the number of all their elements.
    pub(super) fn of_family(&self, family: Family) -> (usize, usize) {
        self.totals.get(&family).copied().unwrap_or_default()
    }
}
