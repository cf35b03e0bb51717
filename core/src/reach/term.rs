//! What policies ask of a peer, each question once, and the rules that ask.

use super::class::any_namespace;
use crate::model::{
    Block, Demand, Direction, Labels, NamespaceName, NamespaceScope, Peer, Peers, Policy, PolicyKey,
    PortMatch, Ports, Requirement, Rule, Selector, Snapshot,
};
use crate::net::{PortSet, Protocol};
use std::collections::{BTreeMap, BTreeSet};

/// The number of a question that policies ask of a peer: is it such a pod, or in such a block?
pub(super) type TermId = u32;

/// In which namespaces a peer looks for pods, independent of the policy that says so.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum TermScope {
    One(NamespaceName),
    Matching(Selector),
}

/// A rule with its peers as terms and its ports as sets.
#[derive(Clone, Debug)]
pub(super) struct TermRule {
    /// Its place in its policy's list, from 0.
    pub(super) index: usize,
    /// One of these must hold of the peer; `None` when the rule allows every peer.
    pub(super) peers: Option<Vec<TermId>>,
    /// Its ports by number.
    pub(super) ports: PortSet,
    /// Its ports by name, which the destination resolves.
    pub(super) names: Vec<(Protocol, Box<str>)>,
}

/// A policy with its rules as terms.
#[derive(Clone, Debug)]
pub(super) struct TermPolicy {
    pub(super) key: PolicyKey,
    subject: Selector,
    egress: Option<Vec<TermRule>>,
    ingress: Option<Vec<TermRule>>,
}

impl TermPolicy {
    /// Its rules in a direction; `None` when it does not isolate there.
    pub(super) fn rules(&self, direction: Direction) -> Option<&[TermRule]> {
        match direction {
            Direction::Egress => self.egress.as_deref(),
            Direction::Ingress => self.ingress.as_deref(),
        }
    }

    /// Whether it selects pods of its namespace with these labels.
    pub(super) fn selects(&self, labels: &Labels) -> bool {
        self.subject.matches(labels)
    }
}

/// Everything that policies ask.
#[derive(Clone, Debug, Default)]
pub(super) struct Terms {
    policies: Vec<TermPolicy>,
    /// Where the policies of each namespace are in that list.
    by_namespace: BTreeMap<NamespaceName, Vec<usize>>,
    scopes: BTreeMap<TermScope, usize>,
    pods: BTreeMap<(usize, Selector), TermId>,
    blocks: BTreeMap<Block, TermId>,
    count: TermId,
    keys: BTreeSet<Box<str>>,
    names: BTreeSet<(Protocol, Box<str>)>,
}

impl Terms {
    pub(super) fn of(snapshot: &Snapshot) -> Terms {
        let mut terms = Terms::default();
        for policy in snapshot.policies.values().filter(|policy| !snapshot.is_audited(policy)) {
            let policy = terms.policy(policy);
            let place = terms.policies.len();
            terms.by_namespace.entry(policy.key.namespace.clone()).or_default().push(place);
            terms.policies.push(policy);
        }
        terms
    }

    /// A policy by its place in the list of all.
    pub(super) fn get(&self, place: usize) -> Option<&TermPolicy> {
        self.policies.get(place)
    }

    /// The policies of a namespace, with their places.
    pub(super) fn policies_in(
        &self,
        namespace: &NamespaceName,
    ) -> impl Iterator<Item = (usize, &TermPolicy)> {
        let places = self.by_namespace.get(namespace).into_iter().flatten();
        places.filter_map(|&place| Some((place, self.policies.get(place)?)))
    }

    /// How many terms there are.
    pub(super) fn count(&self) -> TermId {
        self.count
    }

    /// The blocks that policies name, in order.
    pub(super) fn blocks(&self) -> impl Iterator<Item = (&Block, TermId)> {
        self.blocks.iter().map(|(block, id)| (block, *id))
    }

    /// Whether a selector of pods asks for this label.
    pub(super) fn asks_for(&self, key: &str) -> bool {
        self.keys.contains(key)
    }

    /// Whether a rule names this port.
    pub(super) fn asks_for_port(&self, protocol: Protocol, name: &str) -> bool {
        self.names.contains(&(protocol, name.into()))
    }

    fn policy(&mut self, policy: &Policy) -> TermPolicy {
        self.keep_keys(&policy.subject);
        let mut rules = |rules: Option<&[Rule]>| -> Option<Vec<TermRule>> {
            Some(rules?.iter().map(|rule| self.rule(policy, rule)).collect())
        };
        let egress = rules(policy.rules(Direction::Egress));
        let ingress = rules(policy.rules(Direction::Ingress));
        TermPolicy { key: policy.key.clone(), subject: policy.subject.clone(), egress, ingress }
    }

