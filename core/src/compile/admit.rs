//! Asks the plan about one connection: would its first packet be allowed here?

use super::{Allow, AllowPeers, AllowPort, AllowPorts, Definition, Member, Plan, PolicyBlock, Subject};
use crate::model::{Cluster, Direction};
use crate::net::Protocol;
use std::net::IpAddr;

/// A connection, by its first packet as the FORWARD hook sees it: after destination NAT, before source NAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Who opens it.
    pub source: IpAddr,
    /// Who is to answer.
    pub destination: IpAddr,
    /// The protocol and destination port; `None` for a protocol without ports.
    pub port: Option<(Protocol, u16)>,
}

impl Plan {
    /// Whether this node's policies allow a connection, in both directions.
    ///
    /// A node's own traffic to its pods never comes to this question: it is allowed elsewhere.
    pub fn admits(&self, cluster: &Cluster, flow: &Flow) -> bool {
        flow.source == flow.destination
            || Direction::BOTH.into_iter().all(|direction| self.admits_in(cluster, direction, flow))
    }

    /// Whether this node's policies allow a connection in one direction.
    pub fn admits_in(&self, cluster: &Cluster, direction: Direction, flow: &Flow) -> bool {
        let (subject, peer) = match direction {
            Direction::Ingress => (flow.destination, flow.source),
            Direction::Egress => (flow.source, flow.destination),
        };
        self.isolated_at(direction, subject)
            .all(|subject| self.guard_admits(cluster, direction, subject, peer, flow))
    }

    fn guard_admits(
        &self,
        cluster: &Cluster,
        direction: Direction,
        subject: &Subject,
        peer: IpAddr,
        flow: &Flow,
    ) -> bool {
        let policies = self.guards().get(subject).and_then(|guard| guard.policies(direction));
        let keys = policies.into_iter().flatten();
        let mut allows = keys
            .filter_map(|key| self.policies().get(key))
            .flat_map(|block: &PolicyBlock| block.allows(direction).unwrap_or_default());
        allows.any(|allow| self.allow_admits(cluster, allow, peer, flow))
    }

    fn allow_admits(&self, cluster: &Cluster, allow: &Allow, peer: IpAddr, flow: &Flow) -> bool {
        let peers = match &allow.peers {
            AllowPeers::Anywhere => true,
            AllowPeers::In(sets) => sets.iter().any(|set| self.holds_peer(cluster, set, peer)),
        };
        let ports = match &allow.ports {
            AllowPorts::All => true,
            AllowPorts::Any(ports) => ports.iter().any(|port| self.port_admits(cluster, port, flow)),
        };
        peers && ports
    }

    fn holds_peer(&self, cluster: &Cluster, set: &Definition, peer: IpAddr) -> bool {
        match set {
            Definition::Blocks(blocks) => blocks.iter().any(|block| {
                block.cidr.contains(&peer) && !block.except.iter().any(|except| except.contains(&peer))
            }),
            Definition::Pods { .. } | Definition::AnyOf(_) | Definition::NamedPort { .. } => {
                self.contains(cluster, set, Member::Address(peer))
            }
        }
    }

    fn port_admits(&self, cluster: &Cluster, port: &AllowPort, flow: &Flow) -> bool {
        let Some((protocol, number)) = flow.port else { return false };
        match port {
            AllowPort::Protocol(wanted) => protocol == *wanted,
            AllowPort::Numbered(wanted, ranges) => {
                protocol == *wanted && ranges.iter().any(|range| range.contains(number))
            }
            AllowPort::Named(wanted, set) => {
                protocol == *wanted
                    && self.contains(cluster, set, Member::Port(flow.destination, protocol, number))
            }
        }
    }
}
