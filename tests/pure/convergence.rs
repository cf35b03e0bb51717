//! However the cluster came to be what it is, the kernel ends up as if it had always been so, and on the way there
//! nothing opens.

use bridgewarden::api::Pod;
use bridgewarden::apply::{PacketFilter, Step};
use bridgewarden::compile::Subject;
use bridgewarden::explain::oracle::{FlowQuery, QueryEnd};
use bridgewarden::net::{Family, Protocol};
use bridgewarden::netfilter::BackendName;
use bridgewarden::netfilter::nftables::{self, TableFamily};
use bridgewarden::ownership::INET_TABLE;
use bridgewarden::source::convert;
use support::backends::{BACKENDS, check_backends};
use support::outcome::{allowed, assert_as_from_scratch, sample};
use support::story_node::{Order, StoryNode};
use support::topology::NODES;
use support::worlds::{self, Change, Random, Story, check_stories};

fn stories() -> impl Iterator<Item = (u64, Story)> {
    worlds::stories(150)
}

#[test]
fn every_change_leaves_the_kernel_as_if_it_had_always_been_so() {
    check_backends(stories(), |backend, seed, story| {
        for name in NODES.map(|node| node.name) {
            let mut world = story.start.clone();
            let mut node = StoryNode::start(backend, name, &world, Order::Usual);
            for (at, change) in story.changes.iter().enumerate() {
                change.apply(&mut world);
                node.apply(change);
                node.flush();
                assert_as_from_scratch(
                    &node,
                    name,
                    &world,
                    &format!("story {seed}, change {at}: {change:?}"),
                );
            }
        }
    });
}

/// Checks that the stories above are worth it: how often a sandbox decides.
#[test]
fn stories_are_full_of_sandboxes_that_decide() {
    let (mut closed, mut known_early, mut taken) = (0, 0, 0);
    check_stories(stories(), |_, story| {
        let mut scene = story.start.clone();
        let mut node = StoryNode::start(BackendName::default(), "node-a", &scene, Order::Usual);
        for change in &story.changes {
            change.apply(&mut scene);
            node.apply(change);
            let cluster = node.enforcer.cluster();
            let subjects = node.enforcer.plan().isolations().keys();
            closed += subjects.filter(|subject| matches!(subject, Subject::Unknown(_))).count();
            taken += scene
                .sandboxes_of("node-a")
                .filter(|sandbox| {
                    let here = cluster.addresses_of_unknown(&sandbox.key);
                    let unknown = cluster.unknown_sandboxes().any(|(key, _)| *key == sandbox.key);
                    unknown && here.len() < sandbox.addresses.len()
                })
                .count();
            known_early += scene
                .pods
                .iter()
                .filter(|pod| {
                    let pod = convert::pod(pod).0;
                    cluster.pod(&pod.key).is_some_and(|(addresses, _)| addresses.len() > pod.addresses.len())
                })
                .count();
        }
    });
    assert!(
        closed > 300 && known_early > 300 && taken > 100,
        "{closed} unknown and closed, {known_early} known by sandbox, {taken} unknown at others' addresses"
    );
}

#[test]
fn order_of_the_first_lists_does_not_matter() {
    check_backends(stories(), |backend, seed, story| {
        let node = StoryNode::start(backend, "node-a", &story.start, Order::Reversed);
        assert_as_from_scratch(&node, "node-a", &story.start, &format!("story {seed}"));
    });
}

#[test]
fn changes_gathered_into_one_flush_end_where_single_ones_do() {
    check_backends(stories(), |backend, seed, story| {
        let mut random = Random::new(seed);
        let mut world = story.start.clone();
        let mut node = StoryNode::start(backend, "node-a", &world, Order::Usual);
        for change in &story.changes {
            change.apply(&mut world);
            node.apply(change);
            if random.chance(25) {
                node.flush();
                assert_as_from_scratch(&node, "node-a", &world, &format!("story {seed}"));
            }
        }
    });
}

