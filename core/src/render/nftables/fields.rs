//! The fields of a packet, and the matches that several chains use.

use crate::model::Direction;
use crate::net::{Family, Protocol};
use crate::netfilter::nftables::{
    Base, ConnectionFact, Field, KeyPart, Meta, NFPROTO_IPV4, NFPROTO_IPV6, Rule, state, status,
};

const IPV4_SOURCE: Field = network(12, 4);
const IPV4_DESTINATION: Field = network(16, 4);
const IPV6_HOP_LIMIT: Field = network(7, 1);
const IPV6_SOURCE: Field = network(8, 16);
const IPV6_SOURCE_START: Field = network(8, 2);
const IPV6_DESTINATION: Field = network(24, 16);
const ICMP_TYPE: Field = transport(0, 1);
/// The destination port, which has the same offset in TCP, UDP and SCTP.
pub(super) const DESTINATION_PORT: Field = transport(2, 2);
pub(super) const PROTOCOL: Field = Field::Meta(Meta::TransportProtocol);
pub(super) const MARK: Field = Field::Meta(Meta::Mark);
pub(super) const CONNECTION_MARK: Field = Field::Connection(ConnectionFact::Mark);
const CONNECTION_STATE: Field = Field::Connection(ConnectionFact::State);
const CONNECTION_STATUS: Field = Field::Connection(ConnectionFact::Status);

const IGMP: u8 = 2;
const ICMPV6: u8 = 58;
/// The hop limit of neighbour discovery from the link itself; a routed packet has a lower one (RFC 4861).
const ND_HOP_LIMIT: u8 = 255;

const fn network(offset: u8, length: u8) -> Field {
    Field::Payload { base: Base::Network, offset, length }
}

const fn transport(offset: u8, length: u8) -> Field {
    Field::Payload { base: Base::Transport, offset, length }
}

/// The source address in a family.
pub(super) fn source(family: Family) -> Field {
    match family {
        Family::V4 => IPV4_SOURCE,
        Family::V6 => IPV6_SOURCE,
    }
}

/// The destination address in a family.
pub(super) fn destination(family: Family) -> Field {
    match family {
        Family::V4 => IPV4_DESTINATION,
        Family::V6 => IPV6_DESTINATION,
    }
}

/// The field of the isolated pod's address.
pub(super) fn subject(direction: Direction, family: Family) -> Field {
    match direction {
        Direction::Ingress => destination(family),
        Direction::Egress => source(family),
    }
}

/// The field of its peer's address.
pub(super) fn peer(direction: Direction, family: Family) -> Field {
    match direction {
        Direction::Ingress => source(family),
        Direction::Egress => destination(family),
    }
}

/// The type of an address as a part of a key.
pub(super) fn address_part(family: Family) -> KeyPart {
    match family {
        Family::V4 => KeyPart::Ipv4,
        Family::V6 => KeyPart::Ipv6,
    }
}

/// Matches packets of a family.
pub(super) fn of_family(family: Family) -> Rule {
    let number = match family {
        Family::V4 => NFPROTO_IPV4,
        Family::V6 => NFPROTO_IPV6,
    };
    Rule::when().is(Field::Meta(Meta::NfProto), &[number])
}

/// Also matches a transport protocol.
pub(super) fn with_protocol(rule: Rule, protocol: Protocol) -> Rule {
    rule.is(PROTOCOL, &[protocol.number()])
}

/// Also matches one destination port of a transport protocol.
pub(super) fn to_port(rule: Rule, protocol: Protocol, port: u16) -> Rule {
    with_protocol(rule, protocol).is(DESTINATION_PORT, &port.to_be_bytes())
}

/// Matches packets of connections that were allowed, and ICMP errors about them.
pub(super) fn established() -> Rule {
    Rule::when().any_bit(CONNECTION_STATE, state::ESTABLISHED | state::RELATED)
}

/// Matches packets that belong to no connection according to conntrack.
pub(super) fn invalid() -> Rule {
    Rule::when().any_bit(CONNECTION_STATE, state::INVALID)
}

/// Also matches connections to a Service.
pub(super) fn to_service(rule: Rule) -> Rule {
    rule.any_bit(CONNECTION_STATUS, status::DESTINATION_TRANSLATED)
}

/// Also matches packets with this bit of the packet mark, or without it.
pub(super) fn with_mark(rule: Rule, bit: u32, is_set: bool) -> Rule {
    let bits = bit.to_ne_bytes();
    if is_set { rule.masked_not(MARK, &bits, &[0; 4]) } else { rule.masked(MARK, &bits, &[0; 4]) }
}

/// Also matches the input or output device.
pub(super) fn by_device(rule: Rule, side: Meta, name: &str) -> Rule {
    let mut padded = [0; 16];
    for (to, byte) in padded.iter_mut().zip(name.bytes()) {
        *to = byte;
    }
    rule.is(Field::Meta(side), &padded)
}

/// Matches ICMPv6 of a type.
pub(super) fn icmpv6(number: u8) -> Rule {
    Rule::when().is(PROTOCOL, &[ICMPV6]).is(ICMP_TYPE, &[number])
}

/// Also matches the hop limit of packets from the link itself.
pub(super) fn from_link(rule: Rule) -> Rule {
    rule.is(IPV6_HOP_LIMIT, &[ND_HOP_LIMIT])
}

/// Matches IGMP, the group membership protocol of IPv4 (RFC 3376).
pub(super) fn igmp() -> Rule {
    of_family(Family::V4).is(PROTOCOL, &[IGMP])
}

/// Also matches link-local sources (RFC 4291).
pub(super) fn from_link_local(rule: Rule) -> Rule {
    rule.masked(IPV6_SOURCE_START, &[0xff, 0xc0], &[0xfe, 0x80])
}
