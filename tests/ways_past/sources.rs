//! Packets with spoofed source addresses.

use crate::way::Privilege::NetRaw;
use crate::way::*;
use bridgewarden::net::Family;
use std::net::IpAddr;
use support::frame::*;

/// An unused address of the node's block.
fn unassigned(family: Family) -> IpAddr {
    support::topology::NODES[0].pod_address(family, 99)
}

fn v4_or_v6(family: Family, v4: &str, v6: &str) -> IpAddr {
    match family {
        Family::V4 => v4,
        Family::V6 => v6,
    }
    .parse()
    .expect("an address")
}

/// A source, and what becomes of a datagram from it: into and out of isolated pods, between free ones, and routed.
struct Source {
    name: &'static str,
    address: fn(&Shot) -> IpAddr,
    isolated: Fates,
    free: Fates,
    routed: Fates,
}

const SOURCES: [Source; 13] = [
    Source {
        name: "an address that no host has",
        address: |shot| unassigned(shot.family),
        isolated: "---",
        free: "---",
        routed: "---",
    },
    Source {
        // Which port is whose is not known there.
        name: "a free pod that everybody may talk to",
        address: |shot| shot.of(if shot.from.node == "node-a" { "friend" } else { "far-friend" }),
        isolated: "-!!",
        free: "-!!",
        routed: "-!!",
    },
    Source {
        name: "another isolated pod",
        address: |shot| {
            let names = if shot.from.node == "node-a" { ["shut", "out"] } else { ["far-in", "far-out"] };
            let takes_part = |name: &str| name == shot.from.name || name == shot.to.name;
            shot.of(names.into_iter().find(|name| !takes_part(name)).expect("a third pod"))
        },
        isolated: "---",
        free: "---",
        routed: "---",
    },
    Source {
        name: "the bridge, the pods' gateway",
        address: |shot| shot.node().address(shot.family),
        isolated: "---",
        free: "---",
        routed: "---",
    },
    Source {
        name: "the node",
        address: |shot| v4_or_v6(shot.family, "192.168.100.1", "fd00:192:168:100::1"),
        isolated: "---",
        free: "---",
        routed: "---",
    },
    Source {
        name: "an allowed pod of another node",
        address: |shot| shot.of(if shot.from.node == "node-a" { "far-friend" } else { "friend" }),
        isolated: "---",
        free: "---",
        routed: "---",
    },
    Source {
        name: "a host outside",
        address: |shot| shot.of("outside"),
        isolated: "---",
        free: "---",
        routed: "---",
    },
    Source {
        name: "the loopback device",
        address: |shot| v4_or_v6(shot.family, "127.0.0.1", "::1"),
        isolated: "---",
        free: "---",
        routed: "---",
    },
    Source {
        name: "nothing",
        address: |shot| v4_or_v6(shot.family, "0.0.0.0", "::"),
        isolated: "---",
        free: "---",
        routed: "---",
    },
    Source {
        name: "a group",
        address: |shot| v4_or_v6(shot.family, "224.0.0.251", "ff02::fb"),
        isolated: "---",
        free: "---",
        routed: "---",
    },
    Source {
        name: "the subnet's broadcast, or an IPv4 address in IPv6",
        address: |shot| v4_or_v6(shot.family, "10.244.1.255", "::ffff:10.244.1.15"),
        isolated: "---",
        free: "---",
        routed: "---",
    },
    Source {
        name: "all stations, or the discard prefix",
        address: |shot| v4_or_v6(shot.family, "255.255.255.255", "100::1"),
        isolated: "---",
        free: "---",
        routed: "---",
    },
    Source {
        name: "a link-local address of IPv4, or a site-local one of IPv6",
        address: |shot| v4_or_v6(shot.family, "169.254.7.7", "fec0::7"),
        isolated: "---",
        free: "---",
        routed: "---",
    },
];

