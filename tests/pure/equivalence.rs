//! One world, many judges: what the API's text says is what the rendered rules do, and what the plan answers.

use bridgewarden::compile::Limits;
use bridgewarden::controller::Enforcer;
use bridgewarden::explain::oracle::{self, FlowQuery, QueryEnd, Ruling, World};
use bridgewarden::model::Direction;
use bridgewarden::net::{self, Family, Protocol};
use bridgewarden::netfilter::BackendName;
use bridgewarden::netfilter::iptables::{Payload, State};
use bridgewarden::render::Options;
use bridgewarden::source::convert;
use std::collections::BTreeSet;
use std::net::IpAddr;
use support::backends::{BACKENDS, options};
use support::packets::{Judge, Rendered, enforcer, facts, rules_of_both};
use support::topology::{NODES, outside_host};
use support::worlds;

/// As many as the project promises; the seeds are fixed, so that a failure stays one.
pub(crate) fn worlds() -> u64 {
    worlds::how_many("BRIDGEWARDEN_WORLDS", 1_000)
}

pub(crate) fn oracle_allows(world: &World, flow: &FlowQuery) -> bool {
    oracle::decide(world, flow).expect("flows worth probing are possible") == Ruling::Allowed
}

/// A judge for each of [`BACKENDS`].
fn judges<'a>(world: &'a World, rules: &'a [[Rendered; 2]; BACKENDS.len()]) -> [Judge<'a>; BACKENDS.len()] {
    rules.each_ref().map(|[a, b]| Judge::new(world, [a, b]))
}

#[test]
fn rendered_rules_do_what_the_api_says_in_every_random_world() {
    for seed in 0..worlds() {
        let world = worlds::world(seed);
        let rules = BACKENDS.map(|backend| rules_of_both(backend, &world));
        let judges = judges(&world, &rules);
        for flow in worlds::flows(&world) {
            let wanted = oracle_allows(&world, &flow);
            for (backend, judge) in BACKENDS.iter().zip(&judges) {
                assert_eq!(
                    judge.allows(&flow),
                    wanted,
                    "rules of {backend:?} (left) and API (right) differ in world {seed} on {flow:?}: {:?}",
                    oracle::decide(&world, &flow)
                );
            }
        }
    }
}

#[test]
fn what_audited_policies_would_deny_is_reported_once_and_nothing_else_is() {
    let (mut reported, mut unreported) = (0, 0);
    for seed in 0..worlds() {
        let world = worlds::world(seed);
        let rules = BACKENDS.map(|backend| rules_of_both(backend, &world));
        let judges = judges(&world, &rules);
        let nodes = NODES.map(|node| enforcer(BackendName::Nftables, &world, node.name));
        for flow in worlds::flows(&world) {
            let audits = oracle::would_deny(&world, &flow).expect("flows worth probing are possible");
            let wanted = oracle_allows(&world, &flow).then(|| {
                let mut directions: Vec<_> = audits.iter().map(|audit| audit.by).collect();
                directions.sort();
                directions
            });
            match &wanted {
                Some(directions) if !directions.is_empty() => reported += 1,
                Some(_) | None => unreported += 1,
            }
            for (backend, judge) in BACKENDS.iter().zip(&judges) {
                assert_eq!(
                    judge.audits(&flow),
                    wanted,
                    "reports of {backend:?} (left) and API (right) differ in world {seed} on {flow:?}: {audits:?}"
                );
            }
            let from_node =
                [&flow.source, &flow.destination].iter().any(|end| matches!(end, QueryEnd::Node { .. }));
            if !from_node {
                let asked = net::Flow {
                    source: address(&world, &flow.source, flow.family),
                    destination: address(&world, &flow.destination, flow.family),
                    port: Some((flow.protocol, flow.port)),
                };
                for audit in &audits {
                    let named = nodes.iter().find_map(|node| names(node, audit.by, &asked));
                    let wanted = audit.audited.iter().cloned().collect();
                    assert_eq!(named, Some(wanted), "world {seed}, {flow:?}");
                }
            }
        }
    }
    assert!(reported > 50 * worlds() && unreported > 1000 * worlds(), "{reported} {unreported}");
}

/// The audited policies that a node names for a flow in a direction.
fn names(node: &Enforcer, direction: Direction, flow: &net::Flow) -> Option<BTreeSet<String>> {
    let (plan, cluster) = (node.plan(), node.cluster());
    let (_, judgement) = plan.would_deny(cluster, direction, flow)?;
    let audited = judgement.policies().filter(|key| plan.policies()[*key].audited);
    Some(audited.map(ToString::to_string).collect())
}

