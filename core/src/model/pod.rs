//! Pods and namespaces as far as policies depend on them, and the changes of all facts.

use super::{Labels, LinkChange, NamespaceName, Owner, PodKey, Policy, PolicyKey, Sandbox, SandboxKey};
use crate::net::Protocol;
use std::net::IpAddr;
use std::sync::Arc;

/// A pod that can be a policy's subject or peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pod {
    /// Its identity.
    pub key: PodKey,
    /// The uid by which the container runtime distinguishes it from other pods of the same name; `None` if it is not
    /// known.
    pub uid: Option<Arc<str>>,
    /// The node it was scheduled to (spec.nodeName).
    pub node: Option<Arc<str>>,
    /// The object that controls it.
    pub owner: Option<Arc<Owner>>,
    /// Its labels.
    pub labels: Labels,
    /// The ports its running containers declare with a name.
    pub ports: Vec<NamedPort>,
    /// Whether it can have addresses of its own. A pod that shares its node's network (spec.hostNetwork) cannot: its
    /// object states the node's addresses, and it is neither isolated nor a peer.
    pub networked: bool,
    /// Whether its containers have ended for good (status.phase `Succeeded` or `Failed`). Such a pod is no peer any
    /// more, and the addresses that its object states may belong to another pod; it stays isolated where it still has a
    /// sandbox.
    pub finished: bool,
    /// The addresses that its object states, without duplicates. Empty for a pod that has none, or none yet.
    pub addresses: Vec<IpAddr>,
}

impl Pod {
    /// A pod with its own network of which nothing else is known.
    pub fn new(key: PodKey) -> Pod {
        Pod {
            key,
            uid: None,
            node: None,
            owner: None,
            labels: Labels::default(),
            ports: Vec::new(),
            networked: true,
            finished: false,
            addresses: Vec::new(),
        }
    }
}

/// A pod whose object cannot be understood. Which policies select it is not known, so it is no peer, and on its own
/// node it is an unknown pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UnreadablePod {
    /// Its identity.
    pub key: PodKey,
    /// metadata.uid, if it can be read.
    pub uid: Option<Arc<str>>,
    /// The node to which it was scheduled; `None` if that cannot be read either, so that it may be any node.
    pub node: Option<Arc<str>>,
    /// Those of its addresses that can be read. Empty for a pod that shares its node's network, or may share it.
    pub addresses: Vec<IpAddr>,
}

/// A container port with a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamedPort {
    /// The name.
    pub name: Box<str>,
    /// The protocol.
    pub protocol: Protocol,
    /// The number, 1 to 65535.
    pub port: u16,
}

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Namespace {
    /// Its name.
    pub name: NamespaceName,
    /// Its labels, including `kubernetes.io/metadata.name`.
    pub labels: Labels,
    /// Whether it is being deleted: its policies may be deleted before its pods, and the pods stay isolated.
    pub terminating: bool,
}

/// One fact from a source: the current state of an object, or its removal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// The current state of a namespace.
    Namespace(Namespace),
    /// A namespace exists, but its object cannot be understood: only its name is known.
    NamespaceUnreadable(NamespaceName),
    /// A namespace was deleted.
    NamespaceGone(NamespaceName),
    /// The current state of a pod.
    Pod(Pod),
    /// A pod exists, but its object cannot be understood.
    PodUnreadable(UnreadablePod),
    /// A pod was deleted.
    PodGone(PodKey),
    /// The current state of a policy.
    Policy(Policy),
    /// A policy was deleted.
    PolicyGone(PolicyKey),
    /// The current state of a sandbox of this node.
    Sandbox(Sandbox),
    /// A sandbox of this node was removed.
    SandboxGone(SandboxKey),
    /// A change of the bridge to which this node's pods are attached.
    Link(LinkChange),
}
