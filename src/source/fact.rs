//! The objects of manifests as facts that can be told apart, compared and told.

use super::lower;
use super::manifest::Manifests;
use super::problem::Origin;
use crate::model::{Bridge, Change, LinkChange, NamespaceName, PodKey, PolicyKey, SandboxKey};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Who an object is, in the order in which objects are told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Key {
    Namespace(NamespaceName),
    Pod(PodKey),
    Policy(PolicyKey),
    Sandbox(SandboxKey),
    Bridge,
    Port(u32),
}

impl Key {
    /// Who a fact is about.
    pub(super) fn of(fact: &Change) -> Key {
        match fact {
            Change::Namespace(namespace) => Key::Namespace(namespace.name.clone()),
            Change::NamespaceUnreadable(name) | Change::NamespaceGone(name) => Key::Namespace(name.clone()),
            Change::Pod(pod) => Key::Pod(pod.key.clone()),
            Change::PodUnreadable(pod) => Key::Pod(pod.key.clone()),
            Change::PodGone(key) => Key::Pod(key.clone()),
            Change::Policy(policy) => Key::Policy(policy.key.clone()),
            Change::PolicyGone(key) => Key::Policy(key.clone()),
            Change::Sandbox(sandbox) => Key::Sandbox(sandbox.key.clone()),
            Change::SandboxGone(key) => Key::Sandbox(key.clone()),
            Change::Link(LinkChange::Bridge(_)) => Key::Bridge,
            Change::Link(LinkChange::Port(port)) => Key::Port(port.index),
            Change::Link(LinkChange::PortGone(index)) => Key::Port(*index),
        }
    }

    /// The namespace that the object lives in.
    pub(super) fn namespace(&self) -> Option<&NamespaceName> {
        match self {
            Key::Namespace(_) | Key::Sandbox(_) | Key::Bridge | Key::Port(_) => None,
            Key::Pod(key) => Some(&key.namespace),
            Key::Policy(key) => Some(&key.namespace),
        }
    }

    /// The same, to put an equal one in its place.
    pub(super) fn namespace_mut(&mut self) -> Option<&mut NamespaceName> {
        match self {
            Key::Namespace(_) | Key::Sandbox(_) | Key::Bridge | Key::Port(_) => None,
            Key::Pod(key) => Some(&mut key.namespace),
            Key::Policy(key) => Some(&mut key.namespace),
        }
    }

    /// The change that ends the object.
    pub(super) fn gone(self) -> Change {
        match self {
            Key::Namespace(name) => Change::NamespaceGone(name),
            Key::Pod(key) => Change::PodGone(key),
            Key::Policy(key) => Change::PolicyGone(key),
            Key::Sandbox(key) => Change::SandboxGone(key),
            Key::Bridge => Change::Link(LinkChange::Bridge(Bridge::default())),
            Key::Port(index) => Change::Link(LinkChange::PortGone(index)),
        }
    }
}

impl fmt::Display for Key {
    /// `Pod shop/web`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Namespace(name) => write!(f, "Namespace {name}"),
            Key::Pod(key) => write!(f, "Pod {key}"),
            Key::Policy(key) => write!(f, "NetworkPolicy {key}"),
            Key::Sandbox(key) => write!(f, "{key}"),
            Key::Bridge => f.write_str("bridge"),
            Key::Port(index) => write!(f, "bridge port {index}"),
        }
    }
}

impl Manifests {
    /// The changes that make everything known, namespaces that are only spoken of included: namespaces before pods
    /// before policies.
    pub fn changes(&self) -> Vec<Change> {
        let namespaces = self.namespaces.iter().map(|object| Change::Namespace(object.lowered.clone()));
        let pods = self.pods.iter().map(|object| Change::Pod(object.lowered.clone()));
        let policies = self.policies.iter().map(|object| Change::Policy(object.lowered.clone()));
        let facts = namespaces.chain(pods).chain(policies);
        let mut facts: BTreeMap<Key, Change> = facts.map(|fact| (Key::of(&fact), fact)).collect();
        let spoken_of: BTreeSet<_> = facts.keys().filter_map(Key::namespace).cloned().collect();
        for name in spoken_of {
            let implied = Change::Namespace(lower::implied_namespace(&name));
            facts.entry(Key::Namespace(name)).or_insert(implied);
        }
        facts.into_values().collect()
    }
}

/// What to say of an object that stands in a second place.
pub(super) fn duplicate(key: &Key, first: &Origin) -> String {
    format!("duplicate object: {key} already stands at {first}: keep one of them")
}
