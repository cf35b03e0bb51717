//! How the peers of a rule differ from a connection.

use super::{Differs, Fit, Miss};
use crate::explain::difference::{found_label, lacking};
use crate::model::{
    Block, Cluster, Group, NamespaceScope, Peer, Peers, PodKey, Policy, Requirement, Selector,
};
use std::net::IpAddr;

/// Whether the peers of a rule include an address.
pub(super) fn fit(cluster: &Cluster, policy: &Policy, peers: &Peers, address: IpAddr) -> Fit {
    let Peers::Listed(peers) = peers else { return Fit::Takes };
    let mut best: Option<Miss> = None;
    for peer in peers {
        let fit = match peer {
            Peer::Block(block) => fit_block(block, address),
            Peer::Pods { namespaces, pods } => fit_pods(cluster, policy, namespaces, pods, address),
        };
        match fit {
            Fit::Takes => return Fit::Takes,
            Fit::Misses(miss) if best.as_ref().is_none_or(|best| miss.differs < best.differs) => {
                best = Some(miss)
            }
            Fit::Misses(_) | Fit::IsFar => {}
        }
    }
    best.map_or(Fit::IsFar, Fit::Misses)
}

fn fit_block(block: &Block, address: IpAddr) -> Fit {
    let cidr = block.cidr;
    if !cidr.contains(&address) {
        // If the families differ, the address is no near miss.
        let note = format!("the address: {cidr} does not contain {address}");
        let same_family = cidr.addr().is_ipv4() == address.is_ipv4();
        return if same_family { Fit::Misses(Miss { differs: Differs::Address, note }) } else { Fit::IsFar };
    }
    match block.except.iter().find(|except| except.contains(&address)) {
        None => Fit::Takes,
        Some(except) => {
            let note = format!("an exception: {cidr} except {except}, which holds {address}");
            Fit::Misses(Miss { differs: Differs::Except, note })
        }
    }
}

fn fit_pods(
    cluster: &Cluster,
    policy: &Policy,
    namespaces: &NamespaceScope,
    pods: &Selector,
    address: IpAddr,
) -> Fit {
    // A peer matches an address only if it matches all pods that may have it.
    let mut worst = Fit::IsFar;
    for (number, (key, group)) in cluster.pods_at(address).into_iter().enumerate() {
        match fit_pod(cluster, policy, namespaces, pods, key, group) {
            Fit::Takes if number == 0 => worst = Fit::Takes,
            Fit::Takes => {}
            Fit::Misses(miss) => worst = Fit::Misses(miss),
            Fit::IsFar => return Fit::IsFar,
        }
    }
    worst
}

fn fit_pod(
    cluster: &Cluster,
    policy: &Policy,
    namespaces: &NamespaceScope,
    pods: &Selector,
    key: &PodKey,
    group: &Group,
) -> Fit {
    if !group.peers {
        return Fit::IsFar;
    }
    let own = &policy.key.namespace;
    let of_pod: Vec<&Requirement> = lacking(pods, &group.labels).collect();
    let of_namespace = match namespaces {
        NamespaceScope::Own if key.namespace == *own => Vec::new(),
        NamespaceScope::Own if of_pod.is_empty() => {
            let note = format!(
                "the namespace: without a namespaceSelector the peer selects only pods of {own}, and {key} is not one"
            );
            return Fit::Misses(Miss { differs: Differs::Namespace, note });
        }
        NamespaceScope::Own => return Fit::IsFar,
        NamespaceScope::Matching(selector) if cluster.selects_namespace(selector, &key.namespace) => {
            Vec::new()
        }
        NamespaceScope::Matching(selector) => {
            let labels = cluster.namespace_labels(&key.namespace);
            let lacking: Vec<&Requirement> =
                labels.into_iter().flat_map(|labels| lacking(selector, labels)).collect();
            if lacking.is_empty() {
                return Fit::IsFar;
            }
            lacking
        }
    };
    match (of_pod.as_slice(), of_namespace.as_slice()) {
        ([], []) => Fit::Takes,
        ([missing], []) => {
            let has = found_label(missing, group.labels.get(&missing.key));
            let note = format!("a label: pods with {missing}, and {key} has {has}");
            Fit::Misses(Miss { differs: Differs::PodLabel, note })
        }
        ([], [missing]) => {
            let name = &key.namespace;
            let found = cluster.namespace_labels(name).and_then(|labels| labels.get(&missing.key));
            let has = found_label(missing, found);
            let note = format!("a label of the namespace: namespaces with {missing}, and {name} has {has}");
            Fit::Misses(Miss { differs: Differs::NamespaceLabel, note })
        }
        (_, _) => Fit::IsFar,
    }
}
