//! What the watch of the API makes of what a server answers: lists of both kinds, cuts, errors and forgotten versions.

mod protobuf;
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
        connect(Some(server.kubeconfig()), liveness.clone()).await.expect("the kubeconfig leads to a client");
    let watch = Watch::new(&client, resource, list, liveness.clone());
    Session { server, watch, liveness }
}

async fn namespaces(name: &str, list: WatchList, replies: Vec<Reply>) -> Session {
    session(name, Resource::Namespaces, list, replies).await
}

impl Session {
    /// What is told until so many words have come, as `+name`, `-name`, `listed` and `trouble:reason`. Waits that a
    /// trouble asks for are not waited.
    async fn told(&mut self, count: usize) -> String {
        let mut words = Vec::new();
        while words.len() < count {
            match self.watch.next().await {
                Ok(WatchUpdate { changes, listed, .. }) => {
                    words.extend(changes.iter().map(word));
                    words.extend(listed.then(|| "listed".to_owned()));
                }
                Err(WatchTrouble { reason, .. }) => words.push(format!("trouble:{reason}")),
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
            panic!("nobody told of that: {change:?}")
        }
    }
}

#[tokio::test]
async fn streamed_list_ends_with_its_bookmark_and_is_watched_on() {
    let events = vec![
        added("a", "1"),
        added("b", "2"),
        listed("2"),
        added("c", "3"),
        event("DELETED", namespace("a", "4")),
    ];
    let mut session = namespaces("streamed", WatchList::Auto, vec![Reply::Silent(events)]).await;
    assert_eq!(session.told(5).await, "+a +b listed +c -a");
    assert_eq!(session.server.asked(), ["watch streamed"]);
}

#[tokio::test]
async fn server_that_refuses_to_stream_is_asked_for_pages() {
    for status in [400, 422] {
        let replies = vec![
            Reply::Status(status, "Invalid"),
            Reply::Page(vec![namespace("a", "1")], "7", Some("next")),
            Reply::Page(vec![namespace("b", "2")], "7", None),
            Reply::Silent(vec![added("c", "8")]),
        ];
        let mut session = namespaces(&format!("pages-{status}"), WatchList::Auto, replies).await;
        assert_eq!(session.told(4).await, "+a +b listed +c");
        assert_eq!(session.server.asked(), ["watch streamed", "list", "list page next", "watch from 7"]);
    }
}

#[tokio::test]
async fn refusal_to_stream_is_trouble_if_streaming_is_demanded() {
    let replies = vec![Reply::Status(422, "Invalid"), Reply::Silent(vec![listed("1")])];
    let mut session = namespaces("demanded", WatchList::On, replies).await;
    assert_eq!(session.told(2).await, "trouble:refused listed");
}

#[tokio::test]
async fn watch_that_ends_is_taken_up_at_the_last_version_and_tells_nothing() {
    let replies = vec![
        Reply::Page(vec![namespace("a", "1")], "5", None),
        Reply::Ending(vec![added("b", "6"), bookmark("9", json!({}))]),
        Reply::Silent(vec![added("c", "10")]),
    ];
    let mut session = namespaces("ended", WatchList::Off, replies).await;
    assert_eq!(session.told(4).await, "+a listed +b +c");
    assert_eq!(session.server.asked(), ["list", "watch from 5", "watch from 9"]);
}

#[tokio::test]
async fn watch_that_is_cut_in_the_middle_of_an_event_loses_nothing() {
    // A server that was heard up to version 5 or 6 tells again what came after 5; more it need not know.
    let replies = vec![
        Reply::Page(vec![namespace("a", "1")], "5", None),
        Reply::Breaking(vec![added("b", "6")]),
        Reply::Silent(vec![added("b", "6"), added("c", "7")]),
    ];
    let mut session = namespaces("cut", WatchList::Off, replies).await;
    let mut told = session.told(3).await;
    while !told.ends_with("+c") {
        told = format!("{told} {}", session.told(1).await);
    }
    let mut facts: Vec<&str> = told.split(' ').filter(|word| !word.starts_with("trouble:")).collect();
    facts.dedup();
    assert_eq!(facts, ["+a", "listed", "+b", "+c"]);
    let asked = session.server.asked();
    assert!(["watch from 5", "watch from 6"].contains(&asked[2].as_str()), "{asked:?}");
}

#[tokio::test]
async fn version_that_the_server_has_forgotten_leads_to_a_new_list_and_what_it_leaves_out_is_gone() {
    // Servers say so in the stream, or refuse the watch.
    for (name, forgotten) in
        [("event", Reply::Ending(vec![gone()])), ("status", Reply::Status(410, "Expired"))]
    {
        let replies = vec![
            Reply::Page(vec![namespace("a", "1"), namespace("b", "2")], "5", None),
            forgotten,
            Reply::Page(vec![namespace("b", "2"), namespace("c", "8")], "9", None),
            Reply::Silent(vec![]),
        ];
        let mut session = namespaces(&format!("forgotten-{name}"), WatchList::Off, replies).await;
        assert_eq!(session.told(8).await, "+a +b listed trouble:refused +b +c -a listed");
        assert_eq!(session.server.asked()[..3], ["list", "watch from 5", "list"]);
    }
}

#[tokio::test]
async fn errors_change_nothing_and_the_list_is_asked_for_again() {
    let replies = vec![
        Reply::Status(500, "InternalError"),
        Reply::Status(429, "TooManyRequests"),
        Reply::Status(403, "Forbidden"),
        Reply::Silent(vec![added("a", "1"), listed("1")]),
    ];
    let mut session = namespaces("errors", WatchList::Auto, replies).await;
    assert_eq!(session.told(5).await, "trouble:refused trouble:refused trouble:refused +a listed");
}

#[tokio::test]
async fn server_that_is_not_there_is_trouble_with_the_reason_in_words() {
    let mut session = namespaces("absent", WatchList::Auto, vec![]).await;
    session.server.stop().await;
    let trouble = session.watch.next().await.unwrap_err();
    assert_eq!(trouble.reason, "unreachable");
    assert!(trouble.error.contains("refused"), "{}", trouble.error);
}

#[test]
fn waiting_for_an_answer_that_never_came_counts_as_waiting() {
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
async fn policy_without_the_shape_of_one_isolates_its_namespace_and_holds_up_nobody() {
    let policy = |name: &str, spec: Value| {
        let metadata = json!({"namespace": "shop", "name": name, "resourceVersion": "1"});
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec})
    };
    let odd = policy("odd", json!({"podSelector": ["everyone"]}));
    let good = policy("good", json!({"podSelector": {"matchLabels": {"app": "web"}}}));
    let replies = vec![Reply::Page(vec![odd, good], "1", None), Reply::Silent(vec![])];
    let mut session = session("odd", Resource::NetworkPolicies, WatchList::Off, replies).await;
    let news = session.watch.next().await.unwrap();
    let [Change::Policy(odd), Change::Policy(good)] = news.changes.as_slice() else { panic!("{news:?}") };
    assert!(
        odd.subject.requirements().next().is_none()
            && odd.ingress == Some(vec![])
            && odd.egress == Some(vec![])
    );
    assert_eq!(odd.refusals.iter().map(|refusal| refusal.reason).collect::<Vec<_>>(), ["unreadable"]);
    assert_eq!((good.refusals.len(), good.egress.clone()), (0, None));
}
