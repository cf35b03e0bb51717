//! Random namespaces and pods.

use super::{Random, policy};
use crate::topology::{NODES, Node};
use bridgewarden::api::{Container, ContainerPort, Namespace, ObjectMeta, Pod, PodIp, PodSpec, PodStatus};
use bridgewarden::explain::oracle::World;
use bridgewarden::net::Family;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Some of these names are prefixes of others: code that joins names without a separator confuses them.
pub(super) const NAMESPACES: [&str; 3] = ["te", "tea", "team"];

/// The labels of pods: key and values.
pub(super) const POD_LABELS: [(&str, &[&str]); 3] =
    [("app", &["web", "db", "api"]), ("tier", &["front", "back"]), ("example.org/canary", &["", "yes"])];

/// The labels of namespaces.
pub(super) const NAMESPACE_LABELS: [(&str, &[&str]); 2] =
    [("owner", &["ann", "bob"]), ("env", &["prod", "test"])];

/// Ports that containers declare: the same name stands for different numbers and protocols in different pods.
const CONTAINER_PORTS: [(Option<&str>, i64, Option<&str>); 14] = [
    (Some("web"), 80, None),
    (Some("web"), 8080, Some("TCP")),
    (Some("web"), 443, Some("TCP")),
    (Some("web"), 443, Some("UDP")),
    (Some("dns"), 53, Some("UDP")),
    (Some("dns"), 5353, Some("UDP")),
    (Some("dns"), 9090, Some("TCP")),
    (Some("metrics"), 9090, Some("TCP")),
    (Some("metrics"), 9100, None),
    (Some("signal"), 3868, Some("SCTP")),
    (None, 80, Some("TCP")),
    (None, 80, Some("UDP")),
    (None, 80, Some("SCTP")),
    (None, 443, None),
];

/// The families in which a pod has addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stack {
    Dual,
    Only(Family),
}

impl Stack {
    /// A random choice, mostly both families.
    pub(super) fn random(random: &mut Random) -> Stack {
        match random.below(8) {
            0 => Stack::Only(Family::V4),
            1 => Stack::Only(Family::V6),
            _ => Stack::Dual,
        }
    }

    fn families(self) -> Vec<Family> {
        match self {
            Stack::Dual => Family::BOTH.to_vec(),
            Stack::Only(family) => vec![family],
        }
    }
}

/// A whole cluster.
pub(super) fn world(random: &mut Random) -> World {
    let namespaces: Vec<Namespace> = NAMESPACES.iter().map(|name| namespace(random, name)).collect();
    let mut pods: Vec<Pod> = Vec::new();
    for index in 0..9_u8 {
        // Every namespace has pods on both nodes.
        let node = NODES[usize::from(index % 2)];
        let namespace = NAMESPACES[usize::from(index % 3)];
        let stack = if index < 4 { Stack::Dual } else { Stack::random(random) };
        pods.push(pod(random, namespace, &format!("pod-{index}"), node, &pod_ips(node, 10 + index, stack)));
    }
    if random.chance(75) {
        let node = NODES[7 % 2];
        pods[7].spec.host_network = Some(true);
        set_addresses(&mut pods[7], &Family::BOTH.map(|family| node.address(family)));
    }
    if random.chance(75) {
        pods[8].status.phase = Some(random.pick(&["Succeeded", "Failed"]).to_string());
        if random.chance(50) {
            // The address in the status of the finished pod belongs to another pod by now.
            let taken: Vec<IpAddr> = addresses(&pods[6]).collect();
            set_addresses(&mut pods[8], &taken);
        }
    }
    let mut world = World { namespaces, pods, policies: Vec::new() };
    for _ in 0..=random.below(6) {
        let policy = policy::policy(random, &world);
        world.policies.push(policy);
    }
    world
}

/// A namespace with random labels.
pub(super) fn namespace(random: &mut Random, name: &str) -> Namespace {
    let mut metadata =
        ObjectMeta { name: name.to_string(), labels: labels(random, &NAMESPACE_LABELS), ..meta() };
    if random.chance(50) {
        let labels = metadata.labels.get_or_insert_default();
        labels.insert("kubernetes.io/metadata.name".to_string(), name.to_string());
    }
    Namespace { metadata, ..Namespace::default() }
}

