//! How the namespaces are linked: a router, nodes with a bridge each, pods on the bridges, and the outside.

use super::addressing::{NodeAdditions, NodeNets, gateway, outside_nets, router_end};
use super::links::{LinkSpec, NetnsLinks, WaitFor};
use super::names::fingerprint;
use super::netns::Sysctl;
use super::{Netns, PodPlacement, TestbedError};
use crate::net::{Family, IpNet, host};
use sha2::{Digest, Sha256};
use std::net::{IpAddr, Ipv6Addr};

/// The index of cni0 in a node and of eth0 in everything else but a node.
const FIRST: u32 = 100;
/// The index of eth0 in a node.
const UPLINK: u32 = 101;
/// The index of a node's first pod link. Indices are assigned by the testbed, high enough not to collide with devices
/// that the kernel creates.
pub(super) const FIRST_POD_LINK: u32 = 200;

/// Settings of every namespace.
///
/// IPv6 addresses are used without duplicate address detection, and link-local ones are assigned like all others, so
/// that they can be waited for. Reverse path filtering is off, so that only the packet filter decides. ICMP errors are
/// not rate-limited, so that every denial is seen.
const EVERYWHERE: [Sysctl; 9] = [
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/default/addr_gen_mode", "1"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv4/icmp_ratelimit", "0"),
    ("ipv4/icmp_ratemask", "0"),
    ("ipv6/icmp/ratelimit", "0"),
    // The mask is a list of ICMP types; 255 is not the type of any error.
    ("ipv6/icmp/ratemask", "255"),
];
/// The link-local address of the router, of each bridge and of what is attached to the router.
const GATEWAY_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const ATTACHED_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);

const FORWARDING: [Sysctl; 2] = [("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")];
const BRIDGED_TRAFFIC_IS_FILTERED: [Sysctl; 2] =
    [("bridge/bridge-nf-call-iptables", "1"), ("bridge/bridge-nf-call-ip6tables", "1")];

/// The settings of the router.
pub(super) fn router_sysctls() -> Vec<Sysctl> {
    [EVERYWHERE.as_slice(), &FORWARDING].concat()
}

/// The settings of a node.
pub(super) fn node_sysctls() -> Vec<Sysctl> {
    [EVERYWHERE.as_slice(), &FORWARDING, &BRIDGED_TRAFFIC_IS_FILTERED].concat()
}

/// The settings of a pod and of the outside.
pub(super) fn host_sysctls() -> Vec<Sysctl> {
    EVERYWHERE.to_vec()
}

/// A namespace with an open connection into it.
#[derive(Clone, Debug)]
pub(super) struct NetnsHandle {
    /// The namespace.
    pub(super) namespace: Netns,
    /// The connection.
    pub(super) links: NetnsLinks,
}

impl NetnsHandle {
    /// Makes a namespace with its loopback device up. Must run on the testbed's thread.
    pub(super) async fn create(name: &str, sysctls: &[Sysctl]) -> Result<NetnsHandle, TestbedError> {
        let namespace = Netns::create(name, sysctls)?;
        match NetnsHandle::open(&namespace).await {
            Ok(links) => Ok(NetnsHandle { namespace, links }),
            Err(error) => {
                namespace.remove()?;
                Err(error)
            }
        }
    }

    async fn open(namespace: &Netns) -> Result<NetnsLinks, TestbedError> {
        let links = NetnsLinks::open(namespace)?;
        links.loopback().await?;
        Ok(links)
    }
}

/// Joins the outside to the router.
pub(super) async fn attach_outside(router: &NetnsHandle, outside: &NetnsHandle) -> Result<(), TestbedError> {
    let (near, far) = (link_spec("outside", FIRST), link_spec("eth0", FIRST));
    join(router, &near, outside, &far).await?;
    for net in outside_nets() {
        outside.links.address(FIRST, net).await?;
    }
    // A default route can only use a source address that is ready.
    outside.links.wait(WaitFor::Addresses).await?;
    for family in Family::BOTH {
        let Some(net) = outside_nets().into_iter().find(|net| Family::of_net(*net) == family) else {
            continue;
        };
        let via = router_end(net);
        router.links.address(FIRST, via).await?;
        outside.links.default_route(via.addr(), Some(net.addr())).await?;
    }
    router.links.wait(WaitFor::Addresses).await
}

/// Links a namespace to the router, and waits until the link works.
async fn join(
    router: &NetnsHandle,
    near: &LinkSpec,
    other: &NetnsHandle,
    far: &LinkSpec,
) -> Result<(), TestbedError> {
    router.links.veth(near, far, &other.namespace).await?;
    other.links.up(far.index).await?;
    for (handle, end, address) in [(router, near, GATEWAY_LINK_LOCAL), (other, far, ATTACHED_LINK_LOCAL)] {
        handle.links.wait(WaitFor::Link(end.index)).await?;
        handle.links.address(end.index, link_local(address)).await?;
    }
    Ok(())
}

