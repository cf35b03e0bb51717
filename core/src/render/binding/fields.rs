//! The fields of a frame, and the matches that several chains use.

use crate::netfilter::nftables::{Base, Field, Meta, Rule};

const fn link(offset: u8, length: u8) -> Field {
    Field::Payload { base: Base::Link, offset, length }
}

const fn network(offset: u8, length: u8) -> Field {
    Field::Payload { base: Base::Network, offset, length }
}

const fn transport(offset: u8, length: u8) -> Field {
    Field::Payload { base: Base::Transport, offset, length }
}

pub(super) const ETHER_DESTINATION: Field = link(0, 6);
pub(super) const ETHER_SOURCE: Field = link(6, 6);
const ETHER_TYPE: Field = link(12, 2);
/// The sender's address in ARP over Ethernet and IPv4 (RFC 826).
pub(super) const ARP_SENDER: Field = network(14, 4);
const IPV4_FRAGMENT: Field = network(6, 2);
const IPV4_TTL: Field = network(8, 1);
const IPV4_PROTOCOL: Field = network(9, 1);
pub(super) const IPV4_SOURCE: Field = network(12, 4);
pub(super) const IPV4_DESTINATION: Field = network(16, 4);
const IPV4_DESTINATION_FIRST: Field = network(16, 1);
const NEXT_HEADER: Field = network(6, 1);
const HOP_LIMIT: Field = network(7, 1);
/// In a header of a fragment that stands right behind the IPv6 header: what follows it, and the offset of the fragment (RFC 8200).
const FRAGMENT_NEXT_HEADER: Field = network(40, 1);
const FRAGMENT_OFFSET: Field = network(42, 2);
pub(super) const IPV6_SOURCE: Field = network(8, 16);
const IPV6_SOURCE_START: Field = network(8, 2);
pub(super) const IPV6_DESTINATION: Field = network(24, 16);
const IPV6_DESTINATION_START: Field = network(24, 2);
const IPV6_DESTINATION_FIRST: Field = network(24, 1);
const ICMP_TYPE: Field = transport(0, 1);
/// The destination of the packet that an ICMP error is about, which it quotes (RFC 792, RFC 4443).
pub(super) const QUOTED_IPV4_DESTINATION: Field = transport(24, 4);
pub(super) const QUOTED_IPV6_DESTINATION: Field = transport(32, 16);
const QUOTED_IPV6_DESTINATION_START: Field = transport(32, 2);
/// The target of a neighbour solicitation or advertisement (RFC 4861).
pub(super) const ND_TARGET: Field = transport(8, 16);
const ND_TARGET_START: Field = transport(8, 2);
/// Source and destination port.
const PORTS: Field = transport(0, 4);
pub(super) const DESTINATION_PORT: Field = transport(2, 2);
pub(super) const FROM: Field = Field::Meta(Meta::InputIndex);
pub(super) const TO: Field = Field::Meta(Meta::OutputIndex);
pub(super) const TRANSPORT_PROTOCOL: Field = Field::Meta(Meta::TransportProtocol);
const PACKET_TYPE: Field = Field::Meta(Meta::PacketType);
const LENGTH: Field = Field::Meta(Meta::Length);

pub(super) const ARP: [u8; 2] = [0x08, 0x06];
pub(super) const IPV4: [u8; 2] = [0x08, 0x00];
pub(super) const IPV6: [u8; 2] = [0x86, 0xdd];
pub(super) const VLAN: [u8; 2] = [0x81, 0x00];
pub(super) const SERVICE_VLAN: [u8; 2] = [0x88, 0xa8];

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const UDP: u8 = 17;
/// The header of a fragment.
const FRAGMENT: u8 = 44;
const IGMP: u8 = 2;
const BROADCAST: u8 = 1;
const MULTICAST: u8 = 2;
const ND_HOP_LIMIT: u8 = 255;
/// The length of ARP, padded to the shortest Ethernet frame; a longer one carries something else.
const ARP_LONGEST: u32 = 46;
/// The length of neighbour discovery with its usual options; a longer one carries something else.
const ND_LONGEST: u32 = 96;

