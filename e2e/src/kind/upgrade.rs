//! Two versions of the chart, each with its image, one after the other on the same cluster, and pods that connect all the time.

use super::agents::{self, NAMESPACE as AGENTS, RELEASE};
use super::client::Client;
use super::node::KindNode;
use super::waits_for;
use crate::connection_probes::{ChangeProbes, ConnectionPair};
use crate::key::ObjectKey;
use crate::object;
use anyhow::{Context, Result, ensure};
use bridgewarden::model::PodKey;
use bridgewarden::net::Protocol;
use bridgewarden::testbed::{Endpoint, Netns, ProbeOutcome, Prober, ResolvedProbe};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

const NAMESPACE: &str = "upgrade";
const PORT: u16 = 80;
/// How often each pair is dialled.
const PERIOD: Duration = Duration::from_millis(20);
/// The pods: their name, whether they are on the worker, and the label `app`.
const PODS: [(&str, bool, &str); 5] = [
    ("web", true, "web"),
    ("near", true, "client"),
    ("visitor", true, "visitor"),
    ("far", false, "client"),
    ("remote", false, "visitor"),
];
/// A pod that is created again after each change.
const FRESH: (&str, bool, &str) = ("fresh", true, "client");
/// Who connects to whom, and whether policies allow it. Those between pods of the worker are bridged, the others routed.
const PAIRS: [(&str, &str, bool); 8] = [
    ("near", "web", true),
    ("far", "web", true),
    ("visitor", "remote", true),
    ("visitor", "web", false),
    ("remote", "web", false),
    ("near", "visitor", false),
    ("web", "near", false),
    ("far", "remote", false),
];
const FRESH_PAIRS: [(&str, &str, bool); 4] = [
    ("fresh", "web", true),
    ("fresh", "visitor", false),
    ("web", "fresh", false),
    ("remote", "fresh", false),
];

/// A version of the chart and the image that it runs.
#[derive(Clone, Debug)]
pub struct ChartRelease {
    /// The chart's directory.
    pub chart: PathBuf,
    /// The image, as the nodes have it: `name:tag`.
    pub image: String,
}

/// Pods under a policy that denies everything, and others that allow some of it.
#[derive(Debug)]
pub struct UpgradeTrial {
    client: Client,
    nodes: [KindNode; 2],
    prober: Prober,
    pods: BTreeMap<PodKey, (Netns, IpAddr)>,
}

impl UpgradeTrial {
    /// Removes what is installed, by `new`, installs `old`, and starts the pods. Returns once connections are as policies say.
    ///
    /// # Errors
    /// The cluster cannot be reached, or connections are not as policies say.
    pub fn open(environment: &Path, old: &ChartRelease, new: &ChartRelease) -> Result<UpgradeTrial> {
        let client = Client::new(environment)?;
        let nodes = [KindNode::find(&client, "WORKER")?, KindNode::find(&client, "CONTROL_PLANE")?];
        let mut trial = UpgradeTrial { client, nodes, prober: Prober::start()?, pods: BTreeMap::new() };
        trial.remove(new)?;
        trial.install(old)?;
        trial.client.kubectl(&["delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s"])?;
        trial.client.apply(&[object::namespace(NAMESPACE, &BTreeMap::new())])?;
        let image = trial.client.pod_image()?;
        let pods: Vec<Value> = PODS.iter().map(|pod| trial.pod(*pod, &image)).collect();
        trial.client.apply(&[&policies()[..], &pods].concat())?;
        for (name, on_worker, _) in PODS {
            trial.find(name, on_worker)?;
        }
        trial.settle(&PAIRS)?;
        Ok(trial)
    }

    fn pod(&self, (name, on_worker, app): (&str, bool, &str), image: &str) -> Value {
        let node = &self.node(on_worker).name;
        object::idle_pod(&ObjectKey::new(NAMESPACE, name), node, &json!({"app": app}), image)
    }

    fn node(&self, is_worker: bool) -> &KindNode {
        &self.nodes[usize::from(!is_worker)]
    }

    /// Waits until a pod runs, and makes it listen.
    fn find(&mut self, name: &str, on_worker: bool) -> Result<()> {
        let key = ObjectKey::new(NAMESPACE, name);
        let (namespace, address) = self.node(on_worker).running(&self.client, &key)?;
        self.prober.serve(&key.endpoint(), &namespace, &[address], &[(Protocol::Tcp, PORT)])?;
        self.pods.insert(PodKey::new(NAMESPACE, name), (namespace, address));
        Ok(())
    }

    fn helm(&self, words: &[&str]) -> Result<()> {
        self.client.run(self.client.setting("HELM")?, &[words, &["-n", AGENTS]].concat(), "").map(drop)
    }

    fn install(&self, release: &ChartRelease) -> Result<()> {
        let chart = release.chart.display().to_string();
        self.helm(&["install", RELEASE, &chart, "--set", &release.value()?])?;
        agents::are_ready(&self.client)
    }

    /// Cleans all nodes, also of what an installation has left, and uninstalls the chart.
    fn remove(&self, new: &ChartRelease) -> Result<()> {
        let (chart, value) = (new.chart.display().to_string(), new.value()?);
        let words =
            ["upgrade", "--install", RELEASE, &chart, "--set", &value, "--set", "cleanup.enabled=true"];
        self.helm(&words)?;
        agents::are_ready(&self.client)?;
        self.helm(&["uninstall", RELEASE, "--wait"])
    }

    /// Upgrades to a release with the values in use, and waits until all its agents are ready.
    ///
    /// # Errors
    /// Helm or an agent fails.
    pub fn upgrade(&self, release: &ChartRelease, more: &[&str]) -> Result<()> {
        let chart = release.chart.display().to_string();
        let words = ["upgrade", RELEASE, &chart, "--reset-then-reuse-values", "--set", &release.value()?];
        self.helm(&[&words, more].concat())?;
        agents::are_ready(&self.client)?;
        self.runs(release)
    }

