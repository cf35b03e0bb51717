//! A whole desired state, and an edit of one.

use super::ipset::{Element, Kind, Set};
use super::iptables::{Chains, Rule};
use super::nftables::Batch;
use super::{ChainName, SetName, nftables};
use crate::net::Family;
use std::collections::BTreeMap;
use std::fmt::Write;

/// All that is to be in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// The filter table of each family.
    pub tables: BTreeMap<Family, Table>,
    /// The sets of both families.
    pub sets: BTreeMap<SetName, DesiredSet>,
    /// The table of family bridge; `None` for no such table.
    pub bridge: Option<nftables::Table>,
    /// The table of family inet; `None` for no such table.
    pub inet: Option<nftables::Table>,
}

/// What is to be in the filter table of one family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Our chains.
    pub chains: Chains,
    /// Where they are entered from the built-in chains.
    pub hooks: Vec<Hook>,
}

/// An unconditional jump that must be the first rule of a built-in chain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hook {
    /// The built-in chain: `FORWARD`, `INPUT` or `OUTPUT`.
    pub builtin: &'static str,
    /// Our chain.
    pub chain: ChainName,
}

/// A set, and what being in it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredSet {
    /// Its kind and elements.
    pub set: Set,
    /// What being in it does.
    pub role: Role,
}

/// What being in a set does to an address. It decides when elements may come and go while rules change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// It can only allow more, by rules that ask the set for the peer of an isolated pod.
    Allows,
    /// It can only allow more, whatever rules judge the packet further: nothing may join before they are in force.
    Opens,
    /// It can only allow less.
    Isolates,
}

/// What is to change in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edit {
    /// Chains with their whole new content; `None` removes one.
    pub chains: BTreeMap<(Family, ChainName), Option<Vec<Rule>>>,
    /// Sets.
    pub sets: BTreeMap<SetName, SetEdit>,
    /// The table of family bridge: what only refuses more comes before the rest of the edit, the other behind it.
    pub bridge: [Option<Batch>; 2],
}

impl Edit {
    /// Whether nothing is to change.
    pub fn is_empty(&self) -> bool {
        *self == Edit::default()
    }

    /// Whether nothing changes but who is in sets.
    pub fn is_of_members(&self) -> bool {
        let others = !self.chains.is_empty() || self.bridge.iter().any(Option::is_some);
        !others && self.sets.values().all(|change| matches!(change, SetEdit::Elements { .. }))
    }
}

/// What is to change in one set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetEdit {
    /// It is to be, with this content.
    Whole(DesiredSet),
    /// These elements are to come (`true`) or go (`false`).
    Elements {
        /// The kind of the set.
        kind: Kind,
        /// What being in it does.
        role: Role,
        /// The elements.
        elements: BTreeMap<Element, bool>,
    },
    /// It is to go.
    Remove,
}

impl Ruleset {
    /// All sets as `ipset restore` takes them.
    pub fn sets_text(&self) -> String {
        self.sets.iter().map(|(name, desired)| desired.set.text(name)).collect()
    }
}

impl Table {
    /// The table as `iptables-restore --noflush` takes it.
    pub fn text(&self) -> String {
        let mut text = String::from("*filter\n");
        for chain in self.chains.keys() {
            let _ = writeln!(text, ":{chain} - [0:0]");
        }
        for (chain, rules) in &self.chains {
            for rule in rules {
                let _ = writeln!(text, "-A {chain} {rule}");
            }
        }
        for hook in &self.hooks {
            let _ = writeln!(text, "-I {} 1 -j {}", hook.builtin, hook.chain);
        }
        text.push_str("COMMIT\n");
        text
    }
}
