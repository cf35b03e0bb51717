//! What must hold on a node, read literally from what is known of the cluster: no sets, no chains, nothing that `compile` made of
//! policies but what it refused to take on.

use crate::compile::{Plan, PortBinding, Subject, UnknownPods};
use crate::model::{
    Cluster, Direction, Labels, NamedPort, NamespaceName, NamespaceScope, Peer, Peers, Policy, PolicyKey,
    PortMatch, Ports, Rule, Selector,
};
use crate::net::{Family, Flow, Protocol};
use crate::render::PodToNode;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What must hold on a node at one moment. It refers to nothing, so it can be compared with a kernel while the cluster changes.
///
/// To take it costs time and memory in proportion to the pods of the cluster and to the policies of the namespaces that have pods
/// on this node.
#[derive(Clone, Debug, Default)]
pub struct Expectation {
    groups: Vec<PeerGroup>,
    namespaces: BTreeMap<NamespaceName, Option<Labels>>,
    policies: Vec<Policy>,
    /// Policies of which a part exceeds the limits: what they allow may be denied.
    limited: BTreeSet<PolicyKey>,
    /// Of each address that a pod has: the groups of those that have it, or claim it.
    holders: BTreeMap<IpAddr, Vec<Holder>>,
    /// Of each address of this node's pods: the pods.
    residents: BTreeMap<IpAddr, Vec<Resident>>,
    /// What may come and go by the ports of the bridge.
    pub(super) ports: BTreeMap<u32, PortBinding>,
    pub(super) unknown_pods: UnknownPods,
}

/// Pods that no policy can distinguish.
#[derive(Clone, Debug)]
struct PeerGroup {
    namespace: NamespaceName,
    labels: Labels,
    ports: Box<[NamedPort]>,
    peers: bool,
}

/// Who has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Holder {
    /// A pod of this group.
    Pod(usize),
    /// An unknown pod.
    Unknown,
}

/// A pod of this node at one of its addresses.
#[derive(Clone, Debug)]
struct Resident {
    subject: Subject,
    /// The policies that isolate it, for egress and for ingress; `None` for an unknown pod, which is isolated by none and
    /// completely.
    isolating: Option<[Vec<usize>; 2]>,
}

/// What one direction's policies say of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SideRuling<'e> {
    /// No pod at the address is isolated in this direction.
    Free,
    /// A rule of a policy allows it.
    Allowed(&'e PolicyKey, usize),
    /// This pod is isolated by these policies, and none allows it.
    Denied {
        subject: &'e Subject,
        isolated_by: Vec<&'e PolicyKey>,
        /// A part of one of them that exceeds the limits might allow it otherwise.
        limited: bool,
    },
}

impl SideRuling<'_> {
    pub(super) fn allows(&self) -> bool {
        !matches!(self, SideRuling::Denied { .. })
    }
}

const fn place(direction: Direction) -> usize {
    match direction {
        Direction::Egress => 0,
        Direction::Ingress => 1,
    }
}

impl Expectation {
    /// What must hold on the cluster's node.
    pub fn of(cluster: &Cluster, plan: &Plan) -> Expectation {
        let mut expectation = Expectation {
            limited: plan
                .policies()
                .values()
                .filter(|block| !block.surplus.is_empty())
                .map(|block| block.key.clone())
                .collect(),
            ports: plan.ports().clone(),
            unknown_pods: plan.unknown_pods(),
            ..Expectation::default()
        };
        for (_, group) in cluster.groups() {
            let place = expectation.groups.len();
            expectation.groups.push(PeerGroup {
                namespace: group.namespace.clone(),
                labels: group.labels.clone(),
                ports: group.ports.clone(),
                peers: group.peers,
            });
            for address in cluster.addresses(group) {
                expectation.holders.entry(address).or_default().push(Holder::Pod(place));
            }
        }
        for name in cluster.namespaces() {
            expectation.namespaces.insert(name.clone(), cluster.labels_for_selection(name).cloned());
        }
        expectation.take_residents(cluster);
        for (key, addresses) in cluster.unknown_sandboxes() {
            for address in addresses {
                let subject = Subject::Unknown(key.clone());
                let resident = Resident { subject, isolating: None };
                expectation.residents.entry(*address).or_default().push(resident);
            }
        }
        let contested: Vec<IpAddr> = expectation.holders.keys().copied().collect();
        let unknown = expectation
            .residents
            .iter()
            .filter(|(_, residents)| residents.iter().any(|one| one.isolating.is_none()));
        let unknown: BTreeSet<IpAddr> = unknown.map(|(address, _)| *address).collect();
        for address in
            contested.into_iter().filter(|address| cluster.is_claimed_by_unknown(*address)).chain(unknown)
        {
            let holders = expectation.holders.entry(address).or_default();
            if !holders.contains(&Holder::Unknown) {
                holders.push(Holder::Unknown);
            }
        }
        for holders in expectation.holders.values_mut() {
            holders.sort_unstable();
            holders.dedup();
        }
        expectation
    }

