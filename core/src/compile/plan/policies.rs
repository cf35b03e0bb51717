//! How a policy's block comes into force: at once, or with the last slice of its sets.

use super::Plan;
use crate::compile::policy::policy;
use crate::compile::staging::Staged;
use crate::compile::{PolicyBlock, SetDelta};
use crate::model::{Cluster, Direction, PodKey, PolicyKey};
use std::collections::BTreeSet;
use std::net::IpAddr;

impl Plan {
    /// Makes the next slice of the sets that policies wait for, if any do.
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

    /// Takes from policies what is beyond the limit of members. It is counted when a policy's sets are made, but the first lists
    /// may bring the policies before the pods.
    pub fn hold_members(&mut self, cluster: &Cluster) {
        let most = self.limits.members;
        let size =
            |block: &PolicyBlock| block.sets().iter().map(|set| self.membership.size(set)).sum::<usize>();
        let beyond: Vec<PolicyBlock> =
            self.policies.values().filter(|block| size(block) > most).cloned().collect();
        for old in beyond {
            let key = old.key.clone();
            self.policies.remove(&key);
            let (mut staged, _) = Staged::new(old.clone(), BTreeSet::new(), &self.membership, most);
            // All of its sets are there, so none is made.
            let mut slice = usize::MAX;
            staged.advance(cluster, &mut self.membership, &mut slice);
            self.enforce(cluster, &key, Some(old), staged);
        }
    }

    /// Whether policies wait for sets that do not exist yet.
    pub fn is_staging(&self) -> bool {
        !self.staging.is_empty()
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
        let acquired = staged.map(|staged| staged.acquired).unwrap_or_default();
        let target = match target {
            Some(target) if !is_alike(Some(&target), old.as_ref()) => target,
            target => {
                acquired.iter().for_each(|set| self.membership.release(set));
                return self.replace_policy(cluster, key, old, target);
            }
        };
        let (mut staged, unneeded) = Staged::new(target, acquired, &self.membership, self.limits.members);
        unneeded.iter().for_each(|set| self.membership.release(set));
        self.make_sets(cluster, &mut staged);
        if staged.is_done() {
            self.enforce(cluster, key, old, staged);
        } else {
            let interim = staged.interim(old.as_ref(), !changed);
            self.replace_policy(cluster, key, old, Some(interim));
            self.staging.insert(key.clone(), staged);
        }
    }

    /// Creates sets for which a policy waits, as many as the slice permits.
    fn make_sets(&mut self, cluster: &Cluster, staged: &mut Staged) {
        let mut left = self.slice.unwrap_or(usize::MAX);
        for set in staged.advance(cluster, &mut self.membership, &mut left) {
            self.pending.sets.insert(set, SetDelta::Fresh);
        }
        self.slice = self.slice.map(|_| left);
    }

    /// Brings a policy into force all of whose sets are there.
    fn enforce(&mut self, cluster: &Cluster, key: &PolicyKey, old: Option<PolicyBlock>, staged: Staged) {
        let (block, acquired) = staged.into_block();
        self.replace_policy(cluster, key, old, Some(block));
        acquired.iter().for_each(|set| self.membership.release(set));
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
                self.membership.refer(&set);
            }
            for set in old.iter().flat_map(PolicyBlock::sets) {
                self.membership.release(&set);
            }
            self.pending.policies.insert(key.clone());
            let subjects = new.iter().chain(&old).flat_map(|block| &block.subjects);
            let addresses = subjects.filter_map(|pod| cluster.pod(pod)).flat_map(|(addresses, _)| addresses);
            self.pending.revoked.extend(addresses);
        }
        if let Some(new) = new {
            self.policies.insert(key.clone(), new);
        }
    }
}

/// Whether two blocks allow the same.
fn is_alike(one: Option<&PolicyBlock>, other: Option<&PolicyBlock>) -> bool {
    let allows = |block: &PolicyBlock, direction| block.allows(direction).map(<[_]>::to_vec);
    let allows = |block: Option<&PolicyBlock>| {
        block.map(|block| Direction::BOTH.map(|direction| allows(block, direction)))
    };
    allows(one) == allows(other)
}
