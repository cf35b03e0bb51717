//! The cluster of these tests: a dozen pods that run, and background pods that only the API server knows.

use bridgewarden::api::{Namespace, NetworkPolicy, Pod};
use bridgewarden::explain::oracle::{FlowQuery, QueryEnd, Ruling, World, decide};
use bridgewarden::model::PodKey;
use bridgewarden::net::{Family, Protocol};
use bridgewarden::testbed::{Endpoint, PodPlacement, Probe, Testbed};
use bridgewarden_e2e::key::ObjectKey;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use support::topology::Node;
use support::worlds::Random;

/// The number of background pods.
pub(crate) const BACKGROUND_PODS: usize = 10_000;
const BACKGROUND_NAMESPACES: usize = 20;
/// The number of policies in each background namespace.
const POLICIES: usize = 10;
/// The kubelet's default bound.
const PODS_PER_NODE: usize = 110;

/// The pods that run: node, last number of the addresses, namespace/name, value of the label `app`.
const PODS: [(&str, u8, &str, &str); 12] = [
    ("node-a", 10, "shop/web", "web"),
    ("node-a", 11, "shop/near", "client"),
    ("node-a", 12, "shop/db", "db"),
    ("node-a", 13, "bank/vault", "vault"),
    ("node-a", 14, "bank/till", "till"),
    ("node-a", 15, "bank/clerk", "clerk"),
    ("node-b", 10, "shop/far", "client"),
    ("node-b", 11, "shop/cache", "cache"),
    ("node-b", 12, "shop/other", "other"),
    ("node-c", 13, "bank/guest", "guest"),
    ("node-c", 14, "bank/audit", "audit"),
    ("node-c", 15, "bank/teller", "clerk"),
];

/// The part of the cluster that runs.
#[derive(Clone, Debug)]
pub(crate) struct OutageCluster {
    namespaces: Vec<Value>,
    pub(crate) pods: BTreeMap<ObjectKey, Value>,
    pub(crate) policies: BTreeMap<ObjectKey, Value>,
}

/// The changes from one state of the cluster to another.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClusterDiff {
    pub(crate) gone: Vec<Value>,
    pub(crate) relabelled: Vec<(Value, Value)>,
    pub(crate) new: Vec<Value>,
}

/// Whether one pod may reach another, according to the oracle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PairCheck {
    pub(crate) from: ObjectKey,
    pub(crate) to: ObjectKey,
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) open: bool,
}

impl OutageCluster {
    pub(crate) fn new() -> OutageCluster {
        let pods = PODS.map(|(node, host, key, app)| (read(key), pod(key, node, host, app)));
        let peers = |app: &str| json!({"podSelector": {"matchLabels": {"app": app}}});
        let background_clients = |team: &str| {
            json!({"namespaceSelector": {"matchLabels": {"background": "true", "team": team}},
                   "podSelector": {"matchLabels": {"role": "client"}}})
        };
        let subject = |app: &str| json!({"matchLabels": {"app": app}});
        let policies = [
            policy(
                "shop/web",
                json!({"podSelector": subject("web"), "ingress": [{"from": [peers("client"), background_clients("red")]}]}),
            ),
            policy(
                "shop/db",
                json!({"podSelector": subject("db"), "ingress": [{"from": [peers("web"), peers("cache")]}]}),
            ),
            policy(
                "shop/other",
                json!({"podSelector": subject("other"), "policyTypes": ["Ingress", "Egress"], "egress": [{"to": [peers("web")]}]}),
            ),
            policy("bank/closed", json!({"podSelector": {}, "policyTypes": ["Ingress"]})),
            policy(
                "bank/vault",
                json!({"podSelector": subject("vault"), "ingress": [{"from": [peers("clerk")]}]}),
            ),
            policy(
                "bank/clerk",
                json!({"podSelector": subject("clerk"), "ingress": [{"from": [peers("till"), background_clients("blue")]}]}),
            ),
            policy(
                "bank/guest",
                json!({"podSelector": subject("guest"), "policyTypes": ["Egress"], "egress": [{"to": [peers("clerk")]}]}),
            ),
        ];
        OutageCluster {
            namespaces: ["shop", "bank"].map(|name| namespace(name, &json!({}))).into(),
            pods: pods.into(),
            policies: policies.map(|policy| (key(&policy), policy)).into(),
        }
    }

