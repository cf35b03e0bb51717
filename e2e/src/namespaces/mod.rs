//! A small network in network namespaces, with real agents on both nodes and manifests in a directory.
//!
//! This world replaces the API server, the kubelets and the CNI plugins: it assigns addresses to pods and writes
//! objects in the order in which those would.

mod agent;
mod manifests;

use crate::cluster::{NodeName, ScenarioCluster, ScenarioPod};
use crate::key::ObjectKey;
use crate::object;
use crate::verb::{AgentAct, RelabelTarget, Verb};
use crate::world::{ScenarioWorld, Whereabouts, dump_kernel};
use agent::ScenarioAgent;
use anyhow::{Context, Result, bail};
use bridgewarden::model::PodKey;
use bridgewarden::net::Family;
use bridgewarden::testbed::{Endpoint, Layout, Netns, OUTSIDE, PodPlacement, Testbed};
use manifests::ManifestDir;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::field::hosts;
use support::program::output;
use support::reach::Name;
use support::topology::{NODES, Node};

/// The range of the last octet of pods' addresses.
const HOSTS: std::ops::Range<u8> = 10..100;

/// How long an agent may take to be ready.
const START: Duration = Duration::from_secs(10);

/// Settings of a world in namespaces.
#[derive(Clone, Debug)]
pub struct NamespacesSettings {
    /// The first part of the names of its namespaces: 1 to 12 lower-case letters and digits.
    pub id: String,
    /// The program.
    pub program: PathBuf,
    /// The backend that it uses.
    pub backend: &'static str,
    /// A separate directory for manifests and logs.
    pub directory: PathBuf,
    /// How long a change may take to be enforced.
    pub deadline: Duration,
}

/// A world in namespaces.
#[derive(Debug)]
pub struct InNamespaces {
    settings: NamespacesSettings,
    manifests: ManifestDir,
    cluster: ScenarioCluster,
    addresses: BTreeMap<ObjectKey, Vec<IpAddr>>,
    agents: BTreeMap<NodeName, ScenarioAgent>,
    network: Option<Testbed>,
}

impl InNamespaces {
    /// An empty world.
    ///
    /// # Errors
    /// Its directory can't be created.
    pub fn new(settings: NamespacesSettings) -> Result<InNamespaces> {
        let _ = fs::remove_dir_all(&settings.directory);
        let manifests = ManifestDir::new(settings.directory.join("manifests"))?;
        Ok(InNamespaces {
            settings,
            manifests,
            cluster: ScenarioCluster::default(),
            addresses: BTreeMap::new(),
            agents: BTreeMap::new(),
            network: None,
        })
    }

    fn network(&self) -> Result<&Testbed> {
        self.network.as_ref().context("there is no network yet")
    }

    fn node(&self, node: NodeName) -> Result<&Netns> {
        self.network()?
            .node_namespace(node.as_str())
            .with_context(|| format!("there is no {}", node.as_str()))
    }

    /// Creates pods in the order in which a kubelet does: a pod has its network before the API reports its address.
    fn create(&mut self, pods: &BTreeMap<ObjectKey, ScenarioPod>) -> Result<()> {
        let mut places = Vec::new();
        for (key, pod) in pods {
            let addresses = self.lease(pod)?;
            self.addresses.insert(key.clone(), addresses.clone());
            places.push(PodPlacement {
                pod: PodKey::new(&key.namespace, &key.name),
                node: pod.node.as_str().to_owned(),
                addresses,
                listens: Vec::new(),
                host_network: pod.host_network,
            });
        }
        self.network.as_mut().context("there is no network yet")?.add_pods(&places)?;
        pods.iter().try_for_each(|(key, pod)| self.write_pod(key, pod, "Running", false))
    }

    /// Removes a pod's network, so that its address is free.
    fn unplug(&mut self, key: &ObjectKey) -> Result<()> {
        self.addresses.remove(key);
        let pod = PodKey::new(&key.namespace, &key.name);
        Ok(self.network.as_mut().context("there is no network yet")?.remove_pod(&pod)?)
    }

    /// Assigns the lowest free addresses, as a CNI plugin could do.
    fn lease(&self, pod: &ScenarioPod) -> Result<Vec<IpAddr>> {
        let node = topology(pod.node);
        if pod.host_network {
            return Ok(Family::BOTH.map(|family| node.address(family)).into());
        }
        let taken: BTreeSet<IpAddr> = self.addresses.values().flatten().copied().collect();
        let mut hosts = HOSTS.map(|host| Family::BOTH.map(|family| node.pod_address(family, host)));
        let free = hosts.find(|addresses| addresses.iter().all(|address| !taken.contains(address)));
        free.map(Vec::from).with_context(|| format!("{} has no address left", node.name))
    }

