//! Parts of policies that cannot be enforced as their authors wrote them.

use super::Plan;
use crate::model::{
    AuditLabel, Cluster, Direction, Group, NamespaceScope, Peer, Peers, Policy, PolicyKey, PortMatch, Ports,
    audit_label_note,
};
use crate::net::{Family, Protocol};
use std::collections::BTreeMap;

/// The parts of one policy that cannot be enforced, for one reason.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shortfall {
    /// The policy.
    pub policy: PolicyKey,
    /// metadata.uid of the policy, if it has one.
    pub uid: Option<Box<str>>,
    /// The reason.
    pub reason: ShortfallReason,
    /// Every part concerned, in words, with what to do.
    pub note: String,
}

/// Why a part of a policy cannot be enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ShortfallReason {
    /// The part is invalid, and allows nothing.
    PolicyNotUnderstood,
    /// No pod to which the part applies declares a port of that name, so it allows nothing.
    NamedPortUnresolved,
    /// The node has no addresses of that family.
    FamilyDisabled,
    /// The part exceeds the limits for one policy, and allows nothing.
    PolicyLimitExceeded,
    /// The policy's label for audit mode, or its namespace's, has an unknown value, so the policy is enforced.
    AuditLabelNotUnderstood,
}

impl ShortfallReason {
    /// Its name in Events.
    pub fn word(self) -> &'static str {
        match self {
            ShortfallReason::PolicyNotUnderstood => "PolicyNotUnderstood",
            ShortfallReason::NamedPortUnresolved => "NamedPortUnresolved",
            ShortfallReason::FamilyDisabled => "FamilyDisabled",
            ShortfallReason::PolicyLimitExceeded => "PolicyLimitExceeded",
            ShortfallReason::AuditLabelNotUnderstood => "AuditLabelNotUnderstood",
        }
    }
}

/// How many parts of a policy are named for one reason; the others are only counted.
const NAMED: usize = 8;

/// How often the peers of named ports may be compared with pods for one policy. The result is advice, and must not cost
/// as much as enforcement. A port that could not be decided counts as declared.
const LOOKS: usize = 200_000;

/// The shortfalls of the policies that this node must report: those whose first pod, by address, is here. `families`
/// are those of this node. There is one shortfall for each policy and reason.
pub fn shortfalls(cluster: &Cluster, plan: &Plan, families: &[Family]) -> Vec<Shortfall> {
    let mut found = Vec::new();
    for (policy, block) in
        plan.policies().iter().filter_map(|(key, block)| Some((cluster.policy(key)?, block)))
    {
        let mut notes = Notes::default();
        for part in &policy.invalid_parts {
            notes.add(ShortfallReason::PolicyNotUnderstood, || format!("{part}"));
        }
        for surplus in &block.surplus {
            notes.add(ShortfallReason::PolicyLimitExceeded, || surplus.note(plan.limits()));
        }
        audit_labels(cluster, policy, &mut notes);
        named_ports(cluster, policy, &mut notes);
        blocks(policy, families, &mut notes);
        if notes.0.is_empty() || !is_first_subject_here(cluster, policy) {
            continue;
        }
        found.extend(notes.0.into_iter().map(|(reason, notes)| Shortfall {
            policy: policy.key.clone(),
            uid: policy.uid.clone(),
            reason,
            note: notes.text(),
        }));
    }
    found
}

#[derive(Default)]
struct Notes(BTreeMap<ShortfallReason, Named>);

/// The parts that are named, and the number of all parts.
#[derive(Default)]
struct Named {
    parts: Vec<String>,
    count: usize,
}

impl Notes {
    fn add(&mut self, reason: ShortfallReason, note: impl FnOnce() -> String) {
        let named = self.0.entry(reason).or_default();
        named.count += 1;
        if named.parts.len() < NAMED {
            named.parts.push(note());
        }
    }
}

impl Named {
    fn text(self) -> String {
        let mut text = self.parts.join("; ");
        let more = self.count - self.parts.len();
        if more > 0 {
            text.push_str(&format!("; and {more} more"));
        }
        text
    }
}

fn is_first_subject_here(cluster: &Cluster, policy: &Policy) -> bool {
    let groups = cluster.groups_in(&policy.key.namespace);
    // Only its own node knows the addresses of a pod that has finished.
    let selected = groups.filter(|(_, group)| group.peers && policy.subject.matches(&group.labels));
    let first = selected.flat_map(|(_, group)| cluster.addresses(group)).min();
    let is_subject =
        |group: &Group| group.namespace == policy.key.namespace && policy.subject.matches(&group.labels);
    first.is_some_and(|first| {
        let mut there = cluster.pods_at(first).into_iter();
        there.any(|(pod, group)| is_subject(group) && cluster.is_local(pod))
    })
}

fn audit_labels(cluster: &Cluster, policy: &Policy, notes: &mut Notes) {
    if cluster.is_audited(policy) {
        return;
    }
    let of_namespace = cluster.namespace_labels(&policy.key.namespace).map(AuditLabel::of);
    let labels = [("policy", Some(&policy.audit)), ("namespace", of_namespace.as_ref())];
    for (owner, label) in labels {
        if let Some(AuditLabel::NotUnderstood(value)) = label {
            notes.add(ShortfallReason::AuditLabelNotUnderstood, || audit_label_note(owner, value));
        }
    }
}

fn named_ports(cluster: &Cluster, policy: &Policy, notes: &mut Notes) {
    let mut looks = LOOKS;
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
                        looks = looks.saturating_sub(1);
                        looks == 0
                            || declares(group) && may_be_peer(cluster, policy, &rule.peers, group, &mut looks)
                    }),
                };
                if !resolved {
                    let who = match direction {
                        Direction::Ingress => "pod that the policy selects",
                        Direction::Egress => "pod that the rule is about",
                    };
                    notes.add(ShortfallReason::NamedPortUnresolved, || {
                        format!(
                            "spec.{direction}[{}]: no {who} declares a {protocol} port named `{name}`, so that port \
                             allows nothing: name a port of its containers, or write its number",
                            rule.index
                        )
                    });
                }
            }
        }
    }
}

fn declares(group: &Group, protocol: Protocol, name: &str) -> bool {
    group.ports.iter().any(|port| port.protocol == protocol && *port.name == *name)
}

fn may_be_peer(cluster: &Cluster, policy: &Policy, peers: &Peers, group: &Group, looks: &mut usize) -> bool {
    let Peers::Listed(peers) = peers else { return true };
    *looks = looks.saturating_sub(peers.len());
    peers.iter().any(|peer| match peer {
        Peer::Block(block) => cluster.addresses(group).any(|address| block.cidr.contains(&address)),
        Peer::Pods { namespaces, pods } => {
            let in_scope = match namespaces {
                NamespaceScope::Own => group.namespace == policy.key.namespace,
                NamespaceScope::Matching(selector) => cluster.selects_namespace(selector, &group.namespace),
            };
            group.peers && in_scope && pods.matches(&group.labels)
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
                    notes.add(ShortfallReason::FamilyDisabled, || {
                        format!(
                            "spec.{direction}[{}]: {} is of {family}, which the node does not have",
                            rule.index, block.cidr
                        )
                    });
                }
            }
        }
    }
}
