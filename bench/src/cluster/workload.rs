//! Deployments and stateful sets, and their pods.

use super::{LOCAL_ADDRESS, LOCAL_NODE};
use serde_json::{Map, Value, json};
use std::net::Ipv4Addr;
use support::worlds::Random;

const FRONTS: [&str; 10] =
    ["cart", "order", "user", "price", "stock", "invoice", "report", "session", "image", "event"];
const BACKS: [&str; 8] = ["api", "web", "worker", "db", "cache", "queue", "proxy", "sync"];

/// The address of every other node.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The conditions of a pod that runs.
const CONDITIONS: [&str; 5] =
    ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];

/// Pods that are created from one template.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    namespace: String,
    /// The value of the label `app`.
    pub(super) app: String,
    /// The labels of its pods; those of a stateful set have one more each.
    pub(super) labels: Vec<(String, String)>,
    stateful: bool,
    hash: String,
    /// Whether one of its pods is on this node.
    pub(super) local: bool,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeneratedPod {
    /// metadata.namespace.
    pub namespace: String,
    /// metadata.name.
    pub name: String,
    /// metadata.labels.
    pub labels: Vec<(String, String)>,
    /// Kind and name of its controller.
    pub owner: (&'static str, String),
    /// An annotation that no policy depends on.
    pub annotation: String,
    /// spec.nodeName.
    pub node: String,
    /// status.podIP.
    pub address: Ipv4Addr,
}

fn hash(random: &mut Random, length: usize) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    (0..length).map(|_| char::from(*random.pick(ALPHABET))).collect()
}

impl Workload {
    /// Generates a workload; `index` is its number in its namespace.
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
    pub(super) fn pod(
        &self,
        random: &mut Random,
        index: usize,
        node: String,
        address: Ipv4Addr,
    ) -> GeneratedPod {
        let mut labels = self.labels.clone();
        let (name, owner) = if self.stateful {
            let name = format!("{}-{index}", self.app);
            labels.push(("statefulset.kubernetes.io/pod-name".to_owned(), name.clone()));
            (name, ("StatefulSet", self.app.clone()))
        } else {
            let set = format!("{}-{}", self.app, self.hash);
            (format!("{set}-{}", hash(random, 5)), ("ReplicaSet", set))
        };
        let namespace = self.namespace.clone();
        GeneratedPod { namespace, name, labels, owner, annotation: "1".to_owned(), node, address }
    }
}

impl GeneratedPod {
    /// The object as the API server stores it, with everything that a kubelet and a controller write.
    pub fn object(&self) -> Value {
        let GeneratedPod { namespace, name, labels, owner: (owner_kind, owner), annotation, node, .. } = self;
        let labels: Map<String, Value> =
            labels.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
        let path = "/var/run/secrets/kubernetes.io/serviceaccount";
        let probe = |path: &str| json!({"httpGet": {"path": path, "port": 8080}, "periodSeconds": 10, "timeoutSeconds": 1});
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "namespace": namespace, "name": name, "labels": labels,
                "annotations": {
                    "example.org/restarted-at": annotation,
                    "prometheus.io/scrape": "true", "prometheus.io/port": "9090",
                    "checksum/config": "4c1d2b8e0a97f5563d1f7a2e9b60c48d75ef31a20c6b9d8e4f7a1b2c3d4e5f60",
                },
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": owner_kind, "name": owner, "controller": true,
                    "uid": "6f1c2a34-5b7d-4e8f-9a0b-1c2d3e4f5a6b", "blockOwnerDeletion": true,
                }],
            },
            "spec": {
                "nodeName": node, "serviceAccountName": "default",
                "containers": [{
                    "name": "main", "image": format!("registry.example.org/{namespace}/main:1.0"),
                    "ports": [
                        {"name": "http", "containerPort": 8080, "protocol": "TCP"},
                        {"name": "metrics", "containerPort": 9090, "protocol": "TCP"},
                    ],
                    "env": [
                        {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                        {"name": "LOG_LEVEL", "value": "info"},
                        {"name": "DATABASE", "value": format!("postgres://db.{namespace}.svc:5432/main")},
                        {"name": "CACHE", "value": format!("redis://cache.{namespace}.svc:6379/0")},
                    ],
                    "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
                    "volumeMounts": [{"name": "token", "mountPath": path, "readOnly": true}],
                    "livenessProbe": probe("/healthz"), "readinessProbe": probe("/readyz"),
                }],
                "volumes": [{"name": "token", "projected": {"defaultMode": 420, "sources": [
                    {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                    {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                ]}}],
                "tolerations": [
                    {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
                    {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
                ],
            },
            "status": self.status(),
        })
    }

    /// The status that its kubelet reports once it runs.
    pub fn status(&self) -> Value {
        let since = "2026-01-01T00:00:00Z";
        let host = if self.node == LOCAL_NODE { LOCAL_ADDRESS } else { ELSEWHERE };
        let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": since});
        json!({
            "phase": "Running", "startTime": since,
            "podIP": self.address, "podIPs": [{"ip": self.address}],
            "hostIP": host, "hostIPs": [{"ip": host}],
            "conditions": CONDITIONS.map(condition),
            "containerStatuses": [{
                "name": "main", "ready": true, "started": true, "restartCount": 0,
                "image": format!("registry.example.org/{}/main:1.0", self.namespace),
                "imageID": "registry.example.org/main@sha256:9b2a1c7d5e8f40312a6b7c8d9e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b",
                "containerID": "containerd://0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0",
                "state": {"running": {"startedAt": since}},
            }],
        })
    }

    /// Another pod of the same template, before its kubelet has reported a status.
    pub fn pending(&self) -> Value {
        let mut object = self.object();
        object["status"] = json!({"phase": "Pending"});
        object
    }

    /// The same pod with one more label, or another value of it.
    pub fn labelled(mut self, key: &str, value: &str) -> GeneratedPod {
        self.labels.retain(|(own, _)| own != key);
        self.labels.push((key.to_owned(), value.to_owned()));
        self
    }
}
