//! The share of a cluster that a node would receive if it watched pods only in the namespaces that matter to it: those
//! of its own pods, and those in which the policies for its pods select peers.

use crate::cluster::{GeneratedCluster, GeneratedPod};
use anyhow::{Context, Result, ensure};
use bridgewarden::api;
use bridgewarden::model::{Direction, Labels, NamespaceName, NamespaceScope, Peer, Peers, Policy, Selector};
use bridgewarden::source::convert;
use std::collections::{BTreeMap, BTreeSet};
use support::worlds::Random;

/// The part of a cluster that a node would watch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reach {
    /// The number of namespaces, which is the number of watches.
    pub namespaces: f64,
    /// The fraction of all pods that are in them, 0 to 1.
    pub pods: f64,
}

/// A policy, and the namespaces in which it selects peers.
struct Asking {
    subject: Selector,
    namespaces: BTreeSet<NamespaceName>,
}

/// The mean for `nodes` nodes, each with `pods_per_node` pods drawn from the whole cluster.
///
/// # Errors
/// The cluster has fewer pods, or a policy is malformed.
pub fn reach(cluster: &GeneratedCluster, pods_per_node: usize, nodes: usize) -> Result<Reach> {
    let pods: Vec<&GeneratedPod> = cluster.pods().collect();
    ensure!(!pods.is_empty() && nodes > 0, "no pod or no node is asked about");
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    pods.iter().for_each(|pod| *count.entry(&pod.namespace).or_default() += 1);
    let asking = asking(cluster)?;
    let mut random = Random::new(1);
    let mut sum = Reach::default();
    for _ in 0..nodes {
        let mut watched = BTreeSet::new();
        for _ in 0..pods_per_node {
            let pod = *random.pick(&pods);
            let own = NamespaceName::new(&pod.namespace);
            let labels = Labels::new(&pod.labels.iter().cloned().collect());
            let policies = asking.get(&own).into_iter().flatten();
            let selecting = policies.filter(|policy| policy.subject.matches(&labels));
            watched.extend(selecting.flat_map(|policy| policy.namespaces.iter().cloned()));
            watched.insert(own);
        }
        let received: usize = watched.iter().filter_map(|name| count.get(name.as_str())).sum();
        sum.namespaces += watched.len() as f64;
        sum.pods += received as f64 / pods.len() as f64;
    }
    Ok(Reach { namespaces: sum.namespaces / nodes as f64, pods: sum.pods / nodes as f64 })
}

/// The policies by namespace.
fn asking(cluster: &GeneratedCluster) -> Result<BTreeMap<NamespaceName, Vec<Asking>>> {
    let (mut namespaces, mut policies) = (BTreeMap::new(), Vec::new());
    for object in cluster.namespaces_and_policies()? {
        if object["kind"] == "Namespace" {
            let read: api::Namespace = serde_json::from_value(object).context("cannot read a namespace")?;
            let namespace = convert::namespace(&read);
            namespaces.insert(namespace.name, namespace.labels);
        } else {
            let read: api::NetworkPolicy = serde_json::from_value(object).context("cannot read a policy")?;
            policies.push(convert::policy(&read));
        }
    }
    let mut asking: BTreeMap<NamespaceName, Vec<Asking>> = BTreeMap::new();
    for policy in policies {
        let namespaces = looks_in(&policy, &namespaces);
        asking.entry(policy.key.namespace).or_default().push(Asking { subject: policy.subject, namespaces });
    }
    Ok(asking)
}

fn looks_in(policy: &Policy, namespaces: &BTreeMap<NamespaceName, Labels>) -> BTreeSet<NamespaceName> {
    let rules = Direction::BOTH.into_iter().filter_map(|direction| policy.rules(direction)).flatten();
    let peers = rules.filter_map(|rule| match &rule.peers {
        Peers::Anywhere => None,
        Peers::Listed(peers) => Some(peers),
    });
    let mut found = BTreeSet::new();
    for peer in peers.flatten() {
        match peer {
            Peer::Pods { namespaces: NamespaceScope::Own, .. } => {
                found.insert(policy.key.namespace.clone());
            }
            Peer::Pods { namespaces: NamespaceScope::Matching(selector), .. } => {
                let matching = namespaces.iter().filter(|(_, labels)| selector.matches(labels));
                found.extend(matching.map(|(name, _)| name.clone()));
            }
            Peer::Block(_) => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Size;

    #[test]
    fn node_with_a_pod_of_every_namespace_watches_all_and_one_with_none_watches_nothing() {
        let size = Size { pods: 400, policies: 40, local_pods: 10, namespaces: 4, seed: 1 };
        let cluster = GeneratedCluster::new(&size).unwrap();
        assert_eq!(reach(&cluster, 400, 3).unwrap(), Reach { namespaces: 4.0, pods: 1.0 });
        assert_eq!(reach(&cluster, 0, 3).unwrap(), Reach::default());
    }

    #[test]
    fn without_policies_a_node_watches_only_its_own_namespaces() {
        let size = Size { pods: 400, policies: 0, local_pods: 10, namespaces: 4, seed: 1 };
        let one = reach(&GeneratedCluster::new(&size).unwrap(), 1, 5).unwrap();
        assert_eq!((one.namespaces, one.pods), (1.0, 0.25));
    }
}
