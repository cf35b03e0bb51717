//! How `nft` writes fields and their values. Header fields have names only if the rule has matched their protocol
//! before; otherwise, `nft` would add a match of the protocol, and the rule would differ.

use super::{Base, Comparison, ConnectionFact, Field, KeyPart, Meta, NFPROTO_IPV4, NFPROTO_IPV6, Statement};
use std::net::{Ipv4Addr, Ipv6Addr};

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE: Field = Field::Payload { base: Base::Link, offset: 12, length: 2 };

/// IANA protocol numbers.
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;

/// The protocols that a rule has matched so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked {
    /// NFPROTO_*.
    network: Option<u8>,
    transport: Option<u8>,
}

impl Asked {
    /// Takes a statement into account.
    pub(super) fn note(&mut self, statement: &Statement) {
        let Statement::Compare { field, mask: None, comparison: Comparison::Equal, value } = statement else {
            return;
        };
        match (*field, &**value) {
            (Field::Meta(Meta::NfProto), [family]) => self.network = Some(*family),
            (Field::Meta(Meta::TransportProtocol), [protocol]) => self.transport = Some(*protocol),
            (ETHERTYPE, [first, second]) => {
                self.network = match u16::from_be_bytes([*first, *second]) {
                    ETHERTYPE_IPV4 => Some(NFPROTO_IPV4),
                    ETHERTYPE_IPV6 => Some(NFPROTO_IPV6),
                    _ => None,
                }
            }
            _ => {}
        }
    }
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// Like a part of a key.
    Part(KeyPart),
    /// An ICMP type or a length, in network byte order.
    Decimal,
    /// Bits in host byte order.
    Bits,
    /// Bits in host byte order that have names.
    NamedBits(&'static [(u32, &'static str)]),
    /// NFPROTO_*.
    Family,
    /// The name of a device.
    Name,
    /// RTN_*, in host byte order.
    AddressType,
    /// Bytes.
    Hex,
}

const STATES: &[(u32, &str)] = &[
    (super::state::INVALID, "invalid"),
    (super::state::ESTABLISHED, "established"),
    (super::state::RELATED, "related"),
    (super::state::NEW, "new"),
    (super::state::UNTRACKED, "untracked"),
];
const STATUSES: &[(u32, &str)] = &[(super::status::DESTINATION_TRANSLATED, "dnat")];

/// How a field is written, and the format of its values.
pub(super) fn field(field: Field, asked: Asked) -> (String, Value) {
    let (word, value) = match field {
        Field::Payload { base, offset, length } => {
            let typed = match (base, offset, length) {
                (Base::Network, _, _) => network(asked.network, offset, length),
                (Base::Transport, _, _) => transport(asked.transport, offset, length),
                (Base::Link, _, _) => None,
            };
            let base = match base {
                Base::Link => "ll",
                Base::Network => "nh",
                Base::Transport => "th",
            };
            return typed.map(|(word, value)| (word.to_owned(), value)).unwrap_or_else(|| {
                let (offset, length) = (u32::from(offset) * 8, u32::from(length) * 8);
                (format!("@{base},{offset},{length}"), Value::Hex)
            });
        }
        Field::Meta(Meta::Length) => ("meta length", Value::Decimal),
        Field::Meta(Meta::Mark) => ("meta mark", Value::Bits),
        Field::Meta(Meta::InputIndex) => ("iif", Value::Part(KeyPart::Interface)),
        Field::Meta(Meta::OutputIndex) => ("oif", Value::Part(KeyPart::Interface)),
        Field::Meta(Meta::TransportProtocol) => ("meta l4proto", Value::Part(KeyPart::Protocol)),
        Field::Meta(Meta::PacketType) => ("meta pkttype", Value::Decimal),
        Field::Meta(Meta::NfProto) => ("meta nfproto", Value::Family),
        Field::Meta(Meta::InputName) => ("iifname", Value::Name),
        Field::Meta(Meta::OutputName) => ("oifname", Value::Name),
        Field::Connection(ConnectionFact::State) => ("ct state", Value::NamedBits(STATES)),
        Field::Connection(ConnectionFact::Status) => ("ct status", Value::NamedBits(STATUSES)),
        Field::Connection(ConnectionFact::Mark) => ("ct mark", Value::Bits),
        Field::SourceAddressType => ("fib saddr type", Value::AddressType),
    };
    (word.to_owned(), value)
}

fn network(family: Option<u8>, offset: u8, length: u8) -> Option<(&'static str, Value)> {
    match (family?, offset, length) {
        (NFPROTO_IPV4, 12, 4) => Some(("ip saddr", Value::Part(KeyPart::Ipv4))),
        (NFPROTO_IPV4, 16, 4) => Some(("ip daddr", Value::Part(KeyPart::Ipv4))),
        (NFPROTO_IPV6, 8, 16) => Some(("ip6 saddr", Value::Part(KeyPart::Ipv6))),
        (NFPROTO_IPV6, 24, 16) => Some(("ip6 daddr", Value::Part(KeyPart::Ipv6))),
        _ => None,
    }
}

