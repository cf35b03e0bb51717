//! A v1 Pod as protocol buffers: those fields that `api::Pod` has, and of its metadata nothing that no pod is asked for.

use super::wire::{Malformed, Value, entry, fields, find, some_text, text};
use crate::api::{
    Annotations, Container, ContainerPort, ObjectMeta, OwnerReference, Pod, PodIp, PodSpec, PodStatus,
};

/// The annotation of a static pod's mirror; see [`Annotations::config_mirror`].
const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";

pub(super) fn pod(message: &[u8]) -> Result<Pod, Malformed> {
    let mut pod = Pod::default();
    for field in fields(message) {
        match field? {
            (1, Value::Bytes(bytes)) => pod.metadata = metadata(bytes)?,
            (2, Value::Bytes(bytes)) => pod.spec = spec(bytes)?,
            (3, Value::Bytes(bytes)) => pod.status = status(bytes)?,
            _ => {}
        }
    }
    Ok(pod)
}

fn metadata(message: &[u8]) -> Result<ObjectMeta, Malformed> {
    let mut metadata = ObjectMeta::default();
    for field in fields(message) {
        match field? {
            (1, Value::Bytes(bytes)) => metadata.name = text(bytes)?.to_owned(),
            (3, Value::Bytes(bytes)) => metadata.namespace = some_text(bytes)?,
            (5, Value::Bytes(bytes)) => metadata.uid = some_text(bytes)?,
            (6, Value::Bytes(bytes)) => metadata.resource_version = some_text(bytes)?,
            (11, Value::Bytes(bytes)) => {
                let (key, value) = entry(bytes)?;
                metadata.labels.get_or_insert_default().insert(key.to_owned(), value.to_owned());
            }
            (12, Value::Bytes(bytes)) => {
                let annotations: &mut Annotations = metadata.annotations.get_or_insert_default();
                let (key, value) = entry(bytes)?;
                if key == CONFIG_MIRROR {
                    annotations.config_mirror = Some(value.to_owned());
                }
            }
            (13, Value::Bytes(bytes)) => {
                metadata.owner_references.get_or_insert_default().push(owner(bytes)?);
            }
            _ => {}
        }
    }
    Ok(metadata)
}

fn owner(message: &[u8]) -> Result<OwnerReference, Malformed> {
    let mut owner = OwnerReference::default();
    for field in fields(message) {
        match field? {
            (1, Value::Bytes(bytes)) => owner.kind = text(bytes)?.to_owned(),
            (3, Value::Bytes(bytes)) => owner.name = text(bytes)?.to_owned(),
            (6, Value::Number(number)) => owner.controller = Some(number != 0),
            _ => {}
        }
    }
    Ok(owner)
}

fn spec(message: &[u8]) -> Result<PodSpec, Malformed> {
    let mut spec = PodSpec::default();
    for field in fields(message) {
        match field? {
            (2, Value::Bytes(bytes)) => spec.containers.push(container(bytes)?),
            (10, Value::Bytes(bytes)) => spec.node_name = some_text(bytes)?,
            (11, Value::Number(number)) => spec.host_network = Some(true).filter(|_| number != 0),
            (20, Value::Bytes(bytes)) => spec.init_containers.push(container(bytes)?),
            _ => {}
        }
    }
    Ok(spec)
}

fn container(message: &[u8]) -> Result<Container, Malformed> {
    let mut container = Container::default();
    for field in fields(message) {
        match field? {
            (1, Value::Bytes(bytes)) => container.name = text(bytes)?.to_owned(),
            (6, Value::Bytes(bytes)) => container.ports.push(port(bytes)?),
            (24, Value::Bytes(bytes)) => container.restart_policy = some_text(bytes)?,
            _ => {}
        }
    }
    Ok(container)
}

fn port(message: &[u8]) -> Result<ContainerPort, Malformed> {
    let mut port = ContainerPort::default();
    for field in fields(message) {
        match field? {
            (1, Value::Bytes(bytes)) => port.name = some_text(bytes)?,
            (3, Value::Number(number)) => port.container_port = number.cast_signed(),
            (4, Value::Bytes(bytes)) => port.protocol = some_text(bytes)?,
            _ => {}
        }
    }
    Ok(port)
}

