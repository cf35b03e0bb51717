//! Computes what one policy allows on this node; nothing if it selects no pod here.

use super::limits::Left;
use super::{
    Allow, AllowPeers, AllowPort, AllowPorts, LimitedResource, Limits, PodPeer, Scope, SetDefinition,
    Surplus, Union,
};
use crate::model::{
    Cluster, Direction, NamespaceName, NamespaceScope, Peer, Peers, PodKey, PolicyKey, PortMatch, Ports, Rule,
};
use crate::net::{Family, PortRange, Protocol};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What one policy allows, as the backends render it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyBlock {
    /// Its policy.
    pub key: PolicyKey,
    /// Its subjects on this node.
    pub subjects: BTreeSet<PodKey>,
    /// The families in which any of them has an address; in the other, no rule would refer to this policy.
    pub families: BTreeSet<Family>,
    /// What may reach its subjects; `None` if it does not isolate for ingress.
    pub ingress: Option<Vec<Allow>>,
    /// What its subjects may reach; `None` if it does not isolate for egress.
    pub egress: Option<Vec<Allow>>,
    /// The parts of its rules that exceed the limits for one policy, and allow nothing.
    pub surplus: Vec<Surplus>,
    /// Whether it is evaluated and reported only: then it neither isolates its subjects nor allows them anything.
    pub audited: bool,
}

impl PolicyBlock {
    /// What it allows in a direction; `None` if it does not isolate in it.
    pub fn allows(&self, direction: Direction) -> Option<&[Allow]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }

    /// Every set that its alternatives refer to.
    pub fn sets(&self) -> BTreeSet<Arc<SetDefinition>> {
        let allows = self.ingress.iter().chain(&self.egress).flatten();
        allows.flat_map(|allow| allow.sets()).cloned().collect()
    }

    /// About how many rules of the kernel it has, in both families together.
    pub(super) fn rules(&self) -> usize {
        self.ingress.iter().chain(&self.egress).flatten().map(Allow::rules).sum()
    }

    /// The same with at most so many rules: what comes after them allows nothing, because there is no more of this resource.
    pub(super) fn with_rules(mut self, most: usize, resource: LimitedResource) -> PolicyBlock {
        let mut left = most;
        for (direction, allows) in
            [(Direction::Ingress, &mut self.ingress), (Direction::Egress, &mut self.egress)]
        {
            let mut surplus: Option<Surplus> = None;
            for allow in allows.iter_mut().flatten() {
                let (before, rules) = (allow.parts(), allow.rules());
                if rules <= left {
                    left -= rules;
                    continue;
                }
                allow.keep_rules(&mut left);
                let first = Surplus { direction, rule: allow.rule, resource, parts: 0 };
                surplus.get_or_insert(first).parts += before - allow.parts();
            }
            if let Some(allows) = allows {
                allows.retain(|allow| allow.parts() > 0);
            }
            self.surplus.extend(surplus);
        }
        self
    }

    /// The same without what these sets would allow, as they have more members than the policy or its namespace may have.
    pub(super) fn without(self, beyond: &BTreeMap<Arc<SetDefinition>, LimitedResource>) -> PolicyBlock {
        let PolicyBlock { key, subjects, families, ingress, egress, mut surplus, audited } = self;
        let mut of = |direction, allows: Option<Vec<Allow>>| {
            let (allows, own) = allows_without(direction, allows?, beyond);
            surplus.extend(own);
            Some(allows)
        };
        let (ingress, egress) = (of(Direction::Ingress, ingress), of(Direction::Egress, egress));
        PolicyBlock { key, subjects, families, ingress, egress, surplus, audited }
    }
}

fn allows_without(
    direction: Direction,
    mut allows: Vec<Allow>,
    beyond: &BTreeMap<Arc<SetDefinition>, LimitedResource>,
) -> (Vec<Allow>, impl Iterator<Item = Surplus>) {
    let mut surplus = BTreeMap::new();
    allows.retain_mut(|Allow { rule, peers, ports }| {
        let mut keeps = |set: &Arc<SetDefinition>| {
            let Some(&resource) = beyond.get(set) else { return true };
            let first = Surplus { direction, rule: *rule, resource, parts: 0 };
            surplus.entry(resource).or_insert(first).parts += 1;
            false
        };
        if let AllowPeers::In(sets) = peers {
            sets.retain(&mut keeps);
        }
        if let AllowPorts::Any(ports) = ports {
            ports.retain(|port| port.set().is_none_or(&mut keeps));
        }
        !peers.is_empty() && !ports.is_empty()
    });
    (allows, surplus.into_values())
}

