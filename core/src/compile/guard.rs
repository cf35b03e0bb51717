//! Which policies isolate a pod of this node, and what becomes of one that nobody knows.

use crate::model::{Cluster, Direction, PodKey, PolicyKey, SandboxKey};
use crate::net::Family;
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

/// Whom a guard is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A pod of this node.
    Pod(PodKey),
    /// A sandbox of this node that no known pod explains.
    Unknown(SandboxKey),
}

impl Subject {
    /// The pod that it is, or that its sandbox was made for.
    pub fn pod(&self) -> &PodKey {
        match self {
            Subject::Pod(pod) => pod,
            Subject::Unknown(sandbox) => &sandbox.pod,
        }
    }
}

impl fmt::Display for Subject {
    /// `pod namespace/name`, or `unknown pod namespace/name`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Pod(pod) => write!(f, "pod {pod}"),
            Subject::Unknown(sandbox) => write!(f, "unknown pod {}", sandbox.pod),
        }
    }
}

/// What happens to a pod of this node whose sandbox exists and whose object is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum UnknownPods {
    /// All its traffic is denied, in both directions, until its object is known.
    #[default]
    Reject,
    /// All its traffic is allowed until its object is known.
    Allow,
}

/// The addresses of a subject, and the policies that isolate it in each direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The policies that isolate it for ingress; `None` when it is open there. Without any, nothing is allowed.
    pub ingress: Option<BTreeSet<PolicyKey>>,
    /// The policies that isolate it for egress; `None` when it is open there. Without any, nothing is allowed.
    pub egress: Option<BTreeSet<PolicyKey>>,
}

impl Guard {
    /// The policies that isolate it in a direction; `None` when it is open there.
    pub fn policies(&self, direction: Direction) -> Option<&BTreeSet<PolicyKey>> {
        match direction {
            Direction::Ingress => self.ingress.as_ref(),
            Direction::Egress => self.egress.as_ref(),
        }
    }

    /// Whether it has an address of a family.
    pub fn has_family(&self, family: Family) -> bool {
        self.addresses.iter().any(|address| Family::of(*address) == family)
    }

    /// Whether it is isolated in a direction.
    pub fn is_isolated(&self, direction: Direction) -> bool {
        self.policies(direction).is_some()
    }
}

/// Works out the guard of a subject; `None` when it is not here, has no address, or nothing isolates it.
pub fn guard(cluster: &Cluster, subject: &Subject, unknown_pods: UnknownPods) -> Option<Guard> {
    match (subject, unknown_pods) {
        (Subject::Pod(key), _) => guard_of_pod(cluster, key),
        (Subject::Unknown(key), UnknownPods::Reject) => {
            let addresses = cluster.addresses_of_unknown(key).to_vec();
            let closed = || Some(BTreeSet::new());
            (!addresses.is_empty()).then(|| Guard { addresses, ingress: closed(), egress: closed() })
        }
        (Subject::Unknown(_), UnknownPods::Allow) => None,
    }
}

fn guard_of_pod(cluster: &Cluster, key: &PodKey) -> Option<Guard> {
    let (addresses, group) = cluster.pod(key).filter(|_| cluster.is_local(key))?;
    let mut guard = Guard { addresses: addresses.to_vec(), ..Guard::default() };
    for policy in cluster.policies_in(&key.namespace).filter(|policy| policy.subject.matches(&group.labels)) {
        if policy.ingress.is_some() {
            guard.ingress.get_or_insert_default().insert(policy.key.clone());
        }
        if policy.egress.is_some() {
            guard.egress.get_or_insert_default().insert(policy.key.clone());
        }
    }
    (guard.ingress.is_some() || guard.egress.is_some()).then_some(guard)
}
