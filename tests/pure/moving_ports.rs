//! Ports of the bridge are added, removed, renamed and reused in random stories, and every frame is treated by the pod
//! behind its ingress port. The kernel is in memory; `tests/ways_past` sends real frames.

use bridgewarden::apply::Fake;
use bridgewarden::explain::oracle::{FlowQuery, QueryEnd, Ruling, decide};
use bridgewarden::model::{BridgePort, LinkChange};
use bridgewarden::net::{Family, Protocol};
use bridgewarden::netfilter::BackendName;
use bridgewarden::netfilter::iptables::Packet;
use bridgewarden::netfilter::nftables::{HookPoint, TableFamily};
use bridgewarden::ownership::BRIDGE_TABLE;
use bridgewarden::source::convert;
use std::collections::BTreeMap;
use std::net::IpAddr;
use support::backends::{BACKENDS, check_backends};
use support::frame;
use support::outcome::{assert_as_from_scratch, content};
use support::packets::{Judge, Rules};
use support::ports::{Behind, Crossing, Ports, crosses, differing};
use support::story_node::{Order, StoryNode};
use support::topology::NODES;
use support::worlds::{self, Change, Random, Scene, Story, check_stories};

fn stories() -> impl Iterator<Item = (u64, Story)> {
    worlds::stories_with_ports(100)
}

fn follow(node: &mut StoryNode, world: &mut Scene, change: &Change) {
    change.apply(world);
    node.apply(change);
    node.flush();
}

fn name_of(behind: Option<&Behind>) -> &'static str {
    match behind {
        None => "gone",
        Some(Behind::Network) => "network",
        Some(Behind::Exempt) => "exempt",
        Some(Behind::NoPod) => "no pod",
        Some(Behind::Pod(pod)) if pod.addresses.is_empty() => "pod whose addresses are others'",
        Some(Behind::Pod(pod)) if pod.egress => "isolated",
        Some(Behind::Pod(_)) => "free",
    }
}

#[test]
fn after_every_change_a_frame_is_treated_by_who_is_behind_its_port() {
    let mut seen: BTreeMap<(&str, bool), usize> = BTreeMap::new();
    check_backends(stories(), |backend, seed, story| {
        let mut random = Random::new(seed);
        for place in NODES {
            let mut world = story.start.clone();
            let mut node = StoryNode::start(backend, place.name, &world, Order::Usual);
            for (at, change) in story.changes.iter().enumerate() {
                follow(&mut node, &mut world, change);
                let ports = Ports::of(&world, place.name);
                let crossings: Vec<_> =
                    (0..40).map(|_| Crossing::random(&mut random, &ports, place)).collect();
                let found = differing(&mut node.kernel, &ports, &crossings);
                assert!(
                    found.is_empty(),
                    "story {seed}, {}, change {at}: {change:?}: {found:#?}",
                    place.name
                );
                for crossing in crossings {
                    let passes = ports.lets_in(crossing.from, &crossing.sent);
                    *seen.entry((name_of(ports.behind.get(&crossing.from)), passes)).or_default() += 1;
                }
            }
        }
    });
    let total = stories().count();
    for behind in ["isolated", "free", "no pod"] {
        for passes in [true, false] {
            let count = seen.get(&(behind, passes)).copied().unwrap_or_default();
            assert!(count > 50 * total, "{behind}, passes: {passes}: {count}: {seen:?}");
        }
    }
    for behind in ["gone", "network", "exempt"] {
        assert!(seen.get(&(behind, true)).is_some_and(|count| *count > 10 * total), "{behind}: {seen:?}");
    }
    assert!(
        seen.get(&("pod whose addresses are others'", false)).is_some_and(|count| *count > total),
        "{seen:?}"
    );
}

