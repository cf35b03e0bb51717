//! What policies need to know of a pod, a namespace, and how facts about them arrive.

use super::{Labels, LinkChange, NamespaceName, Owner, PodKey, Policy, PolicyKey, Sandbox, SandboxKey};
use crate::net::Protocol;
use std::net::IpAddr;
use std::sync::Arc;

/// A pod that can be a policy's subject or peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pod {
    /// Which one.
    pub key: PodKey,
    /// By which its node's container runtime tells it from others of its name; `None` when that is not known.
    pub uid: Option<Arc<str>>,
    /// The node it was scheduled to (spec.nodeName).
    pub node: Option<Arc<str>>,
    /// What made it.
    pub owner: Option<Arc<Owner>>,
    /// Its labels.
    pub labels: Labels,
    /// The ports its running containers declare with a name.
    pub ports: Vec<NamedPort>,
    /// Whether it can have addresses of its own. One that shares its node's network (spec.hostNetwork) cannot, and is
    /// neither guarded nor a peer: the addresses that its object gives are its node's.
    pub networked: bool,
    /// Whether its containers have ended for good (status.phase `Succeeded` or `Failed`). It is no peer any more, and the
    /// addresses that its object gives may be another pod's; it is guarded where a sandbox of it still stands.
    pub finished: bool,
    /// Its addresses as its object gives them, each once. Empty for a pod that has none, or none yet.
    pub addresses: Vec<IpAddr>,
}

impl Pod {
    /// A pod of the pod network of which nothing else is known.
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

/// A pod whose object cannot be understood: which policies apply to it is not known, so it is nobody's peer, and on its
/// own node it is an unknown pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UnreadablePod {
    /// Which one.
    pub key: PodKey,
    /// The node it was scheduled to; `None` if that cannot be read either, so that it may be any node.
    pub node: Option<Arc<str>>,
    /// Those of its addresses that can be read. None for a pod that shares its node's network, or may.
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
    /// Which one.
    pub name: NamespaceName,
    /// Its labels, `kubernetes.io/metadata.name` among them.
    pub labels: Labels,
    /// Whether it is being deleted: its policies may go before its pods do, and the pods stay guarded.
    pub terminating: bool,
}

/// One fact from a source: an object as it is now, or that it is gone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// A namespace is there, like this.
    Namespace(Namespace),
    /// A namespace is there, and nothing that its object says of it is known: it has no labels but its name.
    NamespaceUnreadable(NamespaceName),
    /// A namespace is gone.
    NamespaceGone(NamespaceName),
    /// A pod is there, like this.
    Pod(Pod),
    /// A pod is there, and what its object says cannot be understood.
    PodUnreadable(UnreadablePod),
    /// A pod is gone.
    PodGone(PodKey),
    /// A policy is there, like this.
    Policy(Policy),
    /// A policy is gone.
    PolicyGone(PolicyKey),
    /// A sandbox of this node is there, like this.
    Sandbox(Sandbox),
    /// A sandbox of this node is gone.
    SandboxGone(SandboxKey),
    /// The bridge that this node's pods sit on changed.
    Link(LinkChange),
}