    /// All its objects.
    pub(crate) fn objects(&self) -> Vec<Value> {
        self.namespaces.iter().chain(self.pods.values()).chain(self.policies.values()).cloned().collect()
    }

    /// Sets the label `app` of a pod.
    pub(crate) fn relabel(&mut self, key: &str, app: &str) {
        if let Some(pod) = self.pods.get_mut(&read(key)) {
            pod["metadata"]["labels"]["app"] = json!(app);
        }
    }

    /// Adds or replaces a pod.
    pub(crate) fn add_pod(&mut self, key: &str, node: &str, host: u8, app: &str) {
        self.pods.insert(read(key), pod(key, node, host, app));
    }

    pub(crate) fn remove_pod(&mut self, key: &str) {
        self.pods.remove(&read(key));
    }

    /// Adds or replaces a policy.
    pub(crate) fn add_policy(&mut self, key: &str, spec: Value) {
        self.policies.insert(read(key), policy(key, spec));
    }

    pub(crate) fn remove_policy(&mut self, key: &str) {
        self.policies.remove(&read(key));
    }

    /// Every pair of pods in both families, with what the oracle says.
    pub(crate) fn questions(&self) -> Vec<PairCheck> {
        let world = World {
            namespaces: self.namespaces.iter().map(shape::<Namespace>).collect(),
            pods: self.pods.values().map(shape::<Pod>).collect(),
            policies: self.policies.values().map(shape::<NetworkPolicy>).collect(),
        };
        let mut questions = Vec::new();
        for (source, from) in self.pods.keys().enumerate() {
            for (destination, to) in self.pods.keys().enumerate().filter(|(place, _)| *place != source) {
                for family in Family::BOTH {
                    let (source, destination) = (QueryEnd::Pod(source), QueryEnd::Pod(destination));
                    let flow = FlowQuery { source, destination, protocol: Protocol::Tcp, port: 80, family };
                    let verdict = decide(&world, &flow).expect("these pods have both families");
                    questions.push(PairCheck {
                        from: from.clone(),
                        to: to.clone(),
                        source: address(&self.pods[from], family),
                        destination: address(&self.pods[to], family),
                        open: verdict == Ruling::Allowed,
                    });
                }
            }
        }
        questions
    }

    /// Where the pods are.
    pub(crate) fn places(&self) -> Vec<PodPlacement> {
        self.pods.iter().map(|(key, pod)| place(key, pod)).collect()
    }

    /// What has to be changed in a cluster that is as `before`.
    pub(crate) fn diff(&self, before: &OutageCluster) -> ClusterDiff {
        let mut diff = ClusterDiff::default();
        let pairs = [(&before.pods, &self.pods), (&before.policies, &self.policies)];
        for (before, after) in pairs {
            diff.gone.extend(
                before.iter().filter(|(key, _)| !after.contains_key(key)).map(|(_, gone)| gone.clone()),
            );
            for (key, object) in after {
                match before.get(key) {
                    None => diff.new.push(object.clone()),
                    Some(known) if known != object => {
                        let labels = object["metadata"]["labels"].clone();
                        diff.relabelled.push((object.clone(), json!({"metadata": {"labels": labels}})));
                    }
                    Some(_) => {}
                }
            }
        }
        diff
    }

    /// Splits the pairs of this state: those with the same verdict in `before`, and those that are new or differ.
    pub(crate) fn compare(&self, before: &OutageCluster) -> (Vec<PairCheck>, Vec<PairCheck>) {
        let before = before.questions();
        self.questions().into_iter().partition(|question| before.contains(question))
    }
}

impl PairCheck {
    /// The probe of this pair.
    pub(crate) fn probe(&self) -> Probe {
        let from = Endpoint::pod(&self.from.namespace, &self.from.name);
        Probe::new(from, self.destination, Protocol::Tcp, 80).from_address(self.source)
    }

    /// The resolved probe, which stays valid while the testbed changes.
    pub(crate) fn resolve(&self, testbed: &Testbed) -> bridgewarden::testbed::ResolvedProbe {
        let key = PodKey::new(&self.from.namespace, &self.from.name);
        bridgewarden::testbed::ResolvedProbe {
            namespace: testbed.pod_namespace(&key).expect("the pod is there").clone(),
            source: Some(self.source),
            to: (self.destination, 80).into(),
            protocol: Protocol::Tcp,
            owners: [self.to.endpoint()].into(),
        }
    }
}

