//! What `explain` answers is what the API says and what the rendered rules do, and what `--fix` prints allows what was asked for and
//! nothing else.

use crate::equivalence::{address, oracle_allows, worlds};
use bridgewarden::explain::oracle::{self, FlowQuery, QueryEnd, World};
use bridgewarden::explain::{
    AskedPort, Case, CaseEnd, DestinationName, EndName, NoFix, PortName, SnapshotJudge, are_alike, ask, fix,
};
use bridgewarden::model::{NamespaceName, PodKey, Snapshot};
use bridgewarden::net::{Family, Verdict};
use bridgewarden::source::convert;
use support::backends::BACKENDS;
use support::packets::{Judge, rules_of_both};
use support::topology::NODES;
use support::worlds;

/// The world as `explain` knows it.
pub(crate) fn snapshot(world: &World) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for namespace in world.namespaces.iter().map(convert::namespace) {
        snapshot.namespaces.insert(namespace.name.clone(), namespace);
    }
    for (pod, _) in world.pods.iter().map(convert::pod) {
        snapshot.pods.insert(pod.key.clone(), pod);
    }
    for policy in world.policies.iter().map(convert::policy) {
        snapshot.policies.insert(policy.key.clone(), policy);
    }
    for node in NODES {
        snapshot.nodes.insert(node.name.into(), Family::BOTH.map(|family| node.address(family)).to_vec());
    }
    snapshot
}

pub(crate) fn key(world: &World, index: usize) -> PodKey {
    convert::pod(&world.pods[index]).0.key
}

fn end(world: &World, end: &QueryEnd, family: Family) -> CaseEnd {
    let address = Some(address(world, end, family));
    match end {
        QueryEnd::Pod(index) if world.pods[*index].spec.host_network == Some(true) => {
            CaseEnd::Node { name: world.pods[*index].spec.node_name.as_deref().map(Into::into), address }
        }
        QueryEnd::Pod(index) => CaseEnd::Pod { key: key(world, *index), address },
        QueryEnd::Address(address) => CaseEnd::Address(*address),
        QueryEnd::Node { name, address } => {
            CaseEnd::Node { name: Some(name.as_str().into()), address: Some(*address) }
        }
    }
}

fn case(world: &World, flow: &FlowQuery) -> Case {
    Case {
        source: end(world, &flow.source, flow.family),
        destination: end(world, &flow.destination, flow.family),
        family: flow.family,
        port: AskedPort::One(flow.protocol, flow.port),
        replicas: false,
    }
}

fn allows(judge: &SnapshotJudge<'_>, world: &World, flow: &FlowQuery) -> bool {
    judge.judge(&case(world, flow)).verdict() == Verdict::Allowed
}

#[test]
fn explained_verdict_is_that_of_the_api_and_of_the_rendered_rules() {
    for seed in 0..worlds() / 2 {
        let world = if seed % 2 == 0 { worlds::world(seed) } else { worlds::doubtful_world(seed) };
        let snapshot = snapshot(&world);
        let judge = SnapshotJudge::new(&snapshot);
        for flow in worlds::flows(&world) {
            let answer = judge.judge(&case(&world, &flow));
            let allowed = answer.verdict() == Verdict::Allowed;
            assert_eq!(allowed, oracle_allows(&world, &flow), "world {seed}, {flow:?}: {answer:#?}");
            let audits = oracle::would_deny(&world, &flow).expect("flows worth probing are possible");
            let explained = answer.sides.iter().any(|side| side.would_deny);
            assert_eq!(
                allowed && explained,
                allowed && !audits.is_empty(),
                "world {seed}, {flow:?}: {answer:#?}"
            );
        }
        if seed % 20 != 0 {
            continue;
        }
        let rules = BACKENDS.map(|backend| rules_of_both(backend, &world));
        for [a, b] in &rules {
            let rendered = Judge::new(&world, [a, b]);
            for flow in worlds::flows(&world) {
                assert_eq!(allows(&judge, &world, &flow), rendered.allows(&flow), "world {seed}, {flow:?}");
            }
        }
    }
}

