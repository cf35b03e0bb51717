//! Random stories: sequences of changes that may happen to a cluster.

use super::cluster::{self, Stack};
use super::{Change, Random, Scene, audit, links, policy, story_seeds};
use crate::topology::{NODES, Node};
use bridgewarden::api::{NetworkPolicy, ObjectMeta, Pod};
use bridgewarden::model::{PodKey, Sandbox, SandboxKey};
use bridgewarden::net::Family;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// A cluster, and a sequence of changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Story {
    /// The requested number of events; an event may be several changes.
    pub length: usize,
    /// The cluster at the beginning.
    pub start: Scene,
    /// The changes, in order. Each leads to a cluster that the API could have: an address belongs to at most one live
    /// pod, and a namespace is deleted after everything in it.
    pub changes: Vec<Change>,
}

/// The number of events in the stories of tests.
const EVENTS: usize = 14;

/// The stories that a test checks, each with its seed: `usual` of them unless `BRIDGEWARDEN_STORIES` says otherwise,
/// and those that once failed. They begin with bridges without ports.
pub fn stories(usual: u64) -> impl Iterator<Item = (u64, Story)> {
    story_seeds(usual).map(|seed| (seed, story(seed, EVENTS)))
}

/// The same stories, but they begin with most pods behind ports of their nodes' bridges.
pub fn stories_with_ports(usual: u64) -> impl Iterator<Item = (u64, Story)> {
    story_seeds(usual).map(|seed| (seed, generate(seed, EVENTS, links::attach_pods)))
}

/// The story of a seed, of `length` events, that begins with bridges without ports.
pub fn story(seed: u64, length: usize) -> Story {
    generate(seed, length, |_, _| {})
}

fn generate(seed: u64, length: usize, prepare: impl Fn(&mut Scene, &mut Random)) -> Story {
    let mut random = Random::new(seed);
    // A separate generator, so that changes of links do not affect the other changes.
    let mut links = Random::new(!seed);
    let mut audits = Random::new(seed.rotate_left(32));
    let mut start = Scene::from(cluster::world(&mut random));
    audit::label_some(&mut start.world, &mut audits);
    for (number, pod) in start.world.pods.iter_mut().enumerate() {
        pod.metadata.uid = Some(format!("first-{number}"));
    }
    prepare(&mut start, &mut links);
    let sandboxes = start.sandboxes.values().map(BTreeMap::len).sum();
    let mut generator =
        StoryGenerator { world: start.clone(), changes: Vec::new(), pods: 0, sandboxes, links, audits };
    for _ in 0..length {
        generator.event(&mut random);
        generator.link_event();
    }
    Story { length, start, changes: generator.changes }
}

/// Generates a story: the cluster so far, and the changes up to it.
pub(super) struct StoryGenerator {
    pub(super) world: Scene,
    changes: Vec<Change>,
    pods: usize,
    sandboxes: usize,
    pub(super) links: Random,
    audits: Random,
}

impl StoryGenerator {
    pub(super) fn emit(&mut self, mut change: Change) {
        match &mut change {
            Change::Policy(policy) => audit::relabel_policy(&mut policy.metadata, &mut self.audits),
            Change::Namespace(namespace) => {
                audit::relabel_namespace(&mut namespace.metadata, &mut self.audits);
            }
            Change::NamespaceGone(_)
            | Change::Pod(_)
            | Change::PodGone { .. }
            | Change::PolicyGone { .. }
            | Change::Sandbox(..)
            | Change::SandboxGone(..)
            | Change::Link(..) => {}
        }
        change.apply(&mut self.world);
        self.changes.push(change);
    }