/// Joins a node to the router and gives it a bridge.
pub(super) async fn attach_node(
    router: &NetnsHandle,
    node: &NetnsHandle,
    nets: &NodeNets,
) -> Result<(), TestbedError> {
    let link = FIRST + u32::from(nets.number);
    let (near, far) = (link_spec(&format!("node{}", nets.number), link), link_spec("eth0", UPLINK));
    join(router, &near, node, &far).await?;
    for family in Family::BOTH {
        let uplink = nets.uplink(family);
        router.links.address(link, router_end(uplink)).await?;
        node.links.address(UPLINK, uplink).await?;
        node.links.default_route(router_end(uplink).addr(), None).await?;
    }
    let hardware = [0x02, 0x62, 0x77, 0, 0, nets.number];
    node.links.bridge(&LinkSpec { hardware: Some(hardware), ..link_spec("cni0", FIRST) }).await?;
    node.links.address(FIRST, link_local(GATEWAY_LINK_LOCAL)).await?;
    node.links.wait(WaitFor::Addresses).await?;
    router.links.wait(WaitFor::Addresses).await
}

/// Adds to a node the addresses that a pod brought: pod CIDRs with their gateway, and host addresses.
pub(super) async fn extend_node(
    router: &NetnsHandle,
    node: &NetnsHandle,
    nets: &NodeNets,
    additions: &NodeAdditions,
) -> Result<(), TestbedError> {
    for &cidr in &additions.cidrs {
        node.links.address(FIRST, router_end(cidr)).await?;
        router.links.route(cidr, nets.uplink(Family::of_net(cidr)).addr()).await?;
    }
    for &address in &additions.host {
        node.links.address(UPLINK, host(address)).await?;
    }
    node.links.wait(WaitFor::Addresses).await?;
    for &address in &additions.host {
        let uplink = nets.uplink(Family::of(address));
        router.links.route(host(address), uplink.addr()).await?;
        node.links.default_route(router_end(uplink).addr(), Some(address)).await?;
    }
    Ok(())
}

/// Connects a pod to its node's bridge. The caller must wait for its addresses.
pub(super) async fn attach_pod(
    node: &NetnsHandle,
    pod: &NetnsHandle,
    place: &PodPlacement,
    nets: &NodeNets,
    link: u32,
) -> Result<(), TestbedError> {
    let near = link_spec(&device(place), link);
    let hardware = hardware(place);
    let far = LinkSpec { hardware: Some(hardware), ..link_spec("eth0", FIRST) };
    node.links.port(FIRST, &near, &far, &pod.namespace).await?;
    pod.links.up(FIRST).await?;
    pod.links.wait(WaitFor::Link(FIRST)).await?;
    node.links.wait(WaitFor::Link(link)).await?;
    // A bridge works only once it has its first port.
    node.links.wait(WaitFor::Link(FIRST)).await?;
    pod.links.address(FIRST, link_local(from_hardware(hardware))).await?;
    for family in Family::BOTH {
        let Some(&cidr) = nets.cidrs.get(&family) else { continue };
        let own: Vec<IpAddr> =
            place.addresses.iter().copied().filter(|address| Family::of(*address) == family).collect();
        for &address in &own {
            pod.links.address(FIRST, within(address, cidr)).await?;
        }
        if !own.is_empty() {
            pod.links.default_route(gateway(cidr), None).await?;
        }
    }
    Ok(())
}

/// Adds the hardware addresses of other pods on its bridge to a pod's neighbour table.
pub(super) async fn add_neighbours(pod: &NetnsLinks, others: &[&PodPlacement]) -> Result<(), TestbedError> {
    for other in others {
        for &address in &other.addresses {
            pod.neighbour(FIRST, address, hardware(other)).await?;
        }
    }
    Ok(())
}

fn within(address: IpAddr, cidr: IpNet) -> IpNet {
    IpNet::new(address, cidr.prefix_len()).expect("the address was admitted to this block")
}

fn link_local(address: Ipv6Addr) -> IpNet {
    IpNet::new(IpAddr::V6(address), 64).expect("64 fits IPv6")
}

/// The link-local address derived from a hardware address (RFC 4291, appendix A).
fn from_hardware([a, b, c, d, e, f]: [u8; 6]) -> Ipv6Addr {
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

fn link_spec(name: &str, index: u32) -> LinkSpec {
    LinkSpec { name: name.to_owned(), index, hardware: None }
}

/// The name of the device that connects a pod to its node's bridge.
pub(super) fn device(place: &PodPlacement) -> String {
    format!("veth{}", fingerprint(&place.pod.to_string()))
}

/// A hardware address derived from the pod's first address, so that neighbours that learned it from an earlier pod
/// reach this one.
pub(super) fn hardware(place: &PodPlacement) -> [u8; 6] {
    let identity = place.addresses.first().map_or_else(|| place.pod.to_string(), IpAddr::to_string);
    let digest = Sha256::digest(identity);
    [0x02, 0x58, digest[0], digest[1], digest[2], digest[3]]
}