/// A policy of many peers puts the pods of a rule into one set, and makes one of rules with the same ports.
#[test]
fn peers_that_share_a_set_are_allowed_what_the_api_says() {
    let limits = Limits { peers_apart: 0, ..Limits::default() };
    for seed in 0..worlds() / 2 {
        let world = worlds::world(seed);
        let rules = BACKENDS.map(|backend| {
            NODES.map(|node| {
                let mut enforcer = Enforcer::new(node.name, options(backend)).with_limits(limits);
                facts(&world).into_iter().for_each(|fact| enforcer.apply(fact));
                Rendered(enforcer.ruleset())
            })
        });
        let judges = judges(&world, &rules);
        for flow in worlds::flows(&world) {
            let wanted = oracle_allows(&world, &flow);
            for judge in &judges {
                assert_eq!(
                    judge.allows(&flow),
                    wanted,
                    "rules (left) and API (right): world {seed}, {flow:?}"
                );
            }
        }
    }
}

#[test]
fn rendered_rules_do_what_the_api_says_where_namespaces_are_missing_and_addresses_are_claimed_twice() {
    let mut asked = 0;
    for seed in 0..worlds() {
        let world = worlds::doubtful_world(seed);
        let claimed_on_both = ClaimedOnBothNodes::of(&world);
        let rules = BACKENDS.map(|backend| rules_of_both(backend, &world));
        let judges = judges(&world, &rules);
        for flow in worlds::flows(&world) {
            if claimed_on_both.decide(&flow) {
                continue;
            }
            asked += 1;
            let wanted = oracle_allows(&world, &flow);
            for (backend, judge) in BACKENDS.iter().zip(&judges) {
                assert_eq!(
                    judge.allows(&flow),
                    wanted,
                    "rules of {backend:?} (left) and API (right) differ in doubtful world {seed} on {flow:?}: {:?}",
                    oracle::decide(&world, &flow)
                );
            }
        }
    }
    assert!(asked > worlds() * 2_000, "only {asked} flows");
}

/// Addresses that pods of both nodes claim. Each node asks the policies of its own pods, and a packet need not pass both.
struct ClaimedOnBothNodes {
    addresses: BTreeSet<IpAddr>,
    without_rules: World,
}

impl ClaimedOnBothNodes {
    fn of(world: &World) -> ClaimedOnBothNodes {
        let on = |node: &str| -> BTreeSet<IpAddr> {
            let pods = world.pods.iter().filter(|pod| pod.spec.node_name.as_deref() == Some(node));
            pods.flat_map(|pod| convert::pod(pod).0.addresses).collect()
        };
        let [a, b] = NODES.map(|node| on(node.name));
        let addresses = a.intersection(&b).copied().collect();
        ClaimedOnBothNodes { addresses, without_rules: worlds::without_rules(world) }
    }

    /// Whether policies are asked about an end of a flow that is such an address.
    fn decide(&self, flow: &FlowQuery) -> bool {
        let other = || QueryEnd::Address(outside_host(flow.family, 200));
        let is_isolated = |source: QueryEnd, destination: QueryEnd| {
            !oracle_allows(&self.without_rules, &FlowQuery { source, destination, ..flow.clone() })
        };
        let is_one =
            |end: &QueryEnd| self.addresses.contains(&address(&self.without_rules, end, flow.family));
        is_one(&flow.source) && is_isolated(flow.source.clone(), other())
            || is_one(&flow.destination) && is_isolated(other(), flow.destination.clone())
    }
}

#[test]
fn rendered_rules_do_what_the_api_says_of_addresses_that_no_pod_has() {
    for seed in 0..worlds() {
        let world = worlds::world(seed);
        let rules = BACKENDS.map(|backend| rules_of_both(backend, &world));
        let judges = judges(&world, &rules);
        for flow in worlds::flows_with_unassigned(&world) {
            let wanted = oracle_allows(&world, &flow);
            for judge in &judges {
                assert_eq!(judge.allows(&flow), wanted, "world {seed}, {flow:?}");
            }
        }
    }
}

/// One flow for each pair of ends.
fn pairs(world: &World) -> impl Iterator<Item = FlowQuery> {
    let flows = worlds::flows(world).into_iter().chain(worlds::flows_with_unassigned(world));
    flows.filter(|flow| (flow.protocol, flow.port) == (Protocol::Tcp, 80))
}

#[test]
fn protocol_without_ports_is_allowed_by_rules_without_ports_alone() {
    let (mut allowed, mut denied) = (0_u64, 0_u64);
    for (seed, backend) in (0..worlds() / 5).flat_map(|seed| BACKENDS.map(|backend| (seed, backend))) {
        let world = worlds::world(seed);
        let reduced = worlds::without_rules_of_ports(&world);
        let rules = rules_of_both(backend, &world);
        let judge = Judge::new(&world, [&rules[0], &rules[1]]);
        for flow in pairs(&world) {
            // Echo request and reply, destination unreachable, time exceeded, an experiment; ESP, GRE.
            let payloads = match flow.family {
                Family::V4 => vec![Payload::Other(1), Payload::Other(47)],
                Family::V6 => [128, 129, 1, 3, 200]
                    .map(Payload::Icmpv6)
                    .into_iter()
                    .chain([Payload::Other(50)])
                    .collect(),
            };
            let expected = oracle_allows(&reduced, &flow);
            *(if expected { &mut allowed } else { &mut denied }) += 1;
            for payload in payloads {
                let passes = judge.passes(&flow, |packet| packet.payload = payload);
                assert_eq!(passes, expected, "world {seed}, {payload:?} from {flow:?}");
            }
        }
    }
    assert!(allowed > denied / 10 && denied > allowed / 10, "{allowed} allowed, {denied} denied");
}

