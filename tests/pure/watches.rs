//! The watches of namespaces, pods and policies, CNI results and links do not wait for each other. In whatever order they report
//! changes, and however long one of them stalls, nothing opens that no policy allows, and the final state is exact.

use bridgewarden::api::{NetworkPolicy, ObjectMeta};
use bridgewarden::controller::{Deletions, NamespaceWatch};
use bridgewarden::explain::oracle::{FlowQuery, QueryEnd, Ruling, World, decide};
use bridgewarden::model::{Change as Fact, NamespaceName, PodKey};
use bridgewarden::net::Family;
use bridgewarden::source::convert;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};
use support::backends::check_backends;
use support::outcome::assert_as_from_scratch;
use support::packets::Judge;
use support::story_node::{Order, StoryNode, fact};
use support::topology::NODES;
use support::worlds::{self, Change, Random, Scene, Story};

fn stories() -> impl Iterator<Item = (u64, Story)> {
    worlds::stories(150)
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

/// An order in which stalling watches may report changes: each keeps its own order, except that deletions are late if they are only
/// found by a new list.
fn as_reported(random: &mut Random, changes: impl IntoIterator<Item = Change>) -> Vec<Change> {
    let mut watches: BTreeMap<Watch, VecDeque<Change>> = BTreeMap::new();
    for change in changes {
        watches.entry(watch_of(&change)).or_default().push_back(change);
    }
    if let Some(pods) = watches.get_mut(&Watch::Pods) {
        delay_some_deletions(random, pods);
    }
    let mut reported = Vec::new();
    while !watches.is_empty() {
        let open: Vec<Watch> = watches.keys().copied().collect();
        let watch = *random.pick(&open);
        let burst = if random.chance(30) { 1 + random.below(12) } else { 1 };
        let queue = watches.get_mut(&watch).expect("one that has changes");
        reported.extend(queue.drain(..burst.min(queue.len())));
        watches.retain(|_, queue| !queue.is_empty());
    }
    reported
}

/// Moves the deletions of some pods behind later changes, but not behind those of a pod of the same name.
fn delay_some_deletions(random: &mut Random, pods: &mut VecDeque<Change>) {
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

/// The objects that the watches have reported, as a world that the oracle can evaluate.
struct ReportedWorld {
    scene: Scene,
    /// Deleted namespaces, which are kept as they were until their pods are deleted.
    deleted: BTreeSet<String>,
    /// The last version of every policy.
    policies: BTreeMap<(String, String), NetworkPolicy>,
}

fn key(metadata: &ObjectMeta) -> (String, String) {
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone())
}

impl ReportedWorld {
    fn of(scene: &Scene) -> ReportedWorld {
        let policies = scene.policies.iter().map(|policy| (key(&policy.metadata), policy.clone())).collect();
        ReportedWorld { scene: scene.clone(), deleted: BTreeSet::new(), policies }
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Policy(policy) => drop(self.policies.insert(key(&policy.metadata), policy.clone())),
            Change::Namespace(namespace) => drop(self.deleted.remove(&namespace.metadata.name)),
            Change::NamespaceGone(name) => drop(self.deleted.insert(name.clone())),
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
        for name in self.deleted.extract_if(.., |name| !with_pods.contains(name)) {
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

fn allows(world: &World, flow: &FlowQuery) -> bool {
    decide(world, flow).expect("the flow can exist") == Ruling::Allowed
}

fn address(world: &World, end: &QueryEnd, family: Family) -> IpAddr {
    match end {
        QueryEnd::Pod(index) => {
            let addresses = world.pods[*index].status.pod_ips.iter().filter_map(|ip| ip.ip.parse().ok());
            let mut own = addresses.filter(|address| Family::of(*address) == family);
            own.next().expect("an end of this family")
        }
        QueryEnd::Address(address) | QueryEnd::Node { address, .. } => *address,
    }
}

/// How many pod objects have the address of an end.
fn claims(world: &World, end: &QueryEnd, family: Family) -> usize {
    let address = address(world, end, family);
    world.pods.iter().filter(|pod| convert::pod(pod).0.addresses.contains(&address)).count()
}

fn evaluated(world: &World, nodes: &[StoryNode; 2], flows: &[FlowQuery]) -> Vec<bool> {
    let judge = Judge::new(world, [&nodes[0].kernel, &nodes[1].kernel]);
    flows.iter().map(|flow| judge.allows(flow)).collect()
}

/// All objects at the start of a story, as changes.
fn initial_changes(scene: &Scene) -> Vec<Change> {
    let World { namespaces, pods, policies } = &scene.world;
    let namespaces = namespaces.iter().cloned().map(Change::Namespace);
    let pods = pods.iter().cloned().map(Change::Pod);
    namespaces.chain(pods).chain(policies.iter().cloned().map(Change::Policy)).collect()
}

#[test]
fn at_every_instant_the_reported_objects_are_enforced_and_no_more_is_allowed() {
    let (mut evaluated_flows, mut unknown, mut kept) = (0_u64, 0_u64, 0_u64);
    check_backends(stories(), |backend, seed, story| {
        let mut random = Random::new(seed);
        let from_nothing = random.chance(50);
        let start = if from_nothing { Scene::default() } else { story.start.clone() };
        let before = if from_nothing { initial_changes(&story.start) } else { Vec::new() };
        let of_the_api = |change: &Change| !matches!(watch_of(change), Watch::Sandboxes | Watch::Links);
        let changes =
            before.into_iter().chain(story.changes.iter().filter(|change| of_the_api(change)).cloned());
        let mut nodes = NODES.map(|node| StoryNode::start(backend, node.name, &start, Order::Usual));
        let mut reported = ReportedWorld::of(&start);
        for (at, change) in as_reported(&mut random, changes).iter().enumerate() {
            reported.apply(change);
            for node in &mut nodes {
                node.apply(change);
                node.flush();
            }
            let world = &reported.scene.world;
            let with_kept = reported.with_kept(&nodes);
            kept += u64::from(with_kept != *world);
            let known = |pod: &&bridgewarden::api::Pod| {
                let name = pod.metadata.namespace.as_deref().unwrap_or_default();
                world.namespaces.iter().any(|namespace| namespace.metadata.name == name)
            };
            unknown += u64::from(!world.pods.iter().all(|pod| known(&pod)));
            let all = worlds::flows(world);
            let flows: Vec<FlowQuery> = (0..40)
                .map(|_| random.pick(&all).clone())
                // A packet need not pass both nodes whose pods have an address.
                .filter(|flow| {
                    [&flow.source, &flow.destination].iter().all(|end| claims(world, end, flow.family) < 2)
                })
                .collect();
            for (flow, open) in flows.iter().zip(evaluated(world, &nodes, &flows)) {
                evaluated_flows += 1;
                let (by_reported, by_kept) = (allows(world, flow), allows(&with_kept, flow));
                let context = || format!("story {seed}, change {at}: {change:?}: {flow:?}");
                assert!(!open || by_reported || by_kept, "open: {}", context());
                assert!(open || !(by_reported && by_kept), "denied: {}", context());
            }
        }
    });
    let stories = stories().count() as u64;
    assert!(
        evaluated_flows > 300 * stories && unknown > 2 * stories && kept * 3 > stories,
        "{evaluated_flows} evaluated, {unknown} unknown, {kept} kept"
    );
}

#[test]
fn whatever_the_order_of_the_watches_the_end_is_as_from_scratch() {
    check_backends(stories(), |backend, seed, story| {
        let mut random = Random::new(seed);
        for name in NODES.map(|node| node.name) {
            let mut end = story.start.clone();
            story.changes.iter().for_each(|change| change.apply(&mut end));
            let mut node = StoryNode::start(backend, name, &story.start, Order::Usual);
            for change in as_reported(&mut random, story.changes.iter().cloned()) {
                node.apply(&change);
                if random.chance(40) {
                    node.flush();
                }
            }
            node.flush();
            assert_as_from_scratch(&node, name, &end, &format!("story {seed}, {name}"));
        }
    });
}

/// A node that delays a policy's deletion, as its namespace may be about to be deleted.
struct DelayingNode {
    node: StoryNode,
    deletions: Deletions,
}

impl DelayingNode {
    fn enforce(&mut self, facts: Vec<Fact>) {
        facts.into_iter().for_each(|fact| self.node.enforcer.apply(fact));
        self.node.flush();
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

/// In whatever order its deletion is reported, its pods stay isolated as they were, and other pods allow them no more. If the
/// watch of namespaces is later than a policy's deletion waits, its pods are open until that watch reports the end.
#[test]
fn deleted_namespace_opens_none_of_its_pods_in_whatever_order_its_end_is_reported() {
    let (mut evaluated_flows, mut denied, mut late) = (0_u64, 0_u64, 0_u64);
    check_backends(stories(), |backend, seed, story| {
        let mut random = Random::new(seed);
        let start = Scene::from(story.start.world.clone());
        let name = random.pick(&start.namespaces).metadata.name.clone();
        let end_of_it = end_of_a_namespace(&start, &name);
        let mut end = start.clone();
        end_of_it.iter().for_each(|change| change.apply(&mut end));
        let is_slow = random.chance(50);
        let mut now = Instant::now();
        let mut delaying_nodes = NODES.map(|node| DelayingNode {
            node: StoryNode::start(backend, node.name, &start, Order::Usual),
            deletions: Deletions::that_wait_for(NamespaceWatch::default()),
        });
        let mut there: BTreeSet<PodKey> = start.pods.iter().map(|pod| convert::pod(pod).0.key).collect();
        let (mut waiting_since, mut end_reported) = (None, false);
        for change in as_reported(&mut random, end_of_it) {
            now += Duration::from_millis(if is_slow {
                random.below(4_000) as u64
            } else {
                random.below(50) as u64
            });
            match &change {
                Change::PodGone { namespace, name } => drop(there.remove(&PodKey::new(namespace, name))),
                Change::PolicyGone { .. } => waiting_since = waiting_since.or(Some(now)),
                Change::Namespace(_) | Change::NamespaceGone(_) => end_reported = true,
                Change::Pod(_)
                | Change::Policy(_)
                | Change::Sandbox(..)
                | Change::SandboxGone(..)
                | Change::Link(..) => {}
            }
            for (delaying, node) in delaying_nodes.iter_mut().zip(NODES) {
                let settled = delaying.deletions.settle(delaying.node.enforcer.cluster(), now);
                delaying.enforce(settled.into_iter().map(|(fact, _)| fact).collect());
                let fact = fact(&change, node.name).expect("a change of the API");
                let due = delaying.deletions.take_in(fact, delaying.node.enforcer.cluster(), now);
                delaying.enforce(due);
            }
            let waited = waiting_since.is_some_and(|since| now - since >= Duration::from_secs(1));
            if waited && !end_reported {
                continue;
            }
            late += u64::from(waited);
            let is_there = |end: &QueryEnd| match end {
                QueryEnd::Pod(index) => there.contains(&convert::pod(&start.pods[*index]).0.key),
                QueryEnd::Address(_) | QueryEnd::Node { .. } => true,
            };
            let is_inside = |end: &QueryEnd| match end {
                QueryEnd::Pod(index) => start.pods[*index].metadata.namespace.as_deref() == Some(&*name),
                QueryEnd::Address(_) | QueryEnd::Node { .. } => false,
            };
            let all: Vec<FlowQuery> = worlds::flows(&start)
                .into_iter()
                .filter(|flow| is_there(&flow.source) && is_there(&flow.destination))
                .collect();
            let flows: Vec<FlowQuery> = (0..60).map(|_| random.pick(&all).clone()).collect();
            let nodes = delaying_nodes.each_ref().map(|delaying| delaying.node.clone());
            for (flow, open) in flows.iter().zip(evaluated(&start, &nodes, &flows)) {
                let concerns = is_inside(&flow.source) || is_inside(&flow.destination);
                let meant = allows(&start, flow) || !concerns && allows_by_address(&start, &end, flow);
                evaluated_flows += 1;
                denied += u64::from(!meant);
                assert!(!open || meant, "story {seed}, {change:?}: {flow:?} is open");
            }
        }
        for (delaying, node) in delaying_nodes.iter_mut().zip(NODES) {
            let settled =
                delaying.deletions.settle(delaying.node.enforcer.cluster(), now + Duration::from_secs(1));
            delaying.enforce(settled.into_iter().map(|(fact, _)| fact).collect());
            assert_as_from_scratch(&delaying.node, node.name, &end, &format!("story {seed}, {}", node.name));
            let name = NamespaceName::new(&name);
            assert!(!delaying.node.enforcer.cluster().namespaces().any(|own| *own == name));
        }
    });
    let stories = stories().count() as u64;
    assert!(
        evaluated_flows > 200 * stories && denied > 20 * stories && late * 2 > stories,
        "{evaluated_flows} evaluated, {denied} denied, {late} late"
    );
}

/// Whether a flow between ends of `start` is allowed in another world, where a pod may have another number.
fn allows_by_address(start: &World, world: &World, flow: &FlowQuery) -> bool {
    let find = |end: &QueryEnd| match end {
        QueryEnd::Pod(index) => {
            let metadata = &start.pods[*index].metadata;
            let found = world.pods.iter().position(|pod| key(&pod.metadata) == key(metadata));
            QueryEnd::Pod(found.expect("a pod of another namespace stays"))
        }
        QueryEnd::Address(_) | QueryEnd::Node { .. } => end.clone(),
    };
    let flow = FlowQuery { source: find(&flow.source), destination: find(&flow.destination), ..flow.clone() };
    allows(world, &flow)
}
