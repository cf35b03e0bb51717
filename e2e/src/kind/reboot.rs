//! Pods on a node that is rebooted: what passes while the node starts.

use super::PAUSE;
use super::agents;
use super::client::Client;
use super::node::KindNode;
use super::uplink::Uplink;
use crate::first_instant::{Micros, Observed, Observer, PodEvents, SenderRun, now};
use crate::key::ObjectKey;
use crate::object;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::time::{Duration, Instant};

const NAMESPACE: &str = "reboot";
const OBSERVER: &str = "observer";
/// Where pods keep their reports on their node: a directory that survives a reboot.
const REPORTS: &str = "var/lib/bridgewarden-reboot";
/// Flannel's settings for the CNI plugin, in a directory that is empty after a reboot.
const SUBNET: &str = "run/flannel/subnet.env";
/// The pause between two datagrams of a pod, and between two of the observer to each pod.
const PACE: Duration = Duration::from_millis(50);
/// How many datagrams must have been sent in each direction for the result to count.
const ENOUGH: usize = 40;
/// How long all pods may take to run: two processors start two of them in a second.
const PATIENCE: Duration = Duration::from_secs(420);

/// What happened to one pod since its node went down.
#[derive(Debug)]
pub struct PodTraffic {
    /// Its name.
    pub name: String,
    /// Whether a policy allows its traffic with the observer; the other pods are denied everything.
    pub allowed: bool,
    /// What it recorded in each of its runs.
    pub runs: Vec<SenderRun>,
    /// How many of its datagrams arrived at the observer.
    pub datagrams: u32,
    /// When it sent those of its datagrams that left the node by the node's own interface, as they do while flannel does not run.
    pub left: Vec<Micros>,
    /// How many datagrams the observer had sent to its new address before its first instruction.
    pub probes_before: usize,
    /// How many datagrams the observer has sent to its new address.
    pub probes: usize,
}

impl PodTraffic {
    /// How many packets reached it.
    pub fn received(&self) -> u64 {
        self.runs.iter().map(|run| u64::from(run.probes) + run.early).sum()
    }

    /// When it had received both an answer and a probe.
    pub fn worked(&self) -> Option<Micros> {
        let first = |of: fn(&SenderRun) -> Option<Micros>| self.runs.iter().filter_map(of).min();
        Some(first(|run| run.first_answer)?.max(first(|run| run.first_probe)?))
    }

    /// Whether enough was sent for a leak to be detected.
    fn is_conclusive(&self) -> bool {
        let sent: usize = self.runs.iter().map(|run| run.sent as usize).sum();
        sent >= ENOUGH && self.probes >= ENOUGH && (!self.allowed || self.worked().is_some())
    }
}

/// When the node's network lets pods start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// After flannel runs as a pod of the node, and has written its subnet for the CNI plugin.
    AfterFlannel,
    /// From the node's start, as if flannel were a part of the container runtime: the agent and the pods start at the
    /// same time.
    AtOnce,
}

/// One reboot.
#[derive(Debug)]
pub struct Reboot {
    /// When it was requested.
    pub asked: Micros,
    /// When the node's first process ran again.
    pub up: Micros,
    /// When the node's agent logged that it denies all traffic of pods until it has written rules; `None` if it did not.
    pub denied: Option<Micros>,
    /// When the node's agent first logged that the kernel holds the rules of all policies.
    pub enforced: Micros,
    /// Its pods.
    pub pods: Vec<PodTraffic>,
}

/// Pods on the worker, and an observer on the other node.
#[derive(Debug)]
pub struct RebootTrial {
    client: Client,
    worker: KindNode,
    pod_events: PodEvents,
    observer: Observer,
    /// Whether each pod is allowed to talk with the observer.
    pods: BTreeMap<String, bool>,
}