    /// Rolls back to the first revision, which has this release, and waits until all its agents are ready.
    ///
    /// # Errors
    /// Helm or an agent fails.
    pub fn roll_back(&self, release: &ChartRelease) -> Result<()> {
        self.helm(&["rollback", RELEASE, "1"])?;
        agents::are_ready(&self.client)?;
        self.runs(release)
    }

    /// Fails unless every agent runs the release's image.
    fn runs(&self, release: &ChartRelease) -> Result<()> {
        let path = "jsonpath={.items[*].spec.containers[*].image}";
        let label = "app.kubernetes.io/name=bridgewarden";
        let images = self.client.kubectl(&["-n", AGENTS, "get", "pods", "-l", label, "-o", path])?;
        let are_all = images.split_whitespace().all(|image| image == release.image);
        ensure!(are_all && !images.is_empty(), "agents run {images}, and not {}", release.image);
        Ok(())
    }

    /// Starts to dial every pair.
    ///
    /// # Errors
    /// A pod does not run.
    pub fn probe(&self) -> Result<ChangeProbes> {
        let pairs = PAIRS.iter().map(|pair| self.pair(*pair)).collect::<Result<_>>()?;
        ChangeProbes::start(pairs, PERIOD, |pod| Some(self.pods.get(pod)?.0.clone()))
    }

    fn pair(&self, (from, to, is_allowed): (&str, &str, bool)) -> Result<ConnectionPair> {
        let [from, to] = [from, to].map(|name| PodKey::new(NAMESPACE, name));
        let (_, address) = self.pods.get(&to).with_context(|| format!("{to} does not run"))?;
        Ok(ConnectionPair { destination: SocketAddr::new(*address, PORT), from, to, is_allowed })
    }

    /// Creates a pod, and waits until its connections are as policies say.
    ///
    /// # Errors
    /// It does not run, or its connections stay different.
    pub fn start_pod(&mut self) -> Result<()> {
        let (name, on_worker, _) = FRESH;
        let key = ObjectKey::new(NAMESPACE, name);
        self.prober.stop_listening(&key.endpoint());
        self.client.kubectl(&[
            "-n",
            NAMESPACE,
            "delete",
            "pod",
            name,
            "--ignore-not-found",
            "--timeout=120s",
        ])?;
        self.client.apply(&[self.pod(FRESH, &self.client.pod_image()?)])?;
        self.find(name, on_worker)?;
        self.settle(&FRESH_PAIRS)
    }

    fn settle(&self, pairs: &[(&str, &str, bool)]) -> Result<()> {
        let pairs: Vec<ConnectionPair> = pairs.iter().map(|pair| self.pair(*pair)).collect::<Result<_>>()?;
        let mut differing = String::new();
        let settled = waits_for("connections are as policies say", || {
            let probes = pairs.iter().map(|pair| {
                let (namespace, _) = &self.pods[&pair.from];
                Ok(ResolvedProbe {
                    namespace: namespace.clone(),
                    source: None,
                    to: pair.destination,
                    protocol: Protocol::Tcp,
                    owners: BTreeSet::from([Endpoint::Pod(pair.to.clone())]),
                })
            });
            let outcomes = self.prober.try_all(probes.collect());
            let wrong = pairs
                .iter()
                .zip(outcomes)
                .filter(|(pair, outcome)| (*outcome == ProbeOutcome::Open) != pair.is_allowed);
            let lines = wrong.map(|(pair, outcome)| format!("{} -> {}: {outcome}", pair.from, pair.to));
            differing = lines.collect::<Vec<_>>().join("\n");
            Ok(differing.is_empty())
        });
        settled.with_context(|| differing.clone())
    }

    /// Writes the agents' logs, and the rules of both nodes.
    ///
    /// # Errors
    /// They cannot be read or written.
    pub fn dump(&self, directory: &Path) -> Result<()> {
        std::fs::create_dir_all(directory)?;
        agents::dump(&self.client, directory)?;
        self.nodes.iter().try_for_each(|node| node.dump(&self.client, directory, &node.name))
    }

    /// Removes the pods. The chart stays installed.
    ///
    /// # Errors
    /// The namespace is not removed.
    pub fn close(self) -> Result<()> {
        self.client.kubectl(&["delete", "namespace", NAMESPACE, "--timeout=120s"]).map(drop)
    }
}

impl ChartRelease {
    /// The chart's values for the image.
    fn value(&self) -> Result<String> {
        let (repository, tag) = self.image.rsplit_once(':').context("an image has a tag")?;
        Ok(format!("image.repository={repository},image.tag={tag}"))
    }
}

fn policies() -> [Value; 4] {
    let app = |name: &str| json!({"matchLabels": {"app": name}});
    let peers = |name: &str| json!([{"podSelector": app(name)}]);
    let ports = json!([{"port": PORT, "protocol": "TCP"}]);
    let policy = |name: &str, spec: Value| object::policy(&ObjectKey::new(NAMESPACE, name), &spec);
    [
        policy("closed", json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})),
        policy(
            "web",
            json!({"podSelector": app("web"), "policyTypes": ["Ingress"],
                   "ingress": [{"from": peers("client"), "ports": ports}]}),
        ),
        policy(
            "clients",
            json!({"podSelector": app("client"), "policyTypes": ["Egress"],
                   "egress": [{"to": peers("web"), "ports": ports}]}),
        ),
        policy(
            "visitors",
            json!({"podSelector": app("visitor"), "policyTypes": ["Ingress", "Egress"],
                   "ingress": [{"from": peers("visitor")}], "egress": [{}]}),
        ),
    ]
}
