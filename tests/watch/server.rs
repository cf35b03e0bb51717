//! An API server that sends scripted responses in order, and records the requests.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

/// A response.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// A page of a list: its objects, its version, and the token of the next page.
    Page(Vec<Value>, &'static str, Option<&'static str>),
    /// A watch that sends these events, and then ends.
    Ending(Vec<Value>),
    /// A watch that sends these events, and then breaks off in the middle of a line.
    Breaking(Vec<Value>),
    /// A watch that sends these events, and then nothing.
    Silent(Vec<Value>),
    /// An error.
    Status(u16, &'static str),
    /// A watch that sends these bytes of protocol buffers, so many at a time, and then nothing.
    Protobuf(Vec<u8>, usize),
    /// A watch that sends these bytes of JSON, so many at a time, and then nothing.
    Bytes(Vec<u8>, usize),
    /// An error in protocol buffers.
    ProtobufStatus(u16, Vec<u8>),
}

struct Script {
    replies: Mutex<VecDeque<Reply>>,
    asked: Mutex<Vec<String>>,
}

/// The server, until it is dropped.
pub(crate) struct Server {
    script: Arc<Script>,
    kubeconfig: PathBuf,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Starts on loopback. After the last response, requests get no response.
    pub(crate) async fn start(name: &str, replies: impl IntoIterator<Item = Reply>) -> Server {
        let script =
            Arc::new(Script { replies: Mutex::new(replies.into_iter().collect()), asked: Mutex::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let router = Router::new().fallback(answer).with_state(Arc::clone(&script));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("the server runs") });
        let kubeconfig =
            std::env::temp_dir().join(format!("bridgewarden-watch-{}-{name}", std::process::id()));
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "s", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "s", "user": "u"}}],
        });
        std::fs::write(&kubeconfig, config.to_string()).expect("the temporary directory can be written");
        Server { script, kubeconfig, task }
    }

    /// The kubeconfig to reach it.
    pub(crate) fn kubeconfig(&self) -> &PathBuf {
        &self.kubeconfig
    }

    /// The requests: `list` or `watch`, and the parameters that matter.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.script.asked.lock().expect("no request handler panics").clone()
    }

    /// Stops responding for good.
    pub(crate) async fn stop(&mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.kubeconfig);
    }
}

const PROTOBUF: (&str, &str) = ("content-type", "application/vnd.kubernetes.protobuf;stream=watch");

async fn answer(State(script): State<Arc<Script>>, uri: Uri, headers: HeaderMap) -> Response {
    let accepts = headers.get("accept").and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let form = if accepts.contains("protobuf") { " in protobuf" } else { "" };
    let asked = asked(uri.query().unwrap_or_default()) + form;
    script.asked.lock().expect("no request handler panics").push(asked);
    let reply = script.replies.lock().expect("no request handler panics").pop_front();
    match reply {
        Some(Reply::Page(items, version, token)) => {
            let metadata = json!({"resourceVersion": version, "continue": token.unwrap_or_default()});
            json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items})
                .to_string()
                .into_response()
        }
        Some(Reply::Ending(events)) => lines(&events).into_response(),
        Some(Reply::Breaking(events)) => {
            let text = lines(&events);
            let whole = futures::stream::iter([
                Ok::<_, std::io::Error>(text),
                Ok("{\"type\":\"ADD".to_owned()),
                Err(std::io::Error::other("cut")),
            ]);
            Body::from_stream(whole).into_response()
        }
        Some(Reply::Silent(events)) => {
            let said = futures::stream::iter([Ok::<_, Infallible>(lines(&events))]);
            Body::from_stream(said.chain(futures::stream::pending())).into_response()
        }
        Some(Reply::Status(code, reason)) => {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
                "reason": reason, "message": format!("the server says {reason}")});
            (StatusCode::from_u16(code).expect("a status"), status.to_string()).into_response()
        }
        Some(Reply::Bytes(bytes, piece)) => pieces(&bytes, piece).into_response(),
        Some(Reply::Protobuf(bytes, piece)) => ([PROTOBUF], pieces(&bytes, piece)).into_response(),
        Some(Reply::ProtobufStatus(code, bytes)) => {
            (StatusCode::from_u16(code).expect("a status"), [PROTOBUF], bytes).into_response()
        }
        None => std::future::pending().await,
    }
}

/// Bytes, so many at a time, and then nothing.
fn pieces(bytes: &[u8], piece: usize) -> Body {
    let pieces: Vec<_> = bytes.chunks(piece).map(|piece| Ok::<_, Infallible>(piece.to_vec())).collect();
    Body::from_stream(futures::stream::iter(pieces).chain(futures::stream::pending()))
}

fn lines(events: &[Value]) -> String {
    events.iter().map(|event| format!("{event}\n")).collect()
}

/// A query, reduced to the parameters that matter.
fn asked(query: &str) -> String {
    let parameter = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    let verb = if parameter("watch") == Some("true") { "watch" } else { "list" };
    let streamed = parameter("sendInitialEvents").map(|_| " streamed".to_owned());
    let from = parameter("resourceVersion")
        .filter(|version| *version != "0")
        .map(|version| format!(" from {version}"));
    let token = parameter("continue").map(|token| format!(" page {token}"));
    [Some(verb.to_owned()), streamed, from, token].into_iter().flatten().collect()
}
