//! What can be asked of a packet filter, real or fake: read what is ours, carry out one step.

use super::{KernelError, OtherController, Step};
use crate::net::Family;
use crate::netfilter::ipset::Set;
use crate::netfilter::iptables::Variant;
use crate::netfilter::nftables::{Table, TableFamily};
use crate::netfilter::{BackendName, SetName};
use std::collections::{BTreeMap, BTreeSet};

/// The packet filter of a kernel, which can be read and changed.
pub trait PacketFilter {
    /// The backend that this packet filter is changed with.
    fn backend(&self) -> BackendName;

    /// Reads the chains of a filter table: ours with their rules, and the built-in chains we hook. Of a variant that the backend
    /// does not write to, what was once left in it: such a table is not made, and it reads as empty once none of our rules
    /// was found there, or when it could not be read.
    fn read_table(&mut self, variant: Variant, family: Family) -> Result<TableText, KernelError>;

    /// Reads every set whose name begins with `prefix`.
    fn read_sets(&mut self, prefix: &str) -> Result<BTreeMap<SetName, Set>, KernelError>;

    /// Reads a table of nf_tables.
    fn read_nft_table(&mut self, family: TableFamily, name: &str) -> Result<TableRead, KernelError>;

    /// The tables of nf_tables, as `nft` names them: `inet theirs`.
    fn read_nft_tables(&mut self) -> Result<BTreeSet<String>, KernelError> {
        Ok(BTreeSet::new())
    }

    /// Which of these have a process in this network namespace, as far as this process can see.
    fn running(&mut self, _controllers: &BTreeSet<OtherController>) -> BTreeSet<OtherController> {
        BTreeSet::new()
    }

    /// Does one step. It happens whole or not at all, but for element steps, which may stop half-way.
    fn commit(&mut self, step: &Step) -> Result<(), KernelError>;

    /// Does steps one after the other, and none after one that fails, but for those that stand together and go with each other
    /// ([`Step::goes_with`]): one that fails need not stop the rest of them.
    fn commit_all(&mut self, steps: &[Step]) -> Result<(), KernelError> {
        steps.iter().try_for_each(|step| self.commit(step))
    }

    /// What was done so far.
    fn tally(&self) -> Tally;
}

/// The filter table of a family, chain by chain, rules as `iptables-save` printed them (`-A CHAIN` left off).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableText {
    /// Every chain of the table, ours and foreign, in the order printed.
    pub chains: BTreeMap<String, Vec<String>>,
}

/// A table of nf_tables, as far as it could be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TableRead {
    /// It is not there, or the kernel has no tables of its family.
    #[default]
    Absent,
    /// It holds something that this program does not write.
    Foreign,
    /// It holds this.
    Ours {
        /// All of it but counts, and what packets put into dynamic sets.
        table: Table,
        /// How many packets the counters of each chain counted.
        counted: BTreeMap<Box<str>, u64>,
    },
}

/// What a kernel was asked to do, in counts that do not depend on the machine.
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
    /// Transactions of our own tables of nf_tables committed.
    pub transactions: u64,
    /// Connections forgotten, condemned or pardoned.
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
