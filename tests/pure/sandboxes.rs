//! Pods of which only the sandbox or only the object is known, or that have finished: what the rendered rules do with them.

use crate::equivalence::{address, oracle_allows, worlds};
use bridgewarden::api::Pod;
use bridgewarden::compile::UnknownPods;
use bridgewarden::controller::Enforcer;
use bridgewarden::explain::oracle::{FlowQuery, QueryEnd, World};
use bridgewarden::model::{Change, Sandbox, SandboxKey};
use bridgewarden::netfilter::BackendName;
use bridgewarden::netfilter::nftables::Table;
use bridgewarden::source::convert;
use std::time::Duration;
use support::backends::{BACKENDS, options};
use support::packets::{Judge, Rendered, facts};
use support::topology::NODES;
use support::worlds;

/// The sandbox that a pod's node has of it, if the pod is on the pod network there.
fn sandbox(pod: &Pod, node: &str) -> Option<Sandbox> {
    let addresses = convert::pod(pod).0.addresses;
    let key = SandboxKey::new(convert::pod(pod).0.key, "sandbox");
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
fn rules(
    backend: BackendName,
    world: &World,
    node: &str,
    sandboxes: &[Sandbox],
    unknown_pods: UnknownPods,
) -> Rendered {
    let mut enforcer = Enforcer::new(node, options(backend)).with_unknown_pods(unknown_pods);
    let sandboxes = sandboxes.iter().cloned().map(Change::Sandbox);
    facts(world).into_iter().chain(sandboxes).for_each(|fact| enforcer.apply(fact));
    Rendered(enforcer.ruleset())
}

#[test]
fn pod_whose_addresses_only_its_sandbox_reports_is_judged_as_if_the_api_reported_them() {
    for (seed, backend) in (0..worlds() / 5).flat_map(|seed| BACKENDS.map(|backend| (seed, backend))) {
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
            let by_sandbox = rules(backend, &lagging, node, &sandboxes, UnknownPods::Reject);
            assert_eq!(
                by_sandbox.0,
                rules(backend, &world, node, &[], UnknownPods::Reject).0,
                "world {seed}, {node}"
            );
        }
    }
}

/// The table of family inet without the addresses of local pods.
fn without_itself(rules: &Rendered) -> Option<Table> {
    let mut table = rules.0.inet.clone()?;
    table.sets.retain(|name, _| !name.starts_with("ITSELF-"));
    Some(table)
}

/// Its Pod object is not known: it exchanges traffic only with itself and its node.
#[test]
fn unknown_pod_is_closed_in_both_directions_or_open_as_if_it_had_no_sandbox() {
    let (mut denied, mut allowed) = (0_u64, 0_u64);
    for (seed, backend) in (0..worlds() / 5).flat_map(|seed| BACKENDS.map(|backend| (seed, backend))) {
        let world = worlds::world(seed);
        let here = |pod: &Pod| sandbox(pod, NODES[0].name);
        let Some(index) = world.pods.iter().position(|pod| here(pod).is_some()) else { continue };
        let mut lagging = world.clone();
        let sandbox = here(&lagging.pods.remove(index)).expect("a pod of this node");
        let open =
            rules(backend, &lagging, NODES[0].name, std::slice::from_ref(&sandbox), UnknownPods::Allow);
        let none = rules(backend, &lagging, NODES[0].name, &[], UnknownPods::Allow);
        assert_eq!(open.0.tables, none.0.tables, "world {seed}");
        assert_eq!(without_itself(&open), without_itself(&none), "world {seed}");
        let policies = |rules: &Rendered| {
            let sets = rules.0.sets.iter().filter(|(name, _)| !name.as_str().contains("LOCAL"));
            sets.map(|(name, set)| (name.clone(), set.clone())).collect::<Vec<_>>()
        };
        assert_eq!(policies(&open), policies(&none), "world {seed}");
        let closed = rules(backend, &lagging, NODES[0].name, &[sandbox], UnknownPods::Reject);
        let elsewhere = rules(backend, &World::default(), NODES[1].name, &[], UnknownPods::Allow);
        let judge = Judge::new(&world, [&closed, &elsewhere]);
        let is_its_node = |end: &QueryEnd| match end {
            QueryEnd::Pod(other) => {
                let pod = &world.pods[*other];
                pod.spec.host_network == Some(true) && pod.spec.node_name.as_deref() == Some(NODES[0].name)
            }
            QueryEnd::Node { name, .. } => name == NODES[0].name,
            QueryEnd::Address(_) => false,
        };
        let unknown = QueryEnd::Pod(index);
        for flow in worlds::flows(&world) {
            let other = match (flow.source == unknown, flow.destination == unknown) {
                (true, _) => &flow.destination,
                (false, true) => &flow.source,
                (false, false) => continue,
            };
            let expected = *other == unknown || is_its_node(other);
            assert_eq!(judge.allows(&flow), expected, "world {seed}, {flow:?}");
            *(if expected { &mut allowed } else { &mut denied }) += 1;
        }
    }
    assert!(allowed > 1_000 && denied > 10_000, "{allowed} allowed, {denied} denied");
}

