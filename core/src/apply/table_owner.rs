//! Whose a table of nf_tables is, and how the tables of a process that has ended are taken over.

use super::{Actual, Step, TableRead};
use crate::netfilter::nftables::{Batch, Table, TableFamily};
use crate::ownership::{BRIDGE_TABLE, INET_TABLE, RESERVED_TABLE};

/// Whether other programs can change a table of ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TableOwner {
    /// They cannot, or nothing prevents them in this kernel.
    #[default]
    Settled,
    /// It has the owner flag of a process that has ended, or is about to: this program can become its owner.
    Ended,
    /// They can, and only a new table can have an owner.
    Nobody,
}

impl TableRead {
    /// The table, if it is to stay: it holds only what this program writes, and this program owns it or can become its owner.
    pub fn kept(&self) -> Option<&Table> {
        match self {
            TableRead::Absent | TableRead::Foreign | TableRead::Ours { owner: TableOwner::Nobody, .. } => {
                None
            }
            TableRead::Ours { table, owner: TableOwner::Settled | TableOwner::Ended, .. } => Some(table),
        }
    }

    /// Whether the program has yet to become its owner, by [`Change::AddTable`](crate::netfilter::nftables::Change::AddTable).
    pub fn is_to_be_taken(&self) -> bool {
        matches!(self, TableRead::Ours { owner: TableOwner::Ended, .. })
    }
}

/// The step that makes the program the owner of the tables which an ended process left. It comes before all others: the kernel adds
/// no base chain to a table in the transaction that gives it an owner (EINVAL).
pub(crate) fn take_tables(actual: &Actual) -> Option<Step> {
    let tables = [
        (TableFamily::Inet, INET_TABLE, &actual.inet),
        (TableFamily::Inet, RESERVED_TABLE, &actual.reserved),
        (TableFamily::Bridge, BRIDGE_TABLE, &actual.bridge),
    ];
    let left = tables.into_iter().filter(|(.., read)| read.is_to_be_taken());
    let batches: Vec<_> = left.map(|(family, name, _)| Batch::taking(family, name)).collect();
    (!batches.is_empty()).then_some(Step::Transact(batches))
}
