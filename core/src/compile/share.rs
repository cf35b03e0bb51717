//! How many members the sets have together that the policies of a namespace refer to: what a tenant with many policies may cost.

use super::{LimitedResource, SetDefinition};
use crate::model::{NamespaceName, PolicyKey};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What each namespace's policies have.
#[derive(Clone, Debug, Default)]
pub(super) struct NamespaceShares {
    shares: BTreeMap<NamespaceName, Share>,
    /// The namespaces with policies that lack sets that have released members since these policies were last asked for.
    released: BTreeSet<NamespaceName>,
}

#[derive(Clone, Debug, Default)]
struct Share {
    /// Each set once, however many policies of the namespace refer to it.
    sets: BTreeMap<Arc<SetDefinition>, SharedUse>,
    members: usize,
    /// The policies that lack sets, and how many members the least of these has.
    short: BTreeMap<PolicyKey, usize>,
}

#[derive(Clone, Copy, Debug)]
struct SharedUse {
    references: usize,
    /// As many as it had when it was first referred to, or last counted.
    members: usize,
}

impl NamespaceShares {
    /// How many members a set may have that a policy refers to once more, and what limits that: the policy may have so many more,
    /// and its namespace so many together.
    pub(super) fn most(
        &self,
        namespace: &NamespaceName,
        set: &SetDefinition,
        of_policy: usize,
        of_namespace: usize,
    ) -> (usize, LimitedResource) {
        let share = self.shares.get(namespace);
        let left = match share {
            Some(share) if share.sets.contains_key(set) => usize::MAX,
            Some(share) => of_namespace.saturating_sub(share.members),
            None => of_namespace,
        };
        if left < of_policy {
            (left, LimitedResource::NamespaceMembers)
        } else {
            (of_policy, LimitedResource::Members)
        }
    }

    /// Counts one more reference to a set with so many members.
    pub(super) fn refer(&mut self, namespace: &NamespaceName, set: &Arc<SetDefinition>, members: usize) {
        let share = self.shares.entry(namespace.clone()).or_default();
        let own = share.sets.entry(set.clone()).or_insert(SharedUse { references: 0, members });
        own.references += 1;
        if own.references == 1 {
            share.members += members;
        }
    }

    /// Counts one reference less.
    pub(super) fn release(&mut self, namespace: &NamespaceName, set: &SetDefinition) {
        let Some(share) = self.shares.get_mut(namespace) else { return };
        let Some(own) = share.sets.get_mut(set) else { return };
        own.references -= 1;
        if own.references > 0 {
            return;
        }
        share.members -= own.members;
        share.sets.remove(set);
        if !share.short.is_empty() {
            self.released.insert(namespace.clone());
        }
        self.forget_if_empty(namespace);
    }

    /// A policy lacks sets, the least of which has so many members; or none.
    pub(super) fn lacks(&mut self, policy: &PolicyKey, least: Option<usize>) {
        if let Some(least) = least {
            let share = self.shares.entry(policy.namespace.clone()).or_default();
            share.short.insert(policy.clone(), least);
        } else if let Some(share) = self.shares.get_mut(&policy.namespace) {
            share.short.remove(policy);
            self.forget_if_empty(&policy.namespace);
        }
    }

    fn forget_if_empty(&mut self, namespace: &NamespaceName) {
        let is_empty = |share: &Share| share.sets.is_empty() && share.short.is_empty();
        if self.shares.get(namespace).is_some_and(is_empty) {
            self.shares.remove(namespace);
        }
    }

    /// The policies that lack sets in namespaces that have released members since the last time.
    pub(super) fn take_short(&mut self) -> Vec<PolicyKey> {
        let released = std::mem::take(&mut self.released);
        let shares = released.iter().filter_map(|namespace| self.shares.get(namespace));
        shares.flat_map(|share| share.short.keys().cloned()).collect()
    }

    /// Whether a policy that lacks sets can have one, if its namespace may have so many members.
    pub(super) fn can_have_more(&self, policy: &PolicyKey, of_namespace: usize) -> bool {
        let share = self.shares.get(&policy.namespace);
        share.is_some_and(|share| {
            let left = of_namespace.saturating_sub(share.members);
            share.short.get(policy).is_some_and(|least| *least <= left)
        })
    }

    /// Counts the members of all sets again.
    pub(super) fn recount(&mut self, members: impl Fn(&SetDefinition) -> usize) {
        for share in self.shares.values_mut() {
            share.sets.iter_mut().for_each(|(set, own)| own.members = members(set));
            share.members = share.sets.values().map(|own| own.members).sum();
        }
    }

    /// How many members the policies of a namespace have.
    pub(super) fn members(&self, namespace: &NamespaceName) -> usize {
        self.shares.get(namespace).map_or(0, |share| share.members)
    }
}
