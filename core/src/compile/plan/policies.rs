//! How a policy's block comes into force: at once, or with the last slice of its sets.

use super::Plan;
use crate::compile::policy::policy;
use crate::compile::share::NamespaceShares;
use crate::compile::staging::Staged;
use crate::compile::{LimitedResource, Limits, PolicyBlock, SetDefinition, SetDelta};
use crate::model::{Cluster, Direction, PodKey, PolicyKey};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

impl Plan {
    /// Creates the next slice of the sets for which policies wait, if there are any.
    pub fn advance(&mut self, cluster: &Cluster) {
        while self.slice.is_none_or(|left| left > 0)
            && let Some(key) = self.staging.next()
            && let Some(mut staged) = self.staging.remove(&key)
        {
            self.make_sets(cluster, &mut staged);
            if staged.is_done() {
                let old = self.policies.remove(&key);
                self.enforce(cluster, &key, old, staged);
            } else {
                self.staging.insert(key, staged);
            }
        }
    }

    /// Takes from policies what is beyond the limits of members. They are counted when a policy's sets are made, but the first lists
    /// may bring the policies before the pods.
    pub fn hold_members(&mut self, cluster: &Cluster) {
        let Limits { members: of_policy, namespace_members: of_namespace, .. } = self.limits;
        self.shares.recount(|set| self.membership.size(set));
        let is_beyond = |block: &&PolicyBlock| {
            let own = block.sets().iter().map(|set| self.membership.size(set)).sum::<usize>();
            own > of_policy || self.shares.members(&block.key.namespace) > of_namespace
        };
        let blocks: Vec<PolicyBlock> = self.policies.values().filter(is_beyond).cloned().collect();
        let mut counted = NamespaceShares::default();
        for old in blocks {
            let key = old.key.clone();
            let (mut left, mut beyond, mut lacks) = (of_policy, BTreeMap::new(), None);
            for set in old.sets() {
                let members = self.membership.size(&set);
                let (most, limited) = counted.most(&key.namespace, &set, left, of_namespace);
                if members <= most {
                    counted.refer(&key.namespace, &set, members);
                    left -= members;
                    continue;
                }
                if limited == LimitedResource::NamespaceMembers {
                    lacks = Some(lacks.map_or(members, |least: usize| least.min(members)));
                }
                beyond.insert(set, limited);
            }
            if !beyond.is_empty() {
                self.policies.remove(&key);
                let new = old.clone().without(&beyond);
                self.replace_policy(cluster, &key, Some(old), Some(new));
                if lacks.is_some() {
                    self.shares.lacks(&key, lacks);
                }
            }
        }
    }

    /// Gives policies sets and rules that their namespace had no room for, where it has now.
    pub(super) fn complete_short(&mut self, cluster: &Cluster) {
        for key in self.shares.take_short() {
            if self.shares.can_have_more(&key, self.limits.namespace_members) {
                self.reconcile_policy(cluster, &key, true);
            }
        }
        for key in self.rule_shares.take_short() {
            if self.rule_shares.can_have_more(&key, self.limits.namespace_rules) {
                self.reconcile_policy(cluster, &key, true);
            }
        }
    }

    /// Whether policies wait for sets that do not exist yet.
    pub fn is_staging(&self) -> bool {
        !self.staging.is_empty()
    }

    /// Whether a policy waits for sets that do not exist yet, so that not all that it allows is allowed.
    pub fn is_staged(&self, key: &PolicyKey) -> bool {
        self.staging.contains(key)
    }

    /// Whether it is not known yet what an address is allowed, because a policy for a pod with it waits for sets.
    pub fn is_undecided(&self, cluster: &Cluster, address: IpAddr) -> bool {
        let is_subject = |(pod, _): (&PodKey, _)| self.staging.is_subject(pod);
        self.is_staging() && cluster.pods_at(address).into_iter().any(is_subject)
    }