pub(crate) fn place(key: &ObjectKey, pod: &Value) -> PodPlacement {
    PodPlacement {
        pod: PodKey::new(&key.namespace, &key.name),
        node: pod["spec"]["nodeName"].as_str().unwrap_or_default().to_owned(),
        addresses: Family::BOTH.map(|family| address(pod, family)).into(),
        listens: vec![(Protocol::Tcp, 80)],
        host_network: false,
    }
}

/// Background objects: namespaces with their policies, and pods on nodes that do not exist. The same seed gives the same objects.
pub(crate) fn background_objects(seed: u64) -> Vec<Value> {
    let mut random = Random::new(seed);
    let mut objects = Vec::new();
    for number in 0..BACKGROUND_NAMESPACES {
        let name = format!("background-{number:02}");
        let team = if number % 2 == 0 { "red" } else { "blue" };
        objects.push(namespace(&name, &json!({"background": "true", "team": team})));
        for policy_number in 0..POLICIES {
            let (app, peer) = (random.below(25), random.below(25));
            objects.push(policy(
                &format!("{name}/policy-{policy_number}"),
                json!({"podSelector": {"matchLabels": {"app": format!("app-{app}")}},
                       "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": format!("app-{peer}")}}}]}]}),
            ));
        }
    }
    objects.extend((0..BACKGROUND_PODS).map(|index| background_pod(&mut random, index)));
    objects
}

/// One background pod.
pub(crate) fn background_pod(random: &mut Random, index: usize) -> Value {
    let role = if random.chance(50) { "client" } else { "server" };
    let low = u32::try_from(index).expect("few pods") + 1;
    let v4 = Ipv4Addr::from(0x0a40_0000 + low);
    let v6 = Ipv6Addr::from(0xfd00_0064_0000_0000_0000_0000_0000_0000 + u128::from(low));
    let labels = json!({"app": format!("app-{}", random.below(25)), "role": role});
    object_of_pod(
        &ObjectKey::new(&format!("background-{:02}", index % BACKGROUND_NAMESPACES), &format!("pod-{index}")),
        &format!("far-{:03}", index / PODS_PER_NODE),
        [v4.into(), v6.into()],
        &labels,
    )
}

fn pod(name: &str, node: &str, host: u8, app: &str) -> Value {
    let at = match Node::named(node) {
        Some(node) => node,
        None => Node { name: "node-c", number: 3 },
    };
    object_of_pod(
        &read(name),
        node,
        Family::BOTH.map(|family| at.pod_address(family, host)),
        &json!({"app": app}),
    )
}

fn object_of_pod(key: &ObjectKey, node: &str, addresses: [IpAddr; 2], labels: &Value) -> Value {
    let [v4, v6] = addresses.map(|address| address.to_string());
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": key.namespace, "name": key.name, "labels": labels},
        "spec": {"nodeName": node, "containers": [{"name": "main", "ports": [{"containerPort": 80}]}]},
        "status": {"phase": "Running", "podIPs": [{"ip": v4}, {"ip": v6}]},
    })
}

fn policy(name: &str, spec: Value) -> Value {
    let key = read(name);
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
           "metadata": {"namespace": key.namespace, "name": key.name}, "spec": spec})
}

fn namespace(name: &str, labels: &Value) -> Value {
    let mut labels = labels.clone();
    labels["kubernetes.io/metadata.name"] = json!(name);
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

fn address(pod: &Value, family: Family) -> IpAddr {
    let place = match family {
        Family::V4 => "/status/podIPs/0/ip",
        Family::V6 => "/status/podIPs/1/ip",
    };
    let text = pod.pointer(place).and_then(Value::as_str).expect("a pod here has both families");
    text.parse().expect("an address")
}

fn shape<T: DeserializeOwned>(object: &Value) -> T {
    serde_json::from_value(object.clone()).expect("an object of the API's shape")
}

fn key(object: &Value) -> ObjectKey {
    let word = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    ObjectKey::new(&word("namespace"), &word("name"))
}

fn read(key: &str) -> ObjectKey {
    key.parse().expect("namespace/name")
}
