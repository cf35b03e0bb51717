//! An API server that lists and watches, and can fail.

use bridgewarden::testbed::Netns;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Where it listens, in its own network namespace.
const ADDRESS: &str = "127.0.0.1:6443";
/// How often a watch gets a bookmark.
const BOOKMARKS_EVERY: Duration = Duration::from_secs(2);

/// Resource, namespace and name.
type Key = (&'static str, String, String);

/// The server. Its threads end with the process.
#[derive(Clone)]
pub(crate) struct Api {
    state: Arc<(Mutex<ApiState>, Condvar)>,
    pub(crate) kubeconfig: PathBuf,
}

#[derive(Default)]
struct ApiState {
    objects: BTreeMap<Key, Value>,
    /// Every event with its version, which is its place counted from 1.
    log: Vec<(&'static str, Value)>,
    /// Watches from before this version have to list again.
    oldest: usize,
    /// Whether it answers no request.
    down: bool,
}

/// The plural by which a kind is asked for.
fn resource(kind: &str) -> &'static str {
    match kind {
        "Namespace" => "namespaces",
        "Pod" => "pods",
        _ => "networkpolicies",
    }
}

impl Api {
    /// Starts it in a network namespace, with these objects.
    pub(crate) fn start(namespace: &Netns, directory: &Path, objects: &[Value]) -> Result<Api, String> {
        let wrong = |problem: &dyn std::fmt::Display| format!("cannot start the API server: {problem}");
        let listener = namespace.enter(|| TcpListener::bind(ADDRESS)).map_err(|error| wrong(&error))?;
        let listener = listener.map_err(|error| wrong(&error))?;
        let kubeconfig = directory.join("kubeconfig.json");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "s", "cluster": {"server": format!("http://{ADDRESS}")}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "s", "user": "u"}}],
        });
        std::fs::write(&kubeconfig, config.to_string()).map_err(|error| wrong(&error))?;
        let api = Api { state: Arc::default(), kubeconfig };
        objects.iter().for_each(|object| api.apply(object));
        let server = api.clone();
        thread::spawn(move || {
            for stream in listener.incoming().filter_map(Result::ok) {
                let server = server.clone();
                thread::spawn(move || server.answer(stream));
            }
        });
        Ok(api)
    }

    /// Adds an object, or changes it.
    pub(crate) fn apply(&self, object: &Value) {
        self.record("MODIFIED", object, |objects, key| objects.insert(key, object.clone()));
    }

    /// Deletes an object.
    pub(crate) fn delete(&self, object: &Value) {
        self.record("DELETED", object, |objects, key| objects.remove(&key));
    }

    /// Stops answering, or starts again. Watchers must then list again.
    pub(crate) fn set_down(&self, down: bool) {
        let mut state = self.state();
        state.down = down;
        state.oldest = state.log.len() + 1;
        // A later version, so that an old one is recognised.
        state.log.push(("", Value::Null));
        drop(state);
        self.state.1.notify_all();
    }

    fn record(
        &self,
        what: &str,
        object: &Value,
        change: impl FnOnce(&mut BTreeMap<Key, Value>, Key) -> Option<Value>,
    ) {
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let resource = resource(&word(&object["kind"]));
        let key = (resource, word(&object["metadata"]["namespace"]), word(&object["metadata"]["name"]));
        let mut state = self.state();
        let known = change(&mut state.objects, key).is_some();
        let what = if !known && what == "MODIFIED" { "ADDED" } else { what };
        let version = state.log.len() + 1;
        let event = event(what, object, version);
        state.log.push((resource, event));
        drop(state);
        self.state.1.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, ApiState> {
        self.state.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers one request. That a client goes away is no error.
    fn answer(&self, mut stream: TcpStream) {
        let Ok(path) = request(&mut stream) else { return };
        if self.state().down {
            return;
        }
        let (place, query) = path.split_once('?').unwrap_or((&path, ""));
        let asked = place.rsplit('/').next().unwrap_or_default();
        let Some(resource) =
            ["namespaces", "pods", "networkpolicies"].into_iter().find(|resource| *resource == asked)
        else {
            let _ =
                stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            return;
        };
        let parameter = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        let _ = match parameter("watch") {
            Some("true") => {
                let from = parameter("resourceVersion").and_then(|version| version.parse().ok());
                let streamed = parameter("sendInitialEvents").is_some();
                self.watch(&mut stream, resource, from.unwrap_or_default(), streamed)
            }
            _ => self.list(&mut stream, resource),
        };
    }

    fn list(&self, stream: &mut TcpStream, resource: &str) -> io::Result<()> {
        let state = self.state();
        let items: Vec<&Value> = state
            .objects
            .iter()
            .filter(|((own, ..), _)| *own == resource)
            .map(|(_, object)| object)
            .collect();
        let metadata = json!({"resourceVersion": state.log.len().to_string()});
        let body =
            json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items}).to_string();
        drop(state);
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
    }

    fn watch(&self, stream: &mut TcpStream, resource: &str, from: usize, streamed: bool) -> io::Result<()> {
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n")?;
        let mut state = self.state();
        let mut seen = from;
        if streamed {
            seen = state.log.len();
            let own = state.objects.iter().filter(|((own, ..), _)| *own == resource);
            let mut text: String =
                own.map(|(_, object)| format!("{}\n", event("ADDED", object, seen))).collect();
            text.push_str(&bookmark(resource, seen, json!({"k8s.io/initial-events-end": "true"})));
            stream.write_all(text.as_bytes())?;
        } else if from < state.oldest {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410,
                "reason": "Expired", "message": "too old resource version"});
            return writeln!(stream, "{}", json!({"type": "ERROR", "object": status}));
        }
        let mut bookmarked = Instant::now();
        while !state.down {
            let news = state.log.iter().skip(seen).filter(|(own, _)| *own == resource);
            let mut text: String = news.map(|(_, event)| format!("{event}\n")).collect();
            seen = state.log.len();
            if bookmarked.elapsed() >= BOOKMARKS_EVERY {
                bookmarked = Instant::now();
                text.push_str(&bookmark(resource, seen, json!({})));
            }
            stream.write_all(text.as_bytes())?;
            let waited = self.state.1.wait_timeout(state, BOOKMARKS_EVERY);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }
}

fn event(what: &str, object: &Value, version: usize) -> Value {
    let mut object = object.clone();
    object["metadata"]["resourceVersion"] = version.to_string().into();
    json!({"type": what, "object": object})
}

fn bookmark(resource: &str, version: usize, annotations: Value) -> String {
    let (api, kind) = match resource {
        "namespaces" => ("v1", "Namespace"),
        "pods" => ("v1", "Pod"),
        _ => ("networking.k8s.io/v1", "NetworkPolicy"),
    };
    let metadata = json!({"resourceVersion": version.to_string(), "annotations": annotations});
    let object = json!({"apiVersion": api, "kind": kind, "metadata": metadata});
    format!("{}\n", json!({"type": "BOOKMARK", "object": object}))
}

/// The path and query of a request, read to the end of its head.
fn request(stream: &mut TcpStream) -> io::Result<String> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && head.len() < 65536 {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    Ok(text.split_whitespace().nth(1).unwrap_or_default().to_owned())
}
