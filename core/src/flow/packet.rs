//! Reads the headers of a packet, and trusts no length in them.

use crate::net::Protocol;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How many bytes of a packet are enough to read it: an IPv6 header, some extensions, and the ports.
pub const BYTES: u32 = 128;
/// How many IPv6 extension headers are followed.
const EXTENSIONS: usize = 8;

/// Ethernet types (IEEE 802 numbers).
const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// The fields of a packet that policies distinguish, as they were at the FORWARD hook: after destination NAT, before
/// source NAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeniedPacket {
    /// Its source address.
    pub source: IpAddr,
    /// Its destination address.
    pub destination: IpAddr,
    /// Its protocol, with the port or type.
    pub payload: DeniedPayload,
}

/// The protocol of a packet, with the port or type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeniedPayload {
    /// A protocol that a policy can name, and the destination port. The source port is left out, as it differs from
    /// connection to connection.
    Transport(Protocol, u16),
    /// ICMP or ICMPv6, by type and code.
    Icmp(u8, u8),
    /// Any other protocol, or a later fragment, by IANA protocol number.
    Other(u8),
    /// ARP over Ethernet and IPv4; source and destination are the sender's and the target's address (RFC 826).
    Arp,
    /// A frame that is neither IP nor ARP, by Ethernet type; its addresses are not known.
    Ethernet(u16),
}

impl DeniedPayload {
    /// The protocol and port, if it has any.
    pub fn port(self) -> Option<(Protocol, u16)> {
        match self {
            DeniedPayload::Transport(protocol, port) => Some((protocol, port)),
            DeniedPayload::Icmp(..)
            | DeniedPayload::Other(_)
            | DeniedPayload::Arp
            | DeniedPayload::Ethernet(_) => None,
        }
    }
}

impl fmt::Display for DeniedPayload {
    /// `80/TCP`, `ICMP 8/0` by type and code, `protocol 47`, `ARP`, `Ethernet type 0x88b5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeniedPayload::Transport(protocol, port) => write!(f, "{port}/{protocol}"),
            DeniedPayload::Icmp(kind, code) => write!(f, "ICMP {kind}/{code}"),
            DeniedPayload::Other(number) => write!(f, "protocol {number}"),
            DeniedPayload::Arp => f.write_str("ARP"),
            DeniedPayload::Ethernet(kind) => write!(f, "Ethernet type {kind:#06x}"),
        }
    }
}

impl DeniedPacket {
    /// Reads a packet, from its IP header on. `None` if it is neither IPv4 nor IPv6, or truncated.
    pub fn read(bytes: &[u8]) -> Option<DeniedPacket> {
        match bytes.first()? >> 4 {
            4 => read_v4(bytes),
            6 => read_v6(bytes),
            _ => None,
        }
    }
}

impl DeniedPacket {
    /// Reads what follows an Ethernet header of this type. `None` for truncated IP or ARP.
    pub fn of_frame(kind: u16, bytes: &[u8]) -> Option<DeniedPacket> {
        match kind {
            IPV4 | IPV6 => DeniedPacket::read(bytes),
            ARP => read_arp(bytes),
            _ => {
                let nowhere = Ipv4Addr::UNSPECIFIED.into();
                Some(DeniedPacket {
                    source: nowhere,
                    destination: nowhere,
                    payload: DeniedPayload::Ethernet(kind),
                })
            }
        }
    }
}

fn read_arp(bytes: &[u8]) -> Option<DeniedPacket> {
    let address = |at: usize| -> Option<IpAddr> {
        let octets: [u8; 4] = bytes.get(at..)?.first_chunk().copied()?;
        Some(octets.into())
    };
    Some(DeniedPacket { source: address(14)?, destination: address(24)?, payload: DeniedPayload::Arp })
}

fn read_v4(bytes: &[u8]) -> Option<DeniedPacket> {
    let header: &[u8; 20] = bytes.first_chunk()?;
    let length = usize::from(header[0] & 0xf) * 4;
    let address = |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]);
    let is_later_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x1fff != 0;
    let payload = match bytes.get(length.max(20)..) {
        Some(rest) if !is_later_fragment => read_payload(header[9], rest),
        Some(_) | None => DeniedPayload::Other(header[9]),
    };
    Some(DeniedPacket { source: address(12).into(), destination: address(16).into(), payload })
}

fn read_v6(bytes: &[u8]) -> Option<DeniedPacket> {
    let header: &[u8; 40] = bytes.first_chunk()?;
    let address = |at: usize| -> Option<IpAddr> {
        header[at..].first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets).into())
    };
    let payload = behind_extensions(header[6], &bytes[40..]);
    Some(DeniedPacket { source: address(8)?, destination: address(24)?, payload })
}

/// Follows the IPv6 extension headers (RFC 8200).
fn behind_extensions(mut next: u8, mut rest: &[u8]) -> DeniedPayload {
    for _ in 0..EXTENSIONS {
        let Some(&[following, length, high, low]) = rest.first_chunk() else {
            return DeniedPayload::Other(next);
        };
        let length = match next {
            // Hop-by-hop, routing, destination options.
            0 | 43 | 60 => (usize::from(length) + 1) * 8,
            // A fragment; only the first one contains the next header.
            44 if u16::from_be_bytes([high, low]) & 0xfff8 == 0 => 8,
            44 => return DeniedPayload::Other(following),
            // An authentication header (RFC 4302).
            51 => (usize::from(length) + 2) * 4,
            _ => return read_payload(next, rest),
        };
        next = following;
        rest = rest.get(length..).unwrap_or_default();
    }
    DeniedPayload::Other(next)
}