/// A packet of a connection that exists passes, one that belongs to none goes where no policy isolates, and one of a
/// connection that was cut goes nowhere. One that belongs to none has no mark of a connection.
#[test]
fn packets_of_every_state_are_judged_as_their_state_demands() {
    let mark = Options::default().mark;
    let on_bridge = |world: &World, end: &QueryEnd| match end {
        QueryEnd::Pod(index) => world.pods[*index].spec.host_network != Some(true),
        QueryEnd::Address(_) | QueryEnd::Node { .. } => false,
    };
    for (seed, backend) in (0..worlds() / 5).flat_map(|seed| BACKENDS.map(|backend| (seed, backend))) {
        let world = worlds::world(seed);
        let isolating = worlds::without_rules(&world);
        let rules = rules_of_both(backend, &world);
        let judge = Judge::new(&world, [&rules[0], &rules[1]]);
        for flow in pairs(&world) {
            let payload = match flow.family {
                Family::V4 => Payload::Other(1),
                Family::V6 => Payload::Icmpv6(128),
            };
            let tcp = Payload::Transport { protocol: flow.protocol, port: flow.port };
            for payload in [tcp, payload] {
                let passes = |state: State, connection_mark: u32| {
                    judge.passes(&flow, |packet| {
                        (packet.payload, packet.state) = (payload, state);
                        packet.connection_mark = connection_mark;
                    })
                };
                for state in [State::Established, State::Related] {
                    assert!(passes(state, 0), "world {seed}, {state:?}, {payload:?} from {flow:?}");
                }
                // To itself a pod gets by a connection to a Service alone, which an invalid packet is not of.
                if flow.source != flow.destination {
                    let expected = oracle_allows(&isolating, &flow);
                    assert_eq!(
                        passes(State::Invalid, 0),
                        expected,
                        "world {seed}, invalid {payload:?} from {flow:?}"
                    );
                }
                // What goes to a node itself passes no chain of the agent.
                if on_bridge(&world, &flow.destination) {
                    for state in [State::New, State::Established, State::Related] {
                        assert!(
                            !passes(state, mark),
                            "world {seed}, cut, {state:?}, {payload:?} from {flow:?}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn plan_answers_for_a_connection_as_the_api_does() {
    for seed in 0..worlds() / 5 {
        let world = if seed % 2 == 0 { worlds::world(seed) } else { worlds::doubtful_world(seed) };
        let enforcers = NODES.map(|node| enforcer(BackendName::default(), &world, node.name));
        for flow in worlds::flows(&world).into_iter().filter(|flow| is_between_pods(&world, flow)) {
            let address = |end: &QueryEnd| address(&world, end, flow.family);
            let connection = net::Flow {
                source: address(&flow.source),
                destination: address(&flow.destination),
                port: Some((flow.protocol, flow.port)),
            };
            let allowed = enforcers.iter().all(|enforcer| enforcer.decide(&connection).is_allowed());
            // The plan knows only the addresses of the ends.
            let [source, destination] =
                [&flow.source, &flow.destination].map(|end| QueryEnd::Address(address(end)));
            let asked = FlowQuery { source, destination, ..flow.clone() };
            assert_eq!(allowed, oracle_allows(&world, &asked), "world {seed}, {flow:?}");
        }
    }
}

/// Flows of nodes and of pods that share their node's network never come to the plan's question.
fn is_between_pods(world: &World, flow: &FlowQuery) -> bool {
    [&flow.source, &flow.destination].into_iter().all(|end| match end {
        QueryEnd::Pod(index) => world.pods[*index].spec.host_network != Some(true),
        QueryEnd::Address(_) => true,
        QueryEnd::Node { .. } => false,
    })
}

pub(crate) fn address(world: &World, end: &QueryEnd, family: Family) -> IpAddr {
    match end {
        QueryEnd::Pod(index) => {
            let mut addresses = world.pods[*index].status.pod_ips.iter().filter_map(|ip| ip.ip.parse().ok());
            addresses.find(|address| Family::of(*address) == family).expect("an end of this family")
        }
        QueryEnd::Address(address) | QueryEnd::Node { address, .. } => *address,
    }
}
