//! A made-up cluster, as a directory of manifests; the same seed is always the same cluster.

mod policy;
mod workload;

pub(crate) use workload::Pod;

use anyhow::{Context, Result, ensure};
use clap::Args;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use support::worlds::Random;
use workload::Workload;

/// The node on which the daemon runs.
pub(crate) const LOCAL_NODE: &str = "node-0";

/// How many pods a node carries, roughly: the kubelet's default bound.
const PODS_PER_NODE: usize = 110;

/// How large the cluster is.
#[derive(Clone, Debug, Args)]
pub(crate) struct Size {
    /// How many pods there are, on all nodes
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    pods: usize,
    /// How many NetworkPolicies there are; about a third select pods of this node
    #[arg(long, value_name = "COUNT", default_value_t = 1_000)]
    policies: usize,
    /// How many of the pods are on this node
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    local_pods: usize,
    /// How many namespaces there are
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    namespaces: usize,
    /// Which cluster of this size
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Debug)]
struct Namespace {
    name: String,
    team: &'static str,
    env: &'static str,
    workloads: Vec<Workload>,
    pods: Vec<Pod>,
    policies: Vec<String>,
}

/// A made-up cluster.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    size: Size,
    namespaces: Vec<Namespace>,
}

const TEAMS: [&str; 10] = [
    "payments", "search", "identity", "catalog", "shipping", "mobile", "data", "platform", "support",
    "growth",
];
const ENVS: [&str; 3] = ["prod", "staging", "dev"];

impl Cluster {
    /// Makes one up.
    pub(crate) fn new(size: &Size) -> Result<Cluster> {
        ensure!((1..=5_000).contains(&size.namespaces), "--namespaces must be 1 to 5000");
        ensure!(size.local_pods <= 250 && size.local_pods <= size.pods, "--local-pods must be 0 to 250");
        ensure!(size.pods <= 200_000, "--pods must be 0 to 200000");
        let mut random = Random::new(size.seed);
        let mut namespaces: Vec<Namespace> = (0..size.namespaces).map(namespace).collect();
        let share = |total: usize, index: usize| {
            (index + 1) * total / size.namespaces - index * total / size.namespaces
        };
        let mut addresses =
            Addresses { remote_nodes: size.pods.div_ceil(PODS_PER_NODE).max(1), given: 0, local: 0 };
        for (index, namespace) in namespaces.iter_mut().enumerate() {
            let local = share(size.local_pods, index);
            namespace.populate(&mut random, share(size.pods, index), local, &mut addresses);
        }
        let all = namespaces.clone();
        for (index, namespace) in namespaces.iter_mut().enumerate() {
            let count = share(size.policies, index);
            namespace.policies = policy::policies(&mut random, &all, index, count);
        }
        Ok(Cluster { size: size.clone(), namespaces })
    }

    /// Writes the manifests into a new directory: three files a namespace, and an empty directory for `single`.
    pub(crate) fn write(&self, directory: &Path) -> Result<()> {
        let failed = || format!("cannot write the manifests into {}", directory.display());
        fs::create_dir(directory).with_context(failed)?;
        fs::create_dir(directory.join("single")).with_context(failed)?;
        for namespace in &self.namespaces {
            let own = directory.join(&namespace.name);
            fs::create_dir(&own).with_context(failed)?;
            let pods: Vec<String> = namespace.pods.iter().map(Pod::manifest).collect();
            fs::write(own.join("namespace.yaml"), namespace.manifest()).with_context(failed)?;
            fs::write(own.join("pods.yaml"), pods.join("---\n")).with_context(failed)?;
            fs::write(own.join("policies.yaml"), namespace.policies.join("---\n")).with_context(failed)?;
        }
        Ok(())
    }

    /// The cluster in words.
    pub(crate) fn describe(&self) -> String {
        let Size { pods, policies, local_pods, namespaces, seed } = self.size;
        let workloads: usize = self.namespaces.iter().map(|namespace| namespace.workloads.len()).sum();
        format!(
            "{pods} pods of {workloads} workloads in {namespaces} namespaces, {policies} policies; {local_pods} pods on \
             this node; seed {seed}"
        )
    }

    /// Pods on another node that are not in the manifests, each of one of the workloads, as it would be scaled up.
    pub(crate) fn newcomers(&self, count: usize) -> Vec<Pod> {
        let mut random = Random::new(self.size.seed ^ 0x006e_6577);
        let populated: Vec<&Namespace> =
            self.namespaces.iter().filter(|namespace| !namespace.workloads.is_empty()).collect();
        let newcomer = |index: usize| {
            let namespace = *random.pick(&populated);
            let workload = random.pick(&namespace.workloads);
            let address = Ipv4Addr::from(0x0afa_0000 + index as u32);
            workload.pod(&mut random, index, format!("node-{}", 1 + index % 50), address)
        };
        (0..count).map(newcomer).collect()
    }

    /// The pod as one of another workload of its namespace: another selection of policies asks for it.
    pub(crate) fn relabelled(&self, pod: &Pod) -> Pod {
        let namespace = self.namespaces.iter().find(|namespace| namespace.name == pod.namespace);
        let workloads = namespace.map_or(&[] as &[Workload], |namespace| &namespace.workloads);
        let own = workloads.iter().position(|workload| workload.labels == pod.labels).unwrap_or_default();
        let other = workloads.get((own + 1) % workloads.len().max(1));
        let labels = other.map_or_else(|| pod.labels.clone(), |workload| workload.labels.clone());
        Pod { labels, ..pod.clone() }
    }

    /// A policy that selects pods of this node, the `index`th of that kind.
    pub(crate) fn local_policy(&self, index: usize) -> String {
        let with_local: Vec<&Namespace> =
            self.namespaces.iter().filter(|namespace| namespace.local_apps().next().is_some()).collect();
        let namespace =
            with_local.get(index % with_local.len().max(1)).or(self.namespaces.first().as_ref()).copied();
        namespace.map_or_else(String::new, |namespace| policy::extra(namespace, index))
    }
}

fn namespace(index: usize) -> Namespace {
    let (team, env) = (TEAMS[index % TEAMS.len()], ENVS[index / TEAMS.len() % ENVS.len()]);
    let name = match index {
        0 => "kube-system".to_owned(),
        1..30 => format!("{team}-{env}"),
        _ => format!("{team}-{env}-{}", index / 30),
    };
    Namespace { name, team, env, workloads: Vec::new(), pods: Vec::new(), policies: Vec::new() }
}

/// Gives out addresses: each node has a /24 of 10.0.0.0/9 from 10.64 on.
struct Addresses {
    remote_nodes: usize,
    given: usize,
    local: usize,
}

impl Addresses {
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

impl Namespace {
    fn populate(&mut self, random: &mut Random, pods: usize, local: usize, addresses: &mut Addresses) {
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

    fn manifest(&self) -> String {
        let Namespace { name, team, env, .. } = self;
        format!(
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n  labels:\n    \
             kubernetes.io/metadata.name: {name}\n    team: {team}\n    env: {env}\n"
        )
    }
}
