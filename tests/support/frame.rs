//! Frames, byte by byte: everything that a program with a raw socket can send, well-formed or not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An Ethernet address.
pub type Mac = [u8; 6];
/// The bytes of a frame, packet or message.
pub type Bytes = Vec<u8>;

/// The broadcast address.
pub const BROADCAST: Mac = [0xff; 6];
/// The Ethernet type of IPv4.
pub const IPV4: u16 = 0x0800;
/// The Ethernet type of ARP.
pub const ARP: u16 = 0x0806;
/// The Ethernet type of a VLAN tag (IEEE 802.1Q).
pub const VLAN: u16 = 0x8100;
/// The Ethernet type of IPv6.
pub const IPV6: u16 = 0x86dd;
/// The Ethernet type of a provider's VLAN tag (IEEE 802.1ad).
pub const SERVICE_VLAN: u16 = 0x88a8;

/// The number of IPv6's hop-by-hop options.
pub const HOP_BY_HOP: u8 = 0;
/// The number of ICMP.
pub const ICMP: u8 = 1;
/// The number of IGMP.
pub const IGMP: u8 = 2;
/// The number of TCP.
pub const TCP: u8 = 6;
/// The number of UDP.
pub const UDP: u8 = 17;
/// The number of IPv6's routing header.
pub const ROUTING: u8 = 43;
/// The number of IPv6's fragment header.
pub const FRAGMENT: u8 = 44;
/// The number of ICMPv6.
pub const ICMPV6: u8 = 58;
/// The number of IPv6's destination options.
pub const DESTINATION_OPTIONS: u8 = 60;

/// The TCP flags that open a connection.
pub const SYN: u8 = 0x02;
/// The TCP flags that reset a connection.
pub const RST: u8 = 0x04;
/// The TCP flags that accept a connection.
pub const SYN_ACK: u8 = 0x12;
/// The TCP flags of a data segment.
pub const PUSH_ACK: u8 = 0x18;

/// A frame.
pub fn ethernet(to: Mac, from: Mac, kind: u16, payload: &[u8]) -> Bytes {
    [&to[..], &from, &kind.to_be_bytes(), payload].concat()
}

/// A frame with a VLAN tag before its payload.
pub fn tagged(frame: &[u8], tag: u16, id: u16) -> Bytes {
    [&frame[..12], &tag.to_be_bytes(), &id.to_be_bytes(), &frame[12..]].concat()
}

/// The octets of an address.
pub fn octets(address: IpAddr) -> Bytes {
    match address {
        IpAddr::V4(address) => address.octets().into(),
        IpAddr::V6(address) => address.octets().into(),
    }
}

/// The fields of an IPv4 header that test cases vary.
#[derive(Clone, Debug)]
pub struct Ipv4 {
    /// The source address.
    pub source: Ipv4Addr,
    /// The destination address.
    pub destination: Ipv4Addr,
    /// The protocol of the payload.
    pub protocol: u8,
    /// The TTL.
    pub ttl: u8,
    /// Flags and offset.
    pub fragment: u16,
    /// Options, in words of four octets.
    pub options: Bytes,
}

impl Ipv4 {
    /// A header without options and fragmentation, with a TTL of 64.
    pub fn new(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8) -> Ipv4 {
        Ipv4 { source, destination, protocol, ttl: 64, fragment: 0, options: Vec::new() }
    }

    /// A packet with this header.
    pub fn with(&self, payload: &[u8]) -> Bytes {
        self.identified(0x1234, payload)
    }

    /// The same with an identification, which fragments of one packet share.
    pub fn identified(&self, id: u16, payload: &[u8]) -> Bytes {
        let words = 5 + self.options.len() / 4;
        let total = u16::try_from(words * 4 + payload.len()).expect("a packet's length");
        let mut header = vec![0x40 | words as u8, 0];
        header.extend(total.to_be_bytes());
        header.extend(id.to_be_bytes());
        header.extend(self.fragment.to_be_bytes());
        header.extend([self.ttl, self.protocol, 0, 0]);
        header.extend(self.source.octets());
        header.extend(self.destination.octets());
        header.extend(&self.options);
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum);
        [header, payload.to_vec()].concat()
    }
}