pub(crate) fn ways() -> Vec<Way> {
    let mut ways = Vec::new();
    for Source { name, address, isolated, free, routed } in SOURCES {
        let datagram = move |shot: &Shot| shot.frame(&shot.udp(address(shot), shot.theirs()));
        let syn = move |shot: &Shot| shot.frame(&shot.syn(address(shot), shot.theirs()));
        ways.push(
            by_ip(NetRaw, format!("UDP from {name}"), datagram)
                .past_isolation(isolated)
                .among_free(free)
                .routed(routed),
        );
        ways.push(by_ip(NetRaw, format!("TCP from {name}"), syn).past_isolation(isolated).among_free(free));
    }
    // Where the port's pod is unknown, the ICMP error for a spoofed packet goes to its source address, and quotes it.
    ways.push(
        by_ip(NetRaw, "UDP from the receiver itself", |shot| {
            shot.frame(&shot.udp(shot.theirs(), shot.theirs()))
        })
        .past_isolation("-!!")
        .among_free("-!!")
        .routed("---"),
    );
    ways.push(
        by_ip(NetRaw, "TCP from the receiver itself", |shot| {
            shot.frame(&shot.syn(shot.theirs(), shot.theirs()))
        })
        .into_isolated("---")
        .out_of_isolated("-!!")
        .routed("---"),
    );
    ways.push(
        by_ip(NetRaw, "UDP that is rejected, from a pod that the ICMP error reaches", |shot| {
            let packet = shot.udp(shot.theirs(), shot.of(if shot.to.name == "in" { "shut" } else { "in" }));
            ethernet(shot.hosts.get("in").mac, shot.from.mac, type_of(&packet), &packet)
        })
        .past_isolation("-!!"),
    );
    ways.push(
        by_ip(
            NetRaw,
            "UDP from an isolated pod's free neighbour to a pod that only that may reach",
            |shot| shot.frame(&shot.udp(shot.of("mallory"), shot.theirs())),
        )
        .sent("out", "free", "-!!")
        .sent("out", "outside", "-!!"),
    );
    ways.push(
        by_ip(NetRaw, "UDP from an exempt pod under an address of its own choice", |shot| {
            shot.frame(&shot.udp(unassigned(shot.family), shot.theirs()))
        })
        .sent("exempt", "free", "+xx")
        .sent("exempt", "far-free", "+xx")
        .sent("exempt", "in", "---"),
    );
    ways.push(
        by_ip(
            NetRaw,
            "UDP to an address that no host has, in a frame to a pod that answers for it",
            |shot| shot.frame(&shot.udp(shot.own(), unassigned(shot.family))),
        )
        .past_isolation("---")
        .sent("exempt", "in", "---")
        .among_free("+xx"),
    );
    ways.push(
        by_ip(NetRaw, "UDP through the node to an address that no host has", |shot| {
            let packet = shot.udp(shot.own(), unassigned(shot.family));
            ethernet(shot.node().mac, shot.from.mac, type_of(&packet), &packet)
        })
        .past_isolation("---")
        .sent("far-free", "in", "---")
        .sent("far-free", "free", "---"),
    );
    ways.push(
        by_ipv4(NetRaw, "an IPv6 packet in a frame of IPv4's type", |shot| {
            let packet = shot.udp(shot.from.v6.into(), shot.to.v6.into());
            ethernet(shot.next_hop(), shot.from.mac, IPV4, &packet)
        })
        .past_isolation("---")
        .routed("---"),
    );
    ways.push(
        by_ipv4(NetRaw, "an IPv4 packet in a frame of IPv6's type", |shot| {
            ethernet(shot.next_hop(), shot.from.mac, IPV6, &shot.datagram())
        })
        .past_isolation("---")
        .routed("---"),
    );
    ways.push(
        by_ip(NetRaw, "UDP from another Ethernet address", |shot| {
            let packet = shot.datagram();
            ethernet(shot.next_hop(), [2, 0, 0, 0, 0, 9], type_of(&packet), &packet)
        })
        .past_isolation("---")
        .among_free("-++"),
    );
    for (whose, name) in [("a neighbour", "friend"), ("the node", "node-a")] {
        let poison = move |shot: &Shot| {
            let announcement = arp(1, (shot.from.mac, shot.from.v4), ([0; 6], shot.from.v4));
            vec![ethernet(BROADCAST, shot.hosts.get(name).mac, ARP, &announcement)]
        };
        let fates = if name == "friend" { "-!!" } else { "---" };
        ways.push(
            by_frames(
                NetRaw,
                format!("a frame from the Ethernet address of {whose}, to be sent what is for it"),
                &[Family::V4],
                poison,
            )
            .then(move |shot| {
                let (from, to) = (shot.hosts.get("target"), shot.hosts.get(name));
                let packet = shot.udp(from.v4.into(), to.v4.into());
                ("target", ethernet(to.mac, from.mac, IPV4, &packet))
            })
            .sent("mallory", "mallory", fates)
            .sent("out", "out", fates),
        );
    }
    ways
}
