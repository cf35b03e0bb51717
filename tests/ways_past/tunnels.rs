//! Packets that a pod encapsulates for a tunnel of the nodes, which would unpack a packet under any source address.

use crate::discovery::fragments;
use crate::setup::{BypassTest, Mode};
use crate::way::Privilege::{NetRaw, Unprivileged};
use crate::way::*;
use bridgewarden::net::Family;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::{Duration, Instant};
use support::field::{BACKENDS, DEADLINE};
use support::frame::*;

/// The port of Flannel's backend `vxlan`.
const FLANNEL: u16 = 8472;
/// The port of VXLAN (RFC 7348).
const IANA: u16 = 4789;
/// The Ethernet address of each node's tunnel device: a tenant who may read Nodes knows it.
const TUNNEL: Mac = [2, 0, 0, 0, 0x51, 1];
/// An address of a Service in front of the tunnel of node-a.
const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 99);

/// The address of a node between the nodes.
fn uplink(node: &str, family: Family) -> IpAddr {
    support::topology::Node::named(node).expect("a node").address(family)
}

/// Makes the tunnels of both nodes over IPv4 and IPv6, in place of older ones.
fn tunnel(test: &BypassTest, port: u16) {
    let mac = TUNNEL.map(|octet| format!("{octet:02x}")).join(":");
    for node in ["node-a", "node-b"] {
        for (family, device) in Family::BOTH.into_iter().zip(["flannel.1", "flannel-v6.1"]) {
            let local = uplink(node, family);
            test.shell(
                node,
                &format!(
                    "ip link del {device} 2>/dev/null || true
                     ip link add {device} type vxlan id 1 dstport {port} local {local} nolearning
                     ip link set {device} address {mac} up"
                ),
            );
        }
    }
}

/// A packet to the receiver, as if an allowed pod had sent it, in VXLAN.
fn encapsulated(shot: &Shot) -> Bytes {
    let friend = if shot.to.node == "node-a" { "friend" } else { "far-friend" };
    let packet = shot.udp(shot.of(friend), shot.theirs());
    let frame = ethernet(TUNNEL, [2, 0, 0, 0, 0x51, 2], type_of(&packet), &packet);
    [&[8, 0, 0, 0, 0, 0, 1, 0][..], &frame].concat()
}

fn segment(shot: &Shot, to: IpAddr, port: u16) -> Bytes {
    udp(shot.own(), to, [40_000, port], &encapsulated(shot))
}

fn to_node(shot: &Shot, packet: &[u8]) -> Bytes {
    ethernet(shot.node().mac, shot.from.mac, type_of(packet), packet)
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V6(address) => address,
        IpAddr::V4(address) => panic!("{address} is of the other family"),
    }
}

/// To the tunnel of the sender's own node, and of another.
fn plain(port: u16) -> Vec<Way> {
    type To = fn(&Shot) -> IpAddr;
    let ends: [(&str, To); 2] = [
        ("by the bridge's address", |shot| shot.node().address(shot.family)),
        ("by the address between the nodes", |shot| uplink(shot.node().name, shot.family)),
    ];
    let mut ways: Vec<Way> = ends
        .into_iter()
        .map(|(name, to)| {
            by_ip(Unprivileged, format!("VXLAN to port {port} of the node {name}"), move |shot| {
                to_node(shot, &ip(shot.own(), to(shot), UDP, &segment(shot, to(shot), port)))
            })
            .sent("mallory", "in", "--!")
            .sent("out", "free", "--!")
            .sent("shut", "free", "--!")
        })
        .collect();
    ways.push(
        by_ip(Unprivileged, format!("VXLAN to port {port} of another node"), move |shot| {
            let to = uplink("node-b", shot.family);
            to_node(shot, &ip(shot.own(), to, UDP, &segment(shot, to, port)))
        })
        .sent("mallory", "far-in", "--!"),
    );
    ways
}

