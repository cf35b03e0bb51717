//! Puts edits of the kernel into an order in which it is safe to stop after any of them.

use super::FilterTableEdit;
use crate::apply::{ActualTable, Step};
use crate::net::Family;
use crate::netfilter::ipset::{Element, Kind, Set};
use crate::netfilter::iptables::{Rule, Variant};
use crate::netfilter::nftables::Batch;
use crate::netfilter::{ChainName, Hook, Role, SetName};
use std::collections::{BTreeMap, BTreeSet};

/// Collects edits in any order and puts them into the one order that, wherever it stops, never allows what both the old
/// state and the new one deny:
///
/// 1. create and fill sets that no rule refers to yet, after destroying existing ones of another type;
/// 2. add addresses to sets that isolate: without a dispatch rule this changes nothing;
/// 3. remove addresses from sets that allow: this can only deny more;
/// 4. add addresses to those sets that allow whose rules do not change;
/// 5. change the rules, one family after the other, each in one transaction of the kernel;
/// 6. add addresses to the other sets that allow: the rules that match them are in force;
/// 7. remove the rules that other backends left: the rules in force no longer need them;
/// 8. remove addresses from the sets that isolate: their dispatch rules are gone;
/// 9. destroy sets that no rule refers to any more.
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
    /// An empty transaction whose rules are written to this variant.
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

    /// Creates a set in place of one of another type with the same name. Fails while a rule refers to the old one.
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

    /// Adds an element to a set that allows before the rules change.
    pub(super) fn join_early(&mut self, name: &SetName, kind: Kind, element: Element) {
        let entry = self.early.entry(name.clone());
        entry.or_insert_with(|| (kind, BTreeSet::new())).1.insert(element);
    }

    pub(super) fn write_chain(&mut self, family: Family, name: ChainName, rules: &[Rule]) {
        self.restores.entry(family).or_default().write_chain(name, rules);
    }

    pub(super) fn remove_chain(&mut self, family: Family, name: ChainName) {
        self.restores.entry(family).or_default().remove_chain(name);
    }

    /// Removes a chain that is no longer needed, or empties it if rules of other programs jump to it.
    pub(super) fn retire_chain(
        &mut self,
        family: Family,
        name: &ChainName,
        rules: Option<&[Rule]>,
        table: &ActualTable,
    ) {
        self.restores.entry(family).or_default().retire_chain(name, rules, table);
    }

    /// Inserts a hook at the beginning of its built-in chain.
    pub(super) fn hook(&mut self, family: Family, hook: Hook) {
        self.restores.entry(family).or_default().hooked.push(hook);
    }

    /// Removes a jump, given as its rule's text, from a built-in chain.
    pub(super) fn unhook(&mut self, family: Family, builtin: &str, rule: &str) {
        self.restores.entry(family).or_default().unhooked.push((builtin.into(), rule.into()));
    }

    /// Removes what other backends of this program left, once everything else is in force.
    pub(super) fn remove_leftovers(&mut self, steps: Vec<Step>) {
        self.leftovers = steps;
    }

    pub(super) fn destroy_set(&mut self, name: SetName) {
        self.destroyed.insert(name);
    }

    /// Changes the table of family bridge before everything else, as this change only denies more.
    pub(super) fn narrow_bridge(&mut self, batch: Batch) {
        self.bridge_before.push(batch);
    }

    /// Changes the table of family bridge once everything else is in force.
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
