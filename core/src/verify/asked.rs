//! What the rules of a packet filter may ask about the peers and ports of one address.
//!
//! All packets that these questions do not distinguish get the same verdict. So one of each such class is evaluated, and the classes
//! are exhaustive, whatever the rules are: also those that this program would never write.

use super::AddressSet;
use crate::model::Direction;
use crate::net::{Family, IpNet, PortRange, Protocol, octets};
use crate::netfilter::ChainName;
use crate::netfilter::iptables::{Chains, Layer4, Match, Rule, SetSide, Target};
use crate::netfilter::nftables::{
    self, Base, Comparison, Field, HookPoint, KeyPart, Meta, NFPROTO_IPV4, NFPROTO_IPV6, Statement, Table,
};
use crate::render::dispatch_chain;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What rules may ask about the peers and ports of one address in one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AskedFacts {
    /// Sets that the peer is looked up in.
    pub(super) sets: BTreeSet<Box<str>>,
    /// Sets that the destination's address and port are looked up in.
    pub(super) port_sets: BTreeSet<Box<str>>,
    /// Prefixes that the peer is compared with.
    pub(super) prefixes: BTreeSet<IpNet>,
    /// By protocol, the ports from which on an answer may differ.
    pub(super) starts: BTreeMap<Protocol, BTreeSet<u16>>,
    /// The rules that were found, without what they ask about the address itself: of two addresses with the same rules and facts,
    /// packets get the same verdicts.
    pub(super) rules: Vec<String>,
}

/// The kernel allows no deeper jumps.
const DEEPEST: usize = 16;

impl AskedFacts {
    fn ask_ports(&mut self, protocol: Option<Protocol>, first: u16, last: u16) {
        for one in Protocol::ALL.into_iter().filter(|one| protocol.is_none_or(|wanted| wanted == *one)) {
            let starts = self.starts.entry(one).or_default();
            starts.insert(first);
            starts.extend(last.checked_add(1));
        }
    }

    /// Takes in what the chains of iptables ask.
    pub(super) fn ask_chains(
        &mut self,
        chains: &Chains,
        sets: &BTreeMap<Box<str>, AddressSet>,
        direction: Direction,
        own: IpAddr,
    ) {
        let Some(entry) = ChainName::new("FORWARD") else { return };
        let walk = ChainWalk { chains, sets, direction, own, other: dispatch_chain(direction.opposite()) };
        walk.chain(self, &entry, 0);
    }

    /// Takes in what a table of family inet asks.
    pub(super) fn ask_table(
        &mut self,
        table: &Table,
        sets: &BTreeMap<Box<str>, AddressSet>,
        direction: Direction,
        own: IpAddr,
    ) {
        let walk = TableWalk { table, sets, direction, own };
        for chain in table.chains.values() {
            if chain.base.is_some_and(|base| base.point == HookPoint::Forward) {
                walk.rules(self, &chain.rules, 0);
            }
        }
    }
}

struct ChainWalk<'a> {
    chains: &'a Chains,
    sets: &'a BTreeMap<Box<str>, AddressSet>,
    direction: Direction,
    own: IpAddr,
    /// Where the peer is looked for among this node's pods: what is asked there is asked of the peer's own pod.
    other: ChainName,
}

