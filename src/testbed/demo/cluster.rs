//! Manifests as a cluster: the objects for the oracle, and the pods that run in the testbed. Pure.

use crate::api;
use crate::explain::oracle::World;
use crate::model::{Pod, PodKey};
use crate::net::Protocol;
use crate::source::{Manifests, Object};
use crate::testbed::{PodPlacement, Port};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The cluster of a demo.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct DemoCluster {
    /// The objects that the API server would have.
    pub(super) world: World,
    /// The pods that run in the testbed, in the order of their names.
    pub(super) places: Vec<PodPlacement>,
    /// The pods that cannot run there, and why.
    pub(super) absent: Vec<(PodKey, &'static str)>,
    /// How many declared SCTP ports there are; they are not served.
    pub(super) sctp_ports: usize,
}

impl DemoCluster {
    /// The cluster of some manifests.
    pub(super) fn of(manifests: &Manifests) -> DemoCluster {
        let mut cluster = DemoCluster { world: world(manifests), ..DemoCluster::default() };
        for pod in &manifests.pods {
            match place(pod) {
                Ok(mut place) => {
                    let declared = place.listens.len();
                    place.listens.retain(|(protocol, _)| *protocol != Protocol::Sctp);
                    cluster.sctp_ports += declared - place.listens.len();
                    cluster.places.push(place);
                }
                Err(reason) => cluster.absent.push((pod.converted.key.clone(), reason)),
            }
        }
        cluster.places.sort_by(|one, other| one.pod.cmp(&other.pod));
        cluster.absent.sort();
        cluster
    }

    /// The nodes that the pods are on.
    pub(super) fn nodes(&self) -> Vec<String> {
        self.places.iter().map(|place| place.node.clone()).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

fn world(manifests: &Manifests) -> World {
    let mut namespaces: Vec<_> =
        manifests.namespaces.iter().map(|namespace| namespace.written.clone()).collect();
    let written: BTreeSet<_> = namespaces.iter().map(|namespace| namespace.metadata.name.clone()).collect();
    let pods = manifests.pods.iter().map(|pod| &pod.converted.key.namespace);
    let spoken_of = pods.chain(manifests.policies.iter().map(|policy| &policy.converted.key.namespace));
    let spoken_of: BTreeSet<_> = spoken_of.map(|name| name.as_str().to_owned()).collect();
    // A namespace that other objects only refer to exists, too.
    for name in spoken_of.difference(&written) {
        let metadata = api::ObjectMeta { name: name.clone(), ..api::ObjectMeta::default() };
        namespaces.push(api::Namespace { metadata, ..api::Namespace::default() });
    }
    World {
        namespaces,
        pods: manifests.pods.iter().map(|pod| pod.written.clone()).collect(),
        policies: manifests.policies.iter().map(|policy| policy.written.clone()).collect(),
    }
}

fn place(pod: &Object<api::Pod, Pod>) -> Result<PodPlacement, &'static str> {
    let written = &pod.written;
    if matches!(written.status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return Err("it has finished");
    }
    let node = pod.converted.node.as_deref().ok_or("it is on no node (spec.nodeName)")?.to_owned();
    let host_network = written.spec.host_network == Some(true);
    let addresses =
        if host_network { node_addresses(&written.status) } else { pod.converted.addresses.clone() };
    if addresses.is_empty() {
        return Err("it has no address (status.podIPs)");
    }
    let listens = listens(&written.spec);
    Ok(PodPlacement { pod: pod.converted.key.clone(), node, addresses, listens, host_network })
}

/// The addresses of the node, as a pod that shares its network states them.
fn node_addresses(status: &api::PodStatus) -> Vec<IpAddr> {
    let stated = status.pod_ip.iter().chain(status.pod_ips.iter().map(|pod_ip| &pod_ip.ip));
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in stated.filter_map(|text| text.parse().ok()) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

/// The ports of the containers that keep running.
fn listens(spec: &api::PodSpec) -> Vec<Port> {
    let sidecars =
        spec.init_containers.iter().filter(|init| init.restart_policy.as_deref() == Some("Always"));
    let declared = spec.containers.iter().chain(sidecars).flat_map(|container| &container.ports);
    let ports = declared.filter_map(|port| {
        let protocol = Protocol::parse(port.protocol.as_deref().unwrap_or("TCP"))?;
        u16::try_from(port.container_port).ok().map(|number| (protocol, number))
    });
    ports.collect::<BTreeSet<Port>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::parse_manifests;

    fn cluster(text: &str) -> DemoCluster {
        DemoCluster::of(&parse_manifests("a.yaml", text).unwrap())
    }

    const WEB: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop}
spec:
  nodeName: a
  containers:
  - name: web
    ports: [{containerPort: 80}, {containerPort: 80}, {containerPort: 53, protocol: UDP}, {containerPort: 9, protocol: SCTP}]
  initContainers:
  - {name: setup, ports: [{containerPort: 81}]}
  - {name: sidecar, restartPolicy: Always, ports: [{containerPort: 82}]}
status: {podIPs: [{ip: 10.244.1.10}, {ip: 'fd00:10:244:1::10'}]}
";

    #[test]
    fn pod_listens_on_what_its_running_containers_declare() {
        let cluster = cluster(WEB);
        let [place] = cluster.places.as_slice() else { panic!("{:?}", cluster.places) };
        let expected = [(Protocol::Tcp, 80), (Protocol::Tcp, 82), (Protocol::Udp, 53)];
        assert_eq!(place.listens, expected);
        assert_eq!(place.addresses.len(), 2);
        assert_eq!((cluster.sctp_ports, cluster.nodes()), (1, vec!["a".to_owned()]));
    }

    #[test]
    fn namespace_that_is_only_spoken_of_is_in_the_world() {
        let names: Vec<String> =
            cluster(WEB).world.namespaces.into_iter().map(|namespace| namespace.metadata.name).collect();
        assert_eq!(names, ["shop"]);
    }

    #[test]
    fn pod_without_node_address_or_running_container_is_absent_and_reported() {
        let reasons = |change: fn(String) -> String| {
            let cluster = cluster(&change(WEB.to_owned()));
            assert_eq!(cluster.places, []);
            cluster.absent.into_iter().map(|(_, reason)| reason).collect::<Vec<_>>()
        };
        assert_eq!(reasons(|text| text.replace("nodeName: a", "nodeName: ''")), {
            ["it is on no node (spec.nodeName)"]
        });
        assert_eq!(reasons(|text| text.replace("podIPs: [", "podIPs: []} # ")), {
            ["it has no address (status.podIPs)"]
        });
        assert_eq!(reasons(|text| text.replace("{podIPs", "{phase: Failed, podIPs")), ["it has finished"]);
    }

    #[test]
    fn pod_on_its_nodes_network_has_its_nodes_address() {
        let cluster = cluster(&WEB.replace("nodeName: a", "nodeName: a\n  hostNetwork: true"));
        assert!(cluster.places[0].host_network);
        assert_eq!(cluster.places[0].addresses.len(), 2);
    }
}
