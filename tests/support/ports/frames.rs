//! Frames that pods send, in the terms of their protocols, and byte by byte.

use super::{Behind, Ports};
use crate::frame::{self, ARP, BROADCAST, Bytes, ICMPV6, IGMP, Ipv4, Mac, TCP, UDP, VLAN};
use crate::topology::{Node, outside};
use crate::worlds::Random;
use bridgewarden::net::Family;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The destination Ethernet address.
    pub to: Mac,
    /// The source Ethernet address, which may be forged.
    pub from: Mac,
    /// The payload.
    pub carries: Carried,
}

/// What a frame carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carried {
    /// ARP.
    Arp {
        /// The sender address.
        sender: Ipv4Addr,
        /// Whether it is longer than the shortest frame.
        is_long: bool,
    },
    /// A packet.
    Ip {
        /// The source address.
        source: IpAddr,
        /// The destination address.
        destination: IpAddr,
        /// Its TTL or hop limit.
        hops: u8,
        /// The payload.
        message: Message,
    },
    /// A datagram under a VLAN tag.
    Tagged(u16, IpAddr),
    /// Something of another Ethernet type.
    Other(u16),
}

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// A UDP datagram.
    Datagram,
    /// The first segment of a TCP connection.
    Syn,
    /// A request of a DHCP client.
    DhcpRequest,
    /// A request of a DHCPv6 client.
    Dhcpv6Request,
    /// A report of IGMP.
    Igmp,
    /// An echo request of ICMPv6.
    Echo,
    /// An ICMPv6 message of this type that reports the multicast groups to which a host listens.
    Listener(u8),
    /// Neighbour discovery of this type about this address.
    Discovery {
        /// The ICMPv6 type.
        kind: u8,
        /// The target address.
        target: Ipv6Addr,
        /// Whether it has more than the usual options.
        is_long: bool,
    },
}

impl Sent {
    /// Its bytes.
    pub fn bytes(&self) -> Bytes {
        let (kind, payload) = match &self.carries {
            Carried::Arp { sender, is_long } => {
                let message = frame::arp(1, (self.from, *sender), ([0; 6], Ipv4Addr::new(10, 244, 1, 1)));
                (ARP, [message, vec![0; if *is_long { 60 } else { 18 }]].concat())
            }
            Carried::Ip { source, destination, hops, message } => {
                let packet = packet(*source, *destination, *hops, *message, self.from);
                (frame::type_of(&packet), packet)
            }
            Carried::Tagged(tag, source) => {
                let packet = packet(*source, *source, 64, Message::Datagram, self.from);
                let frame = frame::ethernet(self.to, self.from, frame::type_of(&packet), &packet);
                return frame::tagged(&frame, *tag, 0);
            }
            Carried::Other(kind) => (*kind, vec![7; 46]),
        };
        frame::ethernet(self.to, self.from, kind, &payload)
    }
}

fn packet(source: IpAddr, destination: IpAddr, hops: u8, message: Message, from: Mac) -> Bytes {
    let datagram = |ports| (UDP, frame::udp(source, destination, ports, b"letter"));
    let icmpv6 = |kind, body: &[u8]| match (source, destination) {
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            (ICMPV6, frame::icmpv6(source, destination, [kind, 0], body))
        }
        _ => panic!("ICMPv6 from {source} to {destination}"),
    };
    let (protocol, payload) = match message {
        Message::Datagram => datagram([40_000, 7777]),
        Message::Syn => (TCP, frame::tcp(source, destination, [40_000, 80], [1, 0], frame::SYN, &[])),
        Message::DhcpRequest => datagram([68, 67]),
        Message::Dhcpv6Request => datagram([546, 547]),
        Message::Igmp => (IGMP, vec![0x16, 0, 0, 0, 224, 0, 0, 251]),
        Message::Echo => icmpv6(128, &[0, 1, 0, 1]),
        Message::Listener(kind) => icmpv6(kind, &[0; 20]),
        Message::Discovery { kind, target, is_long } => {
            let body = frame::neighbour(0x20, target, 2, from);
            icmpv6(kind, &[body, vec![0; if is_long { 80 } else { 0 }]].concat())
        }
    };
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            Ipv4 { ttl: hops, ..Ipv4::new(source, destination, protocol) }.with(&payload)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            frame::ipv6(source, destination, protocol, hops, &payload)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            panic!("{source} and {destination} differ in family")
        }
    }
}

/// Addresses by owner, seen from a port.
struct Cast<'a> {
    ports: &'a Ports,
    port: u32,
    node: Node,
}

