//! What a frame or packet meets in a table: the kernel's own semantics, in a few pure lines.

use super::headers::Headers;
use super::soundness::DEEPEST;
use super::{
    Base, Comparison, ConnectionFact, Device, Field, Frame, HookPoint, LOCAL_ADDRESS, Meta, NFPROTO_IPV4,
    NFPROTO_IPV6, Packet, RejectWith, Rule, Set, SetPurpose, Statement, Table, TableFamily, Verdict, state,
};

/// What became of a frame or packet at one hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    /// How it ended.
    pub outcome: Outcome,
    /// The prefixes of the log rules that it met.
    pub logged: Vec<Box<str>>,
    /// The counters of the table that counted it.
    pub counted: Vec<Box<str>>,
    /// The packet mark that it goes on with.
    pub mark: u32,
}

impl Traced {
    /// Whether it goes on.
    pub fn is_accepted(&self) -> bool {
        self.outcome == Outcome::Accepted
    }
}

/// How a frame or packet ends at one hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Each base chain let it go on.
    Accepted,
    /// It ended, and its sender does not learn of it.
    Dropped,
    /// It ended, and its sender gets this.
    Rejected(RejectWith),
}

/// Follows a frame through the base chains of one hook of a table of family bridge.
pub fn trace(table: &Table, point: HookPoint, frame: &Frame) -> Traced {
    let walk = Walk {
        table,
        bytes: &frame.bytes,
        headers: Headers::of_frame(&frame.bytes),
        seen: Seen::Frame(frame),
        mark: frame.mark,
        logged: Vec::new(),
        counted: Vec::new(),
    };
    walk.hook(point, TableFamily::Bridge)
}

/// Follows a packet through the base chains of one hook of a table of family inet.
pub fn trace_packet(table: &Table, point: HookPoint, packet: &Packet) -> Traced {
    let walk = Walk {
        table,
        bytes: &packet.bytes,
        headers: Headers::of_packet(&packet.bytes),
        seen: Seen::Packet(packet),
        mark: packet.mark,
        logged: Vec::new(),
        counted: Vec::new(),
    };
    walk.hook(point, TableFamily::Inet)
}

#[derive(Clone, Copy)]
enum Seen<'a> {
    Frame(&'a Frame),
    Packet(&'a Packet),
}

/// The table cannot be in a kernel as it is. Nothing passes it.
struct Impossible;

/// What a rule or chain makes of a packet.
enum Step {
    /// It goes on behind the rule, or in the calling chain.
    On,
    /// The base chain is done with it.
    Accept,
    /// The chain is done with it.
    Return,
    Jump(Box<str>),
    Goto(Box<str>),
    /// It ends.
    End(Outcome),
}

impl From<Verdict> for Step {
    fn from(verdict: Verdict) -> Step {
        match verdict {
            Verdict::Accept => Step::Accept,
            Verdict::Drop => Step::End(Outcome::Dropped),
            Verdict::Return => Step::Return,
            Verdict::Jump(chain) => Step::Jump(chain),
            Verdict::Goto(chain) => Step::Goto(chain),
        }
    }
}

struct Walk<'a> {
    table: &'a Table,
    bytes: &'a [u8],
    headers: Headers,
    seen: Seen<'a>,
    mark: u32,
    logged: Vec<Box<str>>,
    counted: Vec<Box<str>>,
}

/// NFPROTO_BRIDGE.
const NFPROTO_BRIDGE: u8 = 7;

