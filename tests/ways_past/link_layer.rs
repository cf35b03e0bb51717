//! Frames that the rules of iptables do not see, or not with their real receiver: tags, other protocols, other Ethernet addresses.

use crate::way::Privilege::{NetRaw, Unprivileged};
use crate::way::*;
use bridgewarden::net::Family;
use support::frame::*;

/// Tags in front of a packet, from the outermost on.
const TAGS: [(&str, &[(u16, u16)]); 12] = [
    ("of id 0", &[(VLAN, 0)]),
    ("of id 1", &[(VLAN, 1)]),
    ("of id 100", &[(VLAN, 100)]),
    ("of id 4095", &[(VLAN, 4095)]),
    ("of priority 7", &[(VLAN, 0xe000)]),
    ("of a provider", &[(SERVICE_VLAN, 0)]),
    ("of a provider with an id", &[(SERVICE_VLAN, 5)]),
    ("twice", &[(VLAN, 0), (VLAN, 0)]),
    ("of a provider and its client", &[(SERVICE_VLAN, 0), (VLAN, 0)]),
    ("of a client and its provider", &[(VLAN, 0), (SERVICE_VLAN, 0)]),
    ("three times", &[(VLAN, 0), (VLAN, 0), (VLAN, 0)]),
    ("of an older kind", &[(0x9100, 0), (VLAN, 0)]),
];

/// Ethernet types that are neither ARP nor IP.
const TYPES: [(u16, &str); 22] = [
    (0x0842, "Wake-on-LAN"),
    (0x22f0, "AVTP"),
    (0x22f3, "TRILL"),
    (0x4305, "B.A.T.M.A.N."),
    (0x6558, "Ethernet in Ethernet"),
    (0x809b, "AppleTalk"),
    (0x8137, "IPX"),
    (0x8808, "flow control"),
    (0x8809, "slow protocols"),
    (0x8847, "MPLS"),
    (0x8863, "PPPoE discovery"),
    (0x8864, "PPPoE"),
    (0x888e, "EAPOL"),
    (0x88a2, "ATA over Ethernet"),
    (0x88b5, "local experiments"),
    (0x88cc, "LLDP"),
    (0x88e5, "MACsec"),
    (0x88f7, "PTP"),
    (0x8906, "FCoE"),
    (0x892f, "HSR"),
    (0x894f, "NSH"),
    (0x9000, "loopback test"),
];

fn tags(ways: &mut Vec<Way>) {
    for (name, tags) in TAGS {
        let old = name == "of an older kind";
        let wrap =
            move |frame: Bytes| tags.iter().rev().fold(frame, |frame, (kind, id)| tagged(&frame, *kind, *id));
        ways.push(
            by_ip(NetRaw, format!("UDP in a frame with a tag {name}"), move |shot| {
                wrap(shot.frame(&shot.datagram()))
            })
            .past_isolation("--!")
            .sent("out", "target", "--!")
            .among_free(if old { "+x+" } else { "--!" }),
        );
        ways.push(
            by_ipv4(NetRaw, format!("ARP reply for an allowed pod with a tag {name}"), move |shot| {
                let claim = arp(2, (shot.from.mac, shot.hosts.get("friend").v4), (shot.to.mac, shot.to.v4));
                wrap(ethernet(shot.to.mac, shot.from.mac, ARP, &[&claim[..], &shot.token].concat()))
            })
            .past_isolation("--!")
            .sent("out", "node-a", "--!"),
        );
    }
    ways.push(
        by_ip(NetRaw, "UDP from an unassigned Ethernet address with a tag", |shot| {
            let packet = shot.datagram();
            tagged(&ethernet(BROADCAST, [2, 0, 0, 0, 0, 9], type_of(&packet), &packet), VLAN, 0)
        })
        .past_isolation("--!"),
    );
}

fn types(ways: &mut Vec<Way>) {
    for (kind, name) in TYPES {
        for to_all in [false, true] {
            let how = format!("a frame of {name}{}", if to_all { " to all" } else { "" });
            ways.push(
                by_ipv4(NetRaw, how, move |shot| {
                    let to = if to_all { BROADCAST } else { shot.to.mac };
                    ethernet(to, shot.from.mac, kind, &[&[0; 40][..], &shot.token].concat())
                })
                .past_isolation("--!")
                .sent("friend", "in", "--!")
                .sent("out", "target", "--!")
                .among_free("+x+"),
            );
        }
    }
    for (name, session) in [("PPPoE", 0x8864_u16), ("MPLS", 0x8847), ("Ethernet in Ethernet", 0x6558)] {
        ways.push(
            by_ip(NetRaw, format!("UDP in {name}"), move |shot| {
                let packet = shot.datagram();
                let length = u16::try_from(packet.len() + 2).expect("a length");
                let kind: u16 = if packet[0] >> 4 == 4 { 0x0021 } else { 0x0057 };
                let head = match session {
                    0x8864 => [&[0x11, 0, 0, 1][..], &length.to_be_bytes(), &kind.to_be_bytes()].concat(),
                    0x8847 => vec![0, 0, 0x11, 64],
                    _ => ethernet(shot.to.mac, shot.from.mac, type_of(&packet), &[]),
                };
                ethernet(shot.to.mac, shot.from.mac, session, &[head, packet].concat())
            })
            .past_isolation("--!")
            .among_free("+x+"),
        );
    }
    for (name, head) in [
        ("LLC", &[0x42, 0x42, 0x03][..]),
        ("SNAP", &[0xaa, 0xaa, 0x03, 0, 0, 0, 0x08, 0x00]),
        ("SNAP of IPv6", &[0xaa, 0xaa, 0x03, 0, 0, 0, 0x86, 0xdd]),
        ("raw 802.3 (Novell)", &[0xff, 0xff]),
    ] {
        ways.push(
            by_ip(NetRaw, format!("UDP behind {name}"), move |shot| {
                let body = [head, &shot.datagram()].concat();
                let length = u16::try_from(body.len()).expect("a length");
                ethernet(shot.to.mac, shot.from.mac, length, &body)
            })
            .past_isolation("--!")
            .among_free("+x+"),
        );
    }
    for last in 0..16 {
        for kind in [IPV4, 0x88cc] {
            // A bridge without spanning tree passes on what is for 00; all others are for itself alone.
            let passes = last == 0;
            let fates = match (kind, passes) {
                (IPV4, _) | (_, false) => "---",
                (_, true) => "--!",
            };
            let free = match (kind, passes) {
                (IPV4, true) => "+x+",
                (_, true) => "+x+",
                (_, false) => "---",
            };
            ways.push(
                by_ipv4(
                    NetRaw,
                    format!("a frame of type {kind:#06x} to 01:80:c2:00:00:{last:02x}"),
                    move |shot| ethernet([1, 0x80, 0xc2, 0, 0, last], shot.from.mac, kind, &shot.datagram()),
                )
                .past_isolation(fates)
                .among_free(free),
            );
        }
    }
}

