//! Pods as the oracle sees them: their names, labels and addresses.

use crate::api::{ObjectMeta, Pod};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The object's namespace; `default` if it has none, as in the API.
pub(super) fn namespace(metadata: &ObjectMeta) -> &str {
    metadata.namespace.as_deref().unwrap_or("default")
}

/// The object's labels.
pub(super) fn labels(metadata: &ObjectMeta) -> &BTreeMap<String, String> {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    metadata.labels.as_ref().unwrap_or(&NONE)
}

/// `namespace/name`.
pub(super) fn key(pod: &Pod) -> String {
    format!("{}/{}", namespace(&pod.metadata), pod.metadata.name)
}

/// PodStatus.phase: "Succeeded: All containers in the pod have terminated in success, and will not be restarted",
/// "Failed: All containers in the pod have terminated". A pod that is only being deleted has not finished.
pub(super) fn has_finished(pod: &Pod) -> bool {
    matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed"))
}

/// PodSpec.hostNetwork: "Host networking requested for this pod. Use the host's network namespace."
pub(super) fn shares_node_network(pod: &Pod) -> bool {
    pod.spec.host_network == Some(true)
}

/// The addresses in the status, even if they are the node's.
pub(super) fn stated_addresses(pod: &Pod) -> Vec<IpAddr> {
    let all = pod.status.pod_ip.iter().chain(pod.status.pod_ips.iter().map(|pod_ip| &pod_ip.ip));
    all.filter_map(|text| text.parse().ok()).collect()
}

/// The pod's addresses in the pod network: none for a pod on its node's network, whose address is the node's, and none
/// for a finished pod, whose address may belong to another pod by now.
pub(super) fn addresses(pod: &Pod) -> Vec<IpAddr> {
    if has_finished(pod) || shares_node_network(pod) { Vec::new() } else { stated_addresses(pod) }
}
