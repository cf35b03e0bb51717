//! The identity of what a change is about.

use crate::model::{Bridge, Change, LinkChange, NamespaceName, PodKey, PolicyKey, SandboxKey};
use std::fmt;

/// The identity of an object, sandbox or link. Its order is that in which changes are reported.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::source) enum ObjectKey {
    Namespace(NamespaceName),
    Pod(PodKey),
    Policy(PolicyKey),
    Sandbox(SandboxKey),
    Bridge,
    Port(u32),
}

impl ObjectKey {
    /// What a change is about.
    pub(in crate::source) fn of(change: &Change) -> ObjectKey {
        match change {
            Change::Namespace(namespace) => ObjectKey::Namespace(namespace.name.clone()),
            Change::NamespaceUnreadable(name) | Change::NamespaceGone(name) => {
                ObjectKey::Namespace(name.clone())
            }
            Change::Pod(pod) => ObjectKey::Pod(pod.key.clone()),
            Change::PodUnreadable(pod) => ObjectKey::Pod(pod.key.clone()),
            Change::PodGone(key) => ObjectKey::Pod(key.clone()),
            Change::Policy(policy) => ObjectKey::Policy(policy.key.clone()),
            Change::PolicyGone(key) => ObjectKey::Policy(key.clone()),
            Change::Sandbox(sandbox) => ObjectKey::Sandbox(sandbox.key.clone()),
            Change::SandboxGone(key) => ObjectKey::Sandbox(key.clone()),
            Change::Link(LinkChange::Bridge(_)) => ObjectKey::Bridge,
            Change::Link(LinkChange::Port(port)) => ObjectKey::Port(port.index),
            Change::Link(LinkChange::PortGone(index)) => ObjectKey::Port(*index),
        }
    }

    /// The namespace of the object.
    pub(in crate::source) fn namespace(&self) -> Option<&NamespaceName> {
        match self {
            ObjectKey::Namespace(_) | ObjectKey::Sandbox(_) | ObjectKey::Bridge | ObjectKey::Port(_) => None,
            ObjectKey::Pod(key) => Some(&key.namespace),
            ObjectKey::Policy(key) => Some(&key.namespace),
        }
    }

    /// The same, to replace it by an equal name.
    pub(in crate::source) fn namespace_mut(&mut self) -> Option<&mut NamespaceName> {
        match self {
            ObjectKey::Namespace(_) | ObjectKey::Sandbox(_) | ObjectKey::Bridge | ObjectKey::Port(_) => None,
            ObjectKey::Pod(key) => Some(&mut key.namespace),
            ObjectKey::Policy(key) => Some(&mut key.namespace),
        }
    }

    /// The change that the object is deleted.
    pub(in crate::source) fn deleted(self) -> Change {
        match self {
            ObjectKey::Namespace(name) => Change::NamespaceGone(name),
            ObjectKey::Pod(key) => Change::PodGone(key),
            ObjectKey::Policy(key) => Change::PolicyGone(key),
            ObjectKey::Sandbox(key) => Change::SandboxGone(key),
            ObjectKey::Bridge => Change::Link(LinkChange::Bridge(Bridge::default())),
            ObjectKey::Port(index) => Change::Link(LinkChange::PortGone(index)),
        }
    }
}

impl fmt::Display for ObjectKey {
    /// `Pod shop/web`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ObjectKey::Namespace(name) => write!(f, "Namespace {name}"),
            ObjectKey::Pod(key) => write!(f, "Pod {key}"),
            ObjectKey::Policy(key) => write!(f, "NetworkPolicy {key}"),
            ObjectKey::Sandbox(key) => write!(f, "{key}"),
            ObjectKey::Bridge => f.write_str("bridge"),
            ObjectKey::Port(index) => write!(f, "bridge port {index}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deletion_names_the_same_object() {
        assert_eq!(
            ObjectKey::Namespace(NamespaceName::new("a")).deleted(),
            Change::NamespaceGone(NamespaceName::new("a"))
        );
        assert_eq!(ObjectKey::Pod(PodKey::new("a", "b")).deleted(), Change::PodGone(PodKey::new("a", "b")));
        assert_eq!(
            ObjectKey::Policy(PolicyKey::new("a", "b")).deleted(),
            Change::PolicyGone(PolicyKey::new("a", "b"))
        );
    }
}
