//! The watches of namespaces, pods and policies, and the node's own results and links, do not wait for each other. In whatever order
//! they tell what happened, and however long one of them stalls, nothing opens that nobody meant to open, and the end is exact.

use bridgewarden::api::{NetworkPolicy, ObjectMeta};
use bridgewarden::controller::{Deletions, NamespaceWatch};
use bridgewarden::explain::oracle::{End, Flow, Verdict, World, decide};
use bridgewarden::model::{Change as Fact, NamespaceName, PodKey};
use bridgewarden::net::Family;
use bridgewarden::source::convert;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};
use support::outcome::assert_as_from_scratch;
use support::packets::Judge;
use support::story_node::{Order, StoryNode, fact};
use support::topology::NODES;
use support::worlds::{self, Change, Random, Scene, Story};

const EVENTS: usize = 14;

fn stories() -> impl Iterator<Item = (u64, Story)> {
    (0..worlds::how_many("BRIDGEWARDEN_STORIES", 150)).map(|seed| (seed, worlds::story(seed, EVENTS)))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Watch {
    Namespaces,
    Pods,
    Policies,
    Sandboxes,
    Links,
}

fn watch_of(change: &Change) -> Watch {
    match change {
        Change::Namespace(_) | Change::NamespaceGone(_) => Watch::Namespaces,
        Change::Pod(_) | Change::PodGone { .. } => Watch::Pods,
        Change::Policy(_) | Change::PolicyGone { .. } => Watch::Policies,
        Change::Sandbox(..) | Change::SandboxGone(..) => Watch::Sandboxes,
        Change::Link(..) => Watch::Links,
    }
}

/// An order in which watches that stall may tell what happened: each keeps its own order, but that a list which was broken off
/// tells late who is gone.
fn as_told(random: &mut Random, changes: impl IntoIterator<Item = Change>) -> Vec<Change> {
    let mut watches: BTreeMap<Watch, VecDeque<Change>> = BTreeMap::new();
    for change in changes {
        watches.entry(watch_of(&change)).or_default().push_back(change);
    }
    if let Some(pods) = watches.get_mut(&Watch::Pods) {
        tell_some_ends_late(random, pods);
    }
    let mut told = Vec::new();
    while !watches.is_empty() {
        let open: Vec<Watch> = watches.keys().copied().collect();
        let watch = *random.pick(&open);
        let burst = if random.chance(30) { 1 + random.below(12) } else { 1 };
        let queue = watches.get_mut(&watch).expect("one that has something to tell");
        told.extend(queue.drain(..burst.min(queue.len())));
        watches.retain(|_, queue| !queue.is_empty());
    }
    told
}

/// Moves the ends of some pods behind what follows, but not behind anything about a pod of the same name.
fn tell_some_ends_late(random: &mut Random, pods: &mut VecDeque<Change>) {
    let key = |change: &Change| match change {
        Change::Pod(pod) => (pod.metadata.namespace.clone().unwrap_or_default(), pod.metadata.name.clone()),
        Change::PodGone { namespace, name } => (namespace.clone(), name.clone()),
        Change::Namespace(_)
        | Change::NamespaceGone(_)
        | Change::Policy(_)
        | Change::PolicyGone { .. }
        | Change::Sandbox(..)
        | Change::SandboxGone(..)
        | Change::Link(..) => panic!("no change of a pod: {change:?}"),
    };
    for at in (0..pods.len()).rev() {
        if matches!(pods[at], Change::PodGone { .. }) && random.chance(40) {
            let own = key(&pods[at]);
            let later = pods.iter().skip(at + 1).take_while(|change| key(change) != own).count();
            let end = pods.remove(at).expect("it is there");
            pods.insert(at + random.below(later + 1), end);
        }
    }
}

/// What the watches have told, as a world that the oracle can be asked about.
struct Heard {
    scene: Scene,
    /// Namespaces that went, and are kept as they were until their pods are gone.
    gone: BTreeSet<String>,
    /// Every policy as it last was.
    policies: BTreeMap<(String, String), NetworkPolicy>,
}

fn key(metadata: &ObjectMeta) -> (String, String) {
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone())
}

impl Heard {
    fn of(scene: &Scene) -> Heard {
        let policies = scene.policies.iter().map(|policy| (key(&policy.metadata), policy.clone())).collect();
        Heard { scene: scene.clone(), gone: BTreeSet::new(), policies }
    }