    fn take_residents(&mut self, cluster: &Cluster) {
        let mut first: BTreeMap<&NamespaceName, std::ops::Range<usize>> = BTreeMap::new();
        for key in cluster.local_pods() {
            let range = first.entry(&key.namespace).or_insert_with(|| {
                let start = self.policies.len();
                let enforced =
                    cluster.policies_in(&key.namespace).filter(|policy| !cluster.is_audited(policy));
                self.policies.extend(enforced.cloned());
                start..self.policies.len()
            });
            let Some((addresses, group)) = cluster.pod(key) else { continue };
            let isolating = Direction::BOTH.map(|direction| {
                let isolates = |policy: &Policy| {
                    policy.rules(direction).is_some() && policy.subject.matches(&group.labels)
                };
                range.clone().filter(|place| isolates(&self.policies[*place])).collect()
            });
            for address in addresses {
                let resident =
                    Resident { subject: Subject::Pod(key.clone()), isolating: Some(isolating.clone()) };
                self.residents.entry(*address).or_default().push(resident);
            }
        }
    }

    /// The addresses of this node's pods in a family.
    pub(super) fn local(&self, family: Family) -> impl Iterator<Item = IpAddr> {
        self.residents.keys().copied().filter(move |address| Family::of(*address) == family)
    }

    /// Whether a pod of this node has an address.
    pub(super) fn is_local(&self, address: IpAddr) -> bool {
        self.residents.contains_key(&address)
    }

    /// The pods of this node at an address.
    pub(super) fn subjects(&self, address: IpAddr) -> impl Iterator<Item = &Subject> {
        self.residents.get(&address).into_iter().flatten().map(|resident| &resident.subject)
    }

    /// The addresses that pods have, with those that have them.
    pub(super) fn holders(&self) -> impl Iterator<Item = (IpAddr, &[Holder])> {
        self.holders.iter().map(|(address, holders)| (*address, holders.as_slice()))
    }

    /// The prefixes that the rules of policies of this node's pods name.
    pub(super) fn blocks(&self) -> impl Iterator<Item = crate::net::IpNet> {
        let rules =
            self.policies.iter().flat_map(|policy| policy.ingress.iter().chain(&policy.egress).flatten());
        rules
            .flat_map(|rule| match &rule.peers {
                Peers::Anywhere => &[][..],
                Peers::Listed(peers) => peers,
            })
            .flat_map(|peer| match peer {
                Peer::Pods { .. } => Vec::new(),
                Peer::Block(block) => {
                    std::iter::once(block.cidr).chain(block.except.iter().copied()).collect()
                }
            })
    }

    /// Whether a pod at an address is isolated in a direction.
    pub(super) fn is_isolated(&self, direction: Direction, address: IpAddr) -> bool {
        let residents = self.residents.get(&address).into_iter().flatten();
        residents.into_iter().any(|resident| self.isolates(resident, direction))
    }

    fn isolates(&self, resident: &Resident, direction: Direction) -> bool {
        match &resident.isolating {
            Some(isolating) => !isolating[place(direction)].is_empty(),
            None => self.unknown_pods == UnknownPods::Reject,
        }
    }

    /// The policies that isolate the pods at an address, pod by pod: what decides about it in a direction. An unknown pod has
    /// `None`.
    pub(super) fn profile(&self, direction: Direction, address: IpAddr) -> Vec<Option<Vec<usize>>> {
        let residents = self.residents.get(&address).into_iter().flatten();
        let isolated = residents.filter(|resident| self.isolates(resident, direction));
        isolated
            .map(|resident| resident.isolating.as_ref().map(|policies| policies[place(direction)].clone()))
            .collect()
    }

    /// The rules of the policies of a profile.
    pub(super) fn rules_of(
        &self,
        direction: Direction,
        profile: &[Option<Vec<usize>>],
    ) -> Vec<(usize, &Rule)> {
        let policies: BTreeSet<usize> = profile.iter().flatten().flatten().copied().collect();
        let rules = policies.into_iter().flat_map(|place| {
            self.policies[place].rules(direction).unwrap_or_default().iter().map(move |rule| (place, rule))
        });
        rules.collect()
    }

