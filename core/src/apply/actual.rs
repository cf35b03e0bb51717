//! Our rules and sets in the kernel, as last read.

use super::{KernelError, OtherControllers, PacketFilter, TableRead, TableText, own_chains};
use crate::net::Family;
use crate::netfilter::ipset::Set;
use crate::netfilter::iptables::{Chains, Rule, Variant, parse_rule, target};
use crate::netfilter::nftables::TableFamily;
use crate::netfilter::{BackendName, ChainName, Hook, SetName};
use crate::ownership::{
    BRIDGE_TABLE, BRIDGE_TABLE_NEXT, ENTRANCES, INET_TABLE, INET_TABLE_NEXT, POLICY_PREFIX, RESERVED_TABLE,
    owns_set,
};
use std::collections::{BTreeMap, BTreeSet};

/// Our rules and sets in the kernel, as last read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actual {
    /// The filter tables that contain chains or hooks of this program.
    pub tables: BTreeMap<(Variant, Family), ActualTable>,
    /// Why tables of a variant that the backend does not write to could not be read.
    pub unread: Vec<String>,
    /// Our sets.
    pub sets: BTreeMap<SetName, Set>,
    /// Our table of family bridge.
    pub bridge: TableRead,
    /// Whether the table that temporarily exists beside it was left in the kernel.
    pub bridge_next: bool,
    /// Our table that drops frames which a bridge delivers to a port's own device.
    pub reserved: TableRead,
    /// Our table of family inet.
    pub inet: TableRead,
    /// The table that is in force in its place for a moment.
    pub inet_next: TableRead,
    /// The tables of nf_tables that are dormant, as `nft` names them.
    pub dormant: BTreeSet<String>,
    /// The rules and tables of other NetworkPolicy controllers.
    pub controllers: OtherControllers,
}

/// Our chains and hooks in one filter table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActualTable {
    /// Our chains; `None` for a chain with a rule that this program never writes.
    pub chains: BTreeMap<ChainName, Option<Vec<Rule>>>,
    /// Our hooks in each built-in chain, as text, with their positions from 0.
    pub jumps: BTreeMap<String, Vec<(usize, String)>>,
    /// The rules before our first hook in a built-in chain that has one, and of each chain of others that those lead to all rules.
    pub ahead: BTreeMap<String, Vec<String>>,
    /// Our chains that rules of other programs jump to: they can be emptied, but not removed.
    pub held: BTreeSet<ChainName>,
}

impl Actual {
    /// Reads the kernel.
    pub fn read(kernel: &mut dyn PacketFilter) -> Result<Actual, KernelError> {
        let mut actual = Actual::default();
        let own = kernel.backend().variant();
        for (variant, family) in own_first(own) {
            match kernel.read_table(variant, family) {
                Ok(text) => actual.take(variant, family, &text),
                Err(error) if own == Some(variant) => return Err(error),
                Err(error) => actual.unread.push(error.to_string()),
            }
        }
        let tables = kernel.read_nft_tables()?;
        actual.controllers.see_tables(tables.keys());
        let dormant = tables.into_iter().filter(|(_, is_dormant)| *is_dormant);
        actual.dormant = dormant.map(|(table, _)| table).collect();
        if !actual.controllers.at_work.is_empty() {
            actual.controllers.running = kernel.running(&actual.controllers.at_work);
        }
        actual.sets = kernel.read_sets(POLICY_PREFIX)?;
        actual.sets.retain(|name, _| owns_set(name.as_str()));
        actual.bridge = kernel.read_nft_table(TableFamily::Bridge, BRIDGE_TABLE)?;
        actual.bridge_next =
            kernel.read_nft_table(TableFamily::Bridge, BRIDGE_TABLE_NEXT)? != TableRead::Absent;
        actual.reserved = kernel.read_nft_table(TableFamily::Inet, RESERVED_TABLE)?;
        actual.inet = kernel.read_nft_table(TableFamily::Inet, INET_TABLE)?;
        actual.inet_next = kernel.read_nft_table(TableFamily::Inet, INET_TABLE_NEXT)?;
        Ok(actual)
    }

    /// Whether our rules are in force, in any table.
    pub fn is_in_force(&self) -> bool {
        self.inet.is_in_force()
            || self.inet_next.is_in_force()
            || self.tables.values().any(|table| !table.jumps.is_empty())
    }

