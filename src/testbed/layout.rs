//! What a testbed contains, and the endpoints that can send or answer in it.

use crate::model::PodKey;
use crate::net::Protocol;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A port to listen on.
pub type Port = (Protocol, u16);

/// The addresses of the host outside the cluster, two of each family.
///
/// The first of a family is the one it sends from (RFC 5737 and RFC 3849 documentation blocks).
pub const OUTSIDE: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10)),
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 77)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0x10)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0x77)),
];

/// What a testbed contains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The nodes' names, each once.
    pub nodes: Vec<String>,
    /// The pods.
    pub pods: Vec<PodPlacement>,
    /// The ports that every node listens on.
    pub node_listens: Vec<Port>,
    /// The ports that the host outside listens on.
    pub outside_listens: Vec<Port>,
}

impl Layout {
    /// A layout in which the nodes listen on nothing, and the outside on 80, 443 and 5353, TCP and UDP.
    pub fn new(nodes: Vec<String>, pods: Vec<PodPlacement>) -> Layout {
        let outside_listens = [80, 443, 5353]
            .into_iter()
            .flat_map(|port| [(Protocol::Tcp, port), (Protocol::Udp, port)])
            .collect();
        Layout { nodes, pods, node_listens: Vec::new(), outside_listens }
    }
}

/// A pod, where it runs, and what it listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPlacement {
    /// Its identity.
    pub pod: PodKey,
    /// Its node (spec.nodeName).
    pub node: String,
    /// Its addresses (status.podIPs), any number of each family. A node's pods share one /24 and one /64.
    /// Those of a host-network pod become addresses of its node.
    pub addresses: Vec<IpAddr>,
    /// The ports it listens on, on all its addresses. SCTP ports are accepted and not served.
    pub listens: Vec<Port>,
    /// Whether it shares its node's network (spec.hostNetwork).
    pub host_network: bool,
}

/// A sender or receiver.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    /// A pod.
    Pod(PodKey),
    /// A node itself, by name.
    Node(String),
    /// The host outside the cluster.
    Outside,
}

impl Endpoint {
    /// A pod, by its namespace and name.
    pub fn pod(namespace: &str, name: &str) -> Endpoint {
        Endpoint::Pod(PodKey::new(namespace, name))
    }

    /// A node, by its name.
    pub fn node(name: &str) -> Endpoint {
        Endpoint::Node(name.to_owned())
    }
}

impl fmt::Display for Endpoint {
    /// `pod shop/web`, `node a`, `outside`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Pod(pod) => write!(f, "pod {pod}"),
            Endpoint::Node(node) => write!(f, "node {node}"),
            Endpoint::Outside => f.write_str("outside"),
        }
    }
}
