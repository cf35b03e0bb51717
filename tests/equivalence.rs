//! One world, many judges: what the API's text says is what the rendered rules do, and what the plan answers.

use bridgewarden::compile::Flow as Connection;
use bridgewarden::explain::oracle::{self, End, Flow, Verdict, World};
use bridgewarden::net::Family;
use std::net::IpAddr;
use support::packets::{Judge, Rendered, enforcer};
use support::topology::NODES;
use support::worlds;

/// As many as the project promises; the seeds are fixed, so that a failure stays one.
const WORLDS: u64 = 1_000;

fn oracle_allows(world: &World, flow: &Flow) -> bool {
    oracle::decide(world, flow).expect("flows worth probing are possible") == Verdict::Allowed
}

#[test]
fn rendered_rules_do_what_the_api_says_in_every_random_world() {
    for seed in 0..WORLDS {
        let world = worlds::world(seed);
        let rules = NODES.map(|node| Rendered(enforcer(&world, node.name).ruleset()));
        let judge = Judge::new(&world, [&rules[0], &rules[1]]);
        for flow in worlds::flows(&world) {
            assert_eq!(
                judge.allows(&flow),
                oracle_allows(&world, &flow),
                "rules (left) and API (right) differ in world {seed} on {flow:?}: {:?}",
                oracle::decide(&world, &flow)
            );
        }
    }
}

#[test]
fn plan_answers_for_a_connection_as_the_api_does() {
    for seed in 0..WORLDS / 5 {
        let world = worlds::world(seed);
        let enforcers = NODES.map(|node| enforcer(&world, node.name));
        for flow in worlds::flows(&world).into_iter().filter(|flow| is_between_pods(&world, flow)) {
            let address = |end: &End| address(&world, end, flow.family);
            let connection = Connection {
                source: address(&flow.source),
                destination: address(&flow.destination),
                port: Some((flow.protocol, flow.port)),
            };
            let admitted = enforcers.iter().all(|enforcer| enforcer.admits(&connection));
            assert_eq!(admitted, oracle_allows(&world, &flow), "world {seed}, {flow:?}");
        }
    }
}

/// Flows of nodes and of pods that share their node's network never come to the plan's question.
fn is_between_pods(world: &World, flow: &Flow) -> bool {
    [&flow.source, &flow.destination].into_iter().all(|end| match end {
        End::Pod(index) => world.pods[*index].spec.host_network != Some(true),
        End::Address(_) => true,
        End::Node { .. } => false,
    })
}

fn address(world: &World, end: &End, family: Family) -> IpAddr {
    match end {
        End::Pod(index) => {
            let mut addresses = world.pods[*index].status.pod_ips.iter().filter_map(|ip| ip.ip.parse().ok());
            addresses.find(|address| Family::of(*address) == family).expect("an end of this family")
        }
        End::Address(address) | End::Node { address, .. } => *address,
    }
}
