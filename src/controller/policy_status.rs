//! What the agent says of policies: which version is in force, and what allows nothing.

use super::{Enforcer, inventory};
use crate::compile::Subject;
use crate::model::{Policy, PolicyKey, PolicyVersion};
use crate::net::Family;
use crate::status::{AgentCounts, KernelCounts, PolicyState, PolicyStatus, StatedVersion};

impl Enforcer {
    /// The status of a policy; `None` if it is not known and nothing of it is in force.
    pub fn policy_status(&self, key: &PolicyKey) -> Option<PolicyStatus> {
        match self.cluster().policy(key) {
            Some(policy) => Some(self.known_policy(policy)),
            None => self.rollout.unfinished(key).map(|_| self.deleted_policy(key)),
        }
    }

    /// The same of the known policies behind this one, or from the first on; at most so many. A query for a part of them does not
    /// keep the main loop for long.
    pub fn policy_statuses_after(&self, key: Option<&PolicyKey>, most: usize) -> Vec<PolicyStatus> {
        self.cluster().policies_after(key).take(most).map(|policy| self.known_policy(policy)).collect()
    }

    /// The same of the policies that are not in force as they are known, at most so many.
    pub fn unfinished_policy_statuses(&self, most: usize) -> Vec<PolicyStatus> {
        let keys = self.rollout.all_unfinished().keys().take(most);
        keys.filter_map(|key| self.policy_status(key)).collect()
    }

    /// The same of all policies that were deleted and may be in force.
    pub fn deleted_policy_statuses(&self) -> Vec<PolicyStatus> {
        let keys = self.rollout.all_unfinished().keys();
        let deleted = keys.filter(|key| self.cluster().policy(key).is_none());
        deleted.map(|key| self.deleted_policy(key)).collect()
    }

    /// How many objects are known and in force.
    pub fn agent_counts(&self) -> AgentCounts {
        let counted = inventory::inventory(self);
        let is_pod = |subject: &&Subject| matches!(subject, Subject::Pod(_));
        let kernel = counted.kernel.into_iter().map(|(family, counts)| KernelCounts {
            family: match family {
                Family::V4 => "ipv4".to_owned(),
                Family::V6 => "ipv6".to_owned(),
            },
            chains: counts.chains,
            rules: counts.rules,
            sets: counts.sets,
            elements: counts.set_members,
        });
        AgentCounts {
            policies: counted.policies,
            active_policies: counted.active_policies,
            pending_policies: self.rollout.all_unfinished().len(),
            local_pods: counted.local_pods,
            isolated_pods: self.plan().isolations().keys().filter(is_pod).count(),
            kernel: kernel.collect(),
        }
    }

    fn known_policy(&self, policy: &Policy) -> PolicyStatus {
        let received = stated(&policy.version);
        let (state, in_force) = match self.rollout.unfinished(&policy.key) {
            None => (PolicyState::InForce, Some(received.clone())),
            Some(unfinished) => (PolicyState::Pending, unfinished.in_force.as_ref().map(stated)),
        };
        let block = self.plan().policies().get(&policy.key);
        let is_staged = state == PolicyState::Pending && self.plan().is_staged(&policy.key);
        PolicyStatus {
            uid: policy.uid.as_deref().map(str::to_owned),
            audited: self.cluster().is_audited(policy),
            pods: block.map_or(0, |block| block.subjects.len()),
            received: Some(received),
            waits_for: is_staged.then(|| "its sets, which are large and are created in parts".to_owned()),
            refused: inventory::refusals_of(self, &policy.key).into_iter().collect(),
            ..status(&policy.key, state, in_force)
        }
    }

    fn deleted_policy(&self, key: &PolicyKey) -> PolicyStatus {
        let unfinished = self.rollout.unfinished(key);
        let in_force = unfinished.and_then(|policy| policy.in_force.as_ref()).map(stated);
        status(key, PolicyState::Deleting, in_force)
    }
}

/// The status of a policy of which nothing else is known.
fn status(key: &PolicyKey, state: PolicyState, in_force: Option<StatedVersion>) -> PolicyStatus {
    PolicyStatus {
        namespace: key.namespace.to_string(),
        name: key.name.to_string(),
        uid: None,
        state,
        audited: false,
        pods: 0,
        received: None,
        in_force,
        waits_for: None,
        refused: Vec::new(),
    }
}

fn stated(version: &PolicyVersion) -> StatedVersion {
    StatedVersion {
        generation: version.generation,
        resource_version: version.resource.as_deref().map(str::to_owned),
    }
}
