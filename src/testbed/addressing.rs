//! The addresses of a testbed and their owners: node pod CIDRs inferred from the pods, transfer networks, and the rules
//! that both must keep.

use super::{Endpoint, OUTSIDE, PodPlacement, TestbedError};
use crate::model::PodKey;
use crate::net::{Family, IpNet};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The maximum number of nodes, limited by the transfer networks.
const MOST_NODES: usize = 254;

/// The length of a node's pod CIDR.
fn pod_cidr_bits(family: Family) -> u8 {
    match family {
        Family::V4 => 24,
        Family::V6 => 64,
    }
}

/// The prefix of `bits` bits around an address, host bits cleared.
fn prefix(address: IpAddr, bits: u8) -> IpNet {
    IpNet::new(address, bits).expect("the lengths used here fit their family").trunc()
}

/// The first address of a pod CIDR, which the node's bridge has.
pub(super) fn gateway(cidr: IpNet) -> IpAddr {
    match cidr.network() {
        IpAddr::V4(network) => IpAddr::V4(Ipv4Addr::from_bits(network.to_bits() | 1)),
        IpAddr::V6(network) => IpAddr::V6(Ipv6Addr::from_bits(network.to_bits() | 1)),
    }
}

/// One end of the link between the router and something attached to it: an address and its prefix length.
pub(super) fn router_end(peer: IpNet) -> IpNet {
    IpNet::new(gateway(peer), peer.prefix_len()).expect("a length already in use fits")
}

/// The outside host's addresses with the length of its network.
pub(super) fn outside_nets() -> Vec<IpNet> {
    OUTSIDE
        .into_iter()
        .map(|address| IpNet::new(address, pod_cidr_bits(Family::of(address))).expect("24 and 64 fit"))
        .collect()
}

/// A node's addresses.
#[derive(Clone, Debug)]
pub(super) struct NodeNets {
    /// Its place among the nodes, from 1.
    pub(super) number: u8,
    /// Its pods' block of each family that they have.
    pub(super) cidrs: BTreeMap<Family, IpNet>,
    /// The addresses that its host-network pods added to it.
    pub(super) host: BTreeSet<IpAddr>,
    /// Its host-network pods, which answer on all its addresses.
    host_pods: BTreeSet<PodKey>,
}

impl NodeNets {
    /// Its own address on the link to the router, with the link's prefix length.
    pub(super) fn uplink(&self, family: Family) -> IpNet {
        let address = match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::new(172, 31, self.number, 2)),
            Family::V6 => IpAddr::V6(Ipv6Addr::new(0xfd00, 0x172, 0x31, self.number.into(), 0, 0, 0, 2)),
        };
        IpNet::new(address, pod_cidr_bits(family)).expect("24 and 64 fit")
    }

    /// Every address it answers to.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        let uplinks = Family::BOTH.into_iter().map(|family| self.uplink(family).addr());
        uplinks.chain(self.cidrs.values().copied().map(gateway)).chain(self.host.iter().copied()).collect()
    }
}

/// The addresses that a pod adds to its node.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct NodeAdditions {
    /// Pod CIDRs.
    pub(super) cidrs: Vec<IpNet>,
    /// Addresses of the node's own.
    pub(super) host: Vec<IpAddr>,
}

/// Every address of a testbed and its owner.
#[derive(Clone, Debug)]
pub(super) struct Addressing {
    nodes: BTreeMap<String, NodeNets>,
    owners: BTreeMap<IpAddr, Endpoint>,
}

impl Addressing {
    /// The addresses of nodes without pods, and of the outside.
    pub(super) fn new(names: &[String]) -> Result<Addressing, TestbedError> {
        if names.len() > MOST_NODES {
            return Err(TestbedError::Layout {
                object: format!("{} nodes", names.len()),
                problem: format!("a testbed has room for {MOST_NODES}"),
                cure: "Use fewer nodes",
            });
        }
        let mut owners: BTreeMap<IpAddr, Endpoint> =
            OUTSIDE.into_iter().map(|address| (address, Endpoint::Outside)).collect();
        let mut nodes = BTreeMap::new();
        for (name, number) in names.iter().zip(1..) {
            let nets = NodeNets {
                number,
                cidrs: BTreeMap::new(),
                host: BTreeSet::new(),
                host_pods: BTreeSet::new(),
            };
            owners
                .extend(nets.addresses().into_iter().map(|address| (address, Endpoint::Node(name.clone()))));
            if nodes.insert(name.clone(), nets).is_some() {
                return Err(TestbedError::Layout {
                    object: format!("node {name}"),
                    problem: "it is listed twice".to_owned(),
                    cure: "List each node once",
                });
            }
        }
        Ok(Addressing { nodes, owners })
    }

    /// The addresses of a node.
    pub(super) fn node(&self, name: &str) -> Option<&NodeNets> {
        self.nodes.get(name)
    }

