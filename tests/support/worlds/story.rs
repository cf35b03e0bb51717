//! Random stories: what may happen to a cluster, one fact after the other.

use super::cluster::{self, Stack};
use super::{Random, policy};
use crate::topology::{NODES, Node};
use bridgewarden::api::{Namespace, NetworkPolicy, ObjectMeta, Pod};
use bridgewarden::explain::oracle::World;
use bridgewarden::net::Family;
use std::net::IpAddr;

/// A cluster, and what happens to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Story {
    /// How many events were asked for; an event may be several changes.
    pub length: usize,
    /// The cluster at first.
    pub start: World,
    /// The changes, in order. Each leaves a cluster that the API could show: an address is at most one live pod's,
    /// and a namespace goes after everything in it.
    pub changes: Vec<Change>,
}

/// One fact: an object as it is from here on, or that it is gone.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A namespace is there, like this.
    Namespace(Namespace),
    /// The namespace of this name is gone.
    NamespaceGone(String),
    /// A pod is there, like this.
    Pod(Pod),
    /// This pod is gone.
    PodGone {
        /// The namespace it lived in.
        namespace: String,
        /// Its name there.
        name: String,
    },
    /// A policy is there, like this.
    Policy(NetworkPolicy),
    /// This policy is gone.
    PolicyGone {
        /// The namespace it lived in.
        namespace: String,
        /// Its name there.
        name: String,
    },
}

impl Change {
    /// Makes it so.
    pub fn apply(&self, world: &mut World) {
        let World { namespaces, pods, policies } = world;
        match self {
            Change::Namespace(namespace) => put(namespaces, namespace, |namespace| &namespace.metadata),
            Change::NamespaceGone(name) => namespaces.retain(|namespace| namespace.metadata.name != *name),
            Change::Pod(pod) => put(pods, pod, |pod| &pod.metadata),
            Change::PodGone { namespace, name } => pods.retain(|pod| !is(&pod.metadata, namespace, name)),
            Change::Policy(policy) => put(policies, policy, |policy| &policy.metadata),
            Change::PolicyGone { namespace, name } => {
                policies.retain(|policy| !is(&policy.metadata, namespace, name));
            }
        }
    }
}

fn put<T: Clone>(objects: &mut Vec<T>, object: &T, metadata: impl Fn(&T) -> &ObjectMeta) {
    let own = metadata(object);
    let same = |other: &ObjectMeta| other.namespace == own.namespace && other.name == own.name;
    match objects.iter_mut().find(|other| same(metadata(other))) {
        Some(other) => *other = object.clone(),
        None => objects.push(object.clone()),
    }
}

fn is(metadata: &ObjectMeta, namespace: &str, name: &str) -> bool {
    metadata.namespace.as_deref() == Some(namespace) && metadata.name == name
}

/// The story of a seed, of `length` events.
pub fn story(seed: u64, length: usize) -> Story {
    let mut random = Random::new(seed);
    let start = cluster::world(&mut random);
    let mut teller = Teller { world: start.clone(), changes: Vec::new(), pods: 0 };
    for _ in 0..length {
        teller.event(&mut random);
    }
    Story { length, start, changes: teller.changes }
}

/// The cluster as far as the story has been told.
struct Teller {
    world: World,
    changes: Vec<Change>,
    pods: usize,
}

impl Teller {
    fn tell(&mut self, change: Change) {
        change.apply(&mut self.world);
        self.changes.push(change);
    }

    fn event(&mut self, random: &mut Random) {
        match random.below(20) {
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
            _ => self.delete_policy(random),
        }
    }

    fn any_pod(&self, random: &mut Random) -> Option<Pod> {
        (!self.world.pods.is_empty()).then(|| random.pick(&self.world.pods).clone())
    }

    fn relabel_pod(&mut self, random: &mut Random) {
        let Some(mut pod) = self.any_pod(random) else { return };
        pod.metadata.labels = cluster::labels(random, &cluster::POD_LABELS);
        self.tell(Change::Pod(pod));
    }

    fn delete_pod(&mut self, random: &mut Random) {
        if let Some(pod) = self.any_pod(random) {
            self.tell(gone(&pod));
        }
    }

