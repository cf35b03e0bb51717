//! The objects of manifests as facts that can be told apart, compared and told.

use crate::model::{Bridge, Change, LinkChange, NamespaceName, PodKey, PolicyKey, SandboxKey};
use std::fmt;

/// Who an object is, in the order in which objects are told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::source) enum Key {
    Namespace(NamespaceName),
    Pod(PodKey),
    Policy(PolicyKey),
    Sandbox(SandboxKey),
    Bridge,
    Port(u32),
}

impl Key {
    /// Who a fact is about.
    pub(in crate::source) fn of(fact: &Change) -> Key {
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
    pub(in crate::source) fn namespace(&self) -> Option<&NamespaceName> {
        match self {
            Key::Namespace(_) | Key::Sandbox(_) | Key::Bridge | Key::Port(_) => None,
            Key::Pod(key) => Some(&key.namespace),
            Key::Policy(key) => Some(&key.namespace),
        }
    }

    /// The same, to put an equal one in its place.
    pub(in crate::source) fn namespace_mut(&mut self) -> Option<&mut NamespaceName> {
        match self {
            Key::Namespace(_) | Key::Sandbox(_) | Key::Bridge | Key::Port(_) => None,
            Key::Pod(key) => Some(&mut key.namespace),
            Key::Policy(key) => Some(&mut key.namespace),
        }
    }

    /// The change that ends the object.
    pub(in crate::source) fn gone(self) -> Change {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_name_what_is_gone() {
        assert_eq!(
            Key::Namespace(NamespaceName::new("a")).gone(),
            Change::NamespaceGone(NamespaceName::new("a"))
        );
        assert_eq!(Key::Pod(PodKey::new("a", "b")).gone(), Change::PodGone(PodKey::new("a", "b")));
        assert_eq!(
            Key::Policy(PolicyKey::new("a", "b")).gone(),
            Change::PolicyGone(PolicyKey::new("a", "b"))
        );
    }
}
