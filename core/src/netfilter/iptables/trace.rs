//! Traces a packet through a table of rules, with the semantics of the kernel's packet filter.

use super::{Condition, Layer4, Match, RejectWith, Rule, SetSide, State, Target};
use crate::net::{Family, Protocol};
use crate::netfilter::{ChainName, SetName};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Our chains in the filter table of one family.
pub type Chains = BTreeMap<ChainName, Vec<Rule>>;

/// A packet as a hook sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The source address.
    pub source: IpAddr,
    /// The destination address, after destination NAT.
    pub destination: IpAddr,
    /// Its protocol, with the port or type.
    pub payload: Payload,
    /// Its conntrack state.
    pub state: State,
    /// Whether its destination was translated ([`State::Dnat`]): it was sent to a Service.
    pub translated: bool,
    /// The mark of its connection.
    pub connection_mark: u32,
    /// Whether it is forwarded from one bridge port to another without being routed.
    pub bridged: bool,
    /// The device by which it arrived: the bridge itself for packets from a bridge port.
    pub in_interface: Box<str>,
    /// The device by which it leaves: the bridge itself for packets to a bridge port; empty for a packet to this host.
    pub out_interface: Box<str>,
    /// Whether its source is an address of this host.
    pub source_is_local: bool,
}

impl Packet {
    /// The family of its addresses.
    pub fn family(&self) -> Family {
        Family::of(self.destination)
    }
}

/// The protocol of a packet, with the port or type, as far as rules can match it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// A segment or datagram.
    Transport {
        /// The protocol.
        protocol: Protocol,
        /// The destination port.
        port: u16,
    },
    /// An ICMPv6 message of this type.
    Icmpv6(u8),
    /// A protocol without ports, by number.
    Other(u8),
}

/// Looks up addresses, with a port for `hash:ip,port`, in sets.
pub trait SetLookup {
    /// Whether the set contains `address`, or, for `SetSide::DestinationPort`, `address` with the packet's protocol and
    /// port.
    fn contains(&self, name: &SetName, address: IpAddr, port: Option<(Protocol, u16)>) -> bool;
}

/// How a packet ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passed our chains; rules of other programs decide about it.
    Passed,
    /// It was accepted; rules of other programs after ours are skipped.
    Accepted,
    /// It was dropped without an answer.
    Dropped,
    /// It was rejected with an answer to its sender.
    Rejected(RejectWith),
}

impl Verdict {
    /// Whether our rules let the packet continue.
    pub fn allows(self) -> bool {
        match self {
            Verdict::Passed | Verdict::Accepted => true,
            Verdict::Dropped | Verdict::Rejected(_) => false,
        }
    }
}

/// The path of a packet through the chains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// How it ended.
    pub verdict: Verdict,
    /// Each rule that matched, as chain and position from 0.
    pub met: Vec<(ChainName, usize)>,
}

/// Why a packet could not be traced: the kernel would not accept such a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// A rule jumps to a chain that does not exist.
    #[error("chain {0} does not exist")]
    NoChain(ChainName),
    /// Chains jump in a loop.
    #[error("chain {0} is entered from itself")]
    Loop(ChainName),
}

/// Traces a packet from the first rule of `entry`.
pub fn trace(
    chains: &Chains,
    entry: &ChainName,
    sets: &dyn SetLookup,
    packet: &Packet,
) -> Result<Trace, TraceError> {
    let mut walk = Walk { chains, sets, packet, mark: 0, met: Vec::new(), visited: None };
    let verdict = walk.chain(entry, 0)?.unwrap_or(Verdict::Passed);
    Ok(Trace { verdict, met: walk.met })
}

/// Traces a packet from the first rule of `entry`, and returns every rule that it came to.
pub fn visit(
    chains: &Chains,
    entry: &ChainName,
    sets: &dyn SetLookup,
    packet: &Packet,
) -> Result<(Trace, Vec<VisitedRule>), TraceError> {
    let mut visited = Vec::new();
    let mut walk = Walk { chains, sets, packet, mark: 0, met: Vec::new(), visited: Some(&mut visited) };
    let verdict = walk.chain(entry, 0)?.unwrap_or(Verdict::Passed);
    let trace = Trace { verdict, met: walk.met };
    Ok((trace, visited))
}

/// A rule that a packet came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VisitedRule {
    /// The chain.
    pub chain: ChainName,
    /// The rule's position in it, from 0.
    pub position: usize,
    /// The position of the first of its [conditions](Rule::conditions) that does not hold; `None` if all hold.
    pub missed: Option<usize>,
}

struct Walk<'a> {
    chains: &'a Chains,
    sets: &'a dyn SetLookup,
    packet: &'a Packet,
    mark: u32,
    met: Vec<(ChainName, usize)>,
    /// Where to note the rules that it comes to.
    visited: Option<&'a mut Vec<VisitedRule>>,
}

const DEEPEST: usize = 16;
/// The IANA protocol number of IGMP.
const IGMP: u8 = 2;

