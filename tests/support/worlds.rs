//! Random clusters, and random stories of how they change; the same seed always gives the same cluster.
//!
//! There are few different labels, names, ports and prefixes, so that they often coincide. Unusual and invalid parts
//! are common, because what a policy means must not depend on its author's care.

mod audit;
mod change;
mod cluster;
mod doubt;
mod links;
mod number;
mod policy;
mod random;
mod scene;
mod shrink;
mod story;

pub use change::Change;
pub use cluster::addresses;
pub use doubt::{doubtful_world, flows_with_unassigned, without_rules, without_rules_of_ports};
pub use links::attach_pods;
pub use number::how_many;
use number::story_seeds;
pub use random::Random;
pub use scene::Scene;
pub use shrink::check_stories;
pub use story::{Story, stories, stories_with_ports, story};

use crate::topology::{NODES, outside_host};
use bridgewarden::explain::oracle::{FlowQuery, QueryEnd, World};
use bridgewarden::net::{Family, Protocol};
use proptest::prelude::{Strategy, any};
use std::fmt;

/// The cluster of a seed: 3 namespaces, 9 pods on 2 nodes, 1 to 6 policies.
pub fn world(seed: u64) -> World {
    let mut world = cluster::world(&mut Random::new(seed));
    audit::label_some(&mut world, &mut Random::new(seed.rotate_left(32)));
    world
}

/// A random cluster and its seed.
pub struct RandomWorld {
    /// The seed.
    pub seed: u64,
    /// The cluster.
    pub world: World,
}

impl fmt::Debug for RandomWorld {
    /// What is needed to run a failed property again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worlds::world({:#x}): {:#?}", self.seed, self.world)
    }
}

/// A random story and its seed.
pub struct RandomStory {
    /// The seed.
    pub seed: u64,
    /// The story.
    pub story: Story,
}

impl fmt::Debug for RandomStory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worlds::story({:#x}, {}): {:#?}", self.seed, self.story.length, self.story)
    }
}

/// Any cluster, for properties. A seed has no smaller seed, so nothing is shrunk.
pub fn any_world() -> impl Strategy<Value = RandomWorld> {
    any::<u64>().no_shrink().prop_map(|seed| RandomWorld { seed, world: world(seed) })
}

/// Any story of `length` events, for properties.
pub fn any_story(length: usize) -> impl Strategy<Value = RandomStory> {
    any::<u64>().no_shrink().prop_map(move |seed| RandomStory { seed, story: story(seed, length) })
}

/// The ports worth probing: all that pods declare, the ports next to ranges, and port numbers with another protocol.
pub const PORTS: [(Protocol, u16); 14] = [
    (Protocol::Tcp, 80),
    (Protocol::Tcp, 81),
    (Protocol::Tcp, 443),
    (Protocol::Tcp, 8080),
    (Protocol::Tcp, 9090),
    (Protocol::Tcp, 9100),
    (Protocol::Tcp, 65535),
    (Protocol::Udp, 53),
    (Protocol::Udp, 80),
    (Protocol::Udp, 443),
    (Protocol::Udp, 5353),
    (Protocol::Sctp, 80),
    (Protocol::Sctp, 3868),
    (Protocol::Sctp, 3869),
];

/// The ends worth probing from: every pod, both nodes, and two outside hosts that prefixes distinguish.
pub fn sources(world: &World, family: Family) -> Vec<QueryEnd> {
    let nodes =
        NODES.map(|node| QueryEnd::Node { name: node.name.to_string(), address: node.address(family) });
    destinations(world, family).into_iter().chain(nodes).collect()
}

/// The ends worth probing toward: every pod and the outside hosts. Pods without an address of this family, and pods
/// that have finished, are left out.
pub fn destinations(world: &World, family: Family) -> Vec<QueryEnd> {
    let outside = [10, 200].map(|host| QueryEnd::Address(outside_host(family, host)));
    let pods = world.pods.iter().enumerate().filter(|(_, pod)| {
        !cluster::has_finished(pod) && cluster::addresses(pod).any(|address| Family::of(address) == family)
    });
    pods.map(|(index, _)| QueryEnd::Pod(index)).chain(outside).collect()
}

/// Every flow worth probing, some thousands.
pub fn flows(world: &World) -> Vec<FlowQuery> {
    let mut flows = Vec::new();
    for family in Family::BOTH {
        let destinations = destinations(world, family);
        for source in sources(world, family) {
            for destination in &destinations {
                flows.extend(PORTS.map(|(protocol, port)| FlowQuery {
                    source: source.clone(),
                    destination: destination.clone(),
                    protocol,
                    port,
                    family,
                }));
            }
        }
    }
    flows
}

#[cfg(test)]
mod tests {
    use super::*;
    use bridgewarden::explain::oracle::{Ruling, decide};
    use bridgewarden::model::Direction;

    #[test]
    fn same_seed_is_the_same_world() {
        assert_eq!(world(7), world(7));
        assert_ne!(world(7), world(8));
        assert_eq!(story(7, 20), story(7, 20));
    }

    #[test]
    fn every_flow_worth_probing_is_possible() {
        for seed in 0..50 {
            let world = world(seed);
            for flow in flows(&world) {
                decide(&world, &flow)
                    .unwrap_or_else(|impossible| panic!("seed {seed}, {flow:?}: {impossible}"));
            }
        }
    }

    #[test]
    fn worlds_allow_and_deny_in_both_directions() {
        let (mut allowed, mut egress, mut ingress) = (0, 0, 0);
        for seed in 0..50 {
            let world = world(seed);
            for flow in flows(&world) {
                match decide(&world, &flow).unwrap() {
                    Ruling::Allowed => allowed += 1,
                    Ruling::Denied { by: Direction::Egress, .. } => egress += 1,
                    Ruling::Denied { by: Direction::Ingress, .. } => ingress += 1,
                }
            }
        }
        let all = allowed + egress + ingress;
        for (what, count) in
            [("allowed", allowed), ("denied by egress", egress), ("denied by ingress", ingress)]
        {
            assert!(count * 10 > all, "{what}: only {count} of {all}");
        }
    }

    #[test]
    fn live_pods_never_share_an_address_in_a_story() {
        for seed in 0..200 {
            let story = story(seed, 30);
            let mut world = story.start.clone();
            assert!(cluster::addresses_are_unique(&world), "seed {seed}, at the start");
            for (step, change) in story.changes.iter().enumerate() {
                change.apply(&mut world);
                assert!(cluster::addresses_are_unique(&world), "seed {seed}, step {step}: {change:?}");
            }
        }
    }
}
