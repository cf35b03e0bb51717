//! Sets of addresses that rules share: their definition and their members.

use crate::model::{Block, Group, NamespaceName, Selector};
use crate::net::{Family, Protocol};
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

/// The definition of a shared set. Rules with equal definitions share one set; a set's definition never changes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SetDefinition {
    /// The addresses of the pods that a peer selects.
    Pods {
        /// The namespaces in which pods are selected.
        namespaces: Scope,
        /// Which of their pods.
        pods: Selector,
    },
    /// The addresses of the pods that any of many peers selects: one set, because a set for each peer would be too
    /// many.
    AnyOf(Union),
    /// The addresses and ports of all pods that declare a port under this name.
    NamedPort {
        /// The name.
        name: Box<str>,
        /// The protocol.
        protocol: Protocol,
    },
    /// The addresses of these blocks: either one block with exceptions, or any number without, because an exception
    /// must not apply to another block.
    Blocks(Vec<Block>),
}

/// The namespaces of a peer, with the policy's own by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// One namespace.
    One(NamespaceName),
    /// Those whose labels match.
    Matching(Selector),
}

/// One peer that selects pods.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodPeer {
    /// The namespaces in which pods are selected.
    pub namespaces: Scope,
    /// Which of their pods.
    pub pods: Selector,
}

/// Many peers, in order and without duplicates. There may be thousands, so they are compared by a digest first, and not
/// at all with themselves.
#[derive(Clone, Debug)]
pub struct Union {
    digest: u64,
    peers: Arc<[PodPeer]>,
}

impl Union {
    /// The union of these peers.
    pub fn new(peers: BTreeSet<PodPeer>) -> Union {
        let mut hasher = DefaultHasher::new();
        peers.hash(&mut hasher);
        Union { digest: hasher.finish(), peers: peers.into_iter().collect() }
    }

    /// Its peers, in order.
    pub fn peers(&self) -> &[PodPeer] {
        &self.peers
    }
}

impl PartialEq for Union {
    fn eq(&self, other: &Union) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Union {}

impl PartialOrd for Union {
    fn partial_cmp(&self, other: &Union) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Union {
    fn cmp(&self, other: &Union) -> Ordering {
        self.digest.cmp(&other.digest).then_with(|| {
            if Arc::ptr_eq(&self.peers, &other.peers) {
                Ordering::Equal
            } else {
                self.peers.cmp(&other.peers)
            }
        })
    }
}

impl Hash for Union {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

impl SetDefinition {
    /// Whether the set can contain an address of this family.
    pub fn has_family(&self, family: Family) -> bool {
        match self {
            SetDefinition::Pods { .. } | SetDefinition::AnyOf(_) | SetDefinition::NamedPort { .. } => true,
            SetDefinition::Blocks(blocks) => blocks.iter().any(|block| Family::of_net(block.cidr) == family),
        }
    }

    /// What a pod of `group` with `address` adds to the set, if the group feeds the set.
    pub fn members(&self, group: &Group, address: IpAddr) -> Vec<Member> {
        match self {
            SetDefinition::Pods { .. } | SetDefinition::AnyOf(_) => vec![Member::Address(address)],
            SetDefinition::NamedPort { name, protocol } => {
                let ports =
                    group.ports.iter().filter(|port| port.name == *name && port.protocol == *protocol);
                ports.map(|port| Member::Port(address, *protocol, port.port)).collect()
            }
            SetDefinition::Blocks(_) => Vec::new(),
        }
    }
}

/// A member of a set of pods or of named ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Member {
    /// A pod's address.
    Address(IpAddr),
    /// A pod's address with one of its ports.
    Port(IpAddr, Protocol, u16),
}

impl Member {
    /// The address.
    pub fn address(self) -> IpAddr {
        match self {
            Member::Address(address) | Member::Port(address, ..) => address,
        }
    }
}
