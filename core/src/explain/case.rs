//! One connection, between two ends: whether policies allow it, and how each rule of each policy applies to it.

use super::difference::{PeerDifference, PortDifference};
use crate::model::{Direction, Peer, Peers, PodKey, Policy, PortMatch, Ports, Requirement, Rule};
use crate::net::{Family, PortRange, PortSet, Protocol, Verdict};
use std::net::IpAddr;
use std::sync::Arc;

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CaseEnd {
    /// A pod of the pod network.
    Pod {
        /// Which one.
        key: PodKey,
        /// Its address of the connection's family; `None` if no address of it is known.
        address: Option<IpAddr>,
    },
    /// A node, or a pod on its network.
    Node {
        /// The node's name; `None` for a pod of which the node is not known.
        name: Option<Arc<str>>,
        /// The address by which it speaks; `None` if it is not known.
        address: Option<IpAddr>,
    },
    /// An address of neither a pod nor a node that is known.
    Address(IpAddr),
}

impl CaseEnd {
    /// Its address, if it is known.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            CaseEnd::Pod { address, .. } | CaseEnd::Node { address, .. } => *address,
            CaseEnd::Address(address) => Some(*address),
        }
    }
}

/// The ports that a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AskedPort {
    /// Any port of any protocol.
    Any,
    /// Any port of a protocol.
    Of(Protocol),
    /// One port.
    One(Protocol, u16),
}

impl AskedPort {
    /// Those ports of a set that are asked about.
    pub(super) fn of_set(self, set: &PortSet) -> PortSet {
        match self {
            AskedPort::Any => set.clone(),
            AskedPort::Of(protocol) => set.intersection(&PortSet::of_protocol(protocol)),
            AskedPort::One(protocol, port) => {
                let one = PortRange::single(port).map(|range| PortSet::of(protocol, range));
                one.unwrap_or_default().intersection(set)
            }
        }
    }
}

/// A connection that is asked about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Case {
    /// What opens it.
    pub source: CaseEnd,
    /// What it is for, after the address of a Service was translated.
    pub destination: CaseEnd,
    /// Its family. Ends of which no address is known take part in either.
    pub family: Family,
    /// Its port, or which ports are of interest.
    pub port: AskedPort,
    /// Whether the ends are two pods of a workload even if they are the same one here, which then stands for both.
    pub replicas: bool,
}

/// The outcome of policies for a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseAnswer<'s> {
    /// The connection.
    pub case: Case,
    /// Those of the asked ports that both ends allow.
    pub allowed: PortSet,
    /// Whether both ends are at the same address: policies do not restrict a pod's traffic to itself.
    pub to_itself: bool,
    /// The ends whose policies apply: a pod for its egress if it is the source, for its ingress if it is the destination. Two
    /// pods of a direction hold one address.
    pub sides: Vec<SideAnswer<'s>>,
}

impl CaseAnswer<'_> {
    /// Whether the connection is allowed, on any of the asked ports.
    pub fn verdict(&self) -> Verdict {
        if self.allowed.is_empty() { Verdict::Denied } else { Verdict::Allowed }
    }
}

/// The outcome of the policies of one end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SideAnswer<'s> {
    /// The direction, seen from the pod.
    pub direction: Direction,
    /// The pod.
    pub subject: &'s PodKey,
    /// The pod's node is at the other end: policies do not restrict that.
    pub own_node: bool,
    /// The policies that isolate the pod in this direction. None: everything is allowed.
    pub policies: Vec<PolicyAnswer<'s>>,
    /// The audited policies that would isolate the pod in this direction. They are not enforced.
    pub audited: Vec<PolicyAnswer<'s>>,
    /// Whether the policies that are enforced allow an asked port, and would not together with the audited ones.
    pub would_deny: bool,
    /// Enforced policies of the namespace that concern this direction and miss the pod by one label.
    pub bystanders: Vec<Bystander<'s>>,
    /// The ports that the policies allow to the other end, whether they were asked about or not.
    pub opens: PortSet,
    /// Whether they allow an asked port.
    pub verdict: Verdict,
}

/// A policy that almost selects a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bystander<'s> {
    /// The policy.
    pub policy: &'s Policy,
    /// What its podSelector demands and the pod does not have.
    pub wanted: &'s Requirement,
}

/// The outcome of one policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyAnswer<'s> {
    /// The policy.
    pub policy: &'s Policy,
    /// Its rules of the direction.
    pub rules: Vec<RuleAnswer<'s>>,
}

impl PolicyAnswer<'_> {
    /// Whether one of its rules allows an asked port.
    pub fn allows(&self) -> bool {
        self.rules.iter().any(|rule| rule.allows)
    }
}

/// The outcome of one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleAnswer<'s> {
    /// The rule.
    pub rule: &'s Rule,
    /// Its peers, each with what it misses by; none if the rule allows every peer.
    pub peers: Vec<PeerAnswer<'s>>,
    /// Its ports, each with what it misses by; none if the rule allows every port.
    pub ports: Vec<PortAnswer<'s>>,
    /// The ports that its port list has, at this destination.
    pub opens: PortSet,
    /// Whether it allows an asked port.
    pub allows: bool,
}

impl RuleAnswer<'_> {
    /// Whether one of its peers is the other end.
    pub fn peer_matches(&self) -> bool {
        self.rule.peers == Peers::Anywhere || self.peers.iter().any(|peer| peer.differences.is_empty())
    }

    /// Whether its port list has an asked port.
    pub fn port_matches(&self) -> bool {
        self.rule.ports == Ports::All || self.ports.iter().any(|port| port.difference.is_none())
    }
}

/// Whether one peer of a rule matches the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAnswer<'s> {
    /// The peer.
    pub peer: &'s Peer,
    /// By what it misses; nothing if it is the other end.
    pub differences: Vec<PeerDifference>,
}

/// Whether one port of a rule matches the asked port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortAnswer<'s> {
    /// The port.
    pub port: &'s PortMatch,
    /// For a named port, the numbers that the destination declares under the name.
    pub declared: Vec<u16>,
    /// By what it misses; nothing if it is an asked port.
    pub difference: Option<PortDifference>,
}