/// The frames above notice a kernel that holds the chain of one port in place of another's.
#[test]
fn frames_find_a_port_that_is_treated_as_another_is() {
    let mut found = 0;
    check_stories(stories().take(20), |seed, story| {
        let [place, _] = NODES;
        let mut random = Random::new(seed);
        let mut node = StoryNode::start(BackendName::IptablesNft, place.name, &story.start, Order::Usual);
        let ports = Ports::of(&story.start, place.name);
        let crossings: Vec<_> = (0..200).map(|_| Crossing::random(&mut random, &ports, place)).collect();
        assert_eq!(differing(&mut node.kernel, &ports, &crossings), Vec::<String>::new());
        let table = node
            .kernel
            .tables_of_nft()
            .get_mut(&(TableFamily::Bridge, BRIDGE_TABLE.into()))
            .expect("the table of ports");
        let from = &mut table.sets.get_mut("from").expect("a map").elements;
        let first = from.verdicts().next().cloned().expect("a port");
        *from = from.keys().map(|key| (key, Some(first.clone()))).collect();
        found += usize::from(!differing(&mut node.kernel, &ports, &crossings).is_empty());
    });
    assert_eq!(found, 20);
}

/// What the rules make of the packets in frames; they see only those that policies judge.
fn judged(kernel: &Fake, crossings: &[Crossing]) -> Vec<bool> {
    let filter = kernel.filter();
    let passes = |packet: Packet| filter.allows(HookPoint::Forward, &packet);
    crossings.iter().map(|crossing| crossing.packet().is_none_or(passes)).collect()
}

/// How a port changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Difference {
    Nothing,
    /// Its pod is isolated, or is no longer.
    Isolation,
    /// Another pod is behind it, or its pod has other addresses.
    Pod,
}

fn difference(old: Option<&Behind>, new: Option<&Behind>) -> Difference {
    match (old, new) {
        (old, new) if old == new => Difference::Nothing,
        (Some(Behind::Pod(old)), Some(Behind::Pod(new)))
            if (&old.addresses, old.hardware) == (&new.addresses, new.hardware) =>
        {
            Difference::Isolation
        }
        _ => Difference::Pod,
    }
}

/// Whether each frame crosses, and whether it is also one that the rules let pass, as `judged` says.
fn look(node: &mut StoryNode, crossings: &[Crossing], judged: &[bool]) -> Vec<[bool; 2]> {
    let crosses = crossings.iter().map(|crossing| crossing.crosses(&mut node.kernel));
    crosses.zip(judged).map(|(crosses, judged)| [crosses, crosses && *judged]).collect()
}

/// A port whose pod changes may hold up for a moment what that pod keeps sending. Isolation follows the rules, so what it stops
/// and rules may allow, frames to groups or to an address that the receiver does not have, passes for a moment.
#[test]
fn stopping_after_any_step_carries_no_frame_that_old_and_new_refuse() {
    let (mut checked, mut held_up) = (0_u64, 0_u64);
    check_backends(stories(), |backend, seed, story| {
        let [place, _] = NODES;
        let mut random = Random::new(seed);
        let mut world = story.start.clone();
        let mut node = StoryNode::start(backend, place.name, &world, Order::Usual);
        let mut old_ports = Ports::of(&world, place.name);
        for change in &story.changes {
            change.apply(&mut world);
            node.apply(change);
            if random.chance(40) {
                continue;
            }
            let new_ports = Ports::of(&world, place.name);
            let sides = (0..60).map(|at| if at % 2 == 0 { &old_ports } else { &new_ports });
            let crossings: Vec<_> = sides.map(|ports| Crossing::random(&mut random, ports, place)).collect();
            let mut by_rules = judged(&node.kernel, &crossings);
            let before = look(&mut node, &crossings, &by_rules);
            let steps = node.enforcer.flush().steps;
            let mut between = Vec::new();
            for step in &steps {
                node.commit(std::slice::from_ref(step))
                    .unwrap_or_else(|error| panic!("story {seed}: {error}"));
                by_rules = judged(&node.kernel, &crossings);
                between.push(look(&mut node, &crossings, &by_rules));
            }
            let after = look(&mut node, &crossings, &by_rules);
            for (at, crossing) in crossings.iter().enumerate() {
                let ends = [crossing.from, crossing.to];
                let behind = ends.map(|port| [old_ports.behind.get(&port), new_ports.behind.get(&port)]);
                let differences = behind.map(|[old, new]| difference(old, new));
                let follows = !crossing.is_to(behind[1][1]) && differences.contains(&Difference::Isolation);
                for (state, now) in between.iter().enumerate() {
                    checked += 1;
                    let [[crosses, passes], old, new] = [now[at], before[at], after[at]];
                    let context = || {
                        format!(
                            "story {seed}, {change:?}, state {state}: {crossing:?} between {behind:?}, {steps:?}"
                        )
                    };
                    assert!(!crosses || old[0] || new[0], "crosses: {}", context());
                    assert!(!passes || old[1] || new[1] || follows, "passes: {}", context());
                    if !crosses && old[0] && new[0] {
                        held_up += 1;
                        assert!(differences.contains(&Difference::Pod), "held up: {}", context());
                    }
                }
            }
            old_ports = new_ports;
        }
    });
    let total = stories().count() as u64;
    assert!(checked > 1000 * total, "only {checked} looks");
    assert!(held_up * 500 < checked, "{held_up} of {checked} frames are held up");
}