    fn take_in(&mut self, change: &Change) {
        match change {
            Change::Policy(policy) => drop(self.policies.insert(key(&policy.metadata), policy.clone())),
            Change::Namespace(namespace) => drop(self.gone.remove(&namespace.metadata.name)),
            Change::NamespaceGone(name) => drop(self.gone.insert(name.clone())),
            Change::Pod(_)
            | Change::PodGone { .. }
            | Change::PolicyGone { .. }
            | Change::Sandbox(..)
            | Change::SandboxGone(..)
            | Change::Link(..) => {}
        }
        if !matches!(change, Change::NamespaceGone(_)) {
            change.apply(&mut self.scene);
        }
        let pods = self.scene.world.pods.iter().map(|pod| convert::pod(pod).0);
        let with_pods: BTreeSet<String> =
            pods.filter(|pod| !pod.addresses.is_empty()).map(|pod| pod.key.namespace.to_string()).collect();
        for name in self.gone.extract_if(.., |name| !with_pods.contains(name)) {
            self.scene.world.namespaces.retain(|namespace| namespace.metadata.name != name);
        }
    }

    /// The same, with the policies that nodes keep although they were deleted.
    fn with_kept(&self, nodes: &[StoryNode; 2]) -> World {
        let mut world = self.scene.world.clone();
        let known: BTreeSet<_> = world.policies.iter().map(|policy| key(&policy.metadata)).collect();
        let kept = nodes.iter().flat_map(|node| node.enforcer.cluster().policies());
        let kept = kept.map(|policy| (policy.key.namespace.to_string(), policy.key.name.to_string()));
        let kept: BTreeSet<_> = kept.filter(|key| !known.contains(key)).collect();
        world.policies.extend(kept.iter().map(|key| self.policies[key].clone()));
        world
    }
}

fn allows(world: &World, flow: &Flow) -> bool {
    decide(world, flow).expect("the flow can exist") == Verdict::Allowed
}

fn address(world: &World, end: &End, family: Family) -> IpAddr {
    match end {
        End::Pod(index) => {
            let addresses = world.pods[*index].status.pod_ips.iter().filter_map(|ip| ip.ip.parse().ok());
            let mut own = addresses.filter(|address| Family::of(*address) == family);
            own.next().expect("an end of this family")
        }
        End::Address(address) | End::Node { address, .. } => *address,
    }
}

/// How many pods have the address of an end, by their objects' word.
fn claims(world: &World, end: &End, family: Family) -> usize {
    let address = address(world, end, family);
    world.pods.iter().filter(|pod| convert::pod(pod).0.addresses.contains(&address)).count()
}

fn judged(world: &World, nodes: &[StoryNode; 2], flows: &[Flow]) -> Vec<bool> {
    let judge = Judge::new(world, [&nodes[0].kernel, &nodes[1].kernel]);
    flows.iter().map(|flow| judge.allows(flow)).collect()
}

fn flush(node: &mut StoryNode) {
    let steps = node.enforcer.flush().steps;
    node.commit(&steps).expect("the kernel takes the steps");
}

/// All that is there at the start of a story, as changes that come after nothing.
fn beginnings(scene: &Scene) -> Vec<Change> {
    let World { namespaces, pods, policies } = &scene.world;
    let namespaces = namespaces.iter().cloned().map(Change::Namespace);
    let pods = pods.iter().cloned().map(Change::Pod);
    namespaces.chain(pods).chain(policies.iter().cloned().map(Change::Policy)).collect()
}

