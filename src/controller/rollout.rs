//! Which version of each policy the kernel enforces.
//!
//! Only policies are kept here whose newest state is not in force, so that this is empty on an idle node and costs
//! nothing for an event that is not about a policy. Of all others, what is known is in force.

use super::Enforcer;
use crate::compile::Plan;
use crate::model::{Change, Cluster, PolicyKey, PolicyVersion};
use std::collections::{BTreeMap, BTreeSet};

/// The policies whose newest state is not in force.
#[derive(Clone, Debug, Default)]
pub(super) struct Rollout {
    unfinished: BTreeMap<PolicyKey, UnfinishedPolicy>,
    commits: u64,
}

/// A policy whose newest state is not in force. `None` for a version: there is no such policy.
#[derive(Clone, Debug)]
pub(super) struct UnfinishedPolicy {
    /// What the kernel enforces.
    pub(super) in_force: Option<PolicyVersion>,
    /// What the commit of this number brings into force.
    carried: Option<(u64, Option<PolicyVersion>)>,
    /// Whether something newer waits for a commit.
    waits: bool,
}

impl Rollout {
    /// A policy changed, of which this version was known before.
    fn changed(&mut self, key: &PolicyKey, before: Option<PolicyVersion>) {
        match self.unfinished.get_mut(key) {
            Some(policy) => policy.waits = true,
            None => {
                let policy = UnfinishedPolicy { in_force: before, carried: None, waits: true };
                self.unfinished.insert(key.clone(), policy);
            }
        }
    }

    /// A commit begins, which brings into force what waits; returns its number. A policy that waits for sets, or that an earlier
    /// commit carries, waits on.
    fn carry(&mut self, cluster: &Cluster, plan: &Plan) -> u64 {
        self.commits += 1;
        for (key, policy) in &mut self.unfinished {
            if policy.waits && policy.carried.is_none() && !plan.is_staged(key) {
                let version = cluster.policy(key).map(|policy| policy.version.clone());
                policy.carried = Some((self.commits, version));
                policy.waits = false;
            }
        }
        self.commits
    }

    fn arrived(&mut self, commit: u64) {
        self.unfinished.retain(|_, policy| {
            if let Some((_, version)) = policy.carried.take_if(|(number, _)| *number == commit) {
                policy.in_force = version;
            }
            policy.waits || policy.carried.is_some()
        });
    }

    fn failed(&mut self, commit: u64) {
        for policy in self.unfinished.values_mut() {
            policy.waits |= policy.carried.take_if(|(number, _)| *number == commit).is_some();
        }
    }

    /// A policy of which the newest state is not in force.
    pub(super) fn unfinished(&self, key: &PolicyKey) -> Option<&UnfinishedPolicy> {
        self.unfinished.get(key)
    }

    /// All of them.
    pub(super) fn all_unfinished(&self) -> &BTreeMap<PolicyKey, UnfinishedPolicy> {
        &self.unfinished
    }
}

/// The version of a policy that was known before a change of it.
pub(super) fn version_before(
    cluster: &Cluster,
    change: &Change,
) -> Option<(PolicyKey, Option<PolicyVersion>)> {
    let key = match change {
        Change::Policy(policy) => &policy.key,
        Change::PolicyGone(key) => key,
        Change::Namespace(_)
        | Change::NamespaceUnreadable(_)
        | Change::NamespaceGone(_)
        | Change::Pod(_)
        | Change::PodUnreadable(_)
        | Change::PodGone(_)
        | Change::Sandbox(_)
        | Change::SandboxGone(_)
        | Change::Link(_) => return None,
    };
    Some((key.clone(), cluster.policy(key).map(|policy| policy.version.clone())))
}

impl Enforcer {
    /// Called after a change that touched these policies.
    pub(super) fn policies_changed(
        &mut self,
        keys: &BTreeSet<PolicyKey>,
        before: Option<(PolicyKey, Option<PolicyVersion>)>,
    ) {
        for key in keys {
            let version = match &before {
                Some((own, version)) if own == key => version.clone(),
                // Its namespace switched audit mode; or its last pod ended, and with it a policy that was deleted before.
                Some(_) | None => {
                    let policy = self.cluster().policy(key);
                    Some(policy.map(|policy| policy.version.clone()).unwrap_or_default())
                }
            };
            self.rollout.changed(key, version);
        }
    }

    /// Called when a commit begins that brings everything into force that waits; returns the commit's number.
    pub fn carry_policies(&mut self) -> u64 {
        self.rollout.carry(&self.cluster, &self.plan)
    }

    /// Called when the commit of this number is in force.
    pub fn policies_arrived(&mut self, commit: u64) {
        self.rollout.arrived(commit);
    }

    /// Called when the commit of this number failed; what it carried waits again.
    pub fn policies_failed(&mut self, commit: u64) {
        self.rollout.failed(commit);
    }

    /// Called when the kernel holds everything that it must.
    pub fn policies_settled(&mut self) {
        self.rollout.unfinished.clear();
    }
}
