//! What the kernel holds of ours, as last read.

use super::{Kernel, KernelError, TableText};
use crate::net::Family;
use crate::netfilter::ipset::Set;
use crate::netfilter::iptables::{Chains, Rule, parse_rule};
use crate::netfilter::{ChainName, Hook, SetName};
use crate::ownership::{POLICY_PREFIX, owns_chain};
use std::collections::BTreeMap;

/// What the kernel holds of ours, as last read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actual {
    /// The filter table of each family.
    pub tables: BTreeMap<Family, ActualTable>,
    /// What is still ours in the filter tables of the other variant of iptables; no table that holds nothing of ours.
    pub others: BTreeMap<Family, ActualTable>,
    /// Why tables of the other variant could not be read.
    pub unread: Vec<String>,
    /// Our sets.
    pub sets: BTreeMap<SetName, Set>,
}

/// What a filter table holds of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActualTable {
    /// Our chains; `None` for one that holds a rule we never write.
    pub chains: BTreeMap<ChainName, Option<Vec<Rule>>>,
    /// By built-in chain: the rules in it that jump into ours, as text, with their places from 0.
    pub jumps: BTreeMap<String, Vec<(usize, String)>>,
}

impl Actual {
    /// Reads the kernel.
    pub fn read(kernel: &mut dyn Kernel) -> Result<Actual, KernelError> {
        let mut actual = Actual::default();
        for family in Family::BOTH {
            actual.tables.insert(family, ActualTable::new(&kernel.read_table(family)?));
            match kernel.read_other_table(family).map(|text| ActualTable::new(&text)) {
                Ok(other) if other == ActualTable::default() => {}
                Ok(other) => drop(actual.others.insert(family, other)),
                Err(error) => actual.unread.push(error.to_string()),
            }
        }
        actual.sets = kernel.read_sets(POLICY_PREFIX)?;
        Ok(actual)
    }

    /// The chains of a family that read as ours.
    pub fn chains(&self, family: Family) -> Chains {
        let chains = self.tables.get(&family).into_iter().flat_map(|table| &table.chains);
        chains.filter_map(|(name, rules)| Some((name.clone(), rules.clone()?))).collect()
    }
}

impl ActualTable {
    fn new(text: &TableText) -> ActualTable {
        let mut table = ActualTable::default();
        for (name, rules) in &text.chains {
            if owns_chain(name) {
                if let Some(name) = ChainName::new(name) {
                    let rules = rules.iter().map(|rule| parse_rule(rule)).collect::<Result<_, _>>();
                    table.chains.insert(name, rules.ok());
                }
                continue;
            }
            let jumps: Vec<_> =
                rules.iter().cloned().enumerate().filter(|(_, rule)| jumps_to_us(rule)).collect();
            if !jumps.is_empty() {
                table.jumps.insert(name.clone(), jumps);
            }
        }
        table
    }

    /// Whether a hook is where it must be, and nowhere else in its built-in chain.
    pub(super) fn is_hooked(&self, hook: &Hook) -> bool {
        self.jumps.get(hook.builtin).is_some_and(|jumps| *jumps == [(0, format!("-j {}", hook.chain))])
    }
}

fn jumps_to_us(rule: &str) -> bool {
    let mut words = rule.split_whitespace();
    let jump = words.find(|word| *word == "-j" || *word == "-g");
    jump.and_then(|_| words.next()).is_some_and(owns_chain)
}
