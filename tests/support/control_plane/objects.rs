//! Writes objects to a real API server as an administrator, many at a time, as a loader needs it.

use anyhow::{Context, Result, bail};
use bridgewarden::testbed::Netns;
use futures::{StreamExt, TryStreamExt};
use http::{Method, Request, header};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use std::fmt;
use std::path::Path;
use std::sync::mpsc;
use tokio::runtime::Runtime;

/// How many requests are sent concurrently when many objects are written.
const AT_ONCE: usize = 24;

/// An administrator in a network namespace. Every call waits until the server has answered.
pub struct Objects {
    runtime: Runtime,
    client: Client,
}

/// A request that writes.
struct Write {
    method: Method,
    path: String,
    body: Value,
}

impl Objects {
    /// An administrator with the credentials of a kubeconfig, who sends from a namespace.
    ///
    /// # Errors
    /// No client can be created from the kubeconfig.
    pub(super) fn new(from: &Netns, kubeconfig: &Path) -> Result<Objects> {
        // Its threads start in the namespace, and stay there.
        let build = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = from.enter(build)?.context("cannot start a runtime")?;
        let read = Kubeconfig::read_from(kubeconfig);
        let read = read.with_context(|| format!("cannot read {}", kubeconfig.display()))?;
        let client = run(&runtime, async move {
            let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
            anyhow::Ok(Client::try_from(config)?)
        });
        Ok(Objects { client: client.context("cannot make a client")?, runtime })
    }

    /// Creates objects: first the Namespaces, then the others in any order. Pods get their status, too.
    ///
    /// # Errors
    /// The first object that the server rejected, and why.
    pub fn create(&self, objects: &[Value]) -> Result<()> {
        let (first, then): (Vec<&Value>, Vec<&Value>) =
            objects.iter().partition(|object| object["kind"] == "Namespace");
        for part in [first, then] {
            self.write(part.into_iter().map(creation).collect::<Result<_>>()?)?;
        }
        Ok(())
    }

    /// Changes objects: of each pair, the object to change and a JSON merge patch (RFC 7386).
    ///
    /// # Errors
    /// The first object that the server would not change, and why.
    pub fn patch(&self, changes: &[(Value, Value)]) -> Result<()> {
        self.patch_at("", changes)
    }

    /// Changes the status of objects, as `patch` changes the rest of them.
    ///
    /// # Errors
    /// The first object whose status the server would not change, and why.
    pub fn patch_status(&self, changes: &[(Value, Value)]) -> Result<()> {
        self.patch_at("/status", changes)
    }

    fn patch_at(&self, below: &str, changes: &[(Value, Value)]) -> Result<()> {
        let write = |(object, change): &(Value, Value)| {
            let path = path(object)? + below;
            Ok(vec![Write { method: Method::PATCH, path, body: change.clone() }])
        };
        self.write(changes.iter().map(write).collect::<Result<_>>()?)
    }

    /// Deletes objects, at once and for good.
    ///
    /// # Errors
    /// The first object that the server would not delete, and why.
    pub fn delete(&self, objects: &[Value]) -> Result<()> {
        let write = |object: &Value| {
            let body = json!({"gracePeriodSeconds": 0});
            Ok(vec![Write { method: Method::DELETE, path: path(object)?, body }])
        };
        self.write(objects.iter().map(write).collect::<Result<_>>()?)
    }

    /// Creates a Pod that is given in protocol buffers, and then writes its status.
    ///
    /// # Errors
    /// The server's reason for rejecting it.
    pub fn create_encoded_pod(&self, namespace: &str, name: &str, pod: Vec<u8>) -> Result<()> {
        let pods = format!("/api/v1/namespaces/{namespace}/pods");
        let status = format!("{pods}/{name}/status");
        let client = self.client.clone();
        run(&self.runtime, async move {
            for (method, path) in [(Method::POST, pods), (Method::PUT, status)] {
                let request = Request::builder().method(&method).uri(&path);
                let request = request.header(header::ACCEPT, "application/json");
                let request = request.header(header::CONTENT_TYPE, "application/vnd.kubernetes.protobuf");
                let request = request.body(pod.clone()).context("cannot make a request")?;
                client.request_text(request).await.with_context(|| format!("cannot {method} {path}"))?;
            }
            Ok(())
        })
    }

