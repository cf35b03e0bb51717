//! The bridge to which this node's pods are attached, and its ports.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;

/// An Ethernet address.
pub type Hardware = [u8; 6];

/// A port of the bridge: for a pod, the host side of its veth pair.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BridgePort {
    /// The kernel's index of the device (ifindex). It does not change during the device's life, and meanwhile no other
    /// device of this network namespace has it.
    pub index: u32,
    /// The device's name. It may change.
    pub name: Box<str>,
    /// Whether it is one end of a veth pair (IFLA_INFO_KIND). Other ports lead to networks and not to pods.
    pub is_veth: bool,
}

/// One fact about the bridge.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LinkChange {
    /// The current state of the node's own interface on the bridge.
    Bridge(Bridge),
    /// The current state of a port.
    Port(BridgePort),
    /// A port was removed; its index.
    PortGone(u32),
}

/// The node's own interface on the bridge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bridge {
    /// The bridge's own Ethernet address; `None` while there is no bridge.
    pub hardware: Option<Hardware>,
    /// Its link-local addresses, in order.
    pub link_local: Vec<Ipv6Addr>,
    /// What reaches the node's tunnels.
    pub tunnels: TunnelInputs,
}

/// The packets that a host with tunnels unpacks from any sender.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TunnelInputs {
    /// Destination ports of UDP.
    pub udp_ports: BTreeSet<u16>,
    /// Protocols of IPv4 and IPv6 (IPPROTO_*).
    pub protocols: BTreeSet<u8>,
}

impl TunnelInputs {
    /// Adds those of another tunnel.
    pub fn join(&mut self, other: &TunnelInputs) {
        self.udp_ports.extend(&other.udp_ports);
        self.protocols.extend(&other.protocols);
    }
}