#[test]
fn restart_after_missed_moves_of_ports_ends_where_one_that_saw_them_does_and_writes_nothing_there() {
    check_backends(stories(), |backend, seed, story| {
        for place in NODES {
            let mut world = story.start.clone();
            let mut missed = StoryNode::start(backend, place.name, &world, Order::Usual);
            let mut node = missed.clone();
            story.changes.iter().for_each(|change| follow(&mut node, &mut world, change));
            missed.restart(&world);
            assert_eq!(content(&missed.kernel), content(&node.kernel), "story {seed}");
            assert_eq!(node.restart(&world).steps, [], "story {seed}");
        }
    });
}

/// A name is only how a result and a port find each other.
#[test]
fn renamed_port_keeps_its_pod_and_who_gets_its_old_name_gets_the_pod_when_that_port_is_gone() {
    const OTHER: u32 = 30;
    let mut renamed = 0;
    check_backends(stories(), |backend, seed, story| {
        let [place, _] = NODES;
        let mut random = Random::new(seed);
        let mut world = story.start.clone();
        let mut node = StoryNode::start(backend, place.name, &world, Order::Usual);
        let known = random.below(story.changes.len() + 1);
        story.changes[..known].iter().for_each(|change| follow(&mut node, &mut world, change));
        let mut ports = Ports::of(&world, place.name);
        let results = |port: &BridgePort| {
            world.sandboxes_of(place.name).filter(|sandbox| sandbox.devices.contains(&port.name)).count()
        };
        let bound: Vec<BridgePort> =
            world.ports_of(place.name).filter(|port| port.is_veth && results(port) == 1).cloned().collect();
        if bound.is_empty() {
            return;
        }
        renamed += 1;
        let old = random.pick(&bound).clone();
        let link = |change| Change::Link(place.name, change);
        node.apply(&link(LinkChange::Port(BridgePort { name: "renamed".into(), ..old.clone() })));
        assert_eq!(node.enforcer.flush().steps, [], "story {seed}: {old:?}");
        let heir = link(LinkChange::Port(BridgePort { index: OTHER, ..old.clone() }));
        follow(&mut node, &mut world, &heir);
        ports.behind.insert(OTHER, Behind::NoPod);
        let crossings: Vec<_> = (0..200).map(|_| Crossing::random(&mut random, &ports, place)).collect();
        let found = differing(&mut node.kernel, &ports, &crossings);
        assert!(found.is_empty(), "story {seed}: {found:#?}");
        follow(&mut node, &mut world, &link(LinkChange::PortGone(old.index)));
        assert_as_from_scratch(&node, place.name, &world, &format!("story {seed}: {old:?}"));
    });
    assert!(renamed * 10 > stories().count() * 8, "only {renamed} ports are renamed");
}

