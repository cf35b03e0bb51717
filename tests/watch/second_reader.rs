//! Pods encoded by types that another project generates from Kubernetes' own definitions (`k8s-pb`), with fields that the agent has
//! no use for between those that it reads. They must mean what the same pod means as JSON.

use super::protobuf::{frame, listed};
use super::server::Reply;
use super::{Resource, WatchList, session};
use bridgewarden::api;
use bridgewarden::model::Change;
use bridgewarden::source::{WatchUpdate, convert};
use k8s_pb::api::core::v1::{
    Container, ContainerPort, ContainerStatus, HostIp, Pod, PodIp, PodSpec, PodStatus, Volume,
};
use k8s_pb::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta, OwnerReference, Time};
use prost::Message;
use serde_json::{Value, json};
use support::worlds::Random;

const PODS: u64 = 200;

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// A random pod, as both see it.
fn pod(seed: u64) -> (Pod, Value) {
    let random = &mut Random::new(seed);
    let name = format!("pod-{seed}");
    let label = ["web", "", "a-value_with.everything"];
    let mut labels = Vec::new();
    for key in ["app", "example.com/tier", "zone"] {
        if random.chance(60) {
            labels.push((key.to_owned(), (*random.pick(&label)).to_owned()));
        }
    }
    let uid = random.chance(80).then(|| format!("00000000-0000-4000-8000-{seed:012}"));
    let node = random.chance(80).then(|| (*random.pick(&["node-a", "node-b"])).to_owned());
    let host_network = random.chance(20).then(|| random.chance(50));
    let phase = (*random.pick(&["Pending", "Running", "Succeeded", "Failed"])).to_owned();
    let addresses: Vec<String> = ["10.244.1.7", "fd00:10:244:1::7"]
        .into_iter()
        .filter(|_| random.chance(60))
        .map(str::to_owned)
        .collect();
    let owner = random.chance(60).then(|| (random.chance(70), format!("set-{seed}")));
    let mut ports = Vec::new();
    for (name, number, protocol) in
        [("http", 8080, "TCP"), ("", 9090, "TCP"), ("dns", 53, "UDP"), ("sig", 3868, "SCTP")]
    {
        if random.chance(50) {
            ports.push((name, number, protocol));
        }
    }
    let own_port = |&(name, number, protocol): &(&str, i32, &str)| ContainerPort {
        name: some(name),
        host_port: Some(0),
        container_port: Some(number),
        protocol: some(protocol),
        host_ip: some(""),
    };
    let message = Pod {
        metadata: Some(ObjectMeta {
            name: some(&name),
            generate_name: some("pod-"),
            namespace: some("shop"),
            uid: uid.clone(),
            resource_version: some("7"),
            generation: Some(i64::from(seed as u32) << 20),
            creation_timestamp: Some(Time { seconds: Some(1_700_000_000), nanos: Some(0) }),
            labels: labels.iter().cloned().collect(),
            annotations: [("example.com/note".to_owned(), "x".repeat(200))].into(),
            owner_references: owner
                .iter()
                .map(|(controller, name)| OwnerReference {
                    api_version: some("apps/v1"),
                    kind: some("ReplicaSet"),
                    name: some(name),
                    uid: some("u"),
                    controller: Some(*controller),
                    block_owner_deletion: Some(true),
                })
                .collect(),
            finalizers: vec!["example.com/wait".to_owned()],
            managed_fields: vec![ManagedFieldsEntry { manager: some("kubelet"), ..Default::default() }],
            ..Default::default()
        }),
        spec: Some(PodSpec {
            volumes: vec![Volume { name: some("data"), ..Default::default() }],
            containers: vec![Container {
                name: some("main"),
                image: some("example.com/web:1"),
                ports: ports.iter().map(own_port).collect(),
                ..Default::default()
            }],
            termination_grace_period_seconds: Some(-1),
            node_name: node.clone(),
            host_network,
            ..Default::default()
        }),
        status: Some(PodStatus {
            phase: some(&phase),
            host_ip: some("192.0.2.1"),
            host_ips: vec![HostIp { ip: some("192.0.2.1") }],
            pod_ip: addresses.first().cloned(),
            pod_ips: addresses.iter().map(|ip| PodIp { ip: some(ip) }).collect(),
            container_statuses: vec![ContainerStatus {
                name: some("main"),
                ready: Some(true),
                ..Default::default()
            }],
            ..Default::default()
        }),
    };
    let references = owner.iter().map(|(controller, name)| {
        json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": "u", "controller": controller})
    });
    let mut ports_in_json = Vec::new();
    for (name, number, protocol) in ports {
        let mut port = json!({"containerPort": number, "protocol": protocol});
        if !name.is_empty() {
            port["name"] = json!(name);
        }
        ports_in_json.push(port);
    }
    let labels: serde_json::Map<String, Value> =
        labels.into_iter().map(|(key, value)| (key, json!(value))).collect();
    let mut object = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "labels": labels,
                     "ownerReferences": references.collect::<Vec<_>>()},
        "spec": {"containers": [{"name": "main", "ports": ports_in_json}]},
        "status": {"phase": phase,
                   "podIPs": addresses.iter().map(|ip| json!({"ip": ip})).collect::<Vec<_>>()},
    });
    let mut set = |place: &str, key: &str, value: Option<Value>| {
        if let Some(value) = value {
            object[place][key] = value;
        }
    };
    set("metadata", "uid", uid.map(|uid| json!(uid)));
    set("spec", "nodeName", node.map(|node| json!(node)));
    set("spec", "hostNetwork", host_network.map(|own| json!(own)));
    set("status", "podIP", addresses.first().map(|ip| json!(ip)));
    (message, object)
}

#[tokio::test]
async fn pods_that_another_program_encodes_mean_what_they_mean_as_json() {
    let (mut events, mut wanted) = (Vec::new(), Vec::new());
    for seed in 0..PODS {
        let (message, object) = pod(seed);
        events.extend(frame("ADDED", "Pod", &message.encode_to_vec()));
        let read: api::Pod = serde_json::from_value(object).expect("a pod");
        wanted.push(Change::Pod(convert::pod(&read).0));
    }
    events.extend(listed("7"));
    let replies = vec![Reply::Protobuf(events, 4096)];
    let mut session = session("second-reader", Resource::Pods, WatchList::Auto, replies).await;
    let mut received = Vec::new();
    while received.len() < wanted.len() {
        let WatchUpdate { changes, .. } = session.watch.next().await.expect("the watch continues");
        received.extend(changes);
    }
    for (received, wanted) in received.iter().zip(&wanted) {
        assert_eq!(received, wanted);
    }
}
