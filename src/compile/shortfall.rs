//! What of a policy cannot be enforced as its author wrote it.

use crate::model::{
    Cluster, Direction, Group, NamespaceScope, Peer, Peers, Policy, PolicyKey, PortMatch, Ports,
};
use crate::net::{Family, Protocol};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// What of one policy cannot be enforced, for one reason.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shortfall {
    /// Which policy.
    pub policy: PolicyKey,
    /// metadata.uid of the policy, if it has one.
    pub uid: Option<Box<str>>,
    /// Why.
    pub reason: ShortfallReason,
    /// Every part that it concerns, in words, with what to do.
    pub note: String,
}

/// Why a part of a policy cannot be enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ShortfallReason {
    /// It was not understood, and allows nothing.
    PolicyNotUnderstood,
    /// No pod that it is about declares a port of that name, so it allows nothing.
    NamedPortUnresolved,
    /// The node has no addresses of that family.
    FamilyDisabled,
}

impl ShortfallReason {
    /// Its name in Events.
    pub fn word(self) -> &'static str {
        match self {
            ShortfallReason::PolicyNotUnderstood => "PolicyNotUnderstood",
            ShortfallReason::NamedPortUnresolved => "NamedPortUnresolved",
            ShortfallReason::FamilyDisabled => "FamilyDisabled",
        }
    }
}

/// The shortfalls of the policies that are this node's to speak of: those whose first pod, by address, is here. `families`
/// are the ones this node has. One shortfall for each policy and reason.
pub fn shortfalls(cluster: &Cluster, active: &BTreeSet<&PolicyKey>, families: &[Family]) -> Vec<Shortfall> {
    let mut found = Vec::new();
    for policy in active.iter().filter_map(|key| cluster.policy(key)) {
        let mut notes = Notes::default();
        for refusal in &policy.refusals {
            notes.add(ShortfallReason::PolicyNotUnderstood, format!("{refusal}"));
        }
        named_ports(cluster, policy, &mut notes);
        blocks(policy, families, &mut notes);
        if notes.0.is_empty() || !is_first_subject_here(cluster, policy) {
            continue;
        }
        found.extend(notes.0.into_iter().map(|(reason, note)| Shortfall {
            policy: policy.key.clone(),
            uid: policy.uid.clone(),
            reason,
            note,
        }));
    }
    found
}

#[derive(Default)]
struct Notes(BTreeMap<ShortfallReason, String>);

impl Notes {
    fn add(&mut self, reason: ShortfallReason, note: String) {
        let notes = self.0.entry(reason).or_default();
        let gap = if notes.is_empty() { "" } else { "; " };
        // Writing to a string does not fail.
        let _ = write!(notes, "{gap}{note}");
    }
}

fn is_first_subject_here(cluster: &Cluster, policy: &Policy) -> bool {
    let groups = cluster.groups_in(&policy.key.namespace);
    let selected = groups.filter(|(_, group)| policy.subject.matches(&group.labels));
    let first = selected.flat_map(|(_, group)| cluster.addresses(group)).min();
    let is_subject =
        |group: &Group| group.namespace == policy.key.namespace && policy.subject.matches(&group.labels);
    first.is_some_and(|first| {
        let mut there = cluster.pods_at(first).into_iter();
        there.any(|(pod, group)| is_subject(group) && cluster.is_local(pod))
    })
}

fn named_ports(cluster: &Cluster, policy: &Policy, notes: &mut Notes) {
    for direction in Direction::BOTH {
        for rule in policy.rules(direction).unwrap_or_default() {
            let Ports::Listed(ports) = &rule.ports else { continue };
            for port in ports {
                let PortMatch::Named(protocol, name) = port else { continue };
                let declares = |group: &Group| declares(group, *protocol, name);
                let resolved = match direction {
                    Direction::Ingress => {
                        let own = cluster.groups_in(&policy.key.namespace);
                        own.into_iter().any(|(_, group)| {
                            cluster.addresses(group).next().is_some()
                                && policy.subject.matches(&group.labels)
                                && declares(group)
                        })
                    }
                    Direction::Egress => cluster.groups().any(|(_, group)| {
                        declares(group) && may_be_peer(cluster, policy, &rule.peers, group)
                    }),
                };
                if !resolved {
                    let who = match direction {
                        Direction::Ingress => "pod that the policy selects",
                        Direction::Egress => "pod that the rule is about",
                    };
                    notes.add(
                        ShortfallReason::NamedPortUnresolved,
                        format!(
                            "spec.{direction}[{}]: no {who} declares a {protocol} port named `{name}`, so that port \
                             allows nothing: name a port of its containers, or write its number",
                            rule.index
                        ),
                    );
                }
            }
        }
    }
}

fn declares(group: &Group, protocol: Protocol, name: &str) -> bool {
    group.ports.iter().any(|port| port.protocol == protocol && *port.name == *name)
}

fn may_be_peer(cluster: &Cluster, policy: &Policy, peers: &Peers, group: &Group) -> bool {
    let Peers::Listed(peers) = peers else { return true };
    peers.iter().any(|peer| match peer {
        Peer::Block(block) => cluster.addresses(group).any(|address| block.cidr.contains(&address)),
        Peer::Pods { namespaces, pods } => {
            let in_scope = match namespaces {
                NamespaceScope::Own => group.namespace == policy.key.namespace,
                NamespaceScope::Matching(selector) => {
                    cluster.namespace_labels(&group.namespace).is_some_and(|labels| selector.matches(labels))
                }
            };
            in_scope && pods.matches(&group.labels)
        }
    })
}

fn blocks(policy: &Policy, families: &[Family], notes: &mut Notes) {
    for direction in Direction::BOTH {
        for rule in policy.rules(direction).unwrap_or_default() {
            let Peers::Listed(peers) = &rule.peers else { continue };
            for peer in peers {
                let Peer::Block(block) = peer else { continue };
                let family = Family::of_net(block.cidr);
                if !families.contains(&family) {
                    notes.add(
                        ShortfallReason::FamilyDisabled,
                        format!(
                            "spec.{direction}[{}]: {} is of {family}, which the node does not have",
                            rule.index, block.cidr
                        ),
                    );
                }
            }
        }
    }
}
