//! Packets that FORWARD is to refuse by itself, whatever the table of ports has kept from it before.

use bridgewarden::explain::oracle::{End, Verdict, decide};
use support::packets::{Judge, Rendered, enforcer};
use support::topology::NODES;
use support::worlds;

/// A pod that is exempt from binding can write the address of its node into what it sends. What the node itself sends does not
/// come by FORWARD.
#[test]
fn packet_in_forward_is_excused_by_no_address_of_the_node() {
    for seed in 0..50 {
        let world = worlds::world(seed);
        let rules = NODES.map(|node| Rendered(enforcer(&world, node.name).ruleset()));
        let judge = Judge::new(&world, [&rules[0], &rules[1]]);
        let is_on_bridge =
            |end: &End| matches!(end, End::Pod(index) if world.pods[*index].spec.host_network != Some(true));
        for flow in worlds::flows(&world).iter().filter(|flow| is_on_bridge(&flow.source)) {
            let passes = judge.passes(flow, |packet| packet.source_is_local = true);
            let wanted = decide(&world, flow).is_ok_and(|verdict| verdict == Verdict::Allowed);
            assert_eq!(passes, wanted, "world {seed}, {flow:?}");
        }
    }
}