/// What the policy of this name allows the pods of this node. `known` is the previous result if only its subjects may
/// differ.
///
/// `None` if there is no such policy, or none of its subjects is on this node: then it costs nothing here.
pub(super) fn policy(
    cluster: &Cluster,
    key: &PolicyKey,
    limits: &Limits,
    known: Option<&PolicyBlock>,
) -> Option<PolicyBlock> {
    let policy = cluster.policy(key)?;
    let is_subject =
        |pod: &&PodKey| cluster.pod(pod).is_some_and(|(_, group)| policy.subject.matches(&group.labels));
    let subjects: BTreeSet<PodKey> =
        cluster.local_pods_in(&key.namespace).filter(is_subject).cloned().collect();
    if subjects.is_empty() {
        return None;
    }
    let addresses = subjects.iter().filter_map(|pod| cluster.pod(pod)).flat_map(|(addresses, _)| addresses);
    let families = addresses.map(|address| Family::of(*address)).collect();
    let audited = cluster.is_audited(policy);
    if let Some(known) = known {
        return Some(PolicyBlock { subjects, families, audited, ..known.clone() });
    }
    let mut left = Left::new(limits);
    let mut sets = BTreeSet::new();
    let mut allowed = |direction| {
        let rules = policy.rules(direction)?;
        Some(allows(limits, &mut left, &mut sets, &key.namespace, direction, rules))
    };
    let (ingress, egress) = (allowed(Direction::Ingress), allowed(Direction::Egress));
    let surplus = left.into_surplus();
    let block = PolicyBlock { key: key.clone(), subjects, families, ingress, egress, surplus, audited };
    Some(block.with_rules(limits.rules, LimitedResource::Rules))
}

/// The parts of a rule that are within the limits: its peers, if it lists any, and its ports.
struct Kept<'a> {
    rule: usize,
    peers: Option<Vec<&'a Peer>>,
    ports: AllowPorts,
}

fn allows(
    limits: &Limits,
    left: &mut Left,
    sets: &mut BTreeSet<Arc<SetDefinition>>,
    namespace: &NamespaceName,
    direction: Direction,
    rules: &[Rule],
) -> Vec<Allow> {
    let kept: Vec<Kept<'_>> = rules.iter().filter_map(|rule| keep(left, direction, rule)).collect();
    let together = are_together(limits, &kept);
    let kept = if together { join(kept) } else { kept };
    let mut allows = Vec::new();
    for Kept { rule, peers, mut ports } in kept {
        let mut is_new = |set: &Arc<SetDefinition>| usize::from(sets.insert(set.clone()));
        let peers = match peers {
            None => AllowPeers::Anywhere,
            Some(peers) => {
                let mut peers = peer_sets(namespace, &peers, together);
                left.keep((direction, rule), LimitedResource::Sets, &mut peers, &mut is_new);
                AllowPeers::In(peers)
            }
        };
        if let AllowPorts::Any(ports) = &mut ports {
            left.keep((direction, rule), LimitedResource::Sets, ports, |port| {
                port.set().map_or(0, &mut is_new)
            });
        }
        if !peers.is_empty() && !ports.is_empty() {
            allows.push(Allow { rule, peers, ports });
        }
    }
    allows
}

/// `None` for a rule that allows nothing, because none of its peers, or none of its ports, is valid and within the
/// limits.
fn keep<'a>(left: &mut Left, direction: Direction, rule: &'a Rule) -> Option<Kept<'a>> {
    let place = (direction, rule.index);
    let peers = match &rule.peers {
        Peers::Anywhere => None,
        Peers::Listed(peers) => {
            let mut peers: Vec<&Peer> = peers.iter().collect();
            left.keep(place, LimitedResource::Peers, &mut peers, |peer| match peer {
                Peer::Pods { .. } => 1,
                Peer::Block(_) => 0,
            });
            left.keep(place, LimitedResource::Blocks, &mut peers, |peer| match peer {
                Peer::Pods { .. } => 0,
                Peer::Block(block) => 1 + block.except.len(),
            });
            Some(peers)
        }
    };
    let ports = match &rule.ports {
        Ports::All => AllowPorts::All,
        Ports::Listed(ports) => {
            let mut ports: Vec<&PortMatch> = ports.iter().collect();
            left.keep(place, LimitedResource::Ports, &mut ports, |_| 1);
            AllowPorts::Any(allow_ports(&ports))
        }
    };
    let is_nobody = peers.as_ref().is_some_and(Vec::is_empty);
    (!is_nobody && !ports.is_empty()).then_some(Kept { rule: rule.index, peers, ports })
}

