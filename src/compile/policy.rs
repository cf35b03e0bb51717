//! The reconciler of one policy: what it allows here, or nothing when it has no pod on this node.

use super::{Definition, Scope};
use crate::model::{
    Cluster, Direction, NamespaceName, NamespaceScope, Peer, Peers, PodKey, PolicyKey, PortMatch, Ports, Rule,
};
use crate::net::{Family, PortRange, Protocol};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What one policy allows, ready for a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyBlock {
    /// Which policy.
    pub key: PolicyKey,
    /// Its subjects on this node.
    pub subjects: BTreeSet<PodKey>,
    /// The families in which any of them has an address; in another, nobody would ask this policy.
    pub families: BTreeSet<Family>,
    /// What may reach its subjects; `None` when it does not isolate for ingress.
    pub ingress: Option<Vec<Allow>>,
    /// What its subjects may reach; `None` when it does not isolate for egress.
    pub egress: Option<Vec<Allow>>,
}

impl PolicyBlock {
    /// What it allows in a direction; `None` when it does not isolate there.
    pub fn allows(&self, direction: Direction) -> Option<&[Allow]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }

    /// Every set that its alternatives refer to.
    pub fn sets(&self) -> BTreeSet<Arc<Definition>> {
        let allows = self.ingress.iter().chain(&self.egress).flatten();
        allows.flat_map(|allow| allow.sets()).cloned().collect()
    }
}

/// One alternative: a connection with one of these peers *and* one of these ports is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allow {
    /// The place of the rule in its policy's list, from 0.
    pub rule: usize,
    /// The peers.
    pub peers: AllowPeers,
    /// The ports.
    pub ports: AllowPorts,
}

impl Allow {
    fn sets(&self) -> impl Iterator<Item = &Arc<Definition>> {
        let peers = match &self.peers {
            AllowPeers::Anywhere => &[],
            AllowPeers::In(sets) => sets.as_slice(),
        };
        let ports = match &self.ports {
            AllowPorts::All => &[],
            AllowPorts::Any(ports) => ports.as_slice(),
        };
        peers.iter().chain(ports.iter().filter_map(|port| match port {
            AllowPort::Protocol(_) | AllowPort::Numbered(..) => None,
            AllowPort::Named(_, set) => Some(set),
        }))
    }
}

/// The peers of an alternative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowPeers {
    /// Every address.
    Anywhere,
    /// An address in any of these sets; never empty.
    In(Vec<Arc<Definition>>),
}

/// The ports of an alternative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowPorts {
    /// Every port of every protocol.
    All,
    /// Any of these; never empty.
    Any(Vec<AllowPort>),
}

/// One kind of port of an alternative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowPort {
    /// Every port of a protocol.
    Protocol(Protocol),
    /// These ports of a protocol: in order, apart from each other, never empty.
    Numbered(Protocol, Vec<PortRange>),
    /// The ports in a set of named ports.
    Named(Protocol, Arc<Definition>),
}

/// Works out what the policy of this name allows to the pods of this node.
///
/// `None` when there is no such policy, or none of its subjects is here: then it costs nothing here.
pub fn policy(cluster: &Cluster, key: &PolicyKey) -> Option<PolicyBlock> {
    let policy = cluster.policy(key)?;
    let is_subject =
        |pod: &&PodKey| cluster.pod(pod).is_some_and(|(_, group)| policy.subject.matches(&group.labels));
    let subjects: BTreeSet<PodKey> =
        cluster.local_pods_in(&key.namespace).filter(is_subject).cloned().collect();
    let addresses = subjects.iter().filter_map(|pod| cluster.pod(pod)).flat_map(|(addresses, _)| addresses);
    let families = addresses.map(|address| Family::of(*address)).collect();
    let allows = |rules: &Vec<Rule>| rules.iter().filter_map(|rule| allow(&key.namespace, rule)).collect();
    (!subjects.is_empty()).then(|| PolicyBlock {
        key: key.clone(),
        subjects,
        families,
        ingress: policy.ingress.as_ref().map(allows),
        egress: policy.egress.as_ref().map(allows),
    })
}

/// `None` for a rule none of whose peers, or none of whose ports, was understood: it allows nothing.
fn allow(namespace: &NamespaceName, rule: &Rule) -> Option<Allow> {
    let peers = match &rule.peers {
        Peers::Anywhere => AllowPeers::Anywhere,
        Peers::Listed(peers) if peers.is_empty() => return None,
        Peers::Listed(peers) => AllowPeers::In(peer_sets(namespace, peers)),
    };
    let ports = match &rule.ports {
        Ports::All => AllowPorts::All,
        Ports::Listed(ports) if ports.is_empty() => return None,
        Ports::Listed(ports) => AllowPorts::Any(allow_ports(ports)),
    };
    Some(Allow { rule: rule.index, peers, ports })
}

fn peer_sets(own: &NamespaceName, peers: &[Peer]) -> Vec<Arc<Definition>> {
    let mut sets = BTreeSet::new();
    let mut plain = BTreeSet::new();
    for peer in peers {
        match peer {
            Peer::Pods { namespaces, pods } => {
                let namespaces = match namespaces {
                    NamespaceScope::Own => Scope::One(own.clone()),
                    NamespaceScope::Matching(selector) => Scope::Matching(selector.clone()),
                };
                sets.insert(Definition::Pods { namespaces, pods: pods.clone() });
            }
            Peer::Block(block) if block.except.is_empty() => {
                plain.insert(block.clone());
            }
            Peer::Block(block) => {
                sets.insert(Definition::Blocks(vec![block.clone()]));
            }
        }
    }
    if !plain.is_empty() {
        sets.insert(Definition::Blocks(plain.into_iter().collect()));
    }
    sets.into_iter().map(Arc::new).collect()
}

fn allow_ports(ports: &[PortMatch]) -> Vec<AllowPort> {
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
        AllowPort::Named(protocol, Arc::new(Definition::NamedPort { name, protocol }))
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
