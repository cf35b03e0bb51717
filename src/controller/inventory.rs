//! Counts what there is, for the metrics.

use super::Enforcer;
use crate::apply::{Actual, Step, TableRead};
use crate::compile::{PortBinding, Subject};
use crate::model::{Change, Direction, Finder, PolicyKey};
use crate::net::Family;
use crate::netfilter::ipset::Set;
use crate::netfilter::{Ruleset, SetName};
use crate::observe::{ChangeKind, Inventory, KernelInventory};
use crate::render::DROP_REASONS;
use std::collections::BTreeMap;

/// How many sets there are, and how many elements each holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Elements {
    sets: Finder<(SetName, Family, usize)>,
    /// By family: how many sets, and how many elements in all.
    totals: BTreeMap<Family, (usize, usize)>,
}

impl Elements {
    /// Counts a whole ruleset.
    pub(super) fn of(ruleset: &Ruleset) -> Elements {
        let mut elements = Elements::default();
        ruleset.sets.iter().for_each(|(name, desired)| elements.set(name, &desired.set));
        elements
    }

    /// Counts on through a step.
    pub(super) fn follow(&mut self, step: &Step) {
        match step {
            Step::CreateSet(name, set) | Step::ReplaceSet(name, set) => self.set(name, set),
            Step::AddElements(name, _, _, elements) => self.change(name, |count| count + elements.len()),
            Step::RemoveElements(name, _, _, elements) => {
                self.change(name, |count| count.saturating_sub(elements.len()));
            }
            Step::DestroySet(name) => self.forget(name),
            Step::Restore(..) | Step::RestoreOther(..) | Step::RemoveNftTable(_) | Step::Transact(_) => {}
        }
    }

    fn set(&mut self, name: &SetName, set: &Set) {
        self.forget(name);
        let (family, count) = (set.kind.family, set.elements.len());
        let (sets, elements) = self.totals.entry(family).or_default();
        (*sets, *elements) = (*sets + 1, *elements + count);
        self.sets.insert(name, (name.clone(), family, count));
    }

    fn forget(&mut self, name: &SetName) {
        let Some((_, family, count)) = self.sets.remove(name, |(own, ..)| own == name) else { return };
        let (sets, elements) = self.totals.entry(family).or_default();
        (*sets, *elements) = (*sets - 1, *elements - count);
    }

    fn change(&mut self, name: &SetName, count: impl Fn(usize) -> usize) {
        let Some((_, family, own)) = self.sets.get_mut(name, |(own, ..)| own == name) else { return };
        let before = std::mem::replace(own, count(*own));
        let (_, elements) = self.totals.entry(*family).or_default();
        *elements = *elements - before + *own;
    }

    fn of_family(&self, family: Family) -> (usize, usize) {
        self.totals.get(&family).copied().unwrap_or_default()
    }
}

/// Counts everything.
pub(super) fn inventory(enforcer: &Enforcer) -> Inventory {
    let plan = enforcer.plan();
    let pods = || plan.guards().iter().filter(|(subject, _)| matches!(subject, Subject::Pod(_)));
    let isolated = |direction| pods().filter(|(_, guard)| guard.is_isolated(direction)).count();
    let unknown_sandboxes = enforcer.cluster().unknown_sandboxes().count();
    // Until it was read, and again after a step failed, nobody knows what it holds.
    let kernel = enforcer.applier().map(|applier| {
        Family::BOTH.map(|family| {
            let chains = applier.chains(family);
            let (sets, set_members) = enforcer.elements().of_family(family);
            let rules = chains.map_or(0, |chains| chains.values().map(Vec::len).sum());
            (family, KernelInventory { chains: chains.map_or(0, BTreeMap::len), rules, sets, set_members })
        })
    });
    Inventory {
        policies: enforcer.cluster().policies().count(),
        active_policies: plan.policies().len(),
        ingress_isolated_pods: isolated(Direction::Ingress),
        egress_isolated_pods: isolated(Direction::Egress),
        local_pods: enforcer.cluster().local_pods().count(),
        pods: enforcer.cluster().pod_count(),
        known_sandboxes: enforcer.cluster().sandbox_count() - unknown_sandboxes,
        unknown_sandboxes,
        bound_ports: plan.ports().values().filter(|port| matches!(port, PortBinding::Bound(_))).count(),
        unbound_pods: plan.unbound_pods(),
        kernel: kernel.map(BTreeMap::from).unwrap_or_default(),
    }
}

/// How many frames the table of family bridge dropped, by reason.
pub(super) fn dropped_frames(actual: &Actual) -> BTreeMap<&'static str, u64> {
    let TableRead::Ours { counted, .. } = &actual.bridge else { return BTreeMap::new() };
    DROP_REASONS
        .into_iter()
        .map(|reason| (reason, counted.get(reason).copied().unwrap_or_default()))
        .collect()
}

/// Counts the refused parts of policies by reason.
pub(super) fn refused(enforcer: &Enforcer) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for refusal in enforcer.refusals() {
        *counts.entry(refusal.reason).or_default() += 1;
    }
    counts
}

/// The refused parts of one policy, as words.
pub(super) fn refusals_of(enforcer: &Enforcer, key: &PolicyKey) -> Vec<String> {
    let policy = enforcer.cluster().policy(key);
    policy.into_iter().flat_map(|policy| &policy.refusals).map(ToString::to_string).collect()
}

/// What a change is about, and the policy that it tells.
pub(super) fn subject(change: &Change) -> (ChangeKind, Option<PolicyKey>) {
    match change {
        Change::Namespace(_) | Change::NamespaceGone(_) => (ChangeKind::Namespace, None),
        Change::Pod(_) | Change::PodGone(_) => (ChangeKind::Pod, None),
        Change::Policy(policy) => (ChangeKind::Policy, Some(policy.key.clone())),
        Change::PolicyGone(_) => (ChangeKind::Policy, None),
        Change::Sandbox(_) | Change::SandboxGone(_) => (ChangeKind::Sandbox, None),
        Change::Link(_) => (ChangeKind::Port, None),
    }
}
