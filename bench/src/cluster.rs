//! A generated cluster; the same seed always gives the same cluster.

mod policy;
mod workload;

pub use workload::GeneratedPod;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use support::worlds::Random;
use workload::Workload;

/// The node on which the agent runs.
pub const LOCAL_NODE: &str = "node-0";
/// The address of that node (status.hostIP of its pods).
pub const LOCAL_ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 31, 2, 2);

/// How many pods a node carries, roughly: the kubelet's default bound.
const PODS_PER_NODE: usize = 110;

/// How large a cluster is.
#[derive(Clone, Debug)]
pub struct Size {
    /// How many pods there are, on all nodes.
    pub pods: usize,
    /// How many NetworkPolicies there are; about a third select pods of this node.
    pub policies: usize,
    /// How many of the pods are on this node.
    pub local_pods: usize,
    /// How many namespaces there are.
    pub namespaces: usize,
    /// The seed.
    pub seed: u64,
}

#[derive(Clone, Debug)]
struct GeneratedNamespace {
    name: String,
    team: &'static str,
    env: &'static str,
    workloads: Vec<Workload>,
    pods: Vec<GeneratedPod>,
    policies: Vec<String>,
}

/// A generated cluster.
#[derive(Clone, Debug)]
pub struct GeneratedCluster {
    size: Size,
    namespaces: Vec<GeneratedNamespace>,
}

const TEAMS: [&str; 10] = [
    "payments", "search", "identity", "catalog", "shipping", "mobile", "data", "platform", "support",
    "growth",
];
const ENVS: [&str; 3] = ["prod", "staging", "dev"];

impl GeneratedCluster {
    /// Generates a cluster.
    ///
    /// # Errors
    /// The cluster needs more addresses than there are.
    pub fn new(size: &Size) -> Result<GeneratedCluster> {
        ensure!((1..=5_000).contains(&size.namespaces), "a cluster has 1 to 5,000 namespaces");
        ensure!(size.local_pods <= 250 && size.local_pods <= size.pods, "a node has up to 250 pods");
        ensure!(size.pods <= 200_000, "a cluster has up to 200,000 pods");
        let mut random = Random::new(size.seed);
        let mut namespaces: Vec<GeneratedNamespace> = (0..size.namespaces).map(namespace).collect();
        let share = |total: usize, index: usize| {
            (index + 1) * total / size.namespaces - index * total / size.namespaces
        };
        let mut addresses =
            AddressAllocator { remote_nodes: size.pods.div_ceil(PODS_PER_NODE).max(1), given: 0, local: 0 };
        for (index, namespace) in namespaces.iter_mut().enumerate() {
            let local = share(size.local_pods, index);
            namespace.populate(&mut random, share(size.pods, index), local, &mut addresses);
        }
        let all = namespaces.clone();
        for (index, namespace) in namespaces.iter_mut().enumerate() {
            let count = share(size.policies, index);
            namespace.policies = policy::policies(&mut random, &all, index, count);
        }
        Ok(GeneratedCluster { size: size.clone(), namespaces })
    }

    /// All its objects, as the API server stores them.
    ///
    /// # Errors
    /// A policy is malformed.
    pub fn objects(&self) -> Result<Vec<Value>> {
        let mut objects = self.namespaces_and_policies()?;
        objects.extend(self.pods().map(GeneratedPod::object));
        Ok(objects)
    }

    /// Its namespaces and policies.
    ///
    /// # Errors
    /// A policy is malformed.
    pub fn namespaces_and_policies(&self) -> Result<Vec<Value>> {
        let mut objects: Vec<Value> = self.namespaces.iter().map(GeneratedNamespace::object).collect();
        for policy in self.namespaces.iter().flat_map(|namespace| &namespace.policies) {
            objects.push(serde_yaml_ng::from_str(policy).context("a generated policy is not YAML")?);
        }
        Ok(objects)
    }

    /// The pods.
    pub fn pods(&self) -> impl Iterator<Item = &GeneratedPod> {
        self.namespaces.iter().flat_map(|namespace| &namespace.pods)
    }

    /// The cluster in words.
    pub fn describe(&self) -> String {
        let Size { pods, policies, local_pods, namespaces, seed } = self.size;
        let workloads: usize = self.namespaces.iter().map(|namespace| namespace.workloads.len()).sum();
        format!(
            "{pods} pods of {workloads} workloads in {namespaces} namespaces, {policies} policies; {local_pods} pods on \
             this node; seed {seed}"
        )
    }

    /// Pods on another node that are not in the manifests, each of one of the workloads, as if these were scaled up.
    pub fn newcomers(&self, count: usize) -> Vec<GeneratedPod> {
        let mut random = Random::new(self.size.seed ^ 0x006e_6577);
        let populated: Vec<&GeneratedNamespace> =
            self.namespaces.iter().filter(|namespace| !namespace.workloads.is_empty()).collect();
        let newcomer = |index: usize| {
            let namespace = *random.pick(&populated);
            let workload = random.pick(&namespace.workloads);
            let address = Ipv4Addr::from(0x0afa_0000 + index as u32);
            // Numbers that no pod of the workload has yet.
            workload.pod(&mut random, 1_000 + index, format!("node-{}", 1 + index % 50), address)
        };
        (0..count).map(newcomer).collect()
    }
}

fn namespace(index: usize) -> GeneratedNamespace {
    let (team, env) = (TEAMS[index % TEAMS.len()], ENVS[index / TEAMS.len() % ENVS.len()]);
    let name = match index {
        0 => "kube-system".to_owned(),
        1..30 => format!("{team}-{env}"),
        _ => format!("{team}-{env}-{}", index / 30),
    };
    GeneratedNamespace { name, team, env, workloads: Vec::new(), pods: Vec::new(), policies: Vec::new() }
}

/// Assigns addresses: each node has a /24 of 10.0.0.0/9, from 10.64 on.
struct AddressAllocator {
    remote_nodes: usize,
    given: usize,
    local: usize,
}

impl AddressAllocator {
    fn next(&mut self, local: bool) -> (String, Ipv4Addr) {
        let (node, host) = if local {
            self.local += 1;
            (0, self.local)
        } else {
            let at = self.given;
            self.given += 1;
            (1 + at % self.remote_nodes, 1 + at / self.remote_nodes)
        };
        let address = 0x0a40_0000 + (node << 8) + host + 1;
        (format!("node-{node}"), Ipv4Addr::from(u32::try_from(address).unwrap_or(u32::MAX)))
    }
}

impl GeneratedNamespace {
    fn populate(&mut self, random: &mut Random, pods: usize, local: usize, addresses: &mut AddressAllocator) {
        let mut left = pods;
        while left > 0 {
            let index = self.workloads.len();
            let mut workload = Workload::new(random, &self.name, self.team, index);
            let replicas = (1 + random.below(19)).min(left);
            left -= replicas;
            for replica in 0..replicas {
                let is_local = replica == 0 && index < local;
                workload.local |= is_local;
                let (node, address) = addresses.next(is_local);
                let pod = workload.pod(random, replica, node, address);
                self.pods.push(pod);
            }
            self.workloads.push(workload);
        }
    }

    /// The apps that have a pod on this node.
    fn local_apps(&self) -> impl Iterator<Item = &str> {
        self.workloads.iter().filter(|workload| workload.local).map(|workload| workload.app.as_str())
    }

    fn object(&self) -> Value {
        let GeneratedNamespace { name, team, env, .. } = self;
        let labels = json!({"kubernetes.io/metadata.name": name, "team": team, "env": env});
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    }
}