/// Whether the pods of all peers of a rule form one set. They do if a set for each peer would mean too many sets, or
/// too many rules, as each peer is combined with each of the ports.
fn are_together(limits: &Limits, kept: &[Kept<'_>]) -> bool {
    let peers = |kept: &Kept<'_>| {
        let peers = kept.peers.iter().flatten();
        peers.filter(|peer| matches!(peer, Peer::Pods { .. })).count()
    };
    let rules = |kept: &Kept<'_>| peers(kept) * kept.ports.ways();
    kept.iter().map(peers).sum::<usize>() > limits.peers_apart
        || kept.iter().map(rules).sum::<usize>() > limits.peers_apart * limits.peers_apart
}

/// Merges all rules with peers and the same ports at the position of the first: a rule with the peers of two rules
/// allows what both allow.
fn join(kept: Vec<Kept<'_>>) -> Vec<Kept<'_>> {
    let mut joined: Vec<Kept<'_>> = Vec::new();
    let mut by_ports: BTreeMap<AllowPorts, usize> = BTreeMap::new();
    for mut own in kept {
        if let Some(peers) = &mut own.peers {
            let first = *by_ports.entry(own.ports.clone()).or_insert(joined.len());
            if let Some(Kept { peers: Some(others), .. }) = joined.get_mut(first) {
                others.append(peers);
                continue;
            }
        }
        joined.push(own);
    }
    joined
}

/// The sets of a rule's peers; if `together`, those that select pods are one set.
fn peer_sets(own: &NamespaceName, peers: &[&Peer], together: bool) -> Vec<Arc<SetDefinition>> {
    let mut sets = BTreeSet::new();
    let mut pods_of = BTreeSet::new();
    let mut plain = BTreeSet::new();
    for peer in peers {
        match peer {
            Peer::Pods { namespaces, pods } => {
                let namespaces = match namespaces {
                    NamespaceScope::Own => Scope::One(own.clone()),
                    NamespaceScope::Matching(selector) => Scope::Matching(selector.clone()),
                };
                pods_of.insert(PodPeer { namespaces, pods: pods.clone() });
            }
            Peer::Block(block) if block.except.is_empty() => {
                plain.insert((*block).clone());
            }
            Peer::Block(block) => {
                sets.insert(SetDefinition::Blocks(vec![block.clone()]));
            }
        }
    }
    if together && pods_of.len() > 1 {
        sets.insert(SetDefinition::AnyOf(Union::new(pods_of)));
    } else {
        sets.extend(
            pods_of.into_iter().map(|PodPeer { namespaces, pods }| SetDefinition::Pods { namespaces, pods }),
        );
    }
    if !plain.is_empty() {
        sets.insert(SetDefinition::Blocks(plain.into_iter().collect()));
    }
    sets.into_iter().map(Arc::new).collect()
}

fn allow_ports(ports: &[&PortMatch]) -> Vec<AllowPort> {
    let mut whole = BTreeSet::new();
    let mut numbered: BTreeMap<Protocol, BTreeSet<PortRange>> = BTreeMap::new();
    let mut named = BTreeSet::new();
    for port in ports {
        match port {
            PortMatch::Protocol(protocol) => {
                whole.insert(*protocol);
            }
            PortMatch::Numbered(protocol, range) => {
                numbered.entry(*protocol).or_default().insert(*range);
            }
            PortMatch::Named(protocol, name) => {
                named.insert((*protocol, name.clone()));
            }
        }
    }
    numbered.retain(|protocol, _| !whole.contains(protocol));
    named.retain(|(protocol, _)| !whole.contains(protocol));
    let named = named.into_iter().map(|(protocol, name)| {
        AllowPort::Named(protocol, Arc::new(SetDefinition::NamedPort { name, protocol }))
    });
    let numbered =
        numbered.into_iter().map(|(protocol, ranges)| AllowPort::Numbered(protocol, apart(ranges)));
    whole.into_iter().map(AllowPort::Protocol).chain(numbered).chain(named).collect()
}

/// Joins ranges that touch or overlap.
fn apart(ranges: BTreeSet<PortRange>) -> Vec<PortRange> {
    let mut joined: Vec<PortRange> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if u32::from(range.first()) <= u32::from(last.last()) + 1 => {
                let end = last.last().max(range.last());
                *last = PortRange::new(last.first(), end).expect("a range that only grew");
            }
            Some(_) | None => joined.push(range),
        }
    }
    joined
}
