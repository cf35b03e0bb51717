//! A v1 Pod in protocol buffers: the fields that `api::Pod` has.
//!
//! A field that cannot be read is recorded, and the others are still read; fields that do not affect enforcement may
//! contain anything.

use super::wire::{Malformed, WireValue, entry, fields, find, lossy, text};
use crate::api::{Annotations, Container, ContainerPort, OwnerReference, Pod, PodIp};

/// The annotation of a static pod's mirror; see [`Annotations::config_mirror`].
const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";

/// A pod as far as it could be read.
#[derive(Debug, PartialEq)]
pub(super) struct Reading {
    pub(super) pod: Pod,
    /// The first field that could not be read, and why; without one, all of `pod` is certain.
    pub(super) fault: Option<(&'static str, Malformed)>,
    /// Which of its fields are certain in spite of the fault.
    pub(super) certain: Certain,
}

/// Which of the fields that decide where a pod is were read, or are certainly absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Certain {
    pub(super) namespace: bool,
    pub(super) node: bool,
    pub(super) host_network: bool,
}

impl Reading {
    fn fault(&mut self, field: &'static str, fault: Malformed) {
        self.fault.get_or_insert((field, fault));
    }

    /// Returns what was read; a failure is recorded as the fault.
    fn note<T>(&mut self, field: &'static str, read: Result<T, Malformed>) -> Option<T> {
        read.map_err(|fault| self.fault(field, fault)).ok()
    }
}

pub(super) fn pod(message: &[u8]) -> Reading {
    let certain = Certain { namespace: true, node: true, host_network: true };
    let mut reading = Reading { pod: Pod::default(), fault: None, certain };
    for field in fields(message) {
        match field {
            Ok((1, value)) => metadata(value, &mut reading),
            Ok((2, value)) => spec(value, &mut reading),
            Ok((3, value)) => status(value, &mut reading),
            Ok(_) => {}
            Err(fault) => {
                reading.fault("object", fault);
                // The part that cannot be read may have contained them.
                reading.certain.namespace &= !reading.pod.metadata.name.is_empty();
                reading.certain.node &= reading.pod.spec.node_name.is_some();
                reading.certain.host_network = false;
            }
        }
    }
    reading
}

pub(super) fn metadata(value: WireValue<'_>, reading: &mut Reading) {
    const PATH: &str = "metadata";
    let Some(message) = reading.note(PATH, value.bytes()) else {
        reading.certain.namespace = false;
        return;
    };
    for field in fields(message) {
        let (number, value) = match field {
            Ok(field) => field,
            Err(fault) => {
                reading.certain.namespace &= reading.pod.metadata.namespace.is_some();
                return reading.fault(PATH, fault);
            }
        };
        let metadata = &mut reading.pod.metadata;
        let read = match number {
            1 => value.text().map(|name| metadata.name = name.to_owned()),
            3 => value.some_text().map(|namespace| metadata.namespace = namespace),
            5 => value.some_text().map(|uid| metadata.uid = uid),
            6 => value.some_text().map(|version| metadata.resource_version = version),
            11 => value.bytes().and_then(entry).map(|(key, value)| {
                metadata.labels.get_or_insert_default().insert(key.to_owned(), value.to_owned());
            }),
            // Annotations and owners do not affect enforcement, so they may contain anything.
            12 => {
                let annotations: &mut Annotations = metadata.annotations.get_or_insert_default();
                if let Some(value) = annotation(value, CONFIG_MIRROR) {
                    annotations.config_mirror = Some(value);
                }
                Ok(())
            }
            13 => {
                metadata.owner_references.get_or_insert_default().extend(owner(value).ok());
                Ok(())
            }
            _ => Ok(()),
        };
        if let Err(fault) = read {
            reading.certain.namespace &= number != 3;
            reading.fault(field_of_metadata(number), fault);
        }
    }
}

fn field_of_metadata(number: u64) -> &'static str {
    match number {
        1 => "metadata.name",
        3 => "metadata.namespace",
        5 => "metadata.uid",
        6 => "metadata.resourceVersion",
        11 => "metadata.labels",
        _ => "metadata",
    }
}

/// The value of an annotation of this name, whatever else the entry contains.
fn annotation(value: WireValue<'_>, wanted: &str) -> Option<String> {
    let message = value.bytes().ok()?;
    let key = find(message, 1).ok().filter(|key| *key == wanted.as_bytes());
    key.map(|_| find(message, 2).map(lossy).unwrap_or_default())
}