    /// The content of a page of the server, such as `/readyz`.
    ///
    /// # Errors
    /// The server cannot be reached, or rejects the request.
    pub fn page(&self, path: &str) -> Result<String> {
        let (client, path) = (self.client.clone(), path.to_owned());
        run(&self.runtime, async move {
            let request = Request::get(&path).body(Vec::new()).context("cannot make a request")?;
            client.request_text(request).await.with_context(|| format!("cannot get {path}"))
        })
    }

    /// Writes many objects concurrently; the writes of one object are in order.
    fn write(&self, objects: Vec<Vec<Write>>) -> Result<()> {
        let client = self.client.clone();
        run(&self.runtime, async move {
            let one = |writes: Vec<Write>| {
                let client = client.clone();
                async move {
                    for write in writes {
                        write.send(&client).await?;
                    }
                    Ok(())
                }
            };
            futures::stream::iter(objects).map(one).buffer_unordered(AT_ONCE).try_collect().await
        })
    }
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects").finish_non_exhaustive()
    }
}

impl Write {
    async fn send(self, client: &Client) -> Result<()> {
        let Write { method, path, body } = self;
        let what = format!("{method} {path}");
        let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, kind);
        let request = request.body(body.to_string().into_bytes()).context("cannot make a request")?;
        client.request_text(request).await.with_context(|| format!("cannot {what}"))?;
        Ok(())
    }
}

/// Runs work on the threads of a runtime, and waits for it.
fn run<T: Send + 'static>(
    runtime: &Runtime,
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let (done, result) = mpsc::sync_channel(1);
    runtime.spawn(async move { done.send(work.await) });
    result.recv().context("a request ended in a panic")?
}

fn creation(object: &Value) -> Result<Vec<Write>> {
    let own = path(object)?;
    let collection = own.rsplit_once('/').map(|(collection, _)| collection.to_owned()).unwrap_or_default();
    let mut writes = vec![Write { method: Method::POST, path: collection, body: object.clone() }];
    // The server ignores the status of a new pod, and rejects a container without an image.
    if object["kind"] == "Pod" {
        for container in writes[0].body["spec"]["containers"].as_array_mut().into_iter().flatten() {
            if container.get("image").is_none() {
                container["image"] = json!("none");
            }
        }
        if let Some(status) = object.get("status") {
            let mut status = status.clone();
            if let Some(first) = status.pointer("/podIPs/0/ip").cloned() {
                status["podIP"] = first;
            }
            let path = format!("{own}/status");
            writes.push(Write { method: Method::PATCH, path, body: json!({"status": status}) });
        }
    }
    Ok(writes)
}

/// The path of an object.
fn path(object: &Value) -> Result<String> {
    let word = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let (kind, name) = (word("/kind").unwrap_or_default(), word("/metadata/name").unwrap_or_default());
    let namespace = word("/metadata/namespace").unwrap_or("default");
    Ok(match kind {
        "Namespace" => format!("/api/v1/namespaces/{name}"),
        "Node" => format!("/api/v1/nodes/{name}"),
        "Pod" => format!("/api/v1/namespaces/{namespace}/pods/{name}"),
        "NetworkPolicy" => {
            format!("/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies/{name}")
        }
        "DaemonSet" => format!("/apis/apps/v1/namespaces/{namespace}/daemonsets/{name}"),
        "ClusterRole" | "ClusterRoleBinding" => {
            format!("/apis/rbac.authorization.k8s.io/v1/{}s/{name}", kind.to_lowercase())
        }
        other => bail!("a {other} cannot be written here"),
    })
}
