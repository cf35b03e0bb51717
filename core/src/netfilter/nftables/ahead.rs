//! What of a transaction must be carried out in one before it, because the kernel does not bring all of a transaction into force in the
//! same instant for a packet that is on its way.

use super::{Batch, Change, SetPurpose};
use std::collections::{BTreeMap, BTreeSet};

/// How many elements of new sets, or rules of new chains, a transaction adds, unless one set or chain has more: about 256 KiB of
/// elements, or 1 MiB of rules.
const AT_ONCE: usize = 4096;

impl Batch {
    /// Removes from this transaction what must be carried out in one before it: new sets of intervals, with their
    /// elements.
    ///
    /// A transaction brings its rules into force in one instant, but the kernel makes the elements of such a set
    /// visible only a moment later (`nft_set_commit_update`, linux/net/netfilter/nf_tables_api.c): meanwhile rules
    /// would find the set empty.
    pub fn take_intervals(&mut self) -> Option<Batch> {
        let names: BTreeSet<_> =
            self.new_sets(|purpose| purpose == SetPurpose::Intervals).into_keys().collect();
        (!names.is_empty())
            .then(|| self.split_off(|change| fills(change).is_some_and(|set| names.contains(set))))
    }

    /// Removes from this transaction what is carried out in transactions before it, in this order: new sets of intervals, as
    /// [`Batch::take_intervals`] does; and if what is new has more than [`AT_ONCE`] elements and rules together, all new sets,
    /// counters and chains.
    ///
    /// No rule that is in force refers to any of it yet, so a packet does not notice when it is filled. The messages of a
    /// transaction are in memory at the same time, both here and in the kernel, which takes only as many as a socket's buffer
    /// holds; this bounds them.
    pub fn take_ahead(&mut self) -> Vec<Batch> {
        let objects = self.new_sets(|_| true);
        let sets = self.new_sets(|purpose| matches!(purpose, SetPurpose::Set | SetPurpose::Intervals));
        let chains = self.new_chains();
        if sets.values().chain(chains.values()).sum::<usize>() <= AT_ONCE {
            return Vec::from_iter(self.take_intervals());
        }
        let counters = self.new_counters();
        let is_object = |change: &Change| {
            matches!(change, Change::AddSet(name, _) if objects.contains_key(name))
                || matches!(change, Change::AddChain(name, _) if chains.contains_key(name))
                || matches!(change, Change::AddCounter(name) if counters.contains(name))
        };
        let mut ahead = vec![self.split_off(is_object)];
        ahead.extend(
            parts(sets)
                .into_iter()
                .map(|names| self.split_off(|change| fills(change).is_some_and(|set| names.contains(set)))),
        );
        ahead.extend(parts(chains).into_iter().map(|names| {
            self.split_off(|change| matches!(change, Change::AddRule(chain, _) if names.contains(chain)))
        }));
        ahead
    }

    /// The chains that only rules enter and that this transaction adds, each with the number of its rules.
    fn new_chains(&self) -> BTreeMap<Box<str>, usize> {
        if self.changes.contains(&Change::DeleteTable) {
            return BTreeMap::new();
        }
        let (mut new, mut there) = (BTreeMap::new(), BTreeSet::new());
        for change in &self.changes {
            if let Change::AddChain(name, None) = change {
                new.insert(name.clone(), 0);
            } else if let Change::FlushChain(name) | Change::DeleteChain(name) = change {
                there.insert(name);
            }
        }
        new.retain(|name, _| !there.contains(name));
        for change in &self.changes {
            if let Change::AddRule(chain, _) = change
                && let Some(count) = new.get_mut(chain)
            {
                *count += 1;
            }
        }
        new
    }

    /// The counters that this transaction adds and does not delete before.
    fn new_counters(&self) -> BTreeSet<Box<str>> {
        let (mut new, mut gone) = (BTreeSet::new(), BTreeSet::new());
        for change in &self.changes {
            if let Change::AddCounter(name) = change {
                new.insert(name.clone());
            } else if let Change::DeleteCounter(name) = change {
                gone.insert(name);
            }
        }
        new.retain(|name| !gone.contains(name));
        new
    }

