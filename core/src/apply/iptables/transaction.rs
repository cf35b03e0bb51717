//! Edits of the kernel, in an order in which it is safe to stop after any of them.

use super::FilterTableEdit;
use crate::apply::{ActualTable, Step};
use crate::net::Family;
use crate::netfilter::ipset::{Element, Kind, Set};
use crate::netfilter::iptables::{Rule, Variant};
use crate::netfilter::nftables::Batch;
use crate::netfilter::{ChainName, Hook, Role, SetName};
use std::collections::{BTreeMap, BTreeSet};

/// Collects edits in any order and puts them into the one order that never opens what both the old state and the
/// new one refuse, wherever it stops:
///
/// 1. sets that no rule knows yet are made and filled, those in place with another type destroyed before;
/// 2. addresses are added to sets that isolate: without a dispatch rule that changes nothing;
/// 3. addresses leave the sets that allow: that can only refuse more;
/// 4. addresses join those sets that allow whose rules all stay: they need not wait for the rules that change;
/// 5. the rules change, a family at a time, each in one transaction of the kernel;
/// 6. addresses join the other sets that allow: the rules that ask them are in force;
/// 7. the rules that other backends left are removed: what is in force no longer needs them;
/// 8. addresses leave the sets that isolate: their dispatch rules are gone;
/// 9. sets that no rule knows any more are destroyed.
#[derive(Debug)]
pub(super) struct TransactionBuilder {
    variant: Variant,
    retyped: BTreeSet<SetName>,
    created: BTreeMap<SetName, Set>,
    replaced: BTreeMap<SetName, Set>,
    early: BTreeMap<SetName, (Kind, BTreeSet<Element>)>,
    elements: BTreeMap<(Role, SetName), (Kind, ElementChanges)>,
    restores: BTreeMap<Family, FilterTableEdit>,
    leftovers: Vec<Step>,
    destroyed: BTreeSet<SetName>,
    bridge_before: Vec<Batch>,
    bridge_after: Vec<Batch>,
}

#[derive(Debug, Default)]
struct ElementChanges {
    come: BTreeSet<Element>,
    go: BTreeSet<Element>,
}

impl TransactionBuilder {
    /// Nothing yet; rules are written to this variant.
    pub(super) fn new(variant: Variant) -> TransactionBuilder {
        TransactionBuilder {
            variant,
            retyped: BTreeSet::new(),
            created: BTreeMap::new(),
            replaced: BTreeMap::new(),
            early: BTreeMap::new(),
            elements: BTreeMap::new(),
            restores: BTreeMap::new(),
            leftovers: Vec::new(),
            destroyed: BTreeSet::new(),
            bridge_before: Vec::new(),
            bridge_after: Vec::new(),
        }
    }

    pub(super) fn create_set(&mut self, name: SetName, set: Set) {
        self.created.insert(name, set);
    }

    /// Makes a set whose name one of another type has. Fails while a rule refers to that one.
    pub(super) fn retype_set(&mut self, name: SetName, set: Set) {
        self.retyped.insert(name.clone());
        self.created.insert(name, set);
    }

    pub(super) fn replace_set(&mut self, name: SetName, set: Set) {
        self.replaced.insert(name, set);
    }

    pub(super) fn change_element(
        &mut self,
        name: &SetName,
        kind: Kind,
        role: Role,
        element: Element,
        comes: bool,
    ) {
        let entry = self.elements.entry((role, name.clone()));
        let (_, elements) = entry.or_insert_with(|| (kind, ElementChanges::default()));
        if comes {
            elements.come.insert(element);
        } else {
            elements.go.insert(element);
        }
    }

    /// An element joins a set that allows before the rules change.
    pub(super) fn join_early(&mut self, name: &SetName, kind: Kind, element: Element) {
        let entry = self.early.entry(name.clone());
        entry.or_insert_with(|| (kind, BTreeSet::new())).1.insert(element);
    }

