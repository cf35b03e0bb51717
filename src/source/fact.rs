//! The objects of manifests as facts that can be told apart, compared and told.

use super::lower;
use super::manifest::Manifests;
use super::problem::{Origin, Problem};
use crate::model::{Change, Namespace, NamespaceName, Pod, PodKey, Policy, PolicyKey};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// Who an object is, in the order in which objects are told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Namespace(NamespaceName),
    Pod(PodKey),
    Policy(PolicyKey),
}

impl Key {
    /// The namespace that the object lives in.
    pub(super) fn namespace(&self) -> Option<&NamespaceName> {
        match self {
            Key::Namespace(_) => None,
            Key::Pod(key) => Some(&key.namespace),
            Key::Policy(key) => Some(&key.namespace),
        }
    }

    /// The change that ends the object.
    pub(super) fn gone(self) -> Change {
        match self {
            Key::Namespace(name) => Change::NamespaceGone(name),
            Key::Pod(key) => Change::PodGone(key),
            Key::Policy(key) => Change::PolicyGone(key),
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
        }
    }
}

/// An object as it is, and where that is written.
pub(super) enum Fact<'a> {
    Namespace(&'a Namespace, &'a Origin),
    Pod(&'a Pod, &'a Origin),
    Policy(&'a Policy, &'a Origin),
    /// A namespace that is only spoken of.
    Implied(Namespace),
}

impl Fact<'_> {
    pub(super) fn origin(&self) -> Option<&Origin> {
        match self {
            Fact::Namespace(_, origin) | Fact::Pod(_, origin) | Fact::Policy(_, origin) => Some(origin),
            Fact::Implied(_) => None,
        }
    }

    pub(super) fn file(&self) -> Option<&Arc<str>> {
        self.origin().map(|origin| &origin.file)
    }

    /// The change that makes it known.
    pub(super) fn change(&self) -> Change {
        match self {
            Fact::Namespace(namespace, _) => Change::Namespace((*namespace).clone()),
            Fact::Implied(namespace) => Change::Namespace(namespace.clone()),
            Fact::Pod(pod, _) => Change::Pod((*pod).clone()),
            Fact::Policy(policy, _) => Change::Policy((*policy).clone()),
        }
    }

    /// Whether `change` has made it known.
    pub(super) fn is(&self, change: &Change) -> bool {
        match (self, change) {
            (Fact::Namespace(namespace, _), Change::Namespace(known)) => *namespace == known,
            (Fact::Implied(namespace), Change::Namespace(known)) => namespace == known,
            (Fact::Pod(pod, _), Change::Pod(known)) => *pod == known,
            (Fact::Policy(policy, _), Change::Policy(known)) => *policy == known,
            (Fact::Namespace(..) | Fact::Implied(_) | Fact::Pod(..) | Fact::Policy(..), _) => false,
        }
    }
}

impl Manifests {
    /// The changes that make everything known, namespaces that are only spoken of included: namespaces before pods
    /// before policies.
    pub fn changes(&self) -> Vec<Change> {
        let mut facts = self.facts().collect();
        imply_namespaces(&mut facts);
        facts.values().map(Fact::change).collect()
    }

    /// Every object, and who it is.
    pub(super) fn facts(&self) -> impl Iterator<Item = (Key, Fact<'_>)> {
        let namespaces = self.namespaces.iter().map(|object| {
            let fact = Fact::Namespace(&object.lowered, &object.origin);
            (Key::Namespace(object.lowered.name.clone()), fact)
        });
        let pods = self
            .pods
            .iter()
            .map(|object| (Key::Pod(object.lowered.key.clone()), Fact::Pod(&object.lowered, &object.origin)));
        let policies = self.policies.iter().map(|object| {
            (Key::Policy(object.lowered.key.clone()), Fact::Policy(&object.lowered, &object.origin))
        });
        namespaces.chain(pods).chain(policies)
    }
}

/// Adds the namespaces that are only spoken of.
pub(super) fn imply_namespaces(facts: &mut BTreeMap<Key, Fact<'_>>) {
    let spoken_of: BTreeSet<_> = facts.keys().filter_map(Key::namespace).cloned().collect();
    for name in spoken_of {
        let implied = Fact::Implied(lower::implied_namespace(&name));
        facts.entry(Key::Namespace(name)).or_insert(implied);
    }
}

/// The problem that `second` says again what `first` says.
pub(super) fn duplicate(key: &Key, first: &Fact<'_>, second: &Fact<'_>) -> Option<Problem> {
    let (first, second) = (first.origin()?, second.origin()?);
    let message = format!("duplicate object: {key} already stands at {first}: keep one of them");
    Some(Problem { line: second.line, column: second.column, ..Problem::of_file(&second.file, message) })
}