    /// What the policies of the pods at an address say of a connection with a peer. The port is that of the destination; `None`
    /// for a protocol without ports.
    pub(super) fn decide(
        &self,
        direction: Direction,
        own: IpAddr,
        peer: IpAddr,
        port: Option<(Protocol, u16)>,
    ) -> SideRuling<'_> {
        let destination = match direction {
            Direction::Egress => peer,
            Direction::Ingress => own,
        };
        let mut ruling = SideRuling::Free;
        for resident in self.residents.get(&own).into_iter().flatten() {
            if !self.isolates(resident, direction) {
                continue;
            }
            let policies =
                resident.isolating.as_ref().map_or(&[][..], |isolating| &isolating[place(direction)]);
            let mut rules = policies.iter().flat_map(|place| {
                let policy = &self.policies[*place];
                policy.rules(direction).unwrap_or_default().iter().map(move |rule| (policy, rule))
            });
            let allows = rules.find(|(policy, rule)| {
                self.ports_allow(rule, destination, port)
                    && self.peers_hold(&policy.key.namespace, rule, peer)
            });
            match allows {
                Some((policy, rule)) => ruling = SideRuling::Allowed(&policy.key, rule.index),
                None => {
                    let isolated_by: Vec<&PolicyKey> =
                        policies.iter().map(|place| &self.policies[*place].key).collect();
                    let limited = isolated_by.iter().any(|key| self.limited.contains(*key));
                    return SideRuling::Denied { subject: &resident.subject, isolated_by, limited };
                }
            }
        }
        ruling
    }

    /// Whether the policies of this node's pods at both ends allow a connection.
    pub fn allows(&self, flow: &Flow) -> bool {
        self.rulings(flow).iter().all(SideRuling::allows)
    }

    /// Whether a pod of this node may open a connection to the node itself, as `--pod-to-node` says.
    pub fn allows_to_node(&self, choice: PodToNode, flow: &Flow) -> bool {
        let excused = open_to_node(Family::of(flow.source));
        match choice {
            PodToNode::Allow => true,
            PodToNode::Policy | PodToNode::Drop if flow.port.is_some_and(|port| excused.contains(&port)) => {
                true
            }
            PodToNode::Policy => {
                self.decide(Direction::Egress, flow.source, flow.destination, flow.port).allows()
            }
            PodToNode::Drop => !self.is_isolated(Direction::Egress, flow.source),
        }
    }

    /// What the policies of this node's pods at both ends say, egress first.
    pub(super) fn rulings(&self, flow: &Flow) -> [SideRuling<'_>; 2] {
        Direction::BOTH.map(|direction| {
            self.decide(direction, direction.own_end(flow), direction.peer_end(flow), flow.port)
        })
    }

    /// Whether a policy that allows a connection may do less than it says, because a part of it exceeds the limits.
    pub(super) fn is_limited(&self, policy: &PolicyKey) -> bool {
        self.limited.contains(policy)
    }

    /// The namespace of a policy.
    pub(super) fn namespace_of(&self, policy: usize) -> &NamespaceName {
        &self.policies[policy].key.namespace
    }

    /// Whether a rule's peers include an address.
    pub(super) fn peers_hold(&self, own: &NamespaceName, rule: &Rule, peer: IpAddr) -> bool {
        let Peers::Listed(peers) = &rule.peers else { return true };
        peers.iter().any(|listed| match listed {
            Peer::Block(block) => block.contains(peer),
            Peer::Pods { namespaces, pods } => self.all_holders(peer, |group| {
                let in_scope = match namespaces {
                    NamespaceScope::Own => group.namespace == *own,
                    NamespaceScope::Matching(selector) => self.selects_namespace(selector, &group.namespace),
                };
                in_scope && pods.matches(&group.labels)
            }),
        })
    }

    fn all_holders(&self, address: IpAddr, such: impl Fn(&PeerGroup) -> bool) -> bool {
        let holders = self.holders.get(&address).map_or(&[][..], Vec::as_slice);
        !holders.is_empty()
            && holders.iter().all(|holder| match holder {
                Holder::Pod(group) => self.groups[*group].peers && such(&self.groups[*group]),
                Holder::Unknown => false,
            })
    }

    /// A namespace whose object is not known is selected as [`Selector::selects_unknown_namespace`] says.
    fn selects_namespace(&self, selector: &Selector, name: &NamespaceName) -> bool {
        match self.namespaces.get(name) {
            Some(Some(labels)) => selector.matches(labels),
            Some(None) | None => selector.selects_unknown_namespace(name),
        }
    }

    fn ports_allow(&self, rule: &Rule, destination: IpAddr, port: Option<(Protocol, u16)>) -> bool {
        let Ports::Listed(ports) = &rule.ports else { return true };
        let Some((protocol, number)) = port else { return false };
        ports.iter().any(|listed| match listed {
            PortMatch::Protocol(wanted) => *wanted == protocol,
            PortMatch::Numbered(wanted, range) => *wanted == protocol && range.contains(number),
            PortMatch::Named(wanted, name) => {
                *wanted == protocol
                    && self.all_holders(destination, |group| {
                        group.ports.iter().any(|port| {
                            port.name == *name && port.protocol == protocol && port.port == number
                        })
                    })
            }
        })
    }

    /// The ports that those who have an address declare.
    pub(super) fn declared(&self, address: IpAddr) -> impl Iterator<Item = &NamedPort> {
        let holders = self.holders.get(&address).into_iter().flatten();
        holders.flat_map(|holder| match holder {
            Holder::Pod(group) => &*self.groups[*group].ports,
            Holder::Unknown => &[],
        })
    }
}

/// The DNS and DHCP of a node, which pods reach whatever `--pod-to-node` says.
pub(super) fn open_to_node(family: Family) -> [(Protocol, u16); 3] {
    let dhcp = match family {
        Family::V4 => 67,
        Family::V6 => 547,
    };
    [(Protocol::Udp, 53), (Protocol::Tcp, 53), (Protocol::Udp, dhcp)]
}
