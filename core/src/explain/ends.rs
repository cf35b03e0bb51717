//! The ends of the connections that a question is about, in classes that policies cannot distinguish.

use super::case::{AskedPort, CaseEnd};
use super::lookup::FoundName;
use crate::model::{Block, Peer, Peers, Pod, PodKey, Rule, Snapshot};
use crate::net::{Family, IpNet};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What one class of ends has in common: one of them, and who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EndClass {
    /// One of them in each family that they have.
    pub(super) ends: BTreeMap<Family, CaseEnd>,
    /// Another one, if there are several.
    pub(super) second: BTreeMap<Family, CaseEnd>,
    pub(super) members: CaseMembers,
    /// For a destination, the port that is asked about.
    pub(super) port: AskedPort,
}

/// The ends that an answer is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CaseMembers {
    /// Pods, of which no policy distinguishes one from another.
    Pods(Vec<PodKey>),
    /// The end that the case names.
    Itself,
    /// The addresses of these prefixes, except those of pods and nodes.
    Blocks(Vec<IpNet>),
}

/// The blocks of all policies of some namespaces.
pub(super) fn blocks_in<'s>(snapshot: &'s Snapshot, found: &FoundName<'s>) -> Vec<&'s Block> {
    let namespaces: BTreeSet<_> = found.pods().iter().map(|pod| &pod.key.namespace).collect();
    let policies = namespaces.into_iter().flat_map(|namespace| snapshot.policies_in(namespace));
    let rules = policies.flat_map(|policy| policy.ingress.iter().chain(&policy.egress).flatten());
    let mut blocks: Vec<&Block> = rules
        .flat_map(peers_of)
        .filter_map(|peer| match peer {
            Peer::Block(block) => Some(block),
            Peer::Pods { .. } => None,
        })
        .collect();
    blocks.sort();
    blocks.dedup();
    blocks
}

/// The peers that a rule lists.
fn peers_of(rule: &Rule) -> &[Peer] {
    match &rule.peers {
        Peers::Anywhere => &[],
        Peers::Listed(peers) => peers,
    }
}

/// The keys of all labels that policies ask for.
pub(super) fn keys_in_use(snapshot: &Snapshot) -> BTreeSet<&str> {
    let policies = snapshot.policies.values();
    let selectors = policies.flat_map(|policy| {
        let rules = policy.ingress.iter().chain(&policy.egress).flatten();
        let of_peers = rules.flat_map(peers_of).filter_map(|peer| match peer {
            Peer::Pods { pods, .. } => Some(pods),
            Peer::Block(_) => None,
        });
        of_peers.chain([&policy.subject])
    });
    selectors.flat_map(|selector| selector.requirements().map(|requirement| &*requirement.key)).collect()
}

/// The families of which ends without a known address are asked: those that the cluster's pods have; if none is known, that of the
/// other end.
pub(super) fn usual_families(snapshot: &Snapshot, other: &FoundName<'_>) -> BTreeSet<Family> {
    let addresses = snapshot.pods.values().flat_map(|pod| &pod.addresses);
    let families: BTreeSet<Family> = addresses.map(|address| Family::of(*address)).collect();
    if !families.is_empty() {
        return families;
    }
    BTreeSet::from([match other {
        FoundName::Address(address) | FoundName::Node(_, Some(address)) => Family::of(*address),
        FoundName::Block(prefix) => Family::of_net(*prefix),
        FoundName::Pod(_) | FoundName::Workload(_) | FoundName::Service(..) | FoundName::Node(_, None) => {
            Family::V4
        }
    }])
}

/// One end in each family: with its addresses, or without if it has none that is known.
fn in_families(
    addresses: &[IpAddr],
    usual: &BTreeSet<Family>,
    end: impl Fn(Option<IpAddr>) -> CaseEnd,
) -> BTreeMap<Family, CaseEnd> {
    if addresses.is_empty() {
        return usual.iter().map(|family| (*family, end(None))).collect();
    }
    let mut ends = BTreeMap::new();
    for address in addresses {
        ends.entry(Family::of(*address)).or_insert_with(|| end(Some(*address)));
    }
    ends
}

/// The end that a pod is: one on its node's network is its node.
pub(super) fn ends_of_pod(
    snapshot: &Snapshot,
    pod: &Pod,
    usual: &BTreeSet<Family>,
) -> BTreeMap<Family, CaseEnd> {
    if pod.networked {
        let end = |address| CaseEnd::Pod { key: pod.key.clone(), address };
        return in_families(&pod.addresses, usual, end);
    }
    let of_node = pod.node.as_ref().and_then(|node| snapshot.nodes.get(node)).into_iter().flatten();
    let addresses: Vec<IpAddr> = pod.addresses.iter().chain(of_node).copied().collect();
    in_families(&addresses, usual, |address| CaseEnd::Node { name: pod.node.clone(), address })
}

/// The end that a node is.
pub(super) fn ends_of_node(
    snapshot: &Snapshot,
    name: &str,
    usual: &BTreeSet<Family>,
) -> BTreeMap<Family, CaseEnd> {
    let known = snapshot.nodes.get(name).map(Vec::as_slice).unwrap_or_default();
    in_families(known, usual, |address| CaseEnd::Node { name: Some(name.into()), address })
}

/// All by which a policy can distinguish a pod from another.
pub(super) fn signature<'s>(
    pod: &'s Pod,
    port: AskedPort,
    blocks: &[&Block],
    keys: &BTreeSet<&str>,
    nodes_matter: bool,
) -> impl Ord + use<'s> {
    let holds =
        |block: &&Block| pod.addresses.iter().map(|address| block.contains(*address)).collect::<Vec<bool>>();
    let families: Vec<Family> = pod.addresses.iter().map(|address| Family::of(*address)).collect();
    let node = pod.node.as_deref().filter(|_| nodes_matter || !pod.networked);
    let held: Vec<Vec<bool>> = blocks.iter().map(holds).collect();
    let labels: Vec<(&str, &str)> = pod.labels.iter().filter(|(key, _)| keys.contains(key)).collect();
    (&pod.key.namespace, labels, &pod.ports, pod.networked, families, node, held, port)
}

/// The parts of a prefix that no block cuts.
pub(super) fn uncut(prefix: IpNet, blocks: &[&Block]) -> Vec<IpNet> {
    let edges: Vec<IpNet> =
        blocks.iter().flat_map(|block| block.except.iter().chain([&block.cidr])).copied().collect();
    let mut parts = Vec::new();
    let mut left = vec![prefix];
    while let Some(part) = left.pop() {
        let is_cut = edges.iter().any(|edge| *edge != part && part.contains(edge));
        match part.subnets(part.prefix_len() + 1) {
            Ok(halves) if is_cut => left.extend(halves),
            _ => parts.push(part),
        }
    }
    parts.sort();
    parts
}
