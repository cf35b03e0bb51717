//! Newborns and witnesses on a real cluster.

use super::agents;
use super::client::Client;
use super::node::Node;
use super::waits_for;
use crate::first_instant::{Births, Heard, Micros, Report, Witness};
use crate::key::Key;
use crate::object;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const NAMESPACE: &str = "first-instant";
/// Between two knocks of a witness at a newborn.
const PACE: Duration = Duration::from_millis(2);
/// Where newborns leave their reports on their node.
const REPORTS: &str = "run/bridgewarden-first-instant";
/// What the newborns of a run may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upbringing {
    /// Nothing: a policy that is older than they isolates them.
    Denied,
    /// To talk with witnesses, of which some are isolated themselves and let them in.
    Welcome,
}

impl Upbringing {
    fn role(self) -> &'static str {
        match self {
            Upbringing::Denied => "denied",
            Upbringing::Welcome => "welcome",
        }
    }

    /// Whom they write to. A witness that is isolated would hide what an open one tells of a denied newborn.
    fn witnesses(self) -> &'static [&'static str] {
        match self {
            Upbringing::Denied => &["near", "far"],
            Upbringing::Welcome => &["near", "far", "strict-near", "strict-far"],
        }
    }

    fn words(self) -> [&'static str; 2] {
        match self {
            Upbringing::Denied => ["--lifetime-ms=3000", "--until-answered=false"],
            Upbringing::Welcome => ["--lifetime-ms=10000", "--until-answered=true"],
        }
    }
}

/// What is known of one newborn when its time is over.
#[derive(Debug)]
pub struct Life {
    /// Its pod's name.
    pub name: String,
    /// The node it was on: near witnesses are on the first, far ones on the second.
    pub node: usize,
    /// What it saw itself.
    pub report: Report,
    /// What each witness that it wrote to heard of it.
    pub heard: BTreeMap<&'static str, Heard>,
    /// When a watch of the API brought its address.
    pub told: Option<Micros>,
}

/// A namespace of newborns, with its witnesses.
#[derive(Debug)]
pub struct Nursery {
    client: Client,
    nodes: [Node; 2],
    image: String,
    births: Births,
    witnesses: BTreeMap<&'static str, Witness>,
    born: usize,
}

impl Nursery {
    /// Makes it on the cluster that a file of `e2e/cluster/up` tells of. Newborns are of that image.
    ///
    /// # Errors
    /// When the cluster cannot be reached, or its witnesses don't run.
    pub fn open(environment: &Path, image: &str) -> Result<Nursery> {
        let client = Client::new(environment)?;
        agents::are_ready(&client)?;
        let nodes = [Node::find(&client, "WORKER")?, Node::find(&client, "CONTROL_PLANE")?];
        let mut nursery = Nursery {
            client,
            nodes,
            image: image.to_owned(),
            births: Births::new(NAMESPACE),
            witnesses: BTreeMap::new(),
            born: 0,
        };
        nursery.prepare()?;
        Ok(nursery)
    }

    fn prepare(&mut self) -> Result<()> {
        self.client.kubectl(&["delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s"])?;
        self.client.apply(&[object::namespace(NAMESPACE, &BTreeMap::new())])?;
        let image = self.client.pod_image()?;
        let names = Upbringing::Welcome.witnesses();
        let pods = names.iter().map(|name| self.witness(name, &image)).collect::<Vec<_>>();
        let policies = policies().map(|(name, spec)| object::policy(&Key::new(NAMESPACE, name), &spec));
        self.client.apply(&[&policies[..], &pods].concat())?;
        for node in &self.nodes {
            self.births.follow_results(&node.path("var/lib/cni/results"))?;
            let _ = fs::remove_dir_all(node.path(REPORTS));
        }
        let kubeconfig = PathBuf::from(self.client.setting("KUBECONFIG")?);
        self.births.follow_api(&kubeconfig, self.client.network())?;
        for name in names {
            let (namespace, address) = self.home(name).running(&self.client, &Key::new(NAMESPACE, name))?;
            let witness = Witness::begin(name, &namespace, address, &self.births, PACE)?;
            self.witnesses.insert(name, witness);
        }
        Ok(())
    }

    fn home(&self, witness: &str) -> &Node {
        &self.nodes[usize::from(witness.ends_with("far"))]
    }

