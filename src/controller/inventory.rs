//! Counts what there is, for the metrics.

use super::{Controller, Enforcer};
use crate::apply::{Actual, Step, TableRead};
use crate::compile::{PortBinding, Subject};
use crate::model::{Change, Direction, Finder, PolicyKey};
use crate::net::Family;
use crate::netfilter::ipset::Set;
use crate::netfilter::{Ruleset, SetName};
use crate::observe::{ChangeKind, Inventory, KernelInventory};
use crate::render::{Binding, DROP_REASONS};
use std::collections::{BTreeMap, BTreeSet};

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
    let pods = || plan.isolations().iter().filter(|(subject, _)| matches!(subject, Subject::Pod(_)));
    let isolated = |direction| pods().filter(|(_, guard)| guard.is_isolated(direction)).count();
    let unknown_sandboxes = enforcer.cluster().unknown_sandboxes().count();
    // Until it was read, and again after a step failed, its contents are unknown.
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
        unbound_pods: if enforcer.options().binding == Binding::Off { 0 } else { plan.unbound_pods() },
        kernel: kernel.map(BTreeMap::from).unwrap_or_default(),
    }
}

/// How many frames the table of family bridge dropped, by reason.
pub(super) fn dropped_frames(actual: &Actual) -> BTreeMap<&'static str, u64> {
    let counted = |reason| match &actual.bridge {
        TableRead::Ours { counted, .. } => counted.get(reason).copied().unwrap_or_default(),
        TableRead::Absent | TableRead::Foreign => 0,
    };
    DROP_REASONS.map(|reason| (reason, counted(reason))).into()
}

/// Counts the parts of policies that allow nothing by reason: those that are refused, and those beyond the limits of a policy.
pub(super) fn refused(enforcer: &Enforcer) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for refusal in enforcer.refusals() {
        *counts.entry(refusal.reason).or_default() += 1;
    }
    let surplus: usize =
        enforcer.plan().policies().values().flat_map(|block| &block.surplus).map(|own| own.parts).sum();
    if surplus > 0 {
        counts.insert(BEYOND_LIMITS, surplus);
    }
    counts
}

/// The reason that metrics give for parts beyond the limits of a policy.
const BEYOND_LIMITS: &str = "policy_limit";

/// Takes in a change, and logs the parts of its policy that allow nothing and did not allow nothing before.
pub(super) fn apply(enforcer: &mut Enforcer, change: Change, policy: Option<&PolicyKey>) {
    let refusals = |enforcer: &Enforcer| policy.map(|key| refusals_of(enforcer, key)).unwrap_or_default();
    let before = refusals(enforcer);
    enforcer.apply(change);
    for refusal in refusals(enforcer).difference(&before) {
        let policy = policy.map(ToString::to_string);
        tracing::warn!(policy, refusal, "part of a policy cannot be enforced; it allows nothing");
    }
}

/// The parts of one policy that allow nothing, as words; of many, the first few.
fn refusals_of(enforcer: &Enforcer, key: &PolicyKey) -> BTreeSet<String> {
    let limits = enforcer.plan().limits();
    let block = enforcer.plan().policies().get(key);
    let surplus = block.into_iter().flat_map(|block| &block.surplus).map(|own| own.note(limits));
    let refusals = enforcer.cluster().policy(key).into_iter().flat_map(|policy| &policy.invalid_parts);
    let all = surplus.chain(refusals.map(ToString::to_string));
    all.take(NAMED).collect()
}

impl Controller {
    /// Tells the metrics how much there is: at once when rules changed, else with the next beat.
    pub(super) fn count(&mut self) {
        if !std::mem::take(&mut self.uncounted) {
            return;
        }
        self.metrics.refused_parts(&refused(&self.enforcer));
        self.metrics.inventory(&inventory(&self.enforcer));
        self.shortfalls.changed();
    }
}

/// How many parts of one policy are named at once.
const NAMED: usize = 8;

/// What a change is about, and its policy.
pub(super) fn subject(change: &Change) -> (ChangeKind, Option<PolicyKey>) {
    match change {
        Change::Namespace(_) | Change::NamespaceUnreadable(_) | Change::NamespaceGone(_) => {
            (ChangeKind::Namespace, None)
        }
        Change::Pod(_) | Change::PodUnreadable(_) | Change::PodGone(_) => (ChangeKind::Pod, None),
        Change::Policy(policy) => (ChangeKind::Policy, Some(policy.key.clone())),
        Change::PolicyGone(_) => (ChangeKind::Policy, None),
        Change::Sandbox(_) | Change::SandboxGone(_) => (ChangeKind::Sandbox, None),
        Change::Link(_) => (ChangeKind::Port, None),
    }
}
