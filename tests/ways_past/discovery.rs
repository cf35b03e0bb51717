//! Spoofed ARP, neighbour discovery and router advertisements.

use crate::way::Privilege::NetRaw;
use crate::way::*;
use bridgewarden::net::Family;
use std::net::{Ipv4Addr, Ipv6Addr};
use support::frame::*;

const NO_MAC: Mac = [0; 6];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// What a neighbour could be made to believe: whose address the sender has.
type Claimed = (&'static str, fn(&Shot) -> Ipv4Addr, fn(&Shot) -> Ipv6Addr, Fates);

const CLAIMED: [Claimed; 4] = [
    ("an allowed pod", |shot| shot.hosts.get("friend").v4, |shot| shot.hosts.get("friend").v6, "-!!"),
    ("the gateway", |shot| shot.node().v4, |shot| shot.node().v6, "-!!"),
    ("the receiver", |shot| shot.to.v4, |shot| shot.to.v6, "-!!"),
    (
        "a pod of another node",
        |shot| shot.hosts.get("far-friend").v4,
        |shot| shot.hosts.get("far-friend").v6,
        "-!!",
    ),
];

fn arp_claims(ways: &mut Vec<Way>) {
    for (whose, claimed, _, fates) in CLAIMED {
        type Form = fn(&Shot, Ipv4Addr) -> Bytes;
        let forms: [(&str, Form); 5] = [
            ("gratuitous request", |shot, own| arp(1, (shot.from.mac, own), (NO_MAC, own))),
            ("gratuitous reply", |shot, own| arp(2, (shot.from.mac, own), (BROADCAST, own))),
            ("reply to the receiver", |shot, own| arp(2, (shot.from.mac, own), (shot.to.mac, shot.to.v4))),
            ("request to the receiver", |shot, own| arp(1, (shot.from.mac, own), (NO_MAC, shot.to.v4))),
            ("reply of another's Ethernet address", |shot, own| {
                arp(2, (shot.hosts.get("free").mac, own), (shot.to.mac, shot.to.v4))
            }),
        ];
        for (form, message) in forms {
            for to_all in [false, true] {
                let how = format!("ARP, {form}{}: {whose} is here", if to_all { " to all" } else { "" });
                let way = by_ipv4(NetRaw, how, move |shot| {
                    let to = if to_all { BROADCAST } else { shot.to.mac };
                    ethernet(to, shot.from.mac, ARP, &message(shot, claimed(shot)))
                });
                let way = way.past_isolation(fates).among_free(fates);
                ways.push(if whose == "the receiver" { way } else { way.sent("mallory", "node-a", fates) });
            }
        }
    }
    ways.push(
        by_ipv4(NetRaw, "ARP with a payload behind it", |shot| {
            let request = arp(1, (shot.from.mac, shot.from.v4), (NO_MAC, shot.to.v4));
            ethernet(shot.to.mac, shot.from.mac, ARP, &[&request[..], &[0; 20], &shot.token].concat())
        })
        .past_isolation("--!")
        .among_free("+x+"),
    );
    ways.push(
        // Any link needs ARP, and six octets of a request are free.
        by_ipv4(NetRaw, "six octets in an ARP request", |shot| {
            let free = shot.token[2..].try_into().expect("six octets");
            ethernet(
                shot.to.mac,
                shot.from.mac,
                ARP,
                &arp(1, (shot.from.mac, shot.from.v4), (free, shot.to.v4)),
            )
        })
        .past_isolation("!!!")
        .among_free("+++"),
    );
    ways.push(
        by_ipv4(NetRaw, "reverse ARP with a payload", |shot| {
            let request = arp(3, (shot.from.mac, shot.from.v4), (shot.from.mac, shot.to.v4));
            ethernet(BROADCAST, shot.from.mac, 0x8035, &[&request[..], &shot.token].concat())
        })
        .past_isolation("--!")
        .among_free("+x+"),
    );
    ways.push(
        by_ipv4(NetRaw, "inverse ARP and other operations, long enough for a message", |shot| {
            let request = arp(9, (shot.from.mac, shot.from.v4), (NO_MAC, shot.to.v4));
            ethernet(shot.to.mac, shot.from.mac, ARP, &[&request[..], &shot.token, &[7; 200]].concat())
        })
        .past_isolation("--!"),
    );
}

/// The flags of an advertisement: router, solicited, override.
const FLAGS: [(u8, &str); 3] = [(0x20, "override"), (0xe0, "router, solicited, override"), (0, "no flag")];

fn neighbour_claims(ways: &mut Vec<Way>) {
    for (whose, _, claimed, fates) in CLAIMED {
        for (flags, name) in FLAGS {
            type Source = fn(&Shot, Ipv6Addr) -> Ipv6Addr;
            let sources: [(&str, Source); 3] = [
                ("its own address", |shot, _| shot.from.v6),
                ("its own link-local address", |shot, _| shot.from.link_local),
                ("the claimed address", |_, claimed| claimed),
            ];
            for (source_name, source) in sources {
                for to_all in [false, true] {
                    let to = if to_all { "all" } else { "the receiver" };
                    let how = format!("advertisement ({name}) from {source_name} to {to}: {whose} is here");
                    let way = by_ipv6(NetRaw, how, move |shot| {
                        let target = claimed(shot);
                        let source = source(shot, target);
                        let to = if to_all { ALL_NODES } else { shot.to.v6 };
                        let body = neighbour(flags, target, 2, shot.from.mac);
                        let packet = ipv6(source, to, ICMPV6, 255, &icmpv6(source, to, [136, 0], &body));
                        let mac = if to_all { group_mac(to.into()) } else { shot.to.mac };
                        ethernet(mac, shot.from.mac, IPV6, &packet)
                    });
                    // The node's own neighbours, and frames from an unused address, are recognised.
                    let forged = source_name == "the claimed address";
                    let fates = match whose {
                        // A port's new pod may announce an address before it is known.
                        "the gateway" | "a pod of another node" if forged && !to_all => "--!",
                        _ => fates,
                    };
                    let way = way.past_isolation(fates).among_free(fates);
                    ways.push(if whose == "the receiver" {
                        way
                    } else {
                        way.sent("mallory", "node-a", fates)
                    });
                }
            }
        }
        ways.push(
            by_ipv6(
                NetRaw,
                format!("solicitation from {whose} with the sender's Ethernet address"),
                move |shot| {
                    let (source, to) = (claimed(shot), shot.to.v6);
                    let body = neighbour(0, to, 1, shot.from.mac);
                    let packet = ipv6(source, to, ICMPV6, 255, &icmpv6(source, to, [135, 0], &body));
                    shot.frame(&packet)
                },
            )
            .past_isolation(if matches!(whose, "the gateway" | "a pod of another node") {
                "--!"
            } else {
                fates
            }),
        );
    }
    ways.push(
        by_ipv6(NetRaw, "advertisement of the node's link-local address", |shot| {
            let (source, to) = (shot.from.link_local, shot.to.link_local);
            let body = neighbour(0x20, shot.node().link_local, 2, shot.from.mac);
            shot.frame(&ipv6(source, to, ICMPV6, 255, &icmpv6(source, to, [136, 0], &body)))
        })
        .past_isolation("--!")
        .among_free("--!")
        .sent("mallory", "node-a", "--!"),
    );
    ways.push(
        by_ipv6(NetRaw, "solicitation from the node's link-local address", |shot| {
            let (source, to) = (shot.node().link_local, shot.to.v6);
            let body = neighbour(0, to, 1, shot.from.mac);
            shot.frame(&ipv6(source, to, ICMPV6, 255, &icmpv6(source, to, [135, 0], &body)))
        })
        .past_isolation("--!")
        .among_free("--!"),
    );
    for (to_all, name) in [(true, "to its group"), (false, "to the receiver")] {
        ways.push(
            by_ipv6(NetRaw, format!("question {name} whether the receiver's address is free"), move |shot| {
                let target = shot.to.v6;
                let to = if to_all { solicited(target) } else { target };
                let body = [&[0; 4][..], &target.octets()].concat();
                shot.icmpv6([Ipv6Addr::UNSPECIFIED, to], 135, 255, &body)
            })
            .past_isolation("-!!")
            .among_free("-!!"),
        );
    }
}

fn routers(ways: &mut Vec<Way>) {
    let router_body = |shot: &Shot| {
        // Hop limit, flags, lifetime, and the sender's Ethernet address.
        [&[64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1][..], &shot.from.mac].concat()
    };
    for (source_name, own) in [("its own", true), ("the node's", false)] {
        for to_all in [false, true] {
            let how = format!(
                "router advertisement from {source_name} link-local address{}",
                if to_all { " to all" } else { "" }
            );
            ways.push(
                by_ipv6(NetRaw, how, move |shot| {
                    let source = if own { shot.from.link_local } else { shot.node().link_local };
                    let to = if to_all { ALL_NODES } else { shot.to.link_local };
                    shot.icmpv6([source, to], 134, 255, &router_body(shot))
                })
                .past_isolation("---")
                .among_free("---"),
            );
        }
        ways.push(
            by_ipv6(NetRaw, format!("redirect from {source_name} link-local address"), move |shot| {
                let source = if own { shot.from.link_local } else { shot.node().link_local };
                let to = shot.hosts.get("far-free").v6;
                let body = [&[0; 4][..], &shot.from.link_local.octets(), &to.octets()].concat();
                shot.icmpv6([source, shot.to.v6], 137, 255, &body)
            })
            .past_isolation("---")
            .among_free("---")
            .routed("---"),
        );
    }
    // The bridge would take the sender for a multicast router, and send solicitations only to ports that answered it.
    for (name, own) in [("its own", true), ("the node's", false)] {
        ways.push(
            by_ipv6(
                NetRaw,
                format!("multicast listener query from {name} link-local address"),
                move |shot| {
                    let source = if own { shot.from.link_local } else { shot.node().link_local };
                    let body = [&[0, 100, 0, 0][..], &[0; 16]].concat();
                    shot.icmpv6([source, ALL_NODES], 130, 1, &body)
                },
            )
            .past_isolation("---")
            .among_free("---"),
        );
    }
    ways.push(
        by_frames(NetRaw, "router advertisement in two fragments", &[Family::V6], |shot| {
            let (source, to) = (shot.from.link_local, shot.to.link_local);
            let body = [&[64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0][..], &shot.token].concat();
            fragments(shot, source, to, ICMPV6, 255, &icmpv6(source, to, [134, 0], &body), 8)
        })
        .past_isolation("---")
        .among_free("---"),
    );
    ways.push(
        by_ipv6(NetRaw, "router advertisement behind options", |shot| {
            let (source, to) = (shot.from.link_local, shot.to.link_local);
            let body = [&[64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0][..], &shot.token].concat();
            let message = icmpv6(source, to, [134, 0], &body);
            let options = [&[ICMPV6, 0, 1, 4, 0, 0, 0, 0][..], &message].concat();
            shot.frame(&ipv6(source, to, DESTINATION_OPTIONS, 255, &options))
        })
        .past_isolation("---")
        .among_free("---"),
    );
    ways.push(
        by_ipv4(NetRaw, "ICMP redirect", |shot| {
            let quoted = shot.udp(shot.to.v4.into(), shot.hosts.get("outside").v4.into());
            let body = [&shot.from.v4.octets()[..], &quoted].concat();
            shot.frame(&ip(shot.own(), shot.theirs(), ICMP, &icmp([5, 1], &body)))
        })
        .past_isolation("---"),
    );
}

/// A packet in fragments of so many octets.
pub(crate) fn fragments(
    shot: &Shot,
    source: Ipv6Addr,
    to: Ipv6Addr,
    next: u8,
    hops: u8,
    payload: &[u8],
    size: usize,
) -> Vec<Bytes> {
    let pieces: Vec<_> = payload.chunks(size).collect();
    let count = pieces.len();
    let numbered = pieces.into_iter().enumerate();
    let fragment = |(index, piece): (usize, &[u8])| {
        let offset = u16::try_from(index * size).expect("an offset") | u16::from(index + 1 < count);
        let id = &shot.token[4..];
        let header = [&[next, 0][..], &offset.to_be_bytes(), id].concat();
        let packet = ipv6(source, to, FRAGMENT, hops, &[&header[..], piece].concat());
        let mac = if to.is_multicast() { group_mac(to.into()) } else { shot.next_hop() };
        ethernet(mac, shot.from.mac, IPV6, &packet)
    };
    numbered.map(fragment).collect()
}

pub(crate) fn ways() -> Vec<Way> {
    let mut ways = Vec::new();
    arp_claims(&mut ways);
    neighbour_claims(&mut ways);
    routers(&mut ways);
    ways
}
