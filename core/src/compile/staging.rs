//! Policies with too many sets to create at once: the sets are created in slices, and what the policy allows comes into
//! force with the last of them.
//!
//! Until then the policy isolates its pods as written, and allows what it allowed before, or nothing. So nothing is
//! allowed that both the old policy and the new one deny, however long it takes, and other events are enforced between
//! two slices.

use super::membership::Membership;
use super::share::NamespaceShares;
use super::{LimitedResource, PolicyBlock, SetDefinition};
use crate::model::{Cluster, Direction, PodKey, PolicyKey};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A policy whose sets are being created.
#[derive(Clone, Debug)]
pub(super) struct Staged {
    /// What must be in force once they exist.
    pub(super) target: PolicyBlock,
    /// The sets to which it already refers, and those to which it does not refer yet.
    pub(super) acquired: BTreeSet<Arc<SetDefinition>>,
    waiting: BTreeSet<Arc<SetDefinition>>,
    /// Those that have more members than the policy or its namespace may still have.
    beyond: BTreeMap<Arc<SetDefinition>, LimitedResource>,
    /// Of those beyond the limit of the namespace, how many members the least has.
    lacks: Option<usize>,
    /// How many members the policy may still have.
    members_left: usize,
}

impl Staged {
    /// Continues from what was acquired for an earlier target; returns the sets that this one does not need. All sets
    /// together have at most this many members.
    pub(super) fn new(
        target: PolicyBlock,
        acquired: BTreeSet<Arc<SetDefinition>>,
        membership: &Membership,
        members: usize,
    ) -> (Staged, Vec<Arc<SetDefinition>>) {
        let sets = target.sets();
        let unneeded = acquired.difference(&sets).cloned().collect();
        let acquired: BTreeSet<_> = acquired.intersection(&sets).cloned().collect();
        let waiting = sets.difference(&acquired).cloned().collect();
        let used = acquired.iter().map(|set| membership.size(set)).sum();
        let members_left = members.saturating_sub(used);
        let beyond = BTreeMap::new();
        (Staged { target, acquired, waiting, beyond, lacks: None, members_left }, unneeded)
    }

    pub(super) fn is_done(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Acquires sets until all are there or the slice is used up; returns those that had to be made. Those of all policies of its
    /// namespace together have at most so many members.
    pub(super) fn advance(
        &mut self,
        cluster: &Cluster,
        membership: &mut Membership,
        shares: &mut NamespaceShares,
        of_namespace: usize,
        slice: &mut usize,
    ) -> Vec<Arc<SetDefinition>> {
        let namespace = &self.target.key.namespace;
        let mut fresh = Vec::new();
        while *slice > 0
            && let Some(set) = self.waiting.pop_first()
        {
            let (most, limited) = shares.most(namespace, &set, self.members_left, of_namespace);
            let acquired = match membership.acquire(cluster, &set, most) {
                Ok(acquired) => acquired,
                Err(members) => {
                    if limited == LimitedResource::NamespaceMembers {
                        self.lacks = Some(self.lacks.map_or(members, |least| least.min(members)));
                    }
                    self.beyond.insert(set, limited);
                    continue;
                }
            };
            shares.refer(namespace, &set, acquired.members);
            self.members_left -= acquired.members;
            if acquired.is_new {
                *slice = slice.saturating_sub(acquired.members.max(1));
                fresh.push(set.clone());
            }
            self.acquired.insert(set);
        }
        fresh
    }

    /// What comes into force, and the sets for which it waited.
    pub(super) fn into_block(self) -> (PolicyBlock, BTreeSet<Arc<SetDefinition>>) {
        let block = if self.beyond.is_empty() { self.target } else { self.target.without(&self.beyond) };
        (block, self.acquired)
    }

    /// How many members the least set has that its namespace has no room for, if there is one.
    pub(super) fn lacks(&self) -> Option<usize> {
        self.lacks
    }

    /// What is in force until all sets exist. What was allowed before stays allowed only for the pods for which it was
    /// allowed before.
    pub(super) fn interim(&self, old: Option<&PolicyBlock>, is_same_policy: bool) -> PolicyBlock {
        // An audited policy allowed nothing.
        let allowed = |old: &PolicyBlock| !old.audited || self.target.audited;
        let goes_on = |old: &&PolicyBlock| {
            allowed(old) && (is_same_policy || self.target.subjects.is_subset(&old.subjects))
        };
        let old = old.filter(goes_on);
        let allows = |direction: Direction| {
            let before = || old.and_then(|old| old.allows(direction)).unwrap_or_default().to_vec();
            self.target.allows(direction).map(|_| before())
        };
        let (ingress, egress) = (allows(Direction::Ingress), allows(Direction::Egress));
        PolicyBlock { ingress, egress, ..self.target.clone() }
    }
}

/// All policies whose sets are being created.
#[derive(Clone, Debug, Default)]
pub(super) struct Staging(BTreeMap<PolicyKey, Staged>);

impl Staging {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn contains(&self, key: &PolicyKey) -> bool {
        self.0.contains_key(key)
    }

    pub(super) fn insert(&mut self, key: PolicyKey, staged: Staged) {
        self.0.insert(key, staged);
    }

    pub(super) fn remove(&mut self, key: &PolicyKey) -> Option<Staged> {
        self.0.remove(key)
    }

    /// The policy that lacks the fewest sets, so that a policy with a few sets does not wait for one with hundreds.
    pub(super) fn next(&self) -> Option<PolicyKey> {
        self.0.iter().min_by_key(|(_, staged)| staged.waiting.len()).map(|(key, _)| key.clone())
    }

    /// Whether a pod waits for what an enforced policy will allow it.
    pub(super) fn is_subject(&self, pod: &PodKey) -> bool {
        self.0.values().any(|staged| !staged.target.audited && staged.target.subjects.contains(pod))
    }
}