    /// Updates a policy's block. If the policy itself did not change, only its subjects may have.
    pub(super) fn reconcile_policy(&mut self, cluster: &Cluster, key: &PolicyKey, changed: bool) {
        let old = self.policies.remove(key);
        let staged = self.staging.remove(key);
        let known = staged.as_ref().map(|staged| &staged.target).or(old.as_ref());
        let target = policy(cluster, key, &self.limits, known.filter(|_| !changed));
        let target = self.within_namespace(key, target);
        let acquired = staged.map(|staged| staged.acquired).unwrap_or_default();
        let target = match target {
            Some(target) if !is_alike(Some(&target), old.as_ref()) => target,
            target => {
                acquired.iter().for_each(|set| self.release(key, set));
                if target.is_none() {
                    self.shares.lacks(key, None);
                }
                return self.replace_policy(cluster, key, old, target);
            }
        };
        let (mut staged, unneeded) = Staged::new(target, acquired, &self.membership, self.limits.members);
        unneeded.iter().for_each(|set| self.release(key, set));
        self.make_sets(cluster, &mut staged);
        if staged.is_done() {
            self.enforce(cluster, key, old, staged);
        } else {
            let interim = staged.interim(old.as_ref(), !changed);
            self.replace_policy(cluster, key, old, Some(interim));
            self.staging.insert(key.clone(), staged);
        }
    }

    /// Takes from a policy the rules that its namespace has no room for.
    fn within_namespace(&mut self, key: &PolicyKey, target: Option<PolicyBlock>) -> Option<PolicyBlock> {
        let Some(target) = target else {
            self.rule_shares.set(key, 0, false);
            return None;
        };
        let most = self.rule_shares.most(key, self.limits.namespace_rules);
        let target = if target.rules() > most {
            target.with_rules(most, LimitedResource::NamespaceRules)
        } else {
            target
        };
        let lacks = target.surplus.iter().any(|surplus| surplus.resource == LimitedResource::NamespaceRules);
        self.rule_shares.set(key, target.rules(), lacks);
        Some(target)
    }

    /// Creates sets for which a policy waits, as many as the slice permits.
    fn make_sets(&mut self, cluster: &Cluster, staged: &mut Staged) {
        let mut left = self.slice.unwrap_or(usize::MAX);
        let of_namespace = self.limits.namespace_members;
        let fresh = staged.advance(cluster, &mut self.membership, &mut self.shares, of_namespace, &mut left);
        for set in fresh {
            self.pending.sets.insert(set, SetDelta::Fresh);
        }
        self.slice = self.slice.map(|_| left);
    }

    /// Brings a policy into force, all of whose sets exist.
    fn enforce(&mut self, cluster: &Cluster, key: &PolicyKey, old: Option<PolicyBlock>, staged: Staged) {
        self.shares.lacks(key, staged.lacks());
        let (block, acquired) = staged.into_block();
        self.replace_policy(cluster, key, old, Some(block));
        acquired.iter().for_each(|set| self.release(key, set));
    }

    /// A policy refers to a set once more, which is there.
    fn refer(&mut self, key: &PolicyKey, set: &Arc<SetDefinition>) {
        self.membership.refer(set);
        self.shares.refer(&key.namespace, set, self.membership.size(set));
    }

    fn release(&mut self, key: &PolicyKey, set: &SetDefinition) {
        self.membership.release(set);
        self.shares.release(&key.namespace, set);
    }

    /// Replaces a block by a new one, all of whose sets exist.
    fn replace_policy(
        &mut self,
        cluster: &Cluster,
        key: &PolicyKey,
        old: Option<PolicyBlock>,
        new: Option<PolicyBlock>,
    ) {
        let families = |block: &Option<PolicyBlock>| block.as_ref().map(|block| block.families.clone());
        if families(&old) != families(&new) {
            self.pending.policies.insert(key.clone());
        }
        if !is_alike(old.as_ref(), new.as_ref()) {
            for set in new.iter().flat_map(PolicyBlock::sets) {
                self.refer(key, &set);
            }
            for set in old.iter().flat_map(PolicyBlock::sets) {
                self.release(key, &set);
            }
            self.pending.policies.insert(key.clone());
            let enforced = new.iter().chain(&old).filter(|block| !block.audited);
            let subjects = enforced.flat_map(|block| &block.subjects);
            let addresses = subjects.filter_map(|pod| cluster.pod(pod)).flat_map(|(addresses, _)| addresses);
            self.pending.revoked.extend(addresses);
        }
        if let Some(new) = new {
            self.policies.insert(key.clone(), new);
        }
    }
}

/// Whether two blocks allow the same, and are enforced or audited alike.
fn is_alike(one: Option<&PolicyBlock>, other: Option<&PolicyBlock>) -> bool {
    let allows = |block: &PolicyBlock, direction| block.allows(direction).map(<[_]>::to_vec);
    let allows = |block: Option<&PolicyBlock>| {
        block.map(|block| (block.audited, Direction::BOTH.map(|direction| allows(block, direction))))
    };
    allows(one) == allows(other)
}
