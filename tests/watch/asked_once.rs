//! An API server that is asked once, for commands that enforce nothing.

use super::namespace;
use super::server::{Reply, Server};
use bridgewarden::model::PolicyKey;
use bridgewarden::source::{ClusterAccess, SnapshotInput, fetch_snapshot};
use serde_json::{Value, json};

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "shop", "labels": {"app": name}},
        "spec": {"nodeName": "node-a"}, "status": {"podIPs": [{"ip": "10.244.1.7"}]}})
}

fn policy(name: &str, spec: Value) -> Value {
    json!({"metadata": {"name": name, "namespace": "shop", "resourceVersion": "4711"}, "spec": spec})
}

fn page(items: Vec<Value>) -> Reply {
    Reply::Page(items, "9", None)
}

async fn fetch(name: &str, replies: Vec<Reply>) -> (Server, Result<SnapshotInput, String>) {
    let server = Server::start(name, replies).await;
    let access = ClusterAccess { kubeconfig: Some(server.kubeconfig().clone()), context: None };
    let fetched = fetch_snapshot(&access).await.map_err(|error| error.to_string());
    (server, fetched)
}

#[tokio::test]
async fn snapshot_has_every_page_and_the_version_of_each_policy() {
    let replies = vec![
        page(vec![namespace("shop", "1")]),
        page(vec![policy("db", json!({"podSelector": {}})), policy("odd", json!({"podSelector": 7}))]),
        Reply::Page(vec![pod("a")], "9", Some("more")),
        page(vec![pod("b")]),
        page(vec![]),
        Reply::Status(403, "Forbidden"),
    ];
    let (server, fetched) = fetch("asked-once", replies).await;
    let SnapshotInput { snapshot, warnings, .. } = fetched.expect("what must be readable is");
    assert_eq!(snapshot.pods.keys().map(ToString::to_string).collect::<Vec<_>>(), ["shop/a", "shop/b"]);
    assert_eq!(snapshot.origins[&PolicyKey::new("shop", "db")].to_string(), "resourceVersion 4711");
    let odd = &snapshot.policies[&PolicyKey::new("shop", "odd")];
    assert!(odd.ingress.as_ref().is_some_and(Vec::is_empty), "it isolates its namespace: {odd:?}");
    assert!(
        warnings.iter().any(|warning| warning.contains("NetworkPolicy odd cannot be read")),
        "{warnings:?}"
    );
    assert!(warnings.iter().any(|warning| warning.contains("cannot list nodes")), "{warnings:?}");
    assert_eq!(server.requests()[3], "list page more");
}

#[tokio::test]
async fn cluster_whose_policies_cannot_be_listed_is_an_error_that_says_what_to_ask_for() {
    let replies = vec![page(vec![]), Reply::Status(403, "Forbidden")];
    let (_server, fetched) = fetch("asked-in-vain", replies).await;
    let error = fetched.expect_err("nothing can be said without policies");
    assert!(error.contains("cannot list networkpolicies") && error.contains("Ask for the right"), "{error}");
}