    /// A pod appears as it does in life: scheduled first, and with addresses some time later.
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
        if random.chance(50) {
            self.tell(Change::Pod(pod.clone()));
        }
        let addresses = cluster::pod_ips(node, host, stack);
        if let ([first, _], true) = (addresses.as_slice(), random.chance(20)) {
            cluster::set_addresses(&mut pod, &[*first]);
            self.tell(Change::Pod(pod.clone()));
        }
        cluster::set_addresses(&mut pod, &addresses);
        self.tell(Change::Pod(pod));
    }

    /// A pod ends, and another gets its address at once; the finished one may go on showing it.
    fn move_address(&mut self, random: &mut Random) {
        let Some(mut old) = self.any_pod(random) else { return };
        let node = old.spec.node_name.as_deref().and_then(Node::named);
        let addresses: Vec<IpAddr> = cluster::addresses(&old).collect();
        let (Some(node), true) = (node, cluster::is_live(&old)) else { return };
        let namespace = random.pick(&self.world.namespaces).metadata.name.clone();
        if random.chance(50) {
            old.status.phase = Some("Succeeded".to_string());
            self.tell(Change::Pod(old));
        } else {
            self.tell(gone(&old));
        }
        self.pods += 1;
        let heir = cluster::pod(random, &namespace, &format!("heir-{}", self.pods), node, &addresses);
        self.tell(Change::Pod(heir));
    }

    fn finish_pod(&mut self, random: &mut Random) {
        let Some(mut pod) = self.any_pod(random) else { return };
        pod.status.phase = Some(random.pick(&["Succeeded", "Failed"]).to_string());
        self.tell(Change::Pod(pod));
    }

    fn terminate_pod(&mut self, random: &mut Random) {
        let Some(mut pod) = self.any_pod(random) else { return };
        pod.metadata.deletion_timestamp = Some("2020-01-01T00:00:00Z".to_string());
        self.tell(Change::Pod(pod.clone()));
        if random.chance(50) {
            self.tell(gone(&pod));
        }
    }

    /// A StatefulSet's pod comes back: the same name, but other ports, another address, perhaps another node. The
    /// watch may have missed that it was away.
    fn recreate_pod(&mut self, random: &mut Random) {
        let Some(old) = self.any_pod(random) else { return };
        let node = *random.pick(&NODES);
        let Some(host) = self.free_host(node) else { return };
        let namespace = old.metadata.namespace.clone().unwrap_or_default();
        let addresses = cluster::pod_ips(node, host, Stack::random(random));
        if random.chance(50) {
            self.tell(gone(&old));
        }
        let pod = cluster::pod(random, &namespace, &old.metadata.name, node, &addresses);
        self.tell(Change::Pod(pod));
    }

    fn relabel_namespace(&mut self, random: &mut Random) {
        if self.world.namespaces.is_empty() {
            return;
        }
        let name = random.pick(&self.world.namespaces).metadata.name.clone();
        let namespace = cluster::namespace(random, &name);
        self.tell(Change::Namespace(namespace));
    }

    /// The namespace terminates; its pods go, its policies, and then itself.
    fn delete_namespace(&mut self, random: &mut Random) {
        if self.world.namespaces.len() < 2 {
            return;
        }
        let mut namespace = random.pick(&self.world.namespaces).clone();
        let name = namespace.metadata.name.clone();
        namespace.metadata.deletion_timestamp = Some("2020-01-01T00:00:00Z".to_string());
        namespace.status.phase = Some("Terminating".to_string());
        self.tell(Change::Namespace(namespace));
        let inside = |metadata: &ObjectMeta| metadata.namespace.as_deref() == Some(&name);
        let pods = self.world.pods.iter().filter(|pod| inside(&pod.metadata)).map(gone);
        let policies = self.world.policies.iter().filter(|policy| inside(&policy.metadata)).map(policy_gone);
        for change in pods.chain(policies).collect::<Vec<_>>() {
            self.tell(change);
        }
        self.tell(Change::NamespaceGone(name));
    }

    fn create_namespace(&mut self, random: &mut Random) {
        let exists =
            |name: &str| self.world.namespaces.iter().any(|namespace| namespace.metadata.name == name);
        if let Some(name) = cluster::NAMESPACES.into_iter().find(|name| !exists(name)) {
            let namespace = cluster::namespace(random, name);
            self.tell(Change::Namespace(namespace));
        }
    }

    fn add_policy(&mut self, random: &mut Random) {
        if self.world.policies.len() < 8 && !self.world.namespaces.is_empty() {
            let policy = policy::policy(random, &self.world);
            self.tell(Change::Policy(policy));
        }
    }

    fn edit_policy(&mut self, random: &mut Random) {
        if self.world.policies.is_empty() {
            return;
        }
        let mut edited = random.pick(&self.world.policies).clone();
        let spec = policy::spec(random);
        // Mostly one part changes, as when a person edits.
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
        self.tell(Change::Policy(edited));
    }

    fn delete_policy(&mut self, random: &mut Random) {
        if !self.world.policies.is_empty() {
            let change = policy_gone(random.pick(&self.world.policies));
            self.tell(change);
        }
    }

    /// A host number on this node that no pod shows, finished ones included.
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
