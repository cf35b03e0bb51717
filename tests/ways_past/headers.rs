//! Packets that a filter could read otherwise than their receiver: options, fragments, extension headers, protocols.

use crate::discovery::fragments;
use crate::way::Privilege::NetRaw;
use crate::way::*;
use bridgewarden::net::Family;
use std::net::{IpAddr, Ipv4Addr};
use support::frame::*;

/// Loose and strict source routes.
const SOURCE_ROUTES: [(&str, u8); 2] = [("loose", 131), ("strict", 137)];

fn options(ways: &mut Vec<Way>) {
    for (name, bytes) in [
        ("record route", &[7_u8, 7, 4, 0, 0, 0, 0, 0][..]),
        ("timestamp", &[68, 8, 5, 0, 0, 0, 0, 0]),
        ("router alert", &[148, 4, 0, 0]),
        ("security", &[130, 4, 0, 0]),
        ("no operation ten times over", &[1; 40]),
        ("an unknown one", &[222, 4, 0, 0]),
        ("one that is longer than its header", &[7, 200, 4, 0]),
    ] {
        ways.push(
            by_ipv4(NetRaw, format!("UDP with an option: {name}"), move |shot| {
                let [own, theirs] = [shot.from.v4, shot.to.v4];
                let header = Ipv4 { options: bytes.into(), ..Ipv4::new(own, theirs, UDP) };
                shot.frame(&header.with(&udp(own.into(), theirs.into(), PORTS, &shot.token)))
            })
            .past_isolation("---")
            .routed("---"),
        );
    }
    for (name, kind) in SOURCE_ROUTES {
        for via in ["target", "node-a"] {
            ways.push(
                by_ipv4(NetRaw, format!("UDP with a {name} source route by {via}"), move |shot| {
                    let through = shot.hosts.get(via);
                    let options = [&[kind, 7, 4][..], &shot.to.v4.octets(), &[0]].concat();
                    let header = Ipv4 { options, ..Ipv4::new(shot.from.v4, through.v4, UDP) };
                    let segment = udp(shot.from.v4.into(), through.v4.into(), PORTS, &shot.token);
                    ethernet(through.mac, shot.from.mac, IPV4, &header.with(&segment))
                })
                .past_isolation("---"),
            );
        }
    }
    for ttl in [0, 1, 255] {
        ways.push(
            by_ipv4(NetRaw, format!("UDP with {ttl} hops left"), move |shot| {
                let [own, theirs] = [shot.from.v4, shot.to.v4];
                let header = Ipv4 { ttl, ..Ipv4::new(own, theirs, UDP) };
                shot.frame(&header.with(&udp(own.into(), theirs.into(), PORTS, &shot.token)))
            })
            .past_isolation("---")
            .routed("---"),
        );
    }
}

/// Flags and offsets of fragments of a datagram: more follow, in eights of octets.
const MORE: u16 = 0x2000;

fn ipv4_fragments(ways: &mut Vec<Way>) {
    type Pieces = fn(&[u8]) -> Vec<(u16, Bytes)>;
    let forms: [(&str, Pieces); 6] = [
        ("two fragments", |whole| vec![(MORE, whole[..24].into()), (3, whole[24..].into())]),
        ("a tiny first fragment", |whole| vec![(MORE, whole[..8].into()), (1, whole[8..].into())]),
        ("the later fragment first", |whole| vec![(3, whole[24..].into()), (MORE, whole[..24].into())]),
        ("a later fragment alone", |whole| vec![(3, whole[24..].into())]),
        ("a first fragment alone", |whole| vec![(MORE, whole.into())]),
        ("overlapping fragments", |whole| {
            vec![(MORE, whole[..24].into()), (2, whole[16..].into()), (MORE, whole[..24].into())]
        }),
    ];
    for (name, pieces) in forms {
        for protocol in [UDP, TCP, ICMP, IGMP] {
            // Where the rules know only addresses, they let pass what is IGMP once they have all of it.
            let whole = !name.contains("alone") && !name.contains("overlapping");
            let way =
                by_frames(NetRaw, format!("protocol {protocol} in {name}"), &[Family::V4], move |shot| {
                    let [own, theirs] = [shot.from.v4, shot.to.v4];
                    let body = [&shot.token[..], &[0; 24], &shot.token, &[0; 24], &shot.token].concat();
                    let whole = match protocol {
                        UDP => udp(own.into(), theirs.into(), PORTS, &body),
                        TCP => tcp(own.into(), theirs.into(), PORTS, [1, 0], SYN, &body),
                        _ => icmp([8, 0], &body),
                    };
                    let id = u16::from_be_bytes([shot.token[6], shot.token[7]]);
                    let frame = |(fragment, piece): (u16, Bytes)| {
                        let mut packet = Ipv4 { fragment, ..Ipv4::new(own, theirs, protocol) };
                        packet.ttl = 64;
                        shot.frame(&packet.identified(id, &piece))
                    };
                    pieces(&whole).into_iter().map(frame).collect()
                });
            let is_excused = protocol == IGMP && whole;
            let way = if is_excused { way.excused(true) } else { way.past_isolation("---") };
            ways.push(way.routed("---"));
        }
    }
}