fn read_payload(number: u8, bytes: &[u8]) -> DeniedPayload {
    match (Protocol::from_number(number), bytes) {
        (Some(protocol), &[_, _, high, low, ..]) => {
            DeniedPayload::Transport(protocol, u16::from_be_bytes([high, low]))
        }
        (None, &[kind, code, ..]) if number == ICMP || number == ICMPV6 => DeniedPayload::Icmp(kind, code),
        (Some(_) | None, _) => DeniedPayload::Other(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v4(protocol: u8, fragment: u16, options: usize, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 20 + options];
        bytes[0] = 0x40 | u8::try_from((20 + options) / 4).unwrap();
        bytes[6..8].copy_from_slice(&fragment.to_be_bytes());
        bytes[9] = protocol;
        bytes[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        [&bytes, payload].concat()
    }

    fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 40];
        bytes[0] = 0x60;
        bytes[6] = next;
        (bytes[23], bytes[39]) = (1, 2);
        [&bytes, payload].concat()
    }

    const PORTS: [u8; 4] = [0xc3, 0x50, 0, 80];

    #[test]
    fn transport_of_both_families_is_read_with_its_port() {
        for protocol in Protocol::ALL {
            let wanted = DeniedPayload::Transport(protocol, 80);
            let v4 = DeniedPacket::read(&v4(protocol.number(), 0, 0, &PORTS)).unwrap();
            assert_eq!((v4.source, v4.destination), ([10, 0, 0, 1].into(), [10, 0, 0, 2].into()));
            assert_eq!(v4.payload, wanted);
            let v6 = DeniedPacket::read(&v6(protocol.number(), &PORTS)).unwrap();
            assert_eq!((v6.source, v6.destination), ("::1".parse().unwrap(), "::2".parse().unwrap()));
            assert_eq!(v6.payload, wanted);
        }
    }

    #[test]
    fn options_and_extension_headers_are_passed_over() {
        assert_eq!(
            DeniedPacket::read(&v4(6, 0, 8, &PORTS)).unwrap().payload,
            DeniedPayload::Transport(Protocol::Tcp, 80)
        );
        let hop_by_hop = [44, 0, 0, 0, 0, 0, 0, 0];
        let first_fragment = [51, 0, 0, 1, 0, 0, 0, 9];
        let authentication = [[17, 1, 0, 0], [0; 4], [0; 4]].concat();
        let chain = [&hop_by_hop[..], &first_fragment, &authentication, &PORTS].concat();
        assert_eq!(
            DeniedPacket::read(&v6(0, &chain)).unwrap().payload,
            DeniedPayload::Transport(Protocol::Udp, 80)
        );
    }

    #[test]
    fn later_fragment_has_no_port() {
        assert_eq!(DeniedPacket::read(&v4(17, 100, 0, &PORTS)).unwrap().payload, DeniedPayload::Other(17));
        let later = [&[17, 0, 0, 8, 0, 0, 0, 9], &PORTS[..]].concat();
        assert_eq!(DeniedPacket::read(&v6(44, &later)).unwrap().payload, DeniedPayload::Other(17));
    }

    #[test]
    fn icmp_is_read_by_type_and_code_and_the_rest_by_number() {
        assert_eq!(
            DeniedPacket::read(&v4(1, 0, 0, &[8, 0, 1, 1])).unwrap().payload,
            DeniedPayload::Icmp(8, 0)
        );
        assert_eq!(
            DeniedPacket::read(&v6(58, &[128, 0, 1, 1])).unwrap().payload,
            DeniedPayload::Icmp(128, 0)
        );
        assert_eq!(DeniedPacket::read(&v4(47, 0, 0, &[0; 4])).unwrap().payload, DeniedPayload::Other(47));
    }

    #[test]
    fn frame_is_read_by_its_type_and_one_of_an_unknown_type_has_no_addresses() {
        let mut arp = vec![0; 28];
        arp[14..18].copy_from_slice(&[10, 0, 0, 1]);
        arp[24..28].copy_from_slice(&[10, 0, 0, 2]);
        let read = DeniedPacket::of_frame(ARP, &arp).unwrap();
        assert_eq!((read.source, read.destination), ([10, 0, 0, 1].into(), [10, 0, 0, 2].into()));
        assert_eq!((read.payload, DeniedPacket::of_frame(ARP, &arp[..27])), (DeniedPayload::Arp, None));
        let other = DeniedPacket::of_frame(0x88b5, &[]).unwrap();
        assert_eq!(other.payload.to_string(), "Ethernet type 0x88b5");
        assert_eq!(DeniedPacket::of_frame(IPV4, &v4(6, 0, 0, &PORTS)).unwrap().payload.port().unwrap().1, 80);
    }

    #[test]
    fn packet_cut_short_is_no_packet_or_one_without_ports() {
        let whole = v4(6, 0, 0, &PORTS);
        assert_eq!(DeniedPacket::read(&whole[..19]), None);
        assert_eq!(DeniedPacket::read(&whole[..23]).unwrap().payload, DeniedPayload::Other(6));
        assert_eq!((DeniedPacket::read(&[]), DeniedPacket::read(&[0x50; 40])), (None, None));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), version in 0u8..16) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = version << 4 | *first & 0xf;
            }
            let _ = DeniedPacket::read(&bytes);
        }
    }
}
