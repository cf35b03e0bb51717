//! Worlds in which something is missing or claimed twice, and flows with ends that are neither pods nor nodes.

use super::{Random, cluster, world};
use crate::topology::{NODES, outside_host};
use bridgewarden::api::NetworkPolicyPeer;
use bridgewarden::explain::oracle::{FlowQuery, QueryEnd, World};
use bridgewarden::net::{Family, Protocol};
use std::net::IpAddr;

/// The cluster of a seed, with up to two unknown namespaces and up to three pods with an address that another pod of
/// either node has, too.
/// pod, of either node, has as well.
pub fn doubtful_world(seed: u64) -> World {
    let mut world = world(seed);
    let mut random = Random::new(!seed);
    for _ in 0..random.below(3) {
        let known = world.namespaces.len();
        world.namespaces.remove(random.below(known));
    }
    for _ in 0..random.below(4) {
        let (from, to) = (random.below(world.pods.len()), random.below(world.pods.len()));
        if cluster::is_live(&world.pods[from]) && cluster::is_live(&world.pods[to]) {
            let addresses: Vec<IpAddr> = cluster::addresses(&world.pods[from]).collect();
            let shown = if random.chance(50) { &addresses[..1] } else { &addresses[..] };
            cluster::set_addresses(&mut world.pods[to], shown);
        }
    }
    world
}

/// Addresses that no pod and no node has: of pod ranges, of a link, multicast, broadcast, and from outside.
fn unassigned_addresses(family: Family) -> Vec<IpAddr> {
    let unassigned = NODES.map(|node| node.pod_address(family, 199));
    let others: &[&str] = match family {
        Family::V4 => {
            &["169.254.7.7", "224.0.0.1", "239.1.2.3", "255.255.255.255", "10.244.1.255", "198.51.100.1"]
        }
        Family::V6 => {
            &["fe80::7:7", "fe80::1", "ff02::1", "ff05::1:3", "fd00:10:244:1:ffff::1", "2001:db8::1"]
        }
    };
    let others = others.iter().map(|text| text.parse().expect("an address"));
    unassigned.into_iter().chain(others).chain([outside_host(family, 200)]).collect()
}

/// Flows between pods and addresses that no pod and no node has, both ways.
pub fn flows_with_unassigned(world: &World) -> Vec<FlowQuery> {
    let mut flows = Vec::new();
    for family in Family::BOTH {
        let pods =
            super::destinations(world, family).into_iter().filter(|end| matches!(end, QueryEnd::Pod(_)));
        for pod in pods {
            for other in unassigned_addresses(family).into_iter().map(QueryEnd::Address) {
                for (protocol, port) in [(Protocol::Tcp, 80), (Protocol::Udp, 53), (Protocol::Sctp, 3868)] {
                    for (source, destination) in [(&pod, &other), (&other, &pod)] {
                        let (source, destination) = (source.clone(), destination.clone());
                        flows.push(FlowQuery { source, destination, protocol, port, family });
                    }
                }
            }
        }
    }
    flows
}

/// A peer that selects nothing.
fn no_peer() -> Option<Vec<NetworkPolicyPeer>> {
    Some(vec![NetworkPolicyPeer::default()])
}

/// The same world, but rules with ports select no peer. What it allows is what the original allows for a protocol
/// without ports.
pub fn without_rules_of_ports(world: &World) -> World {
    let mut world = world.clone();
    for policy in &mut world.policies {
        let ingress = policy.spec.ingress.iter_mut().flatten();
        for rule in ingress.filter(|rule| rule.ports.as_ref().is_some_and(|ports| !ports.is_empty())) {
            rule.from = no_peer();
        }
        let egress = policy.spec.egress.iter_mut().flatten();
        for rule in egress.filter(|rule| rule.ports.as_ref().is_some_and(|ports| !ports.is_empty())) {
            rule.to = no_peer();
        }
    }
    world
}

/// The same world, but no rule selects any peer. What it allows is what no policy isolates.
pub fn without_rules(world: &World) -> World {
    let mut world = world.clone();
    for policy in &mut world.policies {
        policy.spec.ingress.iter_mut().flatten().for_each(|rule| rule.from = no_peer());
        policy.spec.egress.iter_mut().flatten().for_each(|rule| rule.to = no_peer());
    }
    world
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn doubtful_worlds_lack_namespaces_and_share_addresses() {
        let (mut lacking, mut shared) = (0, 0);
        for world in (0..100).map(doubtful_world) {
            lacking += usize::from(world.namespaces.len() < 3);
            let mut holders: BTreeMap<IpAddr, usize> = BTreeMap::new();
            let live = world.pods.iter().filter(|pod| cluster::is_live(pod));
            live.flat_map(cluster::addresses).for_each(|address| *holders.entry(address).or_default() += 1);
            shared += usize::from(holders.values().any(|count| *count > 1));
        }
        assert!(lacking > 40 && shared > 40, "{lacking} lack a namespace, {shared} share an address");
    }
}
