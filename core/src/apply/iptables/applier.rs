//! Keeps the kernel equal to the rendered rules: remembers what it holds, and writes only differences.

use super::ConcurrentEdits;
use super::transaction::TransactionBuilder;
use crate::apply::leftovers::leftovers;
use crate::apply::{Actual, ActualTable, BridgeReplacement, Step, TableRead, take_tables};
use crate::net::Family;
use crate::netfilter::ipset::Kind;
use crate::netfilter::iptables::{Chains, Variant};
use crate::netfilter::nftables::{self, TableFamily};
use crate::netfilter::{DesiredSet, Edit, Role, Ruleset, SetEdit, SetName, Table};
use crate::ownership::RESERVED_TABLE;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Our chains, by family.
pub(super) type Tables = BTreeMap<Family, Chains>;

/// Our rules and sets in the kernel after all steps returned so far.
#[derive(Clone, Debug)]
pub struct Applier {
    variant: Variant,
    tables: Tables,
    sets: BTreeMap<SetName, Kind>,
}

impl Applier {
    /// Starts from what was read from the kernel, and returns the steps that make it equal to `desired`.
    ///
    /// No steps mean that the kernel was correct.
    pub fn adopt(variant: Variant, desired: Ruleset, actual: &Actual) -> (Applier, Vec<Step>) {
        let mut builder = TransactionBuilder::new(variant);
        let mut applier = Applier { variant, tables: Tables::new(), sets: BTreeMap::new() };
        let nothing = ActualTable::default();
        for name in actual.sets.keys().filter(|name| !desired.sets.contains_key(name)) {
            builder.destroy_set(name.clone());
        }
        for (family, table) in desired.tables {
            let actual = actual.tables.get(&(variant, family)).unwrap_or(&nothing);
            adopt_chains(&mut builder, family, &table, actual);
            adopt_hooks(&mut builder, family, &table, actual);
            applier.tables.insert(family, table.chains);
        }
        builder.remove_leftovers(leftovers(variant.into(), actual));
        for (name, set) in desired.sets {
            applier.sets.insert(name.clone(), set.set.kind);
            adopt_set(&mut builder, name, set, actual);
        }
        adopt_bridge(&mut builder, desired.bridge, actual);
        let reserved = desired.reserved.as_ref();
        if let Some(batch) = actual.reserved.replaced(TableFamily::Inet, RESERVED_TABLE, reserved) {
            match reserved {
                Some(_) => builder.narrow_bridge(batch),
                None => builder.change_bridge(batch),
            }
        }
        let mut steps = Vec::from_iter(take_tables(actual));
        steps.extend(builder.steps());
        (applier, steps)
    }

    /// Returns the steps that carry out an edit, and what may be written concurrently with them: nothing for an edit
    /// that changes only members, because it ends before anything else could start. If a step fails, the kernel must be
    /// read and adopted again. `is_isolated` answers for the state once the edit is in force.
    pub fn edit(
        &mut self,
        edit: Edit,
        is_isolated: &dyn Fn(IpAddr) -> bool,
    ) -> (Vec<Step>, Option<ConcurrentEdits>) {
        let concurrent =
            (!edit.is_of_members()).then(|| ConcurrentEdits::beside(&self.tables, &edit, is_isolated));
        let before_rules = concurrent.as_ref().filter(|_| !edit.chains.is_empty());
        let mut builder = TransactionBuilder::new(self.variant);
        for ((family, name), rules) in edit.chains {
            let chains = self.tables.entry(family).or_default();
            match rules {
                Some(rules) if chains.get(&name) == Some(&rules) => {}
                Some(rules) => {
                    builder.write_chain(family, name.clone(), &rules);
                    chains.insert(name, rules);
                }
                None => {
                    if chains.remove(&name).is_some() {
                        builder.remove_chain(family, name);
                    }
                }
            }
        }
        for (name, change) in edit.sets {
            match change {
                SetEdit::Whole(DesiredSet { set, .. }) => {
                    if self.sets.insert(name.clone(), set.kind).is_some() {
                        builder.replace_set(name, set);
                    } else {
                        builder.create_set(name, set);
                    }
                }
                SetEdit::Elements { kind, role, elements } => {
                    for (element, comes) in elements {
                        let early = comes
                            && role == Role::Allows
                            && before_rules.is_some_and(|concurrent| {
                                concurrent.lets_join_early(&name, &element, is_isolated)
                            });
                        if early {
                            builder.join_early(&name, kind, element);
                        } else {
                            builder.change_element(&name, kind, role, element, comes);
                        }
                    }
                }
                SetEdit::Remove => {
                    if self.sets.remove(&name).is_some() {
                        builder.destroy_set(name);
                    }
                }
            }
        }
        let [before, after] = edit.bridge;
        before.into_iter().for_each(|batch| builder.narrow_bridge(batch));
        after.into_iter().for_each(|batch| builder.change_bridge(batch));
        (builder.steps(), concurrent)
    }

