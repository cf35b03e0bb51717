//! A snapshot from an API server, asked once.

use super::SnapshotInput;
use super::other_kinds;
use super::snapshot_builder::SnapshotBuilder;
use crate::api;
use crate::causes::with_causes;
use crate::model::{Change, PolicyOrigin};
use crate::source::convert::object_kind::ObjectKind;
use crate::source::convert::{self, partial};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::core::Request;
use kube::core::params::ListParams;
use kube::{Client, Config};
use serde::Deserialize;
use serde_json::Value;
use std::env;
use std::path::PathBuf;
use thiserror::Error;

/// How many objects are asked for at once.
const PAGE: u32 = 500;

/// Which API server is asked, and as whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterAccess {
    /// The kubeconfig; `None` for those that KUBECONFIG names, for `~/.kube/config`, or else for the service account of the pod
    /// that this program runs in.
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig; `None` for its current one.
    pub context: Option<String>,
}

/// Why a cluster cannot be read.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// No kubeconfig can be used.
    #[error(
        "cannot use {}: {fault}. Name a kubeconfig with --kubeconfig or KUBECONFIG, or read manifests with -f", (.kubeconfig).display(), fault = kubeconfig_fault(.error)
    )]
    Kubeconfig {
        /// Where it was looked for.
        kubeconfig: PathBuf,
        /// What is wrong.
        error: Box<KubeconfigError>,
    },
    /// The settings do not make a client.
    #[error("cannot create a client for the API server {server}: {}", fault(.error))]
    Client {
        /// The server's address.
        server: String,
        /// What is wrong.
        error: Box<kube::Error>,
    },
    /// Objects cannot be listed.
    #[error("cannot list {what} at the API server {server}: {}{cure}", fault(.error))]
    List {
        /// The objects.
        what: &'static str,
        /// The server's address.
        server: String,
        /// What went wrong.
        error: Box<kube::Error>,
        /// What to do, if anything is certain.
        cure: &'static str,
    },
}

/// Lists what a snapshot consists of. Namespaces, pods and policies must be readable; without Services and nodes there is only a
/// warning.
///
/// # Errors
/// Which objects could not be listed, where, and why.
pub async fn fetch_snapshot(access: &ClusterAccess) -> Result<SnapshotInput, ClusterError> {
    let config = access.config().await?;
    let server = config.cluster_url.to_string();
    let client = match Client::try_from(config) {
        Ok(client) => client,
        Err(error) => return Err(ClusterError::Client { server, error: Box::new(error) }),
    };
    let lister = Lister { client, server };
    let mut builder = SnapshotBuilder::default();
    lister.list("namespaces", "/api/v1/namespaces", |object| namespace(object, &mut builder)).await?;
    let policies = "/apis/networking.k8s.io/v1/networkpolicies";
    lister.list("networkpolicies", policies, |object| policy(object, &mut builder)).await?;
    lister.list("pods", "/api/v1/pods", |object| pod(object, &mut builder)).await?;
    let services = lister.list("services", "/api/v1/services", |object| service(object, &mut builder)).await;
    let nodes = lister.list("nodes", "/api/v1/nodes", |object| node(object, &mut builder)).await;
    let missing = [services, nodes].into_iter().filter_map(Result::err);
    builder.warnings.extend(missing.map(|error| error.to_string()));
    Ok(builder.finish())
}

impl ClusterAccess {
    async fn config(&self) -> Result<Config, ClusterError> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let read = match &self.kubeconfig {
            Some(path) => match Kubeconfig::read_from(path) {
                Ok(kubeconfig) => Config::from_custom_kubeconfig(kubeconfig, &options).await,
                Err(error) => Err(error),
            },
            None => match kubeconfig_of_environment() {
                Some(Ok(kubeconfig)) => Config::from_custom_kubeconfig(kubeconfig, &options).await,
                Some(Err(error)) => Err(error),
                None => Config::from_kubeconfig(&options).await,
            },
        };
        read.or_else(|error| {
            let in_cluster = self == &ClusterAccess::default();
            let config = in_cluster.then(Config::incluster_env).and_then(Result::ok);
            let read = if let KubeconfigError::ReadConfig(_, path) = &error { Some(path) } else { None };
            let kubeconfig = read.or(self.kubeconfig.as_ref()).cloned();
            let kubeconfig = kubeconfig.unwrap_or_else(|| "the default kubeconfig".into());
            config.ok_or_else(|| ClusterError::Kubeconfig { kubeconfig, error: Box::new(error) })
        })
    }
}

/// The files that KUBECONFIG names, as one. Those that do not exist are skipped, as by kubectl; `None` if there is no other.
fn kubeconfig_of_environment() -> Option<Result<Kubeconfig, KubeconfigError>> {
    let paths = env::var_os("KUBECONFIG")?;
    let mut there = env::split_paths(&paths).filter(|path| path.exists()).peekable();
    there.peek()?;
    Some(there.try_fold(Kubeconfig::default(), |all, path| all.merge(Kubeconfig::read_from(path)?)))
}