    pub(super) fn write_chain(&mut self, family: Family, name: ChainName, rules: Vec<Rule>) {
        self.restores.entry(family).or_default().chains.insert(name, Some(rules));
    }

    pub(super) fn remove_chain(&mut self, family: Family, name: ChainName) {
        self.restores.entry(family).or_default().chains.insert(name, None);
    }

    /// Removes a chain that is not wanted any more, or empties it if rules of other programs lead to it.
    pub(super) fn retire_chain(
        &mut self,
        family: Family,
        name: &ChainName,
        rules: Option<&[Rule]>,
        table: &ActualTable,
    ) {
        self.restores.entry(family).or_default().retire_chain(name, rules, table);
    }

    /// Puts a hook at the head of its built-in chain.
    pub(super) fn hook(&mut self, family: Family, hook: Hook) {
        self.restores.entry(family).or_default().hooked.push(hook);
    }

    /// Takes a jump, given as its rule's text, out of a built-in chain.
    pub(super) fn unhook(&mut self, family: Family, builtin: &str, rule: &str) {
        self.restores.entry(family).or_default().unhooked.push((builtin.into(), rule.into()));
    }

    /// Removes what other backends of this program left, once all else is in force.
    pub(super) fn remove_leftovers(&mut self, steps: Vec<Step>) {
        self.leftovers = steps;
    }

    pub(super) fn destroy_set(&mut self, name: SetName) {
        self.destroyed.insert(name);
    }

    /// Changes the table of family bridge before all else: it only refuses more.
    pub(super) fn narrow_bridge(&mut self, batch: Batch) {
        self.bridge_before.push(batch);
    }

    /// Changes the table of family bridge once all else is in force.
    pub(super) fn change_bridge(&mut self, batch: Batch) {
        self.bridge_after.push(batch);
    }

    pub(super) fn steps(self) -> Vec<Step> {
        let mut steps: Vec<_> =
            self.bridge_before.into_iter().map(|batch| Step::Transact(vec![batch])).collect();
        steps.extend(self.retyped.into_iter().map(Step::DestroySet));
        steps.extend(self.created.into_iter().map(|(name, set)| Step::CreateSet(name, set)));
        steps.extend(self.replaced.into_iter().map(|(name, set)| Step::ReplaceSet(name, set)));
        let add = |role: Role| {
            let own = self.elements.iter().filter(move |((own, _), _)| *own == role);
            let own = own.filter(|(_, (_, elements))| !elements.come.is_empty());
            own.map(move |((_, name), (kind, elements))| {
                Step::AddElements(name.clone(), *kind, role, elements.come.clone())
            })
        };
        let remove = |role: Role| {
            let own = self.elements.iter().filter(move |((own, _), _)| *own == role);
            let own = own.filter(|(_, (_, elements))| !elements.go.is_empty());
            own.map(move |((_, name), (kind, elements))| {
                Step::RemoveElements(name.clone(), *kind, role, elements.go.clone())
            })
        };
        steps.extend(add(Role::Isolates));
        steps.extend(remove(Role::Allows));
        steps.extend(remove(Role::Opens));
        let early = self.early.into_iter();
        steps.extend(
            early.map(|(name, (kind, elements))| Step::AddElements(name, kind, Role::Allows, elements)),
        );
        let restores = self.restores.into_iter();
        steps.extend(
            restores
                .filter(|(_, edit)| !edit.is_empty())
                .map(|(family, edit)| Step::Restore(self.variant, family, edit.text())),
        );
        steps.extend(add(Role::Allows));
        steps.extend(add(Role::Opens));
        steps.extend(self.bridge_after.into_iter().map(|batch| Step::Transact(vec![batch])));
        steps.extend(self.leftovers);
        steps.extend(remove(Role::Isolates));
        steps.extend(self.destroyed.into_iter().map(Step::DestroySet));
        steps
    }
}