#[test]
fn at_every_instant_what_the_watches_told_is_enforced_and_no_more_is_allowed() {
    let (mut asked, mut unknown, mut kept) = (0_u64, 0_u64, 0_u64);
    for (seed, story) in stories() {
        let mut random = Random::new(seed);
        let from_nothing = random.chance(50);
        let start = if from_nothing { Scene::default() } else { story.start.clone() };
        let before = if from_nothing { beginnings(&story.start) } else { Vec::new() };
        let of_the_api = |change: &Change| !matches!(watch_of(change), Watch::Sandboxes | Watch::Links);
        let changes =
            before.into_iter().chain(story.changes.iter().filter(|change| of_the_api(change)).cloned());
        let mut nodes = NODES.map(|node| StoryNode::start(node.name, &start, Order::Usual));
        let mut heard = Heard::of(&start);
        for (at, change) in as_told(&mut random, changes).iter().enumerate() {
            heard.take_in(change);
            for node in &mut nodes {
                node.hear(change);
                flush(node);
            }
            let world = &heard.scene.world;
            let with_kept = heard.with_kept(&nodes);
            kept += u64::from(with_kept != *world);
            let known = |pod: &&bridgewarden::api::Pod| {
                let name = pod.metadata.namespace.as_deref().unwrap_or_default();
                world.namespaces.iter().any(|namespace| namespace.metadata.name == name)
            };
            unknown += u64::from(!world.pods.iter().all(|pod| known(&pod)));
            let all = worlds::flows(world);
            let flows: Vec<Flow> = (0..40)
                .map(|_| random.pick(&all).clone())
                // A packet need not pass both nodes whose pods have an address.
                .filter(|flow| {
                    [&flow.source, &flow.destination].iter().all(|end| claims(world, end, flow.family) < 2)
                })
                .collect();
            for (flow, open) in flows.iter().zip(judged(world, &nodes, &flows)) {
                asked += 1;
                let (by_told, by_kept) = (allows(world, flow), allows(&with_kept, flow));
                let context = || format!("story {seed}, change {at}: {change:?}: {flow:?}");
                assert!(!open || by_told || by_kept, "open: {}", context());
                assert!(open || !(by_told && by_kept), "refused: {}", context());
            }
        }
    }
    let told = stories().count() as u64;
    assert!(
        asked > 300 * told && unknown > 2 * told && kept * 3 > told,
        "{asked} asked, {unknown} unknown, {kept} kept"
    );
}

#[test]
fn whatever_the_order_of_the_watches_the_end_is_as_from_scratch() {
    for (seed, story) in stories() {
        let mut random = Random::new(seed);
        for name in NODES.map(|node| node.name) {
            let mut end = story.start.clone();
            story.changes.iter().for_each(|change| change.apply(&mut end));
            let mut node = StoryNode::start(name, &story.start, Order::Usual);
            for change in as_told(&mut random, story.changes.iter().cloned()) {
                node.hear(&change);
                if random.chance(40) {
                    flush(&mut node);
                }
            }
            flush(&mut node);
            assert_as_from_scratch(&node, name, &end, &format!("story {seed}, {name}"));
        }
    }
}

/// A node that takes a policy's deletion for the possible beginning of its namespace's end.
struct Doubter {
    node: StoryNode,
    deletions: Deletions,
}

impl Doubter {
    fn believe(&mut self, facts: Vec<Fact>) {
        facts.into_iter().for_each(|fact| self.node.enforcer.apply(fact));
        flush(&mut self.node);
    }
}

/// What happens when a namespace is deleted, in the order of the API server.
fn end_of_a_namespace(scene: &Scene, name: &str) -> Vec<Change> {
    let mut namespace =
        scene.namespaces.iter().find(|own| own.metadata.name == name).expect("it is there").clone();
    namespace.metadata.deletion_timestamp = Some("2020-01-01T00:00:00Z".to_string());
    namespace.status.phase = Some("Terminating".to_string());
    let inside = |metadata: &ObjectMeta| metadata.namespace.as_deref() == Some(name);
    let policies = scene.policies.iter().filter(|policy| inside(&policy.metadata));
    let policies = policies.map(|policy| {
        let (namespace, name) = key(&policy.metadata);
        Change::PolicyGone { namespace, name }
    });
    let pods = scene.pods.iter().filter(|pod| inside(&pod.metadata)).map(|pod| {
        let (namespace, name) = key(&pod.metadata);
        Change::PodGone { namespace, name }
    });
    let first = [Change::Namespace(namespace)];
    first.into_iter().chain(policies).chain(pods).chain([Change::NamespaceGone(name.to_string())]).collect()
}