/// A pod's address may pass to another pod before the first one is known to be gone: for that moment both hold it.
#[test]
fn address_taken_over_before_its_old_pod_is_gone_stays_in_the_sets_of_the_new_one() {
    let mut taken_over = 0;
    check_backends(stories(), |backend, seed, story| {
        let mut random = Random::new(seed);
        let mut world = story.start.clone();
        let mut node = StoryNode::start(backend, "node-a", &world, Order::Usual);
        let holders: Vec<Pod> = story.start.pods.iter().filter(|pod| holds_addresses(pod)).cloned().collect();
        let old = random.pick(&holders).clone();
        let mut heir = random.pick(&holders).clone();
        heir.metadata.name = "heir".into();
        heir.status.pod_ips = old.status.pod_ips.clone();
        taken_over += usize::from(heir.metadata.labels != old.metadata.labels);
        let story = [
            Change::Pod(heir),
            Change::PodGone {
                namespace: old.metadata.namespace.expect("pods are in a namespace"),
                name: old.metadata.name,
            },
        ];
        for change in story {
            change.apply(&mut world);
            node.apply(&change);
            node.flush();
            assert_as_from_scratch(&node, "node-a", &world, &format!("story {seed}: {change:?}"));
        }
    });
    assert!(taken_over > 50, "only {taken_over} addresses passed to a pod with other labels");
}

fn holds_addresses(pod: &Pod) -> bool {
    let finished = matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed"));
    !finished && pod.spec.host_network != Some(true) && !pod.status.pod_ips.is_empty()
}

#[test]
fn restart_after_missed_changes_converges() {
    check_backends(stories(), |backend, seed, story| {
        let mut world = story.start.clone();
        let mut node = StoryNode::start(backend, "node-a", &world, Order::Usual);
        for change in &story.changes {
            change.apply(&mut world);
        }
        node.restart(&world);
        assert_as_from_scratch(&node, "node-a", &world, &format!("story {seed}"));
    });
}

#[test]
fn failed_step_is_made_good_by_the_next_sync() {
    check_backends(stories(), |backend, seed, story| {
        let mut random = Random::new(seed);
        let mut world = story.start.clone();
        let mut node = StoryNode::start(backend, "node-a", &world, Order::Usual);
        for change in &story.changes {
            change.apply(&mut world);
            node.apply(change);
            let flush = node.enforcer.flush();
            node.kernel.fail_after(random.below(5));
            let failed = node.commit(&flush.steps).is_err();
            node.kernel.fail_after(usize::MAX);
            if failed {
                node.adopt().unwrap_or_else(|error| panic!("story {seed}: {error}"));
            }
            assert_as_from_scratch(&node, "node-a", &world, &format!("story {seed}"));
        }
    });
}

#[test]
fn strangers_edits_are_undone_and_their_own_rules_left_alone() {
    check_stories(stories().take(30), |seed, story| {
        let mut node = StoryNode::start(BackendName::IptablesNft, "node-a", &story.start, Order::Usual);
        let table = node.kernel.table(Family::V4);
        table.insert("THEIRS".into(), vec!["-s 10.0.0.1/32 -j ACCEPT".into()]);
        let forward = table.get_mut("FORWARD").expect("a built-in chain");
        forward.insert(0, "-j THEIRS".into());
        for rules in table.values_mut() {
            rules.retain(|rule| !rule.contains("REJECT"));
        }
        node.enforcer.invalidate();
        node.adopt().unwrap_or_else(|error| panic!("story {seed}: {error}"));
        let table = node.kernel.table(Family::V4);
        assert_eq!(table.remove("THEIRS"), Some(vec!["-s 10.0.0.1/32 -j ACCEPT".into()]));
        let forward = table.get_mut("FORWARD").expect("a built-in chain");
        assert_eq!(*forward, ["-j KUBE-NWPLCY-FORWARD", "-j THEIRS"]);
        forward.pop();
        assert_as_from_scratch(&node, "node-a", &story.start, &format!("story {seed}"));
    });
}

#[test]
fn edits_of_the_table_by_other_programs_are_undone() {
    check_stories(stories().take(60), |seed, story| {
        let mut random = Random::new(seed);
        let mut node = StoryNode::start(BackendName::Nftables, "node-a", &story.start, Order::Usual);
        let key = (TableFamily::Inet, INET_TABLE.into());
        let tables = node.kernel.tables_of_nft();
        let table = tables.get_mut(&key).expect("our table");
        for chain in table.chains.values_mut().filter(|_| random.chance(20)) {
            chain.rules.clear();
        }
        for set in table.sets.values_mut() {
            let left = set.elements.iter().filter(|_| random.chance(80));
            set.elements = left.map(|(key, verdict)| (key, verdict.cloned())).collect();
        }
        let chain = nftables::Chain { base: None, rules: vec![nftables::Rule::when().accept()] };
        table.chains.insert("theirs".into(), chain);
        table.counters.insert("theirs".into());
        if random.chance(20) {
            tables.remove(&key);
        }
        node.enforcer.invalidate();
        node.adopt().unwrap_or_else(|error| panic!("story {seed}: {error}"));
        assert_as_from_scratch(&node, "node-a", &story.start, &format!("story {seed}"));
        assert_eq!(node.adopt().expect("it is read").steps, [], "story {seed}");
    });
}