/// The packet of a flow in a frame from one pod to the other.
fn frame_of(flow: &FlowQuery, [source, destination]: [IpAddr; 2]) -> Vec<u8> {
    let ports = [40_000, flow.port];
    let (protocol, payload) = match flow.protocol {
        Protocol::Tcp => (frame::TCP, frame::tcp(source, destination, ports, [1, 0], frame::SYN, &[])),
        Protocol::Udp => (frame::UDP, frame::udp(source, destination, ports, b"letter")),
        Protocol::Sctp => (132, [&ports.map(u16::to_be_bytes).concat()[..], &[0; 8]].concat()),
    };
    frame::ip(source, destination, protocol, &payload)
}

#[test]
fn ports_and_rules_together_carry_between_pods_of_a_node_what_the_api_allows() {
    let (mut allowed, mut denied) = (0, 0);
    for seed in 0..worlds::how_many("BRIDGEWARDEN_WORLDS", 600) {
        let mut random = Random::new(seed);
        let mut scene = Scene::from(worlds::world(seed));
        worlds::attach_pods(&mut scene, &mut random);
        let backend = BACKENDS[seed as usize % BACKENDS.len()];
        let mut nodes = NODES.map(|node| StoryNode::start(backend, node.name, &scene, Order::Usual));
        let flows: Vec<FlowQuery> = worlds::flows(&scene);
        for _ in 0..400 {
            let flow = random.pick(&flows);
            let (QueryEnd::Pod(source), QueryEnd::Pod(destination)) = (&flow.source, &flow.destination)
            else {
                continue;
            };
            let [source, destination] = [source, destination].map(|pod| attached(&scene, *pod, flow.family));
            let (Some(source), Some(destination)) = (source, destination) else { continue };
            if source.node != destination.node || source.address == destination.address {
                continue;
            }
            let [a, b] = &nodes;
            let by_rules = Judge::new(&scene, [&a.kernel, &b.kernel]).allows(flow);
            let packet = frame_of(flow, [source.address, destination.address]);
            let bytes =
                frame::ethernet(destination.hardware, source.hardware, frame::type_of(&packet), &packet);
            let at = NODES.iter().position(|node| node.name == source.node).expect("a node");
            let crosses = crosses(&mut nodes[at].kernel, [source.port, destination.port], &bytes);
            let must_be = decide(&scene, flow).expect("the flow can exist") == Ruling::Allowed;
            assert_eq!(
                crosses && by_rules,
                must_be,
                "world {seed}: {flow:?}: crosses {crosses}, rules {by_rules}"
            );
            if must_be { allowed += 1 } else { denied += 1 }
        }
    }
    assert!(allowed > 1000 && denied > 1000, "{allowed} allowed, {denied} denied");
}

/// A pod behind a port.
struct Attached {
    node: &'static str,
    port: u32,
    hardware: frame::Mac,
    address: IpAddr,
}

/// A pod of a world as it is attached to its node's bridge, if its port is known.
fn attached(scene: &Scene, pod: usize, family: Family) -> Option<Attached> {
    let key = convert::pod(&scene.pods[pod]).0.key;
    NODES.iter().find_map(|node| {
        let sandbox = scene.sandboxes_of(node.name).find(|sandbox| sandbox.key.pod == key)?;
        let port = scene.ports_of(node.name).find(|port| sandbox.devices.contains(&port.name))?;
        let address = sandbox.addresses.iter().find(|address| Family::of(**address) == family)?;
        let hardware = sandbox.hardware.unwrap_or([2, 0, 0, 0, 0, port.index as u8]);
        Some(Attached { node: node.name, port: port.index, hardware, address: *address })
    })
}