impl Walk<'_> {
    fn chain(&mut self, name: &ChainName, depth: usize) -> Result<Option<Verdict>, TraceError> {
        if depth > DEEPEST {
            return Err(TraceError::Loop(name.clone()));
        }
        let rules = self.chains.get(name).ok_or_else(|| TraceError::NoChain(name.clone()))?;
        for (position, rule) in rules.iter().enumerate() {
            let missed = rule.conditions().position(|condition| !self.meets(condition));
            if let Some(visited) = &mut self.visited {
                visited.push(VisitedRule { chain: name.clone(), position, missed });
            }
            if missed.is_some() {
                continue;
            }
            self.met.push((name.clone(), position));
            match &rule.target {
                Target::Jump(chain) => {
                    if let Some(verdict) = self.chain(chain, depth + 1)? {
                        return Ok(Some(verdict));
                    }
                }
                Target::Goto(chain) => return self.chain(chain, depth + 1),
                Target::Return => return Ok(None),
                Target::Accept => return Ok(Some(Verdict::Accepted)),
                Target::Drop => return Ok(Some(Verdict::Dropped)),
                Target::Reject(with) => return Ok(Some(Verdict::Rejected(*with))),
                Target::SetMark { value, mask } => self.mark = (self.mark & !mask) ^ value,
                Target::Log { .. } => {}
            }
        }
        Ok(None)
    }

    fn meets(&self, condition: Condition<'_>) -> bool {
        let packet = self.packet;
        match condition {
            Condition::Source(net) => net.contains(&packet.source),
            Condition::Destination(net) => net.contains(&packet.destination),
            Condition::InInterface(name) => *name == *packet.in_interface,
            Condition::OutInterface(name) => *name == *packet.out_interface,
            Condition::Protocol(protocol) => carries(packet.payload, protocol),
            Condition::Match(condition, _) => self.holds(condition),
        }
    }

    fn holds(&self, condition: &Match) -> bool {
        let packet = self.packet;
        match condition {
            Match::ConnectionState(states) => {
                states.contains(&packet.state) || packet.translated && states.contains(&State::Dnat)
            }
            Match::Set(name, side) => self.in_set(name, *side),
            Match::NotInSet(name, side) => !self.in_set(name, *side),
            Match::Bridged(wanted) => packet.bridged == *wanted,
            Match::Mark { value, mask } => self.mark & mask == *value,
            Match::ConnectionMark { value, mask } => packet.connection_mark & mask == *value,
            Match::SourceIsLocal(wanted) => packet.source_is_local == *wanted,
            Match::DestinationPort(range) => {
                port(packet.payload).is_some_and(|(_, port)| range.contains(port))
            }
            Match::DestinationPorts(ranges) => {
                port(packet.payload).is_some_and(|(_, port)| ranges.iter().any(|range| range.contains(port)))
            }
            Match::Icmpv6Type(number) => packet.payload == Payload::Icmpv6(*number),
            Match::LimitPerSecond(_) | Match::Comment(_) => true,
        }
    }

    fn in_set(&self, name: &SetName, side: SetSide) -> bool {
        match side {
            SetSide::Source => self.sets.contains(name, self.packet.source, None),
            SetSide::Destination => self.sets.contains(name, self.packet.destination, None),
            SetSide::DestinationPort => port(self.packet.payload)
                .is_some_and(|port| self.sets.contains(name, self.packet.destination, Some(port))),
        }
    }
}

fn carries(payload: Payload, wanted: Layer4) -> bool {
    match (payload, wanted) {
        (Payload::Transport { protocol, .. }, Layer4::Transport(wanted)) => protocol == wanted,
        (Payload::Icmpv6(_), Layer4::Icmpv6) => true,
        (Payload::Other(number), Layer4::Igmp) => number == IGMP,
        (Payload::Transport { .. } | Payload::Icmpv6(_), Layer4::Igmp)
        | (Payload::Transport { .. } | Payload::Other(_), Layer4::Icmpv6)
        | (Payload::Icmpv6(_) | Payload::Other(_), Layer4::Transport(_)) => false,
    }
}

fn port(payload: Payload) -> Option<(Protocol, u16)> {
    match payload {
        Payload::Transport { protocol, port, .. } => Some((protocol, port)),
        Payload::Icmpv6(_) | Payload::Other(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct NoSets;

    impl SetLookup for NoSets {
        fn contains(&self, _: &SetName, _: IpAddr, _: Option<(Protocol, u16)>) -> bool {
            false
        }
    }

    fn chain(name: &str) -> ChainName {
        ChainName::new(name).expect("a legal name")
    }

    /// The path of a packet that enters another chain by `way`.
    fn met(way: fn(ChainName) -> Target, last: Target) -> (Verdict, Vec<(ChainName, usize)>) {
        let rule = Rule::new;
        let chains = Chains::from([
            (chain("ENTRY"), vec![rule(Target::Jump(chain("LIST"))), rule(Target::Drop)]),
            (chain("LIST"), vec![rule(way(chain("LAST"))), rule(Target::Accept)]),
            (chain("LAST"), vec![rule(last)]),
        ]);
        let packet = Packet {
            source: [10, 0, 0, 1].into(),
            destination: [10, 0, 0, 2].into(),
            payload: Payload::Other(1),
            state: State::New,
            translated: false,
            connection_mark: 0,
            bridged: false,
            in_interface: "eth0".into(),
            out_interface: "cni0".into(),
            source_is_local: false,
        };
        let trace = trace(&chains, &chain("ENTRY"), &NoSets, &packet).expect("a table that is whole");
        (trace.verdict, trace.met)
    }

    #[test]
    fn packet_that_went_to_a_chain_comes_back_behind_the_jump_before() {
        let way = |rest: &[(&str, usize)]| -> Vec<_> {
            let rest = rest.iter().map(|(name, position)| (chain(name), *position));
            [(chain("ENTRY"), 0), (chain("LIST"), 0), (chain("LAST"), 0)].into_iter().chain(rest).collect()
        };
        assert_eq!(met(Target::Jump, Target::Return), (Verdict::Accepted, way(&[("LIST", 1)])));
        assert_eq!(met(Target::Goto, Target::Return), (Verdict::Dropped, way(&[("ENTRY", 1)])));
        assert_eq!(met(Target::Goto, Target::Accept), (Verdict::Accepted, way(&[])));
    }
}
