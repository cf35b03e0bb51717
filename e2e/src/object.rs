//! Kubernetes objects as JSON, for both worlds: namespaces, pods and policies.

use crate::cluster::{DeclaredPort, Labels, ScenarioPod, Service};
use crate::key::ObjectKey;
use serde_json::{Value, json};

/// A v1 Namespace, with the label that the API server adds to each.
pub(crate) fn namespace(name: &str, labels: &Labels) -> Value {
    let mut labels = labels.clone();
    labels.insert("kubernetes.io/metadata.name".to_owned(), name.to_owned());
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

/// A v1 Pod of one container, on a node.
pub(crate) fn pod(key: &ObjectKey, pod: &ScenarioPod, node: &str) -> Value {
    let port = |port: &DeclaredPort| {
        let mut object = json!({"containerPort": port.number, "protocol": port.protocol.to_string()});
        if let Some(name) = &port.name {
            object["name"] = json!(name);
        }
        object
    };
    let ports: Vec<Value> = pod.ports.iter().map(port).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": key.namespace, "name": key.name, "labels": pod.labels},
        "spec": {
            "nodeName": node,
            "hostNetwork": pod.host_network,
            "containers": [{"name": "main", "ports": ports}],
        },
    })
}

/// A v1 Pod whose only container waits forever: other programs run in the pod or in its network.
pub(crate) fn idle_pod(key: &ObjectKey, node: &str, labels: &Value, image: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": key.namespace, "name": key.name, "labels": labels},
        "spec": {
            "nodeName": node, "enableServiceLinks": false, "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 0, "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "main", "image": image, "imagePullPolicy": "IfNotPresent",
                            "command": ["sleep", "infinity"]}],
        },
    })
}

/// A NetworkPolicy.
pub(crate) fn policy(key: &ObjectKey, spec: &Value) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"namespace": key.namespace, "name": key.name},
        "spec": spec,
    })
}

/// A v1 Service with the ports of its pods.
pub(crate) fn service(key: &ObjectKey, service: &Service) -> Value {
    let port = |port: &DeclaredPort| {
        let name = format!("p{}-{}", port.number, port.protocol.to_string().to_lowercase());
        json!({"name": name, "port": port.number, "protocol": port.protocol.to_string()})
    };
    let ports: Vec<Value> = service.ports.iter().map(port).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": key.namespace, "name": key.name},
        "spec": {"selector": service.selector, "ports": ports},
    })
}
