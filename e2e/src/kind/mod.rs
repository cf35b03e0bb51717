//! A kind cluster: real pods created through the API, real kubelets, kube-proxy and flannel, and Bridgewarden installed
//! by its chart.
//!
//! The nodes are containers of an engine on this machine, so the prober enters the network namespaces of pods: it
//! measures with packets of the pods, without starting a process for each.

mod agents;
mod client;
mod intrusion;
mod node;
mod operator;
mod outside;
mod reboot;
mod startup_test;
mod upgrade;
mod uplink;

use crate::cluster::{NodeName, ScenarioCluster, ScenarioPod};
use crate::key::ObjectKey;
use crate::object;
use crate::verb::{RelabelTarget, Verb};
use crate::world::{ScenarioWorld, Whereabouts};
use anyhow::{Context, Result, bail, ensure};
use bridgewarden::testbed::OUTSIDE;
use client::Client;
pub use intrusion::{AttemptOutcome, IntrusionTrial};
use node::KindNode;
pub use operator::{ClusterUser, OperatorTrial, UserAnswer};
use outside::Outside;
pub use reboot::{Network, PodTraffic, Reboot, RebootTrial};
use serde_json::{Value, json};
pub use startup_test::{PolicyUnderTest, StartedPod, StartupTest};
use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};
use support::reach::Name;
pub use upgrade::{ChartRelease, UpgradeTrial};

/// How long pods may take to run, and agents to be replaced.
const PATIENCE: Duration = Duration::from_secs(120);
/// The pause between two queries of the API server.
const PAUSE: Duration = Duration::from_millis(100);
/// The termination grace period of pods, in seconds. No scenario waits that long.
const LINGERS: u32 = 120;

/// A world on a cluster.
#[derive(Debug)]
pub struct OnKind {
    client: Client,
    nodes: BTreeMap<NodeName, KindNode>,
    outside: Outside,
    image: String,
    cluster: ScenarioCluster,
    pods: BTreeMap<ObjectKey, Whereabouts>,
}

impl OnKind {
    /// The cluster that a file of KEY=VALUE lines describes, as `e2e/cluster/up` writes it.
    ///
    /// # Errors
    /// It can't be reached, or its nodes don't run on this machine.
    pub fn new(environment: &Path) -> Result<OnKind> {
        let client = Client::new(environment)?;
        let nodes = [(NodeName::NodeA, "WORKER"), (NodeName::NodeB, "CONTROL_PLANE")];
        let nodes = nodes.into_iter().map(|(name, key)| Ok((name, KindNode::find(&client, key)?)));
        let nodes = nodes.collect::<Result<BTreeMap<_, _>>>()?;
        let outside = Outside::attach(nodes.values())?;
        let image = client.pod_image()?;
        Ok(OnKind {
            client,
            nodes,
            outside,
            image,
            cluster: ScenarioCluster::default(),
            pods: BTreeMap::new(),
        })
    }

    fn node(&self, name: NodeName) -> Result<&KindNode> {
        self.nodes.get(&name).with_context(|| format!("there is no {}", name.as_str()))
    }

