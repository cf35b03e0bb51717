//! The rules of a NetworkPolicy: which peers and ports each allows.

use super::{FieldPath, InvalidParts, block, port, reason, selector};
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
    unknown: &'a api::UnknownFields,
}

impl api::Part for Parts<'_> {
    fn unknown(&self) -> &api::UnknownFields {
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

/// The valid rules of one direction; `path` leads to the spec.
pub(super) fn rules(
    spec: &api::NetworkPolicySpec,
    direction: Direction,
    path: &FieldPath<'_>,
    invalid: &mut InvalidParts,
) -> Vec<Rule> {
    let path = path.field(list_field(direction));
    let from = parts(spec, direction);
    let mut rules = Vec::with_capacity(from.len());
    for (index, parts) in from.iter().enumerate() {
        let path = path.index(index);
        let known = !invalid.add_unknown_fields(&path, parts);
        let peers = peers(parts, &path.field(parts.peers_field), invalid);
        let ports = ports(parts, &path.field("ports"), invalid);
        if known {
            rules.push(Rule { index, peers, ports });
        }
    }
    rules
}

// NetworkPolicyIngressRule.from: "If this field is empty or missing, this rule matches all sources (traffic not
// restricted by source)." A list that is not empty stays a list, even if all of it is invalid.
fn peers(from: &Parts<'_>, path: &FieldPath<'_>, invalid: &mut InvalidParts) -> Peers {
    if from.peers.is_empty() {
        return Peers::Anywhere;
    }
    let converted = |(index, from)| peer(from, &path.index(index), invalid);
    Peers::Listed(from.peers.iter().enumerate().filter_map(converted).collect())
}

// NetworkPolicyIngressRule.ports: "If this field is empty or missing, this rule matches all ports".
fn ports(from: &Parts<'_>, path: &FieldPath<'_>, invalid: &mut InvalidParts) -> Ports {
    if from.ports.is_empty() {
        return Ports::All;
    }
    let converted = |(index, from)| port::port(from, &path.index(index), invalid);
    Ports::Listed(from.ports.iter().enumerate().filter_map(converted).collect())
}

fn peer(from: &api::NetworkPolicyPeer, path: &FieldPath<'_>, invalid: &mut InvalidParts) -> Option<Peer> {
    let known = !invalid.add_unknown_fields(path, from);
    let peer = match (&from.ip_block, &from.namespace_selector, &from.pod_selector) {
        (None, None, None) => {
            // A misspelt field was already reported as the reason.
            if known {
                let message = "the peer selects nothing: give it a podSelector, a namespaceSelector or an ipBlock, \
                               or leave the whole list out to mean everywhere";
                invalid.add(path, reason::EMPTY_PEER, message.to_owned());
            }
            None
        }
        (Some(from), None, None) => block::block(from, &path.field("ipBlock"), invalid).map(Peer::Block),
        (Some(_), _, _) => {
            let message = "ipBlock cannot be combined with a selector: write two peers";
            invalid.add(path, reason::MIXED_PEER, message.to_owned());
            None
        }
        (None, namespaces, pods) => {
            let scope = match namespaces {
                None => Some(NamespaceScope::Own),
                Some(from) => selector::selector(from, &path.field("namespaceSelector"), invalid)
                    .map(NamespaceScope::Matching),
            };
            // NetworkPolicyPeer.podSelector: "if present but empty, it selects all pods"; beside a namespaceSelector
            // an absent one does the same.
            let pods = match pods {
                None => Some(Selector::everything()),
                Some(from) => selector::selector(from, &path.field("podSelector"), invalid),
            };
            scope.zip(pods).map(|(namespaces, pods)| Peer::Pods { namespaces, pods })
        }
    };
    peer.filter(|_| known)
}