    fn witness(&self, name: &str, image: &str) -> Value {
        let strict = if name.starts_with("strict") { "yes" } else { "no" };
        let labels = json!({"app": "witness", "strict": strict});
        object::idle_pod(&Key::new(NAMESPACE, name), &self.home(name).name, &labels, image)
    }

    fn newborn(&self, name: &str, node: usize, upbringing: Upbringing) -> Value {
        let mut words = vec![format!("--name={name}"), "--reports=/reports".to_owned()];
        words.extend(upbringing.words().map(str::to_owned));
        let witnesses = upbringing.witnesses().iter().filter_map(|name| self.witnesses.get(name));
        words.extend(witnesses.map(|witness| format!("--witness={}", witness.address())));
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": NAMESPACE, "name": name, "labels": {"app": "newborn", "role": upbringing.role()}},
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

    /// Starts so many newborns, `wave` of them at once and half of these on each node, and tells what is known of each.
    ///
    /// # Errors
    /// When pods cannot be made, or one leaves no report.
    pub fn raise(&mut self, number: usize, wave: usize, upbringing: Upbringing) -> Result<Vec<Life>> {
        let mut lives = Vec::new();
        while lives.len() < number {
            let names: Vec<(String, usize)> = (0..wave.min(number - lives.len()))
                .map(|place| (format!("newborn-{}", self.born + place), place % self.nodes.len()))
                .collect();
            self.born += names.len();
            let pods: Vec<Value> =
                names.iter().map(|(name, node)| self.newborn(name, *node, upbringing)).collect();
            self.client.apply(&pods)?;
            for (name, node) in &names {
                lives.push(self.life(name, *node, upbringing)?);
            }
            let names: Vec<String> = names.into_iter().map(|(name, _)| name).collect();
            self.births.forget(&names);
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let delete = ["-n", NAMESPACE, "delete", "pods", "--wait=false", "--grace-period=0", "--force"];
            self.client.kubectl(&[&delete[..], &names].concat())?;
        }
        Ok(lives)
    }

    /// Waits for a newborn's report.
    fn life(&self, name: &str, node: usize, upbringing: Upbringing) -> Result<Life> {
        let path = self.nodes[node].path(REPORTS).join(name);
        waits_for(&format!("a report of {name}"), || Ok(path.exists()))?;
        // One that is denied everything may have ended before its kubelet told of it.
        if upbringing == Upbringing::Welcome {
            let told = || Ok(self.births.told(name).is_some());
            waits_for(&format!("the API tells of {name}"), told)
                .with_context(|| format!("trouble of the watch: {:?}", self.births.trouble()))?;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let report = serde_json::from_str(&text).with_context(|| format!("the report of {name}"))?;
        let witnesses = upbringing.witnesses().iter();
        let heard = witnesses.filter_map(|own| Some((*own, self.witnesses.get(own)?.heard(name))));
        Ok(Life { name: name.to_owned(), node, report, heard: heard.collect(), told: self.births.told(name) })
    }

    /// Installs the agents anew with or without all that closes a pod before the API tells of it.
    ///
    /// # Errors
    /// When that does not succeed.
    pub fn guard(&self, guarded: bool) -> Result<()> {
        agents::guard(&self.client, guarded)
    }

    /// Removes it.
    ///
    /// # Errors
    /// When a witness ended before, or the namespace does not go.
    pub fn close(mut self) -> Result<()> {
        std::mem::take(&mut self.witnesses).into_values().try_for_each(Witness::end)?;
        self.client.kubectl(&["delete", "namespace", NAMESPACE, "--timeout=120s"]).map(drop)
    }
}

fn policies() -> [(&'static str, Value); 3] {
    let select = |key: &str, value: &str| json!({"matchLabels": {key: value}});
    let peers = |key: &str, value: &str| json!([{"podSelector": select(key, value)}]);
    [
        ("deny", json!({"podSelector": select("app", "newborn"), "policyTypes": ["Ingress", "Egress"]})),
        (
            "welcome",
            json!({"podSelector": select("role", "welcome"), "policyTypes": ["Ingress", "Egress"],
                   "ingress": [{"from": peers("app", "witness")}], "egress": [{"to": peers("app", "witness")}]}),
        ),
        (
            "strict",
            json!({"podSelector": select("strict", "yes"), "ingress": [{"from": peers("role", "welcome")}]}),
        ),
    ]
}