impl RebootTrial {
    /// Starts this many pods for which a policy denies everything, and as many that another policy allows to exchange
    /// traffic with the observer, and waits until all run with this image.
    ///
    /// # Errors
    /// The cluster cannot be reached, or pods don't run.
    pub fn open(
        environment: &std::path::Path,
        image: &str,
        denied: usize,
        allowed: usize,
    ) -> Result<RebootTrial> {
        let client = Client::new(environment)?;
        agents::are_ready(&client)?;
        let (worker, far) = (KindNode::find(&client, "WORKER")?, KindNode::find(&client, "CONTROL_PLANE")?);
        client.kubectl(&["delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s"])?;
        let pod_events = PodEvents::new(NAMESPACE);
        pod_events.follow_results(&worker.path("var/lib/cni/results"))?;
        let _ = fs::remove_dir_all(worker.path(REPORTS));
        client.apply(&[object::namespace(NAMESPACE, &BTreeMap::new())])?;
        let policies = policies().map(|(name, spec)| object::policy(&ObjectKey::new(NAMESPACE, name), &spec));
        let observer = ObjectKey::new(NAMESPACE, OBSERVER);
        let pod = object::idle_pod(&observer, &far.name, &json!({"app": "observer"}), &client.pod_image()?);
        client.apply(&[&policies[..], &[pod]].concat())?;
        let (namespace, address) = far.running(&client, &observer)?;
        let observer = Observer::begin(OBSERVER, &namespace, address, &pod_events, PACE)?;
        let denied = (0..denied).map(|number| (format!("denied-{number}"), false));
        let pods: BTreeMap<_, _> =
            denied.chain((0..allowed).map(|number| (format!("allowed-{number}"), true))).collect();
        let objects: Vec<Value> = pods
            .iter()
            .map(|(name, allowed)| sender(name, *allowed, &worker.name, image, observer.address()))
            .collect();
        client.apply(&objects)?;
        let trial = RebootTrial { client, worker, pod_events, observer, pods };
        trial.settles(0, &BTreeMap::new())?;
        Ok(trial)
    }

    /// Reboots the worker, and waits until every pod runs again and has sent enough.
    ///
    /// # Errors
    /// The node, its agent or its pods do not start again.
    pub fn reboot(&mut self, network: Network) -> Result<Reboot> {
        let before = self.observed();
        let subnet = self.worker.path(SUBNET);
        let subnet = fs::read(&subnet).with_context(|| format!("cannot read {}", subnet.display()))?;
        let asked = now();
        self.client.docker(&["restart", &self.worker.name])?;
        let up = now();
        // Pods get new addresses.
        let names: Vec<String> = self.pods.keys().cloned().collect();
        self.pod_events.forget(&names);
        self.worker = KindNode::find(&self.client, "WORKER")?;
        let uplink = Uplink::watch(&self.worker.namespace)?;
        if network == Network::AtOnce {
            let path = self.worker.path(SUBNET);
            let directory = path.parent().context("a file is in a directory")?;
            fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
            fs::write(&path, subnet).with_context(|| format!("cannot write {}", path.display()))?;
        }
        self.pod_events.follow_results(&self.worker.path("var/lib/cni/results"))?;
        let mut pods = self.settles(asked, &before)?;
        pods.iter_mut().for_each(|pod| pod.left = uplink.left(&pod.name));
        let enforced = agents::first_enforced(&self.client, &self.worker, asked)?;
        let denied = agents::first_denied(&self.client, &self.worker, asked)?;
        agents::are_ready(&self.client)?;
        Ok(Reboot { asked, up, denied, enforced, pods })
    }

    fn observed(&self) -> BTreeMap<String, Observed> {
        self.pods.keys().map(|name| (name.clone(), self.observer.observed(name))).collect()
    }

    /// Waits until every pod has started after this time and has sent enough.
    fn settles(&self, after: Micros, before: &BTreeMap<String, Observed>) -> Result<Vec<PodTraffic>> {
        let start = Instant::now();
        loop {
            let passed = self.passed(after, before)?;
            let waiting: Vec<&PodTraffic> = passed.iter().filter(|pod| !pod.is_conclusive()).collect();
            if waiting.is_empty() {
                return Ok(passed);
            }
            ensure!(
                start.elapsed() < PATIENCE,
                "{} of {} pods on {} have not run and tried long enough within {PATIENCE:?}; the first: {:#?}",
                waiting.len(),
                passed.len(),
                self.worker.name,
                waiting.first()
            );
            std::thread::sleep(PAUSE * 5);
        }
    }