    fn create(&mut self, pods: &BTreeMap<ObjectKey, ScenarioPod>) -> Result<()> {
        let objects = pods.iter().map(|(key, pod)| self.object(key, pod)).collect::<Result<Vec<_>>>()?;
        self.client.apply(&objects)?;
        let start = Instant::now();
        let mut waiting: Vec<(&ObjectKey, &ScenarioPod)> = pods.iter().collect();
        while !waiting.is_empty() {
            ensure!(
                start.elapsed() < PATIENCE,
                "pods do not run: {:?}",
                waiting.iter().map(|(key, _)| key).collect::<Vec<_>>()
            );
            let listed = self.client.get(&["pods", "-A"])?;
            for (key, pod) in std::mem::take(&mut waiting) {
                match running(&listed, key) {
                    Some(object) => {
                        let place = self.whereabouts(key, pod, object)?;
                        self.pods.insert(key.clone(), place);
                    }
                    None => waiting.push((key, pod)),
                }
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn object(&self, key: &ObjectKey, pod: &ScenarioPod) -> Result<Value> {
        let mut object = object::pod(key, pod, &self.node(pod.node)?.name);
        let spec = &mut object["spec"];
        spec["terminationGracePeriodSeconds"] = json!(LINGERS);
        spec["automountServiceAccountToken"] = json!(false);
        spec["enableServiceLinks"] = json!(false);
        spec["restartPolicy"] = json!("Never");
        spec["tolerations"] = json!([{"operator": "Exists"}]);
        // The first process of a container ignores a SIGTERM that it doesn't handle, so it ends when its pipe is
        // written to.
        spec["containers"][0]["command"] = json!(["sh", "-c", "mkfifo /tmp/end && exec cat /tmp/end"]);
        spec["containers"][0]["image"] = json!(self.image);
        spec["containers"][0]["imagePullPolicy"] = json!("IfNotPresent");
        Ok(object)
    }

    fn whereabouts(&self, key: &ObjectKey, pod: &ScenarioPod, object: &Value) -> Result<Whereabouts> {
        let node = self.node(pod.node)?;
        let ips = object["status"]["podIPs"].as_array().into_iter().flatten();
        let addresses = ips.filter_map(|ip| ip["ip"].as_str()?.parse().ok()).collect();
        let namespace = if pod.host_network {
            node.namespace.clone()
        } else {
            let uid = object["metadata"]["uid"].as_str().with_context(|| format!("pod {key} has no uid"))?;
            node.pod_namespace(key, uid)?
        };
        Ok(Whereabouts { namespace: Some(namespace), addresses })
    }

    fn delete(&self, kind: &str, keys: &[ObjectKey], options: &[&str]) -> Result<()> {
        for namespace in self.cluster.namespaces.keys() {
            let own = keys.iter().filter(|key| key.namespace == *namespace).map(|key| key.name.as_str());
            let own: Vec<&str> = own.collect();
            if !own.is_empty() {
                let words = [&["-n", namespace, "delete", kind][..], &own, options].concat();
                self.client.kubectl(&words)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self, pods: &[ObjectKey]) -> Result<()> {
        for key in pods {
            self.let_end(key)?;
        }
        waits_for("pods have finished", || {
            let listed = self.client.get(&["pods", "-A"])?;
            Ok(pods
                .iter()
                .all(|key| find(&listed, key).is_some_and(|pod| pod["status"]["phase"] == "Succeeded")))
        })
    }

    fn relabel(&self, after: &ScenarioCluster, target: &RelabelTarget) -> Result<()> {
        let object = match target {
            RelabelTarget::Pod(key) => {
                let pod = after.pods.get(key).with_context(|| format!("there is no pod {key}"))?;
                self.object(key, pod)?
            }
            RelabelTarget::Namespace(name) => {
                let labels =
                    after.namespaces.get(name).with_context(|| format!("there is no namespace {name}"))?;
                object::namespace(name, labels)
            }
        };
        self.client.apply(&[object])
    }

    /// Kubernetes 1.33 and later keep policies until the pods are gone; earlier versions may delete them first, so they
    /// are deleted here.
    fn terminate_namespaces(&self, names: &[String]) -> Result<()> {
        for name in names {
            self.client.kubectl(&["delete", "namespace", name, "--wait=false"])?;
            self.client.kubectl(&["-n", name, "delete", "networkpolicies", "--all"])?;
        }
        waits_for("pods are asked to end", || {
            let listed = self.client.get(&["pods", "-A"])?;
            let own = |item: &&Value| names.iter().any(|name| item["metadata"]["namespace"] == json!(name));
            let ending = |pod: &Value| pod["metadata"]["deletionTimestamp"].is_string();
            Ok(items(&listed).filter(own).all(ending))
        })
    }

    /// Deletes pods and waits until they are gone. A kubelet that has begun to wait for a pod's end does not shorten
    /// the wait, so pods that were asked to end before are ended by force.
    fn remove(&self, pods: &[ObjectKey]) -> Result<()> {
        let listed = self.client.get(&["pods", "-A"])?;
        let asked = |key: &&ObjectKey| {
            find(&listed, key).is_some_and(|pod| pod["metadata"]["deletionTimestamp"].is_string())
        };
        self.delete("pods", pods, &["--grace-period=1", "--wait=false"])?;
        pods.iter().filter(asked).try_for_each(|key| self.let_end(key))?;
        waits_for("pods are gone", || {
            let listed = self.client.get(&["pods", "-A"])?;
            Ok(pods.iter().all(|key| find(&listed, key).is_none()))
        })
    }

    fn let_end(&self, ObjectKey { namespace, name }: &ObjectKey) -> Result<()> {
        // In the background: the end of the container's first process kills this one, and kubectl would report that (137).
        let end = "(sleep 1; echo > /tmp/end) > /dev/null 2>&1 &";
        let words = ["-n", namespace, "exec", name, "--", "sh", "-c", end];
        self.client.kubectl(&words).map(drop)
    }

    fn remove_namespaces(&self, names: &[String]) -> Result<()> {
        let pods = self.cluster.pods.keys().filter(|key| names.contains(&key.namespace));
        self.remove(&pods.cloned().collect::<Vec<_>>())?;
        for name in names {
            // The namespace controller would check again only after the pods' grace period; after a change it checks at
            // once.
            self.client.kubectl(&["annotate", "namespace", name, "bridgewarden.test/pods=gone"])?;
        }
        for name in names {
            self.client.kubectl(&["wait", "--for=delete", &format!("namespace/{name}"), "--timeout=120s"])?;
        }
        Ok(())
    }

    /// Waits until no namespace of an earlier, failed scenario is terminating.
    fn waits_for_namespaces(&self, cluster: &ScenarioCluster) -> Result<()> {
        waits_for("namespaces of an earlier scenario are gone", || {
            let listed = self.client.get(&["namespaces"])?;
            let own = |item: &&Value| {
                item["metadata"]["name"].as_str().is_some_and(|name| cluster.namespaces.contains_key(name))
            };
            Ok(!items(&listed).filter(own).any(|item| item["metadata"]["deletionTimestamp"].is_string()))
        })
    }
}

impl ScenarioWorld for OnKind {
    fn deadline(&self) -> Duration {
        Duration::from_secs(20)
    }

    fn set_up(&mut self, cluster: &ScenarioCluster) -> Result<()> {
        self.waits_for_namespaces(cluster)?;
        self.cluster = cluster.clone();
        let namespaces = cluster.namespaces.iter().map(|(name, labels)| object::namespace(name, labels));
        let services = cluster.services.iter().map(|(key, service)| object::service(key, service));
        self.client.apply(&namespaces.chain(services).collect::<Vec<_>>())?;
        self.create(&cluster.pods)
    }

    fn enforce(&mut self) -> Result<()> {
        agents::are_ready(&self.client)
    }

    fn act(&mut self, verb: &Verb) -> Result<()> {
        let mut after = self.cluster.clone();
        after.follow(verb)?;
        match verb {
            Verb::Apply(policies) => {
                let objects = policies.iter().map(|(key, spec)| object::policy(key, spec));
                self.client.apply(&objects.collect::<Vec<_>>())?;
            }
            Verb::Delete(policies) => self.delete("networkpolicies", policies, &[])?,
            Verb::Create(pods) => self.create(pods)?,
            Verb::Terminate(pods) => self.delete("pods", pods, &["--wait=false"])?,
            Verb::Remove(pods) => self.remove(pods)?,
            Verb::Finish(pods) => self.finish(pods)?,
            Verb::Relabel(targets) => targets.keys().try_for_each(|target| self.relabel(&after, target))?,
            Verb::TerminateNamespaces(names) => self.terminate_namespaces(names)?,
            Verb::RemoveNamespaces(names) => self.remove_namespaces(names)?,
            Verb::Agents(act) => agents::act(&self.client, self.nodes.values(), *act)?,
        }
        self.pods.retain(|key, _| !verb.ends(key));
        self.cluster = after;
        Ok(())
    }

    fn find(&self, who: &Name) -> Result<Whereabouts> {
        match who {
            Name::Pod { namespace, name } => {
                let place = self.pods.get(&ObjectKey::new(namespace, name));
                place.cloned().with_context(|| format!("{who} does not run"))
            }
            Name::Service { namespace, name } => {
                let service = self.client.get(&["-n", namespace, "services", name])?;
                let address = service["spec"]["clusterIP"].as_str().and_then(|ip| ip.parse().ok());
                let address = address.with_context(|| format!("{who} has no address"))?;
                Ok(Whereabouts { namespace: None, addresses: vec![address] })
            }
            Name::Node(node) => {
                let node = NodeName::BOTH.into_iter().find(|own| own.as_str() == *node);
                let node = self.node(node.with_context(|| format!("there is no {who}"))?)?;
                Ok(Whereabouts { namespace: Some(node.namespace.clone()), addresses: vec![node.address] })
            }
            Name::Outside => self.outside.whereabouts(OUTSIDE[0]),
            Name::Stranger(address) if outside::ADDRESSES.contains(address) => {
                self.outside.whereabouts(*address)
            }
            Name::Stranger(address) => {
                bail!("no host outside has {address}: use one of {:?}", outside::ADDRESSES)
            }
        }
    }

    fn resolver(&self) -> Result<Option<IpAddr>> {
        let dns = Name::Service { namespace: "kube-system".to_owned(), name: "kube-dns".to_owned() };
        Ok(self.find(&dns)?.addresses.into_iter().next())
    }

    /// Deletes its policies; the agents stay for the next scenario. One scenario removes them.
    fn remove_enforcement(&mut self) -> Result<()> {
        for namespace in self.cluster.namespaces.keys() {
            self.client.kubectl(&["-n", namespace, "delete", "networkpolicies", "--all"])?;
        }
        Ok(())
    }

    fn dump(&self, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory)?;
        for (name, node) in &self.nodes {
            node.dump(&self.client, directory, name.as_str())?;
        }
        agents::dump(&self.client, directory)?;
        let all = "pods,services,networkpolicies,namespaces";
        let objects = self.client.kubectl(&["get", all, "-A", "-o", "yaml"])?;
        Ok(fs::write(directory.join("objects.yaml"), objects)?)
    }

    fn clear(&mut self) -> Result<()> {
        self.pods.clear();
        for namespace in self.cluster.namespaces.keys() {
            let kinds = "networkpolicies,services,pods";
            let now = ["--all", "--force", "--grace-period=0", "--wait=false"];
            self.client.kubectl(&[&["-n", namespace, "delete", kinds][..], &now].concat())?;
        }
        Ok(())
    }
}

/// Repeats a check until it succeeds.
fn waits_for(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !holds()? {
        ensure!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

fn find<'a>(list: &'a Value, key: &ObjectKey) -> Option<&'a Value> {
    let is_it = |item: &&Value| {
        item["metadata"]["namespace"] == json!(key.namespace) && item["metadata"]["name"] == json!(key.name)
    };
    items(list).find(is_it)
}

/// The pod, if it runs and is not being deleted.
fn running<'a>(list: &'a Value, key: &ObjectKey) -> Option<&'a Value> {
    find(list, key).filter(|pod| {
        pod["status"]["phase"] == "Running"
            && pod["status"]["podIPs"].is_array()
            && !pod["metadata"]["deletionTimestamp"].is_string()
    })
}