    /// The sets and maps of these purposes that this transaction adds and that are not there before it, each with the number of its elements.
    fn new_sets(&self, is_asked: impl Fn(SetPurpose) -> bool) -> BTreeMap<Box<str>, usize> {
        let replaces_all = self.changes.contains(&Change::DeleteTable);
        let (mut new, mut gone) = (BTreeMap::new(), BTreeSet::new());
        for change in &self.changes {
            if let Change::AddSet(name, kind) = change
                && !replaces_all
                && is_asked(kind.purpose)
            {
                new.insert(name.clone(), 0);
            } else if let Change::DeleteSet(name) = change {
                gone.insert(name);
            }
        }
        new.retain(|name, _| !gone.contains(name));
        for change in &self.changes {
            if let Change::AddElements(name, elements) | Change::AddRanges(name, elements) = change
                && let Some(count) = new.get_mut(name)
            {
                *count += elements.len();
            }
        }
        new
    }

    /// Removes from this transaction what must be carried out in one before it, if it leads keys of a map that have a verdict to new
    /// chains: these chains, and the sets and counters that they need.
    ///
    /// A packet reads once which rules are in force, when it enters a base chain (`nft_do_chain`), and for each look-up in a map which
    /// elements are. If the transaction is carried out between the two, it finds the new element, and of the chain to which that leads
    /// the rules from before: none.
    pub fn take_chains(&mut self) -> Option<Batch> {
        if !self.leads_elsewhere() {
            return None;
        }
        let (mut sets, mut chains, mut gone) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for change in &self.changes {
            if let Change::AddSet(name, _) = change {
                sets.insert(name.clone());
            } else if let Change::AddChain(name, None) = change {
                chains.insert(name.clone());
            } else if let Change::DeleteSet(name) = change {
                gone.insert(name.clone());
            }
        }
        // A set of this name is there until this transaction.
        if chains.is_empty() || !sets.is_disjoint(&gone) {
            return None;
        }
        let is_of_new = |change: &Change| match change {
            Change::AddCounter(_) => true,
            Change::AddSet(name, _) | Change::AddElements(name, _) | Change::AddRanges(name, _) => {
                sets.contains(name)
            }
            Change::AddChain(name, _) | Change::AddRule(name, _) => chains.contains(name),
            Change::AddTable
            | Change::DeleteTable
            | Change::FlushChain(_)
            | Change::DeleteChain(_)
            | Change::FlushSet(_)
            | Change::DeleteElements(..)
            | Change::DeleteRanges(..)
            | Change::DeleteCounter(_)
            | Change::DeleteSet(_) => false,
        };
        Some(self.split_off(is_of_new))
    }

    /// Whether a key of a map gets another verdict.
    fn leads_elsewhere(&self) -> bool {
        let mut gone = BTreeMap::new();
        for change in &self.changes {
            if let Change::DeleteElements(name, elements) = change {
                gone.insert(name, elements);
            }
        }
        let is_elsewhere = |change: &Change| {
            let Change::AddElements(name, come) = change else { return false };
            let had = |key: &[u8]| gone.get(name).is_some_and(|gone| gone.contains(key));
            come.iter().any(|(key, verdict)| verdict.is_some() && had(key))
        };
        self.changes.iter().any(is_elsewhere)
    }

    /// Moves these changes to a transaction of their own.
    fn split_off(&mut self, is_ahead: impl Fn(&Change) -> bool) -> Batch {
        let (mut ahead, rest): (Vec<_>, Vec<_>) = self.changes.drain(..).partition(is_ahead);
        if rest.contains(&Change::AddTable) {
            ahead.insert(0, Change::AddTable);
        }
        self.changes = rest;
        Batch { family: self.family, table: self.table.clone(), changes: ahead }
    }
}

/// Divides what has these sizes into parts of at most [`AT_ONCE`] together, each of one or more.
fn parts(sizes: BTreeMap<Box<str>, usize>) -> Vec<BTreeSet<Box<str>>> {
    let (mut parts, mut size) = (Vec::<BTreeSet<_>>::new(), 0);
    for (name, own) in sizes.into_iter().filter(|(_, own)| *own > 0) {
        match parts.last_mut() {
            Some(last) if size + own <= AT_ONCE => {
                size += own;
                last.insert(name);
            }
            Some(_) | None => {
                size = own;
                parts.push(BTreeSet::from([name]));
            }
        }
    }
    parts
}

