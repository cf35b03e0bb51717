//! The cluster of all scenarios and random worlds: two nodes, their pod ranges, and hosts outside.
//!
//! Pods of one node are attached to one bridge; everything else is routed. The addresses are fixed, so that a judge
//! with a real kernel can build the same cluster in network namespaces.

use bridgewarden::net::Family;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A node of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name, as in `spec.nodeName`.
    pub name: &'static str,
    /// Its number, 1 or 2, which its addresses contain.
    pub number: u8,
}

/// The nodes.
pub const NODES: [Node; 2] = [Node { name: "node-a", number: 1 }, Node { name: "node-b", number: 2 }];

impl Node {
    /// The node with this name.
    pub fn named(name: &str) -> Option<Node> {
        NODES.into_iter().find(|node| node.name == name)
    }

    /// The node's own address between the nodes: 192.168.100.1, fd00:192:168:100::1. Host-network pods have it too.
    pub fn address(self, family: Family) -> IpAddr {
        match family {
            Family::V4 => Ipv4Addr::new(192, 168, 100, self.number).into(),
            Family::V6 => Ipv6Addr::new(0xfd00, 0x192, 0x168, 0x100, 0, 0, 0, self.number.into()).into(),
        }
    }

    /// The address that ends in `host` of the node's pod range: 10.244.1.0/24, fd00:10:244:1::/64.
    pub fn pod_address(self, family: Family, host: u8) -> IpAddr {
        match family {
            Family::V4 => Ipv4Addr::new(10, 244, self.number, host).into(),
            Family::V6 => {
                Ipv6Addr::new(0xfd00, 0x10, 0x244, self.number.into(), 0, 0, 0, as_written(host)).into()
            }
        }
    }
}

/// A host that is neither pod nor node: 203.0.113.10, 2001:db8:ffff::10.
pub fn outside(family: Family) -> IpAddr {
    outside_host(family, 10)
}

/// Another host of the same two networks, 203.0.113.0/24 and 2001:db8:ffff::/64.
pub fn outside_host(family: Family, host: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(203, 0, 113, host).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, as_written(host)).into(),
    }
}

/// The TCP and UDP ports on which the outside host listens.
pub const OUTSIDE_PORTS: [u16; 3] = [80, 443, 5353];

/// The 16 bits of an IPv6 address whose hexadecimal digits look like this decimal number, so that `.10` and `::10` are
/// one host.
fn as_written(host: u8) -> u16 {
    let host = u16::from(host);
    (host / 100) << 8 | (host / 10 % 10) << 4 | (host % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_show_the_same_digits() {
        let [_, node] = NODES;
        assert_eq!(node.pod_address(Family::V4, 117).to_string(), "10.244.2.117");
        assert_eq!(node.pod_address(Family::V6, 117).to_string(), "fd00:10:244:2::117");
        assert_eq!(node.address(Family::V6).to_string(), "fd00:192:168:100::2");
        assert_eq!(outside(Family::V6).to_string(), "2001:db8:ffff::10");
    }
}
