//! Starting pods and observers on a real cluster.

use super::agents;
use super::client::Client;
use super::node::KindNode;
use super::waits_for;
use crate::first_instant::{Micros, Observed, Observer, PodEvents, Report};
use crate::key::ObjectKey;
use crate::object;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const NAMESPACE: &str = "first-instant";
/// The interval of an observer's probes to a starting pod.
const PACE: Duration = Duration::from_millis(2);
/// Where starting pods leave their reports on their node.
const REPORTS: &str = "run/bridgewarden-first-instant";
/// The policy for the starting pods of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyUnderTest {
    /// Isolates them in both directions; created before the pods.
    Denied,
    /// Allows traffic with the observers, some of which are isolated themselves and allow these pods.
    Allowed,
}

impl PolicyUnderTest {
    fn role(self) -> &'static str {
        match self {
            PolicyUnderTest::Denied => "denied",
            PolicyUnderTest::Allowed => "allowed",
        }
    }

    /// The observers that the pods send to. Isolated observers would hide leaks of a denied pod, so it has only open ones.
    fn observers(self) -> &'static [&'static str] {
        match self {
            PolicyUnderTest::Denied => &["near", "far"],
            PolicyUnderTest::Allowed => &["near", "far", "strict-near", "strict-far"],
        }
    }

    fn words(self) -> [&'static str; 2] {
        match self {
            PolicyUnderTest::Denied => ["--lifetime-ms=3000", "--until-answered=false"],
            PolicyUnderTest::Allowed => ["--lifetime-ms=10000", "--until-answered=true"],
        }
    }
}

/// What was recorded about one starting pod, once it has ended.
#[derive(Debug)]
pub struct StartedPod {
    /// The pod's name.
    pub name: String,
    /// The index of its node: near observers are on the first node, far ones on the second.
    pub node: usize,
    /// The pod's own report.
    pub report: Report,
    /// What each observer recorded about it.
    pub observed: BTreeMap<&'static str, Observed>,
    /// When a watch of the API reported its address.
    pub reported: Option<Micros>,
}

/// A namespace for starting pods and their observers.
#[derive(Debug)]
pub struct StartupTest {
    client: Client,
    nodes: [KindNode; 2],
    image: String,
    pod_events: PodEvents,
    observers: BTreeMap<&'static str, Observer>,
    created: usize,
}

impl StartupTest {
    /// Creates the namespace on the cluster that a file of `e2e/cluster/up` describes. Starting pods run `image`.
    ///
    /// # Errors
    /// When the cluster cannot be reached, or its observers don't run.
    pub fn open(environment: &Path, image: &str) -> Result<StartupTest> {
        let client = Client::new(environment)?;
        agents::are_ready(&client)?;
        let nodes = [KindNode::find(&client, "WORKER")?, KindNode::find(&client, "CONTROL_PLANE")?];
        let mut test = StartupTest {
            client,
            nodes,
            image: image.to_owned(),
            pod_events: PodEvents::new(NAMESPACE),
            observers: BTreeMap::new(),
            created: 0,
        };
        test.prepare()?;
        Ok(test)
    }

    fn prepare(&mut self) -> Result<()> {
        self.client.kubectl(&["delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s"])?;
        self.client.apply(&[object::namespace(NAMESPACE, &BTreeMap::new())])?;
        let image = self.client.pod_image()?;
        let names = PolicyUnderTest::Allowed.observers();
        let pods = names.iter().map(|name| self.observer(name, &image)).collect::<Vec<_>>();
        let policies = policies().map(|(name, spec)| object::policy(&ObjectKey::new(NAMESPACE, name), &spec));
        self.client.apply(&[&policies[..], &pods].concat())?;
        for node in &self.nodes {
            self.pod_events.follow_results(&node.path("var/lib/cni/results"))?;
            let _ = fs::remove_dir_all(node.path(REPORTS));
        }
        let kubeconfig = PathBuf::from(self.client.setting("KUBECONFIG")?);
        self.pod_events.follow_api(&kubeconfig, self.client.network())?;
        for name in names {
            let (namespace, address) =
                self.home(name).running(&self.client, &ObjectKey::new(NAMESPACE, name))?;
            let observer = Observer::begin(name, &namespace, address, &self.pod_events, PACE)?;
            self.observers.insert(name, observer);
        }
        Ok(())
    }

    fn home(&self, observer: &str) -> &KindNode {
        &self.nodes[usize::from(observer.ends_with("far"))]
    }

    fn observer(&self, name: &str, image: &str) -> Value {
        let strict = if name.starts_with("strict") { "yes" } else { "no" };
        let labels = json!({"app": "observer", "strict": strict});
        object::idle_pod(&ObjectKey::new(NAMESPACE, name), &self.home(name).name, &labels, image)
    }