    fn event(&mut self, random: &mut Random) {
        match random.below(27) {
            0..=2 => self.relabel_pod(random),
            3 => self.delete_pod(random),
            4..=5 => self.add_pod(random),
            6 => self.move_address(random),
            7 => self.finish_pod(random),
            8 => self.terminate_pod(random),
            9 => self.recreate_pod(random),
            10..=11 => self.relabel_namespace(random),
            12 => self.delete_namespace(random),
            13 => self.create_namespace(random),
            14..=15 => self.add_policy(random),
            16..=18 => self.edit_policy(random),
            19 => self.delete_policy(random),
            20..=21 => self.make_sandbox_of_a_pod(random),
            22..=24 => self.make_any_sandbox(random),
            _ => self.remove_sandbox(random),
        }
    }

    fn any_pod(&self, random: &mut Random) -> Option<Pod> {
        (!self.world.pods.is_empty()).then(|| random.pick(&self.world.pods).clone())
    }

    fn relabel_pod(&mut self, random: &mut Random) {
        let Some(mut pod) = self.any_pod(random) else { return };
        pod.metadata.labels = cluster::labels(random, &cluster::POD_LABELS);
        self.emit(Change::Pod(pod));
    }

    fn delete_pod(&mut self, random: &mut Random) {
        if let Some(pod) = self.any_pod(random) {
            self.emit(gone(&pod));
        }
    }

    /// Adds a pod as in a real cluster: scheduled first, then with a sandbox on its node, and with addresses some time
    /// later. Its node may know it before the API reports it.
    fn add_pod(&mut self, random: &mut Random) {
        if self.world.pods.len() >= 12 || self.world.namespaces.is_empty() {
            return;
        }
        self.pods += 1;
        let name = format!("new-{}", self.pods);
        let namespace = random.pick(&self.world.namespaces).metadata.name.clone();
        let node = *random.pick(&NODES);
        let stack = Stack::random(random);
        let Some(host) = self.free_host(node) else { return };
        let mut pod = cluster::pod(random, &namespace, &name, node, &[]);
        pod.metadata.uid = self.uid(random);
        let addresses = cluster::pod_ips(node, host, stack);
        if random.chance(20) {
            self.make_sandbox(node, &pod, addresses.clone());
        }
        if random.chance(50) {
            self.emit(Change::Pod(pod.clone()));
        }
        if random.chance(40) {
            self.make_sandbox(node, &pod, addresses.clone());
        }
        if let ([first, _], true) = (addresses.as_slice(), random.chance(20)) {
            cluster::set_addresses(&mut pod, &[*first]);
            self.emit(Change::Pod(pod.clone()));
        }
        cluster::set_addresses(&mut pod, &addresses);
        self.emit(Change::Pod(pod));
    }

    /// Ends a pod, and gives its address to another at once; the status of the finished pod may still have it.
    fn move_address(&mut self, random: &mut Random) {
        let Some(mut old) = self.any_pod(random) else { return };
        let node = old.spec.node_name.as_deref().and_then(Node::named);
        let addresses: Vec<IpAddr> = cluster::addresses(&old).collect();
        let (Some(node), true) = (node, cluster::is_live(&old)) else { return };
        let namespace = random.pick(&self.world.namespaces).metadata.name.clone();
        if random.chance(50) {
            old.status.phase = Some("Succeeded".to_string());
            self.emit(Change::Pod(old));
        } else {
            self.emit(gone(&old));
        }
        self.pods += 1;
        let mut heir = cluster::pod(random, &namespace, &format!("heir-{}", self.pods), node, &addresses);
        heir.metadata.uid = self.uid(random);
        if random.chance(30) {
            self.make_sandbox(node, &heir, addresses);
        }
        self.emit(Change::Pod(heir));
    }

    fn finish_pod(&mut self, random: &mut Random) {
        let Some(mut pod) = self.any_pod(random) else { return };
        pod.status.phase = Some(random.pick(&["Succeeded", "Failed"]).to_string());
        self.emit(Change::Pod(pod));
    }

