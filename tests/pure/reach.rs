//! Who can reach whom: the grouped answer is the oracle's and the rendered rules', pair by pair and port by port.

use crate::equivalence::{address, oracle_allows, worlds};
use crate::explain::{key, snapshot};
use bridgewarden::explain::oracle::{FlowQuery, QueryEnd, World};
use bridgewarden::explain::{AskedPort, Case, CaseEnd, SnapshotJudge};
use bridgewarden::model::PodKey;
use bridgewarden::net::{Family, Protocol};
use bridgewarden::netfilter::BackendName;
use bridgewarden::reach::{
    ClassId, ClassMembers, Connectivity, Difference, PairDifference, Pairs, Reach, ReachName, ReachState,
};
use std::collections::BTreeMap;
use std::net::IpAddr;
use support::packets::{Judge, rules_of_both};
use support::topology::{NODES, Node};
use support::worlds::{self, addresses};

fn reach_of(world: &World) -> Reach {
    Reach::new(&snapshot(world))
}

/// The class of an end of a flow, as the pod `other` at the other end sees it. None for a pod on its node's network, and for
/// the node that the other is on, which policies do not restrict.
fn class(world: &World, reach: &Reach, end: &QueryEnd, other: &QueryEnd, family: Family) -> Option<ClassId> {
    match end {
        QueryEnd::Pod(index) => reach.class_of(&key(world, *index)),
        QueryEnd::Address(address) => Some(reach.class_of_address(*address)),
        QueryEnd::Node { name, .. } => {
            let QueryEnd::Pod(other) = other else { return None };
            let own = world.pods[*other].spec.node_name.as_deref() == Some(name);
            let node = Node::named(name)?;
            (!own).then(|| reach.class_of_address(node.address(family)))
        }
    }
}

/// Whether more than one pod that runs on the pod network shows an address: then what all of them may, it may.
fn is_contested(world: &World, address: IpAddr) -> bool {
    let holders = world.pods.iter().filter(|pod| {
        let finished = matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed"));
        !finished && pod.spec.host_network != Some(true) && addresses(pod).any(|own| own == address)
    });
    holders.count() > 1
}

/// What reach answers for a flow, and `None` where it says nothing of it.
fn answer(world: &World, reach: &Reach, pairs: &mut Pairs<'_>, flow: &FlowQuery) -> Option<Connectivity> {
    let [source, destination] = [&flow.source, &flow.destination].map(|end| address(world, end, flow.family));
    if source == destination || [source, destination].iter().any(|address| is_contested(world, *address)) {
        return None;
    }
    let from = class(world, reach, &flow.source, &flow.destination, flow.family)?;
    let to = class(world, reach, &flow.destination, &flow.source, flow.family)?;
    let from_nowhere = reach.classes()[from as usize].pods().is_empty();
    let to_nowhere = reach.classes()[to as usize].pods().is_empty();
    (!from_nowhere || !to_nowhere).then(|| pairs.between(from, to))
}

#[test]
fn reach_is_what_the_api_says_of_every_pair_and_port() {
    let mut asked = [0_u64; 2];
    for seed in 0..worlds() {
        let world = if seed % 4 == 3 { worlds::doubtful_world(seed) } else { worlds::world(seed) };
        let reach = reach_of(&world);
        let mut pairs = reach.pairs();
        let flows = worlds::flows(&world).into_iter().chain(worlds::flows_with_unassigned(&world));
        for flow in flows {
            let Some(answer) = answer(&world, &reach, &mut pairs, &flow) else { continue };
            let ports = pairs.ports(answer, flow.family).expect("both ends have this family");
            let wanted = oracle_allows(&world, &flow);
            asked[usize::from(wanted)] += 1;
            assert_eq!(ports.contains(flow.protocol, flow.port), wanted, "world {seed}, {flow:?}: {ports}");
        }
    }
    assert!(asked.iter().all(|count| *count > worlds() * 400), "{asked:?}");
}

