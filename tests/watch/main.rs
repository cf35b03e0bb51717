//! How a watch handles the responses of a server: lists of both kinds, broken connections, errors and dropped versions.

mod asked_once;
mod protobuf;
mod second_reader;
mod server;
mod unreadable;

use bridgewarden::model::Change;
use bridgewarden::source::{Liveness, Resource, Watch, WatchList, WatchTrouble, WatchUpdate, connect};
use serde_json::{Value, json};
use server::{Reply, Server};
use std::time::{Duration, Instant};

fn namespace(name: &str, version: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "resourceVersion": version}})
}

fn event(kind: &str, object: Value) -> Value {
    json!({"type": kind, "object": object})
}

fn added(name: &str, version: &str) -> Value {
    event("ADDED", namespace(name, version))
}

fn bookmark(version: &str, annotations: Value) -> Value {
    let metadata = json!({"resourceVersion": version, "annotations": annotations});
    event("BOOKMARK", json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}))
}

fn listed(version: &str) -> Value {
    bookmark(version, json!({"k8s.io/initial-events-end": "true"}))
}

fn gone() -> Value {
    event(
        "ERROR",
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired",
        "message": "too old resource version"}),
    )
}

struct Session {
    server: Server,
    watch: Watch,
    liveness: Liveness,
}

async fn session(name: &str, resource: Resource, list: WatchList, replies: Vec<Reply>) -> Session {
    let server = Server::start(name, replies).await;
    let liveness = Liveness::new(Instant::now());
    let client =
        connect(Some(server.kubeconfig()), liveness.clone()).await.expect("the kubeconfig makes a client");
    let watch = Watch::new(&client, resource, list, liveness.clone());
    Session { server, watch, liveness }
}

async fn namespaces(name: &str, list: WatchList, replies: Vec<Reply>) -> Session {
    session(name, Resource::Namespaces, list, replies).await
}

impl Session {
    /// The next updates and errors, as `+name`, `-name`, `listed` and `error:reason`, until there are `count` of them. It does not
    /// wait before it retries.
    async fn received(&mut self, count: usize) -> String {
        let mut words = Vec::new();
        while words.len() < count {
            match self.watch.next().await {
                Ok(WatchUpdate { changes, listed, .. }) => {
                    words.extend(changes.iter().map(word));
                    words.extend(listed.then(|| "listed".to_owned()));
                }
                Err(WatchTrouble { reason, .. }) => words.push(format!("error:{reason}")),
            }
        }
        words.join(" ")
    }
}

fn word(change: &Change) -> String {
    match change {
        Change::Namespace(namespace) => format!("+{}", namespace.name),
        Change::NamespaceGone(name) => format!("-{name}"),
        Change::Policy(policy) => format!("+{}", policy.key),
        Change::Pod(pod) => {
            let labels: Vec<String> =
                pod.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("+{}@{}", pod.key, labels.join(","))
        }
        Change::PodGone(key) => format!("-{key}"),
        Change::PodUnreadable(pod) => {
            let addresses: Vec<String> = pod.addresses.iter().map(ToString::to_string).collect();
            format!("?{}@{}:{}", pod.key, pod.node.as_deref().unwrap_or("?"), addresses.join(","))
        }
        Change::NamespaceUnreadable(name) => format!("?{name}"),
        Change::PolicyGone(_) | Change::Sandbox(_) | Change::SandboxGone(_) | Change::Link(_) => {
            panic!("no watch reports that: {change:?}")
        }
    }
}

#[tokio::test]
async fn streamed_list_completes_with_its_bookmark_and_the_watch_continues() {
    let events = vec![
        added("a", "1"),
        added("b", "2"),
        listed("2"),
        added("c", "3"),
        event("DELETED", namespace("a", "4")),
    ];
    let mut session = namespaces("streamed", WatchList::Auto, vec![Reply::Silent(events)]).await;
    assert_eq!(session.received(5).await, "+a +b listed +c -a");
    assert_eq!(session.server.requests(), ["watch streamed"]);
}

#[tokio::test]
async fn server_that_rejects_streaming_is_asked_for_pages() {
    for status in [400, 422] {
        let replies = vec![
            Reply::Status(status, "Invalid"),
            Reply::Page(vec![namespace("a", "1")], "7", Some("next")),
            Reply::Page(vec![namespace("b", "2")], "7", None),
            Reply::Silent(vec![added("c", "8")]),
        ];
        let mut session = namespaces(&format!("pages-{status}"), WatchList::Auto, replies).await;
        assert_eq!(session.received(4).await, "+a +b listed +c");
        assert_eq!(session.server.requests(), ["watch streamed", "list", "list page next", "watch from 7"]);
    }
}

#[tokio::test]
async fn rejected_streaming_is_an_error_if_streaming_is_required() {
    let replies = vec![Reply::Status(422, "Invalid"), Reply::Silent(vec![listed("1")])];
    let mut session = namespaces("demanded", WatchList::On, replies).await;
    assert_eq!(session.received(2).await, "error:refused listed");
}