/// The set to which a change adds elements, or that it makes.
fn fills(change: &Change) -> Option<&str> {
    if let Change::AddSet(set, _) | Change::AddElements(set, _) | Change::AddRanges(set, _) = change {
        Some(set)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netfilter::nftables::{Elements, Hook, HookPoint, KeyPart, Rule, SetKind, TableFamily};

    fn set(name: &str, purpose: SetPurpose, count: usize) -> [Change; 2] {
        let kind = SetKind { key: vec![KeyPart::Ipv4], purpose, size: 0 };
        let mut elements = Elements::new();
        for number in 0..u32::try_from(count).expect("a small number") {
            let key = number.to_be_bytes();
            match purpose {
                SetPurpose::Intervals => elements.insert(&[key, key].concat(), None),
                SetPurpose::Set | SetPurpose::VerdictMap | SetPurpose::Dynamic { .. } => {
                    elements.insert(&key, None)
                }
            }
        }
        [Change::AddSet(name.into(), kind), Change::add(name, purpose, elements)]
    }

    fn batch(changes: impl IntoIterator<Item = Change>) -> Batch {
        let changes = [Change::AddTable].into_iter().chain(changes).collect();
        Batch { family: TableFamily::Inet, table: "t".into(), changes }
    }

    fn elements(batch: &Batch) -> usize {
        let count = |change: &Change| {
            if let Change::AddElements(_, elements) | Change::AddRanges(_, elements) = change {
                elements.len()
            } else {
                0
            }
        };
        batch.changes.iter().map(count).sum()
    }

    fn rules(chain: &str, count: usize) -> impl Iterator<Item = Change> + use<> {
        let rule = Change::AddRule(chain.into(), Rule::when().accept());
        [Change::AddChain(chain.into(), None)].into_iter().chain(std::iter::repeat_n(rule, count))
    }

    fn size(batch: &Batch) -> usize {
        let rules = batch.changes.iter().filter(|change| matches!(change, Change::AddRule(..)));
        elements(batch) + rules.count()
    }

    #[test]
    fn many_elements_and_rules_of_what_is_new_are_added_in_transactions_before_it_is_in_force() {
        let sets = (0..10).flat_map(|number| set(&format!("s{number}"), SetPurpose::Set, 1500));
        let ranges = set("r", SetPurpose::Intervals, 10);
        let chains = (0..5).flat_map(|number| rules(&format!("c{number}"), 2000));
        let [map, elements_of_map] = set("m", SetPurpose::VerdictMap, 5000);
        let base = Change::AddChain("base".into(), Some(Hook { point: HookPoint::Forward, priority: 0 }));
        let last = vec![Change::AddTable, elements_of_map, base];
        let mut transaction = batch(sets.chain(ranges).chain(chains).chain([map]).chain(last[1..].to_vec()));
        let ahead = transaction.take_ahead();
        assert_eq!(transaction.changes, last);
        assert_eq!(ahead.iter().map(size).sum::<usize>(), 15_010 + 10_000);
        assert_eq!(size(&ahead[0]), 0, "the objects are there before anything refers to them");
        for part in &ahead {
            assert!(size(part) <= AT_ONCE, "{}", size(part));
            assert_eq!(part.changes[0], Change::AddTable);
        }
        assert_eq!(ahead.len(), 1 + 5 + 3);
    }

    #[test]
    fn set_larger_than_a_transaction_is_not_divided() {
        let sets =
            [set("a", SetPurpose::Set, 10), set("b", SetPurpose::Set, 9000), set("c", SetPurpose::Set, 10)];
        let ahead = batch(sets.into_iter().flatten()).take_ahead();
        assert_eq!(ahead.iter().map(elements).collect::<Vec<_>>(), [0, 10, 9000, 10]);
    }

    #[test]
    fn little_stays_in_the_transaction_that_brings_it_into_force() {
        let mut transaction = batch(set("s", SetPurpose::Set, 10).into_iter().chain(rules("c", 10)));
        let all = transaction.clone();
        assert_eq!(transaction.take_ahead(), []);
        assert_eq!(transaction, all);
    }

    #[test]
    fn what_replaces_something_stays_however_large_it_is() {
        for gone in [Change::DeleteSet("s".into()), Change::DeleteTable] {
            let mut transaction = batch([gone].into_iter().chain(set("s", SetPurpose::Set, 9000)));
            let all = transaction.clone();
            assert_eq!(transaction.take_ahead(), []);
            assert_eq!(transaction, all);
        }
        let mut transaction = batch([Change::FlushChain("c".into())].into_iter().chain(rules("c", 9000)));
        let all = transaction.clone();
        assert_eq!(transaction.take_ahead(), []);
        assert_eq!(transaction, all);
    }
}
