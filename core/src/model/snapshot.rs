//! A cluster at one time, for questions about it. The agent, which follows changes, has a [`Cluster`](super::Cluster).

use super::{
    AuditLabel, Change, Direction, Labels, Namespace, NamespaceName, Pod, PodKey, Policy, PolicyKey,
    ServiceKey,
};
use crate::net::Protocol;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// All that is known of a cluster at one time, not as seen from one node.
///
/// A pod of which no address is known has none here, and is a pod all the same: it may be one that a workload will make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The namespaces.
    pub namespaces: BTreeMap<NamespaceName, Namespace>,
    /// The pods, and one for each workload object without pods.
    pub pods: BTreeMap<PodKey, Pod>,
    /// The policies.
    pub policies: BTreeMap<PolicyKey, Policy>,
    /// The Services.
    pub services: BTreeMap<ServiceKey, Service>,
    /// The addresses of nodes, by the nodes' names. Of a node that only pods name, none may be known.
    pub nodes: BTreeMap<Arc<str>, Vec<IpAddr>>,
    /// Where policies come from.
    pub origins: BTreeMap<PolicyKey, PolicyOrigin>,
}

impl Snapshot {
    /// The policies of a namespace.
    pub fn policies_in(&self, namespace: &NamespaceName) -> impl Iterator<Item = &Policy> {
        let first = PolicyKey { namespace: namespace.clone(), name: "".into() };
        let from = self.policies.range(first..);
        from.take_while(move |(key, _)| key.namespace == *namespace).map(|(_, policy)| policy)
    }

    /// The pods of a namespace.
    pub fn pods_in(&self, namespace: &NamespaceName) -> impl Iterator<Item = &Pod> {
        let first = PodKey { namespace: namespace.clone(), name: "".into() };
        let from = self.pods.range(first..);
        from.take_while(move |(key, _)| key.namespace == *namespace).map(|(_, pod)| pod)
    }

    /// Whether a policy is evaluated and reported, and not enforced: its own label says so, or its namespace's.
    pub fn is_audited(&self, policy: &Policy) -> bool {
        let of_namespace = || self.namespace_labels(&policy.key.namespace).map(AuditLabel::of);
        policy.audit == AuditLabel::Audited || of_namespace() == Some(AuditLabel::Audited)
    }

    /// The labels of a namespace; `None` while its object is not known.
    pub fn namespace_labels(&self, name: &NamespaceName) -> Option<&Labels> {
        self.namespaces.get(name).map(|namespace| &namespace.labels)
    }

    /// The same cluster as changes: namespaces before pods before policies.
    pub fn changes(&self) -> impl Iterator<Item = Change> {
        let namespaces = self.namespaces.values().cloned().map(Change::Namespace);
        let pods = self.pods.values().cloned().map(Change::Pod);
        namespaces.chain(pods).chain(self.policies.values().cloned().map(Change::Policy))
    }
}

/// Where a policy comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyOrigin {
    /// A file of manifests.
    File {
        /// The file's path.
        file: Arc<str>,
        /// The line on which the policy begins, from 1.
        line: usize,
        /// The lines on which its rules begin, by their direction and their place in its list.
        rules: BTreeMap<(Direction, usize), usize>,
    },
    /// An API server.
    Server {
        /// The version of the object (metadata.resourceVersion).
        resource_version: Box<str>,
    },
}

impl PolicyOrigin {
    /// Where one of its rules comes from: the line on which the rule begins, if it is known.
    pub fn of_rule(&self, direction: Direction, rule: usize) -> PolicyOrigin {
        match self {
            PolicyOrigin::File { file, line, rules } => {
                let line = rules.get(&(direction, rule)).copied().unwrap_or(*line);
                PolicyOrigin::File { file: file.clone(), line, rules: BTreeMap::new() }
            }
            PolicyOrigin::Server { .. } => self.clone(),
        }
    }
}