    fn terminate_pod(&mut self, random: &mut Random) {
        let Some(mut pod) = self.any_pod(random) else { return };
        pod.metadata.deletion_timestamp = Some("2020-01-01T00:00:00Z".to_string());
        self.emit(Change::Pod(pod.clone()));
        if random.chance(50) {
            self.emit(gone(&pod));
        }
    }

    /// Recreates a StatefulSet's pod: with the same name, but other ports, another address, and perhaps on another
    /// node. The watch may have missed its deletion.
    fn recreate_pod(&mut self, random: &mut Random) {
        let Some(old) = self.any_pod(random) else { return };
        let node = *random.pick(&NODES);
        let Some(host) = self.free_host(node) else { return };
        let namespace = old.metadata.namespace.clone().unwrap_or_default();
        let addresses = cluster::pod_ips(node, host, Stack::random(random));
        if random.chance(50) {
            self.emit(gone(&old));
        }
        let mut pod = cluster::pod(random, &namespace, &old.metadata.name, node, &addresses);
        self.pods += 1;
        pod.metadata.uid = self.uid(random);
        self.emit(Change::Pod(pod));
    }

    /// A different uid for each pod, and none for one in five.
    fn uid(&self, random: &mut Random) -> Option<String> {
        random.chance(80).then(|| format!("uid-{}", self.pods))
    }

    /// Creates a pod's sandbox, or recreates it at another address, before the API reports it.
    fn make_sandbox_of_a_pod(&mut self, random: &mut Random) {
        let Some(pod) = self.any_pod(random) else { return };
        let Some(node) = pod.spec.node_name.as_deref().and_then(Node::named) else { return };
        let own: Vec<IpAddr> = cluster::addresses(&pod).collect();
        match self.free_host(node) {
            Some(host) if own.is_empty() || random.chance(40) => {
                self.make_sandbox(node, &pod, cluster::pod_ips(node, host, Stack::random(random)));
            }
            Some(_) | None => self.make_sandbox(node, &pod, own),
        }
    }

    /// Creates a sandbox as a node may find it in its files: of a deleted pod, or of one that is not known yet, of any
    /// age, at an address that may belong to another pod by now.
    fn make_any_sandbox(&mut self, random: &mut Random) {
        let Some(mut pod) = self.any_pod(random) else { return };
        let node = *random.pick(&NODES);
        match random.below(4) {
            0 => pod.metadata.name = format!("lost-{}", random.below(3)),
            1 => pod.metadata.uid = Some("another".to_string()),
            2 => pod.metadata.uid = None,
            _ => {}
        }
        let addresses = match self.any_pod(random) {
            Some(holder) if random.chance(60) => cluster::addresses(&holder).collect(),
            Some(_) | None => cluster::pod_ips(node, 100 + random.below(4) as u8, Stack::random(random)),
        };
        let made = random.below(self.sandboxes + 2);
        self.emit_sandbox(node, &pod, addresses, made);
    }

    fn make_sandbox(&mut self, node: Node, pod: &Pod, addresses: Vec<IpAddr>) {
        self.emit_sandbox(node, pod, addresses, self.sandboxes + 1);
    }

    fn emit_sandbox(&mut self, node: Node, pod: &Pod, addresses: Vec<IpAddr>, made: usize) {
        self.sandboxes += 1;
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let key = PodKey::new(namespace, &pod.metadata.name);
        // Few names, so that some are overwritten.
        let key = SandboxKey::new(key, &format!("sandbox-{}", self.sandboxes % 5));
        let uid = pod.metadata.uid.as_deref().map(Into::into);
        let made = Duration::from_secs(made as u64);
        let sandbox = Sandbox { key, uid, addresses, made, devices: Vec::new(), hardware: None };
        self.emit_sandbox_and_port(node.name, sandbox);
    }

    fn remove_sandbox(&mut self, random: &mut Random) {
        let node = random.pick(&NODES).name;
        let keys: Vec<SandboxKey> =
            self.world.sandboxes_of(node).map(|sandbox| sandbox.key.clone()).collect();
        if !keys.is_empty() {
            self.emit(Change::SandboxGone(node, random.pick(&keys).clone()));
        }
    }

