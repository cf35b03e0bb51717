//! What can be asked of a kernel, real or fake: read what is ours, commit one step.

use super::OtherController;
use crate::net::Family;
use crate::netfilter::ipset::{Element, Kind, Set};
use crate::netfilter::nftables::{Batch, Table};
use crate::netfilter::{ChainName, Role, SetName};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A kernel whose packet filter can be read and written.
pub trait Kernel {
    /// Reads the chains of the filter table: ours with their rules, and the built-in chains we hook.
    fn read_table(&mut self, family: Family) -> Result<TableText, KernelError>;

    /// Reads the filter table of the variant of iptables that is not written to, for what was once left in it. Makes no
    /// table. Empty once nothing of ours was found there, or when it could not be read.
    fn read_other_table(&mut self, family: Family) -> Result<TableText, KernelError>;

    /// Reads every set whose name begins with `prefix`.
    fn read_sets(&mut self, prefix: &str) -> Result<BTreeMap<SetName, Set>, KernelError>;

    /// Reads a table of family bridge.
    fn read_bridge_table(&mut self, name: &str) -> Result<TableRead, KernelError>;

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

    /// The live connections that have an end at one of these addresses. However few they are, the kernel walks through all
    /// that the host has.
    fn connections_of(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<Vec<Connection>, KernelError>;

    /// Forgets a live connection, so that its next packet is judged as a first one. One that is gone already is fine.
    fn forget(&mut self, connection: &Connection) -> Result<(), KernelError>;

    /// Sets our bit in a live connection's mark, so that the rules refuse its packets both ways. One that is gone
    /// already is fine.
    fn condemn(&mut self, connection: &Connection, mark: u32) -> Result<(), KernelError>;

    /// Takes our bit out of a live connection's mark: it is allowed again. One that is gone already is fine.
    fn pardon(&mut self, connection: &Connection, mark: u32) -> Result<(), KernelError>;

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

/// One edit of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Makes a set and fills it. Fails if the name is taken.
    CreateSet(SetName, Set),
    /// Gives an existing set new elements, or a new kind, in one instant: a second set is filled and swapped in.
    /// `Kind` must be that of the set in place, as the kernel swaps only like with like.
    ReplaceSet(SetName, Set),
    /// Adds elements; those already there are fine.
    AddElements(SetName, Kind, Role, BTreeSet<Element>),
    /// Removes elements; those already gone are fine.
    RemoveElements(SetName, Kind, Role, BTreeSet<Element>),
    /// Hands a text to `iptables-restore --noflush -w` of the family; `-A` lines in it belong to these chains.
    Restore(Family, RestoreText),
    /// The same, of the variant of iptables that is not written to otherwise.
    RestoreOther(Family, RestoreText),
    /// Destroys a set. Fails while a rule refers to it.
    DestroySet(SetName),
    /// Carries out a transaction on a table of nf_tables.
    Transact(Batch),
    /// Removes a table of nf_tables that another program left, as `nft` names it; one that is gone already is fine.
    RemoveNftTable(String),
}

impl Step {
    /// Whether both only add elements, or only remove them, and to be in one set does what to be in the other does. Of such steps
    /// that stand together any may be left undone, and less is opened, or less closed, than by all of them.
    pub fn goes_with(&self, next: &Step) -> bool {
        match (self, next) {
            (Step::AddElements(_, _, one, _), Step::AddElements(_, _, other, _))
            | (Step::RemoveElements(_, _, one, _), Step::RemoveElements(_, _, other, _)) => one == other,
            _ => false,
        }
    }

    /// Whether it changes nothing but who is in sets: a request or two of some microseconds.
    pub fn is_of_members(&self) -> bool {
        match self {
            Step::AddElements(..) | Step::RemoveElements(..) => true,
            Step::CreateSet(..)
            | Step::ReplaceSet(..)
            | Step::Restore(..)
            | Step::RestoreOther(..)
            | Step::DestroySet(_)
            | Step::RemoveNftTable(_)
            | Step::Transact(_) => false,
        }
    }
}

/// A text for `iptables-restore --noflush`: one transaction on the filter table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreText {
    /// The text, from `*filter` to `COMMIT`.
    pub text: String,
    /// The chains it writes.
    pub writes: BTreeSet<ChainName>,
}

/// A live connection as conntrack knows it, by the addresses its first packet had at the FORWARD hook.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Connection {
    /// The protocol number.
    pub protocol: u8,
    /// Who opened it: the original tuple's source.
    pub source: IpAddr,
    /// Its port; 0 for a protocol without ports.
    pub source_port: u16,
    /// Whom it dialled: the original tuple's destination, a Service's address perhaps.
    pub dialled: IpAddr,
    /// The port dialled.
    pub dialled_port: u16,
    /// Who answers: the reply tuple's source, after destination NAT.
    pub destination: IpAddr,
    /// The port that answers.
    pub destination_port: u16,
    /// Whether one of its ends is an address of this host itself.
    pub is_of_this_host: bool,
    /// Its mark, ours and others' bits.
    pub mark: u32,
    /// The bytes of the original tuple, as they must be given back to forget the connection.
    pub tuple: Vec<u8>,
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
    /// Transactions of tables of family bridge committed.
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

/// Why the kernel, or a program that speaks to it, refused.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// A program could not be started.
    #[error("cannot start {program}: {source}. Install it (Debian: apt install {package}) or fix PATH")]
    Start {
        /// The program.
        program: String,
        /// The package that has it.
        package: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A program ran and said no.
    #[error("{program} failed ({status}): {stderr}{}", line.as_ref().map(|line| format!(" in line {line:?}")).unwrap_or_default())]
    Program {
        /// The program with its arguments.
        program: String,
        /// How it ended.
        status: String,
        /// What it said.
        stderr: String,
        /// The input line it named, if it named one.
        line: Option<String>,
    },
    /// The kernel refused a netlink request.
    #[error("cannot {act} set {set}: {reason}")]
    Set {
        /// What was attempted.
        act: &'static str,
        /// On which set.
        set: String,
        /// What the kernel said, in words.
        reason: String,
        /// Its errno or ipset error number.
        code: i32,
    },
    /// The kernel refused a transaction on a table of nf_tables.
    #[error("cannot change table {table} of nf_tables by {change}: {reason}")]
    Table {
        /// The table.
        table: String,
        /// The change that was refused.
        change: String,
        /// What the kernel said, in words.
        reason: String,
    },
    /// A netlink socket failed.
    #[error("cannot {act}: {source}")]
    Netlink {
        /// What was attempted.
        act: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

impl KernelError {
    /// Every word that [`KernelError::kind`] may say.
    pub const KINDS: [&str; 5] = ["start", "program", "set", "table", "netlink"];

    /// A short, fixed word for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            KernelError::Start { .. } => "start",
            KernelError::Program { .. } => "program",
            KernelError::Set { .. } => "set",
            KernelError::Table { .. } => "table",
            KernelError::Netlink { .. } => "netlink",
        }
    }
}
