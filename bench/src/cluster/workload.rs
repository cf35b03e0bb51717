//! Deployments and stateful sets, and their pods.

use std::fmt::Write;
use std::net::Ipv4Addr;
use support::worlds::Random;

const FRONTS: [&str; 10] =
    ["cart", "order", "user", "price", "stock", "invoice", "report", "session", "image", "event"];
const BACKS: [&str; 8] = ["api", "web", "worker", "db", "cache", "queue", "proxy", "sync"];

/// Pods that are made from one template.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    namespace: String,
    /// The value of the label `app`.
    pub(super) app: String,
    /// The labels of its pods; a stateful set's have one more each.
    pub(super) labels: Vec<(String, String)>,
    stateful: bool,
    hash: String,
    /// Whether one of its pods is on this node.
    pub(super) local: bool,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) annotation: String,
    pub(crate) node: String,
    pub(crate) address: Ipv4Addr,
}

fn hash(random: &mut Random, length: usize) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    (0..length).map(|_| char::from(*random.pick(ALPHABET))).collect()
}

impl Workload {
    /// Makes one up; `index` is its number in its namespace.
    pub(super) fn new(random: &mut Random, namespace: &str, team: &str, index: usize) -> Workload {
        let (front, back) = (FRONTS[index % FRONTS.len()], BACKS[index / FRONTS.len() % BACKS.len()]);
        let app = match (namespace, index) {
            ("kube-system", 0) => "kube-dns".to_owned(),
            (_, 0..80) => format!("{front}-{back}"),
            _ => format!("{front}-{back}-{}", index / 80),
        };
        let tier = match back {
            "web" | "proxy" => "front",
            "db" | "cache" | "queue" => "data",
            _ => "back",
        };
        let hash = hash(random, 10);
        let stateful = tier == "data" && random.chance(40);
        let revision = if stateful { "controller-revision-hash" } else { "pod-template-hash" };
        let version = format!("v{}.{}", 1 + random.below(4), random.below(10));
        let labels = [
            ("app", app.as_str()),
            ("app.kubernetes.io/managed-by", "Helm"),
            ("app.kubernetes.io/part-of", team),
            (revision, &hash),
            ("tier", tier),
            ("version", &version),
        ];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        Workload { namespace: namespace.to_owned(), app, labels, stateful, hash, local: false }
    }

    /// One of its pods.
    pub(super) fn pod(&self, random: &mut Random, index: usize, node: String, address: Ipv4Addr) -> Pod {
        let mut labels = self.labels.clone();
        let name = if self.stateful {
            let name = format!("{}-{index}", self.app);
            labels.push(("statefulset.kubernetes.io/pod-name".to_owned(), name.clone()));
            name
        } else {
            format!("{}-{}-{}", self.app, self.hash, hash(random, 5))
        };
        let namespace = self.namespace.clone();
        Pod { namespace, name, labels, annotation: "1".to_owned(), node, address }
    }
}

impl Pod {
    /// As the API server tells it, with what policies never ask for kept short.
    pub(crate) fn manifest(&self) -> String {
        let Pod { namespace, name, labels, annotation, node, address } = self;
        let mut text =
            format!("apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  namespace: {namespace}\n");
        let _ = writeln!(text, "  annotations:\n    example.org/restarted-at: \"{annotation}\"\n  labels:");
        for (key, value) in labels {
            let _ = writeln!(text, "    {key}: \"{value}\"");
        }
        let _ = write!(
            text,
            "spec:\n  nodeName: {node}\n  serviceAccountName: default\n  containers:\n  - name: main\n    \
             image: registry.example.org/{namespace}/main:1.0\n    ports:\n    - name: http\n      \
             containerPort: 8080\n      protocol: TCP\n    - name: metrics\n      containerPort: 9090\n      \
             protocol: TCP\n    resources:\n      requests:\n        cpu: 100m\n        memory: 128Mi\n\
             status:\n  phase: Running\n  podIP: {address}\n  podIPs:\n  - ip: {address}\n"
        );
        text
    }
}
