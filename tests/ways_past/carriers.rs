//! Protocols that a link needs, misused to carry other data.

use crate::discovery::fragments;
use crate::way::Privilege::NetRaw;
use crate::way::*;
use bridgewarden::net::Family;
use std::net::{Ipv4Addr, Ipv6Addr};
use support::frame::*;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const MLD_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
const DHCP_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
const ALL: Ipv4Addr = Ipv4Addr::BROADCAST;

/// ICMPv6 types that a link needs or a router sends, some that carry data, and some that are unassigned.
const TYPES: [u8; 16] = [1, 2, 3, 4, 100, 127, 130, 131, 132, 133, 134, 135, 136, 137, 143, 200];
/// What finds neighbours, and may carry some octets between any two pods of a bridge: no link is without it.
const FINDS_NEIGHBOURS: [u8; 2] = [135, 136];

/// The apparent sender and receiver.
type Ends = fn(&Shot) -> [Ipv6Addr; 2];

const ENDS: [(&str, Ends); 6] = [
    ("own address to address", |shot| [shot.from.v6, shot.to.v6]),
    ("own address to link-local", |shot| [shot.from.v6, shot.to.link_local]),
    ("link-local to address", |shot| [shot.from.link_local, shot.to.v6]),
    ("link-local to link-local", |shot| [shot.from.link_local, shot.to.link_local]),
    ("link-local to all", |shot| [shot.from.link_local, ALL_NODES]),
    ("no address to address", |shot| [Ipv6Addr::UNSPECIFIED, shot.to.v6]),
];

fn icmpv6_types(ways: &mut Vec<Way>) {
    for kind in TYPES {
        for (name, ends) in ENDS {
            for hops in [255, 64, 1] {
                for size in [24, 1000] {
                    let how = format!("ICMPv6 {kind} of {size} octets, hop limit {hops}, {name}");
                    let way = by_ipv6(NetRaw, how, move |shot| {
                        let own = matches!(kind, 136).then_some(shot.from.v6);
                        let target = own.unwrap_or(shot.to.v6);
                        let body = match kind {
                            135 | 136 => [&[0; 4][..], &target.octets(), &vec![0; size - 20]].concat(),
                            _ => vec![0; size],
                        };
                        shot.icmpv6(ends(shot), kind, hops, &body)
                    });
                    let needed = FINDS_NEIGHBOURS.contains(&kind) && hops == 255 && size == 24;
                    // What the rules let pass by its type where they know only addresses.
                    let way = match kind {
                        // It asks whether an address is free, which a pod may ask only of its own.
                        135 if needed && name == "no address to address" => way.past_isolation("-!!"),
                        _ if needed => way.past_isolation("!!!"),
                        131 | 132 | 143 => way.excused(name.ends_with("to address")),
                        133 | 135 | 136 if hops == 255 => way.past_isolation("--!"),
                        133 | 135 | 136 => way.past_isolation("--i"),
                        _ => way.past_isolation("---"),
                    };
                    ways.push(if name == "own address to address" { way.routed("---") } else { way });
                }
            }
        }
    }
    for (name, ends) in ENDS {
        for kind in [133, 135, 136, 143] {
            // Neighbour discovery is excused in both directions.
            let to_address = kind == 143 && name.ends_with("to address");
            ways.push(
                by_frames(
                    NetRaw,
                    format!("ICMPv6 {kind} in fragments, {name}"),
                    &[Family::V6],
                    move |shot| {
                        let [source, to] = ends(shot);
                        let target = if kind == 136 { shot.from.v6 } else { shot.to.v6 };
                        let body =
                            [&[0; 4][..], &target.octets(), &[0; 60], &shot.token, &[0; 40], &shot.token]
                                .concat();
                        fragments(shot, source, to, ICMPV6, 255, &icmpv6(source, to, [kind, 0], &body), 40)
                    },
                )
                .excused(to_address),
            );
            ways.push(
                by_ipv6(NetRaw, format!("ICMPv6 {kind} behind options, {name}"), move |shot| {
                    let [source, to] = ends(shot);
                    let target = if kind == 136 { shot.from.v6 } else { shot.to.v6 };
                    let body = [&[0; 4][..], &target.octets()].concat();
                    let message = icmpv6(source, to, [kind, 0], &body);
                    let options = [&[ICMPV6, 1, 0x1e, 12][..], &[0; 4], &shot.token, &message].concat();
                    let mac = if to.is_multicast() { group_mac(to.into()) } else { shot.to.mac };
                    ethernet(mac, shot.from.mac, IPV6, &ipv6(source, to, DESTINATION_OPTIONS, 255, &options))
                })
                .excused(to_address),
            );
        }
    }
}

