//! The policies and rules that decide about an address of this node in one direction, and which peers they can distinguish.

use super::ports::PortClasses;
use super::question::{Question, Way};
use super::{AskedFacts, Expectation, KernelRules};
use crate::model::{Direction, PortMatch, Ports};
use crate::net::Protocol;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// An address of a pod of this node, with what decides about it in one direction.
pub(super) struct Side {
    pub(super) own: IpAddr,
    pub(super) direction: Direction,
    pub(super) facts: AskedFacts,
    /// The policies that isolate its pods.
    pub(super) policies: Vec<Option<Vec<usize>>>,
    pub(super) ports: PortClasses,
    /// Sides with the same number get the same decisions.
    pub(super) kind: usize,
    pub(super) is_first_of_kind: bool,
}

/// What distinguishes two peers for a side.
type PeerSigns = (Vec<bool>, Vec<(usize, Protocol, u16)>);

/// A peer of each class that a side can distinguish.
pub(super) struct DistinctPeer {
    pub(super) first: IpAddr,
    /// Another one of the class, in case that the first is the address itself.
    pub(super) second: Option<IpAddr>,
    /// Whether this side can distinguish it from each one before it, whatever the peer's own policies say.
    pub(super) is_new: bool,
}

/// What was read and what must hold, to be asked about sides.
pub(super) struct Sides<'a> {
    pub(super) expectation: &'a Expectation,
    pub(super) rules: &'a KernelRules<'a>,
}

impl Sides<'_> {
    /// The sides of these addresses.
    pub(super) fn sides(&self, addresses: &[IpAddr]) -> BTreeMap<(IpAddr, Direction), Side> {
        let mut kinds = BTreeMap::new();
        let mut sides = BTreeMap::new();
        for &own in addresses {
            for direction in Direction::BOTH {
                let facts = self.rules.asked(direction, own);
                let policies = self.expectation.profile(direction, own);
                let rules = self.expectation.rules_of(direction, &policies);
                let mut ports = PortClasses::of(rules.iter().map(|(_, rule)| *rule), &facts);
                if direction == Direction::Ingress {
                    ports.declare(self.expectation.declared(own));
                    facts.port_sets.iter().for_each(|set| ports.hold(self.held_ports(set, own)));
                }
                let key = (direction, policies.clone(), facts.clone(), ports.clone());
                let next = kinds.len();
                let kind = *kinds.entry(key).or_insert(next);
                let is_first_of_kind = kind == next;
                let side = Side { own, direction, facts, policies, ports, kind, is_first_of_kind };
                sides.insert((own, direction), side);
            }
        }
        sides
    }

    /// The ports that a set holds of an address.
    pub(super) fn held_ports(&self, set: &str, address: IpAddr) -> &[(Protocol, u16)] {
        self.rules.sets.get(set).map_or(&[], |set| set.ports(address))
    }

    /// What policies and rules can know of a peer.
    fn signs(&self, side: &Side, peer: IpAddr) -> PeerSigns {
        let mut signs = Vec::new();
        let held = |set: &str| self.rules.sets.get(set).is_some_and(|set| set.contains(peer, None));
        signs.extend(side.facts.sets.iter().map(|set| held(set)));
        signs.extend(side.facts.prefixes.iter().map(|net| net.contains(&peer)));
        let mut names_ports = false;
        for (policy, rule) in self.expectation.rules_of(side.direction, &side.policies) {
            signs.push(self.expectation.peers_hold(self.expectation.namespace_of(policy), rule, peer));
            names_ports |= matches!(&rule.ports, Ports::Listed(ports)
                if ports.iter().any(|port| matches!(port, PortMatch::Named(..))));
        }
        let mut ports = Vec::new();
        if side.direction == Direction::Egress {
            for (number, set) in side.facts.port_sets.iter().enumerate() {
                let held = self.held_ports(set, peer).iter();
                ports.extend(held.map(|(protocol, port)| (number + 1, *protocol, *port)));
            }
            if names_ports {
                let declared = self.expectation.declared(peer);
                ports.extend(declared.map(|port| (0, port.protocol, port.port)));
            }
            ports.sort_unstable();
            ports.dedup();
        }
        (signs, ports)
    }

    /// The peers that a side, or the policies and rules of the peer itself, can distinguish.
    pub(super) fn distinct_peers(
        &self,
        sides: &BTreeMap<(IpAddr, Direction), Side>,
        side: &Side,
        peers: &[IpAddr],
    ) -> Vec<DistinctPeer> {
        let mut distinct: Vec<DistinctPeer> = Vec::new();
        let mut known: BTreeMap<PeerSigns, BTreeMap<Option<usize>, usize>> = BTreeMap::new();
        for &peer in peers {
            let other = sides.get(&(peer, side.direction.opposite())).map(|other| other.kind);
            let alike = known.entry(self.signs(side, peer)).or_default();
            // Of a peer on this node its own policies decide too: peers without such are enough to show what this side's do.
            let is_new = alike.is_empty();
            match alike.get(&other) {
                Some(place) => drop(distinct[*place].second.get_or_insert(peer)),
                None => {
                    alike.insert(other, distinct.len());
                    distinct.push(DistinctPeer { first: peer, second: None, is_new });
                }
            }
        }
        distinct
    }
}

impl Side {
    /// About this side and a peer.
    pub(super) fn question(&self, peer: IpAddr, port: Option<(Protocol, u16)>, way: Way) -> Question {
        let (source, destination) = match self.direction {
            Direction::Egress => (self.own, peer),
            Direction::Ingress => (peer, self.own),
        };
        Question { source, destination, port, way }
    }
}