/// A running pod with random labels and ports.
pub(super) fn pod(random: &mut Random, namespace: &str, name: &str, node: Node, addresses: &[IpAddr]) -> Pod {
    let metadata = ObjectMeta {
        name: name.to_string(),
        namespace: Some(namespace.to_string()),
        labels: labels(random, &POD_LABELS),
        deletion_timestamp: random.chance(10).then(|| "2020-01-01T00:00:00Z".to_string()),
        ..meta()
    };
    let mut containers = vec![container(random, "main")];
    if random.chance(20) {
        containers.push(container(random, "second"));
    }
    let mut init_containers = Vec::new();
    if random.chance(40) {
        let restart_policy = random.chance(60).then(|| "Always".to_string());
        let mut init = Container { restart_policy, ..container(random, "init") };
        if init.ports.is_empty() {
            init.ports.push(port(random));
        }
        init_containers.push(init);
    }
    let spec = PodSpec {
        node_name: Some(node.name.to_string()),
        host_network: random.chance(10).then_some(false),
        containers,
        init_containers,
    };
    let phase = if random.chance(10) { "Pending" } else { "Running" };
    let status = PodStatus { phase: Some(phase.to_string()), ..PodStatus::default() };
    let mut pod = Pod { metadata, spec, status };
    set_addresses(&mut pod, addresses);
    pod
}

/// The addresses of a pod on this node.
pub(super) fn pod_ips(node: Node, host: u8, stack: Stack) -> Vec<IpAddr> {
    stack.families().into_iter().map(|family| node.pod_address(family, host)).collect()
}

/// Writes addresses into a pod's status, as the kubelet does.
pub(super) fn set_addresses(pod: &mut Pod, addresses: &[IpAddr]) {
    pod.status.pod_ip = addresses.first().map(IpAddr::to_string);
    pod.status.pod_ips = addresses.iter().map(|address| PodIp { ip: address.to_string() }).collect();
}

/// The addresses that a pod's status shows.
pub fn addresses(pod: &Pod) -> impl Iterator<Item = IpAddr> {
    pod.status.pod_ips.iter().filter_map(|pod_ip| pod_ip.ip.parse().ok())
}

/// Whether the pod's containers have ended.
pub(super) fn has_finished(pod: &Pod) -> bool {
    matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed"))
}

/// Whether the pod has its own network and has not finished.
pub(super) fn is_live(pod: &Pod) -> bool {
    !has_finished(pod) && pod.spec.host_network != Some(true)
}

/// Whether each address belongs to at most one live pod.
#[cfg(test)]
pub(super) fn addresses_are_unique(world: &World) -> bool {
    let mut seen = std::collections::BTreeSet::new();
    world.pods.iter().filter(|pod| is_live(pod)).flat_map(addresses).all(|address| seen.insert(address))
}

/// Random labels: each key may be left out, or has one of its values.
pub(super) fn labels(random: &mut Random, alphabet: &[(&str, &[&str])]) -> Option<BTreeMap<String, String>> {
    let labels: BTreeMap<String, String> = random
        .some(alphabet, 60)
        .into_iter()
        .map(|(key, values)| (key.to_string(), random.pick(values).to_string()))
        .collect();
    (!labels.is_empty() || random.chance(50)).then_some(labels)
}

fn container(random: &mut Random, name: &str) -> Container {
    let mut ports: Vec<ContainerPort> = Vec::new();
    for _ in 0..random.below(4) {
        let port = port(random);
        // The API server accepts a port name only once per container.
        if port.name.is_none() || ports.iter().all(|other| other.name != port.name) {
            ports.push(port);
        }
    }
    Container { name: name.to_string(), ports, restart_policy: None }
}

fn port(random: &mut Random) -> ContainerPort {
    let (name, container_port, protocol) = *random.pick(&CONTAINER_PORTS);
    ContainerPort { name: name.map(str::to_string), container_port, protocol: protocol.map(str::to_string) }
}

fn meta() -> ObjectMeta {
    ObjectMeta::default()
}