impl ChainWalk<'_> {
    fn chain(&self, facts: &mut AskedFacts, name: &ChainName, depth: usize) {
        if depth > DEEPEST {
            return;
        }
        for rule in self.chains.get(name).into_iter().flatten() {
            let Some(rest) = self.ask(facts, rule) else { continue };
            let next = match &rule.target {
                Target::Jump(chain) | Target::Goto(chain) if *chain != self.other => Some(chain),
                Target::Jump(_)
                | Target::Goto(_)
                | Target::Return
                | Target::Accept
                | Target::Drop
                | Target::Reject(_)
                | Target::SetMark { .. }
                | Target::Log { .. } => None,
            };
            // A chain that was entered stands for itself, whatever its name.
            let rest = match next {
                Some(_) => Rule { target: Target::Return, ..rest }.to_string() + " >",
                None => rest.to_string(),
            };
            facts.rules.push(rest);
            if let Some(next) = next {
                self.chain(facts, next, depth + 1);
                facts.rules.push("<".into());
            }
        }
    }

    /// Takes in what a rule asks; returns what is left of it, or nothing if it is not about the address.
    fn ask(&self, facts: &mut AskedFacts, rule: &Rule) -> Option<Rule> {
        let (mine, theirs, side) = match self.direction {
            Direction::Egress => (rule.source, rule.destination, SetSide::Source),
            Direction::Ingress => (rule.destination, rule.source, SetSide::Destination),
        };
        if mine.is_some_and(|net| !net.contains(&self.own)) {
            return None;
        }
        let is_itself = theirs == Some(crate::net::host(self.own));
        let peer = if is_itself { Some(itself(Family::of(self.own))) } else { theirs };
        let mut rest = rule.clone();
        match self.direction {
            Direction::Egress => (rest.source, rest.destination) = (None, peer),
            Direction::Ingress => (rest.source, rest.destination) = (peer, None),
        }
        facts.prefixes.extend(theirs.filter(|_| !is_itself));
        let protocol = match rule.protocol {
            Some(Layer4::Transport(protocol)) => Some(protocol),
            Some(Layer4::Icmpv6 | Layer4::Igmp) | None => None,
        };
        let ranges = |facts: &mut AskedFacts, ranges: &[PortRange]| {
            ranges.iter().for_each(|range| facts.ask_ports(protocol, range.first(), range.last()));
        };
        for condition in &rule.matches {
            let (name, asked, wanted) = match condition {
                Match::Set(name, asked) => (name, *asked, true),
                Match::NotInSet(name, asked) => (name, *asked, false),
                Match::DestinationPort(range) => {
                    ranges(facts, &[*range]);
                    continue;
                }
                Match::DestinationPorts(several) => {
                    ranges(facts, several);
                    continue;
                }
                Match::ConnectionState(_)
                | Match::Bridged(_)
                | Match::Mark { .. }
                | Match::ConnectionMark { .. }
                | Match::SourceIsLocal(_)
                | Match::Icmpv6Type(_)
                | Match::LimitPerSecond(_)
                | Match::Comment(_) => continue,
            };
            if asked == SetSide::DestinationPort {
                facts.port_sets.insert(name.as_str().into());
            } else if asked != side {
                facts.sets.insert(name.as_str().into());
            } else if self.sets.get(name.as_str()).is_some_and(|set| set.contains(self.own, None)) != wanted {
                return None;
            }
        }
        Some(rest)
    }
}

/// Stands for an address in a rule that asks whether the peer is the address itself.
fn itself(family: Family) -> IpNet {
    match family {
        Family::V4 => crate::net::host(Ipv4Addr::UNSPECIFIED.into()),
        Family::V6 => crate::net::host(Ipv6Addr::UNSPECIFIED.into()),
    }
}

struct TableWalk<'a> {
    table: &'a Table,
    sets: &'a BTreeMap<Box<str>, AddressSet>,
    direction: Direction,
    own: IpAddr,
}

const fn network(offset: u8, length: u8) -> Field {
    Field::Payload { base: Base::Network, offset, length }
}

const DESTINATION_PORT: Field = Field::Payload { base: Base::Transport, offset: 2, length: 2 };
const PROTOCOL: Field = Field::Meta(Meta::TransportProtocol);

fn address_field(family: Family, direction: Direction) -> Field {
    match (family, direction) {
        (Family::V4, Direction::Egress) => network(12, 4),
        (Family::V4, Direction::Ingress) => network(16, 4),
        (Family::V6, Direction::Egress) => network(8, 16),
        (Family::V6, Direction::Ingress) => network(24, 16),
    }
}