    fn passed(&self, after: Micros, before: &BTreeMap<String, Observed>) -> Result<Vec<PodTraffic>> {
        let mut runs = self.runs(after)?;
        let pods = self.pods.iter().map(|(name, allowed)| {
            let runs = runs.remove(name).unwrap_or_default();
            let observed = self.observer.observed(name);
            let datagrams = before.get(name).map_or(0, |before| before.datagrams);
            let to_it = |run: &SenderRun| {
                let to =
                    observed.probes.iter().filter(move |probe| probe.to == run.address && probe.sent > after);
                let until = run.until;
                let sent: Vec<Micros> = to.map(|probe| probe.sent).filter(|sent| *sent < until).collect();
                sent
            };
            let probes = runs.last().map(to_it).unwrap_or_default();
            let began = runs.iter().map(|run| run.began).min().unwrap_or_default();
            PodTraffic {
                name: name.clone(),
                allowed: *allowed,
                datagrams: observed.datagrams - datagrams,
                left: Vec::new(),
                probes_before: probes.iter().filter(|sent| **sent < began).count(),
                probes: probes.len(),
                runs,
            }
        });
        Ok(pods.collect())
    }

    /// The reports of runs that started after this time, in order.
    fn runs(&self, after: Micros) -> Result<BTreeMap<String, Vec<SenderRun>>> {
        let mut runs = BTreeMap::<String, Vec<SenderRun>>::new();
        let directory = self.worker.path(REPORTS);
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            // The name of a report that is being written begins with a dot.
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            let path = entry.path();
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let run: SenderRun = serde_json::from_str(&text)
                .with_context(|| format!("{} is no report of a run", path.display()))?;
            if run.began > after {
                runs.entry(run.name.clone()).or_default().push(run);
            }
        }
        runs.values_mut().for_each(|runs| runs.sort_by_key(|run| run.began));
        Ok(runs)
    }

    /// Reinstalls the agents with or without the protection by CNI results.
    ///
    /// # Errors
    /// The installation fails.
    pub fn guard(&self, guarded: bool) -> Result<()> {
        agents::guard(&self.client, guarded)
    }

    /// Removes the pods and the observer.
    ///
    /// # Errors
    /// The observer ended early, or the namespace is not removed.
    pub fn close(self) -> Result<()> {
        self.observer.end()?;
        self.client.kubectl(&["delete", "namespace", NAMESPACE, "--timeout=240s"])?;
        let _ = fs::remove_dir_all(self.worker.path(REPORTS));
        Ok(())
    }
}

fn sender(name: &str, allowed: bool, node: &str, image: &str, observer: IpAddr) -> Value {
    let words = [
        format!("--name={name}"),
        "--address=$(POD_IP)".to_owned(),
        format!("--observer={observer}"),
        format!("--pace-ms={}", PACE.as_millis()),
        "--reports=/reports".to_owned(),
    ];
    let role = if allowed { "allowed" } else { "denied" };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": NAMESPACE, "name": name, "labels": {"app": "sender", "role": role}},
        "spec": {
            "nodeName": node, "restartPolicy": "Always", "enableServiceLinks": false,
            "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "main", "image": image, "imagePullPolicy": "IfNotPresent",
                            "command": ["/sender"], "args": words,
                            "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
                            "volumeMounts": [{"name": "reports", "mountPath": "/reports"}]}],
            "volumes": [{"name": "reports", "hostPath": {"path": format!("/{REPORTS}"), "type": "DirectoryOrCreate"}}],
        },
    })
}

/// Every sender is isolated in both directions; those that are allowed may exchange traffic with the observer.
fn policies() -> [(&'static str, Value); 2] {
    let observer = json!([{"podSelector": {"matchLabels": {"app": "observer"}}}]);
    [
        (
            "deny",
            json!({"podSelector": {"matchLabels": {"app": "sender"}}, "policyTypes": ["Ingress", "Egress"]}),
        ),
        (
            "allow",
            json!({"podSelector": {"matchLabels": {"role": "allowed"}}, "policyTypes": ["Ingress", "Egress"],
                   "ingress": [{"from": observer}], "egress": [{"to": observer}]}),
        ),
    ]
}
