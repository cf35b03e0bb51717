//! The rules of one policy in one direction: they accept and count what the policy allows.

use super::fields::{DESTINATION_PORT, PROTOCOL, destination, of_family, peer, with_protocol};
use super::set;
use crate::compile::{Allow, AllowPeers, AllowPort, AllowPorts};
use crate::model::{Direction, PolicyKey};
use crate::net::{Family, PortRange, Protocol};
use crate::netfilter::nftables::{KeyPart, Rule, Set, SetKind, SetPurpose};
use crate::netfilter::{ChainName, SetName};
use crate::render::Names;
use std::collections::BTreeMap;

/// The rules of a policy, and the sets that only these rules use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PolicyRules {
    pub(super) rules: Vec<Rule>,
    /// Sets of port ranges, by name.
    pub(super) sets: BTreeMap<Box<str>, Set>,
}

/// Whether rules count the packets that they accept, in the counter with the name of their policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counting {
    On,
    Off,
}

/// The rules of a policy in a direction. This is the name of its counter, and of its chain if it has one.
pub(super) fn rules(
    names: &mut Names,
    name: &ChainName,
    key: &PolicyKey,
    direction: Direction,
    allows: &[Allow],
    counting: Counting,
) -> PolicyRules {
    let mut policy = PolicyRules::default();
    for allow in allows {
        let comment = format!("{key} {direction}[{}]", allow.rule);
        let ports = ports(&allow.ports, name, &mut policy.sets);
        for peer in peers(names, &allow.peers) {
            for port in &ports {
                for rule in port.apply(names, &peer) {
                    let rule = peer.end(rule, direction);
                    let rule = match counting {
                        Counting::On => rule.count_in(name.as_str()),
                        Counting::Off => rule,
                    };
                    policy.rules.push(rule.accept().comment(&comment));
                }
            }
        }
    }
    policy
}

/// A way to match the peers.
enum PeerCondition {
    /// Any address of either family.
    Anywhere,
    /// An address in this set, in one family.
    In(Family, SetName),
}

impl PeerCondition {
    /// The first conditions of a rule, which cost least.
    fn begin(&self) -> Rule {
        match self {
            PeerCondition::Anywhere => Rule::when(),
            PeerCondition::In(family, _) => of_family(*family),
        }
    }

    /// Appends the look-up of the peer. It costs more than comparing a port, so it comes last.
    fn end(&self, rule: Rule, direction: Direction) -> Rule {
        match self {
            PeerCondition::Anywhere => rule,
            PeerCondition::In(family, set) => rule.within(&[peer(direction, *family)], set.as_str()),
        }
    }
}

fn peers(names: &mut Names, peers: &AllowPeers) -> Vec<PeerCondition> {
    let AllowPeers::In(sets) = peers else { return vec![PeerCondition::Anywhere] };
    let mut ways = Vec::new();
    for definition in sets {
        let families = Family::BOTH.into_iter().filter(|family| definition.has_family(*family));
        ways.extend(families.map(|family| PeerCondition::In(family, names.set(definition, family))));
    }
    ways
}

/// A way to match the ports.
enum PortCondition<'a> {
    All,
    Protocol(Protocol),
    One(Protocol, PortRange),
    /// A set of ranges.
    Ranges(Protocol, Box<str>),
    Named(Protocol, &'a std::sync::Arc<crate::compile::SetDefinition>),
}

fn ports<'a>(
    ports: &'a AllowPorts,
    chain: &ChainName,
    sets: &mut BTreeMap<Box<str>, Set>,
) -> Vec<PortCondition<'a>> {
    let AllowPorts::Any(ports) = ports else { return vec![PortCondition::All] };
    let of = |port: &'a AllowPort| match port {
        AllowPort::Protocol(protocol) => PortCondition::Protocol(*protocol),
        AllowPort::Numbered(protocol, ranges) => match ranges.as_slice() {
            [range] => PortCondition::One(*protocol, *range),
            ranges => {
                let name: Box<str> = Names::port_set(chain, ranges).into();
                sets.insert(name.clone(), set_of(ranges));
                PortCondition::Ranges(*protocol, name)
            }
        },
        AllowPort::Named(protocol, definition) => PortCondition::Named(*protocol, definition),
    };
    ports.iter().map(of).collect()
}

impl PortCondition<'_> {
    /// The rules for these ports: one, or one for each family.
    fn apply(&self, names: &mut Names, peers: &PeerCondition) -> Vec<Rule> {
        let rule = peers.begin();
        match self {
            PortCondition::All => vec![rule],
            PortCondition::Protocol(protocol) => vec![with_protocol(rule, *protocol)],
            PortCondition::One(protocol, range) => {
                let rule = with_protocol(rule, *protocol);
                let (first, last) = (range.first().to_be_bytes(), range.last().to_be_bytes());
                vec![match first == last {
                    true => rule.is(DESTINATION_PORT, &first),
                    false => rule.between(DESTINATION_PORT, &first, &last),
                }]
            }
            PortCondition::Ranges(protocol, set) => {
                vec![with_protocol(rule, *protocol).within(&[DESTINATION_PORT], set)]
            }
            PortCondition::Named(protocol, definition) => {
                let mut named = |family: Family, rule: Rule| {
                    let set = names.set(definition, family);
                    let fields = [destination(family), PROTOCOL, DESTINATION_PORT];
                    with_protocol(rule, *protocol).within(&fields, set.as_str())
                };
                match peers {
                    PeerCondition::In(family, _) => vec![named(*family, rule)],
                    PeerCondition::Anywhere => {
                        Family::BOTH.map(|family| named(family, of_family(family))).into()
                    }
                }
            }
        }
    }
}

fn set_of(ranges: &[PortRange]) -> Set {
    let kind = SetKind { key: vec![KeyPart::Service], purpose: SetPurpose::Intervals, size: 0 };
    let element = |range: &PortRange| set::range(&range.first().to_be_bytes(), &range.last().to_be_bytes());
    Set { kind, elements: ranges.iter().map(|range| (element(range), None)).collect() }
}
