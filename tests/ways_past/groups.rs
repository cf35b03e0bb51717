//! Broadcast, multicast and link-local traffic. It needs no privilege.

use crate::way::Privilege::Unprivileged;
use crate::way::*;
use bridgewarden::net::Family;
use std::net::{IpAddr, Ipv6Addr};
use support::frame::*;

const GROUPS: [&str; 14] = [
    "255.255.255.255",
    "10.244.1.255",
    "10.244.1.0",
    "224.0.0.1",
    "224.0.0.22",
    "224.0.0.251",
    "239.255.255.250",
    "ff01::1",
    "ff02::1",
    "ff02::16",
    "ff02::fb",
    "ff02::1:ff00:10",
    "ff05::1:3",
    "ff0e::1234",
];

/// The Ethernet address that a kernel sends to.
fn mac_of(address: IpAddr) -> Mac {
    if address.is_multicast() { group_mac(address) } else { BROADCAST }
}

fn groups(ways: &mut Vec<Way>) {
    for group in GROUPS {
        let address: IpAddr = group.parse().expect("an address");
        let family: &'static [Family] = if address.is_ipv4() { &[Family::V4] } else { &[Family::V6] };
        for (name, own) in [("its own", true), ("its link-local", false)] {
            if address.is_ipv4() && !own {
                continue;
            }
            let how = format!("UDP from {name} address to {group}");
            ways.push(
                by_frames(Unprivileged, how, family, move |shot| {
                    let source = if own { shot.own() } else { shot.from.link_local.into() };
                    let packet = shot.udp(source, address);
                    vec![ethernet(mac_of(address), shot.from.mac, type_of(&packet), &packet)]
                })
                .past_isolation("---")
                .sent("friend", "in", "---")
                .sent("out", "target", "---")
                .among_free("+xx"),
            );
            ways.push(
                by_frames(
                    Unprivileged,
                    format!("UDP from {name} address to {group} in a frame to the receiver"),
                    family,
                    move |shot| {
                        let source = if own { shot.own() } else { shot.from.link_local.into() };
                        vec![shot.frame(&shot.udp(source, address))]
                    },
                )
                .past_isolation("---"),
            );
        }
        if address.is_ipv4() {
            ways.push(
                by_ipv4(Unprivileged, format!("UDP through the node to {group}"), move |shot| {
                    let packet = shot.udp(shot.own(), address);
                    ethernet(shot.node().mac, shot.from.mac, IPV4, &packet)
                })
                .past_isolation("---")
                .sent("far-free", "in", "---"),
            );
        }
    }
}

fn link_local(ways: &mut Vec<Way>) {
    type Ends = fn(&Shot) -> [Ipv6Addr; 2];
    let ends: [(&str, Ends); 3] = [
        ("from a link-local address to one", |shot| [shot.from.link_local, shot.to.link_local]),
        ("to a link-local address", |shot| [shot.from.v6, shot.to.link_local]),
        ("from a link-local address", |shot| [shot.from.link_local, shot.to.v6]),
    ];
    for (name, ends) in ends {
        // A kernel prefers another source for what is not for the link alone.
        let [isolated_to_node, free_to_node] =
            if name == "from a link-local address" { ["xx+", "+x+"] } else { ["+++", "+++"] };
        ways.push(
            by_ipv6(Unprivileged, format!("UDP {name}"), move |shot| {
                let [source, to] = ends(shot);
                shot.frame(&shot.udp(source.into(), to.into()))
            })
            .past_isolation("---")
            .sent("friend", "in", "---")
            .sent("out", "target", "---")
            .sent("out", "node-a", isolated_to_node)
            .sent("mallory", "node-a", free_to_node)
            .sent("node-a", "in", "+++")
            .sent("node-a", "out", "+++")
            .sent("node-a", "free", "+++")
            .among_free("+xx"),
        );
        ways.push(
            by_ipv6(Unprivileged, format!("TCP {name}"), move |shot| {
                let [source, to] = ends(shot);
                shot.frame(&shot.syn(source.into(), to.into()))
            })
            .past_isolation("---")
            .sent("node-a", "in", "+++")
            .sent("out", "node-a", isolated_to_node)
            .among_free("+xx"),
        );
        ways.push(
            by_ipv6(Unprivileged, format!("ping {name}"), move |shot| {
                let ends = ends(shot);
                shot.icmpv6(ends, 128, 64, &[0, 1, 0, 1])
            })
            .past_isolation("---")
            .sent("node-a", "in", "+++")
            .among_free("+xx"),
        );
    }
    ways.push(
        by_ipv6(Unprivileged, "UDP to the link-local address of a neighbour through the node", |shot| {
            let packet = shot.udp(shot.from.v6.into(), shot.to.link_local.into());
            ethernet(shot.node().mac, shot.from.mac, IPV6, &packet)
        })
        .past_isolation("---"),
    );
    for (name, source) in
        [("a made-up link-local address", "fe80::bad"), ("fe80::", "fe80::"), ("febf::1", "febf::1")]
    {
        let source: Ipv6Addr = source.parse().expect("an address");
        ways.push(
            by_ipv6(Privilege::NetRaw, format!("UDP from {name}"), move |shot| {
                shot.frame(&shot.udp(source.into(), shot.to.v6.into()))
            })
            .past_isolation("---")
            .routed("---"),
        );
    }
}

pub(crate) fn ways() -> Vec<Way> {
    let mut ways = Vec::new();
    groups(&mut ways);
    link_local(&mut ways);
    ways
}