    /// The backends whose rules are in the kernel: nftables first, as its table needs no other program.
    pub fn backends(&self) -> Vec<BackendName> {
        let has_table = [&self.inet, &self.inet_next].iter().any(|table| **table != TableRead::Absent);
        let has_jumps = |wanted: Variant| {
            self.tables.iter().any(|((variant, _), table)| *variant == wanted && !table.jumps.is_empty())
        };
        let mut backends = Vec::new();
        for (is_there, backend) in [
            (has_table, BackendName::Nftables),
            (has_jumps(Variant::Nft), BackendName::IptablesNft),
            (has_jumps(Variant::Legacy), BackendName::IptablesLegacy),
        ] {
            backends.extend(is_there.then_some(backend));
        }
        backends
    }

    /// The chains of a filter table that could be read as ours.
    pub fn chains(&self, variant: Variant, family: Family) -> Chains {
        let chains = self.tables.get(&(variant, family)).into_iter().flat_map(|table| &table.chains);
        chains.filter_map(|(name, rules)| Some((name.clone(), rules.clone()?))).collect()
    }

    /// Our rules in the filter tables of variants other than this one.
    pub fn left_by_others(
        &self,
        own: Option<Variant>,
    ) -> impl Iterator<Item = (Variant, Family, &ActualTable)> {
        let others = self.tables.iter().filter(move |((variant, _), _)| own != Some(*variant));
        others.map(|((variant, family), table)| (*variant, *family, table))
    }

    fn take(&mut self, variant: Variant, family: Family, text: &TableText) {
        self.controllers.see(variant, family, text);
        let table = ActualTable::of(text);
        if table != ActualTable::default() {
            self.tables.insert((variant, family), table);
        }
    }
}

impl ActualTable {
    /// Finds the chains and hooks of this program in a table.
    pub fn of(text: &TableText) -> ActualTable {
        let mut table = ActualTable::default();
        let own = own_chains(text);
        for (name, rules) in &text.chains {
            if own.contains(name.as_str()) {
                if let Some(name) = ChainName::new(name) {
                    let rules = rules.iter().map(|rule| parse_rule(rule)).collect::<Result<_, _>>();
                    table.chains.insert(name, rules.ok());
                }
                continue;
            }
            for (place, rule) in rules.iter().enumerate() {
                if is_hook(name, rule) {
                    table.jumps.entry(name.clone()).or_default().push((place, rule.clone()));
                } else if let Some(held) = target(rule).filter(|name| own.contains(name)) {
                    table.held.extend(ChainName::new(held));
                }
            }
        }
        table.ahead = ahead(text, &own, &table.jumps);
        table
    }

    /// Whether a hook is the first rule of its built-in chain, and occurs nowhere else in it.
    pub(super) fn is_hooked(&self, hook: &Hook) -> bool {
        self.jumps.get(hook.builtin).is_some_and(|jumps| *jumps == [(0, format!("-j {}", hook.chain))])
    }
}

fn ahead(
    text: &TableText,
    own: &BTreeSet<&str>,
    jumps: &BTreeMap<String, Vec<(usize, String)>>,
) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    let mut open = Vec::new();
    for (chain, jumps) in jumps {
        let (Some((place, _)), Some(rules)) = (jumps.first(), text.chains.get(chain)) else { continue };
        if *place > 0 {
            open.push((chain.as_str(), &rules[..*place]));
        }
    }
    while let Some((chain, rules)) = open.pop() {
        if found.insert(chain.to_owned(), rules.to_vec()).is_some() {
            continue;
        }
        let next = rules.iter().filter_map(|rule| target(rule)).filter(|name| !own.contains(name));
        let next = next.filter(|name| !found.contains_key(*name));
        open.extend(next.filter_map(|name| Some((name, text.chains.get(name)?.as_slice()))));
    }
    found
}

/// The filter tables, those of the backend's variant first.
fn own_first(own: Option<Variant>) -> impl Iterator<Item = (Variant, Family)> {
    let mut variants = Variant::BOTH;
    variants.sort_by_key(|variant| own != Some(*variant));
    variants.into_iter().flat_map(|variant| Family::BOTH.map(|family| (variant, family)))
}

/// Whether a rule of a chain that isn't ours is a hook: an unconditional jump from a built-in chain to an entrance.
fn is_hook(chain: &str, rule: &str) -> bool {
    let entrance = rule.strip_prefix("-j ").and_then(|target| target.strip_prefix(POLICY_PREFIX));
    ENTRANCES.contains(&chain) && entrance.is_some_and(|entrance| ENTRANCES.contains(&entrance))
}