/// In forms that a filter could read otherwise than the tunnel.
fn disguised() -> Vec<Way> {
    let mut ways = vec![
        by_ipv6(Unprivileged, "VXLAN to the node's link-local address", |shot| {
            let (from, to) = (shot.from.link_local, shot.node().link_local);
            let segment = udp(from.into(), to.into(), [40_000, FLANNEL], &encapsulated(shot));
            to_node(shot, &ipv6(from, to, UDP, 64, &segment))
        })
        .sent("mallory", "in", "--!"),
        by_ipv6(NetRaw, "VXLAN behind options", |shot| {
            let (from, to) = (v6(shot.own()), shot.node().v6);
            let options = [&[UDP, 0, 1, 4, 0, 0, 0, 0][..], &segment(shot, to.into(), FLANNEL)].concat();
            to_node(shot, &ipv6(from, to, DESTINATION_OPTIONS, 64, &options))
        })
        .sent("mallory", "in", "--!"),
        by_frames(NetRaw, "VXLAN in fragments", &[Family::V6], |shot| {
            let (from, to) = (v6(shot.own()), shot.node().v6);
            let pieces = fragments(shot, from, to, UDP, 64, &segment(shot, to.into(), FLANNEL), 8);
            pieces.into_iter().map(|frame| to_node(shot, &frame[14..])).collect()
        })
        .sent("mallory", "in", "--!"),
        by_ipv4(Unprivileged, "VXLAN to a Service in front of the tunnel", |shot| {
            let to = IpAddr::V4(SERVICE);
            to_node(shot, &ip(shot.own(), to, UDP, &segment(shot, to, 53)))
        })
        .sent("mallory", "in", "--!"),
        by_ipv4(NetRaw, "VXLAN with IP options", |shot| {
            let to = shot.node().v4;
            let header = Ipv4 { options: vec![1; 40], ..Ipv4::new(shot.from.v4, to, UDP) };
            to_node(shot, &header.with(&segment(shot, to.into(), FLANNEL)))
        })
        .sent("mallory", "in", "--!"),
    ];
    type Group = (&'static str, Ipv4Addr, Mac);
    let groups: [Group; 3] = [
        ("all", Ipv4Addr::BROADCAST, BROADCAST),
        ("the subnet", Ipv4Addr::new(10, 244, 1, 255), BROADCAST),
        ("the node in a frame to all", Ipv4Addr::new(10, 244, 1, 1), BROADCAST),
    ];
    for (name, to, mac) in groups {
        ways.push(
            by_ipv4(Unprivileged, format!("VXLAN to {name}"), move |shot| {
                let segment = segment(shot, to.into(), FLANNEL);
                ethernet(mac, shot.from.mac, IPV4, &ip(shot.own(), to.into(), UDP, &segment))
            })
            .sent("mallory", "in", if mac == BROADCAST { "--!" } else { "---" }),
        );
    }
    for first in [8, 16, 64] {
        for reversed in [false, true] {
            let order = if reversed { "the later fragment first" } else { "in order" };
            ways.push(
                by_frames(
                    NetRaw,
                    format!("VXLAN in fragments, {first} octets in the first, {order}"),
                    &[Family::V4],
                    move |shot| {
                        let to = shot.node().v4;
                        let whole = segment(shot, to.into(), FLANNEL);
                        let [begin, rest] = [&whole[..first], &whole[first..]];
                        let piece = |fragment: usize, bytes: &[u8]| {
                            let header =
                                Ipv4 { fragment: fragment as u16, ..Ipv4::new(shot.from.v4, to, UDP) };
                            let id = u16::from_be_bytes([shot.token[6], shot.token[7]]);
                            to_node(shot, &header.identified(id, bytes))
                        };
                        let mut pieces = vec![piece(0x2000, begin), piece(first / 8, rest)];
                        if reversed {
                            pieces.reverse();
                        }
                        pieces
                    },
                )
                .sent("mallory", "in", "--!"),
            );
        }
    }
    ways
}

/// What is not for a tunnel of the nodes.
fn honest(port: u16) -> Vec<Way> {
    let to = |port: u16| {
        move |shot: &Shot| {
            let segment = udp(shot.own(), shot.theirs(), [40_000, port], &shot.token);
            shot.frame(&ip(shot.own(), shot.theirs(), UDP, &segment))
        }
    };
    let by_tcp = |port: u16| {
        move |shot: &Shot| {
            let segment = tcp(shot.own(), shot.theirs(), [40_000, port], [1, 0], SYN, &shot.token);
            shot.frame(&ip(shot.own(), shot.theirs(), TCP, &segment))
        }
    };
    vec![
        by_ip(Unprivileged, "UDP to another port", to(port + 1))
            .sent("mallory", "node-a", "+++")
            .sent("out", "node-a", "+++")
            .sent("friend", "in", "+++")
            .sent("far-friend", "in", "+++"),
        by_ip(Unprivileged, format!("TCP to port {port}"), by_tcp(port)).sent("mallory", "node-a", "+++"),
        by_ip(Unprivileged, format!("UDP to port {port} of a neighbour"), to(port))
            .sent("mallory", "free", "+++")
            .sent("friend", "in", "+++")
            .sent("out", "target", "+++"),
        // The other node could not know whether it is for a pod or for a tunnel.
        by_ip(Unprivileged, format!("UDP to port {port} of a pod on another node"), to(port)).sent(
            "far-friend",
            "in",
            "xx+",
        ),
    ]
}

/// A namespace that the administrator exempts, where it is known whose port is whose.
fn exempt() -> Vec<Way> {
    vec![
        by_ip(Unprivileged, "VXLAN from an exempt pod", |shot| {
            let to = shot.node().address(shot.family);
            to_node(shot, &ip(shot.own(), to, UDP, &segment(shot, to, FLANNEL)))
        })
        .sent("exempt", "in", "!-!"),
    ]
}

/// Until the agent has seen the device.
fn await_tunnel(test: &mut BypassTest, port: u16) {
    let start = Instant::now();
    loop {
        let differing = test.differing(&plain(port));
        if differing.is_empty() {
            return;
        }
        assert!(start.elapsed() < DEADLINE, "port {port}: {differing:?}\n{}", test.field.log());
    }
}

/// What a node sends to the tunnel of another arrives.
fn nodes_use_it(test: &mut BypassTest, port: u16) {
    for family in Family::BOTH {
        let (bytes, token) = {
            let (from, to) = (test.hosts.get("far-friend"), test.hosts.get("in"));
            let token = if family == Family::V4 { *b"tunnel-4" } else { *b"tunnel-6" };
            let shot = Shot { hosts: &test.hosts, from, to, family, token };
            (encapsulated(&shot), token)
        };
        test.drain("in");
        let local = if family == Family::V4 { "0.0.0.0:0" } else { "[::]:0" };
        let to = (uplink("node-a", family), port);
        let send = || UdpSocket::bind(local)?.send_to(&bytes, to);
        let sent = test.hosts.get("node-b").namespace.enter(send).expect("the namespace is entered");
        assert!(sent.is_ok(), "{sent:?}");
        let start = Instant::now();
        loop {
            let arrived = |frame: &[u8]| frame.windows(8).any(|window| window == token);
            if test.fence("friend", "in", Duration::from_secs(3), arrived) == Some(true) {
                break;
            }
            assert!(start.elapsed() < DEADLINE, "{family:?}: what another node's tunnel sent didn't arrive");
        }
    }
}

fn no_way_through_tunnels(backend: &'static str, mode: Mode) {
    let mut test = BypassTest::build("tunnel", backend, mode, &[]);
    tunnel(&test, FLANNEL);
    test.shell(
        "node-a",
        &format!(
            "iptables-nft -t nat -A PREROUTING -d {SERVICE} -p udp --dport 53 -j DNAT --to {}:{FLANNEL}",
            uplink("node-a", Family::V4)
        ),
    );
    await_tunnel(&mut test, FLANNEL);
    let ways = [plain(FLANNEL), disguised(), honest(FLANNEL), exempt()];
    let mut differing = test.differing(&ways.into_iter().flatten().collect::<Vec<_>>());
    nodes_use_it(&mut test, FLANNEL);
    tunnel(&test, IANA);
    await_tunnel(&mut test, IANA);
    differing.extend(test.differing(&honest(IANA)));
    nodes_use_it(&mut test, IANA);
    assert!(differing.is_empty(), "{}:\n{}", differing.len(), differing.join("\n"));
}

#[test]
fn no_way_through_tunnels_of_the_nodes_with_ports_bound() {
    BACKENDS.iter().for_each(|backend| no_way_through_tunnels(backend, Mode::Ports));
}

#[test]
fn no_way_through_tunnels_of_the_nodes_with_ports_unknown() {
    no_way_through_tunnels(BACKENDS[0], Mode::Unbound);
}

#[test]
fn tunnels_of_the_nodes_are_a_known_limit_with_addresses_alone() {
    no_way_through_tunnels(BACKENDS[0], Mode::Addresses);
}