    fn starting_pod(&self, name: &str, node: usize, policy: PolicyUnderTest) -> Value {
        let mut words = vec![format!("--name={name}"), "--reports=/reports".to_owned()];
        words.extend(policy.words().map(str::to_owned));
        let observers = policy.observers().iter().filter_map(|name| self.observers.get(name));
        words.extend(observers.map(|observer| format!("--observer={}", observer.address())));
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": NAMESPACE, "name": name, "labels": {"app": "starting", "role": policy.role()}},
            "spec": {
                "nodeName": self.nodes[node].name, "restartPolicy": "Never", "enableServiceLinks": false,
                "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0,
                "tolerations": [{"operator": "Exists"}],
                "containers": [{"name": "main", "image": self.image, "imagePullPolicy": "IfNotPresent", "args": words,
                                "volumeMounts": [{"name": "reports", "mountPath": "/reports"}]}],
                "volumes": [{"name": "reports", "hostPath": {"path": format!("/{REPORTS}"), "type": "DirectoryOrCreate"}}],
            },
        })
    }

    /// Starts `number` pods, `wave` at once and half of these on each node, and returns the record of each.
    ///
    /// # Errors
    /// When pods cannot be created, or one leaves no report.
    pub fn run(&mut self, number: usize, wave: usize, policy: PolicyUnderTest) -> Result<Vec<StartedPod>> {
        let mut started = Vec::new();
        while started.len() < number {
            let names: Vec<(String, usize)> = (0..wave.min(number - started.len()))
                .map(|place| (format!("starting-{}", self.created + place), place % self.nodes.len()))
                .collect();
            self.created += names.len();
            let pods: Vec<Value> =
                names.iter().map(|(name, node)| self.starting_pod(name, *node, policy)).collect();
            self.client.apply(&pods)?;
            for (name, node) in &names {
                started.push(self.report(name, *node, policy)?);
            }
            let names: Vec<String> = names.into_iter().map(|(name, _)| name).collect();
            self.pod_events.forget(&names);
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let delete = ["-n", NAMESPACE, "delete", "pods", "--wait=false", "--grace-period=0", "--force"];
            self.client.kubectl(&[&delete[..], &names].concat())?;
        }
        Ok(started)
    }

    /// Waits for a starting pod's report.
    fn report(&self, name: &str, node: usize, policy: PolicyUnderTest) -> Result<StartedPod> {
        let path = self.nodes[node].path(REPORTS).join(name);
        waits_for(&format!("a report of {name}"), || Ok(path.exists()))?;
        // A denied pod may have ended before its kubelet reported its address.
        if policy == PolicyUnderTest::Allowed {
            let reported = || Ok(self.pod_events.reported(name).is_some());
            waits_for(&format!("the API reports {name}"), reported)
                .with_context(|| format!("last error of the watch: {:?}", self.pod_events.trouble()))?;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let report = serde_json::from_str(&text).with_context(|| format!("the report of {name}"))?;
        let observers = policy.observers().iter();
        let observed = observers.filter_map(|own| Some((*own, self.observers.get(own)?.observed(name))));
        Ok(StartedPod {
            name: name.to_owned(),
            node,
            report,
            observed: observed.collect(),
            reported: self.pod_events.reported(name),
        })
    }

    /// Reinstalls the agents with or without what isolates a pod before the API reports it.
    ///
    /// # Errors
    /// When that does not succeed.
    pub fn guard(&self, guarded: bool) -> Result<()> {
        agents::guard(&self.client, guarded)
    }

    /// Removes the namespace.
    ///
    /// # Errors
    /// When an observer ended early, or the namespace is not deleted.
    pub fn close(mut self) -> Result<()> {
        std::mem::take(&mut self.observers).into_values().try_for_each(Observer::end)?;
        self.client.kubectl(&["delete", "namespace", NAMESPACE, "--timeout=120s"]).map(drop)
    }
}

fn policies() -> [(&'static str, Value); 3] {
    let select = |key: &str, value: &str| json!({"matchLabels": {key: value}});
    let peers = |key: &str, value: &str| json!([{"podSelector": select(key, value)}]);
    [
        ("deny", json!({"podSelector": select("app", "starting"), "policyTypes": ["Ingress", "Egress"]})),
        (
            "allowed",
            json!({"podSelector": select("role", "allowed"), "policyTypes": ["Ingress", "Egress"],
                   "ingress": [{"from": peers("app", "observer")}], "egress": [{"to": peers("app", "observer")}]}),
        ),
        (
            "strict",
            json!({"podSelector": select("strict", "yes"), "ingress": [{"from": peers("role", "allowed")}]}),
        ),
    ]
}
