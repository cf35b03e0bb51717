//! CNI results of a testbed's pods, in files as libcni writes them for a container runtime.

use super::{PodPlacement, TestbedError};
use crate::net::Family;
use serde_json::{Value, json};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The network's name, as flannel's default configuration has it.
const NETWORK: &str = "cbr0";

/// A directory with one directory of results for each node.
#[derive(Debug)]
pub(super) struct CniResultFiles {
    directory: PathBuf,
}

impl CniResultFiles {
    /// An empty directory of this testbed's own.
    pub(super) fn create(id: &str) -> Result<CniResultFiles, TestbedError> {
        let directory = std::env::temp_dir().join(format!("bw-{id}-cni-{}", std::process::id()));
        fs::create_dir_all(&directory).map_err(|source| failed("make", &directory, source))?;
        Ok(CniResultFiles { directory })
    }

    /// The directory of the results of a node's pods.
    pub(super) fn of_node(&self, node: &str) -> PathBuf {
        self.directory.join(node)
    }

    /// Makes the directory of a node.
    pub(super) fn add_node(&self, node: &str) -> Result<(), TestbedError> {
        let directory = self.of_node(node);
        fs::create_dir_all(&directory).map_err(|source| failed("make", &directory, source))
    }

    /// Writes the result of a pod that this device connects to its node's bridge and that has this Ethernet address.
    pub(super) fn write(
        &self,
        place: &PodPlacement,
        device: &str,
        hardware: [u8; 6],
    ) -> Result<(), TestbedError> {
        let path = self.file(place);
        let text = result(place, device, hardware).to_string();
        fs::write(&path, text).map_err(|source| failed("write", &path, source))
    }

    /// Removes the result of a pod, if it has one.
    pub(super) fn remove(&self, place: &PodPlacement) -> Result<(), TestbedError> {
        let path = self.file(place);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(failed("remove", &path, source)),
            Err(_) | Ok(()) => Ok(()),
        }
    }

    fn file(&self, place: &PodPlacement) -> PathBuf {
        self.of_node(&place.node).join(format!("{NETWORK}-{}-eth0", container(place)))
    }
}

impl Drop for CniResultFiles {
    fn drop(&mut self) {
        // If this fails, the files stay in the directory for temporary files.
        fs::remove_dir_all(&self.directory).ok();
    }
}

/// A container id derived from the pod's name.
fn container(place: &PodPlacement) -> String {
    super::names::fingerprint(&format!("container of {}", place.pod))
}

fn result(place: &PodPlacement, device: &str, hardware: [u8; 6]) -> Value {
    let mac = hardware.map(|octet| format!("{octet:02x}")).join(":");
    let container = container(place);
    let netns = format!("/var/run/netns/{container}");
    let ips = place.addresses.iter().map(|address| {
        let length = match Family::of(*address) {
            Family::V4 => 24,
            Family::V6 => 64,
        };
        json!({"address": format!("{address}/{length}"), "interface": 2})
    });
    json!({
        "kind": "cniCacheV1",
        "containerId": container,
        "ifName": "eth0",
        "networkName": NETWORK,
        "cniArgs": [
            ["IgnoreUnknown", "1"],
            ["K8S_POD_NAMESPACE", place.pod.namespace.as_str()],
            ["K8S_POD_NAME", &*place.pod.name],
            ["K8S_POD_INFRA_CONTAINER_ID", container],
        ],
        "result": {
            "cniVersion": "1.0.0",
            "interfaces": [
                {"name": "cni0"},
                {"name": device},
                {"name": "eth0", "mac": mac, "sandbox": netns},
            ],
            "ips": ips.collect::<Vec<_>>(),
        },
    })
}

fn failed(act: &'static str, path: &Path, source: io::Error) -> TestbedError {
    TestbedError::System {
        act,
        object: path.display().to_string(),
        source,
        cure: "Make room for temporary files, or set TMPDIR",
    }
}
