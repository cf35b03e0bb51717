//! The bridge that this node's pods sit on, and its ports.

use std::net::Ipv6Addr;

/// An Ethernet address.
pub type Hardware = [u8; 6];

/// A port of the bridge: for a pod, the host side of its veth pair.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BridgePort {
    /// The kernel's number of the device (ifindex). It stays for the device's life, and no other device of this network
    /// namespace has it meanwhile.
    pub index: u32,
    /// The device's name. It may change.
    pub name: Box<str>,
    /// Whether it is one end of a veth pair (IFLA_INFO_KIND). Other ports lead to networks and not to pods.
    pub is_veth: bool,
}

/// One fact about the bridge.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LinkChange {
    /// The node itself is like this on the bridge.
    Bridge(Bridge),
    /// A port is there, like this.
    Port(BridgePort),
    /// A port is gone, by its index.
    PortGone(u32),
}

/// What the node itself is on the bridge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bridge {
    /// The bridge's own Ethernet address; `None` while there is no bridge.
    pub hardware: Option<Hardware>,
    /// Its link-local addresses, in order.
    pub link_local: Vec<Ipv6Addr>,
}