    fn relabel_namespace(&mut self, random: &mut Random) {
        if self.world.namespaces.is_empty() {
            return;
        }
        let name = random.pick(&self.world.namespaces).metadata.name.clone();
        let namespace = cluster::namespace(random, &name);
        self.emit(Change::Namespace(namespace));
    }

    /// Deletes a namespace: it terminates, its pods are deleted, then its policies, and then the namespace itself.
    fn delete_namespace(&mut self, random: &mut Random) {
        if self.world.namespaces.len() < 2 {
            return;
        }
        let mut namespace = random.pick(&self.world.namespaces).clone();
        let name = namespace.metadata.name.clone();
        namespace.metadata.deletion_timestamp = Some("2020-01-01T00:00:00Z".to_string());
        namespace.status.phase = Some("Terminating".to_string());
        self.emit(Change::Namespace(namespace));
        let inside = |metadata: &ObjectMeta| metadata.namespace.as_deref() == Some(&name);
        let pods = self.world.pods.iter().filter(|pod| inside(&pod.metadata)).map(gone);
        let policies = self.world.policies.iter().filter(|policy| inside(&policy.metadata)).map(policy_gone);
        for change in pods.chain(policies).collect::<Vec<_>>() {
            self.emit(change);
        }
        self.emit(Change::NamespaceGone(name));
    }

    fn create_namespace(&mut self, random: &mut Random) {
        let exists =
            |name: &str| self.world.namespaces.iter().any(|namespace| namespace.metadata.name == name);
        if let Some(name) = cluster::NAMESPACES.into_iter().find(|name| !exists(name)) {
            let namespace = cluster::namespace(random, name);
            self.emit(Change::Namespace(namespace));
        }
    }

    fn add_policy(&mut self, random: &mut Random) {
        if self.world.policies.len() < 8 && !self.world.namespaces.is_empty() {
            let policy = policy::policy(random, &self.world);
            self.emit(Change::Policy(policy));
        }
    }

    fn edit_policy(&mut self, random: &mut Random) {
        if self.world.policies.is_empty() {
            return;
        }
        let mut edited = random.pick(&self.world.policies).clone();
        let spec = policy::spec(random);
        // Mostly one part changes, as if a person edited it.
        match random.below(5) {
            0 => edited.spec.pod_selector = spec.pod_selector,
            1 => edited.spec.ingress = spec.ingress,
            2 => edited.spec.egress = spec.egress,
            3 => edited.spec.policy_types = spec.policy_types,
            _ => edited.spec = spec,
        }
        if let (Some(rules), true) = (&mut edited.spec.ingress, random.chance(20)) {
            rules.reverse();
        }
        self.emit(Change::Policy(edited));
    }

    fn delete_policy(&mut self, random: &mut Random) {
        if !self.world.policies.is_empty() {
            let change = policy_gone(random.pick(&self.world.policies));
            self.emit(change);
        }
    }

    /// A host number on this node that no pod has, including finished ones.
    fn free_host(&self, node: Node) -> Option<u8> {
        let taken: Vec<IpAddr> = self.world.pods.iter().flat_map(cluster::addresses).collect();
        (10..100)
            .find(|host| Family::BOTH.iter().all(|family| !taken.contains(&node.pod_address(*family, *host))))
    }
}

fn gone(pod: &Pod) -> Change {
    let ObjectMeta { namespace, name, .. } = pod.metadata.clone();
    Change::PodGone { namespace: namespace.unwrap_or_default(), name }
}

fn policy_gone(policy: &NetworkPolicy) -> Change {
    let ObjectMeta { namespace, name, .. } = policy.metadata.clone();
    Change::PolicyGone { namespace: namespace.unwrap_or_default(), name }
}
