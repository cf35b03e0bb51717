//! Who owns which table of nf_tables (NFT_TABLE_F_OWNER with NFT_TABLE_F_PERSIST), as Linux 6.9 and later decides it.

use crate::apply::TableOwner;
use crate::netfilter::nftables::{Batch, Change, TableFamily};
use std::collections::{BTreeMap, BTreeSet};

/// A table's family and name.
type Key = (TableFamily, Box<str>);

/// Who owns which table. The program that changes the kernel always asks to be the owner.
#[derive(Clone, Debug)]
pub(super) struct TableOwners {
    /// Whether tables can have owners.
    exist: bool,
    /// The tables that have the flag, and whether the process that changes the kernel now is the owner; otherwise that has ended.
    owned: BTreeMap<Key, bool>,
    /// The tables to which this transaction has given an owner.
    taken: BTreeSet<Key>,
}

impl Default for TableOwners {
    fn default() -> TableOwners {
        TableOwners { exist: true, owned: BTreeMap::new(), taken: BTreeSet::new() }
    }
}

impl TableOwners {
    /// Those of a kernel in which no table has an owner.
    pub(super) fn unknown() -> TableOwners {
        TableOwners { exist: false, ..TableOwners::default() }
    }

    pub(super) fn begin_transaction(&mut self) {
        self.taken.clear();
    }

    pub(super) fn end_process(&mut self) {
        self.owned.values_mut().for_each(|lives| *lives = false);
    }

    pub(super) fn read(&self, key: &Key) -> TableOwner {
        if !self.exist {
            return TableOwner::Settled;
        }
        match self.owned.get(key) {
            Some(true) => TableOwner::Settled,
            Some(false) => TableOwner::Ended,
            None => TableOwner::Nobody,
        }
    }

    /// What a transaction makes of the owner of its table, which is there before it or not.
    pub(super) fn change(&mut self, batch: &Batch, mut is_there: bool) -> Result<(), &'static str> {
        if !self.exist {
            return Ok(());
        }
        let key = (batch.family, batch.table.clone());
        for change in &batch.changes {
            match change {
                Change::DeleteTable => {
                    self.owned.remove(&key);
                    self.taken.remove(&key);
                    is_there = false;
                }
                // EOPNOTSUPP
                Change::AddTable if is_there && !self.owned.contains_key(&key) => {
                    return Err("a table that has no owner cannot be given one");
                }
                Change::AddTable => {
                    if self.owned.insert(key.clone(), true) == Some(false) && is_there {
                        self.taken.insert(key.clone());
                    }
                    is_there = true;
                }
                // EINVAL
                Change::AddChain(_, Some(_)) if self.taken.contains(&key) => {
                    return Err("no base chain is added in the transaction that gives its table an owner");
                }
                Change::AddChain(..)
                | Change::FlushChain(_)
                | Change::DeleteChain(_)
                | Change::AddRule(..)
                | Change::AddSet(..)
                | Change::AddElements(..)
                | Change::AddRanges(..)
                | Change::FlushSet(_)
                | Change::DeleteElements(..)
                | Change::DeleteRanges(..)
                | Change::AddCounter(_)
                | Change::DeleteCounter(_)
                | Change::DeleteSet(_) => {}
            }
        }
        Ok(())
    }
}
