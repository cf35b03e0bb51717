//! The options that an operator may choose.

use super::*;
use crate::netfilter::nftables::RejectWith;
use crate::ownership::BRIDGE_TABLE;
use crate::render::{Deny, OnRevoke};
use std::collections::BTreeSet;

#[test]
fn packets_to_the_node_meet_what_the_operator_chose() {
    let facts = || [closed("web", &["web"]), pod("a", "web", 10), pod("b", "free", 11)];
    let to_node = |node: &Node, host, port| {
        node.outcome(HookPoint::Input, &segment(address(host), [10, 244, 1, 1].into(), port))
            == Outcome::Accepted
    };
    for (pod_to_node, isolated) in
        [(PodToNode::Allow, true), (PodToNode::Policy, false), (PodToNode::Drop, false)]
    {
        let mut node = Node::new(Options { pod_to_node, ..options() }, facts());
        assert_eq!(to_node(&node, 10, 80), isolated, "{pod_to_node:?}");
        assert!(to_node(&node, 10, 53) && to_node(&node, 11, 80), "{pod_to_node:?}");
        assert_eq!(node.has("TO-NODE-4"), pod_to_node == PodToNode::Drop);
        node.flush([pod("a", "free", 10)]);
        assert!(to_node(&node, 10, 80), "{pod_to_node:?}");
        node.flush([pod("a", "web", 10)]);
        for pod_to_node in [PodToNode::Allow, PodToNode::Drop, PodToNode::Policy, PodToNode::Allow] {
            node.restart(Options { pod_to_node, ..options() });
            assert_eq!(to_node(&node, 10, 80), pod_to_node == PodToNode::Allow);
            assert_eq!(node.restart(Options { pod_to_node, ..options() }), 0);
        }
    }
}

#[test]
fn denied_packets_are_answered_as_the_operator_chose() {
    let (reset, unreachable) =
        (Outcome::Rejected(RejectWith::TcpReset), Outcome::Rejected(RejectWith::PortUnreachable));
    for (deny, tcp, udp, of_service) in [
        (Deny::Reject, reset, unreachable, unreachable),
        (Deny::RejectIcmp, unreachable, unreachable, unreachable),
        (Deny::Drop, Outcome::Dropped, Outcome::Dropped, Outcome::Dropped),
    ] {
        let node = Node::new(Options { deny, ..options() }, [closed("web", &["web"]), pod("a", "web", 10)]);
        let packet = segment(outside(), address(10), 80);
        let datagram = iptables::Packet {
            payload: Payload::Transport { protocol: Protocol::Udp, port: 80 },
            ..packet.clone()
        };
        let by_bridge = iptables::Packet { translated: true, in_interface: "cni0".into(), ..packet.clone() };
        let found = [&packet, &datagram, &by_bridge].map(|packet| node.outcome(HookPoint::Forward, packet));
        assert_eq!(found, [tcp, udp, of_service], "{deny:?}");
    }
}

#[test]
fn connections_that_lost_what_allowed_them_end_unless_they_are_kept() {
    for (on_revoke, passes) in [(OnRevoke::Cut, false), (OnRevoke::Keep, true)] {
        let node = Node::new(Options { on_revoke, ..options() }, []);
        let packet = segment(outside(), address(10), 80);
        let marked = options().mark;
        let cut = iptables::Packet { connection_mark: marked, state: State::Established, ..packet };
        for point in [HookPoint::Forward, HookPoint::Output] {
            assert_eq!(node.outcome(point, &cut) == Outcome::Accepted, passes, "{on_revoke:?}");
        }
        assert_eq!(node.has("REVOKED"), !passes);
    }
}

#[test]
fn each_way_to_bind_addresses_has_the_chains_that_it_needs() {
    let always = ["DENIED-EGRESS", "DENIED-INGRESS", "EXCUSED", "FORWARD-EGRESS", "FORWARD-INGRESS"];
    let always = always.into_iter().chain(["OUTPUT-EGRESS", "OUTPUT-INGRESS", "REVOKED", "TO-ITSELF"]);
    let always: BTreeSet<&str> = always.collect();
    for (binding, more, to_nowhere, from_nowhere, has_ports) in [
        (Binding::Off, None, true, true, false),
        (Binding::Addresses, Some("UNASSIGNED"), false, false, false),
        (Binding::Ports, Some("UNASSIGNED"), false, true, true),
    ] {
        let node = Node::new(Options { binding, ..options() }, [pod("a", "web", 10), pod("b", "web", 11)]);
        let chains: BTreeSet<&str> = node.table().chains.keys().map(|name| &**name).collect();
        assert_eq!(chains, always.iter().copied().chain(more).collect(), "{binding:?}");
        assert_eq!(node.has("LOCAL-4"), more.is_some(), "{binding:?}");
        assert!(node.passes(outside(), address(10), 80), "{binding:?}");
        assert_eq!(node.passes(outside(), address(12), 80), to_nowhere, "{binding:?}");
        let bridged = |source, destination| {
            let packet = segment(source, destination, 80);
            let packet = iptables::Packet { bridged: true, in_interface: "cni0".into(), ..packet };
            let mark = if has_ports { options().mark } else { 0 };
            let packet = Packet { mark, ..Packet::from(&packet) };
            trace_packet(node.table(), HookPoint::Forward, &packet).is_accepted()
        };
        assert!(bridged(address(10), address(11)), "{binding:?}");
        assert_eq!(bridged(address(12), address(11)), from_nowhere, "{binding:?}");
        let ports = node.kernel.table_of_nft(TableFamily::Bridge, BRIDGE_TABLE);
        assert_eq!(ports.is_some(), has_ports, "{binding:?}");
    }
}