/// The ports that are open without a question for one are those that are open with it.
#[test]
fn question_without_a_port_lists_the_ports_that_questions_with_one_find_open() {
    for seed in 0..worlds() / 10 {
        let world = worlds::world(seed);
        let snapshot = snapshot(&world);
        let judge = SnapshotJudge::new(&snapshot);
        for flow in worlds::flows(&world) {
            let any = judge.judge(&Case { port: AskedPort::Any, ..case(&world, &flow) });
            let open = any.allowed.contains(flow.protocol, flow.port);
            assert_eq!(open, allows(&judge, &world, &flow), "world {seed}, {flow:?}");
        }
    }
}

/// How an end of a flow is written.
fn name(world: &World, end: &QueryEnd) -> EndName {
    let object = |namespace: Option<String>, kind: Option<&str>, name: String| EndName::Object {
        namespace,
        kind: kind.map(str::to_owned),
        name,
    };
    match end {
        QueryEnd::Pod(index) => {
            let PodKey { namespace, name } = key(world, *index);
            object(Some(namespace.to_string()), None, name.to_string())
        }
        QueryEnd::Address(address) => EndName::Address(*address),
        QueryEnd::Node { name, .. } => object(None, Some("node"), name.clone()),
    }
}

#[test]
fn fix_allows_what_was_asked_for_and_nothing_else() {
    let (mut tried, mut refused) = (0, 0);
    for seed in 0..worlds() / 20 {
        let world = worlds::world(seed);
        let before = snapshot(&world);
        let judge = SnapshotJudge::new(&before);
        let flows = worlds::flows(&world);
        let denied = flows.iter().filter(|flow| !allows(&judge, &world, flow));
        // Some of them, in all parts of the list.
        for asked in denied.skip(seed as usize % 50).step_by(601) {
            let destination = DestinationName {
                end: name(&world, &asked.destination),
                port: Some(PortName::Number(asked.port)),
                protocol: Some(asked.protocol),
            };
            let namespace = NamespaceName::new("default");
            let source = name(&world, &asked.source);
            let answer = ask(&judge, &namespace, &source, &destination).expect("the names mean something");
            let fixed = match fix(&before, &answer) {
                Ok(fixed) => fixed,
                Err(NoFix::NotFound) => {
                    refused += 1;
                    continue;
                }
                Err(error) => panic!("world {seed}, {asked:?}: {error}"),
            };
            let mut after = before.clone();
            after.policies.extend(fixed.policies.iter().map(|policy| (policy.key.clone(), policy.clone())));
            let fixed_judge = SnapshotJudge::new(&after);
            assert!(allows(&fixed_judge, &world, asked), "world {seed}, {asked:?}: {fixed:#?}");
            for flow in &flows {
                let (was, is) = (allows(&judge, &world, flow), allows(&fixed_judge, &world, flow));
                let is_asked = (flow.protocol, flow.port) == (asked.protocol, asked.port)
                    && is_the_same(&before, &world, &flow.source, &asked.source)
                    && is_the_same(&before, &world, &flow.destination, &asked.destination);
                assert!(is || !was, "world {seed}, {asked:?} closes {flow:?}: {fixed:#?}");
                assert!(was || !is || is_asked, "world {seed}, {asked:?} opens {flow:?}: {fixed:#?}");
            }
            tried += 1;
        }
    }
    assert!(tried > worlds() / 20 && refused * 20 < tried, "{tried} tried, {refused} refused");
}

/// Whether two ends are one to every policy: the same address, or pods whose labels are the same.
fn is_the_same(snapshot: &Snapshot, world: &World, one: &QueryEnd, other: &QueryEnd) -> bool {
    let ends = Family::BOTH.map(|family| {
        let at = |end: &QueryEnd| match end {
            QueryEnd::Pod(index) => {
                worlds::addresses(&world.pods[*index]).find(|it| Family::of(*it) == family)
            }
            QueryEnd::Address(address) | QueryEnd::Node { address, .. } => {
                Some(*address).filter(|it| Family::of(*it) == family)
            }
        };
        at(one).is_some() && at(one) == at(other)
    });
    let alike = match (one, other) {
        (QueryEnd::Pod(one), QueryEnd::Pod(other)) => {
            let pods = [one, other].map(|index| snapshot.pods.get(&key(world, *index)));
            matches!(pods, [Some(one), Some(other)] if one.networked && other.networked && are_alike(one, other))
        }
        (QueryEnd::Node { name: one, .. }, QueryEnd::Node { name: other, .. }) => one == other,
        _ => false,
    };
    alike || ends.contains(&true)
}