/// In whatever order its end is told: its pods stay guarded as they were, and are let in nowhere that they were not. If the
/// word that it ends is missing for longer than a deletion waits, its pods are open until that word comes, and no longer.
#[test]
fn namespace_that_ends_opens_none_of_its_pods_in_whatever_order_its_end_is_told() {
    let (mut asked, mut refused, mut late) = (0_u64, 0_u64, 0_u64);
    for (seed, story) in stories() {
        let mut random = Random::new(seed);
        let start = Scene::from(story.start.world.clone());
        let name = random.pick(&start.namespaces).metadata.name.clone();
        let end_of_it = end_of_a_namespace(&start, &name);
        let mut end = start.clone();
        end_of_it.iter().for_each(|change| change.apply(&mut end));
        let is_slow = random.chance(50);
        let mut now = Instant::now();
        let mut doubters = NODES.map(|node| Doubter {
            node: StoryNode::start(node.name, &start, Order::Usual),
            deletions: Deletions::that_wait_for(NamespaceWatch::default()),
        });
        let mut there: BTreeSet<PodKey> = start.pods.iter().map(|pod| convert::pod(pod).0.key).collect();
        let (mut waiting_since, mut word_came) = (None, false);
        for change in as_told(&mut random, end_of_it) {
            now += Duration::from_millis(if is_slow {
                random.below(4_000) as u64
            } else {
                random.below(50) as u64
            });
            match &change {
                Change::PodGone { namespace, name } => drop(there.remove(&PodKey::new(namespace, name))),
                Change::PolicyGone { .. } => waiting_since = waiting_since.or(Some(now)),
                Change::Namespace(_) | Change::NamespaceGone(_) => word_came = true,
                Change::Pod(_)
                | Change::Policy(_)
                | Change::Sandbox(..)
                | Change::SandboxGone(..)
                | Change::Link(..) => {}
            }
            for (doubter, node) in doubters.iter_mut().zip(NODES) {
                let settled = doubter.deletions.settle(doubter.node.enforcer.cluster(), now);
                doubter.believe(settled.into_iter().map(|(fact, _)| fact).collect());
                let fact = fact(&change, node.name).expect("a fact of the API");
                let believed = doubter.deletions.take_in(fact, doubter.node.enforcer.cluster(), now);
                doubter.believe(believed);
            }
            let waited = waiting_since.is_some_and(|since| now - since >= Duration::from_secs(1));
            if waited && !word_came {
                continue;
            }
            late += u64::from(waited);
            let is_there = |end: &End| match end {
                End::Pod(index) => there.contains(&convert::pod(&start.pods[*index]).0.key),
                End::Address(_) | End::Node { .. } => true,
            };
            let is_inside = |end: &End| match end {
                End::Pod(index) => start.pods[*index].metadata.namespace.as_deref() == Some(&*name),
                End::Address(_) | End::Node { .. } => false,
            };
            let all: Vec<Flow> = worlds::flows(&start)
                .into_iter()
                .filter(|flow| is_there(&flow.source) && is_there(&flow.destination))
                .collect();
            let flows: Vec<Flow> = (0..60).map(|_| random.pick(&all).clone()).collect();
            let nodes = doubters.each_ref().map(|doubter| doubter.node.clone());
            for (flow, open) in flows.iter().zip(judged(&start, &nodes, &flows)) {
                let concerns = is_inside(&flow.source) || is_inside(&flow.destination);
                let meant = allows(&start, flow) || !concerns && allows_by_address(&start, &end, flow);
                asked += 1;
                refused += u64::from(!meant);
                assert!(!open || meant, "story {seed}, {change:?}: {flow:?} is open");
            }
        }
        for (doubter, node) in doubters.iter_mut().zip(NODES) {
            let settled =
                doubter.deletions.settle(doubter.node.enforcer.cluster(), now + Duration::from_secs(1));
            doubter.believe(settled.into_iter().map(|(fact, _)| fact).collect());
            assert_as_from_scratch(&doubter.node, node.name, &end, &format!("story {seed}, {}", node.name));
            let name = NamespaceName::new(&name);
            assert!(!doubter.node.enforcer.cluster().namespaces().any(|own| *own == name));
        }
    }
    let told = stories().count() as u64;
    assert!(
        asked > 200 * told && refused > 20 * told && late * 2 > told,
        "{asked} asked, {refused} refused, {late} late"
    );
}

/// Whether a flow between ends of `start` is allowed in another world, where a pod may have another number.
fn allows_by_address(start: &World, world: &World, flow: &Flow) -> bool {
    let find = |end: &End| match end {
        End::Pod(index) => {
            let metadata = &start.pods[*index].metadata;
            let found = world.pods.iter().position(|pod| key(&pod.metadata) == key(metadata));
            End::Pod(found.expect("a pod of another namespace stays"))
        }
        End::Address(_) | End::Node { .. } => end.clone(),
    };
    let flow = Flow { source: find(&flow.source), destination: find(&flow.destination), ..flow.clone() };
    allows(world, &flow)
}
