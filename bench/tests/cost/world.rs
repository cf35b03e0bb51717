//! Clusters that differ only in what is elsewhere, and events in them.

use bridgewarden::api;
use bridgewarden::model::{Change, PodKey, PolicyKey};
use bridgewarden::source::convert;
use bridgewarden_bench::cluster::{GeneratedCluster, GeneratedPod, LOCAL_NODE, Size};
use serde::Deserialize;
use serde_json::{Value, json};
use std::net::Ipv4Addr;

/// How often each event happens.
pub(crate) const TIMES: usize = 25;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventKind {
    /// A pod of another node gets its address.
    RemoteUp,
    /// It gets a label that policies ask for.
    RemoteRelabelled,
    /// It goes.
    RemoteGone,
    /// A pod of another node changes in what no policy asks for.
    Irrelevant,
    /// A policy comes for one pod of this node.
    PolicyCreated,
    /// It goes.
    PolicyDeleted,
    /// A pod of this node gets its address.
    LocalUp,
}

/// What a watch reports: an object's state, or that it is gone.
#[derive(Clone, Debug)]
pub(crate) enum WatchEvent {
    Is(Vec<u8>),
    Gone(Change),
}

/// A cluster.
pub(crate) struct CostClusters {
    cluster: GeneratedCluster,
    pub(crate) objects: Vec<Vec<u8>>,
}

impl CostClusters {
    /// A thousand pods, and this many copies of all of them on other nodes.
    pub(crate) fn new(copies: u32) -> CostClusters {
        let size = Size { pods: 1_000, policies: 100, local_pods: 100, namespaces: 10, seed: 1 };
        let cluster = GeneratedCluster::new(&size).expect("a cluster that fits");
        let objects = cluster.objects().expect("a cluster that is well written");
        let copies = (1..=copies).flat_map(|copy| objects.iter().map(move |object| elsewhere(object, copy)));
        let objects = objects.iter().cloned().chain(copies).map(|object| object.to_string().into_bytes());
        CostClusters { objects: objects.collect(), cluster }
    }

    /// An event as it happens again and again: what goes before it each time, and it.
    pub(crate) fn events(&self, event: EventKind) -> Vec<(Vec<WatchEvent>, WatchEvent)> {
        let pods = self.cluster.newcomers(TIMES);
        pods.into_iter().enumerate().map(|(index, pod)| self.one(event, index, &pod)).collect()
    }

    fn one(&self, event: EventKind, index: usize, pod: &GeneratedPod) -> (Vec<WatchEvent>, WatchEvent) {
        let gone = WatchEvent::Gone(Change::PodGone(PodKey::new(&pod.namespace, &pod.name)));
        let up = WatchEvent::is(&pod.object());
        // Of a template of which the node has a pod already, with a label that no other pod has.
        let like = self.cluster.pods().filter(|pod| pod.node == LOCAL_NODE).nth(index);
        let like = like.expect("the node has as many pods").clone();
        let local = GeneratedPod { name: format!("local-{index}"), address: pod.address, ..like };
        let local = local.labelled("only", &format!("local-{index}"));
        let (policy, policy_gone) = policy_for(&local, &format!("extra-{index}"));
        match event {
            EventKind::RemoteUp => (vec![WatchEvent::is(&pod.pending())], up),
            EventKind::RemoteRelabelled => {
                let is_another =
                    |other: &&GeneratedPod| other.namespace == pod.namespace && other.labels != pod.labels;
                let other = self.cluster.pods().filter(is_another).nth(3 * index).expect("there are many");
                (
                    vec![up],
                    WatchEvent::is(&GeneratedPod { labels: other.labels.clone(), ..pod.clone() }.object()),
                )
            }
            EventKind::RemoteGone => (vec![up], gone),
            EventKind::Irrelevant => {
                let changed =
                    GeneratedPod { annotation: "2".to_owned(), ..pod.clone() }.labelled("unasked", "yes");
                (vec![up], WatchEvent::is(&changed.object()))
            }
            EventKind::PolicyCreated => (vec![WatchEvent::is(&local.object())], policy),
            EventKind::PolicyDeleted => (vec![WatchEvent::is(&local.object()), policy], policy_gone),
            EventKind::LocalUp => (vec![WatchEvent::is(&local.pending())], WatchEvent::is(&local.object())),
        }
    }
}

impl WatchEvent {
    fn is(object: &Value) -> WatchEvent {
        WatchEvent::Is(object.to_string().into_bytes())
    }

    /// The fact, from its text on.
    pub(crate) fn change(&self) -> Change {
        match self {
            WatchEvent::Is(text) => read(text),
            WatchEvent::Gone(change) => change.clone(),
        }
    }
}

/// The fact that an object is there, and is so.
pub(crate) fn read(text: &[u8]) -> Change {
    #[derive(Deserialize)]
    struct Kind {
        kind: String,
    }
    let kind: Kind = serde_json::from_slice(text).expect("an object");
    match kind.kind.as_str() {
        "Pod" => Change::Pod(convert::pod(&parsed::<api::Pod>(text)).0),
        "Namespace" => Change::Namespace(convert::namespace(&parsed::<api::Namespace>(text))),
        _ => Change::Policy(convert::policy(&parsed::<api::NetworkPolicy>(text))),
    }
}

fn parsed<'a, T: Deserialize<'a>>(text: &'a [u8]) -> T {
    serde_json::from_slice(text).expect("an object of the API's shape")
}

/// The same object in another namespace and, if it is a pod, with another address and on another node.
fn elsewhere(object: &Value, copy: u32) -> Value {
    let mut object = object.clone();
    let name = if object["kind"] == "Namespace" { "name" } else { "namespace" };
    let namespace = format!("{}-copy{copy}", object["metadata"][name].as_str().unwrap_or_default());
    if object["kind"] == "Namespace" {
        object["metadata"]["labels"]["kubernetes.io/metadata.name"] = json!(namespace);
    }
    object["metadata"][name] = json!(namespace);
    if object["kind"] == "Pod" {
        if object["spec"]["nodeName"] == LOCAL_NODE {
            object["spec"]["nodeName"] = json!("node-1");
        }
        let address: Ipv4Addr =
            object["status"]["podIP"].as_str().and_then(|text| text.parse().ok()).expect("an address");
        let address = Ipv4Addr::from(u32::from(address) + (copy << 16));
        object["status"]["podIP"] = json!(address);
        object["status"]["podIPs"] = json!([{"ip": address}]);
    }
    object
}

/// A policy that selects one pod by the label that only it has, as it comes and as it goes.
fn policy_for(pod: &GeneratedPod, name: &str) -> (WatchEvent, WatchEvent) {
    let only = pod.labels.iter().find(|(key, _)| key == "only").map(|(_, value)| value);
    let comes = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": pod.namespace, "name": name},
        "spec": {
            "podSelector": {"matchLabels": {"only": only}}, "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"tier": "front"}}}], "ports": [{"port": 8443}]}],
        },
    });
    (WatchEvent::is(&comes), WatchEvent::Gone(Change::PolicyGone(PolicyKey::new(&pod.namespace, name))))
}