/// An IPv6 packet's payload behind one extension header.
fn behind(kind: u8, next: u8, payload: &[u8]) -> Bytes {
    let header = match kind {
        // Options: padding.
        HOP_BY_HOP | DESTINATION_OPTIONS => vec![next, 0, 1, 4, 0, 0, 0, 0],
        FRAGMENT => vec![next, 0, 0, 0, 0, 0, 0, 7],
        ROUTING => vec![next, 0, 4, 0, 0, 0, 0, 0],
        // The authentication header counts in fours.
        51 => vec![next, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1],
        _ => vec![next, 0, 0, 0, 0, 0, 0, 0],
    };
    [&header[..], payload].concat()
}

fn ipv6_extensions(ways: &mut Vec<Way>) {
    const KINDS: [(u8, &str); 9] = [
        (HOP_BY_HOP, "hop-by-hop options"),
        (DESTINATION_OPTIONS, "destination options"),
        (ROUTING, "a routing header"),
        (FRAGMENT, "the header of an only fragment"),
        (51, "an authentication header"),
        (135, "a mobility header"),
        (139, "HIP"),
        (140, "shim6"),
        (253, "an experiment"),
    ];
    for (kind, name) in KINDS {
        for protocol in [UDP, TCP] {
            ways.push(
                by_ipv6(NetRaw, format!("protocol {protocol} behind {name}"), move |shot| {
                    let [own, theirs]: [IpAddr; 2] = [shot.own(), shot.theirs()];
                    let segment = match protocol {
                        UDP => udp(own, theirs, PORTS, &shot.token),
                        _ => tcp(own, theirs, PORTS, [1, 0], SYN, &shot.token),
                    };
                    let payload = behind(kind, protocol, &segment);
                    shot.frame(&ipv6(shot.from.v6, shot.to.v6, kind, 64, &payload))
                })
                .past_isolation("---")
                .routed("---"),
            );
        }
        ways.push(
            by_ipv6(NetRaw, format!("UDP from a link-local address behind {name}"), move |shot| {
                let segment = udp(shot.from.link_local.into(), shot.theirs(), PORTS, &shot.token);
                let payload = behind(kind, UDP, &segment);
                shot.frame(&ipv6(shot.from.link_local, shot.to.v6, kind, 64, &payload))
            })
            .past_isolation("---"),
        );
    }
    for kind in [0_u8, 2, 4] {
        ways.push(
            by_ipv6(
                NetRaw,
                format!("UDP with a routing header of type {kind} by an allowed pod"),
                move |shot| {
                    let through = shot.hosts.get("target");
                    let segment = udp(shot.own(), shot.theirs(), PORTS, &shot.token);
                    let head = match kind {
                        4 => vec![UDP, 2, 4, 1, 0, 0, 0, 0],
                        _ => vec![UDP, 2, kind, 1, 0, 0, 0, 0],
                    };
                    let payload = [head, shot.to.v6.octets().into(), segment].concat();
                    let packet = ipv6(shot.from.v6, through.v6, ROUTING, 64, &payload);
                    ethernet(through.mac, shot.from.mac, IPV6, &packet)
                },
            )
            .past_isolation("---"),
        );
    }
    for size in [8, 16, 40] {
        for protocol in [UDP, TCP, 128] {
            ways.push(
                by_frames(
                    NetRaw,
                    format!("protocol {protocol} in fragments of {size} octets"),
                    &[Family::V6],
                    move |shot| {
                        let [own, theirs] = [shot.own(), shot.theirs()];
                        // No fragment's end may divide the token.
                        let before: &[u8] = if protocol == UDP { &[] } else { &[0; 4] };
                        let body =
                            [before, &shot.token, &[0; 40], &shot.token, &[0; 40], &shot.token].concat();
                        let (next, whole) = match protocol {
                            UDP => (UDP, udp(own, theirs, PORTS, &body)),
                            TCP => (TCP, tcp(own, theirs, PORTS, [1, 0], SYN, &body)),
                            kind => (ICMPV6, icmpv6(shot.from.v6, shot.to.v6, [kind, 0], &body)),
                        };
                        fragments(shot, shot.from.v6, shot.to.v6, next, 64, &whole, size)
                    },
                )
                .past_isolation("---")
                .routed("---"),
            );
        }
    }
    ways.push(
        by_ipv6(NetRaw, "a jumbogram that says it is short", |shot| {
            let segment = udp(shot.own(), shot.theirs(), PORTS, &shot.token);
            let options = [&[UDP, 0, 0xc2, 4, 0, 1, 0, 1][..], &segment].concat();
            let mut packet = ipv6(shot.from.v6, shot.to.v6, HOP_BY_HOP, 64, &options);
            packet[4..6].copy_from_slice(&[0, 0]);
            shot.frame(&packet)
        })
        .past_isolation("---")
        .routed("---"),
    );
    ways.push(
        by_frames(
            NetRaw,
            "neighbour solicitation whose type stands in the second fragment",
            &[Family::V6],
            |shot| {
                let body = [&[0; 4][..], &shot.to.v6.octets(), &shot.token, &[0; 40], &shot.token].concat();
                let message = icmpv6(shot.from.v6, shot.to.v6, [135, 0], &body);
                let whole = [&[ICMPV6, 0, 1, 4, 0, 0, 0, 0][..], &message].concat();
                fragments(shot, shot.from.v6, shot.to.v6, DESTINATION_OPTIONS, 255, &whole, 8)
            },
        )
        .past_isolation("---"),
    );
}

