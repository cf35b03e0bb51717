//! The complete desired state, and changes of it.

use super::ipset::{Element, Kind, Set};
use super::iptables::{Chains, Rule};
use super::nftables::Batch;
use super::{ChainName, SetName, nftables};
use crate::net::Family;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Everything that must be in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// The filter table of each family.
    pub tables: BTreeMap<Family, Table>,
    /// The sets of both families.
    pub sets: BTreeMap<SetName, DesiredSet>,
    /// The table of family bridge; `None` if there must be none.
    pub bridge: Option<nftables::Table>,
    /// The table that drops frames which a bridge delivers to a port's own device; `None` if there must be none.
    pub reserved: Option<nftables::Table>,
    /// The table of family inet; `None` if there must be none.
    pub inet: Option<nftables::Table>,
}

/// Everything that must be in the filter table of one family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Our chains.
    pub chains: Chains,
    /// The jumps from built-in chains to ours.
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

/// A set, and its role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredSet {
    /// Its kind and elements.
    pub set: Set,
    /// The effect of its elements.
    pub role: Role,
}

/// The effect of an address's membership in a set. It decides when elements may be added and removed while rules
/// change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Only allows more, through rules that match the set against the peer of an isolated pod.
    Allows,
    /// Only allows more, independent of further rules: elements may only be added once those rules are in force.
    Opens,
    /// Only denies more.
    Isolates,
}

/// Changes of the desired state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edit {
    /// Chains with their complete new content; `None` removes a chain.
    pub chains: BTreeMap<(Family, ChainName), Option<Vec<Rule>>>,
    /// Sets.
    pub sets: BTreeMap<SetName, SetEdit>,
    /// Changes of the table of family bridge: first those that only deny more and come before the rest of the edit,
    /// then those that come after it.
    pub bridge: [Option<Batch>; 2],
}

impl Edit {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        *self == Edit::default()
    }

    /// Whether only members of sets change.
    pub fn is_of_members(&self) -> bool {
        let others = !self.chains.is_empty() || self.bridge.iter().any(Option::is_some);
        !others && self.sets.values().all(|change| matches!(change, SetEdit::Elements { .. }))
    }
}

/// The change of one set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetEdit {
    /// It is to exist with this content.
    Whole(DesiredSet),
    /// These elements are to be added (`true`) or removed (`false`).
    Elements {
        /// The kind of the set.
        kind: Kind,
        /// The role of the set.
        role: Role,
        /// The elements.
        elements: BTreeMap<Element, bool>,
    },
    /// It is to be removed.
    Remove,
}

impl Ruleset {
    /// All sets in the format of `ipset restore`.
    pub fn sets_text(&self) -> String {
        self.sets.iter().map(|(name, desired)| desired.set.text(name)).collect()
    }
}

impl Table {
    /// The table in the format of `iptables-restore --noflush`.
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
