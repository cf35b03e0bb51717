//! The operations on a packet filter, real or fake: read our objects, carry out one step.

use super::{KernelError, OtherController, Step, TableOwner};
use crate::net::Family;
use crate::netfilter::ipset::Set;
use crate::netfilter::iptables::Variant;
use crate::netfilter::nftables::{Batch, Table, TableFamily};
use crate::netfilter::{BackendName, SetName};
use std::collections::{BTreeMap, BTreeSet};

/// The packet filter of a kernel, which can be read and changed.
pub trait PacketFilter {
    /// The backend that this packet filter is changed with.
    fn backend(&self) -> BackendName;

    /// Reads the chains of a filter table: ours with their rules, and the built-in chains that we hook. A table of a
    /// variant that the backend does not write to is read only for what an earlier agent left there: it is not created,
    /// and it reads as empty if it could not be read or once none of our rules was found in it.
    fn read_table(&mut self, variant: Variant, family: Family) -> Result<TableText, KernelError>;

    /// Reads every set whose name begins with `prefix`.
    fn read_sets(&mut self, prefix: &str) -> Result<BTreeMap<SetName, Set>, KernelError>;

    /// Reads a table of nf_tables.
    fn read_nft_table(&mut self, family: TableFamily, name: &str) -> Result<TableRead, KernelError>;

    /// The tables of nf_tables, as `nft` names them: `inet theirs`; and whether each is dormant, so that the kernel evaluates none
    /// of its rules (NFT_TABLE_F_DORMANT).
    fn read_nft_tables(&mut self) -> Result<BTreeMap<String, bool>, KernelError> {
        Ok(BTreeMap::new())
    }

    /// Which of these controllers have a process in this network namespace, as far as this process can see.
    fn running(&mut self, _controllers: &BTreeSet<OtherController>) -> BTreeSet<OtherController> {
        BTreeSet::new()
    }

    /// Carries out one step. It succeeds or fails as a whole, except for steps on elements, which may stop half-way.
    fn commit(&mut self, step: &Step) -> Result<(), KernelError>;

    /// Carries out steps in order, and stops at the first that fails. Only adjacent steps that belong together
    /// ([`Step::goes_with`]) need not stop each other: if one of them fails, the others may still be carried out.
    fn commit_all(&mut self, steps: &[Step]) -> Result<(), KernelError> {
        steps.iter().try_for_each(|step| self.commit(step))
    }

    /// The work done so far.
    fn tally(&self) -> Tally;
}

/// The filter table of a family, chain by chain, with rules as `iptables-save` prints them, without `-A CHAIN`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableText {
    /// Every chain of the table, ours and those of other programs.
    pub chains: BTreeMap<String, Vec<String>>,
}

/// A table of nf_tables, as far as it could be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TableRead {
    /// The table does not exist, or the kernel has no tables of its family.
    #[default]
    Absent,
    /// The table contains something that this program does not write.
    Foreign,
    /// The table contains only what this program writes.
    Ours {
        /// Its content, without counts and without the elements that packets added to dynamic sets.
        table: Table,
        /// How many packets the counters of each chain have counted.
        counted: BTreeMap<Box<str>, u64>,
        /// Whether other programs can change it.
        owner: TableOwner,
    },
}

impl TableRead {
    /// Whether its rules are evaluated. Those of a table that another version of this program wrote are, as far as is known.
    pub fn is_in_force(&self) -> bool {
        match self {
            TableRead::Absent => false,
            TableRead::Foreign => true,
            TableRead::Ours { table, .. } => table.chains.values().any(|chain| chain.base.is_some()),
        }
    }

    /// The transaction that puts a table in its place, or none in it; nothing if it is so.
    pub(crate) fn replaced(&self, family: TableFamily, name: &str, desired: Option<&Table>) -> Option<Batch> {
        match (desired, self) {
            (None, TableRead::Absent) => None,
            (None, TableRead::Foreign | TableRead::Ours { .. }) => Some(Batch::deleting(family, name)),
            (Some(desired), there) if there.kept() == Some(desired) => None,
            (Some(desired), _) => Some(Batch::replacing(desired)),
        }
    }
}

/// The work that a kernel did, in counts that do not depend on the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Processes started.
    pub processes: u64,
    /// Netlink requests that change something.
    pub netlink_writes: u64,
    /// Set elements added or removed.
    pub elements: u64,
    /// Rule transactions committed.
    pub restores: u64,
    /// Transactions committed that change what is in our own tables of nf_tables.
    pub transactions: u64,
    /// Connections deleted, marked as revoked, or allowed again.
    pub cut: u64,
}

impl std::ops::Add for Tally {
    type Output = Tally;

    fn add(self, other: Tally) -> Tally {
        Tally {
            processes: self.processes + other.processes,
            netlink_writes: self.netlink_writes + other.netlink_writes,
            elements: self.elements + other.elements,
            restores: self.restores + other.restores,
            transactions: self.transactions + other.transactions,
            cut: self.cut + other.cut,
        }
    }
}