/// Ethernet addresses that several stations have, or none.
const ELSEWHERE: [(&str, Mac); 3] = [
    ("all", BROADCAST),
    ("an unknown station", [2, 0, 0, 0, 0, 0x77]),
    ("a group", [0x01, 0, 0x5e, 1, 2, 3]),
];

fn destinations(ways: &mut Vec<Way>) {
    for (name, mac) in ELSEWHERE {
        ways.push(
            by_ipv4(NetRaw, format!("UDP in a frame to {name}"), move |shot| {
                ethernet(mac, shot.from.mac, IPV4, &shot.datagram())
            })
            .past_isolation("---")
            .among_free(if name == "an unknown station" { "+++" } else { "+x+" }),
        );
        ways.push(
            by_ipv6(NetRaw, format!("UDP in a frame to {name}"), move |shot| {
                let packet = shot.datagram();
                ethernet(mac, shot.from.mac, type_of(&packet), &packet)
            })
            .past_isolation("---")
            .among_free("+++"),
        );
        // Where no port is known, a flooded frame reaches every port, except what iptables denies.
        let one = name == "an unknown station";
        ways.push(
            by_ipv4(
                NetRaw,
                format!("UDP to a neighbour of the receiver in a frame to {name}"),
                move |shot| {
                    let other = if shot.from.name == "out" { "target" } else { "free" };
                    ethernet(mac, shot.from.mac, IPV4, &shot.udp(shot.own(), shot.of(other)))
                },
            )
            .into_isolated(if one { "-!!" } else { "--!" })
            .sent("out", "free", if one { "-!!" } else { "--!" }),
        );
        ways.push(
            by_ipv6(
                NetRaw,
                format!("UDP to a neighbour of the receiver in a frame to {name}"),
                move |shot| {
                    let other = if shot.from.name == "out" { "target" } else { "free" };
                    ethernet(mac, shot.from.mac, IPV6, &shot.udp(shot.own(), shot.of(other)))
                },
            )
            .into_isolated("-!!")
            .sent("out", "free", "-!!"),
        );
    }
    ways.push(
        by_ip(NetRaw, "UDP to an allowed pod in a frame to another one", |shot| {
            let other = if shot.from.name == "out" { "target" } else { "free" };
            let packet = shot.udp(shot.own(), shot.of(other));
            ethernet(shot.to.mac, shot.from.mac, type_of(&packet), &packet)
        })
        .into_isolated("-!!")
        .sent("out", "free", "-!!"),
    );
    ways.push(
        by_ip(NetRaw, "UDP to a host outside in a frame to a neighbour", |shot| {
            let packet = shot.udp(shot.own(), shot.of("outside"));
            ethernet(shot.to.mac, shot.from.mac, type_of(&packet), &packet)
        })
        .past_isolation("---")
        .among_free("+xx"),
    );
    ways.push(
        by_ip(Unprivileged, "UDP to a neighbour through the node", |shot| {
            let packet = shot.datagram();
            ethernet(shot.node().mac, shot.from.mac, type_of(&packet), &packet)
        })
        .past_isolation("---")
        .sent("friend", "in", "+++")
        .sent("out", "target", "+++")
        .among_free("+++"),
    );
    ways.push(
        by_ip(NetRaw, "UDP to the sender itself through the node", |shot| {
            let packet = shot.udp(shot.own(), shot.own());
            ethernet(shot.node().mac, shot.from.mac, type_of(&packet), &packet)
        })
        .past_isolation("---"),
    );
    ways.push(
        by_frames(NetRaw, "a frame of one octet too few for an IP header", &[Family::V4], |shot| {
            let packet = shot.datagram();
            vec![
                ethernet(shot.to.mac, shot.from.mac, IPV4, &packet[..19]),
                ethernet(shot.to.mac, shot.from.mac, IPV4, &[]),
                ethernet(shot.to.mac, shot.from.mac, IPV6, &packet[..12]),
            ]
        })
        .past_isolation("---"),
    );
    ways.push(
        by_ipv4(NetRaw, "ARP that ends too early", |shot| {
            ethernet(shot.to.mac, shot.from.mac, ARP, &shot.datagram()[..12])
        })
        .past_isolation("-!!"),
    );
}

pub(crate) fn ways() -> Vec<Way> {
    let mut ways = Vec::new();
    tags(&mut ways);
    types(&mut ways);
    destinations(&mut ways);
    ways
}
