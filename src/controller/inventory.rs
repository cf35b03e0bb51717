//! Counts objects, rules and sets for the metrics.

use super::{Enforcer, Reconciler};
use crate::apply::{Actual, TableRead};
use crate::backend::Held;
use crate::compile::{PortBinding, Subject};
use crate::model::{AuditLabel, Change, Cluster, Direction, PolicyKey, audit_label_note};
use crate::observe::{ChangeKind, Inventory, KernelInventory};
use crate::render::{Binding, DROP_REASONS};
use std::collections::{BTreeMap, BTreeSet};

/// Counts everything.
pub(super) fn inventory(enforcer: &Enforcer) -> Inventory {
    let plan = enforcer.plan();
    let pods = || plan.isolations().iter().filter(|(subject, _)| matches!(subject, Subject::Pod(_)));
    let isolated = |direction| pods().filter(|(_, guard)| guard.is_isolated(direction)).count();
    let unknown_sandboxes = enforcer.cluster().unknown_sandboxes().count();
    let held = enforcer.backend().held().into_iter().flatten();
    let kernel = held.map(|(family, Held { chains, rules, sets, elements })| {
        (family, KernelInventory { chains, rules, sets, set_members: elements })
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
        kernel: kernel.collect(),
    }
}

/// How many frames were dropped at ports, by reason.
pub(super) fn dropped_frames(actual: &Actual) -> BTreeMap<&'static str, u64> {
    let counted = |table: &TableRead, reason| match table {
        TableRead::Ours { counted, .. } => counted.get(reason).copied().unwrap_or_default(),
        TableRead::Absent | TableRead::Foreign => 0,
    };
    let in_all = |reason| [&actual.bridge, &actual.reserved].map(|table| counted(table, reason)).iter().sum();
    DROP_REASONS.map(|reason| (reason, in_all(reason))).into()
}

/// Counts the parts of policies that allow nothing, by reason: invalid parts, and those beyond the limits of a policy.
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

/// Applies a change, which is then to be settled, and logs the parts of its policy that allow nothing and are new.
pub(super) fn apply(enforcer: &mut Enforcer, change: Change, policy: Option<&PolicyKey>) {
    let refusals = |enforcer: &Enforcer| policy.map(|key| refusals_of(enforcer, key)).unwrap_or_default();
    let before = refusals(enforcer);
    log_audit_label(enforcer.cluster(), &change);
    enforcer.apply_unsettled(change);
    for refusal in refusals(enforcer).difference(&before) {
        let policy = policy.map(ToString::to_string);
        tracing::warn!(policy, refusal, "part of a policy cannot be enforced; it allows nothing");
    }
}

/// Logs a label for audit mode that is new and not understood.
fn log_audit_label(cluster: &Cluster, change: &Change) {
    let (owner, name, new, old) = match change {
        Change::Policy(policy) => {
            let old = cluster.policy(&policy.key).map(|old| old.audit.clone());
            ("policy", policy.key.to_string(), policy.audit.clone(), old)
        }
        Change::Namespace(namespace) => {
            let old = cluster.namespace_labels(&namespace.name).map(AuditLabel::of);
            ("namespace", namespace.name.to_string(), AuditLabel::of(&namespace.labels), old)
        }
        Change::NamespaceUnreadable(_)
        | Change::NamespaceGone(_)
        | Change::Pod(_)
        | Change::PodUnreadable(_)
        | Change::PodGone(_)
        | Change::PolicyGone(_)
        | Change::Sandbox(_)
        | Change::SandboxGone(_)
        | Change::Link(_) => return,
    };
    if let AuditLabel::NotUnderstood(value) = &new
        && old.as_ref() != Some(&new)
    {
        let (object, refusal) = (format!("{owner} {name}"), audit_label_note(owner, value));
        tracing::warn!(
            object,
            refusal,
            "a label for audit mode is not understood; what it is about is enforced"
        );
    }
}

/// The parts of one policy that allow nothing, in words; if there are many, only the first.
pub(super) fn refusals_of(enforcer: &Enforcer, key: &PolicyKey) -> BTreeSet<String> {
    let limits = enforcer.plan().limits();
    let block = enforcer.plan().policies().get(key);
    let surplus = block.into_iter().flat_map(|block| &block.surplus).map(|own| own.note(limits));
    let refusals = enforcer.cluster().policy(key).into_iter().flat_map(|policy| &policy.invalid_parts);
    let all = surplus.chain(refusals.map(ToString::to_string));
    all.take(NAMED).collect()
}

impl Reconciler {
    /// Reports the numbers to the metrics: at once if rules changed, otherwise with the next heartbeat.
    pub(super) fn count(&mut self) {
        if !std::mem::take(&mut self.uncounted) {
            return;
        }
        self.enforcer.settle();
        self.metrics.refused_parts(&refused(&self.enforcer));
        self.metrics.inventory(&inventory(&self.enforcer));
        self.counts += 1;
    }
}

/// How many parts of one policy are logged at once.
const NAMED: usize = 8;

/// The kind of object that a change is about, and its key if it is a policy.
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