impl Cast<'_> {
    fn of(&self, port: u32) -> Vec<IpAddr> {
        match self.ports.behind.get(&port) {
            Some(Behind::Pod(pod)) => pod.addresses.iter().copied().collect(),
            Some(Behind::Network | Behind::Exempt | Behind::NoPod) | None => Vec::new(),
        }
    }

    fn any(&self, random: &mut Random, family: Family, mostly: &[IpAddr]) -> IpAddr {
        let mostly: Vec<_> = mostly.iter().filter(|address| Family::of(**address) == family).collect();
        if !mostly.is_empty() && random.chance(60) {
            return **random.pick(&mostly);
        }
        let all = self.ports.taken.iter().chain(&self.ports.portless);
        let known: Vec<_> = all.copied().filter(|address| Family::of(*address) == family).collect();
        let unassigned = [self.node.pod_address(family, 199), outside(family)];
        match (random.below(6), known.is_empty(), family) {
            (0..=2, false, _) => *random.pick(&known),
            (3, ..) => *random.pick(&unassigned),
            (4, _, Family::V4) => Ipv4Addr::UNSPECIFIED.into(),
            (4, _, Family::V6) => Ipv6Addr::UNSPECIFIED.into(),
            (_, _, Family::V4) => Ipv4Addr::new(169, 254, 7, 7).into(),
            (_, _, Family::V6) => self.link_local(random).into(),
        }
    }

    fn link_local(&self, random: &mut Random) -> Ipv6Addr {
        let nodes = self.ports.bridge.link_local.iter().copied();
        let all: Vec<_> = nodes.chain([Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, self.port as u16)]).collect();
        *random.pick(&all)
    }

    fn destination(&self, random: &mut Random, family: Family, to: u32) -> IpAddr {
        let groups: [IpAddr; 2] = match family {
            Family::V4 => [Ipv4Addr::new(224, 0, 0, 251).into(), Ipv4Addr::BROADCAST.into()],
            Family::V6 => {
                [Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0, 2)]
                    .map(IpAddr::V6)
            }
        };
        if random.chance(25) { *random.pick(&groups) } else { self.any(random, family, &self.of(to)) }
    }

    fn message(&self, random: &mut Random, family: Family) -> Message {
        if family == Family::V4 {
            return *random.pick(&[Message::Datagram, Message::Syn, Message::Igmp, Message::DhcpRequest]);
        }
        let own = self.of(self.port);
        match random.below(10) {
            0..=1 => Message::Datagram,
            2 => Message::Syn,
            3 => Message::Echo,
            4 => Message::Dhcpv6Request,
            5 => Message::Listener(*random.pick(&[130, 131, 132, 143])),
            _ => {
                let IpAddr::V6(target) = self.any(random, family, &own) else { panic!("an IPv6 address") };
                let kind = *random.pick(&[133, 134, 135, 135, 136, 136, 136, 137]);
                Message::Discovery { kind, target, is_long: random.chance(15) }
            }
        }
    }
}

/// A random frame from one port to another: mostly with the sender's own addresses, and similar to allowed ones.
pub fn random_frame(random: &mut Random, ports: &Ports, node: Node, port: u32, to: u32) -> Sent {
    let cast = Cast { ports, port, node };
    let own = cast.of(port);
    let hardware = |port: u32| match ports.behind.get(&port) {
        Some(Behind::Pod(pod)) => pod.hardware,
        Some(Behind::Network | Behind::Exempt | Behind::NoPod) | None => None,
    };
    let from = hardware(port).filter(|_| random.chance(85)).unwrap_or([2, 0, 0, 0, 0, port as u8]);
    let single = ports.bridge.hardware.filter(|_| random.chance(30)).or_else(|| hardware(to));
    let single = single.unwrap_or([2, 0, 0, 0, 0, to as u8]);
    let group = *random.pick(&[BROADCAST, [1, 0, 0x5e, 0, 0, 0xfb], [0x33, 0x33, 0, 0, 0, 1]]);
    let to_mac = if random.chance(70) { single } else { group };
    let family = *random.pick(&Family::BOTH);
    let carries = match random.below(20) {
        0..=2 => {
            let IpAddr::V4(sender) = cast.any(random, Family::V4, &own) else { panic!("an IPv4 address") };
            Carried::Arp { sender, is_long: random.chance(15) }
        }
        3 => Carried::Tagged(*random.pick(&[VLAN, frame::SERVICE_VLAN]), cast.any(random, family, &own)),
        4 => Carried::Other(*random.pick(&[0x88b5, 0x8035, 0x8847])),
        5 => dhcp(),
        _ => Carried::Ip {
            source: cast.any(random, family, &own),
            destination: cast.destination(random, family, to),
            hops: *random.pick(&[1, 64, 255, 255]),
            message: cast.message(random, family),
        },
    };
    Sent { to: to_mac, from, carries }
}

fn dhcp() -> Carried {
    Carried::Ip {
        source: Ipv4Addr::UNSPECIFIED.into(),
        destination: Ipv4Addr::BROADCAST.into(),
        hops: 64,
        message: Message::DhcpRequest,
    }
}