impl fmt::Display for PolicyOrigin {
    /// `policies.yaml:12`, or `resourceVersion 4711`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PolicyOrigin::File { file, line, .. } => write!(f, "{file}:{line}"),
            PolicyOrigin::Server { resource_version } => write!(f, "resourceVersion {resource_version}"),
        }
    }
}

/// A Service: a name and addresses for pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Which one.
    pub key: ServiceKey,
    /// The labels of its pods (spec.selector); `None` for one that selects no pods.
    pub selector: Option<Labels>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// Its addresses (spec.clusterIPs).
    pub addresses: Vec<IpAddr>,
    /// Its addresses outside the cluster (spec.externalIPs, status.loadBalancer).
    pub outer_addresses: Vec<IpAddr>,
    /// Whether its pods may see the address of a node in place of a client's outside the cluster: it has a node's port or a load
    /// balancer, and its externalTrafficPolicy is not `Local`.
    pub translates_source: bool,
}

impl Service {
    /// Whether it selects a pod.
    pub fn selects(&self, pod: &Pod) -> bool {
        let has = |(key, value): (&str, &str)| pod.labels.get(key) == Some(value);
        pod.key.namespace == self.key.namespace
            && self.selector.as_ref().is_some_and(|selector| selector.iter().all(has))
    }
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name, empty for none.
    pub name: Box<str>,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number in the Service.
    pub port: u16,
    /// The port of the pods.
    pub target: TargetPort,
    /// The port by which every node leads to it.
    pub node_port: Option<u16>,
}

/// The port of a Service's pods (targetPort).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    /// By number.
    Number(u16),
    /// The one that each pod declares under this name.
    Name(Box<str>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_and_policies_of_a_namespace_are_found_and_no_others() {
        let mut snapshot = Snapshot::default();
        for (namespace, name) in [("te", "z"), ("tea", "a"), ("tea", "b"), ("team", "a")] {
            let key = PodKey::new(namespace, name);
            snapshot.pods.insert(key.clone(), Pod::new(key));
        }
        let tea = NamespaceName::new("tea");
        let pods = snapshot.pods_in(&tea);
        assert_eq!(pods.map(|pod| pod.key.to_string()).collect::<Vec<_>>(), ["tea/a", "tea/b"]);
    }

    #[test]
    fn rule_is_found_on_its_own_line_and_otherwise_where_its_policy_begins() {
        let rules = BTreeMap::from([((Direction::Egress, 1), 20)]);
        let origin = PolicyOrigin::File { file: "a.yaml".into(), line: 12, rules };
        assert_eq!(origin.to_string(), "a.yaml:12");
        assert_eq!(origin.of_rule(Direction::Egress, 1).to_string(), "a.yaml:20");
        assert_eq!(origin.of_rule(Direction::Ingress, 1).to_string(), "a.yaml:12");
        let served = PolicyOrigin::Server { resource_version: "4711".into() };
        assert_eq!(served.of_rule(Direction::Egress, 1).to_string(), "resourceVersion 4711");
    }

    #[test]
    fn service_selects_pods_of_its_namespace_that_have_all_its_labels() {
        let labels = |pairs: &[(&str, &str)]| {
            Labels::new(&pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect())
        };
        let pod = |namespace: &str, pairs: &[(&str, &str)]| Pod {
            labels: labels(pairs),
            ..Pod::new(PodKey::new(namespace, "web-0"))
        };
        let mut service = Service {
            key: ServiceKey::new("shop", "web"),
            selector: Some(labels(&[("app", "web")])),
            ports: Vec::new(),
            addresses: Vec::new(),
            outer_addresses: Vec::new(),
            translates_source: false,
        };
        assert!(service.selects(&pod("shop", &[("app", "web"), ("tier", "front")])));
        assert!(!service.selects(&pod("shop", &[("app", "db")])));
        assert!(!service.selects(&pod("other", &[("app", "web")])));
        service.selector = None;
        assert!(!service.selects(&pod("shop", &[("app", "web")])));
    }
}
