//! Traces a frame or packet through a table, with the kernel's semantics.

use super::headers::Headers;
use super::soundness::DEEPEST;
use super::visit::VisitedRule;
use super::{
    Base, Comparison, ConnectionFact, Device, Field, Frame, HookPoint, LOCAL_ADDRESS, Meta, NFPROTO_IPV4,
    NFPROTO_IPV6, Packet, RejectWith, Rule, Set, SetPurpose, Statement, Table, TableFamily, Verdict, state,
};

/// The result of one hook for a frame or packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    /// How it ended.
    pub outcome: Outcome,
    /// The prefixes of the log statements that it matched.
    pub logged: Vec<Box<str>>,
    /// The counters of the table that counted it.
    pub counted: Vec<Box<str>>,
    /// Its packet mark after the hook.
    pub mark: u32,
    /// Each rule that matched, as chain and position from 0.
    pub met: Vec<(Box<str>, usize)>,
}

impl Traced {
    /// Whether the hook lets it continue.
    pub fn is_accepted(&self) -> bool {
        self.outcome == Outcome::Accepted
    }
}

/// How a frame or packet ended at one hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every base chain accepted it.
    Accepted,
    /// It was dropped without an answer.
    Dropped,
    /// It was rejected with this answer to its sender.
    Rejected(RejectWith),
}

/// Traces a frame through the base chains of one hook of a table of family bridge.
pub fn trace(table: &Table, point: HookPoint, frame: &Frame) -> Traced {
    Walk::of_frame(table, frame).hook(point, TableFamily::Bridge)
}

/// Traces a packet through the base chains of one hook of a table of family inet.
pub fn trace_packet(table: &Table, point: HookPoint, packet: &Packet) -> Traced {
    Walk::of_packet(table, packet).hook(point, TableFamily::Inet)
}

#[derive(Clone, Copy)]
enum Seen<'a> {
    Frame(&'a Frame),
    Packet(&'a Packet),
}

/// The kernel would not accept this table. It is treated as if it let nothing pass.
struct NotInKernel;

/// The effect of a rule or chain on a packet.
enum RuleStep {
    /// The statement at this position does not match: continue with the next rule.
    Unmatched(usize),
    /// The rule matches: continue with the next one.
    On,
    /// The base chain accepted it.
    Accept,
    /// Return from the chain.
    Return,
    Jump(Box<str>),
    Goto(Box<str>),
    /// The packet ended.
    End(Outcome),
}

impl From<Verdict> for RuleStep {
    fn from(verdict: Verdict) -> RuleStep {
        match verdict {
            Verdict::Accept => RuleStep::Accept,
            Verdict::Drop => RuleStep::End(Outcome::Dropped),
            Verdict::Return => RuleStep::Return,
            Verdict::Jump(chain) => RuleStep::Jump(chain),
            Verdict::Goto(chain) => RuleStep::Goto(chain),
        }
    }
}

/// The way of a frame or packet through a table.
pub(super) struct Walk<'a> {
    table: &'a Table,
    bytes: &'a [u8],
    headers: Headers,
    seen: Seen<'a>,
    mark: u32,
    logged: Vec<Box<str>>,
    counted: Vec<Box<str>>,
    met: Vec<(Box<str>, usize)>,
    /// Where to note the rules that it comes to.
    pub(super) visited: Option<&'a mut Vec<VisitedRule>>,
}

/// NFPROTO_BRIDGE.
const NFPROTO_BRIDGE: u8 = 7;

impl<'a> Walk<'a> {
    pub(super) fn of_frame(table: &'a Table, frame: &'a Frame) -> Walk<'a> {
        let headers = Headers::of_frame(&frame.bytes);
        Walk::new(table, &frame.bytes, headers, Seen::Frame(frame), frame.mark)
    }

    pub(super) fn of_packet(table: &'a Table, packet: &'a Packet) -> Walk<'a> {
        let headers = Headers::of_packet(&packet.bytes);
        Walk::new(table, &packet.bytes, headers, Seen::Packet(packet), packet.mark)
    }

    fn new(table: &'a Table, bytes: &'a [u8], headers: Headers, seen: Seen<'a>, mark: u32) -> Walk<'a> {
        let (logged, counted, met) = (Vec::new(), Vec::new(), Vec::new());
        Walk { table, bytes, headers, seen, mark, logged, counted, met, visited: None }
    }
}

