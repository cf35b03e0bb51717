//! One world, many judges: what the API's text says is what the rendered rules do, and what the plan answers.

use bridgewarden::api::Pod;
use bridgewarden::compile::{Flow as Connection, Limits, UnknownPods};
use bridgewarden::controller::Enforcer;
use bridgewarden::explain::oracle::{self, End, Flow, Verdict, World};
use bridgewarden::model::{Change, Sandbox, SandboxKey};
use bridgewarden::net::Family;
use bridgewarden::render::Options;
use bridgewarden::source::lower;
use std::net::IpAddr;
use std::time::Duration;
use support::packets::{Judge, Rendered, enforcer, facts};
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

/// A policy of many peers puts the pods of a rule into one set, and makes one of rules with the same ports.
#[test]
fn peers_that_share_a_set_are_allowed_what_the_api_says() {
    let limits = Limits { peers_apart: 0, ..Limits::default() };
    for seed in 0..WORLDS / 2 {
        let world = worlds::world(seed);
        let enforcers = NODES.map(|node| {
            let mut enforcer = Enforcer::new(node.name, Options::default()).with_limits(limits);
            facts(&world).into_iter().for_each(|fact| enforcer.apply(fact));
            enforcer
        });
        let rules = enforcers.map(|mut enforcer| Rendered(enforcer.ruleset()));
        let judge = Judge::new(&world, [&rules[0], &rules[1]]);
        for flow in worlds::flows(&world) {
            let wanted = oracle_allows(&world, &flow);
            assert_eq!(judge.allows(&flow), wanted, "rules (left) and API (right): world {seed}, {flow:?}");
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

/// The sandbox that a pod's node has of it, if the pod is on the pod network there.
fn sandbox(pod: &Pod, node: &str) -> Option<Sandbox> {
    let addresses = lower::pod(pod).0.addresses;
    let key = SandboxKey::new(lower::pod(pod).0.key, "sandbox");
    let is_here = pod.spec.node_name.as_deref() == Some(node) && !addresses.is_empty();
    is_here.then_some(Sandbox {
        key,
        uid: None,
        addresses,
        made: Duration::ZERO,
        devices: Vec::new(),
        hardware: None,
    })
}

/// The rules of a node that knows a world, and the sandboxes of some pods.
fn rules(world: &World, node: &str, sandboxes: &[Sandbox], unknown_pods: UnknownPods) -> Rendered {
    let mut enforcer = Enforcer::new(node, Options::default()).with_unknown_pods(unknown_pods);
    let sandboxes = sandboxes.iter().cloned().map(Change::Sandbox);
    facts(world).into_iter().chain(sandboxes).for_each(|fact| enforcer.apply(fact));
    Rendered(enforcer.ruleset())
}

#[test]
fn pod_whose_addresses_only_its_sandbox_tells_is_judged_as_if_the_api_told_them() {
    for seed in 0..WORLDS / 5 {
        let world = worlds::world(seed);
        for node in NODES.map(|node| node.name) {
            let mut lagging = world.clone();
            let mut sandboxes = Vec::new();
            for pod in &mut lagging.pods {
                if let Some(sandbox) = sandbox(pod, node) {
                    sandboxes.push(sandbox);
                    pod.status.pod_ip = None;
                    pod.status.pod_ips.clear();
                }
            }
            assert!(!sandboxes.is_empty(), "world {seed} has pods on {node}");
            let told = rules(&lagging, node, &sandboxes, UnknownPods::Reject);
            assert_eq!(told.0, rules(&world, node, &[], UnknownPods::Reject).0, "world {seed}, {node}");
        }
    }
}

/// Its Pod object is not known: it reaches itself and its node, and nobody else, nor the other way round.
#[test]
fn unknown_pod_is_closed_in_both_directions_or_open_as_if_it_had_no_sandbox() {
    let (mut refused, mut allowed) = (0_u64, 0_u64);
    for seed in 0..WORLDS / 5 {
        let world = worlds::world(seed);
        let here = |pod: &Pod| sandbox(pod, NODES[0].name);
        let Some(index) = world.pods.iter().position(|pod| here(pod).is_some()) else { continue };
        let mut lagging = world.clone();
        let sandbox = here(&lagging.pods.remove(index)).expect("a pod of this node");
        let open = rules(&lagging, NODES[0].name, std::slice::from_ref(&sandbox), UnknownPods::Allow);
        let none = rules(&lagging, NODES[0].name, &[], UnknownPods::Allow);
        assert_eq!(open.0.tables, none.0.tables, "world {seed}");
        let policies = |rules: &Rendered| {
            let sets = rules.0.sets.iter().filter(|(name, _)| !name.as_str().contains("LOCAL"));
            sets.map(|(name, set)| (name.clone(), set.clone())).collect::<Vec<_>>()
        };
        assert_eq!(policies(&open), policies(&none), "world {seed}");
        let closed = rules(&lagging, NODES[0].name, &[sandbox], UnknownPods::Reject);
        let elsewhere = rules(&World::default(), NODES[1].name, &[], UnknownPods::Reject);
        let judge = Judge::new(&world, [&closed, &elsewhere]);
        let is_its_node = |end: &End| match end {
            End::Pod(other) => {
                let pod = &world.pods[*other];
                pod.spec.host_network == Some(true) && pod.spec.node_name.as_deref() == Some(NODES[0].name)
            }
            End::Node { name, .. } => name == NODES[0].name,
            End::Address(_) => false,
        };
        let unknown = End::Pod(index);
        for flow in worlds::flows(&world) {
            let other = match (flow.source == unknown, flow.destination == unknown) {
                (true, _) => &flow.destination,
                (false, true) => &flow.source,
                (false, false) => continue,
            };
            let expected = *other == unknown || is_its_node(other);
            assert_eq!(judge.allows(&flow), expected, "world {seed}, {flow:?}");
            *(if expected { &mut allowed } else { &mut refused }) += 1;
        }
    }
    assert!(allowed > 1_000 && refused > 10_000, "{allowed} allowed, {refused} refused");
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
