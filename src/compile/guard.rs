//! Which policies isolate a pod of this node.

use crate::model::{Cluster, Direction, PodKey, PolicyKey};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// A pod of this node, and the policies that isolate it in each direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The policies that isolate it for ingress.
    pub ingress: BTreeSet<PolicyKey>,
    /// The policies that isolate it for egress.
    pub egress: BTreeSet<PolicyKey>,
}

impl Guard {
    /// The policies that isolate it in a direction; none at all leaves it open there.
    pub fn policies(&self, direction: Direction) -> &BTreeSet<PolicyKey> {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    /// Whether any policy isolates it in a direction.
    pub fn is_isolated(&self, direction: Direction) -> bool {
        !self.policies(direction).is_empty()
    }
}

/// Works out the guard of a pod; `None` when it is not here, has no address, or no policy isolates it.
pub fn guard(cluster: &Cluster, key: &PodKey) -> Option<Guard> {
    let (addresses, group) = cluster.pod(key).filter(|_| cluster.is_local(key))?;
    let mut guard = Guard { addresses: addresses.to_vec(), ..Guard::default() };
    for policy in cluster.policies_in(&key.namespace).filter(|policy| policy.subject.matches(&group.labels)) {
        if policy.ingress.is_some() {
            guard.ingress.insert(policy.key.clone());
        }
        if policy.egress.is_some() {
            guard.egress.insert(policy.key.clone());
        }
    }
    (!guard.ingress.is_empty() || !guard.egress.is_empty()).then_some(guard)
}
