//! From pods to their node with `--pod-to-node=drop`, over every address that it has on the bridge.

use crate::setup::{BypassTest, Mode};
use crate::way::Shot;
use bridgewarden::net::Family;
use std::net::{IpAddr, Ipv6Addr, SocketAddrV6, UdpSocket};
use std::time::Duration;
use support::field::{BACKENDS, DEADLINE};
use support::frame::*;

const PORT: u16 = 7777;

/// The receiver of the frames.
#[derive(Clone, Copy, Debug)]
enum To {
    /// The node.
    Node,
    /// A group that a bridge keeps for its own protocols; the last octet of its Ethernet address.
    Bridge(u8),
}

/// Datagrams that a pod sends to its node, by any address and from any.
fn datagrams(shot: &Shot, forged: bool, target: To) -> Vec<Bytes> {
    let node = shot.node();
    let mut ends: Vec<[IpAddr; 2]> = vec![
        [shot.from.v4.into(), node.v4.into()],
        [shot.from.v4.into(), "192.168.100.1".parse().expect("an address")],
        [shot.from.v6.into(), node.v6.into()],
        [shot.from.v6.into(), node.link_local.into()],
        [shot.from.link_local.into(), node.link_local.into()],
        [shot.from.link_local.into(), node.v6.into()],
        [shot.from.v6.into(), Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).into()],
        [shot.from.link_local.into(), Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).into()],
    ];
    if forged {
        ends.extend([
            [shot.of("mallory"), node.v4.into()],
            [shot.hosts.get("mallory").link_local.into(), node.link_local.into()],
            [Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xbad).into(), node.link_local.into()],
            [Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xbad).into(), node.v6.into()],
            ["10.244.1.99".parse().expect("an address"), node.v4.into()],
        ]);
    }
    let datagram = |[source, to]: [IpAddr; 2]| {
        let text = format!("{source} -> {to}");
        let segment = udp(source, to, [40_000, PORT], text.as_bytes());
        let packet = match (source, to) {
            (IpAddr::V6(source), IpAddr::V6(to)) => ipv6(source, to, UDP, 64, &segment),
            _ => ip(source, to, UDP, &segment),
        };
        let mac = match target {
            To::Node if to.is_multicast() => group_mac(to),
            To::Node => node.mac,
            To::Bridge(last) => [1, 0x80, 0xc2, 0, 0, last],
        };
        ethernet(mac, shot.from.mac, type_of(&packet), &packet)
    };
    ends.into_iter().map(datagram).collect()
}

/// Which of a pod's datagrams a program on the node received, over both families.
fn received(test: &mut BypassTest, from: &str, forged: bool, target: To) -> Vec<String> {
    let bind = || {
        let socket = UdpSocket::bind(("::", PORT)).expect("the port is free");
        socket.join_multicast_v6(&Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), 100).ok();
        socket
    };
    let socket = test.hosts.get("node-a").namespace.enter(bind).expect("the namespace is entered");
    socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let frames = {
        let (from, to) = (test.hosts.get(from), test.hosts.get("node-a"));
        let shot = Shot { hosts: &test.hosts, from, to, family: Family::V4, token: *b"to-node!" };
        datagrams(&shot, forged, target)
    };
    for frame in frames {
        test.hosts.get_mut(from).socket.send(&frame);
    }
    let (friend, to) = (test.hosts.get("friend"), test.hosts.get("node-a"));
    let shot = Shot { hosts: &test.hosts, from: friend, to, family: Family::V4, token: *b"the-end!" };
    let end = udp(shot.own(), shot.theirs(), [40_000, PORT], &shot.token);
    let end = shot.frame(&ip(shot.own(), shot.theirs(), UDP, &end));
    test.hosts.get_mut("friend").socket.send(&end);
    let mut buffer = [0; 100];
    let mut received = Vec::new();
    loop {
        let (length, sender) = socket.recv_from(&mut buffer).expect("a free pod reaches its node");
        if &buffer[..length] == b"the-end!" {
            return received;
        }
        received.push(format!("{sender} {}", String::from_utf8_lossy(&buffer[..length])));
    }
}

fn node_is_closed(backend: &'static str, mode: Mode) {
    let mut test = BypassTest::build("node", backend, mode, &["--pod-to-node=drop"]);
    // One that nothing isolates reaches its node by all of its addresses; without the table, not by link-local ones, and from a port
    // of which no pod is known, not to or from these.
    let free = received(&mut test, "mallory", false, To::Node);
    let wanted = match mode {
        Mode::Ports => 8,
        Mode::Unbound => 3,
        Mode::Addresses => 5,
    };
    assert_eq!(free.len(), wanted, "a free pod reached its node so: {free:#?}");
    let forges = mode == Mode::Ports;
    for pod in ["out", "shut"] {
        let isolated = received(&mut test, pod, forges, To::Node);
        assert!(isolated.is_empty(), "{pod} reached its node: {isolated:#?}");
        let by_bridge = received(&mut test, pod, forges, To::Bridge(3));
        match mode {
            Mode::Ports | Mode::Unbound => {
                assert!(by_bridge.is_empty(), "{pod} reached its node: {by_bridge:#?}")
            }
            // A known limit: such frames come by the port itself, of which these rules know nothing.
            Mode::Addresses => assert_eq!(by_bridge.len(), 2, "{by_bridge:#?}"),
        }
        // The bridge delivers frames for LLDP to the port's device and calls none of its hooks.
        let by_lldp = received(&mut test, pod, forges, To::Bridge(0x0e));
        match mode {
            Mode::Ports | Mode::Unbound => {
                assert!(by_lldp.is_empty(), "{pod} reached its node: {by_lldp:#?}")
            }
            // A known limit. Rules of iptables deny what comes from an isolated address.
            Mode::Addresses => assert_eq!(by_lldp.len(), 2, "{by_lldp:#?}"),
        }
    }
    // What comes by a socket of its own, as any program may send it.
    let link_local = test.hosts.get("node-a").link_local;
    let send = || {
        let socket = UdpSocket::bind("[::]:0")?;
        socket.send_to(b"to-node!", SocketAddrV6::new(link_local, PORT, 0, 100))
    };
    let sent = test.hosts.get("out").namespace.enter(send).expect("the namespace is entered");
    assert!(sent.is_ok(), "{sent:?}");
    let late = received(&mut test, "out", false, To::Node);
    assert!(late.is_empty(), "out reached its node from a socket: {late:#?}");
    assert!(test.fence_arrives("node-a", "out", Duration::from_secs(3)), "the node doesn't reach out");
}

#[test]
fn isolated_pods_do_not_reach_their_node_with_ports_bound() {
    BACKENDS.iter().for_each(|backend| node_is_closed(backend, Mode::Ports));
}

#[test]
fn isolated_pods_do_not_reach_their_node_with_ports_unknown() {
    node_is_closed(BACKENDS[0], Mode::Unbound);
}

#[test]
fn isolated_pods_do_not_reach_their_node_with_addresses_alone() {
    BACKENDS.iter().for_each(|backend| node_is_closed(backend, Mode::Addresses));
}