    fn rule(&mut self, policy: &Policy, rule: &Rule) -> TermRule {
        let peers = match &rule.peers {
            Peers::Anywhere => None,
            Peers::Listed(peers) => {
                let terms: BTreeSet<TermId> = peers.iter().map(|peer| self.peer(policy, peer)).collect();
                Some(terms.into_iter().collect())
            }
        };
        let mut ports = PortSet::default();
        let mut names = Vec::new();
        match &rule.ports {
            Ports::All => ports = PortSet::all(),
            Ports::Listed(listed) => {
                for port in listed {
                    match port {
                        PortMatch::Protocol(protocol) => {
                            ports = ports.union(&PortSet::of_protocol(*protocol))
                        }
                        PortMatch::Numbered(protocol, range) => {
                            ports = ports.union(&PortSet::of(*protocol, *range));
                        }
                        PortMatch::Named(protocol, name) => {
                            self.names.insert((*protocol, name.clone()));
                            names.push((*protocol, name.clone()));
                        }
                    }
                }
            }
        }
        TermRule { index: rule.index, peers, ports, names }
    }

    fn peer(&mut self, policy: &Policy, peer: &Peer) -> TermId {
        match peer {
            Peer::Pods { namespaces, pods } => {
                self.keep_keys(pods);
                let scope = match namespaces {
                    NamespaceScope::Own => TermScope::One(policy.key.namespace.clone()),
                    NamespaceScope::Matching(selector) => TermScope::Matching(selector.clone()),
                };
                let next = self.scopes.len();
                let scope = *self.scopes.entry(scope).or_insert(next);
                let id = *self.pods.entry((scope, pods.clone())).or_insert(self.count);
                self.count = self.count.max(id + 1);
                id
            }
            Peer::Block(block) => {
                let id = *self.blocks.entry(block.clone()).or_insert(self.count);
                self.count = self.count.max(id + 1);
                id
            }
        }
    }

    fn keep_keys(&mut self, selector: &Selector) {
        for requirement in selector.requirements() {
            if !self.keys.contains(&requirement.key) {
                self.keys.insert(requirement.key.clone());
            }
        }
    }
}

/// Finds the terms that hold of pods by their labels, without asking all of them.
pub(super) struct PodTerms<'t> {
    snapshot: &'t Snapshot,
    scopes: Vec<&'t TermScope>,
    /// By a value that a selector demands of a label.
    by_label: BTreeMap<(&'t str, &'t str), Vec<PodTerm<'t>>>,
    /// Of selectors that demand none.
    others: Vec<PodTerm<'t>>,
    /// The scopes that hold each namespace.
    scopes_of: BTreeMap<NamespaceName, BTreeSet<usize>>,
}

#[derive(Clone, Copy)]
struct PodTerm<'t> {
    scope: usize,
    selector: &'t Selector,
    id: TermId,
}

impl<'t> PodTerms<'t> {
    pub(super) fn new(snapshot: &'t Snapshot, terms: &'t Terms) -> PodTerms<'t> {
        let mut scopes: Vec<(usize, &TermScope)> =
            terms.scopes.iter().map(|(scope, number)| (*number, scope)).collect();
        scopes.sort_unstable_by_key(|(number, _)| *number);
        let scopes = scopes.into_iter().map(|(_, scope)| scope).collect();
        let mut found = PodTerms {
            snapshot,
            scopes,
            by_label: BTreeMap::new(),
            others: Vec::new(),
            scopes_of: BTreeMap::new(),
        };
        for ((scope, selector), id) in &terms.pods {
            let term = PodTerm { scope: *scope, selector, id: *id };
            let demanded = selector.requirements().find_map(demanded_values);
            match demanded {
                Some((key, values)) => {
                    for value in values {
                        found.by_label.entry((key, value)).or_default().push(term);
                    }
                }
                None => found.others.push(term),
            }
        }
        found
    }

    /// The terms that hold of pods in this namespace with these labels, in order.
    pub(super) fn holding(&mut self, namespace: &NamespaceName, labels: &Labels) -> Vec<TermId> {
        if !self.scopes_of.contains_key(namespace) {
            let holds = |scope: &TermScope| match scope {
                TermScope::One(name) => name == namespace,
                TermScope::Matching(selector) => self.selects_namespace(selector, namespace),
            };
            let found =
                self.scopes.iter().enumerate().filter(|(_, scope)| holds(scope)).map(|(place, _)| place);
            let found = found.collect();
            self.scopes_of.insert(namespace.clone(), found);
        }
        let scopes = &self.scopes_of[namespace];
        let by_label = labels.iter().filter_map(|label| self.by_label.get(&label)).flatten();
        let candidates = by_label.chain(&self.others).filter(|term| scopes.contains(&term.scope));
        let holding = candidates.filter(|term| term.selector.matches(labels)).map(|term| term.id);
        let holding: BTreeSet<TermId> = holding.collect();
        holding.into_iter().collect()
    }

    fn selects_namespace(&self, selector: &Selector, name: &NamespaceName) -> bool {
        if *name == any_namespace() {
            return selector.matches(&Labels::of_unknown_namespace(name));
        }
        match self.snapshot.namespace_labels(name) {
            Some(labels) => selector.matches(labels),
            None => selector.selects_unknown_namespace(name),
        }
    }
}

fn demanded_values(requirement: &Requirement) -> Option<(&str, impl Iterator<Item = &str>)> {
    match &requirement.demand {
        Demand::In(values) => Some((&*requirement.key, values.iter().map(|value| &**value))),
        Demand::NotIn(_) | Demand::Exists | Demand::DoesNotExist => None,
    }
}