fn transport(protocol: Option<u8>, offset: u8, length: u8) -> Option<(&'static str, Value)> {
    let word = match (protocol, offset, length) {
        (Some(ICMP), 0, 1) => return Some(("icmp type", Value::Decimal)),
        (Some(ICMPV6), 0, 1) => return Some(("icmpv6 type", Value::Decimal)),
        (Some(TCP), 0, 2) => "tcp sport",
        (Some(TCP), 2, 2) => "tcp dport",
        (Some(UDP), 0, 2) => "udp sport",
        (Some(UDP), 2, 2) => "udp dport",
        (Some(SCTP), 0, 2) => "sctp sport",
        (Some(SCTP), 2, 2) => "sctp dport",
        (_, 0, 2) => "th sport",
        (_, 2, 2) => "th dport",
        _ => return None,
    };
    Some((word, Value::Part(KeyPart::Service)))
}

/// Concatenated fields.
pub(super) fn fields(all: &[Field], asked: Asked) -> String {
    all.iter().map(|one| field(*one, asked).0).collect::<Vec<_>>().join(" . ")
}

/// The names of the bits, if each of them has one.
pub(super) fn names(value: Value, bits: &[u8]) -> Option<String> {
    let Value::NamedBits(known) = value else { return None };
    let bits = host(bits)?;
    let names: Vec<_> = known.iter().filter(|(bit, _)| bits & bit != 0).collect();
    let all = names.iter().fold(0, |all, (bit, _)| all | bit);
    (all == bits && bits != 0).then(|| names.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(","))
}

fn host(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_ne_bytes)
}

/// A value in its format; as bytes if its length is not that of its field.
pub(super) fn value(value: Value, bytes: &[u8]) -> String {
    let written = match value {
        Value::Part(part) => key_part(part, bytes),
        Value::Decimal => number(bytes),
        Value::Bits | Value::NamedBits(_) => host(bytes).map(|bits| format!("{bits:#x}")),
        Value::Family => match bytes {
            [NFPROTO_IPV4] => Some("ipv4".to_owned()),
            [NFPROTO_IPV6] => Some("ipv6".to_owned()),
            bytes => number(bytes),
        },
        Value::Name => name(bytes),
        Value::AddressType => match host(bytes) {
            Some(super::LOCAL_ADDRESS) => Some("local".to_owned()),
            number => number.map(|number| number.to_string()),
        },
        Value::Hex => None,
    };
    written.unwrap_or_else(|| hex(bytes))
}

fn number(bytes: &[u8]) -> Option<String> {
    let room = 8usize.checked_sub(bytes.len())?;
    let mut wide = [0; 8];
    wide[room..].copy_from_slice(bytes);
    Some(u64::from_be_bytes(wide).to_string())
}

/// A device's name; `nft` would read a star at its end as a wildcard.
fn name(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    let name = std::str::from_utf8(&bytes[..end]).ok()?;
    Some(match name.strip_suffix('*') {
        Some(start) => format!("\"{start}\\*\""),
        None => format!("\"{name}\""),
    })
}

fn hex(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("0x{digits}")
}

/// A part of a key, if the bytes have the part's length.
pub(super) fn key_part(part: KeyPart, bytes: &[u8]) -> Option<String> {
    Some(match part {
        KeyPart::Interface => host(bytes)?.to_string(),
        KeyPart::Ipv4 => Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).to_string(),
        KeyPart::Ipv6 => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_string(),
        KeyPart::Ethernet => {
            let bytes = <[u8; 6]>::try_from(bytes).ok()?;
            bytes.map(|byte| format!("{byte:02x}")).join(":")
        }
        KeyPart::Protocol => match bytes {
            [ICMP] => "icmp".to_owned(),
            [TCP] => "tcp".to_owned(),
            [UDP] => "udp".to_owned(),
            [ICMPV6] => "ipv6-icmp".to_owned(),
            [SCTP] => "sctp".to_owned(),
            [other] => other.to_string(),
            _ => return None,
        },
        KeyPart::Service => u16::from_be_bytes(bytes.try_into().ok()?).to_string(),
    })
}

/// The name of a part of a key in `nft`.
pub(super) fn key_type(part: KeyPart) -> &'static str {
    match part {
        KeyPart::Interface => "iface_index",
        KeyPart::Ipv4 => "ipv4_addr",
        KeyPart::Ipv6 => "ipv6_addr",
        KeyPart::Ethernet => "ether_addr",
        KeyPart::Protocol => "inet_proto",
        KeyPart::Service => "inet_service",
    }
}

/// A key of a set, as `nft` writes it.
pub fn key_text(parts: &[KeyPart], bytes: &[u8]) -> String {
    key(parts, bytes)
}

/// A key with these parts.
pub(super) fn key(parts: &[KeyPart], bytes: &[u8]) -> String {
    if let [only] = parts {
        return key_part(*only, bytes).unwrap_or_else(|| hex(bytes));
    }
    let (mut words, mut at) = (Vec::new(), 0);
    for part in parts {
        let length = part.length() as usize;
        let own = bytes.get(at..at + length).unwrap_or_default();
        words.push(key_part(*part, own).unwrap_or_else(|| hex(own)));
        at += length.next_multiple_of(4);
    }
    words.join(" . ")
}