/// Why a kubeconfig cannot be used.
fn kubeconfig_fault(error: &KubeconfigError) -> String {
    if let KubeconfigError::ReadConfig(why, _) = error { why.to_string() } else { error.to_string() }
}

/// Why an API server does not answer as wanted: what it says, or what went wrong on the way there.
fn fault(error: &kube::Error) -> String {
    let kube::Error::Api(status) = error else { return with_causes(error) };
    if status.message.is_empty() {
        return format!("it answers with status {}", status.code);
    }
    status.message.clone()
}

struct Lister {
    client: Client,
    server: String,
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    metadata: PageMeta,
    #[serde(default = "Vec::new")]
    items: Vec<Value>,
}

#[derive(Default, Deserialize)]
struct PageMeta {
    #[serde(rename = "continue")]
    next: Option<String>,
}

impl Lister {
    /// Lists all objects of a resource, page by page.
    async fn list(
        &self,
        what: &'static str,
        path: &str,
        mut take: impl FnMut(Value),
    ) -> Result<(), ClusterError> {
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let request = Request::new(path).list(&params).map_err(kube::Error::BuildRequest);
            let page = match request {
                Ok(request) => self.client.request::<Page>(request).await,
                Err(error) => Err(error),
            };
            let Page { metadata, items } = page.map_err(|error| self.error(what, error))?;
            items.into_iter().for_each(&mut take);
            match metadata.next.filter(|next| !next.is_empty()) {
                Some(next) => params.continue_token = Some(next),
                None => return Ok(()),
            }
        }
    }

    fn error(&self, what: &'static str, error: kube::Error) -> ClusterError {
        let code = if let kube::Error::Api(status) = &error { status.code } else { 0 };
        let cure = match code {
            403 => ". Ask for the right to list them in all namespaces, or read manifests with -f",
            410 => ". The list took too long: try again",
            _ => "",
        };
        ClusterError::List { what, server: self.server.clone(), error: Box::new(error), cure }
    }
}

fn namespace(object: Value, builder: &mut SnapshotBuilder) {
    match partial::read::<api::Namespace>(ObjectKind::Namespace, object) {
        Ok(read) => builder.namespace(convert::namespace(&read)),
        Err((fault, object)) => unreadable(ObjectKind::Namespace, &fault, &object, builder),
    }
}

fn pod(object: Value, builder: &mut SnapshotBuilder) {
    match partial::read::<api::Pod>(ObjectKind::Pod, object) {
        Ok(read) => {
            let (pod, invalid_parts) = convert::pod(&read);
            let key = &pod.key;
            builder.warnings.extend(invalid_parts.iter().map(|part| format!("Pod {key}: {part}")));
            builder.pod(&read, pod);
        }
        Err((fault, object)) => unreadable(ObjectKind::Pod, &fault, &object, builder),
    }
}

fn policy(object: Value, builder: &mut SnapshotBuilder) {
    match partial::read::<api::NetworkPolicy>(ObjectKind::NetworkPolicy, object) {
        Ok(read) => {
            let policy = convert::policy(&read);
            let key = &policy.key;
            let invalid_parts = policy.invalid_parts.iter();
            builder.warnings.extend(invalid_parts.map(|part| format!("NetworkPolicy {key}: {part}")));
            let version = read.metadata.resource_version.as_deref();
            let origin = version.map(|version| PolicyOrigin::Server { resource_version: version.into() });
            builder.policy(policy, origin);
        }
        Err((fault, object)) => unreadable(ObjectKind::NetworkPolicy, &fault, &object, builder),
    }
}

/// A policy that cannot be read isolates its namespace, as the agents enforce it. Other such objects are left out.
fn unreadable(kind: ObjectKind, fault: &str, object: &Value, builder: &mut SnapshotBuilder) {
    let name = partial::identity(object).name.unwrap_or_else(|| "without a name".to_owned());
    builder.warnings.push(format!("{} {name} cannot be read: {fault}", kind.name()));
    if let Some(Change::Policy(policy)) = partial::change(kind, object, fault) {
        builder.policy(policy, None);
    }
}

fn service(object: Value, builder: &mut SnapshotBuilder) {
    let read = api::Service::deserialize(object).map_err(|error| error.to_string());
    match read.and_then(|service| other_kinds::service(&service)) {
        Ok(service) => builder.service(service),
        Err(fault) => builder.warnings.push(format!("a Service cannot be read: {fault}")),
    }
}

fn node(object: Value, builder: &mut SnapshotBuilder) {
    match api::Node::deserialize(object) {
        Ok(node) => builder.node(&node),
        Err(fault) => builder.warnings.push(format!("a Node cannot be read: {fault}")),
    }
}