impl TableWalk<'_> {
    fn rules(&self, facts: &mut AskedFacts, rules: &[nftables::Rule], depth: usize) {
        if depth > DEEPEST {
            return;
        }
        for rule in rules {
            self.rule(facts, rule, depth);
        }
    }

    fn rule(&self, facts: &mut AskedFacts, rule: &nftables::Rule, depth: usize) {
        let family = Family::of(self.own);
        let (mine, theirs) =
            (address_field(family, self.direction), address_field(family, self.direction.opposite()));
        let mut protocol = None;
        let mut text = String::new();
        let mut at_least = 0;
        for statement in rule.statements() {
            let mut is_own = false;
            match statement {
                Statement::Compare { field, mask: None, comparison, value } => match (*field, comparison) {
                    (Field::Meta(Meta::NfProto), Comparison::Equal) => {
                        let wanted = match family {
                            Family::V4 => NFPROTO_IPV4,
                            Family::V6 => NFPROTO_IPV6,
                        };
                        if **value != [wanted] {
                            return;
                        }
                    }
                    (PROTOCOL, Comparison::Equal) => {
                        protocol = value.first().copied();
                    }
                    (DESTINATION_PORT, _) => {
                        let port = <[u8; 2]>::try_from(&**value).map_or(0, u16::from_be_bytes);
                        let protocol = protocol.and_then(Protocol::from_number);
                        match comparison {
                            Comparison::Equal | Comparison::Different => {
                                facts.ask_ports(protocol, port, port)
                            }
                            Comparison::AtLeast => at_least = port,
                            Comparison::AtMost => facts.ask_ports(protocol, at_least, port),
                        }
                        if *comparison == Comparison::AtLeast {
                            facts.ask_ports(protocol, port, u16::MAX);
                        }
                    }
                    (field, Comparison::Equal | Comparison::Different) if field == mine => {
                        let is_it = super::address_sets::address(value) == Some(self.own);
                        if is_it != (*comparison == Comparison::Equal) {
                            return;
                        }
                        is_own = true;
                    }
                    (field, _) if field == theirs => {
                        if let Some(address) = super::address_sets::address(value) {
                            facts.prefixes.insert(crate::net::host(address));
                        }
                    }
                    (
                        _,
                        Comparison::Equal | Comparison::Different | Comparison::AtMost | Comparison::AtLeast,
                    ) => {}
                },
                Statement::In { fields, set, inverted } => match fields.as_slice() {
                    [field] if *field == mine => {
                        let holds = self.sets.get(set).is_some_and(|set| set.contains(self.own, None));
                        if holds == *inverted {
                            return;
                        }
                        is_own = true;
                    }
                    [field] if *field == theirs => drop(facts.sets.insert(set.clone())),
                    [field] if *field == DESTINATION_PORT => {
                        let protocol = protocol.and_then(Protocol::from_number);
                        self.ask_port_ranges(facts, protocol, set);
                    }
                    [_, PROTOCOL, DESTINATION_PORT] => drop(facts.port_sets.insert(set.clone())),
                    _ => {}
                },
                Statement::VerdictOf { fields, map } => {
                    let map = self.table.sets.get(map);
                    match fields.as_slice() {
                        [field] if *field == mine => {
                            let next = map.and_then(|map| map.elements.get(&octets(self.own))).flatten();
                            facts.rules.push(format!("{text}vmap >"));
                            self.follow(facts, next, depth);
                            facts.rules.push("<".into());
                        }
                        // The peer's own pod is asked there.
                        [field] if *field == theirs => facts.rules.push(format!("{text}vmap of the peer")),
                        _ => {
                            let all = map.into_iter().flat_map(|map| map.elements.iter());
                            all.for_each(|(_, verdict)| self.follow(facts, verdict, depth));
                        }
                    }
                    return;
                }
                Statement::Verdict(verdict @ (nftables::Verdict::Jump(_) | nftables::Verdict::Goto(_))) => {
                    facts.rules.push(format!("{text}{statement:?} >"));
                    self.follow(facts, Some(verdict), depth);
                    facts.rules.push("<".into());
                    return;
                }
                Statement::Compare { .. }
                | Statement::Limit { .. }
                | Statement::Counter
                | Statement::CountIn(_)
                | Statement::Log { .. }
                | Statement::SetMark(_)
                | Statement::Verdict(_)
                | Statement::Reject(_)
                | Statement::Comment(_) => {}
            }
            if !is_own {
                text.push_str(&format!("{statement:?} "));
            }
        }
        facts.rules.push(text);
    }

    fn follow(&self, facts: &mut AskedFacts, verdict: Option<&nftables::Verdict>, depth: usize) {
        match verdict {
            Some(nftables::Verdict::Jump(chain) | nftables::Verdict::Goto(chain)) => {
                let rules = self.table.chains.get(chain).map_or(&[][..], |chain| &chain.rules);
                self.rules(facts, rules, depth + 1);
            }
            Some(verdict) => facts.rules.push(format!("{verdict:?}")),
            None => {}
        }
    }

    fn ask_port_ranges(&self, facts: &mut AskedFacts, protocol: Option<Protocol>, set: &str) {
        let Some(set) = self.table.sets.get(set).filter(|set| set.kind.key == [KeyPart::Service]) else {
            return;
        };
        for key in set.elements.keys() {
            let port = |bytes: Option<&[u8]>| {
                bytes.and_then(|bytes| <[u8; 2]>::try_from(bytes).ok()).map(u16::from_be_bytes)
            };
            let (first, last) = (port(key.get(..2)), port(key.get(2..4)));
            if let Some(first) = first {
                facts.ask_ports(protocol, first, last.unwrap_or(first));
            }
        }
    }
}
