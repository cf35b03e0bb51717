//! What each policy has allowed: up to a thousand more series, served on request.

use prometheus::IntCounterVec;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// How many policies, counted once per direction, have series of their own; all others are counted together.
const POLICIES: usize = 500;

/// A policy in one direction, as labels name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PolicyLabels {
    /// `ingress` or `egress`.
    pub direction: String,
    /// The policy's namespace.
    pub namespace: String,
    /// The policy's name.
    pub policy: String,
}

impl PolicyLabels {
    fn values(&self) -> [&str; 3] {
        [&self.direction, &self.namespace, &self.policy]
    }
}

/// The series of policies that are in force on this node.
pub struct PerPolicy {
    packets: IntCounterVec,
    bytes: IntCounterVec,
    shown: Mutex<BTreeSet<PolicyLabels>>,
}

impl PerPolicy {
    /// None yet.
    pub(super) fn new(packets: IntCounterVec, bytes: IntCounterVec) -> PerPolicy {
        PerPolicy { packets, bytes, shown: Mutex::default() }
    }

    /// These policies are in force, and no others: series of others end, and those of new policies begin at 0.
    pub fn in_force(&self, current: &BTreeSet<PolicyLabels>) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.retain(|labels| {
            let stays = current.contains(labels);
            if !stays {
                // An error means that there is no such series.
                self.packets.remove_label_values(&labels.values()).ok();
                self.bytes.remove_label_values(&labels.values()).ok();
            }
            stays
        });
        let room = POLICIES.saturating_sub(shown.len());
        let new: Vec<_> = current.difference(&shown).take(room).cloned().collect();
        for labels in new {
            self.grow(&labels.values(), 0, 0);
            shown.insert(labels);
        }
    }

    /// A policy has allowed this many more packets and bytes.
    pub fn allowed(&self, policy: &PolicyLabels, packets: u64, bytes: u64) {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner).contains(policy);
        let values = if shown { policy.values() } else { [&policy.direction, "", ""] };
        self.grow(&values, packets, bytes);
    }

    fn grow(&self, values: &[&str; 3], packets: u64, bytes: u64) {
        self.packets.with_label_values(values).inc_by(packets);
        self.bytes.with_label_values(values).inc_by(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Metrics;

    fn labels(policy: impl ToString) -> PolicyLabels {
        PolicyLabels { direction: "ingress".into(), namespace: "shop".into(), policy: policy.to_string() }
    }

    fn packets(metrics: &Metrics, namespace: &str, policy: &str) -> Option<u64> {
        let labels = format!("direction=\"ingress\",policy=\"{policy}\",policy_namespace=\"{namespace}\"");
        let series = format!("bridgewarden_policy_allowed_packets_total{{{labels}}} ");
        metrics.text().lines().find_map(|line| line.strip_prefix(&series)?.parse().ok())
    }

    #[test]
    fn series_of_a_policy_begin_at_0_and_end_with_it() {
        let metrics = Metrics::default();
        assert!(!metrics.text().contains("policy_allowed"));
        let both = BTreeSet::from([labels("web"), labels("db")]);
        metrics.per_policy().in_force(&both);
        metrics.per_policy().allowed(&labels("web"), 3, 180);
        metrics.per_policy().in_force(&both);
        metrics.per_policy().allowed(&labels("web"), 1, 60);
        assert_eq!((packets(&metrics, "shop", "web"), packets(&metrics, "shop", "db")), (Some(4), Some(0)));
        metrics.per_policy().in_force(&BTreeSet::from([labels("db")]));
        assert_eq!((packets(&metrics, "shop", "web"), packets(&metrics, "shop", "db")), (None, Some(0)));
    }

    #[test]
    fn policies_have_own_series_up_to_a_bound_and_others_get_them_when_some_end() {
        let metrics = Metrics::default();
        let current: BTreeSet<_> = (0..POLICIES + 10).map(labels).collect();
        metrics.per_policy().in_force(&current);
        current.iter().for_each(|policy| metrics.per_policy().allowed(policy, 1, 60));
        let series =
            metrics.text().lines().filter(|line| line.contains("policy_allowed_packets_total{")).count();
        assert_eq!((series, packets(&metrics, "", "")), (POLICIES + 1, Some(10)));
        let last = BTreeSet::from([current.last().unwrap().clone()]);
        metrics.per_policy().in_force(&last);
        metrics.per_policy().allowed(last.first().unwrap(), 2, 120);
        assert_eq!(packets(&metrics, "shop", &last.first().unwrap().policy), Some(2));
    }
}
