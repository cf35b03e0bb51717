//! The hosts: pods of every kind of isolation on two nodes, the nodes and the outside, each with a packet socket that
//! receives and sends whole frames.

use bridgewarden::model::PodKey;
use bridgewarden::net::Family;
use bridgewarden::testbed::{Endpoint, Netns, Testbed};
use pnet_datalink::{Channel, Config, DataLinkReceiver, DataLinkSender, channel, interfaces};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use support::frame::Mac;

/// Pods, their nodes, and the number that their addresses end in.
pub(crate) const PODS: [(&str, &str, u8); 13] = [
    ("in", "node-a", 10),
    ("out", "node-a", 11),
    ("shut", "node-a", 12),
    ("mallory", "node-a", 13),
    ("free", "node-a", 14),
    ("friend", "node-a", 15),
    ("target", "node-a", 16),
    ("exempt", "node-a", 17),
    ("far-in", "node-b", 20),
    ("far-out", "node-b", 21),
    ("far-free", "node-b", 22),
    ("far-friend", "node-b", 23),
    ("far-target", "node-b", 24),
];

/// The namespace of a pod.
pub(crate) fn namespace_of(pod: &str) -> &'static str {
    if pod == "exempt" { "virtual" } else { "shop" }
}

/// A packet socket on an interface.
pub(crate) struct PacketSocket {
    sender: Box<dyn DataLinkSender>,
    receiver: Box<dyn DataLinkReceiver>,
}

impl PacketSocket {
    pub(crate) fn send(&mut self, frame: &[u8]) {
        let sent = self.sender.send_to(frame, None).expect("the interface takes frames");
        sent.unwrap_or_else(|error| panic!("cannot send a frame of {} bytes: {error}", frame.len()));
    }

    /// The next frame, if there is one within a millisecond.
    pub(crate) fn next(&mut self) -> Option<&[u8]> {
        match self.receiver.next() {
            Ok(frame) => Some(frame),
            Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::Interrupted) => None,
            // The interface went down; the socket works again once it is up.
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ENETDOWN as i32) => None,
            Err(error) => panic!("cannot read frames: {error}"),
        }
    }
}

/// A pod, a node or the outside, with a packet socket on its interface.
pub(crate) struct FrameHost {
    pub(crate) name: &'static str,
    pub(crate) node: &'static str,
    pub(crate) namespace: Netns,
    pub(crate) mac: Mac,
    pub(crate) v4: Ipv4Addr,
    pub(crate) v6: Ipv6Addr,
    pub(crate) link_local: Ipv6Addr,
    pub(crate) socket: PacketSocket,
}

impl FrameHost {
    pub(crate) fn open(
        name: &'static str,
        node: &'static str,
        namespace: &Netns,
        device: &str,
        addresses: [IpAddr; 2],
    ) -> FrameHost {
        let opened = namespace.enter(|| {
            let interface = interfaces().into_iter().find(|interface| interface.name == device);
            let interface = interface.unwrap_or_else(|| panic!("{name} has no {device}"));
            let config = Config {
                promiscuous: false,
                read_timeout: Some(Duration::from_millis(1)),
                read_buffer_size: 1 << 16,
                ..Config::default()
            };
            let Channel::Ethernet(sender, receiver) = channel(&interface, config).expect("a packet socket")
            else {
                panic!("{device} is no Ethernet interface")
            };
            (interface, PacketSocket { sender, receiver })
        });
        let (interface, socket) = opened.expect("the namespace is entered");
        let link_local = interface.ips.iter().find_map(|net| match net.ip() {
            IpAddr::V6(address) if address.is_unicast_link_local() => Some(address),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        });
        let [IpAddr::V4(v4), IpAddr::V6(v6)] = addresses else {
            panic!("{name} has one address of a family")
        };
        FrameHost {
            name,
            node,
            namespace: namespace.clone(),
            mac: interface.mac.expect("an Ethernet address").octets(),
            v4,
            v6,
            link_local: link_local.expect("a link-local address"),
            socket,
        }
    }

    pub(crate) fn address(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.v4.into(),
            Family::V6 => self.v6.into(),
        }
    }
}

/// All hosts.
pub(crate) struct Hosts {
    hosts: Vec<FrameHost>,
}

impl Hosts {
    pub(crate) fn of(testbed: &Testbed) -> Hosts {
        let mut hosts = Vec::new();
        for (name, node, number) in PODS {
            let key = PodKey::new(namespace_of(name), name);
            let namespace = testbed.pod_namespace(&key).expect("a pod");
            let addresses = Family::BOTH.map(|family| node_of(node).pod_address(family, number));
            hosts.push(FrameHost::open(name, node, namespace, "eth0", addresses));
        }
        for node in ["node-a", "node-b"] {
            let namespace = testbed.node_namespace(node).expect("a node");
            let addresses = Family::BOTH.map(|family| node_of(node).pod_address(family, 1));
            hosts.push(FrameHost::open(node, node, namespace, "cni0", addresses));
        }
        let outside = testbed.namespace(&Endpoint::Outside).expect("an outside");
        let addresses = Family::BOTH.map(support::topology::outside);
        hosts.push(FrameHost::open("outside", "", outside, "eth0", addresses));
        Hosts { hosts }
    }

    pub(crate) fn get(&self, name: &str) -> &FrameHost {
        self.hosts.iter().find(|host| host.name == name).unwrap_or_else(|| panic!("no host is called {name}"))
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> &mut FrameHost {
        let found = self.hosts.iter_mut().find(|host| host.name == name);
        found.unwrap_or_else(|| panic!("no host is called {name}"))
    }

    /// The pods on a node's bridge, and the node itself.
    pub(crate) fn on<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a FrameHost> {
        self.hosts.iter().filter(move |host| host.node == node)
    }

    pub(crate) fn join(&mut self, host: FrameHost) {
        self.hosts.push(host);
    }

    pub(crate) fn leave(&mut self, name: &str) {
        self.hosts.retain(|host| host.name != name);
    }

    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.hosts.iter().map(|host| host.name).collect()
    }
}

fn node_of(name: &str) -> support::topology::Node {
    support::topology::Node::named(name).expect("a node")
}
