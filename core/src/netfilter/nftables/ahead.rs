//! What of a transaction must be carried out in one before it, because the kernel does not bring all of a transaction into force in the
//! same instant for a packet that is on its way.

use super::{Batch, Change, SetKind, SetPurpose};
use std::collections::{BTreeMap, BTreeSet};

impl Batch {
    /// Removes from this transaction what must be carried out in one before it: new sets of intervals, with their
    /// elements.
    ///
    /// A transaction brings its rules into force in one instant, but the kernel makes the elements of such a set
    /// visible only a moment later (`nft_set_commit_update`, linux/net/netfilter/nf_tables_api.c): meanwhile rules
    /// would find the set empty.
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
        Some(self.split_off(is_of_new))
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
