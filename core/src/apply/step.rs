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
    /// Makes a set and fills it. Fails if the name is taken.
    CreateSet(SetName, Set),
    /// Gives an existing set new elements, or a new kind, in one instant: a second set is filled and swapped in.
    /// `Kind` must be that of the set in place, as the kernel swaps only like with like.
    ReplaceSet(SetName, Set),
    /// Adds elements; those already there are fine.
    AddElements(SetName, Kind, Role, BTreeSet<Element>),
    /// Removes elements; those already gone are fine.
    RemoveElements(SetName, Kind, Role, BTreeSet<Element>),
    /// Hands a text to `iptables-restore --noflush -w` of the variant and family; `-A` lines in it belong to these chains.
    Restore(Variant, Family, RestoreText),
    /// Destroys a set. Fails while a rule refers to it.
    DestroySet(SetName),
    /// Carries out one transaction on tables of nf_tables.
    Transact(Vec<Batch>),
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

    /// Whether it changes the rules that evaluate packets.
    pub fn changes_rules(&self) -> bool {
        match self {
            Step::Restore(..) => true,
            Step::Transact(batches) => {
                batches.iter().any(|batch| batch.family == TableFamily::Inet && !batch.is_of_elements())
            }
            Step::CreateSet(..)
            | Step::ReplaceSet(..)
            | Step::AddElements(..)
            | Step::RemoveElements(..)
            | Step::DestroySet(_)
            | Step::RemoveNftTable(_) => false,
        }
    }

    /// Whether it changes nothing but who is in sets: a request or two of some microseconds.
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
