//! What a NetworkPolicy demands, with every default of the API filled in.

use super::{PolicyKey, Selector};
use crate::net::{Flow, IpNet, PortRange, Protocol};
use std::fmt;
use std::net::IpAddr;

/// Which way a connection goes, seen from the pod that a policy selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// To the pod.
    Ingress,
    /// From the pod.
    Egress,
}

impl Direction {
    /// Both directions, egress first: the order in which a packet meets them.
    pub const BOTH: [Direction; 2] = [Direction::Egress, Direction::Ingress];

    /// The end of a connection that policies of this direction isolate.
    pub fn own_end(self, flow: &Flow) -> IpAddr {
        match self {
            Direction::Ingress => flow.destination,
            Direction::Egress => flow.source,
        }
    }

    /// The end that is the peer of such a policy's rules.
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

/// What one NetworkPolicy demands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    /// Which one.
    pub key: PolicyKey,
    /// Which of those that had this name over time (metadata.uid); a manifest need not say.
    pub uid: Option<Box<str>>,
    /// Which pods of its namespace it isolates (spec.podSelector).
    pub subject: Selector,
    /// What may reach them; `None` when the policy says nothing about ingress.
    pub ingress: Option<Vec<Rule>>,
    /// What they may reach; `None` when the policy says nothing about egress.
    pub egress: Option<Vec<Rule>>,
    /// Its invalid parts. Each allows nothing.
    pub invalid_parts: Vec<InvalidPart>,
}

impl Policy {
    /// The rules of a direction; `None` when the policy does not isolate in it.
    pub fn rules(&self, direction: Direction) -> Option<&[Rule]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }
}

/// One rule: it allows a connection that matches one of its peers *and* one of its ports.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Its place in the policy's list, from 0; parts refused before it still count.
    pub index: usize,
    /// Who is at the other end.
    pub peers: Peers,
    /// Which ports.
    pub ports: Ports,
}

/// The other ends that a rule allows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Peers {
    /// Every address: the rule lists no peers.
    Anywhere,
    /// Any of these. Empty, because every part was refused, is nobody.
    Listed(Vec<Peer>),
}

/// One peer (NetworkPolicyPeer).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Pods by labels.
    Pods {
        /// In which namespaces.
        namespaces: NamespaceScope,
        /// Which of their pods.
        pods: Selector,
    },
    /// Addresses.
    Block(Block),
}

/// The namespaces in which a peer looks for pods.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NamespaceScope {
    /// The policy's own: no namespaceSelector was given.
    Own,
    /// Those whose labels match.
    Matching(Selector),
}

/// An address prefix with exceptions (IPBlock).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block {
    /// The prefix, host bits cleared.
    pub cidr: IpNet,
    /// What it leaves out: prefixes strictly inside `cidr`, host bits cleared.
    pub except: Vec<IpNet>,
}

/// The ports that a rule allows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ports {
    /// Every port of every protocol: the rule lists no ports.
    All,
    /// Any of these. Empty, because every part was refused, is none.
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
    /// Where, as a path from the policy: `spec.ingress[0].ports[1].port`.
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
