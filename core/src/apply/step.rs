//! One change of the kernel's packet filter.

use crate::net::Family;
use crate::netfilter::ipset::{Element, Kind, Set};
use crate::netfilter::iptables::Variant;
use crate::netfilter::nftables::{Batch, TableFamily};
use crate::netfilter::{ChainName, Role, SetName};
use std::collections::BTreeSet;

/// One change of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Creates a set and fills it. Fails if a set of this name exists.
    CreateSet(SetName, Set),
    /// Replaces the elements of an existing set in one instant: a second set is filled and swapped in. Its `Kind` must
    /// be that of the existing set, as the kernel swaps only sets of the same kind.
    ReplaceSet(SetName, Set),
    /// Adds elements; those that already exist are no error.
    AddElements(SetName, Kind, Role, BTreeSet<Element>),
    /// Removes elements; those that no longer exist are no error.
    RemoveElements(SetName, Kind, Role, BTreeSet<Element>),
    /// Passes a text to `iptables-restore --noflush -w` of the variant and family; its `-A` lines belong to these
    /// chains.
    Restore(Variant, Family, RestoreText),
    /// Destroys a set. Fails while a rule refers to it.
    DestroySet(SetName),
    /// Carries out one transaction on tables of nf_tables.
    Transact(Vec<Batch>),
    /// Removes a table of nf_tables that another program left, named as `nft` does; a table that no longer exists is no
    /// error.
    RemoveNftTable(String),
}

impl Step {
    /// Whether both steps only add elements, or both only remove them, and their sets have the same role. If any of
    /// such adjacent steps fails, less is allowed, or less is denied, than by all of them.
    pub fn goes_with(&self, next: &Step) -> bool {
        match (self, next) {
            (Step::AddElements(_, _, one, _), Step::AddElements(_, _, other, _))
            | (Step::RemoveElements(_, _, one, _), Step::RemoveElements(_, _, other, _)) => one == other,
            _ => false,
        }
    }

    /// Whether it changes the rules that evaluate packets.
    pub fn changes_rules(&self) -> bool {
        match self {
            Step::Restore(..) => true,
            Step::Transact(batches) => {
                let changes_rules = |batch: &Batch| batch.changes_content() && !batch.is_of_elements();
                batches.iter().any(|batch| batch.family == TableFamily::Inet && changes_rules(batch))
            }
            Step::CreateSet(..)
            | Step::ReplaceSet(..)
            | Step::AddElements(..)
            | Step::RemoveElements(..)
            | Step::DestroySet(_)
            | Step::RemoveNftTable(_) => false,
        }
    }

    /// Whether it changes only members of sets, which takes a request or two of some microseconds.
    pub fn is_of_members(&self) -> bool {
        match self {
            Step::AddElements(..) | Step::RemoveElements(..) => true,
            Step::Transact(batches) => batches.iter().all(Batch::is_of_elements),
            Step::CreateSet(..)
            | Step::ReplaceSet(..)
            | Step::Restore(..)
            | Step::DestroySet(_)
            | Step::RemoveNftTable(_) => false,
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
