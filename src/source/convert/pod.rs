//! Pod and Namespace.

use super::{FieldPath, InvalidParts, NAMESPACE_NAME_LABEL, namespace_of, port, reason};
use crate::api;
use crate::model::{InvalidPart, Labels, NamedPort, Namespace, NamespaceName, Owner, Pod, PodKey};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Converts a namespace. It always has the label `kubernetes.io/metadata.name`.
pub fn namespace(from: &api::Namespace) -> Namespace {
    let name = &from.metadata.name;
    let mut labels = from.metadata.labels.clone().unwrap_or_default();
    labels.insert(NAMESPACE_NAME_LABEL.to_owned(), name.clone());
    let terminating =
        from.metadata.deletion_timestamp.is_some() || from.status.phase.as_deref() == Some("Terminating");
    Namespace { name: NamespaceName::new(name), labels: Labels::new(&labels), terminating }
}

/// A namespace of which only the name is known, from an object in it.
pub fn implied_namespace(name: &NamespaceName) -> Namespace {
    let labels = BTreeMap::from([(NAMESPACE_NAME_LABEL.to_owned(), name.to_string())]);
    Namespace { name: name.clone(), labels: Labels::new(&labels), terminating: false }
}

/// Converts a pod, and lists its invalid addresses and ports, which are left out.
///
/// A pod on its node's network, or one that has finished, has no addresses of its own.
pub fn pod(from: &api::Pod) -> (Pod, Vec<InvalidPart>) {
    let mut invalid = InvalidParts::default();
    let labels = from.metadata.labels.as_ref().map(Labels::new).unwrap_or_default();
    let pod = Pod {
        key: PodKey::new(namespace_of(&from.metadata), &from.metadata.name),
        uid: uid(&from.metadata),
        node: from.spec.node_name.as_deref().filter(|node| !node.is_empty()).map(Into::into),
        owner: owner(&from.metadata),
        labels,
        ports: ports(&from.spec, &mut invalid),
        networked: is_networked(from),
        finished: has_finished(from),
        addresses: addresses(from, &mut invalid),
    };
    (pod, invalid.0)
}

/// A static pod has two uids: in the API that of its mirror pod, and another one on its node.
fn uid(metadata: &api::ObjectMeta) -> Option<Arc<str>> {
    let mirrored = metadata.annotations.as_ref().and_then(|annotations| annotations.config_mirror.as_deref());
    mirrored.or(metadata.uid.as_deref()).filter(|uid| !uid.is_empty()).map(Into::into)
}

fn owner(metadata: &api::ObjectMeta) -> Option<Arc<Owner>> {
    let owners = metadata.owner_references.iter().flatten();
    let controls = |owner: &&api::OwnerReference| owner.controller == Some(true) && !owner.name.is_empty();
    let found = owners.into_iter().find(controls)?;
    Some(Arc::new(Owner { kind: found.kind.as_str().into(), name: found.name.as_str().into() }))
}

fn is_networked(from: &api::Pod) -> bool {
    from.spec.host_network != Some(true)
}

fn has_finished(from: &api::Pod) -> bool {
    matches!(from.status.phase.as_deref(), Some("Succeeded" | "Failed"))
}

fn addresses(from: &api::Pod, invalid: &mut InvalidParts) -> Vec<IpAddr> {
    if !is_networked(from) || has_finished(from) {
        return Vec::new();
    }
    let status = FieldPath::Root.field("status");
    let list = status.field("podIPs");
    let mut addresses = Vec::new();
    let mut add = |text: &str, path: &FieldPath<'_>| match text.parse::<IpAddr>() {
        // The kubelet reports "" for an address that the runtime has not reported yet.
        _ if text.is_empty() => {}
        // No ipset can contain it: every sync would fail.
        Ok(address) if address.to_canonical().is_unspecified() => {
            invalid.add(path, reason::BAD_ADDRESS, format!("`{text}` is no pod's address"));
        }
        Ok(address) => {
            let address = address.to_canonical();
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        Err(_) => {
            let message =
                format!("`{text}` is not an address: write an IPv4 or IPv6 address without a prefix length");
            invalid.add(path, reason::BAD_ADDRESS, message);
        }
    };
    for (index, pod_ip) in from.status.pod_ips.iter().enumerate() {
        add(&pod_ip.ip, &list.index(index).field("ip"));
    }
    if let (true, Some(text)) = (from.status.pod_ips.is_empty(), &from.status.pod_ip) {
        add(text, &status.field("podIP"));
    }
    addresses
}

fn ports(from: &api::PodSpec, invalid: &mut InvalidParts) -> Vec<NamedPort> {
    let spec = FieldPath::Root.field("spec");
    let mut ports = Vec::new();
    for (index, container) in from.containers.iter().enumerate() {
        container_ports(container, &spec.field("containers").index(index), &mut ports, invalid);
    }
    for (index, container) in from.init_containers.iter().enumerate() {
        if container.restart_policy.as_deref() == Some("Always") {
            container_ports(container, &spec.field("initContainers").index(index), &mut ports, invalid);
        }
    }
    ports.sort();
    ports.dedup();
    ports
}

