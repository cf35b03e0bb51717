//! What a rule of a policy allows: peers and ports, and how many rules of the kernel they need.

use super::SetDefinition;
use crate::net::{Family, PortRange, Protocol};
use std::sync::Arc;

/// One alternative: a connection with one of these peers *and* one of these ports is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allow {
    /// The index of the rule in its policy's list, from 0.
    pub rule: usize,
    /// The peers.
    pub peers: AllowPeers,
    /// The ports.
    pub ports: AllowPorts,
}

impl Allow {
    /// About how many rules of the kernel it needs, in both families together.
    pub(super) fn rules(&self) -> usize {
        match &self.peers {
            AllowPeers::Anywhere => self.ports.ways(),
            AllowPeers::In(sets) => sets.iter().map(|set| families(set)).sum::<usize>() * self.ports.ways(),
        }
    }

    /// Its peers, or 1 if it allows all; 0 if it allows nothing.
    pub(super) fn parts(&self) -> usize {
        match (&self.peers, self.ports.is_empty()) {
            (_, true) => 0,
            (AllowPeers::Anywhere, false) => 1,
            (AllowPeers::In(sets), false) => sets.len(),
        }
    }

    /// Keeps of its peers those for which enough rules are left.
    pub(super) fn keep_rules(&mut self, left: &mut usize) {
        let ways = self.ports.ways();
        let mut is_kept = |rules: usize| {
            let less = left.checked_sub(rules);
            *left = less.unwrap_or(*left);
            less.is_some()
        };
        match &mut self.peers {
            AllowPeers::Anywhere if is_kept(ways) => {}
            AllowPeers::Anywhere => self.peers = AllowPeers::In(Vec::new()),
            AllowPeers::In(sets) => sets.retain(|set| is_kept(families(set) * ways)),
        }
    }

    pub(super) fn sets(&self) -> impl Iterator<Item = &Arc<SetDefinition>> {
        let peers = match &self.peers {
            AllowPeers::Anywhere => &[],
            AllowPeers::In(sets) => sets.as_slice(),
        };
        let ports = match &self.ports {
            AllowPorts::All => &[],
            AllowPorts::Any(ports) => ports.as_slice(),
        };
        peers.iter().chain(ports.iter().filter_map(AllowPort::set))
    }
}

/// How many families a set has addresses of.
fn families(set: &SetDefinition) -> usize {
    Family::BOTH.into_iter().filter(|family| set.has_family(*family)).count()
}

/// The peers of an alternative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowPeers {
    /// Every address.
    Anywhere,
    /// An address in any of these sets; never empty.
    In(Vec<Arc<SetDefinition>>),
}

impl AllowPeers {
    pub(super) fn is_empty(&self) -> bool {
        match self {
            AllowPeers::Anywhere => false,
            AllowPeers::In(sets) => sets.is_empty(),
        }
    }
}

/// The ports of an alternative.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AllowPorts {
    /// Every port of every protocol.
    All,
    /// Any of these; never empty.
    Any(Vec<AllowPort>),
}

/// The minimum number of port ranges that fit into a rule of the kernel.
const RANGES_OF_A_RULE: usize = 7;

impl AllowPorts {
    /// The approximate number of kernel rules that match them.
    pub(super) fn ways(&self) -> usize {
        let AllowPorts::Any(ports) = self else { return 1 };
        let ways = ports.iter().map(|port| match port {
            AllowPort::Protocol(_) | AllowPort::Named(..) => 1,
            AllowPort::Numbered(_, ranges) => ranges.len().div_ceil(RANGES_OF_A_RULE),
        });
        ways.sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            AllowPorts::All => false,
            AllowPorts::Any(ports) => ports.is_empty(),
        }
    }
}

/// One kind of port of an alternative.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AllowPort {
    /// Every port of a protocol.
    Protocol(Protocol),
    /// These ports of a protocol: in order, apart from each other, never empty.
    Numbered(Protocol, Vec<PortRange>),
    /// The ports in a set of named ports.
    Named(Protocol, Arc<SetDefinition>),
}

impl AllowPort {
    /// The set that it refers to.
    pub(super) fn set(&self) -> Option<&Arc<SetDefinition>> {
        match self {
            AllowPort::Protocol(_) | AllowPort::Numbered(..) => None,
            AllowPort::Named(_, set) => Some(set),
        }
    }
}
