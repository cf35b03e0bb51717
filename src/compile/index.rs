//! Finds the sets that a group of pods may feed, without asking every set.
//!
//! Each set is filed under one thing that its members must have: a label with a value, a label, or a named port.

use super::{Definition, Scope, SetId};
use crate::model::{Demand, Group, NamespaceName, Selector};
use crate::net::Protocol;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, Default)]
struct Drawer {
    by_pair: BTreeMap<Box<str>, BTreeMap<Box<str>, BTreeSet<SetId>>>,
    by_key: BTreeMap<Box<str>, BTreeSet<SetId>>,
    rest: BTreeSet<SetId>,
}

/// Sets, filed by what their members must have.
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
    fn insert(&mut self, selector: &Selector, id: SetId) {
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

    fn remove(&mut self, selector: &Selector, id: SetId) {
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

    fn candidates(&self, group: &Group, found: &mut BTreeSet<SetId>) {
        for (key, value) in group.labels.iter() {
            found
                .extend(self.by_pair.get(key).and_then(|by_value| by_value.get(value)).into_iter().flatten());
            found.extend(self.by_key.get(key).into_iter().flatten());
        }
        found.extend(&self.rest);
    }

    fn is_empty(&self) -> bool {
        self.by_pair.is_empty() && self.by_key.is_empty() && self.rest.is_empty()
    }
}

fn forget(by_name: &mut BTreeMap<Box<str>, BTreeSet<SetId>>, name: &str, id: SetId) {
    if let Some(ids) = by_name.get_mut(name) {
        ids.remove(&id);
        if ids.is_empty() {
            by_name.remove(name);
        }
    }
}

impl Index {
    pub(super) fn insert(&mut self, definition: &Definition, id: SetId) {
        match definition {
            Definition::Pods { namespaces: Scope::One(name), pods } => {
                self.in_namespace.entry(name.clone()).or_default().insert(pods, id);
            }
            Definition::Pods { namespaces: Scope::Matching(_), pods } => self.anywhere.insert(pods, id),
            Definition::NamedPort { name, protocol } => {
                self.by_port.entry(name.clone()).or_default().insert(*protocol, id);
            }
            Definition::Blocks(_) => {}
        }
    }

    pub(super) fn remove(&mut self, definition: &Definition, id: SetId) {
        match definition {
            Definition::Pods { namespaces: Scope::One(name), pods } => {
                if let Some(drawer) = self.in_namespace.get_mut(name) {
                    drawer.remove(pods, id);
                    if drawer.is_empty() {
                        self.in_namespace.remove(name);
                    }
                }
            }
            Definition::Pods { namespaces: Scope::Matching(_), pods } => self.anywhere.remove(pods, id),
            Definition::NamedPort { name, protocol } => {
                if let Some(by_protocol) = self.by_port.get_mut(name) {
                    by_protocol.remove(protocol);
                    if by_protocol.is_empty() {
                        self.by_port.remove(name);
                    }
                }
            }
            Definition::Blocks(_) => {}
        }
    }

    /// The sets that the pods of `group` may feed; each must still be asked.
    pub(super) fn candidates(&self, group: &Group) -> BTreeSet<SetId> {
        let mut found = BTreeSet::new();
        if let Some(drawer) = self.in_namespace.get(&group.namespace) {
            drawer.candidates(group, &mut found);
        }
        self.anywhere.candidates(group, &mut found);
        for port in &group.ports {
            found
                .extend(self.by_port.get(&port.name).and_then(|by_protocol| by_protocol.get(&port.protocol)));
        }
        found
    }
}
