//! NetworkPolicies, with every default of the API filled in.

use super::{AuditLabel, PolicyKey, Selector};
use crate::net::{Flow, IpNet, PortRange, Protocol};
use std::fmt;
use std::net::IpAddr;

/// The direction of a connection, seen from the pod that a policy selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// To the pod.
    Ingress,
    /// From the pod.
    Egress,
}

impl Direction {
    /// Both directions, egress first: the order in which a packet is evaluated.
    pub const BOTH: [Direction; 2] = [Direction::Egress, Direction::Ingress];

    /// The end of a connection that is isolated by policies of this direction.
    pub fn own_end(self, flow: &Flow) -> IpAddr {
        match self {
            Direction::Ingress => flow.destination,
            Direction::Egress => flow.source,
        }
    }

    /// The direction in which the other end of a connection is isolated.
    pub fn opposite(self) -> Direction {
        match self {
            Direction::Ingress => Direction::Egress,
            Direction::Egress => Direction::Ingress,
        }
    }

    /// The other end, which the rules of such policies match as the peer.
    pub fn peer_end(self, flow: &Flow) -> IpAddr {
        match self {
            Direction::Ingress => flow.source,
            Direction::Egress => flow.destination,
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        })
    }
}

/// One NetworkPolicy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    /// Its identity.
    pub key: PolicyKey,
    /// Its uid (metadata.uid), which distinguishes policies that have the same name one after the other; a manifest
    /// need not have one.
    pub uid: Option<Box<str>>,
    /// Which state of the object this is. Two states may mean the same.
    pub version: PolicyVersion,
    /// The pods of its namespace that it isolates (spec.podSelector).
    pub subject: Selector,
    /// The rules for connections to them; `None` if the policy does not isolate for ingress.
    pub ingress: Option<Vec<Rule>>,
    /// The rules for connections from them; `None` if the policy does not isolate for egress.
    pub egress: Option<Vec<Rule>>,
    /// Its invalid parts. Each allows nothing.
    pub invalid_parts: Vec<InvalidPart>,
    /// What its own label says; its namespace's may audit it as well ([`Cluster::is_audited`](super::Cluster::is_audited)).
    pub audit: AuditLabel,
}

impl Policy {
    /// The rules of a direction; `None` if the policy does not isolate in it.
    pub fn rules(&self, direction: Direction) -> Option<&[Rule]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }
}

/// Which state of a policy's object was read; a manifest need not say it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PolicyVersion {
    /// metadata.generation, which grows with each change of the specification.
    pub generation: Option<i64>,
    /// metadata.resourceVersion, which is another one after each change of the object. It has no order.
    pub resource: Option<Box<str>>,
}

/// One rule: it allows a connection that matches one of its peers *and* one of its ports.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Its index in the policy's list, from 0; invalid rules before it are counted.
    pub index: usize,
    /// The peers at the other end.
    pub peers: Peers,
    /// The destination ports.
    pub ports: Ports,
}

/// The peers that a rule allows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Peers {
    /// Every address: the rule lists no peers.
    Anywhere,
    /// Any of these. An empty list, which results if every part was invalid, allows no peer.
    Listed(Vec<Peer>),
}

/// One peer (NetworkPolicyPeer).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Pods, selected by labels.
    Pods {
        /// The namespaces in which pods are selected.
        namespaces: NamespaceScope,
        /// Which pods of these namespaces.
        pods: Selector,
    },
    /// A block of addresses.
    Block(Block),
}

/// The namespaces in which a peer selects pods.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NamespaceScope {
    /// The policy's own namespace: the peer has no namespaceSelector.
    Own,
    /// The namespaces whose labels match.
    Matching(Selector),
}

/// An address prefix with exceptions (IPBlock).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block {
    /// The prefix, host bits cleared.
    pub cidr: IpNet,
    /// Excluded prefixes, which lie strictly inside `cidr`, with host bits cleared.
    pub except: Vec<IpNet>,
}

impl Block {
    /// Whether an address is in the prefix and in no exception.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.cidr.contains(&address) && !self.except.iter().any(|except| except.contains(&address))
    }
}

/// The ports that a rule allows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ports {
    /// Every port of every protocol: the rule lists no ports.
    All,
    /// Any of these. An empty list, which results if every part was invalid, allows no port.
    Listed(Vec<PortMatch>),
}

/// One port (NetworkPolicyPort).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortMatch {
    /// Every port of a protocol.
    Protocol(Protocol),
    /// Numbered ports.
    Numbered(Protocol, PortRange),
    /// The ports that the destination pod declares under this name.
    Named(Protocol, Box<str>),
}

/// An invalid part of a policy, which allows nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InvalidPart {
    /// Its path from the policy's root: `spec.ingress[0].ports[1].port`.
    pub path: String,
    /// A short, fixed word for metrics, such as `bad_cidr`.
    pub reason: &'static str,
    /// What is wrong and what to do, in words.
    pub message: String,
}

impl fmt::Display for InvalidPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}
