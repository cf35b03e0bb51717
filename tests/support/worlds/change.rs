//! One fact of a story.

use super::Scene;
use bridgewarden::api::{Namespace, NetworkPolicy, ObjectMeta, Pod};
use bridgewarden::explain::oracle::World;
use bridgewarden::model::{LinkChange, Sandbox, SandboxKey};

/// One fact: an object as it is from here on, or that it is gone.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A namespace is there, like this.
    Namespace(Namespace),
    /// The namespace of this name is gone.
    NamespaceGone(String),
    /// A pod is there, like this.
    Pod(Pod),
    /// This pod is gone.
    PodGone {
        /// The namespace it lived in.
        namespace: String,
        /// Its name there.
        name: String,
    },
    /// A policy is there, like this.
    Policy(NetworkPolicy),
    /// This policy is gone.
    PolicyGone {
        /// The namespace it lived in.
        namespace: String,
        /// Its name there.
        name: String,
    },
    /// A sandbox is there on a node, like this.
    Sandbox(&'static str, Sandbox),
    /// This sandbox of a node is gone.
    SandboxGone(&'static str, SandboxKey),
    /// The bridge of a node or one of its ports is like this, or is gone.
    Link(&'static str, LinkChange),
}

impl Change {
    /// Makes it so.
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