    /// The steps that carry out an edit while another one is in progress, or nothing if that one does not permit it.
    pub fn edit_concurrently(
        &mut self,
        concurrent: &ConcurrentEdits,
        edit: Edit,
        is_isolated: &dyn Fn(IpAddr) -> bool,
    ) -> Option<Vec<Step>> {
        concurrent.lets_pass(&edit, is_isolated).then(|| self.edit(edit, is_isolated).0)
    }

    /// The chains of a family.
    pub fn chains(&self, family: Family) -> Option<&Chains> {
        self.tables.get(&family)
    }

    /// The number of sets.
    pub fn set_count(&self) -> usize {
        self.sets.len()
    }
}

fn adopt_chains(builder: &mut TransactionBuilder, family: Family, desired: &Table, actual: &ActualTable) {
    for (name, rules) in &desired.chains {
        if actual.chains.get(name).and_then(Option::as_ref) != Some(rules) {
            builder.write_chain(family, name.clone(), rules);
        }
    }
    for (name, rules) in actual.chains.iter().filter(|(name, _)| !desired.chains.contains_key(name)) {
        builder.retire_chain(family, name, rules.as_deref(), actual);
    }
}

fn adopt_hooks(builder: &mut TransactionBuilder, family: Family, desired: &Table, actual: &ActualTable) {
    let right =
        |builtin: &str| desired.hooks.iter().any(|hook| hook.builtin == builtin && actual.is_hooked(hook));
    for (builtin, jumps) in actual.jumps.iter().filter(|(builtin, _)| !right(builtin)) {
        for (_, rule) in jumps {
            builder.unhook(family, builtin, rule);
        }
    }
    for hook in desired.hooks.iter().filter(|hook| !right(hook.builtin)) {
        builder.hook(family, hook.clone());
    }
}

/// Replaces the table of family bridge if it differs.
fn adopt_bridge(builder: &mut TransactionBuilder, desired: Option<nftables::Table>, actual: &Actual) {
    let BridgeReplacement { before, beside, after } = BridgeReplacement::adopting(desired, actual);
    // Where there was none, a table only denies more.
    let (narrowing, changing) =
        if actual.bridge == TableRead::Absent { (beside, None) } else { (None, beside) };
    before.into_iter().chain(narrowing).for_each(|batch| builder.narrow_bridge(batch));
    changing.into_iter().chain(after).for_each(|batch| builder.change_bridge(batch));
}

fn adopt_set(builder: &mut TransactionBuilder, name: SetName, desired: DesiredSet, actual: &Actual) {
    let DesiredSet { set, role } = desired;
    match actual.sets.get(&name) {
        None => builder.create_set(name, set),
        Some(there) if there.kind != set.kind => builder.retype_set(name, set),
        Some(there) => {
            for element in there.elements.symmetric_difference(&set.elements) {
                let comes = set.elements.contains(element);
                builder.change_element(&name, set.kind, role, *element, comes);
            }
        }
    }
}
