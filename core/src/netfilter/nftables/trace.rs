//! What a frame meets in a table: the kernel's own semantics, in a few pure lines.

use super::{Base, Comparison, Field, HookPoint, Meta, Rule, SetPurpose, Statement, Table, Verdict};

/// A frame as a hook of a bridge sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its bytes from the Ethernet header on, with the VLAN tags that it came with.
    pub bytes: Vec<u8>,
    /// The index of the port that it came in by.
    pub input: u32,
    /// The index of the port that it leaves by; 0 before that is known.
    pub output: u32,
    /// The packet mark.
    pub mark: u32,
}

/// What became of a frame at one hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    /// Whether it goes on.
    pub accepted: bool,
    /// The prefixes of the log rules that it met.
    pub logged: Vec<Box<str>>,
    /// The packet mark that it goes on with.
    pub mark: u32,
}

const ETHERNET: usize = 14;
const TAG: usize = 4;
const TAGS: [[u8; 2]; 2] = [[0x81, 0x00], [0x88, 0xa8]];
const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];

/// Follows a frame through the base chains of one hook.
pub fn trace(table: &Table, point: HookPoint, frame: &Frame) -> Traced {
    let mut walk =
        Walk { table, frame, headers: Headers::of(&frame.bytes), mark: frame.mark, logged: Vec::new() };
    let is_here = |chain: &&super::Chain| chain.base.is_some_and(|base| base.point == point);
    let mut chains: Vec<_> = table.chains.values().filter(is_here).collect();
    chains.sort_by_key(|chain| chain.base.map(|base| base.priority));
    let accepted = chains.iter().all(|chain| !matches!(walk.rules(&chain.rules, 0), Outcome::Dropped));
    Traced { accepted, logged: walk.logged, mark: walk.mark }
}

/// Where the headers of a frame begin, as nft_set_pktinfo finds them.
struct Headers {
    network: usize,
    /// The transport protocol and where its header begins; no place for a later fragment.
    transport: Option<(u8, Option<usize>)>,
}

impl Headers {
    fn of(bytes: &[u8]) -> Headers {
        let kind = |at: usize| bytes.get(at..at + 2);
        let tagged = TAGS.iter().any(|tag| kind(12) == Some(tag));
        // The kernel takes one tag off before a bridge sees the frame.
        let network = ETHERNET + if tagged { TAG } else { 0 };
        let packet = bytes.get(network..).unwrap_or_default();
        let transport = match kind(network - 2) {
            Some(kind) if kind == IPV4 => ipv4_transport(packet),
            Some(kind) if kind == IPV6 => ipv6_transport(packet),
            Some(_) | None => None,
        };
        let transport = transport.map(|(protocol, at)| (protocol, at.map(|at| network + at)));
        Headers { network, transport }
    }
}

fn ipv4_transport(packet: &[u8]) -> Option<(u8, Option<usize>)> {
    let header: &[u8; 20] = packet.first_chunk()?;
    let length = usize::from(header[0] & 0xf) * 4;
    if header[0] >> 4 != 4 || length < 20 {
        return None;
    }
    let later = u16::from_be_bytes([header[6], header[7]]) & 0x1fff != 0;
    Some((header[9], (!later).then_some(length)))
}

fn ipv6_transport(packet: &[u8]) -> Option<(u8, Option<usize>)> {
    let header: &[u8; 40] = packet.first_chunk()?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let (mut next, mut at) = (header[6], 40);
    loop {
        let length = match (next, packet.get(at..at + 4)) {
            (0 | 43 | 60, Some(extension)) => (usize::from(extension[1]) + 1) * 8,
            (51, Some(extension)) => (usize::from(extension[1]) + 2) * 4,
            (44, Some(extension)) if u16::from_be_bytes([extension[2], extension[3]]) & 0xfff8 == 0 => 8,
            (44, Some(extension)) => return Some((extension[0], None)),
            (0 | 43 | 44 | 51 | 60, None) => return None,
            _ => return Some((next, Some(at))),
        };
        next = packet[at];
        at += length;
    }
}

enum Outcome {
    Accepted,
    Dropped,
    /// It came to the end of a chain, or was sent back.
    Returned,
}

struct Walk<'a> {
    table: &'a Table,
    frame: &'a Frame,
    headers: Headers,
    mark: u32,
    logged: Vec<Box<str>>,
}

const DEEPEST: usize = 16;