/// Wherever an apply stops, it allows nothing that both the old rules and the new ones deny.
#[test]
fn stopping_after_any_step_never_opens_what_old_and_new_refuse() {
    let mut checked = 0_u64;
    check_backends(stories(), |backend, seed, story| {
        let mut random = Random::new(seed);
        let mut world = story.start.clone();
        let mut node = StoryNode::start(backend, "node-a", &world, Order::Usual);
        for change in &story.changes {
            change.apply(&mut world);
            node.apply(change);
            if random.chance(40) {
                continue;
            }
            let steps = node.enforcer.flush().steps;
            let flows = sample(&mut random, &world);
            let before = allowed(&world, &node.kernel, &flows);
            let mut between = Vec::new();
            for together in steps.chunk_by(Step::goes_with) {
                for left_out in together.iter().filter(|_| together.len() > 1) {
                    let mut kernel = node.kernel.clone();
                    let done = together.iter().filter(|step| *step != left_out);
                    done.for_each(|step| kernel.commit(step).expect("it is one of those that were done"));
                    between.push(allowed(&world, &kernel, &flows));
                }
                for step in together {
                    node.kernel.commit(step).unwrap_or_else(|error| panic!("story {seed}: {error}"));
                    between.push(allowed(&world, &node.kernel, &flows));
                }
            }
            let after = allowed(&world, &node.kernel, &flows);
            for (at, now) in between.iter().enumerate() {
                for (flow, ((old, now), new)) in flows.iter().zip(before.iter().zip(now).zip(&after)) {
                    checked += 1;
                    assert!(
                        !now || *old || *new,
                        "story {seed}: {flow:?} is open in state {at} on the way through {steps:#?}"
                    );
                }
            }
        }
    });
    assert!(checked > 50_000, "only {checked} looks");
}

/// Two rules change places, and the apply is stopped after every step it has: never is a rule's port open to the other
/// rule's peer.
#[test]
fn reordered_rules_never_pair_new_peers_with_old_ports() {
    let read = |policy: &str| {
        let pods = [("web", 10), ("one", 11), ("two", 12)].map(|(name, last)| {
            format!(
                "---\napiVersion: v1\nkind: Pod\nmetadata: {{namespace: n, name: {name}, labels: {{app: {name}}}}}\n\
                 spec: {{nodeName: node-a}}\nstatus: {{podIPs: [{{ip: 10.244.1.{last}}}]}}\n"
            )
        });
        let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: n}\n";
        support::manifest::parse(&format!("{namespace}{}---\n{policy}", pods.concat())).expect("it reads")
    };
    let rule = |app: &str, port: u16| {
        format!("{{from: [{{podSelector: {{matchLabels: {{app: {app}}}}}}}], ports: [{{port: {port}}}]}}")
    };
    let policy = |first: String, second: String| {
        read(&format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{namespace: n, name: p}}\n\
             spec: {{podSelector: {{matchLabels: {{app: web}}}}, ingress: [{first}, {second}]}}\n"
        ))
    };
    let old = policy(rule("one", 80), rule("two", 81));
    let new = policy(rule("two", 81), rule("one", 80));
    for backend in BACKENDS {
        let mut node = StoryNode::start(backend, "node-a", &old.clone().into(), Order::Usual);
        node.apply(&Change::Policy(new.policies[0].clone()));
        let steps = node.enforcer.flush().steps;
        assert!(!steps.is_empty());
        let leak = |app: usize, port: u16| FlowQuery {
            source: QueryEnd::Pod(app),
            destination: QueryEnd::Pod(0),
            protocol: Protocol::Tcp,
            port,
            family: Family::V4,
        };
        for stop in 0..=steps.len() {
            let mut node = node.clone();
            node.commit(&steps[..stop]).expect("the kernel takes the steps");
            assert_eq!(
                allowed(&new, &node.kernel, &[leak(1, 81), leak(2, 80)]),
                [false, false],
                "after step {stop}"
            );
            assert_eq!(
                allowed(&new, &node.kernel, &[leak(1, 80), leak(2, 81)]),
                [true, true],
                "after step {stop}"
            );
        }
    }
}