    /// The endpoints that may answer on an address; none for an address outside the testbed.
    pub(super) fn answerers(&self, address: IpAddr) -> BTreeSet<Endpoint> {
        let Some(owner) = self.owners.get(&address) else { return BTreeSet::new() };
        let mut answerers = BTreeSet::from([owner.clone()]);
        if let Endpoint::Node(node) = owner
            && let Some(nets) = self.nodes.get(node)
        {
            answerers.extend(nets.host_pods.iter().cloned().map(Endpoint::Pod));
        }
        answerers
    }

    /// Assigns all of a pod's addresses, or none.
    pub(super) fn admit(&mut self, place: &PodPlacement) -> Result<NodeAdditions, TestbedError> {
        let mut after = self.clone();
        let mut additions = NodeAdditions::default();
        for &address in &place.addresses {
            if place.host_network {
                additions.host.extend(after.admit_host(place, address)?);
            } else {
                additions.cidrs.extend(after.admit_pod(place, address)?);
            }
        }
        let node = after.node_of(place)?;
        if place.host_network {
            node.host_pods.insert(place.pod.clone());
        }
        *self = after;
        Ok(additions)
    }

    /// Releases a pod's addresses. Its node keeps the CIDRs and host addresses that the pod added.
    pub(super) fn dismiss(&mut self, pod: &PodKey) {
        let gone = Endpoint::Pod(pod.clone());
        self.owners.retain(|_, owner| *owner != gone);
        for nets in self.nodes.values_mut() {
            nets.host_pods.remove(pod);
        }
    }

    fn node_of(&mut self, place: &PodPlacement) -> Result<&mut NodeNets, TestbedError> {
        self.nodes.get_mut(&place.node).ok_or_else(|| TestbedError::Layout {
            object: format!("pod {}", place.pod),
            problem: format!("its node {:?} is not one of the layout", place.node),
            cure: "List the node, or set spec.nodeName to one that is listed",
        })
    }

    fn admit_host(&mut self, place: &PodPlacement, address: IpAddr) -> Result<Option<IpAddr>, TestbedError> {
        let node = Endpoint::Node(place.node.clone());
        match self.owners.get(&address) {
            Some(owner) if *owner == node => return Ok(None),
            Some(owner) => return Err(taken(place, address, owner)),
            None => refuse_reserved(place, address)?,
        }
        let among_pods = |nets: &NodeNets| nets.cidrs.values().any(|cidr| cidr.contains(&address));
        if let Some((name, _)) = self.nodes.iter().find(|(_, nets)| among_pods(nets)) {
            return Err(layout(
                place,
                format!("its host address {address} lies among the pods of node {name}"),
                "Give a host-network pod its node's own address",
            ));
        }
        self.node_of(place)?.host.insert(address);
        self.owners.insert(address, node);
        Ok(Some(address))
    }

    fn admit_pod(&mut self, place: &PodPlacement, address: IpAddr) -> Result<Option<IpNet>, TestbedError> {
        if let Some(owner) = self.owners.get(&address) {
            return Err(taken(place, address, owner));
        }
        refuse_reserved(place, address)?;
        let family = Family::of(address);
        let cidr = prefix(address, pod_cidr_bits(family));
        if [cidr.network(), gateway(cidr)].contains(&address)
            || (family == Family::V4 && cidr.broadcast() == address)
        {
            return Err(layout(
                place,
                format!("{address} is the network, gateway or broadcast address of {cidr}"),
                "Give it another address of the block",
            ));
        }
        let known = self.node_of(place)?.cidrs.get(&family).copied();
        if let Some(known) = known {
            if known != cidr {
                return Err(layout(
                    place,
                    format!(
                        "{address} lies outside {known}, where the other pods of node {} are",
                        place.node
                    ),
                    "Give all pods of a node addresses of one /24 (IPv4) and one /64 (IPv6), or move it to another node",
                ));
            }
        } else {
            let clash = self.nodes.iter().find(|(_, nets)| {
                nets.cidrs.values().any(|other| *other == cidr)
                    || nets.host.iter().any(|host| cidr.contains(host))
            });
            if let Some((other, _)) = clash {
                return Err(layout(
                    place,
                    format!(
                        "{cidr}, which {address} makes the block of node {}, is in use by node {other}",
                        place.node
                    ),
                    "Give the pods of each node a /24 (IPv4) and a /64 (IPv6) of their own",
                ));
            }
            let node = Endpoint::Node(place.node.clone());
            self.node_of(place)?.cidrs.insert(family, cidr);
            self.owners.insert(gateway(cidr), node);
        }
        self.owners.insert(address, Endpoint::Pod(place.pod.clone()));
        Ok(known.is_none().then_some(cidr))
    }
}

fn layout(place: &PodPlacement, problem: String, cure: &'static str) -> TestbedError {
    TestbedError::Layout { object: format!("pod {}", place.pod), problem, cure }
}

fn taken(place: &PodPlacement, address: IpAddr, owner: &Endpoint) -> TestbedError {
    layout(place, format!("{address} belongs to {owner} already"), "Give each pod an address of its own")
}