/// Its phase is `Succeeded` or `Failed` and its sandbox still stands: it is guarded as before, and is no rule's peer.
#[test]
fn pod_that_has_finished_stays_guarded_while_its_sandbox_stands_and_is_no_peer() {
    let (mut guarded, mut lost) = (0_u64, 0_u64);
    for (seed, backend) in (0..worlds() / 5).flat_map(|seed| BACKENDS.map(|backend| (seed, backend))) {
        let world = worlds::world(seed);
        let here = |pod: &Pod| sandbox(pod, NODES[0].name);
        let Some(index) = world.pods.iter().position(|pod| here(pod).is_some()) else { continue };
        let sandbox = here(&world.pods[index]).expect("a pod of this node");
        let mut finished = world.clone();
        finished.pods[index].status.phase = Some("Failed".to_string());
        let after = rules(backend, &finished, NODES[0].name, &[sandbox], UnknownPods::Reject);
        let elsewhere = rules(backend, &World::default(), NODES[1].name, &[], UnknownPods::Allow);
        let judge = Judge::new(&world, [&after, &elsewhere]);
        let it = QueryEnd::Pod(index);
        for flow in worlds::flows(&world).into_iter().chain(worlds::flows_with_unassigned(&world)) {
            let is_no_pod = |end: &QueryEnd| matches!(end, QueryEnd::Address(_));
            if flow.source == it && is_no_pod(&flow.destination)
                || is_no_pod(&flow.source) && flow.destination == it
            {
                // Its named ports are no longer declared, so what they allowed may be denied.
                let allowed = oracle_allows(&world, &flow);
                guarded += u64::from(!allowed);
                assert!(allowed || !judge.allows(&flow), "world {seed}, {flow:?} is open");
            }
            // Rules that selected it as a peer no longer do.
            let is_local = |end: &QueryEnd| match end {
                QueryEnd::Pod(other) => here(&world.pods[*other]).is_some() && *other != index,
                QueryEnd::Address(_) | QueryEnd::Node { .. } => false,
            };
            let by_address = |end: &QueryEnd| {
                if *end == it { QueryEnd::Address(address(&world, end, flow.family)) } else { end.clone() }
            };
            if flow.source == it && is_local(&flow.destination)
                || is_local(&flow.source) && flow.destination == it
            {
                let (source, destination) = (by_address(&flow.source), by_address(&flow.destination));
                let without_it = oracle_allows(&finished, &FlowQuery { source, destination, ..flow.clone() });
                lost += u64::from(oracle_allows(&world, &flow) && !without_it);
                assert!(without_it || !judge.allows(&flow), "world {seed}, {flow:?} is open");
            }
        }
    }
    assert!(guarded > worlds() && lost > worlds() / 10, "{guarded} guarded, {lost} lost");
}