/// Protocols of IP that policies cannot name, and that carry others.
const PROTOCOLS: [u8; 21] =
    [0, 3, 4, 8, 33, 41, 46, 47, 50, 51, 59, 88, 89, 94, 97, 103, 112, 115, 132, 136, 253];

fn protocols(ways: &mut Vec<Way>) {
    for protocol in PROTOCOLS {
        ways.push(
            by_ip(NetRaw, format!("protocol {protocol}"), move |shot| {
                let inner = match protocol {
                    4 => shot.udp(shot.hosts.get("friend").v4.into(), shot.to.v4.into()),
                    41 => shot.udp(shot.hosts.get("friend").v6.into(), shot.to.v6.into()),
                    _ => [&[0, 80, 0, 80][..], &[0; 12], &shot.token].concat(),
                };
                shot.frame(&ip(shot.own(), shot.theirs(), protocol, &inner))
            })
            .past_isolation("---")
            .routed("---"),
        );
    }
    ways.push(
        by_ipv6(NetRaw, "IGMP over IPv6", |shot| {
            shot.frame(&ip(shot.own(), shot.theirs(), IGMP, &[&[0x22, 0, 0, 0][..], &shot.token].concat()))
        })
        .past_isolation("---")
        .routed("---"),
    );
    let echo = |shot: &Shot, kinds: [u8; 2]| {
        let body = [&[0, 9, 0, 1][..], &shot.token].concat();
        let packet = match shot.family {
            Family::V4 => ip(shot.own(), shot.theirs(), ICMP, &icmp([kinds[0], 0], &body)),
            Family::V6 => {
                let message = icmpv6(shot.from.v6, shot.to.v6, [kinds[1], 0], &body);
                ip(shot.own(), shot.theirs(), ICMPV6, &message)
            }
        };
        shot.frame(&packet)
    };
    for (name, kinds) in
        [("ping", [8, 128]), ("an unsolicited echo reply", [0, 129]), ("timestamp or node query", [13, 139])]
    {
        ways.push(by_ip(NetRaw, name, move |shot| echo(shot, kinds)).past_isolation("---").routed("---"));
    }
    for address in ["127.0.0.1", "169.254.169.254", "0.0.0.0", "240.0.0.1"] {
        let address: Ipv4Addr = address.parse().expect("an address");
        ways.push(
            by_ipv4(NetRaw, format!("UDP to {address} in a frame to the receiver"), move |shot| {
                shot.frame(&shot.udp(shot.own(), address.into()))
            })
            .past_isolation("---"),
        );
    }
    for address in ["::1", "::", "::ffff:10.244.1.10", "64:ff9b::a00:1"] {
        let address: std::net::Ipv6Addr = address.parse().expect("an address");
        ways.push(
            by_ipv6(NetRaw, format!("UDP to {address} in a frame to the receiver"), move |shot| {
                shot.frame(&shot.udp(shot.own(), address.into()))
            })
            .past_isolation("---"),
        );
    }
}

pub(crate) fn ways() -> Vec<Way> {
    let mut ways = Vec::new();
    options(&mut ways);
    ipv4_fragments(&mut ways);
    ipv6_extensions(&mut ways);
    protocols(&mut ways);
    ways
}