/// Rejects addresses of the testbed's own networks, and those no pod can have.
fn refuse_reserved(place: &PodPlacement, address: IpAddr) -> Result<(), TestbedError> {
    let own = [
        prefix(IpAddr::V4(Ipv4Addr::new(172, 31, 0, 0)), 16),
        prefix(IpAddr::V6(Ipv6Addr::new(0xfd00, 0x172, 0x31, 0, 0, 0, 0, 0)), 48),
    ];
    if let Some(net) = own.into_iter().chain(outside_nets()).find(|net| net.contains(&address)) {
        return Err(layout(
            place,
            format!("{address} lies in {}, which the testbed needs for itself", net.trunc()),
            "Give it an address outside that block",
        ));
    }
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    if link_local || address.is_loopback() || address.is_multicast() || address.is_unspecified() {
        return Err(layout(
            place,
            format!("{address} is not an address a pod can be reached at"),
            "Give it a unicast address",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str, node: &str, addresses: &[&str]) -> PodPlacement {
        PodPlacement {
            pod: PodKey::new("shop", name),
            node: node.to_owned(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            listens: Vec::new(),
            host_network: false,
        }
    }

    fn addressing() -> Addressing {
        Addressing::new(&["a".to_owned(), "b".to_owned()]).unwrap()
    }

    #[test]
    fn first_pod_of_a_family_sets_the_block_of_its_node() {
        let mut addressing = addressing();
        let first = addressing.admit(&place("web", "a", &["10.244.1.10", "fd00:10:244:1::a"])).unwrap();
        let blocks = ["10.244.1.0/24", "fd00:10:244:1::/64"].map(|cidr| cidr.parse().unwrap());
        assert_eq!(first.cidrs, blocks);
        let second = addressing.admit(&place("db", "a", &["10.244.1.11"])).unwrap();
        assert_eq!(second, NodeAdditions::default());
        assert!(addressing.node("b").unwrap().cidrs.is_empty());
    }

    #[test]
    fn pod_outside_the_block_of_its_node_is_refused_by_name() {
        let mut addressing = addressing();
        addressing.admit(&place("web", "a", &["10.244.1.10"])).unwrap();
        let error = addressing.admit(&place("db", "a", &["10.244.2.10"])).unwrap_err().to_string();
        assert!(error.contains("pod shop/db") && error.contains("10.244.1.0/24"), "{error}");
    }

    #[test]
    fn two_nodes_cannot_share_a_block() {
        let mut addressing = addressing();
        addressing.admit(&place("web", "a", &["10.244.1.10"])).unwrap();
        let error = addressing.admit(&place("db", "b", &["10.244.1.11"])).unwrap_err().to_string();
        assert!(error.contains("in use by node a"), "{error}");
    }

    #[test]
    fn refused_pod_leaves_nothing_behind() {
        let mut addressing = addressing();
        addressing.admit(&place("web", "a", &["10.244.1.10"])).unwrap();
        addressing.admit(&place("db", "b", &["10.244.2.10", "10.244.1.10"])).unwrap_err();
        assert!(addressing.node("b").unwrap().cidrs.is_empty());
        assert!(addressing.answerers("10.244.2.10".parse().unwrap()).is_empty());
    }

    #[test]
    fn addresses_that_cannot_be_a_pods_are_refused() {
        for address in
            ["10.244.1.0", "10.244.1.1", "10.244.1.255", "172.31.9.9", "203.0.113.10", "127.0.0.1", "fe80::1"]
        {
            assert!(addressing().admit(&place("web", "a", &[address])).is_err(), "{address}");
        }
    }

    #[test]
    fn host_network_pods_of_a_node_share_its_addresses() {
        let mut addressing = addressing();
        let [mut first, mut second] = ["one", "two"]
            .map(|name| PodPlacement { host_network: true, ..place(name, "a", &["192.0.2.7"]) });
        assert_eq!(addressing.admit(&first).unwrap().host.len(), 1);
        assert!(addressing.admit(&second).unwrap().host.is_empty());
        for own in ["192.0.2.7", "172.31.1.2"] {
            assert_eq!(addressing.answerers(own.parse().unwrap()).len(), 3);
        }
        first.node = "b".to_owned();
        second.addresses = vec!["172.31.1.2".parse().unwrap()];
        assert!(addressing.admit(&first).is_err());
        assert!(addressing.admit(&second).unwrap().host.is_empty());
    }

    #[test]
    fn address_of_a_removed_pod_is_free_again() {
        let mut addressing = addressing();
        addressing.admit(&place("web", "a", &["10.244.1.10"])).unwrap();
        assert!(addressing.admit(&place("api", "a", &["10.244.1.10"])).is_err());
        addressing.dismiss(&PodKey::new("shop", "web"));
        addressing.admit(&place("api", "a", &["10.244.1.10"])).unwrap();
    }
}
