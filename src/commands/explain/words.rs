//! Ends and peers in words.

use super::change::few;
use crate::explain::{CaseEnd, CaseMembers};
use crate::model::{NamespaceScope, Peer, PodKey, Policy, Selector, Snapshot, Workload};
use crate::net::IpNet;
use std::collections::BTreeSet;

/// What an end is: `shop/web`, `shop/deployment/web (3 pods)`, `node node-a`, `192.0.2.7`.
pub(super) fn end_text(snapshot: &Snapshot, end: &CaseEnd, members: &CaseMembers) -> String {
    match (end, members) {
        (_, CaseMembers::Blocks(prefixes)) => blocks_text(prefixes),
        (CaseEnd::Node { name, .. }, CaseMembers::Pods(pods)) => {
            let of = name.as_deref().map_or_else(|| "its node".to_owned(), |name| format!("node {name}"));
            format!("{} (on the network of {of})", pods_text(snapshot, pods))
        }
        (_, CaseMembers::Pods(pods)) => pods_text(snapshot, pods),
        (CaseEnd::Pod { key, .. }, CaseMembers::Itself) => key.to_string(),
        (CaseEnd::Node { name, .. }, CaseMembers::Itself) => {
            name.as_deref().map_or_else(|| "a node".to_owned(), |name| format!("node {name}"))
        }
        (CaseEnd::Address(address), CaseMembers::Itself) => address.to_string(),
    }
}

/// Pods by their workload, if they have one in common: `shop/deployment/web (2 of 3 pods: …)`.
fn pods_text(snapshot: &Snapshot, pods: &[PodKey]) -> String {
    let workloads: BTreeSet<Workload> =
        pods.iter().filter_map(|key| snapshot.pods.get(key)).map(Workload::of).collect();
    let (Some(workload), true) = (workloads.first(), workloads.len() == 1 && pods.len() > 1) else {
        return few(pods.iter());
    };
    let of_workload = snapshot.pods_in(&workload.namespace).filter(|pod| Workload::of(pod) == *workload);
    match of_workload.count() {
        all if all == pods.len() => format!("{workload} ({all} pods)"),
        all => format!("{workload} ({} of {all} pods: {})", pods.len(), few(pods.iter())),
    }
}

/// Prefixes, one after the other, or how many of them there are in which larger one.
fn blocks_text(prefixes: &[IpNet]) -> String {
    const FEW: usize = 3;
    let Some(first) = prefixes.first().filter(|_| prefixes.len() > FEW) else { return few(prefixes.iter()) };
    let mut around = *first;
    while let Some(wider) = around.supernet().filter(|_| !prefixes.iter().all(|part| around.contains(part))) {
        around = wider;
    }
    format!("{} parts of {around}", prefixes.len())
}

/// What a peer is: `pods with app=api in namespaces with team=a`, `10.0.0.0/8 except 10.1.0.0/16`.
pub(super) fn peer_text(policy: &Policy, peer: &Peer) -> String {
    let labels = |selector: &Selector| {
        let demands: Vec<String> = selector.requirements().map(ToString::to_string).collect();
        demands.join(", ")
    };
    match peer {
        Peer::Block(block) if block.except.is_empty() => block.cidr.to_string(),
        Peer::Block(block) => format!("{} except {}", block.cidr, few(block.except.iter())),
        Peer::Pods { namespaces, pods } => {
            let pods = match labels(pods) {
                none if none.is_empty() => "pods".to_owned(),
                labels => format!("pods with {labels}"),
            };
            let place = match namespaces {
                NamespaceScope::Own => format!("of {}", policy.key.namespace),
                NamespaceScope::Matching(selector) if *selector == Selector::everything() => {
                    "of every namespace".to_owned()
                }
                NamespaceScope::Matching(selector) => format!("of namespaces with {}", labels(selector)),
            };
            format!("{pods} {place}")
        }
    }
}