/// Router solicitation, router advertisement, neighbour solicitation and advertisement, redirect (RFC 4861).
pub(super) const ROUTER_SOLICITATION: u8 = 133;
pub(super) const ROUTER_ADVERTISEMENT: u8 = 134;
pub(super) const NEIGHBOUR_SOLICITATION: u8 = 135;
pub(super) const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
pub(super) const REDIRECT: u8 = 137;
/// Those of them that a pod may send.
pub(super) const DISCOVERS: [u8; 3] = [ROUTER_SOLICITATION, NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT];
/// Destination unreachable, source quench, redirect, time exceeded, parameter problem (RFC 792).
pub(super) const ICMP_ERRORS: [u8; 5] = [3, 4, 5, 11, 12];
/// Destination unreachable, packet too big, time exceeded, parameter problem (RFC 4443).
pub(super) const ICMPV6_ERRORS: [u8; 4] = [1, 2, 3, 4];
/// Multicast listener reports of pods (RFC 2710, RFC 3810): report, done, report of version 2.
pub(super) const LISTENER_REPORTS: [u8; 3] = [131, 132, 143];
/// The multicast listener query of a router (RFC 2710).
pub(super) const LISTENER_QUERY: u8 = 130;

/// Matches of a frame, in the terms of its protocols.
pub(super) trait Asks: Sized {
    /// Matches this Ethernet type; a VLAN tag has a separate type.
    fn of_type(self, kind: [u8; 2]) -> Self;
    /// Matches a unicast frame.
    fn to_one(self) -> Self;
    /// Matches a broadcast frame.
    fn to_all(self) -> Self;
    /// Matches a multicast frame.
    fn to_group(self) -> Self;
    /// Matches IGMP that no router forwards (RFC 2236).
    fn igmp(self) -> Self;
    /// Matches an IPv4 multicast destination.
    fn to_ipv4_group(self) -> Self;
    /// Matches DHCP from a client that has no address yet, to all servers (RFC 2131).
    fn dhcp_request(self) -> Self;
    /// Matches DHCPv6 from a client, to all servers (RFC 8415).
    fn dhcpv6_request(self) -> Self;
    /// Matches UDP.
    fn udp(self) -> Self;
    /// Does not match ICMP.
    fn no_icmp(self) -> Self;
    /// Matches ICMP of this type.
    fn icmp_type(self, kind: u8) -> Self;
    /// Matches a fragment that is not the last one.
    fn in_fragments(self) -> Self;
    /// Matches an ICMP error about a packet to a link-local address.
    fn quotes_link_local(self) -> Self;
    /// Matches ICMPv6.
    fn icmpv6(self) -> Self;
    /// Matches packets other than ICMPv6.
    fn no_icmpv6(self) -> Self;
    /// Matches ICMPv6 of this type.
    fn icmpv6_type(self, kind: u8) -> Self;
    /// Matches a packet with extension headers between its IPv6 header and its payload: options, or the header of a
    /// fragment.
    fn behind_extensions(self) -> Self;
    /// Matches ICMPv6 whose type can be read.
    fn legible_icmpv6(self) -> Self;
    /// Matches a fragment of ICMPv6 that is not the first, without other extension headers.
    fn later_icmpv6_fragment(self) -> Self;
    /// Matches a packet whose extension headers are all there, so that its protocol can be read.
    fn legible_protocol(self) -> Self;
    /// Matches a packet from this link (RFC 4861: hop limit 255).
    fn sent_on_this_link(self) -> Self;
    /// Matches a packet that may have been routed.
    fn perhaps_routed(self) -> Self;
    /// Matches a packet that no router forwards (RFC 2710: hop limit 1).
    fn for_this_link(self) -> Self;
    /// Matches a link-local IPv6 source.
    fn source_link_local(self) -> Self;
    /// Matches any other IPv6 source.
    fn source_not_link_local(self) -> Self;
    /// Matches a link-local IPv6 destination.
    fn to_link_local(self) -> Self;
    /// Matches an IPv6 multicast destination.
    fn to_ipv6_group(self) -> Self;
    /// Matches any other IPv6 destination.
    fn to_global(self) -> Self;
    /// Matches neighbour discovery whose target is link-local.
    fn about_link_local(self) -> Self;
    /// Matches a packet that is not longer than ARP.
    fn short_as_arp(self) -> Self;
    /// Matches a packet that is not longer than neighbour discovery.
    fn short_as_nd(self) -> Self;
}

const LINK_LOCAL_MASK: [u8; 2] = [0xff, 0xc0];
const LINK_LOCAL: [u8; 2] = [0xfe, 0x80];

impl Asks for Rule {
    fn of_type(self, kind: [u8; 2]) -> Rule {
        self.is(ETHER_TYPE, &kind)
    }

    fn to_one(self) -> Rule {
        self.is_not(PACKET_TYPE, &[BROADCAST]).is_not(PACKET_TYPE, &[MULTICAST])
    }

    fn to_all(self) -> Rule {
        self.is(PACKET_TYPE, &[BROADCAST])
    }

