//! How many rules the policies of a namespace have together: each packet of a new connection may be compared with all of them.

use crate::model::{NamespaceName, PolicyKey};
use std::collections::{BTreeMap, BTreeSet};

/// What each namespace's policies have.
#[derive(Clone, Debug, Default)]
pub(super) struct RuleShares {
    shares: BTreeMap<NamespaceName, RuleShare>,
    /// The namespaces with policies that lack rules in which others have released some since these policies were last asked for.
    released: BTreeSet<NamespaceName>,
}

#[derive(Clone, Debug, Default)]
struct RuleShare {
    rules: BTreeMap<PolicyKey, usize>,
    /// The sum of these.
    total: usize,
    /// The policies that lack rules.
    short: BTreeSet<PolicyKey>,
}

impl RuleShares {
    /// How many rules a policy may have, if all of its namespace may have so many.
    pub(super) fn most(&self, policy: &PolicyKey, of_namespace: usize) -> usize {
        let others = self
            .shares
            .get(&policy.namespace)
            .map_or(0, |share| share.total - share.rules.get(policy).copied().unwrap_or_default());
        of_namespace.saturating_sub(others)
    }

    /// Whether a policy can have more rules than it has, if all of its namespace may have so many.
    pub(super) fn can_have_more(&self, policy: &PolicyKey, of_namespace: usize) -> bool {
        let share = self.shares.get(&policy.namespace);
        let own = share.and_then(|share| share.rules.get(policy)).copied().unwrap_or_default();
        self.most(policy, of_namespace) > own
    }

    /// A policy has so many rules from now on, and would need more if it lacks some.
    pub(super) fn set(&mut self, policy: &PolicyKey, rules: usize, lacks: bool) {
        let share = self.shares.entry(policy.namespace.clone()).or_default();
        let before =
            if rules == 0 { share.rules.remove(policy) } else { share.rules.insert(policy.clone(), rules) };
        let before = before.unwrap_or_default();
        share.total = share.total - before + rules;
        match lacks {
            true => share.short.insert(policy.clone()),
            false => share.short.remove(policy),
        };
        if rules < before && !share.short.is_empty() {
            self.released.insert(policy.namespace.clone());
        }
        if share.rules.is_empty() && share.short.is_empty() {
            self.shares.remove(&policy.namespace);
        }
    }

    /// The policies that lack rules in namespaces that have released some since the last time.
    pub(super) fn take_short(&mut self) -> Vec<PolicyKey> {
        let released = std::mem::take(&mut self.released);
        let shares = released.iter().filter_map(|namespace| self.shares.get(namespace));
        shares.flat_map(|share| share.short.iter().cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_of_a_namespace_share_its_rules_and_others_do_not() {
        let key = |namespace: &str, name: &str| PolicyKey::new(namespace, name);
        let mut shares = RuleShares::default();
        shares.set(&key("a", "first"), 70, false);
        assert_eq!(shares.most(&key("a", "second"), 100), 30);
        assert_eq!(shares.most(&key("a", "first"), 100), 100, "its own are counted once");
        assert_eq!(shares.most(&key("b", "second"), 100), 100);
        shares.set(&key("a", "second"), 30, true);
        assert_eq!(shares.take_short(), [], "nothing was released");
        shares.set(&key("a", "first"), 10, false);
        assert_eq!(shares.take_short(), [key("a", "second")]);
        assert_eq!(shares.take_short(), []);
        shares.set(&key("a", "first"), 0, false);
        shares.set(&key("a", "second"), 0, false);
        assert!(shares.shares.is_empty());
    }
}