#[test]
fn reach_allows_protocols_without_ports_where_rules_without_ports_do() {
    let mut asked = [0_u64; 2];
    for seed in 0..worlds() / 5 {
        let world = worlds::world(seed);
        let reduced = worlds::without_rules_of_ports(&world);
        let reach = reach_of(&world);
        let mut pairs = reach.pairs();
        let is_first = |flow: &FlowQuery| (flow.protocol, flow.port) == (Protocol::Tcp, 80);
        for flow in worlds::flows(&world).into_iter().filter(is_first) {
            let Some(answer) = answer(&world, &reach, &mut pairs, &flow) else { continue };
            let ports = pairs.ports(answer, flow.family).expect("both ends have this family");
            let wanted = oracle_allows(&reduced, &flow);
            asked[usize::from(wanted)] += 1;
            assert_eq!(ports.contains_others(), wanted, "world {seed}, {flow:?}: {ports}");
        }
    }
    assert!(asked.iter().all(|count| *count > worlds()), "{asked:?}");
}

/// Ends of connections of a family as `explain` knows them, with their classes: the pods that hold an address alone, and the first
/// and the last address of each prefix outside.
fn ends(world: &World, reach: &Reach, family: Family) -> Vec<(ClassId, CaseEnd)> {
    let mut ends = Vec::new();
    for (index, pod) in world.pods.iter().enumerate() {
        let address = addresses(pod).find(|address| Family::of(*address) == family);
        if let Some(class) = reach.class_of(&key(world, index))
            && reach.classes()[class as usize].has(family)
            && !address.is_some_and(|address| is_contested(world, address))
        {
            ends.push((class, CaseEnd::Pod { key: key(world, index), address }));
        }
    }
    for class in reach.classes() {
        let ClassMembers::Addresses(prefixes) = &class.members else { continue };
        for prefix in prefixes.iter().filter(|prefix| Family::of_net(**prefix) == family) {
            for address in [prefix.network(), prefix.broadcast()] {
                // Nodes reach their own pods, and pods have classes of their own.
                let is_pod = world.pods.iter().any(|pod| addresses(pod).any(|own| own == address));
                if !is_pod && NODES.iter().all(|node| node.address(family) != address) {
                    ends.push((reach.class_of_address(address), CaseEnd::Address(address)));
                }
            }
        }
    }
    ends
}

#[test]
fn reach_is_what_explain_answers_for_every_pair() {
    let mut asked = [0_u64; 3];
    for seed in 0..worlds() / 10 {
        let world = if seed % 4 == 3 { worlds::doubtful_world(seed) } else { worlds::world(seed) };
        let snapshot = snapshot(&world);
        let reach = Reach::new(&snapshot);
        let (judge, mut pairs) = (SnapshotJudge::new(&snapshot), reach.pairs());
        for family in Family::BOTH {
            let ends = ends(&world, &reach, family);
            for ((from, source), (to, destination)) in
                ends.iter().flat_map(|one| ends.iter().map(move |other| (one, other)))
            {
                let outside = |end: &CaseEnd| matches!(end, CaseEnd::Address(_));
                if source == destination || outside(source) && outside(destination) {
                    continue;
                }
                let (source, destination) = (source.clone(), destination.clone());
                let case = Case { source, destination, family, port: AskedPort::Any, replicas: false };
                let explained = judge.judge(&case).allowed;
                let answer = pairs.between(*from, *to);
                let reached = pairs.ports(answer, family).expect("both ends have this family");
                assert_eq!(reached, &explained, "reach (left) and explain (right): world {seed}, {case:?}");
                let kind = if explained.is_empty() { 0 } else { 1 + usize::from(explained.is_all()) };
                asked[kind] += 1;
            }
        }
    }
    assert!(asked.iter().all(|count| *count > worlds() * 10), "{asked:?}");
}

#[test]
fn reach_is_what_the_rendered_rules_do() {
    for seed in 0..worlds() / 10 {
        let world = worlds::world(seed);
        let reach = reach_of(&world);
        let mut pairs = reach.pairs();
        let rules = rules_of_both(BackendName::default(), &world);
        let judge = Judge::new(&world, [&rules[0], &rules[1]]);
        for flow in worlds::flows(&world) {
            let Some(answer) = answer(&world, &reach, &mut pairs, &flow) else { continue };
            let ports = pairs.ports(answer, flow.family).expect("both ends have this family");
            assert_eq!(
                judge.allows(&flow),
                ports.contains(flow.protocol, flow.port),
                "rules (left) and reach (right): world {seed}, {flow:?}: {ports}"
            );
        }
    }
}