fn container_ports(
    from: &api::Container,
    path: &FieldPath<'_>,
    ports: &mut Vec<NamedPort>,
    invalid: &mut InvalidParts,
) {
    let list = path.field("ports");
    for (index, from) in from.ports.iter().enumerate() {
        let path = list.index(index);
        let protocol = from.protocol.as_deref().filter(|protocol| !protocol.is_empty());
        let protocol = port::protocol(protocol, &path, invalid);
        let number = port::number(from.container_port, &path.field("containerPort"), invalid);
        let Some(name) = from.name.as_deref().filter(|name| !name.is_empty()) else { continue };
        if let Some(fault) = port::name_fault(name) {
            let message = format!("`{name}` cannot be a port's name: {fault}");
            invalid.add(&path.field("name"), reason::BAD_PORT, message);
            continue;
        }
        if let (Some(protocol), Some(port)) = (protocol, number) {
            ports.push(NamedPort { name: name.into(), protocol, port });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Protocol;
    use serde_json::{Value, json};

    fn converted(object: Value) -> (Pod, Vec<InvalidPart>) {
        pod(&serde_json::from_value(object).unwrap())
    }

    fn addresses(spec: Value, status: Value) -> Vec<String> {
        let (pod, invalid) = converted(json!({"metadata": {"name": "p"}, "spec": spec, "status": status}));
        assert_eq!(invalid, vec![]);
        pod.addresses.iter().map(ToString::to_string).collect()
    }

    fn dual() -> Value {
        json!({"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}, {"ip": "10.0.0.1"}]})
    }

    #[test]
    fn pod_without_namespace_lives_in_default() {
        let (pod, _) = converted(
            json!({"metadata": {"name": "p", "labels": {"app": "web"}}, "spec": {"nodeName": "a"}}),
        );
        assert_eq!(pod.key, PodKey::new("default", "p"));
        assert_eq!(pod.node.as_deref(), Some("a"));
        assert_eq!(pod.labels.get("app"), Some("web"));
    }

    #[test]
    fn pod_that_is_not_scheduled_has_no_node() {
        for spec in [json!({}), json!({"nodeName": ""}), json!({"nodeName": null})] {
            assert_eq!(converted(json!({"metadata": {"name": "p"}, "spec": spec})).0.node, None);
        }
    }

    #[test]
    fn each_address_is_kept_once() {
        assert_eq!(addresses(json!({}), dual()), ["10.0.0.1", "fd00::1"]);
    }

    #[test]
    fn pod_ip_stands_in_for_missing_pod_ips() {
        assert_eq!(addresses(json!({}), json!({"podIP": "10.0.0.1"})), ["10.0.0.1"]);
        assert_eq!(addresses(json!({}), json!({"podIP": ""})), [""; 0]);
        assert_eq!(addresses(json!({}), json!({})), [""; 0]);
    }

    #[test]
    fn pod_on_its_nodes_network_has_no_addresses_of_its_own() {
        assert_eq!(addresses(json!({"hostNetwork": true}), dual()), [""; 0]);
        assert_eq!(addresses(json!({"hostNetwork": false}), dual()).len(), 2);
    }

    #[test]
    fn finished_pod_has_given_its_addresses_back() {
        for (phase, count) in
            [("Succeeded", 0), ("Failed", 0), ("Pending", 2), ("Running", 2), ("Unknown", 2)]
        {
            let mut status = dual();
            status["phase"] = json!(phase);
            assert_eq!(addresses(json!({}), status).len(), count, "{phase}");
        }
    }

    #[test]
    fn terminating_pod_keeps_its_addresses() {
        let metadata = json!({"name": "p", "deletionTimestamp": "2026-01-01T00:00:00Z"});
        assert_eq!(converted(json!({"metadata": metadata, "status": dual()})).0.addresses.len(), 2);
    }

    #[test]
    fn address_that_is_none_is_left_out_and_reported() {
        let status = json!({"podIPs": [{"ip": "10.0.0.1/24"}, {"ip": "10.0.0.2"}]});
        let (pod, invalid) = converted(json!({"metadata": {"name": "p"}, "status": status}));
        assert_eq!(pod.addresses, ["10.0.0.2".parse::<IpAddr>().unwrap()]);
        let message = "status.podIPs[0].ip: `10.0.0.1/24` is not an address: \
                       write an IPv4 or IPv6 address without a prefix length";
        assert_eq!(invalid.iter().map(ToString::to_string).collect::<Vec<_>>(), [message]);
    }

    #[test]
    fn address_of_all_zeroes_that_no_set_can_hold_is_left_out_and_reported() {
        for zeroes in ["0.0.0.0", "::", "::ffff:0.0.0.0"] {
            let status = json!({"podIPs": [{"ip": zeroes}, {"ip": "10.0.0.2"}]});
            let (pod, invalid) = converted(json!({"metadata": {"name": "p"}, "status": status}));
            assert_eq!(pod.addresses, ["10.0.0.2".parse::<IpAddr>().unwrap()], "{zeroes}");
            assert_eq!(invalid.len(), 1, "{zeroes}");
        }
    }

    #[test]
    fn static_pod_is_identified_by_the_uid_on_its_node() {
        let uid = |metadata: Value| converted(json!({"metadata": metadata})).0.uid;
        assert_eq!(uid(json!({"name": "p"})), None);
        assert_eq!(uid(json!({"name": "p", "uid": "a", "annotations": null})).as_deref(), Some("a"));
        let annotations =
            json!({"kubernetes.io/config.hash": "b", "kubernetes.io/config.mirror": "b", "note": "c"});
        assert_eq!(uid(json!({"name": "p", "uid": "a", "annotations": annotations})).as_deref(), Some("b"));
    }

    #[test]
    fn owner_of_a_pod_is_the_one_that_controls_it() {
        let owner =
            |owners: Value| converted(json!({"metadata": {"name": "p", "ownerReferences": owners}})).0.owner;
        let reference = |kind: &str, controller: Value| json!({"apiVersion": "x/v1", "kind": kind, "name": "web", "uid": "u", "controller": controller});
        assert_eq!(owner(Value::Null), None);
        assert_eq!(owner(json!([reference("Node", Value::Null), reference("Job", json!(false))])), None);
        let both = json!([reference("Node", Value::Null), reference("Job", json!(true))]);
        assert_eq!(owner(both).unwrap().to_string(), "Job/web");
    }

    #[test]
    fn that_a_pod_has_finished_says_nothing_of_its_network() {
        let converted = |spec: Value, phase: &str| {
            let (pod, _) =
                converted(json!({"metadata": {"name": "p"}, "spec": spec, "status": {"phase": phase}}));
            (pod.networked, pod.finished)
        };
        assert_eq!(converted(json!({}), "Pending"), (true, false));
        assert_eq!(converted(json!({}), "Failed"), (true, true));
        assert_eq!(converted(json!({}), "Succeeded"), (true, true));
        assert_eq!(converted(json!({"hostNetwork": true}), "Running"), (false, false));
    }

    #[test]
    fn named_ports_are_those_of_containers_that_keep_running() {
        let port = |name: &str, port: i64| json!({"name": name, "containerPort": port});
        let (pod, invalid) = converted(json!({
            "metadata": {"name": "p"},
            "spec": {
                "containers": [
                    {"name": "a", "ports": [port("http", 80), {"containerPort": 81}]},
                    {"name": "b", "ports": [{"name": "dns", "containerPort": 53, "protocol": "UDP"}]},
                ],
                "initContainers": [
                    {"name": "c", "restartPolicy": "Always", "ports": [port("proxy", 15001)]},
                    {"name": "d", "ports": [port("setup", 9)]},
                ],
            },
        }));
        assert_eq!(invalid, vec![]);
        let named = |name: &str, protocol, port| NamedPort { name: name.into(), protocol, port };
        assert_eq!(pod.ports, {
            [
                named("dns", Protocol::Udp, 53),
                named("http", Protocol::Tcp, 80),
                named("proxy", Protocol::Tcp, 15001),
            ]
        });
    }

    #[test]
    fn container_port_that_is_none_is_left_out_and_reported() {
        let ports = json!([
            {"name": "zero"},
            {"name": "big", "containerPort": 70000},
            {"name": "icmp", "containerPort": 1, "protocol": "ICMP"},
            {"name": "Upper", "containerPort": 1},
            {"name": "", "containerPort": 1, "protocol": ""},
        ]);
        let (pod, invalid) = converted(
            json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "ports": ports}]}}),
        );
        assert_eq!(pod.ports, vec![]);
        let paths: Vec<_> = invalid.iter().map(|part| part.path.as_str()).collect();
        assert_eq!(paths, {
            [
                "spec.containers[0].ports[0].containerPort",
                "spec.containers[0].ports[1].containerPort",
                "spec.containers[0].ports[2].protocol",
                "spec.containers[0].ports[3].name",
            ]
        });
    }

    #[test]
    fn namespace_always_carries_its_name_as_a_label() {
        let converted = |object: Value| namespace(&serde_json::from_value(object).unwrap());
        for labels in [json!(null), json!({NAMESPACE_NAME_LABEL: "other"})] {
            let namespace = converted(json!({"metadata": {"name": "shop", "labels": labels}}));
            assert_eq!(namespace.labels.iter().collect::<Vec<_>>(), [(NAMESPACE_NAME_LABEL, "shop")]);
            assert!(!namespace.terminating);
        }
    }

    #[test]
    fn namespace_is_terminating_by_timestamp_or_phase() {
        let converted = |object: Value| namespace(&serde_json::from_value(object).unwrap()).terminating;
        assert!(converted(json!({"metadata": {"name": "n", "deletionTimestamp": "2026-01-01T00:00:00Z"}})));
        assert!(converted(json!({"metadata": {"name": "n"}, "status": {"phase": "Terminating"}})));
        assert!(!converted(json!({"metadata": {"name": "n"}, "status": {"phase": "Active"}})));
    }
}