impl Walk<'_> {
    /// Base chains in the order of their priorities: a verdict to accept ends one of them, and any other end all.
    fn hook(mut self, point: HookPoint, family: TableFamily) -> Traced {
        let here = self.table.chains.values().filter_map(|chain| {
            let priority = chain.base.filter(|base| base.point == point)?.priority;
            Some((priority, chain))
        });
        let mut chains: Vec<_> = here.collect();
        chains.sort_by_key(|(priority, _)| *priority);
        let mut outcome = if self.table.family == family { Outcome::Accepted } else { Outcome::Dropped };
        for (_, chain) in chains {
            if outcome != Outcome::Accepted {
                break;
            }
            outcome = match self.rules(&chain.rules, 0) {
                Ok(Some(outcome)) => outcome,
                Ok(None) => Outcome::Accepted,
                Err(Impossible) => Outcome::Dropped,
            };
        }
        Traced { outcome, logged: self.logged, counted: self.counted, mark: self.mark }
    }

    /// How a packet ends in some rules; `None` if it comes behind the last, or back.
    fn rules(&mut self, rules: &[Rule], depth: usize) -> Result<Option<Outcome>, Impossible> {
        for rule in rules {
            match self.rule(rule)? {
                Step::On => {}
                Step::Accept => return Ok(Some(Outcome::Accepted)),
                Step::End(outcome) => return Ok(Some(outcome)),
                Step::Return => return Ok(None),
                Step::Goto(chain) => return self.chain(&chain, depth),
                Step::Jump(chain) => {
                    if let Some(outcome) = self.chain(&chain, depth)? {
                        return Ok(Some(outcome));
                    }
                }
            }
        }
        Ok(None)
    }

    fn chain(&mut self, name: &str, depth: usize) -> Result<Option<Outcome>, Impossible> {
        match self.table.chains.get(name) {
            Some(chain) if depth < DEEPEST && chain.base.is_none() => self.rules(&chain.rules, depth + 1),
            Some(_) | None => Err(Impossible),
        }
    }

    /// What a rule does if all its statements hold.
    fn rule(&mut self, rule: &Rule) -> Result<Step, Impossible> {
        for statement in &rule.0 {
            match statement {
                Statement::Compare { field, mask, comparison, value } => {
                    if !self.holds(*field, mask.as_deref(), *comparison, value)? {
                        return Ok(Step::On);
                    }
                }
                Statement::In { fields, set, inverted } => {
                    let set = self.set(set)?;
                    let Some(key) = self.key(fields, set)? else { return Ok(Step::On) };
                    let holds = match set.kind.purpose {
                        SetPurpose::Set => set.elements.contains_key(key.as_slice()),
                        SetPurpose::Intervals => {
                            set.last_range_from(&key).is_some_and(|[_, last]| *last >= *key)
                        }
                        // A map is asked for verdicts, and what packets put into a set is not known.
                        SetPurpose::VerdictMap | SetPurpose::Dynamic { .. } => return Err(Impossible),
                    };
                    if holds == *inverted {
                        return Ok(Step::On);
                    }
                }
                Statement::VerdictOf { fields, map } => {
                    let map = self.set(map)?;
                    if map.kind.purpose != SetPurpose::VerdictMap {
                        return Err(Impossible);
                    }
                    let Some(key) = self.key(fields, map)? else { return Ok(Step::On) };
                    let verdict = map.elements.get(key.as_slice()).cloned().flatten();
                    return Ok(verdict.map_or(Step::On, Step::from));
                }
                Statement::Limit { fields, set, .. } => {
                    let set = self.set(set)?;
                    if !matches!(set.kind.purpose, SetPurpose::Dynamic { .. }) {
                        return Err(Impossible);
                    }
                    // The first packet in a while is within the limit.
                    if self.key(fields, set)?.is_none() {
                        return Ok(Step::On);
                    }
                }
                Statement::CountIn(counter) => {
                    let counter = self.table.counters.get(counter).ok_or(Impossible)?;
                    self.counted.push(counter.clone());
                }
                Statement::Log { prefix, .. } => self.logged.push(prefix.clone()),
                Statement::SetMark(bits) => self.mark |= bits,
                Statement::Verdict(verdict) => return Ok(verdict.clone().into()),
                Statement::Reject(with) => return Ok(Step::End(self.reject(*with)?)),
                Statement::Counter | Statement::Comment(_) => {}
            }
        }
        Ok(Step::On)
    }

    /// Only TCP can be reset.
    fn reject(&self, with: RejectWith) -> Result<Outcome, Impossible> {
        let is_tcp = self.headers.transport.is_some_and(|(protocol, _)| protocol == 6);
        match (self.seen, with) {
            (Seen::Frame(_), _) => Err(Impossible),
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
    ) -> Result<bool, Impossible> {
        let length = usize::from(field.length());
        if value.len() != length || mask.is_some_and(|mask| mask.len() != length) {
            return Err(Impossible);
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

    fn set(&self, name: &str) -> Result<&Set, Impossible> {
        self.table.sets.get(name).ok_or(Impossible)
    }

    /// Fields one after the other, as a key of a set; each of several is padded to four bytes.
    fn key(&self, fields: &[Field], set: &Set) -> Result<Option<Vec<u8>>, Impossible> {
        let mut key = Vec::new();
        for field in fields {
            let Some(bytes) = self.field(*field)? else { return Ok(None) };
            key.extend(bytes);
            if fields.len() > 1 {
                key.resize(key.len().next_multiple_of(4), 0);
            }
        }
        let fits = key.len() == set.kind.key_length() as usize;
        if fits { Ok(Some(key)) } else { Err(Impossible) }
    }

    /// A fact about the packet; `None` if it has none, and then no rule that asks for it holds.
    fn field(&self, field: Field) -> Result<Option<Vec<u8>>, Impossible> {
        Ok(match field {
            Field::Payload { base, offset, length } => self.payload(base, offset, length),
            Field::Meta(meta) => self.meta(meta)?,
            Field::Connection(fact) => {
                let Seen::Packet(packet) = self.seen else { return Err(Impossible) };
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
                let Seen::Packet(packet) = self.seen else { return Err(Impossible) };
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

    fn meta(&self, meta: Meta) -> Result<Option<Vec<u8>>, Impossible> {
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
                // br_netfilter makes it so of bridged packets, too.
                Seen::Packet(_) => Some(vec![PACKET_HOST]),
            },
            Meta::NfProto => match (self.seen, self.bytes.first().map(|first| first >> 4)) {
                (Seen::Frame(_), _) => Some(vec![NFPROTO_BRIDGE]),
                (Seen::Packet(_), Some(4)) => Some(vec![NFPROTO_IPV4]),
                (Seen::Packet(_), Some(6)) => Some(vec![NFPROTO_IPV6]),
                (Seen::Packet(_), Some(_) | None) => None,
            },
            Meta::InputName | Meta::OutputName => {
                // Frames come with indexes alone.
                let Seen::Packet(packet) = self.seen else { return Err(Impossible) };
                Some(name(if meta == Meta::InputName { &packet.input } else { &packet.output }))
            }
        })
    }
}

/// RTN_UNICAST.
const UNICAST_ADDRESS: u32 = 1;
const PACKET_HOST: u8 = 0;

/// A device's name with zeros behind it. Where there is no device, the kernel compares with an empty name.
fn name(device: &Device) -> Vec<u8> {
    let mut name = device.name.as_bytes().to_vec();
    name.resize(16, 0);
    name
}

/// PACKET_BROADCAST, PACKET_MULTICAST, or PACKET_OTHERHOST for a frame to one address.
fn packet_type(bytes: &[u8]) -> Option<u8> {
    let destination: &[u8; 6] = bytes.first_chunk()?;
    Some(match destination {
        [0xff, 0xff, 0xff, 0xff, 0xff, 0xff] => 1,
        [first, ..] if first & 1 == 1 => 2,
        _ => 3,
    })
}