/// Pods of one class are treated alike, so that one answer stands for all of them.
#[test]
fn reach_keeps_apart_what_policies_can_distinguish_and_nothing_else_of_equal_pods() {
    let mut shared = 0;
    for seed in 0..worlds() / 5 {
        let mut world = worlds::world(seed);
        // A second replica of each pod, which no policy can distinguish from the first.
        let replicas = world.pods.len();
        for index in 0..replicas {
            let mut replica = world.pods[index].clone();
            replica.metadata.name.push_str("-replica");
            replica.status.pod_ip = None;
            replica.status.pod_ips.clear();
            world.pods[index].status.pod_ip = None;
            world.pods[index].status.pod_ips.clear();
            world.pods.push(replica);
        }
        let reach = reach_of(&world);
        for index in 0..replicas {
            let (one, other) =
                (reach.class_of(&key(&world, index)), reach.class_of(&key(&world, index + replicas)));
            assert_eq!(one, other, "world {seed}, pod {index}");
            shared += u64::from(one.is_some());
        }
    }
    assert!(shared > worlds());
}

/// The place of each pod's group.
fn groups(difference: &Difference) -> BTreeMap<PodKey, usize> {
    let mut found = BTreeMap::new();
    for (place, group) in difference.groups.iter().enumerate() {
        for end in &group.ends {
            let ReachName::Workload { workload, .. } = end else { continue };
            assert_eq!(&*workload.kind, "Pod", "pods of these worlds have no owners");
            found.insert(
                PodKey { namespace: workload.namespace.clone(), name: workload.name.as_ref().into() },
                place,
            );
        }
    }
    found
}

/// Any two worlds: the same with other policies, and ones that have only the names of pods in common.
#[test]
fn difference_is_that_of_what_both_reach() {
    let mut changed = [0_u64; 2];
    for seed in 0..worlds() / 5 {
        let old = worlds::world(seed);
        let mut new = worlds::world(seed + 1);
        if seed % 2 == 0 {
            new = World { policies: new.policies, ..old.clone() };
        }
        let [before, after] = [&old, &new].map(snapshot);
        let (reach_before, reach_after) = (Reach::new(&before), Reach::new(&after));
        let difference = Difference::between(
            ReachState { snapshot: &before, reach: &reach_before },
            ReachState { snapshot: &after, reach: &reach_after },
        );
        let pairs: BTreeMap<(usize, usize), &PairDifference> =
            difference.pairs.iter().map(|pair| ((pair.from, pair.to), pair)).collect();
        let groups = groups(&difference);
        let (mut pairs_before, mut pairs_after) = (reach_before.pairs(), reach_after.pairs());
        for (from, from_group) in &groups {
            for (to, to_group) in groups.iter().filter(|(to, _)| *to != from) {
                let ports = |reach: &Reach, pairs: &mut Pairs<'_>, family| {
                    let ends = reach.class_of(from).zip(reach.class_of(to));
                    let answer = ends.map(|(from, to)| pairs.between(from, to));
                    answer.and_then(|answer| pairs.ports(answer, family).cloned()).unwrap_or_default()
                };
                for family in Family::BOTH {
                    let old = ports(&reach_before, &mut pairs_before, family);
                    let new = ports(&reach_after, &mut pairs_after, family);
                    let pair = pairs.get(&(*from_group, *to_group));
                    let found = pair.and_then(|pair| pair.families.iter().find(|own| own.family == family));
                    changed[usize::from(old == new)] += 1;
                    match found {
                        Some(found) => {
                            assert_eq!((&found.old, &found.new), (&old, &new), "worlds {seed}: {from} {to}")
                        }
                        None => assert_eq!(old, new, "worlds {seed}: {from} {to} {family}"),
                    }
                }
            }
        }
    }
    assert!(changed.iter().all(|count| *count > worlds()), "{changed:?}");
}