impl Walk<'_> {
    fn rules(&mut self, rules: &[Rule], depth: usize) -> Outcome {
        for rule in rules {
            let Some(verdict) = self.rule(rule) else { continue };
            let outcome = match &verdict {
                Verdict::Accept => return Outcome::Accepted,
                Verdict::Drop => return Outcome::Dropped,
                Verdict::Return => return Outcome::Returned,
                Verdict::Jump(chain) | Verdict::Goto(chain) => self.chain(chain, depth),
            };
            match (outcome, verdict) {
                (Outcome::Returned, Verdict::Jump(_)) => {}
                (outcome, _) => return outcome,
            }
        }
        Outcome::Returned
    }

    /// A chain that is missing or too deep cannot be in a kernel; nothing passes it.
    fn chain(&mut self, name: &str, depth: usize) -> Outcome {
        match self.table.chains.get(name) {
            Some(chain) if depth < DEEPEST => self.rules(&chain.rules, depth + 1),
            Some(_) | None => Outcome::Dropped,
        }
    }

    /// The verdict of a rule whose statements all hold.
    fn rule(&mut self, rule: &Rule) -> Option<Verdict> {
        for statement in &rule.0 {
            match statement {
                Statement::Compare { field, mask, comparison, value } => {
                    let mut found = self.field(*field)?;
                    if let Some(mask) = mask {
                        found.iter_mut().zip(mask).for_each(|(byte, mask)| *byte &= mask);
                    }
                    let holds = match comparison {
                        Comparison::Equal => *found == **value,
                        Comparison::Different => *found != **value,
                        Comparison::AtMost => *found <= **value,
                        Comparison::AtLeast => *found >= **value,
                    };
                    if !holds {
                        return None;
                    }
                }
                Statement::In { fields, set, inverted } => {
                    let key = self.key(fields)?;
                    let set = self.table.sets.get(set)?;
                    if set.elements.contains_key(key.as_slice()) == *inverted {
                        return None;
                    }
                }
                Statement::VerdictOf { fields, map } => {
                    let key = self.key(fields)?;
                    let map =
                        self.table.sets.get(map).filter(|map| map.kind.purpose == SetPurpose::VerdictMap)?;
                    return map.elements.get(key.as_slice()).cloned().flatten();
                }
                Statement::Limit { .. }
                | Statement::Counter
                | Statement::CountIn(_)
                | Statement::Comment(_) => {}
                Statement::Reject(_) => return Some(Verdict::Drop),
                Statement::Log { prefix, .. } => self.logged.push(prefix.clone()),
                Statement::SetMark(bits) => self.mark |= bits,
                Statement::Verdict(verdict) => return Some(verdict.clone()),
            }
        }
        None
    }

    /// Fields one after the other; each of several is padded to four bytes.
    fn key(&self, fields: &[Field]) -> Option<Vec<u8>> {
        if let [only] = fields {
            return self.field(*only);
        }
        let mut key = Vec::new();
        for field in fields {
            key.extend(self.field(*field)?);
            key.resize(key.len().next_multiple_of(4), 0);
        }
        Some(key)
    }

    fn field(&self, field: Field) -> Option<Vec<u8>> {
        let bytes = &self.frame.bytes;
        match field {
            Field::Payload { base, offset, length } => {
                let start = usize::from(offset)
                    + match base {
                        Base::Link => 0,
                        Base::Network => self.headers.network,
                        Base::Transport => self.headers.transport?.1?,
                    };
                bytes.get(start..start + usize::from(length)).map(<[u8]>::to_vec)
            }
            Field::Meta(Meta::Length) => {
                let length = bytes.len().saturating_sub(self.headers.network);
                Some(u32::try_from(length).ok()?.to_be_bytes().into())
            }
            Field::Meta(Meta::Mark) => Some(self.mark.to_ne_bytes().into()),
            Field::Meta(Meta::InputIndex) => Some(self.frame.input.to_ne_bytes().into()),
            Field::Meta(Meta::OutputIndex) => Some(self.frame.output.to_ne_bytes().into()),
            Field::Meta(Meta::TransportProtocol) => Some(vec![self.headers.transport?.0]),
            Field::Meta(Meta::PacketType) => Some(vec![packet_type(bytes)?]),
            Field::Meta(Meta::NfProto | Meta::InputName | Meta::OutputName)
            | Field::Connection(_)
            | Field::SourceAddressType => None,
        }
    }
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
