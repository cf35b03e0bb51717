//! Packets that FORWARD must deny by itself, whatever the table of ports has kept from it before.

use bridgewarden::explain::oracle::{FlowQuery, QueryEnd, Ruling, World, decide};
use support::backends::BACKENDS;
use support::packets::{Judge, rules_of_both};
use support::worlds;

/// Whether what opens a flow comes from a pod by the bridge.
fn is_from_bridge(world: &World, flow: &FlowQuery) -> bool {
    matches!(flow.source, QueryEnd::Pod(index) if world.pods[index].spec.host_network != Some(true))
}

/// A host that answers for such an address on the link would receive packets that no policy allows.
#[test]
fn packet_that_is_routed_to_the_bridge_for_an_address_that_no_pod_has_is_denied() {
    for (seed, backend) in (0..50).flat_map(|seed| BACKENDS.map(|backend| (seed, backend))) {
        let world = worlds::world(seed);
        let rules = rules_of_both(backend, &world);
        let judge = Judge::new(&world, [&rules[0], &rules[1]]);
        for flow in worlds::flows_with_unassigned(&world).iter().filter(|flow| is_from_bridge(&world, flow)) {
            let passes = judge.passes(flow, |packet| packet.out_interface = "cni0".into());
            assert!(!passes, "world {seed}, {flow:?}");
        }
    }
}

/// A pod that is exempt from binding can write the address of its node into what it sends. What the node itself sends does not
/// come by FORWARD.
#[test]
fn packet_in_forward_is_excused_by_no_address_of_the_node() {
    for (seed, backend) in (0..50).flat_map(|seed| BACKENDS.map(|backend| (seed, backend))) {
        let world = worlds::world(seed);
        let rules = rules_of_both(backend, &world);
        let judge = Judge::new(&world, [&rules[0], &rules[1]]);
        for flow in worlds::flows(&world).iter().filter(|flow| is_from_bridge(&world, flow)) {
            let passes = judge.passes(flow, |packet| packet.source_is_local = true);
            let wanted = decide(&world, flow).is_ok_and(|verdict| verdict == Ruling::Allowed);
            assert_eq!(passes, wanted, "world {seed}, {flow:?}");
        }
    }
}
