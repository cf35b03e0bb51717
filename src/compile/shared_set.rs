//! Sets of addresses that rules share: what defines one, and what it holds.

use crate::model::{Block, Group, NamespaceName, Selector};
use crate::net::{Family, Protocol};
use std::net::IpAddr;

/// What a shared set is. Two rules that ask the same share one set; a set's definition never changes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Definition {
    /// The addresses of the pods that a peer selects.
    Pods {
        /// In which namespaces.
        namespaces: Scope,
        /// Which of their pods.
        pods: Selector,
    },
    /// The addresses and ports of all pods that declare a port under this name.
    NamedPort {
        /// The name.
        name: Box<str>,
        /// The protocol.
        protocol: Protocol,
    },
    /// The addresses of these blocks. Either one block with exceptions, or any number without: an exception must
    /// not take from another block.
    Blocks(Vec<Block>),
}

/// The namespaces of a peer, with the policy's own spelled out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// One namespace.
    One(NamespaceName),
    /// Those whose labels match.
    Matching(Selector),
}

impl Definition {
    /// Whether the set could ever hold an address of this family.
    pub fn has_family(&self, family: Family) -> bool {
        match self {
            Definition::Pods { .. } | Definition::NamedPort { .. } => true,
            Definition::Blocks(blocks) => blocks.iter().any(|block| Family::of_net(block.cidr) == family),
        }
    }

    /// What a pod of `group` at `address` brings into the set, once the set takes from the group.
    pub fn members(&self, group: &Group, address: IpAddr) -> Vec<Member> {
        match self {
            Definition::Pods { .. } => vec![Member::Address(address)],
            Definition::NamedPort { name, protocol } => {
                let ports =
                    group.ports.iter().filter(|port| port.name == *name && port.protocol == *protocol);
                ports.map(|port| Member::Port(address, *protocol, port.port)).collect()
            }
            Definition::Blocks(_) => Vec::new(),
        }
    }
}

/// One thing that a set of pods or of named ports holds.
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
