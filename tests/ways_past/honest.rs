//! Legitimate traffic, which must pass whichever pods are isolated: frames as rows, and connections over real sockets.

use crate::discovery::fragments;
use crate::hosts::namespace_of;
use crate::setup::BypassTest;
use crate::way::Privilege::{NetRaw, Unprivileged};
use crate::way::*;
use bridgewarden::net::{Family, Protocol};
use bridgewarden::testbed::{Endpoint, Probe};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use support::field::{Asked, DEADLINE};
use support::frame::*;

const UNSPECIFIED: Ipv6Addr = Ipv6Addr::UNSPECIFIED;

/// The allowed pairs of sender and receiver.
const ALLOWED: [(&str, &str); 9] = [
    ("friend", "in"),
    ("friend", "shut"),
    ("far-friend", "in"),
    ("out", "target"),
    ("out", "far-target"),
    ("mallory", "free"),
    ("mallory", "out"),
    ("in", "free"),
    ("in", "far-free"),
];

fn allowed(way: Way) -> Way {
    ALLOWED.into_iter().fold(way, |way, (from, to)| way.sent(from, to, "+++"))
}

pub(crate) fn ways() -> Vec<Way> {
    let mut ways = vec![
        allowed(by_ip(Unprivileged, "UDP to whom it may reach", |shot| shot.frame(&shot.datagram()))),
        allowed(by_ip(Unprivileged, "TCP to whom it may reach", |shot| {
            shot.frame(&shot.syn(shot.own(), shot.theirs()))
        })),
        allowed(by_ip(Unprivileged, "ping to whom it may reach", |shot| {
            let body = [&[0, 7, 0, 1][..], &shot.token].concat();
            match shot.family {
                Family::V4 => shot.frame(&ip(shot.own(), shot.theirs(), ICMP, &icmp([8, 0], &body))),
                Family::V6 => shot.icmpv6([shot.from.v6, shot.to.v6], 128, 64, &body[..4]),
            }
        })),
        allowed(by_frames(
            Unprivileged,
            "a datagram in fragments to whom it may reach",
            &[Family::V6],
            |shot| {
                let body = [&shot.token[..], &[0; 1400], &shot.token].concat();
                let whole = udp(shot.own(), shot.theirs(), PORTS, &body);
                fragments(shot, shot.from.v6, shot.to.v6, UDP, 64, &whole, 1000)
            },
        )),
        allowed(by_frames(
            Unprivileged,
            "a datagram in fragments to whom it may reach",
            &[Family::V4],
            |shot| {
                let body = [&shot.token[..], &[0; 1400], &shot.token].concat();
                let whole = udp(shot.own(), shot.theirs(), PORTS, &body);
                let id = u16::from_be_bytes([shot.token[6], shot.token[7]]);
                let piece = |fragment: u16, piece: &[u8]| {
                    let packet = Ipv4 { fragment, ..Ipv4::new(shot.from.v4, shot.to.v4, UDP) };
                    shot.frame(&packet.identified(id, piece))
                };
                vec![piece(0x2000, &whole[..1000]), piece(125, &whole[1000..])]
            },
        )),
    ];
    let nodes = ["in", "out", "shut", "mallory", "free"];
    let both_ways = |way: Way| {
        nodes.into_iter().fold(way, |way, pod| way.sent("node-a", pod, "+++").sent(pod, "node-a", "+++"))
    };
    ways.push(both_ways(by_ip(Unprivileged, "UDP between a pod and its node", |shot| {
        shot.frame(&shot.datagram())
    })));
    ways.push(both_ways(by_ip(Unprivileged, "TCP between a pod and its node", |shot| {
        shot.frame(&shot.syn(shot.own(), shot.theirs()))
    })));
    let neighbours = |way: Way| way.past_isolation("+++").among_free("+++");
    ways.push(neighbours(by_ipv4(Unprivileged, "ARP request", |shot| {
        ethernet(BROADCAST, shot.from.mac, ARP, &arp(1, (shot.from.mac, shot.from.v4), ([0; 6], shot.to.v4)))
    })));
    ways.push(neighbours(by_ipv4(Unprivileged, "ARP reply", |shot| {
        let reply = arp(2, (shot.from.mac, shot.from.v4), (shot.to.mac, shot.to.v4));
        ethernet(shot.to.mac, shot.from.mac, ARP, &reply)
    })));
    ways.push(neighbours(by_ipv4(NetRaw, "ARP probe for an address", |shot| {
        let probe = arp(1, (shot.from.mac, [0, 0, 0, 0].into()), ([0; 6], shot.from.v4));
        ethernet(BROADCAST, shot.from.mac, ARP, &probe)
    })));
    ways.push(neighbours(by_ipv4(NetRaw, "ARP that a switch made as long as a frame must be", |shot| {
        let request = arp(1, (shot.from.mac, shot.from.v4), ([0; 6], shot.to.v4));
        ethernet(BROADCAST, shot.from.mac, ARP, &[&request[..], &[0; 18]].concat())
    })));
    type Discovery = (&'static str, u8, fn(&Shot) -> [Ipv6Addr; 3]);
    let discovery: [Discovery; 6] = [
        ("solicitation", 135, |shot| [shot.from.v6, solicited(shot.to.v6), shot.to.v6]),
        ("solicitation from a link-local address", 135, |shot| {
            [shot.from.link_local, solicited(shot.to.v6), shot.to.v6]
        }),
        ("solicitation to one neighbour", 135, |shot| [shot.from.v6, shot.to.v6, shot.to.v6]),
        ("duplicate address detection", 135, |shot| [UNSPECIFIED, solicited(shot.from.v6), shot.from.v6]),
        ("advertisement", 136, |shot| [shot.from.v6, shot.to.v6, shot.from.v6]),
        ("advertisement of a link-local address", 136, |shot| {
            [shot.from.link_local, shot.to.v6, shot.from.link_local]
        }),
    ];
    for (name, kind, ends) in discovery {
        ways.push(neighbours(by_ipv6(Unprivileged, name, move |shot| {
            let [source, to, target] = ends(shot);
            let body = match source {
                UNSPECIFIED => [&[0; 4][..], &target.octets()].concat(),
                _ => neighbour(if kind == 136 { 0x60 } else { 0 }, target, kind - 134, shot.from.mac),
            };
            let packet = ipv6(source, to, ICMPV6, 255, &icmpv6(source, to, [kind, 0], &body));
            let mac = if to.is_multicast() { group_mac(to.into()) } else { shot.to.mac };
            ethernet(mac, shot.from.mac, IPV6, &packet)
        })));
    }
    ways.push(
        by_ipv6(Unprivileged, "router solicitation", |shot| {
            let to = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
            shot.icmpv6([shot.from.link_local, to], 133, 255, &[0, 0, 0, 0])
        })
        .sent("out", "node-a", "+++")
        .sent("shut", "node-a", "+++")
        .among_free("+x+"),
    );
    ways
}

/// What kube-proxy does on node-a for a Service of one pod.
fn serve(test: &BypassTest, service: [&str; 2], pod: &str) {
    for (family, service) in Family::BOTH.into_iter().zip(service) {
        let pod = test.hosts.get(pod).address(family);
        let program = if family == Family::V4 { "iptables-nft" } else { "ip6tables-nft" };
        let to = SocketAddr::new(pod, 80);
        test.shell(
            "node-a",
            &format!(
                "{program} -t nat -A PREROUTING -d {service} -p tcp -j DNAT --to {to}
                 {program} -t nat -A POSTROUTING -s {pod} -d {pod} -j MASQUERADE"
            ),
        );
    }
}

const IN_SERVICE: [&str; 2] = ["10.96.0.10", "fd00:96::10"];
const FREE_SERVICE: [&str; 2] = ["10.96.0.14", "fd00:96::14"];

fn asked(from: &str, to: IpAddr, protocol: Protocol, open: bool) -> Asked {
    let probe = Probe::new(Endpoint::pod(namespace_of(from), from), to, protocol, 80);
    let to_service = IN_SERVICE.iter().chain(&FREE_SERVICE).any(|service| *service == to.to_string());
    Asked { place: format!("{from} -> {to}"), probe, open, to_service }
}

/// Connections over real sockets, to pods and to Services, with empty neighbour tables.
pub(crate) fn conversations(test: &mut BypassTest) -> Result<(), String> {
    serve(test, IN_SERVICE, "in");
    serve(test, FREE_SERVICE, "free");
    for host in ["in", "out", "shut", "mallory", "free", "friend", "target", "exempt", "node-a"] {
        let device = if host == "node-a" { "cni0" } else { "eth0" };
        test.shell(host, &format!("ip neigh flush dev {device} nud all"));
    }
    let mut all = Vec::new();
    for family in Family::BOTH {
        let address = |name: &str| test.hosts.get(name).address(family);
        let mut ask = |from: &str, to: IpAddr, open| {
            all.extend([Protocol::Tcp, Protocol::Udp].map(|protocol| asked(from, to, protocol, open)));
        };
        for (from, to) in ALLOWED {
            ask(from, address(to), true);
        }
        for (from, to) in [("mallory", "in"), ("mallory", "shut"), ("far-free", "in"), ("out", "free")] {
            ask(from, address(to), false);
        }
        ask("exempt", address("free"), true);
        let service =
            |service: [&str; 2]| service[usize::from(family == Family::V6)].parse().expect("an address");
        for (from, to, open) in [
            ("friend", IN_SERVICE, true),
            ("mallory", IN_SERVICE, false),
            ("in", IN_SERVICE, true),
            ("free", FREE_SERVICE, true),
            ("mallory", FREE_SERVICE, true),
            ("out", FREE_SERVICE, false),
        ] {
            all.push(asked(from, service(to), Protocol::Tcp, open));
        }
    }
    let held = test.field.hold(&all);
    test.introduce();
    held
}

/// A large datagram and a long stream between allowed pods, the latter over a path that is narrower than they know.
pub(crate) fn large(test: &mut BypassTest) -> Result<(), String> {
    for family in Family::BOTH {
        for (from, to) in [("friend", "in"), ("far-friend", "in"), ("out", "target"), ("out", "far-target")] {
            let own = |host: &str| SocketAddr::new(test.hosts.get(host).address(family), 0);
            let enter = |host: &str, local| {
                let bind = move || UdpSocket::bind(local).expect("the port is free");
                test.hosts.get(host).namespace.enter(bind).expect("the namespace is entered")
            };
            let (receiver, sender) = (enter(to, own(to)), enter(from, own(from)));
            let address = receiver.local_addr().map_err(|error| error.to_string())?;
            receiver.set_read_timeout(Some(DEADLINE)).expect("a timeout");
            sender.send_to(&[7; 9000], address).map_err(|error| format!("{from} -> {to}: {error}"))?;
            let received = receiver.recv(&mut [0; 10_000]);
            if received.as_ref().ok() != Some(&9000) {
                return Err(format!("9000 octets from {from} to {to} by UDP: {received:?}"));
            }
        }
    }
    let router = test.field.testbed.router_namespace().clone();
    for device in ["node1", "node2"] {
        support::program::output(&router, &["ip", "link", "set", device, "mtu", "1300"])
            .map_err(|e| e.to_string())?;
    }
    let streamed = Family::BOTH.into_iter().try_for_each(|family| stream(test, family));
    for device in ["node1", "node2"] {
        support::program::output(&router, &["ip", "link", "set", device, "mtu", "1500"])
            .map_err(|e| e.to_string())?;
    }
    streamed
}

fn stream(test: &BypassTest, family: Family) -> Result<(), String> {
    const LENGTH: usize = 300_000;
    for (from, to) in [("far-friend", "in"), ("out", "far-target")] {
        let address = SocketAddr::new(test.hosts.get(to).address(family), 9001);
        let listen = || TcpListener::bind(address).expect("the port is free");
        let listener = test.hosts.get(to).namespace.enter(listen).expect("the namespace is entered");
        let dial = || TcpStream::connect_timeout(&address, DEADLINE).expect("an allowed connection");
        let mut client = test.hosts.get(from).namespace.enter(dial).expect("the namespace is entered");
        let (mut server, _) = listener.accept().expect("the connection is there");
        client.set_write_timeout(Some(DEADLINE)).expect("a timeout");
        server.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        let received = std::thread::scope(|scope| {
            scope.spawn(|| client.write_all(&[7; LENGTH]).ok());
            server.read_exact(&mut vec![0; LENGTH])
        });
        received.map_err(|error| format!("{LENGTH} octets from {from} to {to} by TCP: {error}"))?;
    }
    Ok(())
}