    fn to_group(self) -> Rule {
        self.is(PACKET_TYPE, &[MULTICAST])
    }

    fn igmp(self) -> Rule {
        self.is(IPV4_PROTOCOL, &[IGMP]).is(IPV4_TTL, &[1])
    }

    fn to_ipv4_group(self) -> Rule {
        self.masked(IPV4_DESTINATION_FIRST, &[0xf0], &[0xe0])
    }

    fn dhcp_request(self) -> Rule {
        let from_nowhere_to_all = self.is(IPV4_SOURCE, &[0; 4]).is(IPV4_DESTINATION, &[0xff; 4]);
        from_nowhere_to_all.udp().is(PORTS, &[0, 68, 0, 67])
    }

    fn dhcpv6_request(self) -> Rule {
        self.to_ipv6_group().udp().is(PORTS, &[0x02, 0x22, 0x02, 0x23])
    }

    fn udp(self) -> Rule {
        self.is(TRANSPORT_PROTOCOL, &[UDP])
    }

    fn no_icmp(self) -> Rule {
        self.is_not(TRANSPORT_PROTOCOL, &[ICMP])
    }

    fn icmp_type(self, kind: u8) -> Rule {
        self.is(TRANSPORT_PROTOCOL, &[ICMP]).is(ICMP_TYPE, &[kind])
    }

    fn in_fragments(self) -> Rule {
        self.masked(IPV4_FRAGMENT, &[0x20, 0], &[0x20, 0])
    }

    fn quotes_link_local(self) -> Rule {
        self.masked(QUOTED_IPV6_DESTINATION_START, &LINK_LOCAL_MASK, &LINK_LOCAL)
    }

    fn icmpv6(self) -> Rule {
        self.is(TRANSPORT_PROTOCOL, &[ICMPV6])
    }

    fn no_icmpv6(self) -> Rule {
        self.is_not(TRANSPORT_PROTOCOL, &[ICMPV6])
    }

    fn icmpv6_type(self, kind: u8) -> Rule {
        self.icmpv6().is(ICMP_TYPE, &[kind])
    }

    fn behind_extensions(self) -> Rule {
        self.is_not(NEXT_HEADER, &[ICMPV6])
    }

    fn legible_icmpv6(self) -> Rule {
        self.icmpv6().at_most(ICMP_TYPE, &[u8::MAX])
    }

    fn later_icmpv6_fragment(self) -> Rule {
        let alone = self.icmpv6().is(NEXT_HEADER, &[FRAGMENT]).is(FRAGMENT_NEXT_HEADER, &[ICMPV6]);
        alone.masked_not(FRAGMENT_OFFSET, &[0xff, 0xf8], &[0, 0])
    }

    fn legible_protocol(self) -> Rule {
        self.at_most(TRANSPORT_PROTOCOL, &[u8::MAX])
    }

    fn sent_on_this_link(self) -> Rule {
        self.is(HOP_LIMIT, &[ND_HOP_LIMIT])
    }

    fn perhaps_routed(self) -> Rule {
        self.is_not(HOP_LIMIT, &[ND_HOP_LIMIT])
    }

    fn for_this_link(self) -> Rule {
        self.is(HOP_LIMIT, &[1])
    }

    fn source_link_local(self) -> Rule {
        self.masked(IPV6_SOURCE_START, &LINK_LOCAL_MASK, &LINK_LOCAL)
    }

    fn source_not_link_local(self) -> Rule {
        self.masked_not(IPV6_SOURCE_START, &LINK_LOCAL_MASK, &LINK_LOCAL)
    }

    fn to_link_local(self) -> Rule {
        self.masked(IPV6_DESTINATION_START, &LINK_LOCAL_MASK, &LINK_LOCAL)
    }

    fn to_ipv6_group(self) -> Rule {
        self.is(IPV6_DESTINATION_FIRST, &[0xff])
    }

    fn to_global(self) -> Rule {
        // Matches fe00::/8 and ff00::/8 in one comparison: nothing else is link-local or multicast.
        self.masked_not(IPV6_DESTINATION_FIRST, &[0xfe], &[0xfe])
    }

    fn about_link_local(self) -> Rule {
        self.masked(ND_TARGET_START, &LINK_LOCAL_MASK, &LINK_LOCAL)
    }

    fn short_as_arp(self) -> Rule {
        self.at_most(LENGTH, &ARP_LONGEST.to_be_bytes())
    }

    fn short_as_nd(self) -> Rule {
        self.at_most(LENGTH, &ND_LONGEST.to_be_bytes())
    }
}
