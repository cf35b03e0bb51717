//! One fact of a story.

use super::Scene;
use bridgewarden::api::{Namespace, NetworkPolicy, ObjectMeta, Pod};
use bridgewarden::explain::oracle::World;
use bridgewarden::model::{LinkChange, Sandbox, SandboxKey};

/// One fact: the new state of an object, or its removal.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The new state of a namespace.
    Namespace(Namespace),
    /// The namespace of this name is deleted.
    NamespaceGone(String),
    /// The new state of a pod.
    Pod(Pod),
    /// A pod is deleted.
    PodGone {
        /// Its namespace.
        namespace: String,
        /// Its name in the namespace.
        name: String,
    },
    /// The new state of a policy.
    Policy(NetworkPolicy),
    /// A policy is deleted.
    PolicyGone {
        /// Its namespace.
        namespace: String,
        /// Its name in the namespace.
        name: String,
    },
    /// The new state of a sandbox on a node.
    Sandbox(&'static str, Sandbox),
    /// A sandbox of a node is removed.
    SandboxGone(&'static str, SandboxKey),
    /// The new state of a node's bridge or of one of its ports, or the removal of a port.
    Link(&'static str, LinkChange),
}

impl Change {
    /// Applies the change to a scene.
    pub fn apply(&self, scene: &mut Scene) {
        let Scene { world: World { namespaces, pods, policies }, sandboxes, bridges, ports } = scene;
        match self {
            Change::Namespace(namespace) => put(namespaces, namespace, |namespace| &namespace.metadata),
            Change::NamespaceGone(name) => namespaces.retain(|namespace| namespace.metadata.name != *name),
            Change::Pod(pod) => put(pods, pod, |pod| &pod.metadata),
            Change::PodGone { namespace, name } => pods.retain(|pod| !is(&pod.metadata, namespace, name)),
            Change::Policy(policy) => put(policies, policy, |policy| &policy.metadata),
            Change::PolicyGone { namespace, name } => {
                policies.retain(|policy| !is(&policy.metadata, namespace, name));
            }
            Change::Sandbox(node, sandbox) => {
                sandboxes.entry(node).or_default().insert(sandbox.key.clone(), sandbox.clone());
            }
            Change::SandboxGone(node, key) => {
                sandboxes.entry(node).or_default().remove(key);
            }
            Change::Link(node, LinkChange::Bridge(bridge)) => drop(bridges.insert(node, bridge.clone())),
            Change::Link(node, LinkChange::Port(port)) => {
                ports.entry(node).or_default().insert(port.index, port.clone());
            }
            Change::Link(node, LinkChange::PortGone(index)) => {
                ports.entry(node).or_default().remove(index);
            }
        }
    }
}

fn put<T: Clone>(objects: &mut Vec<T>, object: &T, metadata: impl Fn(&T) -> &ObjectMeta) {
    let own = metadata(object);
    let same = |other: &ObjectMeta| other.namespace == own.namespace && other.name == own.name;
    match objects.iter_mut().find(|other| same(metadata(other))) {
        Some(other) => *other = object.clone(),
        None => objects.push(object.clone()),
    }
}

fn is(metadata: &ObjectMeta, namespace: &str, name: &str) -> bool {
    metadata.namespace.as_deref() == Some(namespace) && metadata.name == name
}
