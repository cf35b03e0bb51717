//! Connections that are asked about, and their packets.

use crate::model::Direction;
use crate::net::{Family, Flow, Protocol};
use crate::netfilter::iptables::{Packet, Payload, State};
use crate::netfilter::nftables::HookPoint;
use std::net::IpAddr;

/// A connection of which the kernel and the policies decide.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) port: Option<(Protocol, u16)>,
    pub(super) way: Way,
}

/// How a packet comes to a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// From one port of the bridge to another.
    Bridged,
    /// From a port of the bridge to another, routed between them, as what was sent to a Service is.
    RoutedBack,
    /// From a port of the bridge to another network.
    Out,
    /// From another network to a port of the bridge.
    In,
    /// From this node itself to a port of the bridge, with an address that is not the node's.
    Relayed,
    /// From this node itself, with an address of its own, to a port of the bridge.
    FromNode,
    /// From a port of the bridge to this node itself.
    ToNode,
}

impl Way {
    /// In words.
    pub(super) fn words(self) -> &'static str {
        match self {
            Way::Bridged => "bridged from one port to another",
            Way::RoutedBack => "sent to a Service and routed back to the bridge",
            Way::Out => "routed from the bridge to another network",
            Way::In => "routed from another network to the bridge",
            Way::Relayed => "sent on by the node to the bridge",
            Way::FromNode => "sent by the node to the bridge",
            Way::ToNode => "from the bridge to the node",
        }
    }

    /// The hook that it meets.
    pub(super) fn point(self) -> HookPoint {
        match self {
            Way::Bridged | Way::RoutedBack | Way::Out | Way::In => HookPoint::Forward,
            Way::Relayed | Way::FromNode => HookPoint::Output,
            Way::ToNode => HookPoint::Input,
        }
    }
}

impl Question {
    /// Its ends and its port.
    pub(super) fn flow(&self) -> Flow {
        Flow { source: self.source, destination: self.destination, port: self.port }
    }

    /// Its first packet, on a node with this bridge.
    pub(super) fn packet(&self, bridge: &str) -> Packet {
        let Question { source, destination, port, way } = *self;
        let bridge: Box<str> = bridge.into();
        let (from, to): (Box<str>, Box<str>) = match way {
            Way::Bridged | Way::RoutedBack => (bridge.clone(), bridge),
            Way::Out => (bridge, "eth0".into()),
            Way::In => ("eth0".into(), bridge),
            Way::Relayed | Way::FromNode => ("".into(), bridge),
            Way::ToNode => (bridge, "".into()),
        };
        let payload = match (port, Family::of(destination)) {
            (Some((protocol, port)), _) => Payload::Transport { protocol, port },
            (None, Family::V4) => Payload::Other(1),
            (None, Family::V6) => Payload::Icmpv6(128),
        };
        Packet {
            source,
            destination,
            payload,
            state: State::New,
            translated: way == Way::RoutedBack,
            connection_mark: 0,
            bridged: way == Way::Bridged,
            in_interface: from,
            out_interface: to,
            source_is_local: way == Way::FromNode,
        }
    }
}

/// How a packet between a pod of this node and a peer comes.
pub(super) fn ways(direction: Direction, peer_is_local: bool) -> &'static [Way] {
    match (direction, peer_is_local) {
        (_, true) => &[Way::Bridged, Way::RoutedBack],
        (Direction::Egress, false) => &[Way::Out],
        (Direction::Ingress, false) => &[Way::In],
    }
}