    fn write_pod(&self, key: &ObjectKey, pod: &ScenarioPod, phase: &str, terminating: bool) -> Result<()> {
        let mut object = object::pod(key, pod, pod.node.as_str());
        if terminating {
            object["metadata"]["deletionTimestamp"] = json!("2020-01-01T00:00:00Z");
        }
        let addresses = self.addresses.get(key).cloned().unwrap_or_default();
        let ips: Vec<_> = addresses.iter().map(|address| json!({"ip": address.to_string()})).collect();
        object["status"] = json!({"phase": phase, "podIPs": ips});
        self.manifests.write_pod(key, &object)
    }

    fn write_namespace(&self, name: &str, phase: &str) -> Result<()> {
        let labels =
            self.cluster.namespaces.get(name).with_context(|| format!("there is no namespace {name}"))?;
        let mut object = object::namespace(name, labels);
        object["status"] = json!({"phase": phase});
        self.manifests.write_namespace(name, &object)
    }

    fn relabel(&self, after: &ScenarioCluster, target: &RelabelTarget) -> Result<()> {
        match target {
            RelabelTarget::Pod(key) => {
                let pod = after.pods.get(key).with_context(|| format!("there is no pod {key}"))?;
                self.write_pod(key, pod, "Running", false)
            }
            RelabelTarget::Namespace(name) => self.write_namespace(name, "Active"),
        }
    }

    /// Deletes a namespace as the API does: the namespace is marked, its policies are deleted, and its pods are asked
    /// to end.
    fn terminate_namespace(&self, name: &str) -> Result<()> {
        self.write_namespace(name, "Terminating")?;
        self.manifests.remove_policies(name)?;
        let pods = self.cluster.pods.iter().filter(|(key, _)| key.namespace == *name);
        pods.into_iter().try_for_each(|(key, pod)| self.write_pod(key, pod, "Running", true))
    }

    fn remove_pods(&mut self, pods: impl IntoIterator<Item = ObjectKey>) -> Result<()> {
        for key in pods {
            self.unplug(&key)?;
            self.manifests.remove_pod(&key)?;
        }
        Ok(())
    }

    fn agents(&mut self, act: AgentAct) -> Result<()> {
        match act {
            AgentAct::Restart => NodeName::BOTH.into_iter().try_for_each(|node| {
                self.end(node, false)?;
                self.start(node)
            }),
            AgentAct::Kill => {
                NodeName::BOTH.into_iter().try_for_each(|node| self.end(node, true))?;
                self.enforce()
            }
            AgentAct::Stop => NodeName::BOTH.into_iter().try_for_each(|node| self.end(node, false)),
            AgentAct::Start => self.enforce(),
            AgentAct::Cleanup => self.remove_enforcement(),
        }
    }

    fn start(&mut self, node: NodeName) -> Result<()> {
        let log = self.settings.directory.join(format!("{}.log", node.as_str()));
        let NamespacesSettings { program, backend, .. } = &self.settings;
        let results = self.network()?.cni_results_dir(node.as_str());
        let directories = [self.manifests.directory(), &results];
        let agent = ScenarioAgent::start(self.node(node)?, program, node, backend, directories, log)?;
        agent.is_ready(START)?;
        self.agents.insert(node, agent);
        Ok(())
    }

    fn end(&mut self, node: NodeName, kill: bool) -> Result<()> {
        self.agents.remove(&node).map_or(Ok(()), |agent| agent.end(kill))
    }
}

impl ScenarioWorld for InNamespaces {
    fn deadline(&self) -> Duration {
        self.settings.deadline
    }

    fn set_up(&mut self, cluster: &ScenarioCluster) -> Result<()> {
        Testbed::sweep(&self.settings.id)?;
        let nodes = NODES.map(|node| node.name.to_owned()).into();
        let mut layout = Layout::new(nodes, NODES.map(hosts).into());
        layout.outside_listens.clear();
        self.network = Some(Testbed::build(&self.settings.id, &layout)?);
        self.cluster = cluster.clone();
        cluster.namespaces.keys().try_for_each(|name| self.write_namespace(name, "Active"))?;
        self.create(&cluster.pods)
    }

