//! A node: a container of an engine on this machine. Root can reach its files and networks through /proc.

use super::client::Client;
use super::waits_for;
use crate::key::ObjectKey;
use crate::world::dump_kernel;
use anyhow::{Context, Result, ensure};
use bridgewarden::testbed::Netns;
use serde_json::Value;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// A node.
#[derive(Debug)]
pub(super) struct KindNode {
    /// Its name, which is also that of its container.
    pub(super) name: String,
    /// Its network.
    pub(super) namespace: Netns,
    /// Its address.
    pub(super) address: IpAddr,
    /// Its pods' addresses.
    pub(super) pod_cidr: String,
    root: PathBuf,
}

impl KindNode {
    /// The node whose container a setting names.
    pub(super) fn find(client: &Client, setting: &str) -> Result<KindNode> {
        let name = client.setting(setting)?.to_owned();
        let pid = client.docker(&["inspect", "-f", "{{.State.Pid}}", &name])?;
        let process = client.engine_root().join("proc").join(pid.trim());
        let root = process.join("root");
        let hostname = fs::read_to_string(root.join("etc/hostname")).unwrap_or_default();
        ensure!(
            hostname.trim() == name,
            "the processes of node {name} are not on this machine, so its pods' networks cannot be entered: use an engine \
             that runs here, without a machine of its own"
        );
        let namespace = Netns::open(&name, &process.join("ns/net"))?;
        let object = client.get(&["node", &name])?;
        let addresses = object["status"]["addresses"].as_array().into_iter().flatten();
        let mut own = addresses.filter(|address| address["type"] == "InternalIP");
        let address = own.next().and_then(|address| address["address"].as_str()?.parse().ok());
        let pod_cidr = object["spec"]["podCIDR"].as_str().map(str::to_owned);
        Ok(KindNode {
            namespace,
            address: address.with_context(|| format!("node {name} has no address"))?,
            pod_cidr: pod_cidr.with_context(|| format!("node {name} has no pod CIDR"))?,
            name,
            root,
        })
    }

    /// The path on this machine of one of the node's files.
    pub(super) fn path(&self, below_root: &str) -> PathBuf {
        self.root.join(below_root)
    }

    /// The network namespace of a pod, as the CNI results name it.
    pub(super) fn pod_namespace(&self, key: &ObjectKey, uid: &str) -> Result<Netns> {
        let results = self.root.join("var/lib/cni/results");
        let listed = fs::read_dir(&results).with_context(|| format!("cannot list {}", results.display()))?;
        let texts = listed.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
        let result = texts.filter_map(|text| serde_json::from_str::<Value>(&text).ok()).find(|result| {
            let arguments = result["cniArgs"].as_array().into_iter().flatten();
            let is_it = |argument: &Value| argument[0] == "K8S_POD_UID" && argument[1] == uid;
            result["ifName"] == "eth0" && arguments.into_iter().any(is_it)
        });
        let result = result.with_context(|| format!("no CNI plugin has noted pod {key} on {}", self.name))?;
        let links = result["result"]["interfaces"].as_array().into_iter().flatten();
        let sandbox = links.filter_map(|link| link["sandbox"].as_str()).find(|sandbox| !sandbox.is_empty());
        let sandbox = sandbox.with_context(|| format!("the CNI result of pod {key} names no namespace"))?;
        // /var/run is a link to /run, which would be resolved on this machine.
        let below = sandbox.trim_start_matches("/var").trim_start_matches('/');
        Ok(Netns::open(&key.to_string(), &self.root.join(below))?)
    }

    /// Waits until a pod of this node runs; returns its network and its address.
    pub(super) fn running(&self, client: &Client, key: &ObjectKey) -> Result<(Netns, IpAddr)> {
        let mut running = None;
        waits_for(&format!("pod {key} runs"), || {
            let pod = client.get(&["-n", &key.namespace, "pod", &key.name])?;
            let address = pod["status"]["podIP"].as_str().and_then(|ip| ip.parse().ok());
            running = address.filter(|_| pod["status"]["phase"] == "Running").map(|address| (pod, address));
            Ok(running.is_some())
        })?;
        let (pod, address) = running.with_context(|| format!("pod {key} does not run"))?;
        let uid = pod["metadata"]["uid"].as_str().with_context(|| format!("pod {key} has no uid"))?;
        Ok((self.pod_namespace(key, uid)?, address))
    }

    /// Runs a program in the node.
    pub(super) fn run(&self, client: &Client, words: &[&str]) -> Result<String> {
        client.docker(&[&["exec", &self.name][..], words].concat())
    }

    /// Writes its rules and sets to files of a directory.
    pub(super) fn dump(&self, client: &Client, directory: &Path, name: &str) -> Result<()> {
        dump_kernel(directory, name, |words| self.run(client, words))
    }
}
