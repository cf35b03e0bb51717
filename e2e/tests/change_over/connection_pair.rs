//! The pods of these trials, their policies, and which of them may connect to which.

use bridgewarden::model::PodKey;
use bridgewarden::net::{Family, Protocol};
use bridgewarden::testbed::PodPlacement;
use bridgewarden_e2e::connection_probes::ConnectionPair;
use bridgewarden_e2e::key::ObjectKey;
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};
use support::topology::Node;

/// The port on which every pod listens.
pub(crate) const LISTENS: u16 = 80;
/// The node on which the controllers run.
pub(crate) const NODE: &str = "node-a";
/// The node that has pods only.
pub(crate) const ELSEWHERE: &str = "node-b";

/// The pods: node, last number of the addresses, namespace/name, value of the label `app`.
const PODS: [(&str, u8, &str, &str); 7] = [
    (NODE, 10, "shop/web", "web"),
    (NODE, 11, "shop/near", "client"),
    (NODE, 12, "shop/visitor", "visitor"),
    (NODE, 13, "bank/vault", "vault"),
    (NODE, 14, "bank/clerk", "clerk"),
    (ELSEWHERE, 10, "shop/far", "client"),
    (ELSEWHERE, 11, "shop/remote", "visitor"),
];

/// Who dials whom, and whether policies allow it. Those between pods of one node are bridged, the others routed; the clerk
/// is isolated for egress, web for ingress.
const PAIRS: [(&str, &str, bool); 9] = [
    ("shop/near", "shop/web", true),
    ("shop/far", "shop/web", true),
    ("bank/clerk", "bank/vault", true),
    ("shop/web", "shop/remote", true),
    ("shop/visitor", "shop/web", false),
    ("shop/remote", "shop/web", false),
    ("bank/clerk", "shop/web", false),
    ("bank/clerk", "shop/visitor", false),
    ("bank/clerk", "shop/far", false),
];

/// Every pair, over IPv4: kube-router 2.1.0 enforces nothing over IPv6 here.
pub(crate) fn pairs() -> Vec<ConnectionPair> {
    let pair = |(from, to, is_allowed): (&str, &str, bool)| {
        let destination = SocketAddr::new(address_of(to, Family::V4), LISTENS);
        ConnectionPair { from: pod_key(from), to: pod_key(to), destination, is_allowed }
    };
    PAIRS.map(pair).into()
}

/// Where the pods are.
pub(crate) fn places() -> Vec<PodPlacement> {
    let place = |(node, host, name, _): (&str, u8, &str, &str)| PodPlacement {
        pod: pod_key(name),
        node: node.to_owned(),
        addresses: Family::BOTH.map(|family| at(node).pod_address(family, host)).into(),
        listens: vec![(Protocol::Tcp, LISTENS)],
        host_network: false,
    };
    PODS.map(place).into()
}

/// All objects of the cluster but that of the other controller.
pub(crate) fn objects() -> Vec<Value> {
    let namespaces = ["shop", "bank"]
        .map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
    let nodes = [NODE, ELSEWHERE].map(node_object);
    let policies = [
        policy(
            "shop/web",
            &json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"],
                    "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "client"}}}],
                                 "ports": [{"port": LISTENS, "protocol": "TCP"}]}]}),
        ),
        policy(
            "bank/clerk",
            &json!({"podSelector": {"matchLabels": {"app": "clerk"}}, "policyTypes": ["Egress"],
                    "egress": [{"to": [{"podSelector": {"matchLabels": {"app": "vault"}}}]}]}),
        ),
    ];
    namespaces.into_iter().chain(nodes).chain(PODS.map(pod_object)).chain(policies).collect()
}

/// kube-router finds the addresses of its node in the node's object.
fn node_object(name: &str) -> Value {
    let addresses =
        Family::BOTH.map(|family| json!({"type": "InternalIP", "address": at(name).address(family)}));
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": {"addresses": addresses}})
}

/// kube-router finds the pods of its node by their `hostIP`.
fn pod_object((node, host, name, app): (&str, u8, &str, &str)) -> Value {
    let ip = |address: IpAddr| json!({"ip": address});
    let key = read(name);
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": key.namespace, "name": key.name, "labels": {"app": app}},
        "spec": {"nodeName": node, "containers": [{"name": "main", "ports": [{"containerPort": LISTENS}]}]},
        "status": {
            "phase": "Running",
            "hostIP": at(node).address(Family::V4),
            "hostIPs": Family::BOTH.map(|family| ip(at(node).address(family))),
            "podIPs": Family::BOTH.map(|family| ip(at(node).pod_address(family, host))),
        },
    })
}

fn policy(name: &str, spec: &Value) -> Value {
    let key = read(name);
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
           "metadata": {"namespace": key.namespace, "name": key.name}, "spec": spec})
}

fn address_of(pod: &str, family: Family) -> IpAddr {
    let found = PODS.into_iter().find(|(_, _, name, _)| *name == pod);
    let (node, host, ..) = found.expect("pairs are of these pods");
    at(node).pod_address(family, host)
}

fn at(node: &str) -> Node {
    Node::named(node).expect("these nodes are of the topology")
}

fn pod_key(name: &str) -> PodKey {
    let key = read(name);
    PodKey::new(&key.namespace, &key.name)
}

fn read(name: &str) -> ObjectKey {
    name.parse().expect("namespace/name")
}