    fn enforce(&mut self) -> Result<()> {
        let missing = NodeName::BOTH.into_iter().filter(|node| !self.agents.contains_key(node));
        let missing: Vec<NodeName> = missing.collect();
        missing.into_iter().try_for_each(|node| self.start(node))
    }

    fn act(&mut self, verb: &Verb) -> Result<()> {
        let mut after = self.cluster.clone();
        after.follow(verb)?;
        match verb {
            Verb::Apply(policies) => policies
                .iter()
                .try_for_each(|(key, spec)| self.manifests.write_policy(key, &object::policy(key, spec)))?,
            Verb::Delete(policies) => {
                policies.iter().try_for_each(|key| self.manifests.remove_policy(key))?
            }
            Verb::Create(pods) => self.create(pods)?,
            Verb::Terminate(pods) => pods.iter().try_for_each(|key| {
                let pod = after.pods.get(key).with_context(|| format!("there is no pod {key}"))?;
                self.write_pod(key, pod, "Running", true)
            })?,
            Verb::Remove(pods) => self.remove_pods(pods.iter().cloned())?,
            Verb::Finish(pods) => {
                for key in pods {
                    let pod = self.cluster.pods.get(key).with_context(|| format!("there is no pod {key}"))?;
                    self.write_pod(key, pod, "Succeeded", false)?;
                    self.unplug(key)?;
                }
            }
            Verb::Relabel(targets) => {
                self.cluster = after.clone();
                targets.keys().try_for_each(|target| self.relabel(&after, target))?;
            }
            Verb::TerminateNamespaces(names) => {
                names.iter().try_for_each(|name| self.terminate_namespace(name))?
            }
            Verb::RemoveNamespaces(names) => {
                let pods = self.cluster.pods.keys().filter(|key| names.contains(&key.namespace));
                self.remove_pods(pods.cloned().collect::<Vec<_>>())?;
                names.iter().try_for_each(|name| self.manifests.remove_namespace(name))?;
            }
            Verb::Agents(act) => self.agents(*act)?,
        }
        self.cluster = after;
        Ok(())
    }

    fn find(&self, who: &Name) -> Result<Whereabouts> {
        let network = self.network()?;
        let (endpoint, addresses) = match who {
            Name::Pod { namespace, name } => {
                let addresses = self.addresses.get(&ObjectKey::new(namespace, name));
                (
                    Endpoint::pod(namespace, name),
                    addresses.with_context(|| format!("{who} does not run"))?.clone(),
                )
            }
            Name::Node(node) => {
                let addresses = Node::named(node).map(|node| Family::BOTH.map(|family| node.address(family)));
                (Endpoint::node(node), addresses.with_context(|| format!("there is no {node}"))?.into())
            }
            Name::Outside => (Endpoint::Outside, vec![OUTSIDE[0], OUTSIDE[2]]),
            Name::Stranger(address) if OUTSIDE.contains(address) => (Endpoint::Outside, vec![*address]),
            Name::Stranger(address) => bail!("no host outside has {address}: use one of {OUTSIDE:?}"),
            Name::Service { .. } => bail!("{who}: there are no Services here, as there is no kube-proxy"),
        };
        Ok(Whereabouts { namespace: network.namespace(&endpoint).cloned(), addresses })
    }

    fn resolver(&self) -> Result<Option<IpAddr>> {
        Ok(None)
    }

    fn remove_enforcement(&mut self) -> Result<()> {
        for node in NodeName::BOTH {
            self.end(node, false)?;
            let program = self.settings.program.to_string_lossy();
            output(self.node(node)?, &[&program, "cleanup"])?;
        }
        Ok(())
    }

    fn dump(&self, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory)?;
        for node in NodeName::BOTH {
            let namespace = self.node(node)?;
            let name = node.as_str();
            let log = self.settings.directory.join(format!("{name}.log"));
            if log.exists() {
                fs::copy(log, directory.join(format!("{name}.log")))?;
            }
            dump_kernel(directory, name, |words| output(namespace, words))?;
        }
        Ok(())
    }

    fn clear(&mut self) -> Result<()> {
        for node in NodeName::BOTH {
            self.end(node, true)?;
        }
        self.addresses.clear();
        self.network.take().map_or(Ok(()), |network| network.remove().map_err(Into::into))
    }
}

fn topology(node: NodeName) -> Node {
    match node {
        NodeName::NodeA => NODES[0],
        NodeName::NodeB => NODES[1],
    }
}