fn reports(ways: &mut Vec<Way>) {
    let report = |shot: &Shot, source: Ipv6Addr, to: Ipv6Addr, mac: Mac| {
        let body = [&[0, 0, 0, 1, 4, 0, 0, 0][..], &ALL_NODES.octets(), &shot.token].concat();
        let message = icmpv6(source, to, [143, 0], &body);
        let options = [&[ICMPV6, 0, 5, 2, 0, 0, 1, 0][..], &message].concat();
        ethernet(mac, shot.from.mac, IPV6, &ipv6(source, to, HOP_BY_HOP, 1, &options))
    };
    ways.push(
        by_ipv6(NetRaw, "listener report as kernels send it", move |shot| {
            report(shot, shot.from.link_local, MLD_ROUTERS, group_mac(MLD_ROUTERS.into()))
        })
        .past_isolation("--!")
        .sent("out", "node-a", "+++")
        .among_free("+x+"),
    );
    ways.push(
        by_ipv6(NetRaw, "listener report to one station", move |shot| {
            report(shot, shot.from.link_local, MLD_ROUTERS, shot.to.mac)
        })
        .past_isolation("--!"),
    );
    ways.push(
        by_ipv6(NetRaw, "listener report to an address", move |shot| {
            report(shot, shot.from.link_local, shot.to.v6, shot.to.mac)
        })
        .excused(true),
    );
    type Igmp = (&'static str, fn(&Shot) -> [Ipv4Addr; 2], u8, bool, bool);
    let igmp: [Igmp; 7] = [
        ("to its routers", |shot| [shot.from.v4, Ipv4Addr::new(224, 0, 0, 22)], 1, true, false),
        ("to its routers, any hops", |shot| [shot.from.v4, Ipv4Addr::new(224, 0, 0, 22)], 64, true, false),
        ("to an address", |shot| [shot.from.v4, shot.to.v4], 1, false, true),
        ("to an address in a frame to all", |shot| [shot.from.v4, shot.to.v4], 1, true, true),
        ("from no address to one", |shot| [Ipv4Addr::UNSPECIFIED, shot.to.v4], 1, false, true),
        (
            "from no address to one in a frame to all",
            |shot| [Ipv4Addr::UNSPECIFIED, shot.to.v4],
            1,
            true,
            true,
        ),
        ("from no address", |_| [Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(224, 0, 0, 22)], 1, true, false),
    ];
    for (name, ends, ttl, to_all, to_address) in igmp {
        ways.push(
            by_ipv4(NetRaw, format!("IGMP {name}"), move |shot| {
                let [source, to] = ends(shot);
                let body = icmp([0x22, 0], &[&[0; 4][..], &shot.token].concat());
                let packet = Ipv4 { ttl, ..Ipv4::new(source, to, IGMP) }.with(&body);
                let mac = if to_all { group_mac(Ipv4Addr::new(224, 0, 0, 22).into()) } else { shot.to.mac };
                ethernet(mac, shot.from.mac, IPV4, &packet)
            })
            .excused(to_address),
        );
    }
    ways.push(
        by_ipv4(NetRaw, "IGMP report as kernels send it", |shot| {
            let to = Ipv4Addr::new(224, 0, 0, 22);
            let body = icmp([0x22, 0], &[&[0, 0, 0, 1, 4, 0, 0, 0, 239, 1, 2, 3][..], &shot.token].concat());
            let header = Ipv4 { ttl: 1, options: vec![0x94, 4, 0, 0], ..Ipv4::new(shot.from.v4, to, IGMP) };
            ethernet(group_mac(to.into()), shot.from.mac, IPV4, &header.with(&body))
        })
        .past_isolation("--!")
        .sent("out", "node-a", "+++")
        .among_free("+x+"),
    );
}

fn configuration(ways: &mut Vec<Way>) {
    let request = |shot: &Shot, source: Ipv4Addr, to: Ipv4Addr, ports: [u16; 2], mac: Mac| {
        let segment = udp(source.into(), to.into(), ports, &[&[1; 240][..], &shot.token].concat());
        ethernet(mac, shot.from.mac, IPV4, &ip(source.into(), to.into(), UDP, &segment))
    };
    let nowhere = Ipv4Addr::UNSPECIFIED;
    ways.push(
        by_ipv4(NetRaw, "DHCP as clients send it", move |shot| {
            request(shot, nowhere, ALL, [68, 67], BROADCAST)
        })
        .past_isolation("--!")
        .sent("out", "node-a", "+++")
        .sent("mallory", "node-a", "+++")
        .among_free("+x+"),
    );
    type Form = (&'static str, fn(&Shot) -> (Ipv4Addr, Mac));
    let forms: [Form; 4] = [
        ("to all in a frame to one", |shot| (ALL, shot.to.mac)),
        ("to an address", |shot| (shot.to.v4, shot.to.mac)),
        ("to an address in a frame to all", |shot| (shot.to.v4, BROADCAST)),
        ("to an address in a frame to a group", |shot| (shot.to.v4, [1, 0, 0x5e, 0, 0, 1])),
    ];
    for (name, to) in forms {
        ways.push(
            by_ipv4(NetRaw, format!("DHCP {name}"), move |shot| {
                let (to, mac) = to(shot);
                request(shot, nowhere, to, [68, 67], mac)
            })
            .excused(name.starts_with("to an address")),
        );
    }
    ways.push(
        by_ipv4(NetRaw, "DHCP's answer from a pod", move |shot| {
            request(shot, shot.from.v4, ALL, [67, 68], BROADCAST)
        })
        .past_isolation("---"),
    );
    type FormOf6 = (&'static str, fn(&Shot) -> (Ipv6Addr, Ipv6Addr, Mac));
    let forms: [FormOf6; 5] = [
        ("as clients send it", |shot| (shot.from.link_local, DHCP_SERVERS, group_mac(DHCP_SERVERS.into()))),
        ("to one station", |shot| (shot.from.link_local, DHCP_SERVERS, shot.to.mac)),
        ("to an address", |shot| (shot.from.link_local, shot.to.v6, shot.to.mac)),
        ("to a link-local address", |shot| (shot.from.link_local, shot.to.link_local, shot.to.mac)),
        ("from no address", |shot| (Ipv6Addr::UNSPECIFIED, shot.to.v6, shot.to.mac)),
    ];
    for (name, form) in forms {
        let way = by_ipv6(NetRaw, format!("DHCPv6 {name}"), move |shot| {
            let (source, to, mac) = form(shot);
            let segment = udp(source.into(), to.into(), [546, 547], &[&[1; 40][..], &shot.token].concat());
            ethernet(mac, shot.from.mac, IPV6, &ipv6(source, to, UDP, 1, &segment))
        });
        let way = way.past_isolation("---");
        ways.push(if name == "as clients send it" { way.sent("out", "node-a", "+++") } else { way });
    }
}

pub(crate) fn ways() -> Vec<Way> {
    let mut ways = Vec::new();
    icmpv6_types(&mut ways);
    reports(&mut ways);
    configuration(&mut ways);
    ways
}