#[tokio::test]
async fn watch_that_ends_resumes_at_the_last_version_and_reports_nothing() {
    let replies = vec![
        Reply::Page(vec![namespace("a", "1")], "5", None),
        Reply::Ending(vec![added("b", "6"), bookmark("9", json!({}))]),
        Reply::Silent(vec![added("c", "10")]),
    ];
    let mut session = namespaces("ended", WatchList::Off, replies).await;
    assert_eq!(session.received(4).await, "+a listed +b +c");
    assert_eq!(session.server.requests(), ["list", "watch from 5", "watch from 9"]);
}

#[tokio::test]
async fn watch_that_is_cut_in_the_middle_of_an_event_loses_nothing() {
    // The watch resumes at version 5 or 6, and the server sends later events again.
    let replies = vec![
        Reply::Page(vec![namespace("a", "1")], "5", None),
        Reply::Breaking(vec![added("b", "6")]),
        Reply::Silent(vec![added("b", "6"), added("c", "7")]),
    ];
    let mut session = namespaces("cut", WatchList::Off, replies).await;
    let mut received = session.received(3).await;
    while !received.ends_with("+c") {
        received = format!("{received} {}", session.received(1).await);
    }
    let mut changes: Vec<&str> = received.split(' ').filter(|word| !word.starts_with("error:")).collect();
    changes.dedup();
    assert_eq!(changes, ["+a", "listed", "+b", "+c"]);
    let requests = session.server.requests();
    assert!(["watch from 5", "watch from 6"].contains(&requests[2].as_str()), "{requests:?}");
}

#[tokio::test]
async fn version_that_the_server_has_dropped_leads_to_a_new_list_and_missing_objects_are_deleted() {
    // Servers report that in the stream, or reject the watch.
    for (name, dropped) in [("event", Reply::Ending(vec![gone()])), ("status", Reply::Status(410, "Expired"))]
    {
        let replies = vec![
            Reply::Page(vec![namespace("a", "1"), namespace("b", "2")], "5", None),
            dropped,
            Reply::Page(vec![namespace("b", "2"), namespace("c", "8")], "9", None),
            Reply::Silent(vec![]),
        ];
        let mut session = namespaces(&format!("dropped-{name}"), WatchList::Off, replies).await;
        assert_eq!(session.received(8).await, "+a +b listed error:refused +b +c -a listed");
        assert_eq!(session.server.requests()[..3], ["list", "watch from 5", "list"]);
    }
}

#[tokio::test]
async fn errors_change_nothing_and_the_list_is_requested_again() {
    let replies = vec![
        Reply::Status(500, "InternalError"),
        Reply::Status(429, "TooManyRequests"),
        Reply::Status(403, "Forbidden"),
        Reply::Silent(vec![added("a", "1"), listed("1")]),
    ];
    let mut session = namespaces("errors", WatchList::Auto, replies).await;
    assert_eq!(session.received(5).await, "error:refused error:refused error:refused +a listed");
}

#[tokio::test]
async fn unreachable_server_is_an_error_with_its_cause() {
    let mut session = namespaces("absent", WatchList::Auto, vec![]).await;
    session.server.stop().await;
    let trouble = session.watch.next().await.unwrap_err();
    assert_eq!(trouble.reason, "unreachable");
    assert!(trouble.error.contains("refused"), "{}", trouble.error);
}

#[test]
fn time_spent_without_a_response_counts_as_waiting() {
    let trouble = |reason| WatchTrouble { error: String::new(), reason, wait: Duration::from_secs(2) };
    let (asked, seconds) = (Instant::now(), Duration::from_secs);
    let silent = trouble("unreachable");
    assert_eq!(silent.retry_at(asked, asked), asked + seconds(2));
    assert_eq!(silent.retry_at(asked, asked + seconds(1)), asked + seconds(2));
    assert_eq!(silent.retry_at(asked, asked + seconds(5)), asked + seconds(5));
    let slow = trouble("refused");
    assert_eq!(slow.retry_at(asked, asked + seconds(5)), asked + seconds(7));
}

#[tokio::test]
async fn policy_without_the_shape_of_one_isolates_its_namespace_and_affects_no_other_object() {
    let policy = |name: &str, spec: Value| {
        let metadata = json!({"namespace": "shop", "name": name, "resourceVersion": "1"});
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec})
    };
    let odd = policy("odd", json!({"podSelector": ["everyone"]}));
    let good = policy("good", json!({"podSelector": {"matchLabels": {"app": "web"}}}));
    let replies = vec![Reply::Page(vec![odd, good], "1", None), Reply::Silent(vec![])];
    let mut session = session("odd", Resource::NetworkPolicies, WatchList::Off, replies).await;
    let update = session.watch.next().await.unwrap();
    let [Change::Policy(odd), Change::Policy(good)] = update.changes.as_slice() else { panic!("{update:?}") };
    assert!(
        odd.subject.requirements().next().is_none()
            && odd.ingress == Some(vec![])
            && odd.egress == Some(vec![])
    );
    assert_eq!(odd.invalid_parts.iter().map(|part| part.reason).collect::<Vec<_>>(), ["unreadable"]);
    assert_eq!((good.invalid_parts.len(), good.egress.clone()), (0, None));
}