fn status(message: &[u8]) -> Result<PodStatus, Malformed> {
    let mut status = PodStatus::default();
    for field in fields(message) {
        match field? {
            (1, Value::Bytes(bytes)) => status.phase = some_text(bytes)?,
            (6, Value::Bytes(bytes)) => status.pod_ip = some_text(bytes)?,
            (12, Value::Bytes(bytes)) => status.pod_ips.push(address(bytes)?),
            _ => {}
        }
    }
    Ok(status)
}

fn address(message: &[u8]) -> Result<PodIp, Malformed> {
    Ok(PodIp { ip: text(find(message, 1)?)?.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::protobuf::wire::tests::{bytes, number};
    use serde_json::json;

    /// As a kube-apiserver 1.34 writes one, down to texts without letters; what is not read stands between.
    #[test]
    fn pod_is_what_its_json_is() {
        let label = |key: &str, value: &str| [bytes(1, key), bytes(2, value)].concat();
        let port = |name: &str, port: u64, protocol: &str| {
            [bytes(1, name), number(2, 0), number(3, port), bytes(4, protocol), bytes(5, "")].concat()
        };
        let owner =
            [bytes(1, "ReplicaSet"), bytes(3, "web-5d9c"), bytes(4, "u"), bytes(5, "apps/v1"), number(6, 1)];
        let metadata = [
            bytes(1, "web-5d9c-x"),
            bytes(2, "web-5d9c-"),
            bytes(3, "shop"),
            bytes(4, ""),
            bytes(5, "6f1c2a34"),
            bytes(6, "4711"),
            number(7, 0),
            bytes(8, number(1, 1_700_000_000)),
            bytes(11, label("app", "web")),
            bytes(11, label("empty", "")),
            bytes(12, label("example.org/x", "y")),
            bytes(12, label("kubernetes.io/config.mirror", "abc")),
            bytes(13, owner.concat()),
            bytes(17, bytes(1, "kubelet")),
        ];
        let main = [
            bytes(1, "main"),
            bytes(2, "image"),
            bytes(6, port("http", 8080, "TCP")),
            bytes(6, port("", 53, "UDP")),
        ];
        let sidecar = [bytes(1, "mesh"), bytes(6, port("admin", 15_000, "TCP")), bytes(24, "Always")];
        let spec = [
            bytes(2, main.concat()),
            bytes(3, "Always"),
            bytes(10, "node-a"),
            number(11, 0),
            bytes(20, sidecar.concat()),
        ];
        let status = [
            bytes(1, "Running"),
            bytes(6, "10.1.0.9"),
            bytes(12, bytes(1, "10.1.0.9")),
            bytes(12, bytes(1, "fd00::9")),
        ];
        let read =
            pod(&[bytes(1, metadata.concat()), bytes(2, spec.concat()), bytes(3, status.concat())].concat());
        let same: Pod = serde_json::from_value(json!({
            "metadata": {
                "name": "web-5d9c-x", "namespace": "shop", "uid": "6f1c2a34", "resourceVersion": "4711",
                "labels": {"app": "web", "empty": ""},
                "annotations": {"example.org/x": "y", "kubernetes.io/config.mirror": "abc"},
                "ownerReferences": [{"kind": "ReplicaSet", "name": "web-5d9c", "controller": true}],
            },
            "spec": {
                "nodeName": "node-a",
                "containers": [{"name": "main", "ports": [
                    {"name": "http", "containerPort": 8080, "protocol": "TCP"},
                    {"containerPort": 53, "protocol": "UDP"},
                ]}],
                "initContainers": [{"name": "mesh", "restartPolicy": "Always", "ports": [
                    {"name": "admin", "containerPort": 15_000, "protocol": "TCP"},
                ]}],
            },
            "status": {"phase": "Running", "podIP": "10.1.0.9", "podIPs": [{"ip": "10.1.0.9"}, {"ip": "fd00::9"}]},
        }))
        .unwrap();
        assert_eq!(read, Ok(same));
    }

    #[test]
    fn pod_on_its_nodes_network_and_a_port_below_zero_are_told() {
        let port = [number(3, (-1i64).cast_unsigned())].concat();
        let spec = [number(11, 1), bytes(2, bytes(6, port))].concat();
        let read = pod(&bytes(2, spec)).unwrap();
        assert_eq!(read.spec.host_network, Some(true));
        assert_eq!(read.spec.containers[0].ports[0].container_port, -1);
    }
}