impl Walk<'_> {
    /// Evaluates base chains in the order of their priorities: a verdict to accept ends one of them, any other ends
    /// all.
    pub(super) fn hook(mut self, point: HookPoint, family: TableFamily) -> Traced {
        let here = self.table.chains.iter().filter_map(|(name, chain)| {
            let priority = chain.base.filter(|base| base.point == point)?.priority;
            Some((priority, name, chain))
        });
        let mut chains: Vec<_> = here.collect();
        chains.sort_by_key(|(priority, ..)| *priority);
        let mut outcome = if self.table.family == family { Outcome::Accepted } else { Outcome::Dropped };
        for (_, name, chain) in chains {
            if outcome != Outcome::Accepted {
                break;
            }
            outcome = match self.rules(name, &chain.rules, 0) {
                Ok(Some(outcome)) => outcome,
                Ok(None) => Outcome::Accepted,
                Err(NotInKernel) => Outcome::Dropped,
            };
        }
        Traced { outcome, logged: self.logged, counted: self.counted, mark: self.mark, met: self.met }
    }

    /// The result of some rules for a packet; `None` if it passed the last one or returned.
    fn rules(&mut self, name: &str, rules: &[Rule], depth: usize) -> Result<Option<Outcome>, NotInKernel> {
        for (position, rule) in rules.iter().enumerate() {
            let step = self.rule(rule)?;
            let missed = if let RuleStep::Unmatched(statement) = step { Some(statement) } else { None };
            if missed.is_none() {
                self.met.push((name.into(), position));
            }
            if let Some(visited) = &mut self.visited {
                visited.push(VisitedRule { chain: name.into(), position, missed });
            }
            match step {
                RuleStep::Unmatched(_) | RuleStep::On => {}
                RuleStep::Accept => return Ok(Some(Outcome::Accepted)),
                RuleStep::End(outcome) => return Ok(Some(outcome)),
                RuleStep::Return => return Ok(None),
                RuleStep::Goto(chain) => return self.chain(&chain, depth),
                RuleStep::Jump(chain) => {
                    if let Some(outcome) = self.chain(&chain, depth)? {
                        return Ok(Some(outcome));
                    }
                }
            }
        }
        Ok(None)
    }

    fn chain(&mut self, name: &str, depth: usize) -> Result<Option<Outcome>, NotInKernel> {
        match self.table.chains.get(name) {
            Some(chain) if depth < DEEPEST && chain.base.is_none() => {
                self.rules(name, &chain.rules, depth + 1)
            }
            Some(_) | None => Err(NotInKernel),
        }
    }

    /// The effect of a rule on a packet that matches all its statements.
    fn rule(&mut self, rule: &Rule) -> Result<RuleStep, NotInKernel> {
        for (place, statement) in rule.statements().iter().enumerate() {
            match statement {
                Statement::Compare { field, mask, comparison, value } => {
                    if !self.holds(*field, mask.as_deref(), *comparison, value)? {
                        return Ok(RuleStep::Unmatched(place));
                    }
                }
                Statement::In { fields, set, inverted } => {
                    let set = self.set(set)?;
                    let Some(key) = self.key(fields, set)? else { return Ok(RuleStep::Unmatched(place)) };
                    let holds = match set.kind.purpose {
                        SetPurpose::Set => set.elements.contains(&key),
                        SetPurpose::Intervals => {
                            set.last_range_from(&key).is_some_and(|[_, last]| *last >= *key)
                        }
                        // Verdict maps are not for matching, and the elements that packets add to a set are not known.
                        SetPurpose::VerdictMap | SetPurpose::Dynamic { .. } => return Err(NotInKernel),
                    };
                    if holds == *inverted {
                        return Ok(RuleStep::Unmatched(place));
                    }
                }
                Statement::VerdictOf { fields, map } => {
                    let map = self.set(map)?;
                    if map.kind.purpose != SetPurpose::VerdictMap {
                        return Err(NotInKernel);
                    }
                    let Some(key) = self.key(fields, map)? else { return Ok(RuleStep::Unmatched(place)) };
                    let verdict = map.elements.get(&key).flatten().cloned();
                    return Ok(verdict.map_or(RuleStep::Unmatched(place), RuleStep::from));
                }
                Statement::Limit { fields, set, .. } => {
                    let set = self.set(set)?;
                    if !matches!(set.kind.purpose, SetPurpose::Dynamic { .. }) {
                        return Err(NotInKernel);
                    }
                    // The first packet after some time is within the limit.
                    if self.key(fields, set)?.is_none() {
                        return Ok(RuleStep::Unmatched(place));
                    }
                }
                Statement::CountIn(counter) => {
                    let counter = self.table.counters.get(counter).ok_or(NotInKernel)?;
                    self.counted.push(counter.clone());
                }
                Statement::Log { prefix, .. } => self.logged.push(prefix.clone()),
                Statement::SetMark(bits) => self.mark |= bits,
                Statement::Verdict(verdict) => return Ok(verdict.clone().into()),
                Statement::Reject(with) => return Ok(RuleStep::End(self.reject(*with)?)),
                Statement::Counter | Statement::Comment(_) => {}
            }
        }
        Ok(RuleStep::On)
    }

    /// Rejects the packet. Only TCP can be answered with a reset.
    fn reject(&self, with: RejectWith) -> Result<Outcome, NotInKernel> {
        let is_tcp = self.headers.transport.is_some_and(|(protocol, _)| protocol == 6);
        match (self.seen, with) {
            (Seen::Frame(_), _) => Err(NotInKernel),
            (Seen::Packet(_), RejectWith::TcpReset) if !is_tcp => Ok(Outcome::Dropped),
            (Seen::Packet(_), with) => Ok(Outcome::Rejected(with)),
        }
    }

    fn holds(
        &self,
        field: Field,
        mask: Option<&[u8]>,
        comparison: Comparison,
        value: &[u8],
    ) -> Result<bool, NotInKernel> {
        let length = usize::from(field.length());
        if value.len() != length || mask.is_some_and(|mask| mask.len() != length) {
            return Err(NotInKernel);
        }
        let Some(mut found) = self.field(field)? else { return Ok(false) };
        if let Some(mask) = mask {
            found.iter_mut().zip(mask).for_each(|(byte, mask)| *byte &= mask);
        }
        Ok(match comparison {
            Comparison::Equal => *found == *value,
            Comparison::Different => *found != *value,
            Comparison::AtMost => *found <= *value,
            Comparison::AtLeast => *found >= *value,
        })
    }

    fn set(&self, name: &str) -> Result<&Set, NotInKernel> {
        self.table.sets.get(name).ok_or(NotInKernel)
    }

    /// The concatenated fields as a key of a set; if there are several, each is padded to four bytes.
    fn key(&self, fields: &[Field], set: &Set) -> Result<Option<Vec<u8>>, NotInKernel> {
        let mut key = Vec::new();
        for field in fields {
            let Some(bytes) = self.field(*field)? else { return Ok(None) };
            key.extend(bytes);
            if fields.len() > 1 {
                key.resize(key.len().next_multiple_of(4), 0);
            }
        }
        let fits = key.len() == set.kind.key_length() as usize;
        if fits { Ok(Some(key)) } else { Err(NotInKernel) }
    }

    /// The value of a field; `None` if the packet does not have it, so that no rule that compares it matches.
    fn field(&self, field: Field) -> Result<Option<Vec<u8>>, NotInKernel> {
        Ok(match field {
            Field::Payload { base, offset, length } => self.payload(base, offset, length),
            Field::Meta(meta) => self.meta(meta)?,
            Field::Connection(fact) => {
                let Seen::Packet(packet) = self.seen else { return Err(NotInKernel) };
                let connection = packet.connection;
                let has_none = connection.state & (state::INVALID | state::UNTRACKED) != 0;
                let number = match fact {
                    ConnectionFact::State => connection.state,
                    ConnectionFact::Status | ConnectionFact::Mark if has_none => return Ok(None),
                    ConnectionFact::Status => connection.status,
                    ConnectionFact::Mark => connection.mark,
                };
                Some(number.to_ne_bytes().into())
            }
            Field::SourceAddressType => {
                let Seen::Packet(packet) = self.seen else { return Err(NotInKernel) };
                let kind = if packet.source_is_local { LOCAL_ADDRESS } else { UNICAST_ADDRESS };
                Some(kind.to_ne_bytes().into())
            }
        })
    }

    fn payload(&self, base: Base, offset: u8, length: u8) -> Option<Vec<u8>> {
        let base = match base {
            Base::Link => self.headers.has_link.then_some(0)?,
            Base::Network => self.headers.network,
            Base::Transport => self.headers.transport?.1?,
        };
        let start = base + usize::from(offset);
        self.bytes.get(start..start + usize::from(length)).map(<[u8]>::to_vec)
    }

    fn meta(&self, meta: Meta) -> Result<Option<Vec<u8>>, NotInKernel> {
        let [input, output] = match self.seen {
            Seen::Frame(frame) => [frame.input, frame.output],
            Seen::Packet(packet) => [packet.input.index, packet.output.index],
        };
        Ok(match meta {
            Meta::Length => {
                let length = self.bytes.len().saturating_sub(self.headers.network);
                u32::try_from(length).ok().map(|length| length.to_be_bytes().into())
            }
            Meta::Mark => Some(self.mark.to_ne_bytes().into()),
            Meta::InputIndex => Some(input.to_ne_bytes().into()),
            Meta::OutputIndex => Some(output.to_ne_bytes().into()),
            Meta::TransportProtocol => self.headers.transport.map(|(protocol, _)| vec![protocol]),
            Meta::PacketType => match self.seen {
                Seen::Frame(_) => packet_type(self.bytes).map(|kind| vec![kind]),
                // br_netfilter sets this type for bridged packets, too.
                Seen::Packet(_) => Some(vec![PACKET_HOST]),
            },
            Meta::NfProto => match (self.seen, self.bytes.first().map(|first| first >> 4)) {
                (Seen::Frame(_), _) => Some(vec![NFPROTO_BRIDGE]),
                (Seen::Packet(_), Some(4)) => Some(vec![NFPROTO_IPV4]),
                (Seen::Packet(_), Some(6)) => Some(vec![NFPROTO_IPV6]),
                (Seen::Packet(_), Some(_) | None) => None,
            },
            Meta::InputName | Meta::OutputName => {
                // Frames have only the indexes of their devices.
                let Seen::Packet(packet) = self.seen else { return Err(NotInKernel) };
                Some(name(if meta == Meta::InputName { &packet.input } else { &packet.output }))
            }
        })
    }
}