fn owner(value: WireValue<'_>) -> Result<OwnerReference, Malformed> {
    let mut owner = OwnerReference::default();
    for field in fields(value.bytes()?) {
        match field? {
            (1, WireValue::Bytes(bytes)) => owner.kind = lossy(bytes),
            (3, WireValue::Bytes(bytes)) => owner.name = lossy(bytes),
            (6, WireValue::Number(number)) => owner.controller = Some(number != 0),
            _ => {}
        }
    }
    Ok(owner)
}

fn spec(value: WireValue<'_>, reading: &mut Reading) {
    const PATH: &str = "spec";
    let Some(message) = reading.note(PATH, value.bytes()) else {
        reading.certain = Certain { node: false, host_network: false, ..reading.certain };
        return;
    };
    let mut knows_network = false;
    for field in fields(message) {
        let (number, value) = match field {
            Ok(field) => field,
            Err(fault) => {
                reading.certain.node &= reading.pod.spec.node_name.is_some();
                reading.certain.host_network &= knows_network;
                return reading.fault(PATH, fault);
            }
        };
        match number {
            2 => {
                let read = container(value);
                let read = reading.note("spec.containers", read);
                reading.pod.spec.containers.extend(read);
            }
            10 => {
                let read = reading.note("spec.nodeName", value.some_text());
                reading.certain.node &= read.is_some();
                reading.pod.spec.node_name = read.flatten();
            }
            11 => {
                let read = reading.note("spec.hostNetwork", value.number());
                knows_network = read.is_some();
                reading.certain.host_network &= knows_network;
                reading.pod.spec.host_network = Some(true).filter(|_| read != Some(0));
            }
            20 => {
                let read = container(value);
                let read = reading.note("spec.initContainers", read);
                reading.pod.spec.init_containers.extend(read);
            }
            _ => {}
        }
    }
}

fn container(value: WireValue<'_>) -> Result<Container, Malformed> {
    let mut container = Container::default();
    for field in fields(value.bytes()?) {
        match field? {
            (1, WireValue::Bytes(bytes)) => container.name = lossy(bytes),
            (6, value) => container.ports.push(port(value.bytes()?)?),
            (24, value) => container.restart_policy = value.some_text()?,
            _ => {}
        }
    }
    Ok(container)
}

fn port(message: &[u8]) -> Result<ContainerPort, Malformed> {
    let mut port = ContainerPort::default();
    for field in fields(message) {
        match field? {
            (1, value) => port.name = value.some_text()?,
            (3, value) => port.container_port = value.number()?.cast_signed(),
            (4, value) => port.protocol = value.some_text()?,
            _ => {}
        }
    }
    Ok(port)
}

fn status(value: WireValue<'_>, reading: &mut Reading) {
    const PATH: &str = "status";
    let Some(message) = reading.note(PATH, value.bytes()) else { return };
    for field in fields(message) {
        let (number, value) = match field {
            Ok(field) => field,
            Err(fault) => return reading.fault(PATH, fault),
        };
        let status = &mut reading.pod.status;
        let (path, read) = match number {
            1 => ("status.phase", value.some_text().map(|phase| status.phase = phase)),
            6 => ("status.podIP", value.some_text().map(|address| status.pod_ip = address)),
            12 => ("status.podIPs", value.bytes().and_then(address).map(|own| status.pod_ips.push(own))),
            _ => continue,
        };
        reading.note(path, read);
    }
}

fn address(message: &[u8]) -> Result<PodIp, Malformed> {
    Ok(PodIp { ip: text(find(message, 1)?)?.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::watch::protobuf::wire::tests::{bytes, number};
    use serde_json::json;

    /// A pod as kube-apiserver 1.34 writes it, with empty strings and fields that are not read.
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
        assert_eq!((read.fault, read.pod), (None, same));
    }

    #[test]
    fn host_network_and_a_negative_port_are_kept() {
        let port = [number(3, (-1i64).cast_unsigned())].concat();
        let spec = [number(11, 1), bytes(2, bytes(6, port))].concat();
        let read = pod(&bytes(2, spec));
        assert_eq!((read.fault, read.pod.spec.host_network), (None, Some(true)));
        assert_eq!(read.pod.spec.containers[0].ports[0].container_port, -1);
    }
}
