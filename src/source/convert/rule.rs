//! The rules of a NetworkPolicy: which peers and ports each allows.

use super::{Path, Refusals, block, port, reason, selector};
use crate::api;
use crate::model::{Direction, NamespaceScope, Peer, Peers, Ports, Rule, Selector};

fn list_field(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}

/// A rule of either direction.
struct Parts<'a> {
    peers_field: &'static str,
    peers: &'a [api::NetworkPolicyPeer],
    ports: &'a [api::NetworkPolicyPort],
    unknown: &'a api::Unknown,
}

impl api::Part for Parts<'_> {
    fn unknown(&self) -> &api::Unknown {
        self.unknown
    }
}

fn parts(spec: &api::NetworkPolicySpec, direction: Direction) -> Vec<Parts<'_>> {
    match direction {
        Direction::Ingress => spec.ingress.iter().flatten().map(ingress_parts).collect(),
        Direction::Egress => spec.egress.iter().flatten().map(egress_parts).collect(),
    }
}

fn ingress_parts(rule: &api::NetworkPolicyIngressRule) -> Parts<'_> {
    Parts {
        peers_field: "from",
        peers: rule.from.as_deref().unwrap_or_default(),
        ports: rule.ports.as_deref().unwrap_or_default(),
        unknown: &rule.unknown,
    }
}

fn egress_parts(rule: &api::NetworkPolicyEgressRule) -> Parts<'_> {
    Parts {
        peers_field: "to",
        peers: rule.to.as_deref().unwrap_or_default(),
        ports: rule.ports.as_deref().unwrap_or_default(),
        unknown: &rule.unknown,
    }
}

/// The rules of one direction that can be understood; `path` leads to the spec.
pub(super) fn rules(
    spec: &api::NetworkPolicySpec,
    direction: Direction,
    path: &Path<'_>,
    refusals: &mut Refusals,
) -> Vec<Rule> {
    let path = path.field(list_field(direction));
    let from = parts(spec, direction);
    let mut rules = Vec::with_capacity(from.len());
    for (index, parts) in from.iter().enumerate() {
        let path = path.index(index);
        let known = !refusals.refuse_unknown(&path, parts);
        let peers = peers(parts, &path.field(parts.peers_field), refusals);
        let ports = ports(parts, &path.field("ports"), refusals);
        if known {
            rules.push(Rule { index, peers, ports });
        }
    }
    rules
}

// NetworkPolicyIngressRule.from: "If this field is empty or missing, this rule matches all sources (traffic not
// restricted by source)." A list that was not empty stays a list, whatever of it is refused.
fn peers(from: &Parts<'_>, path: &Path<'_>, refusals: &mut Refusals) -> Peers {
    if from.peers.is_empty() {
        return Peers::Anywhere;
    }
    let lowered = |(index, from)| peer(from, &path.index(index), refusals);
    Peers::Listed(from.peers.iter().enumerate().filter_map(lowered).collect())
}

// NetworkPolicyIngressRule.ports: "If this field is empty or missing, this rule matches all ports".
fn ports(from: &Parts<'_>, path: &Path<'_>, refusals: &mut Refusals) -> Ports {
    if from.ports.is_empty() {
        return Ports::All;
    }
    let lowered = |(index, from)| port::port(from, &path.index(index), refusals);
    Ports::Listed(from.ports.iter().enumerate().filter_map(lowered).collect())
}

fn peer(from: &api::NetworkPolicyPeer, path: &Path<'_>, refusals: &mut Refusals) -> Option<Peer> {
    let known = !refusals.refuse_unknown(path, from);
    let peer = match (&from.ip_block, &from.namespace_selector, &from.pod_selector) {
        (None, None, None) => {
            // A misspelt key is already the reason why nothing is left.
            if known {
                let message = "the peer names nobody: give it a podSelector, a namespaceSelector or an ipBlock, \
                               or leave the whole list out to mean everywhere";
                refusals.refuse(path, reason::EMPTY_PEER, message.to_owned());
            }
            None
        }
        (Some(from), None, None) => block::block(from, &path.field("ipBlock"), refusals).map(Peer::Block),
        (Some(_), _, _) => {
            let message = "ipBlock cannot be combined with a selector: write two peers";
            refusals.refuse(path, reason::MIXED_PEER, message.to_owned());
            None
        }
        (None, namespaces, pods) => {
            let scope = match namespaces {
                None => Some(NamespaceScope::Own),
                Some(from) => selector::selector(from, &path.field("namespaceSelector"), refusals)
                    .map(NamespaceScope::Matching),
            };
            // NetworkPolicyPeer.podSelector: "if present but empty, it selects all pods"; beside a namespaceSelector
            // an absent one does the same.
            let pods = match pods {
                None => Some(Selector::everything()),
                Some(from) => selector::selector(from, &path.field("podSelector"), refusals),
            };
            scope.zip(pods).map(|(namespaces, pods)| Peer::Pods { namespaces, pods })
        }
    };
    peer.filter(|_| known)
}
