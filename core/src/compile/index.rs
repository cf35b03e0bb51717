//! Finds the sets that a group of pods may feed, without checking every set.
//!
//! Each set is indexed by one property that its members must have: a label with a value, a label, or a named port. A
//! union is indexed by one such property for each of its peers.

use super::{Scope, SetDefinition, SetId};
use crate::model::{Demand, Group, NamespaceName, Selector};
use crate::net::Protocol;
use std::collections::{BTreeMap, BTreeSet};

/// A peer of a set: its index in a union, and 0 in a set with a single peer.
pub(super) type PeerOf = (SetId, usize);

#[derive(Clone, Debug, Default)]
struct Drawer {
    by_pair: BTreeMap<Box<str>, BTreeMap<Box<str>, BTreeSet<PeerOf>>>,
    by_key: BTreeMap<Box<str>, BTreeSet<PeerOf>>,
    rest: BTreeSet<PeerOf>,
}

/// Sets, indexed by what their members must have.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    in_namespace: BTreeMap<NamespaceName, Drawer>,
    anywhere: Drawer,
    by_port: BTreeMap<Box<str>, BTreeMap<Protocol, SetId>>,
}

enum Anchor<'a> {
    Pairs(&'a str, &'a BTreeSet<Box<str>>),
    Key(&'a str),
    Nothing,
}

fn anchor(selector: &Selector) -> Anchor<'_> {
    let mut best = Anchor::Nothing;
    for requirement in selector.requirements() {
        match (&requirement.demand, &best) {
            (Demand::In(values), Anchor::Pairs(_, shorter)) if shorter.len() <= values.len() => {}
            (Demand::In(values), _) => best = Anchor::Pairs(&requirement.key, values),
            (Demand::Exists, Anchor::Nothing) => best = Anchor::Key(&requirement.key),
            (Demand::Exists | Demand::NotIn(_) | Demand::DoesNotExist, _) => {}
        }
    }
    best
}

impl Drawer {
    fn insert(&mut self, selector: &Selector, id: PeerOf) {
        match anchor(selector) {
            Anchor::Pairs(key, values) => {
                let by_value = self.by_pair.entry(key.into()).or_default();
                for value in values {
                    by_value.entry(value.clone()).or_default().insert(id);
                }
            }
            Anchor::Key(key) => {
                self.by_key.entry(key.into()).or_default().insert(id);
            }
            Anchor::Nothing => {
                self.rest.insert(id);
            }
        }
    }

    fn remove(&mut self, selector: &Selector, id: PeerOf) {
        match anchor(selector) {
            Anchor::Pairs(key, values) => {
                let Some(by_value) = self.by_pair.get_mut(key) else { return };
                for value in values {
                    forget(by_value, value, id);
                }
                if by_value.is_empty() {
                    self.by_pair.remove(key);
                }
            }
            Anchor::Key(key) => forget(&mut self.by_key, key, id),
            Anchor::Nothing => {
                self.rest.remove(&id);
            }
        }
    }

    fn candidates<'a>(&'a self, group: &'a Group) -> impl Iterator<Item = PeerOf> + 'a {
        let labelled = group.labels.iter().flat_map(move |(key, value)| {
            let by_value = self.by_pair.get(key).and_then(|by_value| by_value.get(value));
            by_value.into_iter().chain(self.by_key.get(key)).flatten()
        });
        labelled.chain(&self.rest).copied()
    }

    fn is_empty(&self) -> bool {
        self.by_pair.is_empty() && self.by_key.is_empty() && self.rest.is_empty()
    }
}

fn forget(by_name: &mut BTreeMap<Box<str>, BTreeSet<PeerOf>>, name: &str, id: PeerOf) {
    if let Some(ids) = by_name.get_mut(name) {
        ids.remove(&id);
        if ids.is_empty() {
            by_name.remove(name);
        }
    }
}

impl Index {
    /// The peers of one union, independent of the union's number.
    pub(super) fn of(definition: &SetDefinition) -> Index {
        let mut index = Index::default();
        index.insert(definition, 0);
        index
    }

    pub(super) fn insert(&mut self, definition: &SetDefinition, id: SetId) {
        match definition {
            SetDefinition::Pods { namespaces, pods } => self.insert_peer(namespaces, pods, (id, 0)),
            SetDefinition::AnyOf(union) => {
                for (place, peer) in union.peers().iter().enumerate() {
                    self.insert_peer(&peer.namespaces, &peer.pods, (id, place));
                }
            }
            SetDefinition::NamedPort { name, protocol } => {
                self.by_port.entry(name.clone()).or_default().insert(*protocol, id);
            }
            SetDefinition::Blocks(_) => {}
        }
    }

    pub(super) fn remove(&mut self, definition: &SetDefinition, id: SetId) {
        match definition {
            SetDefinition::Pods { namespaces, pods } => self.remove_peer(namespaces, pods, (id, 0)),
            SetDefinition::AnyOf(union) => {
                for (place, peer) in union.peers().iter().enumerate() {
                    self.remove_peer(&peer.namespaces, &peer.pods, (id, place));
                }
            }
            SetDefinition::NamedPort { name, protocol } => {
                if let Some(by_protocol) = self.by_port.get_mut(name) {
                    by_protocol.remove(protocol);
                    if by_protocol.is_empty() {
                        self.by_port.remove(name);
                    }
                }
            }
            SetDefinition::Blocks(_) => {}
        }
    }

    fn insert_peer(&mut self, namespaces: &Scope, pods: &Selector, id: PeerOf) {
        match namespaces {
            Scope::One(name) => self.in_namespace.entry(name.clone()).or_default().insert(pods, id),
            Scope::Matching(_) => self.anywhere.insert(pods, id),
        }
    }

    fn remove_peer(&mut self, namespaces: &Scope, pods: &Selector, id: PeerOf) {
        match namespaces {
            Scope::One(name) => {
                if let Some(drawer) = self.in_namespace.get_mut(name) {
                    drawer.remove(pods, id);
                    if drawer.is_empty() {
                        self.in_namespace.remove(name);
                    }
                }
            }
            Scope::Matching(_) => self.anywhere.remove(pods, id),
        }
    }

    /// The peers that may select the pods of `group`, and the named ports that these may declare; the caller must still
    /// check each.
    pub(super) fn candidates<'a>(&'a self, group: &'a Group) -> impl Iterator<Item = PeerOf> + 'a {
        let own = self.in_namespace.get(&group.namespace).into_iter();
        let peers = own.chain([&self.anywhere]).flat_map(|drawer| drawer.candidates(group));
        let ports = group.ports.iter().filter_map(|port| {
            let by_protocol = self.by_port.get(&port.name)?;
            Some((*by_protocol.get(&port.protocol)?, 0))
        });
        peers.chain(ports)
    }
}