/// An IPv6 packet.
pub fn ipv6(source: Ipv6Addr, destination: Ipv6Addr, next: u8, hops: u8, payload: &[u8]) -> Bytes {
    let length = u16::try_from(payload.len()).expect("a packet's length");
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([next, hops]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(payload);
    packet
}

/// A packet of either family.
pub fn ip(source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> Bytes {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            Ipv4::new(source, destination, protocol).with(payload)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => ipv6(source, destination, protocol, 64, payload),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            panic!("{source} and {destination} differ in family")
        }
    }
}

/// The Ethernet type of a packet.
pub fn type_of(packet: &[u8]) -> u16 {
    if packet[0] >> 4 == 4 { IPV4 } else { IPV6 }
}

fn checksum(bytes: &[u8]) -> [u8; 2] {
    let sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    (!(folded as u16)).to_be_bytes()
}

/// A transport segment's checksum, with its pseudo header.
fn transport_checksum(source: IpAddr, destination: IpAddr, protocol: u8, segment: &[u8]) -> [u8; 2] {
    let length = u32::try_from(segment.len()).expect("a segment's length");
    let pseudo =
        [octets(source), octets(destination), length.to_be_bytes().into(), vec![0, 0, 0, protocol]].concat();
    checksum(&[&pseudo, segment].concat())
}

/// A UDP datagram.
pub fn udp(source: IpAddr, destination: IpAddr, ports: [u16; 2], payload: &[u8]) -> Bytes {
    let length = u16::try_from(8 + payload.len()).expect("a datagram's length");
    let mut segment = Vec::new();
    for field in [ports[0], ports[1], length, 0] {
        segment.extend(field.to_be_bytes());
    }
    segment.extend(payload);
    let sum = transport_checksum(source, destination, UDP, &segment);
    segment[6..8].copy_from_slice(&sum);
    segment
}

/// A TCP segment; the second pair is its sequence and acknowledgement numbers.
pub fn tcp(
    source: IpAddr,
    destination: IpAddr,
    ports: [u16; 2],
    [sequence, acknowledged]: [u32; 2],
    flags: u8,
    payload: &[u8],
) -> Bytes {
    let mut segment = Vec::new();
    segment.extend(ports[0].to_be_bytes());
    segment.extend(ports[1].to_be_bytes());
    segment.extend(sequence.to_be_bytes());
    segment.extend(acknowledged.to_be_bytes());
    segment.extend([0x50, flags, 0x20, 0, 0, 0, 0, 0]);
    segment.extend(payload);
    let sum = transport_checksum(source, destination, TCP, &segment);
    segment[16..18].copy_from_slice(&sum);
    segment
}

/// An ICMP message from its type on; `body` follows the checksum.
pub fn icmp([kind, code]: [u8; 2], body: &[u8]) -> Bytes {
    let mut message = [&[kind, code, 0, 0], body].concat();
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum);
    message
}

/// An ICMPv6 message from its type on; `body` follows the checksum.
pub fn icmpv6(source: Ipv6Addr, destination: Ipv6Addr, [kind, code]: [u8; 2], body: &[u8]) -> Bytes {
    let mut message = [&[kind, code, 0, 0], body].concat();
    let sum = transport_checksum(source.into(), destination.into(), ICMPV6, &message);
    message[2..4].copy_from_slice(&sum);
    message
}

/// ARP over Ethernet and IPv4: operation, sender, target.
pub fn arp(operation: u16, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Bytes {
    let mut message = vec![0, 1, 8, 0, 6, 4];
    message.extend(operation.to_be_bytes());
    for (mac, address) in [sender, target] {
        message.extend(mac);
        message.extend(address.octets());
    }
    message
}

/// A neighbour solicitation's or advertisement's body: flags, target, an option with an Ethernet address.
pub fn neighbour(flags: u8, target: Ipv6Addr, option: u8, mac: Mac) -> Bytes {
    [&[flags, 0, 0, 0][..], &target.octets(), &[option, 1], &mac].concat()
}

/// The Ethernet address of a group.
pub fn group_mac(group: IpAddr) -> Mac {
    match group {
        IpAddr::V4(group) => {
            let [_, b, c, d] = group.octets();
            [0x01, 0, 0x5e, b & 0x7f, c, d]
        }
        IpAddr::V6(group) => {
            let octets = group.octets();
            [0x33, 0x33, octets[12], octets[13], octets[14], octets[15]]
        }
    }
}

/// The solicited-node group of an address.
pub fn solicited(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}