/// RTN_UNICAST.
const UNICAST_ADDRESS: u32 = 1;
const PACKET_HOST: u8 = 0;

/// The name of a device, padded with zeros. If there is no device, the kernel compares with an empty name.
fn name(device: &Device) -> Vec<u8> {
    let mut name = device.name.as_bytes().to_vec();
    name.resize(16, 0);
    name
}

/// PACKET_BROADCAST, PACKET_MULTICAST, or PACKET_OTHERHOST for a unicast frame.
fn packet_type(bytes: &[u8]) -> Option<u8> {
    let destination: &[u8; 6] = bytes.first_chunk()?;
    Some(match destination {
        [0xff, 0xff, 0xff, 0xff, 0xff, 0xff] => 1,
        [first, ..] if first & 1 == 1 => 2,
        _ => 3,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Protocol;
    use crate::netfilter::iptables;
    use crate::netfilter::iptables::{Payload, State};
    use crate::netfilter::nftables::{Chain, Hook, KeyPart, SetKind, status};

    const PROTOCOL: Field = Field::Meta(Meta::TransportProtocol);
    const NFPROTO: Field = Field::Meta(Meta::NfProto);
    const PORT: Field = Field::Payload { base: Base::Transport, offset: 2, length: 2 };
    const SOURCE4: Field = Field::Payload { base: Base::Network, offset: 12, length: 4 };
    const DESTINATION6: Field = Field::Payload { base: Base::Network, offset: 24, length: 16 };
    const STATE: Field = Field::Connection(ConnectionFact::State);
    const STATUS: Field = Field::Connection(ConnectionFact::Status);
    const MARK: Field = Field::Connection(ConnectionFact::Mark);

    /// A packet to TCP port 80 of 10.0.0.2, whose destination address was translated.
    fn seen() -> iptables::Packet {
        iptables::Packet {
            source: [10, 0, 0, 1].into(),
            destination: [10, 0, 0, 2].into(),
            payload: Payload::Transport { protocol: Protocol::Tcp, port: 80 },
            state: State::New,
            translated: true,
            connection_mark: 0x10000,
            bridged: true,
            in_interface: "cni0".into(),
            out_interface: "eth0".into(),
            source_is_local: false,
        }
    }

    fn table(chains: &[(&str, Option<i32>, Vec<Rule>)]) -> Table {
        let mut table = Table::new(TableFamily::Inet, "bridgewarden");
        for (name, priority, rules) in chains {
            let base = priority.map(|priority| Hook { point: HookPoint::Forward, priority });
            table.chains.insert((*name).into(), Chain { base, rules: rules.clone() });
        }
        table.counters.insert("counter".into());
        let mut set = |name: &str, key: &[KeyPart], purpose, elements: &[(&[u8], Option<Verdict>)]| {
            let elements = elements.iter().map(|(key, verdict)| (*key, verdict.clone())).collect();
            let kind = SetKind { key: key.into(), purpose, size: 0 };
            table.sets.insert(name.into(), Set { kind, elements });
        };
        let range = [10, 0, 0, 0, 10, 0, 0, 9];
        let (drop, beyond) = (Some(Verdict::Drop), [10, 0, 0, 200, 10, 0, 0, 255]);
        let port = [10, 0, 0, 1, 6, 0, 0, 0, 0, 80, 0, 0];
        set("set", &[KeyPart::Ipv4], SetPurpose::Set, &[(&[10, 0, 0, 1], None)]);
        set("none", &[KeyPart::Ipv4], SetPurpose::Set, &[]);
        set("ranges", &[KeyPart::Ipv4], SetPurpose::Intervals, &[(&range, None), (&beyond, None)]);
        set("map", &[KeyPart::Ipv4], SetPurpose::VerdictMap, &[(&[10, 0, 0, 1], drop)]);
        set(
            "ports",
            &[KeyPart::Ipv4, KeyPart::Protocol, KeyPart::Service],
            SetPurpose::Set,
            &[(&port, None)],
        );
        set("reported", &[KeyPart::Ipv4], SetPurpose::Dynamic { timeout_ms: 1000 }, &[]);
        table
    }

    fn follow(rules: Vec<Rule>, packet: &iptables::Packet) -> Traced {
        trace_packet(&table(&[("base", Some(0), rules)]), HookPoint::Forward, &Packet::from(packet))
    }

    /// Whether a rule matches a packet.
    fn holds(rule: Rule, packet: &iptables::Packet) -> bool {
        let traced = follow(vec![rule.count_in("counter")], packet);
        assert_eq!(traced.outcome, Outcome::Accepted);
        !traced.counted.is_empty()
    }

    #[test]
    fn each_fact_is_compared_with_what_the_packet_has() {
        let name = |name: &str| -> Vec<u8> { [name.as_bytes(), &vec![0; 16 - name.len()]].concat() };
        let number = |number: u32| number.to_ne_bytes();
        let when = Rule::when;
        let port = |port: u16| port.to_be_bytes();
        for (rule, holding) in [
            (when().is(NFPROTO, &[NFPROTO_IPV4]), true),
            (when().is(NFPROTO, &[NFPROTO_IPV6]), false),
            (when().is(PROTOCOL, &[6]).is(PORT, &port(80)), true),
            (when().is_not(PORT, &port(80)), false),
            (when().between(PORT, &port(80), &port(90)), true),
            (when().between(PORT, &port(1), &port(79)), false),
            (when().at_least(PORT, &port(81)), false),
            (when().at_most(PORT, &port(80)), true),
            (when().is(Field::Meta(Meta::InputName), &name("cni0")), true),
            (when().is(Field::Meta(Meta::OutputName), &name("cni0")), false),
            (when().any_bit(STATE, state::NEW | state::RELATED), true),
            (when().any_bit(STATE, state::ESTABLISHED), false),
            (when().any_bit(STATUS, status::DESTINATION_TRANSLATED), true),
            (when().any_bit(MARK, 0x10000), true),
            (when().any_bit(MARK, 0x20000), false),
            (when().is(Field::SourceAddressType, &number(LOCAL_ADDRESS)), false),
            (when().within(&[SOURCE4], "set"), true),
            (when().outside(&[SOURCE4], "set"), false),
            (when().within(&[SOURCE4], "none"), false),
            (when().within(&[SOURCE4], "ranges"), true),
            (when().within(&[SOURCE4, PROTOCOL, PORT], "ports"), true),
            (when().and(Statement::SetMark(1)).is(Field::Meta(Meta::Mark), &number(1)), true),
            // It is no IPv6 packet, but there are bytes where an IPv6 header would have the address.
            (when().is(DESTINATION6, &[0; 16]), true),
        ] {
            assert_eq!(holds(rule.clone(), &seen()), holding, "{rule}");
        }
    }

    #[test]
    fn what_a_packet_does_not_have_is_not_compared() {
        let invalid = iptables::Packet { state: State::Invalid, ..seen() };
        assert!(holds(Rule::when().any_bit(STATE, state::INVALID), &invalid));
        assert!(!holds(Rule::when().any_bit(MARK, 0x10000), &invalid));
        assert!(!holds(Rule::when().is_not(MARK, &[0; 4]), &invalid));
        assert!(!holds(Rule::when().is_not(STATUS, &[0; 4]), &invalid));
        let local = iptables::Packet { source_is_local: true, ..seen() };
        assert!(holds(Rule::when().is(Field::SourceAddressType, &LOCAL_ADDRESS.to_ne_bytes()), &local));
        let beyond = iptables::Packet { source: [10, 0, 0, 100].into(), ..seen() };
        assert!(!holds(Rule::when().within(&[SOURCE4], "ranges"), &beyond));
        let solicitation = iptables::Packet {
            source: [0xfe80, 0, 0, 0, 0, 0, 0, 1].into(),
            destination: [0xff02, 0, 0, 0, 0, 0, 0, 2].into(),
            payload: Payload::Icmpv6(133),
            state: State::Untracked,
            ..seen()
        };
        let kind = Field::Payload { base: Base::Transport, offset: 0, length: 1 };
        let rule = Rule::when().is(NFPROTO, &[NFPROTO_IPV6]).is(PROTOCOL, &[58]).is(kind, &[133]);
        assert!(holds(rule.any_bit(STATE, state::UNTRACKED), &solicitation));
    }

    #[test]
    fn accepting_ends_one_base_chain_and_refusing_ends_all() {
        let log = |prefix: &str| Rule::when().and(Statement::Log { group: 1, prefix: prefix.into() });
        let packet = Packet::from(&seen());
        let outcome = |first: Rule, second: Rule| {
            let table = table(&[
                ("a-second", Some(5), vec![log("second"), second]),
                ("b-first", Some(-5), vec![log("first"), first, log("behind")]),
                ("called", None, vec![Rule::verdict(Verdict::Return), log("unreached")]),
            ]);
            let traced = trace_packet(&table, HookPoint::Forward, &packet);
            (traced.outcome, traced.logged.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let both = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (accept, drop) = (|| Rule::when().accept(), || Rule::when().drop());
        let reject = |with| Rule::when().reject(with);
        let (reset, icmp) = (RejectWith::TcpReset, RejectWith::PortUnreachable);
        assert_eq!(outcome(accept(), accept()), (Outcome::Accepted, both(&["first", "second"])));
        assert_eq!(outcome(accept(), drop()), (Outcome::Dropped, both(&["first", "second"])));
        assert_eq!(outcome(drop(), accept()), (Outcome::Dropped, both(&["first"])));
        assert_eq!(outcome(reject(reset), accept()), (Outcome::Rejected(reset), both(&["first"])));
        assert_eq!(outcome(accept(), reject(icmp)).0, Outcome::Rejected(icmp));
        let (jump, goto) = (Rule::when().jump("called"), Rule::when().goto("called"));
        assert_eq!(outcome(jump, drop()), (Outcome::Dropped, both(&["first", "behind", "second"])));
        assert_eq!(outcome(goto, drop()), (Outcome::Dropped, both(&["first", "second"])));
        let map = Rule::when().verdict_of(&[SOURCE4], "map");
        assert_eq!(outcome(map, accept()), (Outcome::Dropped, both(&["first"])));
        let elsewhere = trace_packet(&table(&[("base", Some(0), vec![drop()])]), HookPoint::Input, &packet);
        assert!(elsewhere.is_accepted());
    }

    #[test]
    fn only_tcp_is_reset() {
        let datagram =
            iptables::Packet { payload: Payload::Transport { protocol: Protocol::Udp, port: 80 }, ..seen() };
        let rules = || vec![Rule::when().reject(RejectWith::TcpReset)];
        assert_eq!(follow(rules(), &datagram).outcome, Outcome::Dropped);
        assert_eq!(follow(rules(), &seen()).outcome, Outcome::Rejected(RejectWith::TcpReset));
    }

    #[test]
    fn limit_lets_the_first_packet_go_on_and_marks_stay() {
        let limit =
            Statement::Limit { fields: vec![SOURCE4], set: "reported".into(), per_second: 1, burst: 1 };
        let rule = Rule::when().and(limit).and(Statement::Counter).and(Statement::SetMark(6)).comment("why");
        let traced = follow(vec![rule, Rule::when().and(Statement::SetMark(1))], &seen());
        assert_eq!((traced.outcome, traced.mark), (Outcome::Accepted, 7));
    }

    #[test]
    fn nothing_passes_a_table_that_cannot_be_in_a_kernel() {
        let limit =
            |set: &str| Statement::Limit { fields: vec![SOURCE4], set: set.into(), per_second: 1, burst: 1 };
        for rule in [
            Rule::when().jump("nowhere"),
            Rule::when().jump("base"),
            Rule::when().jump("circle"),
            Rule::when().within(&[SOURCE4], "nowhere"),
            Rule::when().outside(&[SOURCE4], "map"),
            Rule::when().outside(&[SOURCE4], "reported"),
            Rule::when().outside(&[PORT], "set"),
            Rule::when().verdict_of(&[SOURCE4], "set"),
            Rule::when().and(limit("set")),
            Rule::when().count_in("nowhere"),
            Rule::when().is_not(PORT, &[80]),
            Rule::when().masked_not(PORT, &[0xff], &[0, 0]),
        ] {
            let table = table(&[
                ("base", Some(0), vec![rule.clone()]),
                ("circle", None, vec![Rule::when().jump("circle")]),
            ]);
            let traced = trace_packet(&table, HookPoint::Forward, &Packet::from(&seen()));
            assert_eq!(traced.outcome, Outcome::Dropped, "{rule}");
        }
        // Also tables of the other family, and fields that do not exist in a table of family bridge.
        let bridge = |rule: Rule| {
            let table = table(&[("base", Some(0), vec![rule])]);
            Table { family: TableFamily::Bridge, ..table }
        };
        let frame = Frame { bytes: vec![0; 60], input: 1, output: 2, mark: 0 };
        let passes = |rule: Rule| trace(&bridge(rule), HookPoint::Forward, &frame).is_accepted();
        assert!(passes(Rule::when().accept()));
        for rule in [
            Rule::when().any_bit(STATE, 1),
            Rule::when().is(Field::SourceAddressType, &[0; 4]),
            Rule::when().is(Field::Meta(Meta::InputName), &[0; 16]),
            Rule::when().reject(RejectWith::PortUnreachable),
        ] {
            assert!(!passes(rule.clone()), "{rule}");
        }
        let foreign = trace_packet(&bridge(Rule::when()), HookPoint::Forward, &Packet::from(&seen()));
        assert_eq!(foreign.outcome, Outcome::Dropped);
    }
}
